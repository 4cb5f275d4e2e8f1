"""The figures, the goals and the report that are made of what was measured."""

import pytest

from benchmarks.goals import GOALS, growths, judged
from benchmarks.quick import THRESHOLDS, Threshold, missed
from benchmarks.records import Read, Results, Round, Statement, figure, ratio
from benchmarks.report import LATENCIES, markdown

ABOUT = {
    "begun": "2026-11-28T10:00:00+00:00",
    "commit": "abc1234",
    "changed": False,
    "machine": {"processor": "Some CPU", "cores": 2, "memory": 8 * 2**30, "system": "Linux 6"},
    "versions": {"python": "3.11.7"},
    "parts": {"counting": {"rounds": 2, "seconds": 1, "workers": 2, "requests": "mix"}},
    "stores": {"quart_redis": "Redis 7, save ''"},
}


def round_of(contestant="service", number=1, rate=1000.0, **other):
    usual = {
        "part": "counting", "workers": 2, "requests": "mix", "connections": 64, "answered": 500_000, "failed": 0,
        "p50": 1.0, "p95": 2.0, "p99": 3.0, "wrk_cores": 0.5, "server_cpu": 10.0, "store_cpu": 5.0,
        "server_memory": 100_000_000, "store_memory": 50_000_000, "kept": 1_000_000, "logged": 2_000_000,
    }  # fmt: skip
    return Round(contestant=contestant, number=number, rate=rate, **usual | other)


def read_of(hits, paths, seconds, size=1000, **other):
    usual = {"contestant": "service", "question": "full list", "number": 1, "rows": paths, "growth": 0}
    return Read(hits=hits, paths=paths, seconds=seconds, size=size, **usual | other)


def results_of(*rounds, reads=(), statements=()):
    return Results(ABOUT, list(rounds), list(statements), list(reads))


def verdicts(results):
    return {one.sentence: one.verdict for one in judged(results)}


def verdict(results, beginning):
    return next(told for sentence, told in verdicts(results).items() if sentence.startswith(beginning))


def test_a_ratio_is_one_of_rounds_with_the_same_number():
    ours = [round_of(number=1, rate=100.0), round_of(number=2, rate=300.0)]
    theirs = [round_of("empty", number=2, rate=600.0), round_of("empty", number=1, rate=100.0)]
    assert ratio(ours, theirs) == (0.75, 0.5, 1.0)


def test_a_round_without_another_of_its_number_or_beside_nothing_has_no_ratio():
    ours = [round_of(number=1), round_of(number=2)]
    assert ratio(ours, [round_of("empty", number=1, rate=0.0)]) is None
    assert figure([]) is None


def test_costs_are_those_of_a_million_hits():
    assert round_of(answered=500_000, server_cpu=10.0).per_million("server_cpu") == 20.0
    assert round_of(answered=0).per_million("server_cpu") == 0.0


def test_results_come_back_from_their_file_as_they_were():
    results = results_of(round_of(), reads=[read_of(1, 2, 0.5)], statements=[Statement(16, 1, 1000.0)])
    assert Results.from_json(results.to_json()) == results


def test_without_measurements_no_goal_is_met():
    assert set(verdicts(results_of()).values()) == {"not measured"}
    assert len(verdicts(results_of())) == len(GOALS)


@pytest.mark.parametrize(("rate", "wanted"), [(8000.0, "met"), (7990.0, "missed")])
def test_the_rate_beside_the_rival_is_judged(rate, wanted):
    results = results_of(round_of(rate=rate), round_of("quart_redis", rate=1000.0))
    assert verdict(results, "at least 8 times Quart") == wanted
    assert verdict(results, "at least 6 times it at 32") == "not measured"


def test_the_goals_are_for_the_challenges_mix_alone():
    results = results_of(round_of(requests="visitors", rate=9000.0), round_of("quart_redis", requests="visitors"))
    assert verdict(results, "at least 8 times Quart") == "not measured"


@pytest.mark.parametrize(("p99", "wanted"), [(10.0, "met"), (10.1, "missed")])
def test_the_99th_percentile_is_judged(p99, wanted):
    assert verdict(results_of(round_of(p99=p99)), "99th percentile") == wanted


