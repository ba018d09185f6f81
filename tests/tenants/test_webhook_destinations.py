"""Where webhooks may go."""

import ipaddress

import pytest
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from tenants.errors import Invalid
from tenants.webhooks import destinations


@pytest.fixture(autouse=True)
def no_dns(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Names resolve to what a test says; literals to themselves."""
    names: dict[str, list[str]] = {}

    def resolve(host: str, port: int) -> list[str]:
        try:
            return [str(ipaddress.ip_address(host))]
        except ValueError:
            if host not in names:
                raise OSError(-2, "Name or service not known") from None
            return names[host]

    monkeypatch.setattr(destinations, "resolve", resolve)
    return names


PUBLIC = ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "64:ff9b::101:101", "::ffff:1.1.1.1"]
PRIVATE = [
    "127.0.0.1", "127.255.255.254", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1",  # loopback, private
    "169.254.169.254", "100.64.0.1", "0.0.0.0", "0.1.2.3", "224.0.0.1", "239.1.1.1", "240.0.0.1",  # link, shared …
    "255.255.255.255", "192.0.0.8", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "192.88.99.1",
    "::1", "::", "fe80::1", "fc00::1", "fd12::1", "fec0::1", "ff02::1", "2001:db8::1", "100::1", "4000::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::101:101",  # NAT64
    "2002:7f00:1::1", "2002:101:101::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2",  # 6to4, Teredo
]  # fmt: skip


@pytest.mark.parametrize("text", PUBLIC)
def test_public_addresses_are_taken(text: str) -> None:
    assert destinations.is_public(ipaddress.ip_address(text))
    destinations.check(f"https://{f'[{text}]' if ':' in text else text}/hook")


@pytest.mark.parametrize("text", PRIVATE)
def test_others_are_not_and_it_is_said(text: str) -> None:
    assert not destinations.is_public(ipaddress.ip_address(text))
    with pytest.raises(Invalid, match="no public address"):
        destinations.check(f"https://{f'[{text}]' if ':' in text else text}/hook")


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_in_an_ipv6_one_is_judged_as_itself(address: ipaddress.IPv4Address) -> None:
    for form in ("::ffff:{}", "64:ff9b::{}"):
        assert destinations.is_public(ipaddress.ip_address(form.format(address))) == destinations.is_public(address)


@given(st.ip_addresses())
def test_no_address_that_python_calls_private_is_public(address: destinations.Address) -> None:
    embedded = getattr(address, "ipv4_mapped", None)
    if embedded is None and (address.is_private or address.is_loopback or address.is_link_local or address.is_reserved):
        in_nat64 = address in ipaddress.ip_network("64:ff9b::/96")
        assert not destinations.is_public(address) or in_nat64


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://hooks.acme.example/", "Expected https; got http"),
        ("ftp://hooks.acme.example/", "Expected https; got ftp"),
        ("file:///etc/passwd", "Expected https"),
        ("hooks.acme.example", "Expected https"),
        ("", "Expected https"),
        ("https://", "Expected a host"),
        ("https:///path", "Expected a host"),
        ("https://ann:secret@hooks.acme.example/", "user name or password"),
        ("https://ann@hooks.acme.example/", "user name or password"),
        ("https://hooks.acme.example/#part", "fragment"),
        ("https://hooks.acme.example:25/", "Expected the port 443 or one from 1024"),
        ("https://hooks.acme.example:0/", "Expected the port 443 or one from 1024"),
        ("https://hooks.acme.example:65536/", "port"),
        ("https://hooks.acme.example:x/", "no URL"),
        ("https://hooks.acme.example/a b", "space"),
        ("https://hooks.acme.example/a\nb", "control character"),
        ("https://hooks.acme.example\\@evil.example/", "backslash"),
        ("https://[fe80::1%25eth0]/", "no name of a host"),
        ("https://[::1/", "no URL"),
        ("https://localhost/", "within a network"),
        ("https://api.localhost/", "within a network"),
        ("https://postgres:5432/", "within a network"),
        ("https://printer.local/", "within a network"),
        ("https://metadata.google.internal/", "within a network"),
        ("https://2130706433/", "form that is not taken"),
        ("https://0x7f000001/", "form that is not taken"),
        ("https://0177.0.0.1/", "no URL"),
        ("https://127.1/", "form that is not taken"),
        ("https://10.0.0.1./", "no public address"),
        ("https://" + "a" * 64 + ".example/", "no name of a host"),
        ("https://a..b/", "no name of a host"),
        ("https://①②⑦.0.0.1/", "no URL"),
        ("https://hooks.acme.example/" + "a" * 2000, "at most 2000 characters"),
        ("https://nowhere.acme.example/", "no name that the DNS knows"),
    ],
)
def test_what_is_no_place_for_a_webhook_is_refused_with_words(
    url: str, says: str, no_dns: dict[str, list[str]]
) -> None:
    no_dns["hooks.acme.example"] = ["1.1.1.1"]
    with pytest.raises(Invalid, match=says) as refused:
        destinations.check(url)
    assert [error.field for error in refused.value.errors] == ["url"]


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.acme.example",
        "https://hooks.acme.example:8443/a?b=c",
        "https://HOOKS.acme.example./a",
        "https://bücher.example/",
        "https://xn--bcher-kva.example/",
    ],
)
def test_what_is_one_is_taken(url: str, no_dns: dict[str, list[str]]) -> None:
    no_dns["hooks.acme.example"] = no_dns["xn--bcher-kva.example"] = ["1.1.1.1", "2606:4700::1"]
    destinations.check(url)


def test_a_name_with_one_private_address_is_refused(no_dns: dict[str, list[str]]) -> None:
    no_dns["hooks.acme.example"] = ["1.1.1.1", "10.0.0.1"]
    with pytest.raises(Invalid, match=r"hooks\.acme\.example is at 10\.0\.0\.1"):
        destinations.check("https://hooks.acme.example/")


def test_a_developer_may_let_loopback_through() -> None:
    with override_settings(WEBHOOK_ALLOW_PRIVATE=True):
        destinations.check("http://127.0.0.1:8080/hook")
    with pytest.raises(Invalid):
        destinations.check("http://127.0.0.1:8080/hook")
