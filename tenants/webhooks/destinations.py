"""Where a webhook may go: public addresses over HTTPS, looked at when it is registered and again when it is sent.

A name is resolved once for each try and the connection goes to the very address that was checked: an answer of the DNS
that changes in between (rebinding) changes nothing. `WEBHOOK_ALLOW_PRIVATE` lets a developer's own machine through.
"""

import ipaddress
import re
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TookTooLong
from ipaddress import IPv4Address, IPv6Address, IPv6Network

import httpx
from django.conf import settings

from tenants.errors import FieldError, Invalid
from tenants.models.webhooks import URL_LENGTH

RESOLVED_WITHIN_SECONDS = 5.0
HTTPS_PORT = 443
FIRST_OPEN_PORT = 1024
ODD = re.compile(r"[\x00-\x20\x7f\\]")
NAME_LENGTH = 253
NAME = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.IGNORECASE)
NUMERIC = re.compile(r"(0[xX][0-9a-fA-F]*|[0-9]+)\.?")
# An IPv4 address in the last 32 bits: mapped, compatible (deprecated), NAT64.
CARRIES_IPV4 = (IPv6Network("::ffff:0:0/96"), IPv6Network("::/96"), IPv6Network("64:ff9b::/96"))
UNICAST = IPv6Network("2000::/3")
NOT_PUBLIC = tuple(
    IPv6Network(network) for network in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "64:ff9b:1::/48")
)
NOT_PUBLIC_IPV4 = tuple(ipaddress.IPv4Network(network) for network in ("192.0.0.0/24", "192.88.99.0/24"))

Address = IPv4Address | IPv6Address
Resolve = Callable[[str, int], list[str]]

_resolvers = ThreadPoolExecutor(4, thread_name_prefix="resolver")


class Refused(Exception):
    """A place that is not sent to; the text says why."""


def check(url: str) -> None:
    """Raises Invalid, with words, unless webhooks may be sent to this URL; its name is resolved for that."""
    try:
        parsed = parse(url)
        name = name_of(parsed)
        public(name, _resolvers.submit(resolve, name, port_of(parsed)).result(RESOLVED_WITHIN_SECONDS))
    except Refused as refused:
        raise _invalid(str(refused)) from refused
    except TookTooLong as error:
        raise _invalid(f"{name} was not resolved within {RESOLVED_WITHIN_SECONDS:g} s.") from error
    except OSError as error:
        raise _invalid(f"{name} is no name that the DNS knows: {error.strerror or error}.") from error


def parse(url: str) -> httpx.URL:
    """The URL, if its form is one that is sent to."""
    if len(url) > URL_LENGTH:
        raise Refused(f"Expected at most {URL_LENGTH} characters; got {len(url)}.")
    if ODD.search(url):
        raise Refused("A space, a control character or a backslash is in it; write it as %20 and so on.")
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, UnicodeError) as error:
        raise Refused(f"This is no URL: {error}.") from error
    _check_form(parsed)
    return parsed


def _check_form(url: httpx.URL) -> None:
    schemes = ("https", "http") if settings.WEBHOOK_ALLOW_PRIVATE else ("https",)
    if url.scheme not in schemes:
        raise Refused(f"Expected {' or '.join(schemes)}; got {url.scheme or 'no scheme'}.")
    if not url.host:
        raise Refused("Expected a host, as in https://hooks.example.com/aiaas.")
    if url.userinfo:
        raise Refused("A user name or password is in it; the signature says who sends, so leave them out.")
    if url.fragment:
        raise Refused("A fragment (#…) is in it, which is never sent; leave it out.")
    port = port_of(url)
    if port != HTTPS_PORT and not FIRST_OPEN_PORT <= port <= 65535 and not settings.WEBHOOK_ALLOW_PRIVATE:
        raise Refused(f"Expected the port {HTTPS_PORT} or one from {FIRST_OPEN_PORT} to 65535; got {port}.")
    _check_name(name_of(url))


def _check_name(name: str) -> None:
    if _address(name) is not None and "%" not in name:
        return
    last = name.rpartition(".")[2]
    if NUMERIC.fullmatch(last):
        raise Refused(f"{name} is an IP address in a form that is not taken; expected four numbers or IPv6 in [].")
    if len(name) > NAME_LENGTH or not NAME.fullmatch(name):
        raise Refused(f"{name[:80]} is no name of a host.")
    if settings.WEBHOOK_ALLOW_PRIVATE:
        return
    if "." not in name or last.lower() in ("localhost", "local", "internal", "onion"):
        raise Refused(f"{name} is a name within a network; expected one that the public DNS knows.")


def name_of(url: httpx.URL) -> str:
    """The host as the DNS and certificates have it: an international name as xn--…, an IPv6 address without []."""
    return url.raw_host.decode("ascii").strip("[]").rstrip(".")


def port_of(url: httpx.URL) -> int:
    """The port that is connected to."""
    return url.port if url.port is not None else {"http": 80}.get(url.scheme, HTTPS_PORT)


def resolve(host: str, port: int) -> list[str]:
    """The addresses of a name, as the system resolves it."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def public(host: str, addresses: list[str]) -> list[str]:
    """The addresses, if each of them may be sent to: one that may not spoils them all."""
    if not addresses:
        raise Refused(f"{host} has no address.")
    if settings.WEBHOOK_ALLOW_PRIVATE:
        return addresses
    for text in addresses:
        address = _address(text)
        if address is None or not is_public(address):
            raise Refused(f"{host} is at {text}, which is no public address; webhooks go to the public network only.")
    return addresses


def is_public(address: Address) -> bool:
    """Whether an address is one of the public network; of one that carries an IPv4 address, that one."""
    if isinstance(address, IPv4Address):
        special = address.is_multicast or address.is_reserved or address.is_unspecified or address.is_loopback
        return address.is_global and not special and not any(address in network for network in NOT_PUBLIC_IPV4)
    if address.scope_id is not None:
        return False
    if any(address in network for network in CARRIES_IPV4):
        return is_public(IPv4Address(int(address) & 0xFFFF_FFFF))
    return address in UNICAST and address.is_global and not any(address in network for network in NOT_PUBLIC)


def _address(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _invalid(detail: str) -> Invalid:
    return Invalid(f"url: {detail}", errors=(FieldError("url", detail),))
