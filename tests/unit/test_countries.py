"""Countries: two letters or nothing, whatever a header or a database says."""

from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmdb_writer import MMDBWriter
from netaddr import IPSet

from counters.countries import country_at, country_code, open_countries


def country_file(path: Path, records: dict[str, Any], ip_version: int = 6) -> Path:
    """A tiny database in MaxMind's format: a record per network."""
    writer = MMDBWriter(ip_version, "Test-Country", ipv4_compatible=ip_version == 6)
    for network, record in records.items():
        writer.insert_network(IPSet([network]), record)
    writer.to_db_file(str(path))
    return path


def country(path: Path, address: str) -> str:
    with open_countries(str(path)) as database:
        return country_at(ip_address(address), database)


@pytest.mark.parametrize(("text", "code"), [("DE", "DE"), ("de", "DE"), (" fr ", "FR"), ("XK", "XK")])
def test_a_country_is_two_letters_in_upper_case(text, code):
    assert country_code(text) == code


@pytest.mark.parametrize("text", ["", "XX", "xx", "ZZ", "T1", "D", "DEU", "D E", "ß", "ÄÖ", "D\x00", "DE\nFR"])
def test_anything_else_is_unknown(text):
    assert country_code(text) == ""


@given(st.text())
def test_no_text_makes_anything_but_a_code(text):
    code = country_code(text)
    assert code == "" or (len(code) == 2 and code.isascii() and code.isupper())


@pytest.mark.parametrize(
    ("address", "found"),
    [("203.0.113.7", "DE"), ("2001:db8::7", "FR"), ("192.0.2.1", ""), ("::1", "")],
)
def test_an_address_is_where_the_database_says(tmp_path, address, found):
    records = {"203.0.113.0/24": {"country": {"iso_code": "DE"}}, "2001:db8::/32": {"country": {"iso_code": "FR"}}}
    assert country(country_file(tmp_path / "countries.mmdb", records), address) == found


@pytest.mark.parametrize(
    "record",
    [
        {"registered_country": {"iso_code": "US"}},
        {"country": {"iso_code": "XX"}},
        {"country": {"iso_code": "Germany"}},
        {"country": {"iso_code": 49}},
        {"country": {}},
        {"country": "DE"},
        {"country": ["DE"]},
        {"autonomous_system_number": 64496},
        "DE",
    ],
    ids=str,
)
def test_a_record_without_a_code_of_the_country_itself_tells_nothing(tmp_path, record):
    assert country(country_file(tmp_path / "countries.mmdb", {"203.0.113.0/24": record}), "203.0.113.7") == ""


def test_a_database_of_ipv4_tells_nothing_about_ipv6(tmp_path):
    path = country_file(tmp_path / "v4.mmdb", {"203.0.113.0/24": {"country": {"iso_code": "DE"}}}, ip_version=4)
    assert country(path, "203.0.113.7") == "DE"
    assert country(path, "2001:db8::7") == ""


def test_without_address_or_database_the_country_is_unknown(tmp_path):
    assert country_at(ip_address("203.0.113.7"), None) == ""
    with open_countries(str(country_file(tmp_path / "countries.mmdb", {}))) as database:
        assert country_at(None, database) == ""


def test_a_file_that_is_missing_is_refused_in_one_sentence(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere\.mmdb cannot be read: No such file or directory\."):
        open_countries(str(tmp_path / "nowhere.mmdb"))


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\xab\xcd\xefMaxMind.com"])
def test_a_file_that_is_no_such_database_is_refused_in_one_sentence(tmp_path, content):
    path = tmp_path / "bad.mmdb"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.mmdb is no database in MaxMind's format\.$"):
        open_countries(str(path))


def test_a_damaged_database_tells_nothing_and_raises_nothing(tmp_path):
    path = country_file(tmp_path / "countries.mmdb", {"203.0.113.0/24": {"country": {"iso_code": "DE"}}})
    content = path.read_bytes()
    start, end = content.index(b"\x00" * 16) + 16, content.index(b"\xab\xcd\xefMaxMind.com")
    path.write_bytes(content[:start] + b"\xff" * (end - start) + content[end:])
    assert country(path, "203.0.113.7") == ""
