"""The client's address: proxies are believed as far as they are trusted, and no further."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counters.addresses import NODES, TrustedProxies, client_address, parse_address

NOBODY = TrustedProxies()
INSIDE = TrustedProxies.parse("10.0.0.0/8, 2001:db8:ffff::/48")


def client(
    *values: str, peer: str | None = "10.0.0.1", proxies: TrustedProxies = INSIDE, header: str = "X-Forwarded-For"
) -> str | None:
    address = client_address(peer, NODES[header.lower()](values), proxies)
    return None if address is None else str(address)


def forwarded(*values: str) -> str | None:
    return client(*values, header="Forwarded")


@pytest.mark.parametrize(
    ("text", "hops", "networks"),
    [
        ("", 0, []),
        (" ", 0, []),
        ("0", 0, []),
        (" 2 ", 2, []),
        ("10.0.0.0/8, 127.0.0.1,::1", 0, ["10.0.0.0/8", "127.0.0.1/32", "::1/128"]),
    ],
)
def test_trusted_proxies_are_a_number_or_networks(text, hops, networks):
    proxies = TrustedProxies.parse(text)
    assert (proxies.hops, [str(network) for network in proxies.networks]) == (hops, networks)


@pytest.mark.parametrize("text", ["-1", "100", "1.5", "2, 10.0.0.0/8", "10.0.0.1/8", "10.0.0.0/33", "proxy", ",", "٣"])
def test_anything_else_is_refused_in_one_sentence(text):
    with pytest.raises(ValueError, match=r"give a number of proxies up to 99, or networks like") as refusal:
        TrustedProxies.parse(text)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        (" 192.0.2.1 ", "192.0.2.1"),
        ("192.0.2.1:4711", "192.0.2.1"),
        ("192.0.2.1:_obfuscated", "192.0.2.1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("[::ffff:192.0.2.1]:80", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::1"),
        ("[fe80::1%25eth0]:80", "fe80::1"),
    ],
)
def test_an_address_is_read_without_port_and_zone_and_as_ipv4_when_it_is_mapped(text, address):
    assert str(parse_address(text)) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "unknown",
        "_hidden",
        "localhost",
        "192.0.2",
        "192.0.2.256",
        "192.0.2.01",
        "1",
        "[192.0.2.1",
        "[]",
        "%eth0",
        "[2001:db8::1]x",
        "[2001:db8::1]:",
        "2001:db8::1]:80",
        "2001:db8::1::2",
        "192.0.2.1\n192.0.2.2",
        "١٩٢.0.2.1",
    ],
)
def test_what_is_no_address_is_none(text):
    assert parse_address(text) is None


def test_without_trusted_proxies_the_client_is_the_peer():
    assert client("192.0.2.1", peer="198.51.100.1", proxies=NOBODY) == "198.51.100.1"


def test_a_peer_that_is_not_trusted_is_the_client_whatever_it_says():
    assert client("192.0.2.1, 10.0.0.2", peer="198.51.100.1") == "198.51.100.1"


def test_from_a_trusted_peer_the_first_address_from_the_right_that_is_not_trusted_is_the_client():
    assert client("192.0.2.66, 203.0.113.5, 10.0.0.3, 10.0.0.2") == "203.0.113.5"


def test_headers_of_the_same_name_are_one_list_in_their_order():
    assert client("192.0.2.66, 203.0.113.5", "10.0.0.2") == "203.0.113.5"


def test_empty_elements_are_ignored():
    assert client("203.0.113.5, ,10.0.0.2,", "") == "203.0.113.5"


def test_when_all_are_trusted_the_outermost_is_the_client():
    assert client("10.0.0.3, 10.0.0.2") == "10.0.0.3"


@pytest.mark.parametrize("nonsense", ["unknown", "_hidden", "nonsense", "192.0.2.1 203.0.113.5", "\x00"])
def test_what_is_no_address_ends_the_walk_at_the_proxy_that_said_so(nonsense):
    assert client(f"203.0.113.5, {nonsense}, 10.0.0.2") == "10.0.0.2"


@pytest.mark.parametrize(
    ("hops", "address"),
    [(0, "10.0.0.1"), (1, "10.0.0.2"), (2, "203.0.113.5"), (3, "192.0.2.66"), (9, "192.0.2.66")],
)
def test_of_a_number_of_hops_so_many_are_believed(hops, address):
    assert client("192.0.2.66, 203.0.113.5, 10.0.0.2", proxies=TrustedProxies(hops=hops)) == address


@pytest.mark.parametrize(
    ("hops", "peer", "address"), [("0", None, None), ("0", "", None), ("0", "unix:", None), ("1", None, "192.0.2.1")]
)
def test_a_peer_without_an_address_is_unknown_but_counts_as_a_hop(hops, peer, address):
    assert client("192.0.2.1", peer=peer, proxies=TrustedProxies.parse(hops)) == address


def test_a_peer_without_an_address_lies_in_no_network():
    assert client("192.0.2.1", peer=None) is None


def test_ipv6_proxies_are_trusted_by_network_too():
    assert client("2001:db8:1::5, [2001:db8:ffff::2]:80", peer="2001:db8:ffff::1") == "2001:db8:1::5"


def test_a_trusted_peer_mapped_into_ipv6_is_trusted():
    assert client("203.0.113.5", peer="::ffff:10.0.0.1") == "203.0.113.5"


@pytest.mark.parametrize(
    "value",
    [
        "for=203.0.113.5",
        "For=203.0.113.5",
        'for="203.0.113.5:4711"',
        "for=192.0.2.66, for=203.0.113.5;proto=https;by=10.0.0.2",
        'proto=http; for = "203.0.113.5" ;host="a;b,c"',
        "for=203.0.113.5, for=10.0.0.2",
        "for=203.0.113.5,, for=10.0.0.2,",
        'for="_gazonk", for=203.0.113.5',
        r'for="\", for=203.0.113.5',
    ],
)
def test_forwarded_is_read_as_rfc_7239_says(value):
    assert forwarded(value) == "203.0.113.5"


def test_forwarded_carries_ipv6_addresses_in_brackets_and_quotes():
    assert forwarded('For="[2001:db8:cafe::17]:4711"') == "2001:db8:cafe::17"


def test_forwarded_headers_are_one_list_in_their_order():
    assert forwarded("for=192.0.2.66, for=203.0.113.5", "for=10.0.0.2") == "203.0.113.5"


@pytest.mark.parametrize(
    "value",
    [
        "for=unknown",
        'for="_hidden"',
        "proto=https",
        "for=",
        'for=""',
        "for=203.0.113.5;for=192.0.2.66",
        r'for="203\.0.113.5"',
        '"',
        "nonsense",
        'for="203.0.113.5',
        'x"y"z',
        "for=203.0.113.5, unknown",
    ],
)
def test_an_element_that_names_no_address_ends_the_walk(value):
    assert forwarded(value) == "10.0.0.1"


@pytest.mark.parametrize(
    "forged",
    [
        'for="192.0.2.66',
        'for=192.0.2.66;x="',
        'for=192.0.2.66;x="\\',
        'for=192.0.2.66;x="\\"',
        "for=192.0.2.66;",
        "\\",
        '"',
    ],
)
@pytest.mark.parametrize(
    "told",
    [
        "for=203.0.113.5",
        'for="203.0.113.5:80"',
        'for="203.0.113.5";host="h"',
        'host="x;for=192.0.2.66";for=203.0.113.5',
    ],
)
def test_what_a_client_writes_does_not_change_what_a_trusted_proxy_adds(forged, told):
    assert forwarded(f"{forged}, {told}") == "203.0.113.5"
    assert forwarded(forged, told) == "203.0.113.5"


hostile = st.text(st.sampled_from(list('for=FOR;,"\\[]:.%_ \x000129abcdefunknown')) | st.characters(max_codepoint=255))


@given(st.none() | hostile, st.lists(hostile, max_size=4), st.sampled_from(list(NODES)), st.integers(0, 3))
def test_nothing_that_is_sent_raises(peer, values, header, hops):
    for proxies in (TrustedProxies(hops=hops), INSIDE, TrustedProxies.parse("0.0.0.0/0, ::/0")):
        assert client(*values, peer=peer, proxies=proxies, header=header) != ""


@given(hostile)
def test_nothing_on_the_left_changes_what_a_trusted_proxy_saw(forged):
    assert client(f"{forged}, 203.0.113.5") == "203.0.113.5"
    assert forwarded(f'{forged}, for="203.0.113.5"') == "203.0.113.5"
    assert forwarded(forged, "for=203.0.113.5;proto=https") == "203.0.113.5"
