"""IP addresses and host names: whose they are. A table, and one question to it; no I/O.

`ipaddress.is_global` isn't enough: on Python 3.11 it takes NAT64, 6to4, multicast, site-local and
IPv4-compatible addresses for global ones, though each may lead into the network we are in.
"""

from __future__ import annotations

import ipaddress
from enum import IntEnum
from functools import lru_cache
from typing import Final, NamedTuple


class Space(IntEnum):
    """How private an address is. What comes from one space may lead to it and to lower ones."""

    PUBLIC = 0
    TRANSLATED = 1
    """IPv6 that stands for IPv4: where it ends is up to a gateway of our own network."""
    LOCAL = 2
    LOOPBACK = 3


class Rule(NamedTuple):
    """A block of addresses. `embeds`: how far right of the IPv4 address is that it stands for."""

    block: str
    space: Space
    what: str
    source: str
    embeds: int | None = None


_PUBLIC, _TRANSLATED, _LOCAL, _LOOPBACK = Space

RULES: Final = (
    # IPv4: the IANA special-purpose registry (RFC 6890), multicast and the future.
    Rule("0.0.0.0/8", _LOOPBACK, "this host", "RFC 1122, 3.2.1.3"),
    Rule("10.0.0.0/8", _LOCAL, "private", "RFC 1918, 3"),
    Rule("100.64.0.0/10", _LOCAL, "shared behind a carrier's NAT", "RFC 6598"),
    Rule("127.0.0.0/8", _LOOPBACK, "loopback", "RFC 1122, 3.2.1.3"),
    Rule("168.63.129.16/32", _LOCAL, "a cloud's own services", "Azure, What is 168.63.129.16"),
    Rule("169.254.0.0/16", _LOCAL, "link-local", "RFC 3927, 2.8"),
    Rule("172.16.0.0/12", _LOCAL, "private", "RFC 1918, 3"),
    Rule("192.0.0.0/24", _LOCAL, "for protocols", "RFC 6890, 2.2.2"),
    Rule("192.0.2.0/24", _LOCAL, "for documentation", "RFC 5737"),
    Rule("192.88.99.0/24", _TRANSLATED, "a 6to4 relay", "RFC 7526"),
    Rule("192.168.0.0/16", _LOCAL, "private", "RFC 1918, 3"),
    Rule("198.18.0.0/15", _LOCAL, "for benchmarks", "RFC 2544, C.2.2"),
    Rule("198.51.100.0/24", _LOCAL, "for documentation", "RFC 5737"),
    Rule("203.0.113.0/24", _LOCAL, "for documentation", "RFC 5737"),
    Rule("224.0.0.0/4", _LOCAL, "multicast", "RFC 5771, 3"),
    Rule("240.0.0.0/4", _LOCAL, "reserved or broadcast", "RFC 1112, 4; RFC 919, 7"),
    Rule("0.0.0.0/0", _PUBLIC, "public", "IANA, IPv4 address space"),
    # IPv6: the first that fits counts. Nothing outside of 2000::/3 is handed out to anybody.
    Rule("::/128", _LOOPBACK, "unspecified", "RFC 4291, 2.5.2"),
    Rule("::1/128", _LOOPBACK, "loopback", "RFC 4291, 2.5.3"),
    Rule("::ffff:0:0/96", _PUBLIC, "IPv4-mapped", "RFC 4291, 2.5.5.2", 0),
    Rule("::ffff:0:0:0/96", _TRANSLATED, "IPv4-translated", "RFC 2765, 2.1", 0),
    Rule("::/96", _TRANSLATED, "IPv4-compatible", "RFC 4291, 2.5.5.1", 0),
    Rule("64:ff9b::/96", _TRANSLATED, "NAT64", "RFC 6052, 2.1", 0),
    Rule("64:ff9b:1::/48", _LOCAL, "a network's own NAT64", "RFC 8215"),
    Rule("2001::/32", _TRANSLATED, "Teredo", "RFC 4380, 2.6"),
    Rule("2001:db8::/32", _LOCAL, "for documentation", "RFC 3849"),
    Rule("2001::/23", _LOCAL, "for protocols", "RFC 2928"),
    Rule("2002::/16", _TRANSLATED, "6to4", "RFC 3056, 2", 80),
    Rule("3fff::/20", _LOCAL, "for documentation", "RFC 9637"),
    Rule("2000::/3", _PUBLIC, "public", "RFC 4291, 2.4"),
    Rule("100::/64", _LOCAL, "discarded", "RFC 6666"),
    Rule("5f00::/16", _LOCAL, "segment routing", "RFC 9602"),
    Rule("fc00::/7", _LOCAL, "unique local", "RFC 4193"),
    Rule("fe80::/10", _LOCAL, "link-local", "RFC 4291, 2.5.6"),
    Rule("fec0::/10", _LOCAL, "site-local", "RFC 3879, 4"),
    Rule("ff00::/8", _LOCAL, "multicast", "RFC 4291, 2.7"),
    Rule("::/0", _LOCAL, "unassigned", "RFC 4291, 2.4"),
)

UNREADABLE: Final = Rule("", _LOOPBACK, "no IP address", "it fails closed")

# Names that mean something in our own network and nothing outside. "" stands for those without a
# dot, which no public name is.
NAMES: Final = (
    Rule("localhost", _LOOPBACK, "this host", "RFC 6761, 6.3"),
    Rule("local", _LOCAL, "link-local", "RFC 6762, 3"),
    Rule("home.arpa", _LOCAL, "a home's", "RFC 8375"),
    Rule("internal", _LOCAL, "private", "ICANN, resolution 2024.07.29.06"),
    Rule("", _LOCAL, "without a dot", "RFC 7085"),
)


class Verdict(NamedTuple):
    """The space of an address or a name, and the rule that puts it there."""

    space: Space
    rule: Rule


@lru_cache(maxsize=4096)
def judge(address: str) -> Verdict:
    """Tell whose an IP address is; a zone ("fe80::1%lo") makes no difference.

    What is no address counts as loopback: whoever asks may be about to dial it.
    """
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return Verdict(UNREADABLE.space, UNREADABLE)
    number = int(ip)
    # The last block of either version is all there is.
    rule = next(r for v, mask, start, r in _BLOCKS if v == ip.version and number & mask == start)
    if rule.embeds is None:
        return Verdict(rule.space, rule)
    inner = judge(str(ipaddress.IPv4Address(number >> rule.embeds & 0xFFFFFFFF)))
    return inner if inner.space > rule.space else Verdict(rule.space, rule)


@lru_cache(maxsize=4096)
def judge_host(host: str) -> Verdict | None:
    """The same for the host of a canonical URL; None for a name that only DNS knows about."""
    if host.startswith("["):
        return judge(host[1:-1])
    name = host.rstrip(".")
    if name.rpartition(".")[2].isdigit():
        # URL standard, "ends in a number checker": such a host is an IPv4 address.
        return judge(name)
    for rule in NAMES:
        if _names(name, rule.block):
            return Verdict(rule.space, rule)
    return None


def _names(name: str, block: str) -> bool:
    if not block:
        return "." not in name
    return name == block or name.endswith(f".{block}")


def _blocks() -> tuple[tuple[int, int, int, Rule], ...]:
    networks = ((ipaddress.ip_network(rule.block), rule) for rule in RULES)
    return tuple(
        (net.version, int(net.netmask), int(net.network_address), rule) for net, rule in networks
    )


_BLOCKS: Final = _blocks()
