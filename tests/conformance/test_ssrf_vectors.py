"""Addresses that lead into networks of one's own, in every spelling."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from scrapekit import urls
from scrapekit.addresses import Space, judge
from scrapekit.errors import InvalidURL, Refused
from scrapekit.reach import Asking, Reach
from scrapekit.settings import Settings

PUBLIC_ONLY = Reach(Settings(guard="public-only"))
DEFAULT = Reach(Settings())
STRANGER = Asking("http://stranger.test/", Space.PUBLIC)


@pytest.fixture(scope="module")
def addresses(vectors: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((vectors / "ssrf" / "addresses.json").read_text())
    return loaded


def is_let(reach: Reach, address: str) -> bool:
    try:
        reach.check_address(address, STRANGER)
    except Refused:
        return False
    return True


@pytest.mark.parametrize("reach", [PUBLIC_ONLY, DEFAULT])
def test_addresses_of_ones_own_network_are_denied(addresses: dict[str, Any], reach: Reach) -> None:
    assert len(addresses["deny"]) == 63
    assert [address for address in addresses["deny"] if is_let(reach, address)] == []


@pytest.mark.parametrize("reach", [PUBLIC_ONLY, DEFAULT])
def test_public_addresses_are_allowed(addresses: dict[str, Any], reach: Reach) -> None:
    assert len(addresses["allow"]) == 14
    assert [address for address in addresses["allow"] if not is_let(reach, address)] == []


@pytest.mark.parametrize("address_family", ["deny", "allow"])
def test_literals_in_urls_are_judged_like_addresses(
    addresses: dict[str, Any], address_family: str
) -> None:
    for address in addresses[address_family]:
        host = f"[{address}]" if ":" in address else address
        assert is_denied(f"http://{host}/", PUBLIC_ONLY) == (address_family == "deny"), address


def is_denied(url: str, reach: Reach) -> bool:
    """Whether the URL is none, or leads where a stranger may not go, be it only when dialled."""
    try:
        href = urls.normalize(url)
        reach.check_url(href, Space.PUBLIC)
    except (InvalidURL, Refused):
        return True
    host = urls.host(href).strip("[]")
    answers = socket.getaddrinfo(host, urls.port(href), type=socket.SOCK_STREAM)
    return not any(is_let(reach, str(answer[4][0])) for answer in answers)


def test_no_spelling_leads_to_loopback(addresses: dict[str, Any]) -> None:
    forms = addresses["host_forms"]["loopback_equivalents"]
    assert len(forms) == 33
    for reach in (PUBLIC_ONLY, DEFAULT):
        assert [form for form in forms if not is_denied(f"http://{form}:80/", reach)] == []


def test_what_python_takes_for_global_is_not(addresses: dict[str, Any]) -> None:
    for holes in addresses["python_is_global_holes"].values():
        assert all(judge(address).space > Space.PUBLIC for address in holes)
