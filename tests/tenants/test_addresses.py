"""Networks and the address of who sends: what is refused, IPv4 written as IPv6, and whom a proxy speaks for."""

import ipaddress

import pytest
from django.core.checks import run_checks
from hypothesis import given
from hypothesis import strategies as st
from pytest_django import Settings

from tenants.errors import OverQuota
from tenants.keys import addresses
from tenants.limits import rates


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("192.0.2.7", "192.0.2.7/32"),
        ("192.0.2.0/24", "192.0.2.0/24"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("2001:DB8::/32", "2001:db8::/32"),
        ("::1", "::1/128"),
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ("::ffff:c000:0207", "192.0.2.7/32"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
    ],
)
def test_a_network_is_an_address_or_cidr(text: str, found: str) -> None:
    assert str(addresses.network(text)) == found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected an address or CIDR"),
        ("office", "expected an address or CIDR"),
        ("192.0.2.1/24", "expected '192.0.2.0/24'"),
        ("2001:db8::1/32", "expected '2001:db8::/32'"),
        ("192.0.2.0/33", "expected an address or CIDR"),
        ("192.0.2.0/24 ", "expected an address or CIDR"),
        ("192.0.2.256", "expected an address or CIDR"),
        ("010.0.0.1", "expected an address or CIDR"),
        ("192.0.2.0-192.0.2.9", "expected an address or CIDR"),
        ("fe80::1%eth0", "without '%'"),
        ("\0", "expected an address or CIDR"),
        ("1" * 5000, "expected an address or CIDR"),
    ],
)
def test_what_is_no_network_is_refused_with_words(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=r"no network|one interface") as refused:
        addresses.network(text)
    assert words in str(refused.value)


@given(st.ip_addresses(v=4), st.integers(0, 32))
def test_an_ipv4_network_has_its_addresses_however_they_are_written(address: ipaddress.IPv4Address, bits: int) -> None:
    network = ipaddress.ip_network((int(address), bits), strict=False)
    for text in (str(network), f"::ffff:{network.network_address}/{96 + bits}"):
        assert addresses.network(text) == network
    for text in (str(address), f"::ffff:{address}", f"::ffff:{int(address) >> 16:x}:{int(address) & 0xFFFF:x}"):
        assert addresses.contains([network], addresses.parsed(text))
    outside = ipaddress.ip_address(int(address) ^ (1 << 32 - bits)) if bits else None
    assert not addresses.contains([network], outside)


def test_an_address_is_in_no_network_of_the_other_kind() -> None:
    everything_v6 = [addresses.network("::/0")]
    assert addresses.contains(everything_v6, addresses.parsed("2001:db8::1"))
    assert not addresses.contains(everything_v6, addresses.parsed("192.0.2.1"))
    assert not addresses.contains(everything_v6, addresses.parsed("::ffff:192.0.2.1"))


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "sender"),
    [
        ("192.0.2.9", "", "192.0.2.9"),
        ("192.0.2.9", "198.51.100.1", "192.0.2.9"),  # no proxy of ours: it claims what it likes
        ("10.0.0.5", "", "10.0.0.5"),
        ("10.0.0.5", "198.51.100.1", "198.51.100.1"),
        ("::ffff:10.0.0.5", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.5", "203.0.113.1, 198.51.100.1", "198.51.100.1"),  # the first is the client's claim
        ("10.0.0.5", "198.51.100.1, 10.0.0.6", "198.51.100.1"),  # two proxies
        ("10.0.0.5", "10.0.0.6", "10.0.0.6"),
        ("10.0.0.5", "nonsense", None),
        ("10.0.0.5", "198.51.100.1,", None),
        ("10.0.0.5", "::ffff:198.51.100.1", "198.51.100.1"),
        ("", "198.51.100.1", None),
        ("", "", None),
    ],
)
def test_who_sends(peer: str, forwarded_for: str, sender: str | None, settings: Settings) -> None:
    settings.TRUSTED_PROXIES = ["10.0.0.0/8", "2001:db8::/32"]
    found = addresses.sender(peer, forwarded_for)
    assert (None if found is None else str(found)) == sender


def test_without_proxies_nobody_speaks_for_another() -> None:
    assert str(addresses.sender("127.0.0.1", "198.51.100.1")) == "127.0.0.1"


def test_a_proxy_that_is_no_network_fails_the_check(settings: Settings) -> None:
    settings.TRUSTED_PROXIES = ["10.0.0.0/8", "caddy"]
    assert [found.id for found in run_checks() if found.id == "aiaas_site.E002"] == ["aiaas_site.E002"]
    assert any("'caddy' is no network" in found.msg for found in run_checks())


def test_a_bound_counts_each_address_and_forgets_after_a_minute() -> None:
    bound = rates.Bound(2)
    one, other = addresses.parsed("192.0.2.1"), addresses.parsed("192.0.2.2")
    for now in (0.0, 1.0):
        bound.admit(one, now=now)
    with pytest.raises(OverQuota) as refused:
        bound.admit(one, now=30.0)
    assert refused.value.retry_after == 30
    bound.admit(other, now=30.0)
    bound.admit(one, now=60.0)


def test_whoever_has_a_prefix_of_ipv6_has_one_count() -> None:
    bound = rates.Bound(2)
    for last in (1, 2):
        bound.admit(addresses.parsed(f"2001:db8::{last}"), now=0)
    with pytest.raises(OverQuota):
        bound.admit(addresses.parsed("2001:db8::ffff:1"), now=0)
    bound.admit(addresses.parsed("2001:db8:0:1::1"), now=0)


def test_a_bound_remembers_no_more_than_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "MOST_ADDRESSES", 3)
    bound = rates.Bound(1)
    for last in range(10):
        bound.admit(addresses.parsed(f"192.0.2.{last}"), now=0)
    assert len(bound._windows) == 3
    with pytest.raises(OverQuota):
        bound.admit(addresses.parsed("192.0.2.9"), now=0)
