from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapekit.addresses import NAMES, RULES, Rule, Space, judge, judge_host


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.block)
def test_every_rule_has_a_block_and_a_source(rule: Rule) -> None:
    network = ipaddress.ip_network(rule.block)
    assert rule.source
    assert rule.what
    # A block behind a wider one would never count.
    earlier = RULES[: RULES.index(rule)]
    assert not any(
        network.subnet_of(before)  # type: ignore[arg-type]
        for before in (ipaddress.ip_network(other.block) for other in earlier)
        if before.version == network.version
    )


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.embeds is None])
def test_the_first_and_last_address_of_a_block_are_in_it(rule: Rule) -> None:
    network = ipaddress.ip_network(rule.block)
    if rule.block not in ("0.0.0.0/0", "::/0", "2001::/23"):
        assert judge(str(network[0])) == judge(str(network[-1])) == (rule.space, rule)


@pytest.mark.parametrize(
    ("address", "space"),
    [
        ("::ffff:8.8.8.8", Space.PUBLIC),
        ("::ffff:10.0.0.1", Space.LOCAL),
        ("::ffff:127.0.0.1", Space.LOOPBACK),
        ("64:ff9b::8.8.8.8", Space.TRANSLATED),
        ("64:ff9b::10.0.0.1", Space.LOCAL),
        ("64:ff9b::127.0.0.1", Space.LOOPBACK),
        ("2002:808:808::", Space.TRANSLATED),
        ("2002:7f00:1::", Space.LOOPBACK),
        ("::127.0.0.1", Space.LOOPBACK),
        ("fe80::1%eth0", Space.LOCAL),
        ("4000::1", Space.LOCAL),
        ("168.63.129.16", Space.LOCAL),
        ("no address", Space.LOOPBACK),
        ("", Space.LOOPBACK),
        ("127.1", Space.LOOPBACK),
    ],
)
def test_an_address_is_as_private_as_the_one_it_stands_for(address: str, space: Space) -> None:
    assert judge(address).space == space


@given(st.ip_addresses())
def test_what_is_public_is_global_too(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    """`is_global` says too often yes, but where it says no it is right."""
    if judge(str(address)).space == Space.PUBLIC:
        mapped = getattr(address, "ipv4_mapped", None) or address
        assert mapped.is_global


@given(st.ip_addresses(v=4))
def test_an_address_is_judged_alike_as_ipv6(address: ipaddress.IPv4Address) -> None:
    assert judge(f"::ffff:{address}").space == judge(str(address)).space


@given(st.text())
def test_any_text_is_judged(text: str) -> None:
    assert judge(text).space in Space


@pytest.mark.parametrize(
    ("host", "space"),
    [
        ("localhost", Space.LOOPBACK),
        ("a.localhost.", Space.LOOPBACK),
        ("printer.local", Space.LOCAL),
        ("router.home.arpa", Space.LOCAL),
        ("db.internal", Space.LOCAL),
        ("intranet", Space.LOCAL),
        ("[::1]", Space.LOOPBACK),
        ("127.0.0.1", Space.LOOPBACK),
        ("8.8.8.8.", Space.PUBLIC),
        ("[2606:4700::1]", Space.PUBLIC),
    ],
)
def test_hosts_are_judged_as_far_as_they_tell(host: str, space: Space) -> None:
    verdict = judge_host(host)
    assert verdict is not None
    assert verdict.space == space


@pytest.mark.parametrize("host", ["example.com", "localhost.example.com", "mylocal.test", "a.b"])
def test_other_names_are_for_dns_to_tell(host: str) -> None:
    assert judge_host(host) is None


def test_every_name_has_a_source() -> None:
    assert all(rule.source for rule in NAMES)