def test_a_goal_is_not_met_by_rounds_in_which_requests_failed():
    results = results_of(
        round_of(rate=9000.0, failed=7), round_of("quart_redis", failed=1000),
        round_of(part="mixes"), round_of(part="mixes", requests="hot"),
        round_of(part="mixes", requests="new", failed=1),
    )  # fmt: skip
    assert verdict(results, "at least 8 times Quart") == "not met: 1,007 failed"
    assert verdict(results, "99th percentile") == "not met: 7 failed"
    assert verdict(results, "one hot path") == "met"
    assert verdict(results, "all-new paths") == "not met: 1 failed"


def test_where_all_requests_failed_that_is_told():
    results = results_of(round_of(), round_of("quart_redis", rate=0.0, answered=0, failed=9))
    assert verdict(results, "at least 8 times Quart") == "not met: 9 failed"


def test_requests_that_failed_in_other_rounds_are_nothing_to_a_goal():
    results = results_of(round_of(), round_of("quart_redis", failed=9), round_of("empty", failed=9, connections=32))
    assert verdict(results, "99th percentile") == "met"


def test_other_requests_are_judged_beside_the_mix_of_their_part():
    asked = {"mix": 1000.0, "hot": 1001.0, "new": 499.0, "zipf": 700.0}
    results = results_of(*(round_of(part="mixes", requests=name, rate=rate) for name, rate in asked.items()))
    assert verdict(results, "one hot path") == "met"
    assert verdict(results, "all-new paths") == "missed"
    assert verdict(results, "Zipf") == "met"


def test_the_full_list_of_a_million_paths_is_judged_in_all_stores_that_have_them():
    reads = [
        read_of(1_000_000, 1_000_000, 4.0, growth=10_000_000),
        read_of(10_000_000, 1_000_000, 5.0, growth=60_000_000),
    ]
    results = results_of(reads=reads)
    assert verdict(results, "full list") == "met"
    assert verdict(results, "a worker grows") == "missed"


@pytest.mark.parametrize(("seconds", "wanted"), [(5.0, "met"), (7.0, "missed")])
def test_a_read_may_grow_as_its_output_does(seconds, wanted):
    reads = [read_of(1_000_000, 1_000_000, 1.0, 1000), read_of(50_000_000, 5_000_000, seconds, 5000)]
    assert verdict(results_of(reads=reads), "no read grows") == wanted


@pytest.mark.parametrize(("seconds", "told"), [(1.2, "not measured"), (9.0, "missed")])
def test_that_no_read_grows_too_fast_is_told_when_the_most_was_read_and_that_one_does_before(seconds, told):
    reads = [read_of(1_000_000, 10_000, 1.0), read_of(10_000_000, 10_000, seconds)]
    assert verdict(results_of(reads=reads), "no read grows") == told
    assert dict(growths(results_of(reads=reads), "service")) == {"full list": seconds}


@pytest.mark.parametrize(
    ("seconds", "wanted"), [((1.0, 4.0, 2.0), 4.0), ((1.0, 1.0, 3.0), 3.0), ((1.0, 1.5, 3.0), 3.0)]
)
def test_a_read_grows_as_it_does_in_its_worst_step_or_in_all_of_them(seconds, wanted):
    reads = [read_of(number, number, each) for number, each in enumerate(seconds)]
    assert dict(growths(results_of(reads=reads), "service")) == {"full list": wanted}


def test_an_output_that_became_smaller_excuses_nothing():
    reads = [read_of(1, 1, 1.0, size=1000), read_of(2, 1, 1.5, size=900)]
    assert dict(growths(results_of(reads=reads), "service")) == {"full list": 1.5}


def test_the_report_has_medians_and_ratios_of_rounds_of_the_same_number():
    told = markdown(
        results_of(
            round_of(number=1, rate=1000.0), round_of("empty", number=1, rate=2000.0),
            round_of(number=2, rate=3000.0), round_of("empty", number=2, rate=4000.0),
        ), pictures=[],
    )  # fmt: skip
    assert "| this service, fast lane | 2,000 (1,000 to 3,000) |" in told
    assert "| an ASGI application that does nothing, same server | 0.62 (0.50 to 0.75) |" in told
    assert told.count("near the length of the round is a lower bound") == len(LATENCIES)
    assert "Some CPU, 2 cores, 8 GB" in told
    assert "- counting: 2 rounds of 1 s, 2 workers where nothing else is said" in told
    assert "Redis 7, save ''" in told


