"""Origins: from a request's headers and peer to the dimensions and the identity of its hit."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counters import origins
from counters.dimensions import Dimensions, Origin
from counters.hits import HitRefused
from counters.origins import ConsumerInvalid, Origins, Referrer, referrer_in
from counters.useragents import CONTROL_CHARACTERS
from tests.unit.test_countries import country_file

FIREFOX = b"Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0"
PLAIN = {
    "consumer_header": "X-Consumer",
    "country_header": "",
    "forwarded_header": "X-Forwarded-For",
    "trusted_proxies": "",
    "geoip_database": "",
}


def configured(**values: str) -> Origins:
    return Origins.configured(**{**PLAIN, **values})


def origin(*headers: tuple[bytes, bytes], peer: str | None = "192.0.2.1", **values: str) -> Origin:
    return configured(**values).of("GET", headers, peer)


def dimensions(*headers: tuple[bytes, bytes], **values: str) -> Dimensions:
    return origin(*headers, **values).dimensions


@pytest.fixture
def countries(tmp_path) -> str:
    records = {"192.0.2.0/24": {"country": {"iso_code": "DE"}}, "203.0.113.0/24": {"country": {"iso_code": "FR"}}}
    return str(country_file(tmp_path / "countries.mmdb", records))


def test_a_request_that_says_nothing_has_its_method_alone():
    assert dimensions((b"host", b"localhost")) == Dimensions(method="GET")


def test_a_request_is_described_by_its_headers():
    assert dimensions(
        (b"host", b"localhost"),
        (b"user-agent", FIREFOX),
        (b"referer", b"https://www.example.com/shop/?q=secret"),
        (b"x-consumer", b"acme"),
        (b"cf-ipcountry", b"de"),
        country_header="CF-IPCountry",
    ) == Dimensions(
        method="GET",
        consumer="acme",
        country="DE",
        referrer="www.example.com",
        referrer_url="https://www.example.com/shop/",
        browser="Firefox",
        os="Linux",
        device="desktop",
        bot=False,
    )


def test_a_bot_is_marked():
    assert dimensions((b"user-agent", b"Mozilla/5.0 (compatible; Googlebot/2.1)")).bot


def test_like_requests_share_one_origin():
    known = configured()
    first = known.of("GET", [(b"user-agent", FIREFOX), (b"cookie", b"a")], "192.0.2.1")
    assert known.of("GET", [(b"cookie", b"b"), (b"user-agent", FIREFOX)], "192.0.2.1") is first
    assert known.of("GET", [(b"user-agent", FIREFOX)], "192.0.2.2") is not first
    assert known.of("POST", [(b"user-agent", FIREFOX)], "192.0.2.1") is not first


def test_no_more_origins_are_remembered_than_fit(monkeypatch):
    monkeypatch.setattr(origins, "MOST_REMEMBERED", 3)
    known = configured()
    for number in range(10):
        assert known.of("GET", [], f"192.0.2.{number}").identity == b"192.0.2.%d\x00" % number
        assert len(known._remembered) <= 3


def test_long_headers_are_not_remembered():
    known = configured()
    assert known.of("GET", [(b"user-agent", b"x" * 8000)], "192.0.2.1").identity is not None
    assert not known._remembered


class TestConsumer:
    @pytest.mark.parametrize(
        ("sent", "name"),
        [
            (b"acme", "acme"),
            (b" acme GmbH\t", "acme GmbH"),
            ("Müller & Söhne".encode(), "Müller & Söhne"),
            ("Müller & Söhne".encode("latin-1"), "Müller & Söhne"),
            (b"", ""),
            (b"x" * 255, "x" * 255),
            (b" " * 300, ""),
        ],
    )
    def test_is_named_by_the_header(self, sent, name):
        assert dimensions((b"x-consumer", sent)).consumer == name

    @pytest.mark.parametrize(
        "sent", [b"x" * 256, b"a\x00b", b"a\nb", b"a\tb", b"acme\n", b"\x7f", b"\x85", "a\x85".encode()]
    )
    def test_that_cannot_be_written_is_refused_by_the_name_of_the_header(self, sent):
        with pytest.raises(ConsumerInvalid, match=r"^X-Consumer: .* 255 bytes") as refusal:
            origin((b"x-consumer", sent))
        assert isinstance(refusal.value, HitRefused)
        assert refusal.value.status == 400

    def test_is_refused_again_when_sent_again(self):
        known = configured()
        for _ in range(2):
            with pytest.raises(ConsumerInvalid):
                known.of("GET", [(b"x-consumer", b"\x00")], None)

    def test_is_the_last_when_several_are_sent(self):
        assert dimensions((b"x-consumer", b"forged"), (b"x-consumer", b"acme")).consumer == "acme"

    def test_comes_from_the_configured_header_alone(self):
        headers = ((b"x-consumer", b"forged"), (b"x-api-key", b"acme"))
        assert dimensions(*headers, consumer_header="X-API-Key").consumer == "acme"
        assert dimensions(*headers, consumer_header="").consumer == ""


class TestCountry:
    def test_comes_from_the_database_by_address(self, countries):
        assert dimensions(geoip_database=countries).country == "DE"

    def test_comes_from_the_header_first(self, countries):
        header = (b"cf-ipcountry", b"IT")
        assert dimensions(header, geoip_database=countries, country_header="CF-IPCountry").country == "IT"

    @pytest.mark.parametrize("said", [b"XX", b"T1", b"", b"\xff"])
    def test_comes_from_the_database_when_the_header_does_not_know(self, countries, said):
        header = (b"cf-ipcountry", said)
        assert dimensions(header, geoip_database=countries, country_header="CF-IPCountry").country == "DE"

    def test_is_that_of_the_client_and_not_of_the_proxy(self, countries):
        header = (b"x-forwarded-for", b"203.0.113.5")
        assert dimensions(header, geoip_database=countries, trusted_proxies="192.0.2.1").country == "FR"

    @pytest.mark.parametrize("header", [(b"sec-gpc", b"1"), (b"dnt", b"1")])
    def test_is_told_of_who_must_not_be_identified_too(self, countries, header):
        found = origin(header, geoip_database=countries)
        assert (found.identity, found.dimensions.country) == (None, "DE")

    def test_is_not_believed_from_a_header_that_is_not_configured(self):
        assert dimensions((b"cf-ipcountry", b"IT")).country == ""


class TestIdentity:
    def test_is_address_and_user_agent(self):
        assert origin((b"user-agent", FIREFOX)).identity == b"192.0.2.1\x00" + FIREFOX

    def test_is_the_address_alone_without_a_user_agent(self):
        assert origin(peer="2001:DB8::1").identity == b"2001:db8::1\x00"

    @pytest.mark.parametrize("peer", [None, "", "testclient"])
    def test_is_unknown_without_an_address(self, peer):
        assert origin((b"user-agent", FIREFOX), peer=peer).identity is None

    @pytest.mark.parametrize("header", [(b"sec-gpc", b"1"), (b"dnt", b"1"), (b"dnt", b" 1 ")])
    def test_is_not_made_of_who_asks_not_to_be_identified(self, header):
        assert origin((b"user-agent", FIREFOX), header).identity is None

    @pytest.mark.parametrize("header", [(b"sec-gpc", b"0"), (b"dnt", b"0"), (b"dnt", b"")])
    def test_is_made_of_everybody_else(self, header):
        assert origin((b"user-agent", FIREFOX), header).identity is not None

    def test_is_that_of_the_client_behind_trusted_proxies(self):
        header = (b"x-forwarded-for", b"192.0.2.66, 203.0.113.5")
        assert origin(header, trusted_proxies="192.0.2.1").identity == b"203.0.113.5\x00"
        assert origin(header, trusted_proxies="1").identity == b"203.0.113.5\x00"
        assert origin(header).identity == b"192.0.2.1\x00"

    def test_is_read_from_the_configured_header_alone(self):
        headers = ((b"x-forwarded-for", b"192.0.2.66"), (b"forwarded", b"for=203.0.113.5"))
        found = origin(*headers, trusted_proxies="1", forwarded_header="Forwarded")
        assert found.identity == b"203.0.113.5\x00"

    def test_is_the_same_for_an_address_however_it_is_written(self):
        assert origin(peer="::ffff:192.0.2.1").identity == origin(peer="192.0.2.1").identity


class TestReferrer:
    @pytest.mark.parametrize(
        ("sent", "host", "url"),
        [
            ("https://www.example.com/a/b", "www.example.com", "https://www.example.com/a/b"),
            ("https://Example.COM", "example.com", "https://example.com/"),
            ("HTTP://example.com:8080/A", "example.com", "http://example.com:8080/A"),
            ("https://me:secret@example.com/a", "example.com", "https://example.com/a"),
            ("https://example.com/a?q=secret#part", "example.com", "https://example.com/a"),
            ("https://example.com?q=secret", "example.com", "https://example.com/"),
            ("https://example.com/#/route", "example.com", "https://example.com/"),
            ("https://[2001:db8::1]:8443/a", "2001:db8::1", "https://[2001:db8::1]:8443/a"),
            ("android-app://com.google.android.gm/", "com.google.android.gm", "android-app://com.google.android.gm/"),
            ("https://bücher.example/ü", "bücher.example", "https://bücher.example/ü"),
            (" https://example.com/a ", "example.com", "https://example.com/a"),
        ],
    )
    def test_is_host_and_address_without_what_is_private(self, sent, host, url):
        assert referrer_in(sent.encode()) == Referrer(host, url)

    @pytest.mark.parametrize(
        "sent",
        [
            b"",
            b"-",
            b"about:blank",
            b"/relative",
            b"example.com",
            b"//example.com/",
            b"https://",
            b"https:///path",
            b"file:///etc/passwd",
            b"javascript:alert(1)",
            b"data:text/html,x",
            b"ftp://example.com/",
            b"http://a b/",
            b"https://example.com:port/",
            b"https://example.com:70000/",
            b"https://[::1/",
            b"https://[x]/",
            b"http://<b>/",
            b"https://example.com/a\x00b",
            b"https://example.com/a\nb",
            b"https://exam\tple.com/",
            b"https://example.com/\x85",
            b"http://" + b"a" * 256 + b"/",
        ],
    )
    def test_that_is_unusable_is_unknown(self, sent):
        assert referrer_in(sent) == Referrer()

    def test_that_is_too_long_is_cut_to_its_host(self):
        site = b"https://example.com/"
        longest = site + b"a" * (2048 - len(site))
        assert referrer_in(longest).url == longest.decode()
        assert referrer_in(longest + b"?" + b"q" * 3000).url == longest.decode()
        assert referrer_in(longest + b"a") == Referrer("example.com", "https://example.com/")


def test_a_country_file_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"cannot be read"):
        configured(geoip_database=str(tmp_path / "nowhere.mmdb"))


NAMES = [b"user-agent", b"referer", b"x-consumer", b"cf-ipcountry", b"x-forwarded-for", b"dnt", b"sec-gpc", b"host"]
URLS = st.tuples(
    st.sampled_from(["http://", "HTTPS://", "android-app://", "//", ""]), st.text(max_size=30), st.text(max_size=30)
).map(lambda parts: "/".join(parts).encode())
VALUES = st.binary(max_size=300) | st.text(max_size=80).map(str.encode) | URLS
HEADERS = st.lists(st.tuples(st.sampled_from(NAMES), VALUES), max_size=12)
PEERS = st.none() | st.text(max_size=50) | st.ip_addresses().map(str)
HOSTILE = configured(country_header="CF-IPCountry", trusted_proxies="0.0.0.0/0, ::/0")


@given(HEADERS, PEERS)
def test_whatever_is_sent_is_refused_for_its_consumer_or_described_without_control_characters(headers, peer):
    try:
        found = HOSTILE.of("GET", headers, peer)
    except ConsumerInvalid:
        assert any(name == b"x-consumer" for name, _ in headers)
        return
    texts = [value for value in found.dimensions if isinstance(value, str)]
    assert not CONTROL_CHARACTERS.search("".join(texts))
    assert max(map(len, texts)) <= origins.LONGEST_REFERRER
    "".join(texts).encode()  # does not raise


@given(HEADERS, PEERS)
def test_the_same_request_has_the_same_origin_remembered_or_not(headers, peer):
    found = []
    for known in (HOSTILE, HOSTILE, configured(country_header="CF-IPCountry", trusted_proxies="0.0.0.0/0, ::/0")):
        try:
            origin = known.of("GET", headers, peer)
            found.append((origin.id, origin.dimensions, origin.identity))
        except ConsumerInvalid as refusal:
            found.append(str(refusal))
    assert found[0] == found[1] == found[2]


def test_no_address_is_in_the_dimensions_or_logged(caplog):
    with caplog.at_level(logging.DEBUG):
        found = origin((b"x-forwarded-for", b"203.0.113.77"), peer="198.51.100.78", trusted_proxies="1")
    assert found.identity == b"203.0.113.77\x00"
    assert found.dimensions == Dimensions(method="GET")
    assert not caplog.records
