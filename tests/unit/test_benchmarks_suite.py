"""The files of the suite's runs, without running anything."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from benchmarks import suite
from benchmarks.contestants import KINDS
from benchmarks.records import Read, Results, Round, Statement, merged
from benchmarks.suite import PARTS, Suite, options_of, write


def about(begun="2026-11-28T10:00:00+00:00", changed=False, stores=None, **parts):
    return {
        "begun": begun,
        "commit": "abc1234",
        "changed": changed,
        "machine": {"processor": "Some CPU", "cores": 2, "memory": 8 * 2**30, "system": "Linux 6"},
        "versions": {"python": "3.11.7"},
        "parts": {part: options(rounds) for part, rounds in parts.items()},
        "stores": stores or {},
    }


def options(rounds):
    return {"rounds": rounds, "seconds": 1, "workers": 2, "requests": "mix"}


def round_of(part, rate=1000.0):
    return Round(
        part=part, contestant="service", workers=2, requests="mix", connections=64, number=1, rate=rate, answered=1,
        failed=0, p50=1.0, p95=1.0, p99=1.0, wrk_cores=0.5, server_cpu=1.0, store_cpu=1.0, server_memory=1,
        store_memory=1, kept=1, logged=1,
    )  # fmt: skip


READ = Read("service", 1, 1, "tree", 1, 1.0, 1, 1, 0)


def test_another_run_keeps_what_it_does_not_measure_and_replaces_what_it_does():
    earlier = Results(about(counting=3, cost=3, reads=3), [round_of("counting"), round_of("cost")], [], [READ])
    later = Results(about(counting=5, limits=5), [round_of("counting", 2000.0)], [Statement(16, 1, 1.0)])
    both = merged(earlier, later)
    assert both.rounds == [round_of("cost"), round_of("counting", 2000.0)]
    assert (both.statements, both.reads) == ([Statement(16, 1, 1.0)], [READ])
    assert both.about["parts"] == {
        "counting": options(5), "cost": options(3), "reads": options(3), "limits": options(5),
    }  # fmt: skip


def test_a_part_of_which_nothing_was_found_replaces_nothing():
    earlier = Results(about(reads=3), reads=[READ])
    both = merged(earlier, Results(about(reads=5)))
    assert both.reads == [READ]
    assert both.about["parts"] == {"reads": options(3)}


def test_both_runs_are_told_of():
    earlier = Results(about(changed=True, stores={"service": "PostgreSQL 18"}))
    later = Results(about("2026-11-28T11:00:00+00:00", stores={"quart_redis": "Redis 7"}))
    both = merged(earlier, later).about
    assert both["begun"] == "2026-11-28T10:00:00+00:00"
    assert both["changed"]
    assert both["stores"] == {"service": "PostgreSQL 18", "quart_redis": "Redis 7"}


@pytest.mark.parametrize("times", [1, 2])
def test_a_run_may_write_as_often_as_it_likes(tmp_path, times):
    stem = tmp_path / "results" / "2026-11-28-abc1234"
    write(Results(about(cost=3), [round_of("cost")]), stem)
    for _ in range(times):
        write(Results(about(counting=5), [round_of("counting")]), stem)
    found = Results.from_json(stem.with_suffix(".json").read_text())
    assert found.rounds == [round_of("cost"), round_of("counting")]
    assert "cost: 3 rounds of 1 s" in stem.with_suffix(".md").read_text()


def test_what_a_part_found_before_it_failed_is_written(tmp_path, monkeypatch):
    def fail(run):
        run.results.rounds.append(round_of("counting"))
        raise RuntimeError

    monkeypatch.setitem(PARTS, "counting", fail)
    run = Suite(options_of(["--results", str(tmp_path)]))
    with pytest.raises(RuntimeError):
        run.measure("counting")
    assert Results.from_json(run.stem.with_suffix(".json").read_text()).rounds == [round_of("counting")]


@pytest.fixture
def turns(tmp_path, monkeypatch):
    """Of a part: the contestant, its number of workers, and what it is sent; nothing is started."""

    @contextmanager
    def started(names, workers, **environment):
        yield {name: SimpleNamespace(name=name, workers=workers, store=None) for name in names}

    driven = []
    monkeypatch.setattr(suite, "started", started)
    monkeypatch.setattr(suite.rounds, "alternate", lambda _part, turns, *_: driven.extend(turns) or iter(()))

    def turns_of(part, *arguments):
        PARTS[part](Suite(options_of(["--results", str(tmp_path), *arguments])))
        return [(turn.contestant.name, turn.contestant.workers, turn.requests) for turn in driven]

    return turns_of


def test_the_service_alone_is_sent_visitors_beside_the_mix(turns):
    found = turns("mixes")
    assert [name for name, _, requests in found if requests == "visitors"] == ["service"]
    assert len(found) == len(set(found)) == 9


def test_what_visitors_cost_is_measured_of_another_service(turns):
    found = turns("cost")
    assert found.count(("service", 2, "mix")) == found.count(("service", 2, "visitors")) == 1
    assert len(found) == len(KINDS) + 1


@pytest.mark.parametrize("arguments", [["--requests", "visitors"], ["--contestants", "empty"]])
def test_what_visitors_cost_is_not_measured_twice_and_not_without_the_service(turns, arguments):
    found = turns("cost", *arguments)
    assert len(found) == len(set(found)) == len({name for name, *_ in found})


def test_the_service_its_django_view_and_the_empty_application_have_more_and_more_workers(turns):
    names = ("service", "service_django", "empty")
    assert turns("workers") == [(name, number, "mix") for number in (1, 2, 4) for name in names]