def test_the_report_has_no_heading_without_figures():
    told = markdown(results_of(round_of()), pictures=[])
    for heading in ("Reading", "Worker processes", "Requests that failed", "Pictures", "Stacks beside each other"):
        assert f"## {heading}" not in told


def test_what_only_one_contestant_was_sent_has_a_line_of_its_own():
    told = markdown(
        results_of(
            round_of(part="mixes"), round_of(part="mixes", requests="visitors", rate=800.0),
            round_of("quart_redis", part="mixes"),
        ), pictures=[],
    )  # fmt: skip
    assert told.count("with the headers of many visitors |") == 1
    assert "with the headers of many visitors | 800 | 0.80 | 3.0 |" in told


def test_the_report_tells_what_failed_and_that_the_checkout_was_changed():
    results = results_of(round_of(failed=7, answered=93))
    results.about = {**ABOUT, "changed": True}
    told = markdown(results, pictures=[])
    assert "| 7 of 100 |" in told
    assert "changes that are in no commit" in told


def test_the_report_tells_how_busy_wrk_was_and_marks_the_rounds_that_it_bounded():
    told = markdown(results_of(round_of(wrk_cores=0.4), round_of("empty", wrk_cores=0.95)), pictures=[])
    assert "wrk itself used at most 0.95 of a core." in told
    assert "| an ASGI application that does nothing, same server | 1,000 \\* |" in told
    assert "| this service, fast lane | 1,000 |" in told


def test_the_report_shows_costs_statements_and_reads():
    results = results_of(
        round_of(part="cost"), round_of(part="cost", requests="visitors", server_cpu=20.0),
        round_of(part="workers"), round_of("empty", part="workers", rate=2000.0),
        round_of("service_django", part="workers", rate=500.0),
        reads=[read_of(1_000_000, 1_000_000, 4.0)], statements=[Statement(16, 1, 32_000.0)],
    )  # fmt: skip
    told = markdown(results, pictures=[("Rates", "some-rates.svg")])
    assert "| this service, fast lane | mix | 500,000 | 20.0 | 10.0 | 100 | 50 | 2.0 | 4.0 |" in told
    assert "| this service, fast lane | visitors | 500,000 | 40.0 | 10.0 | 100 | 50 | 2.0 | 4.0 |" in told
    assert "| 2 | 1,000 | 500 | 2,000 | 0.50 | 3.0 |" in told
    assert "| 16 | 32,000 | 500 |" in told
    assert "| full list | 1,000,000 | 1,000,000 | 4,000.0 | 1 | 250,000 | 0.0 |" in told
    assert "![Rates](some-rates.svg)" in told


def test_memory_is_that_of_the_end():
    told = markdown(
        results_of(
            round_of(part="cost", number=1, server_memory=100_000_000),
            round_of(part="cost", number=2, server_memory=300_000_000),
        ), pictures=[],
    )  # fmt: skip
    assert "| 20.0 | 10.0 | 300 | 50 |" in told


def test_a_threshold_that_is_missed_is_told_in_a_sentence():
    found = [round_of(rate=100.0), round_of("empty", rate=1000.0)]
    threshold = Threshold("of the empty application", ("service", "mix"), ("empty", "mix"), 0.2)
    assert missed(found, [threshold]) == [
        "Slower than it was: 0.10 (0.10 to 0.10) of the empty application, where it is to be at least 0.20."
    ]
    assert missed(found, [threshold._replace(least=0.1)]) == []


def test_requests_that_failed_are_told_whatever_the_ratios_are():
    assert missed([round_of(failed=3), round_of("empty", failed=1)], []) == ["4 requests failed."]


def test_what_was_not_measured_misses_its_threshold():
    assert len(missed([])) == len(THRESHOLDS)
