"""Addresses: the networks that a key may be used from, and who sends a request through the site's own proxies."""

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

from django.conf import settings

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
# IPv4 as IPv6 writes it: the address of an IPv4 client at a socket that takes both.
MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")


def network(text: str) -> Network:
    """The network that a text means, of one address or in CIDR notation; an IPv4-mapped one is IPv4.

    Raises ValueError, whose words are for who wrote it.
    """
    try:
        found = ipaddress.ip_network(text)
    except ValueError:
        raise ValueError(f"{text!r} is no network; expected {_expected(text)}.") from None
    if isinstance(found, ipaddress.IPv4Network):
        return found
    if found.network_address.scope_id:
        raise ValueError(f"{text!r} is of one interface; expected a network without '%'.")
    if found.subnet_of(MAPPED):
        mapped = found.network_address.ipv4_mapped
        return ipaddress.IPv4Network((int(mapped or 0), found.prefixlen - MAPPED.prefixlen))
    return found


def contains(networks: Iterable[Network], address: Address | None) -> bool:
    """Whether one of the networks has this address; none has one that is not known."""
    return address is not None and any(address in one for one in networks)


def covers(networks: Iterable[Network], inner: Network) -> bool:
    """Whether one of the networks has all addresses of another."""
    return any(one.version == inner.version and inner.subnet_of(one) for one in networks)  # type: ignore[arg-type]


def sender(peer: str, forwarded_for: str) -> Address | None:
    """The address that a request comes from; none if that cannot be said.

    It is the other end of the connection. Only where that is one of TRUSTED_PROXIES, it is the last address in
    X-Forwarded-For that is none of them: what stands before it is a claim of the client's.
    """
    found = parsed(peer)
    if not forwarded_for:
        return found
    trusted = _networks(tuple(settings.TRUSTED_PROXIES))
    hops = forwarded_for.split(",")
    while hops and contains(trusted, found):
        found = parsed(hops.pop().strip())
    return found


@lru_cache(maxsize=4096)
def parsed(text: str) -> Address | None:
    """The address that a text means, an IPv4-mapped one as IPv4; none if it means none."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    return (isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped) or found


@lru_cache(maxsize=8)
def _networks(texts: tuple[str, ...]) -> tuple[Network, ...]:
    return tuple(network(text) for text in texts)


def _expected(text: str) -> str:
    """What to write instead: the network that an address with bits beyond its mask lies in, or an example."""
    try:
        return repr(str(ipaddress.ip_network(text, strict=False)))
    except ValueError:
        return "an address or CIDR notation, as 192.0.2.0/24 or 2001:db8::/32"
