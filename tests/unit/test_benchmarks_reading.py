"""Which database of an earlier run may be used again."""

from datetime import date

import pytest

from benchmarks.reading import discard, filled_on

TODAY = date(2026, 11, 29)


@pytest.mark.parametrize(("told", "wanted"), [("2026-11-29", True), ("2026-11-28", False), ("", False)])
def test_a_database_of_another_day_is_not_used_again(tmp_path, told, wanted):
    (tmp_path / "filled").write_text(told)
    assert filled_on(TODAY, tmp_path / "filled") is wanted


def test_a_database_that_was_not_filled_to_the_end_is_not_used_again(tmp_path):
    assert not filled_on(TODAY, tmp_path / "filled")


def test_what_is_discarded_is_gone_and_nothing_beside_it(tmp_path):
    (tmp_path / "postgres" / "data").mkdir(parents=True)
    for name in ("filled", "postgres/log", "other"):
        (tmp_path / name).touch()
    discard(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_where_there_is_nothing_nothing_is_discarded(tmp_path):
    discard(tmp_path)
    assert not list(tmp_path.iterdir())
