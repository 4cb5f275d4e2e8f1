"""The report of what was measured, in Markdown, made of the results alone. Pure.

    python -m benchmarks.report benchmarks/results/….json

prints it without pictures.
"""

import sys
from collections.abc import Iterator, Sequence
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any

from benchmarks.contestants import KINDS
from benchmarks.goals import CONNECTIONS, EMPTY, RIVAL, SERVICE, growths, judged
from benchmarks.records import Figure, Results, Round, distinct, figure, figure_of, matching, ratio
from benchmarks.wrk import REQUESTS

#: What is drawn, by the end of its file's name.
PICTURES = {
    "rates": "Answers per second by connections",
    "latencies": "99th percentile by connections",
    "mixes": "Answers per second by what is asked for",
    "cost": "CPU seconds of a million hits",
}
DJANGO_VIEW = "service_django"
#: Stacks that tell something beside each other: of each pair, the first as so many times the second.
PAIRS = (
    (
        "Quart (async, Hypercorn, uvloop) beside Flask (threads, gunicorn), both with a Redis sorted set",
        "quart_redis",
        "flask_sorted_set",
    ),
    (
        "Django with an async view (gunicorn, ASGI worker) beside Django in threads (gunicorn, gthread), both with F()",
        "django_async",
        "django_threads",
    ),
    (
        "A Redis sorted set beside a Redis hash, both of Flask in threads under gunicorn, counting",
        "flask_sorted_set",
        "flask_hash",
    ),
    (
        "Redis with appendfsync always beside Redis with snapshots, both of Quart under Hypercorn",
        "quart_redis_fsync",
        "quart_redis",
    ),
    (
        "This service (fast lane in gunicorn, PostgreSQL, group commit) beside Quart (Hypercorn, Redis with snapshots)",
        SERVICE,
        RIVAL,
    ),
    (
        "This service (fast lane in gunicorn, group commit) beside its Django view in threads (gunicorn, gthread)",
        SERVICE,
        DJANGO_VIEW,
    ),
)
#: Of a core, used by wrk: from here on a round may tell how fast wrk is.
BOUNDED, MARK = 0.9, r"\*"
LATENCIES = ("p50", "p95", "p99")
ANSWERED_IN_TIME = (
    "Of requests that were answered before the round was over: those that still waited are in no figure, so a"
    " percentile near the length of the round is a lower bound."
)

Lines = Iterator[str]


def markdown(results: Results, pictures: Sequence[tuple[str, str]]) -> str:
    """`pictures` are titles and file names."""
    parts = (_head, _goals, _rates, _ratios, _pairs, _latencies, _failures, _mixes, _workers, _cost, _limits, _reads)
    lines = chain(chain.from_iterable(part(results) for part in parts), _pictures(pictures))
    return "\n".join(lines) + "\n"


def _head(results: Results) -> Lines:
    about = results.about
    machine = about["machine"]
    yield f"# Benchmarks of {about['begun'][:10]}, commit {about['commit']}"
    yield ""
    yield (
        f"Begun at {about['begun']}. {machine['processor']}, {machine['cores']} cores,"
        f" {machine['memory'] / 2**30:.0f} GB, {machine['system']}. "
        + ", ".join(f"{name} {number}" for name, number in about["versions"].items())
        + "."
    )
    if about["changed"]:
        yield "**The checkout had changes that are in no commit.**"
    yield ""
    yield (
        "Rounds of each contestant in turn, after one that warms up. wrk and the databases share the machine with what"
        " they drive. Figures are medians, in brackets the least and the greatest; a ratio is one of"
        " rounds of the same number: those of one pass over all contestants, seconds apart. Requests that failed are in"
        " no rate."
    )
    if results.rounds:
        yield (
            f"wrk itself used at most {max(one.wrk_cores for one in results.rounds):.2f} of a core. {MARK} marks what"
            f" has a round of {BOUNDED} or more: it was bounded by wrk, which can use no more than one core."
        )
    yield ""
    yield from _options(about["parts"])
    yield from (f"- {_label(name)}: {store}" for name, store in about["stores"].items())


def _options(parts: dict[str, dict[str, Any]]) -> Lines:
    """A line for all parts that were measured with the same options."""
    told = {part: f"{of['rounds']} rounds of {of['seconds']} s, {of['workers']} workers" for part, of in parts.items()}
    for options in dict.fromkeys(told.values()):
        names = ", ".join(part for part, its in told.items() if its == options)
        yield f"- {names}: {options} where nothing else is said"


def _goals(results: Results) -> Lines:
    rows = [(one.sentence, one.measured, f"**{one.verdict}**") for one in judged(results)]
    note = "A goal whose rounds had requests that failed is not met, whatever its figure is."
    yield from _section("Goals", ("goal", "measured", ""), rows, note)


def _rates(results: Results) -> Lines:
    yield from _by_connections(results, "Answers per second", "rate", "{:,.0f}")


def _latencies(results: Results) -> Lines:
    for name in LATENCIES:
        title = f"{'Median' if name == 'p50' else f'{name[1:]}th percentile'} of the time to an answer, ms"
        yield from _by_connections(results, title, name, "{:,.1f}", ANSWERED_IN_TIME)


def _by_connections(results: Results, title: str, name: str, form: str, note: str = "") -> Lines:
    counted = results.select("counting")
    connections = distinct(counted, "connections")
    rows = []
    for contestant in distinct(counted, "contestant"):
        cells = [matching(counted, contestant=contestant, connections=number) for number in connections]
        rows.append((_label(contestant), *(_seen(some, name, form) for some in cells)))
    kinds = ", ".join(REQUESTS[kind] for kind in distinct(counted, "requests"))
    yield from _section(title, ("", *_counted(connections)), rows, f"{kinds}. {note}".rstrip())


def _ratios(results: Results) -> Lines:
    counted = results.select("counting")
    connections = distinct(counted, "connections")
    rows = []
    for other in distinct(counted, "contestant"):
        if other != SERVICE:
            cells = [_beside(counted, SERVICE, other, number) for number in connections]
            rows.append((_label(other), *(_figure(cell, "{:.2f}") for cell in cells)))
    note = (
        "The ASGI application that does nothing runs under the same server, and is no ceiling: hits are answered in the"
        " protocol, without the task and the scope that ASGI asks for."
    )
    title = "This service, as so many times the rate of the others"
    yield from _section(title, ("", *_counted(connections)), rows, note)


def _pairs(results: Results) -> Lines:
    counted = results.select("counting")
    connections = distinct(counted, "connections")
    rows = []
    for stacks, one, other in PAIRS:
        cells = [_beside(counted, one, other, number) for number in connections]
        if any(cells):
            rows.append((stacks, *(_figure(cell, "{:.2f}") for cell in cells)))
    note = (
        "A ratio is one of the stacks as they are named: of the differences between two, it does not say which did it."
    )
    header = ("rate of the first over that of the second", *_counted(connections))
    yield from _section("Stacks beside each other", header, rows, note)


def _beside(counted: list[Round], one: str, other: str, connections: int) -> Figure | None:
    some, others = (matching(counted, contestant=name, connections=connections) for name in (one, other))
    return ratio(some, others)


def _failures(results: Results) -> Lines:
    failed = [one for one in results.rounds if one.failed]
    rows = [
        (_label(one.contestant), one.part, one.requests, one.connections, f"{one.failed:,} of {_asked(one):,}")
        for one in failed
    ]
    yield from _section("Requests that failed", ("", "part", "requests", "connections", "failed"), rows)


def _asked(one: Round) -> int:
    return one.answered + one.failed


def _mixes(results: Results) -> Lines:
    found = results.select("mixes")
    rows = []
    for contestant in distinct(found, "contestant"):
        mix = matching(found, contestant=contestant, requests="mix")
        for requests in distinct(matching(found, contestant=contestant), "requests"):
            some = matching(found, contestant=contestant, requests=requests)
            share = _figure(ratio(some, mix), "{:.2f}")
            rate, slow = _seen(some, "rate", "{:,.0f}"), _seen(some, "p99", "{:.1f}")
            rows.append((_label(contestant), REQUESTS[requests], rate, share, slow))
    header = ("", "requests", "answers/s", "of the mix", "99th percentile, ms")
    note = (
        f"{CONNECTIONS} connections. The million paths have a counter before. The bound on new paths is off"
        " (`HITCOUNTER_MAX_NEW_PATHS_PER_MINUTE=0`), so that each is counted as what it is."
    )
    yield from _section("What is asked for", header, rows, note)


def _workers(results: Results) -> Lines:
    found = results.select("workers")
    rows = []
    for number in distinct(found, "workers"):
        ours, view, nothing = (
            matching(found, workers=number, contestant=name) for name in (SERVICE, DJANGO_VIEW, EMPTY)
        )
        rates = (_seen(some, "rate", "{:,.0f}") for some in (ours, view, nothing))
        slow = _seen(ours, "p99", "{:.1f}")
        rows.append((number, *rates, _figure(ratio(ours, nothing), "{:.2f}"), slow))
    header = (
        "workers", "this service, answers/s", "its Django view", "an ASGI application that does nothing",
        "this service, of the last", "this service, 99th percentile, ms",
    )  # fmt: skip
    yield from _section("Worker processes", header, rows, f"{CONNECTIONS} connections.")


def _cost(results: Results) -> Lines:
    found = results.select("cost")
    rows = [
        (_label(name), requests, *_costs(matching(found, contestant=name, requests=requests)))
        for name, requests in dict.fromkeys((one.contestant, one.requests) for one in found)
    ]  # fmt: skip
    header = (
        "", "requests", "hits in a round", "CPU s, server", "CPU s, store", "memory, server, MB", "memory, store, MB",
        "store grown, MB", "log written, MB",
    )  # fmt: skip
    note = (
        f"{CONNECTIONS} connections. CPU time, store and log are for a million hits, worked out from those of a round:"
        " of few, the figures are rough. Memory is what there is at the end of the last round: what the processes have"
        " to themselves, and a share of what they have in common. The store is the database, or what Redis keeps in"
        " memory of the counts; the log is PostgreSQL's WAL or Redis's append-only file."
    )
    yield from _section("What a million hits cost", header, rows, note)


def _costs(some: list[Round]) -> Iterator[str]:
    yield _seen(some, "answered", "{:,.0f}")
    for name in ("server_cpu", "store_cpu"):
        yield _figure(figure([one.per_million(name) for one in some]), "{:,.1f}")
    last = max(some, key=attrgetter("number"))
    yield from (f"{memory / 1e6:,.0f}" for memory in (last.server_memory, last.store_memory))
    for name in ("kept", "logged"):
        yield _figure(figure([one.per_million(name) / 1e6 for one in some]), "{:,.1f}")


def _limits(results: Results) -> Lines:
    rows = []
    for batch in distinct(results.statements, "batch"):
        found = figure_of(matching(results.statements, batch=batch), "hits_per_second")
        each = 1_000_000 * batch / found.median if found else 0
        rows.append((batch, _figure(found, "{:,.0f}"), f"{each:,.0f}"))
    header = ("hits in a batch", "hits/s", "a batch, µs")
    note = "The statement that counts a batch, sent by one client one after the other, without a server."
    yield from _section("What the database could take", header, rows, note)


def _reads(results: Results) -> Lines:
    rows = []
    for contestant in distinct(results.reads, "contestant"):
        some = matching(results.reads, contestant=contestant)
        for question in distinct(some, "question"):
            asked = matching(some, question=question)
            held = dict.fromkeys((one.hits, one.paths) for one in asked)
            rows += [_read(matching(asked, hits=hits, paths=paths)) for hits, paths in held]
    header = ("", "question", "hits", "paths", "time, ms", "answer, kB", "rows/s", "a worker's memory grew by, MB")
    note = (
        "One client; today's hits are held besides. Memory is that of the worker that grew most, at its peak while it"
        " answered, over what it had soon after its start: so the round that warms up counts, and what it keeps from"
        " other questions."
    )
    yield from _section("Reading", header, rows, note)
    grown = [
        (_label(name), question, f"{times:.2f}")
        for name in distinct(results.reads, "contestant")
        for question, times in growths(results, name)
    ]
    note = (
        "From each store to the next larger one, and from the smallest to the greatest: how many times longer, over how"
        " many times larger the answer was. The most of these."
    )
    yield from _section("How reads grow", ("", "question", "time over output"), grown, note)


def _read(some: list[Any]) -> tuple[object, ...]:
    one = some[0]
    times, rates = figure([read.seconds * 1000 for read in some]), figure([read.rows / read.seconds for read in some])
    grown = max(read.growth for read in some) / 1e6
    return (
        _label(one.contestant), one.question, f"{one.hits:,}", f"{one.paths:,}", _figure(times, "{:,.1f}"),
        f"{one.size / 1000:,.0f}", _figure(rates, "{:,.0f}"), f"{grown:.1f}",
    )  # fmt: skip


def _pictures(pictures: Sequence[tuple[str, str]]) -> Lines:
    if pictures:
        yield from ("", "## Pictures")
    for title, name in pictures:
        yield from ("", f"![{title}]({name})")


def _section(title: str, header: Sequence[str], rows: Sequence[Sequence[object]], note: str = "") -> Lines:
    """A heading and a table; what was not measured has none."""
    if not rows:
        return
    yield from ("", f"## {title}", "")
    if note:
        yield from (note, "")
    yield _row(header)
    yield "|" + "---|" * len(header)
    yield from map(_row, rows)


def _row(cells: Sequence[object]) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def _seen(some: list[Round], name: str, form: str) -> str:
    """A field of these rounds, marked where wrk bounded one of them."""
    told = _figure(figure_of(some, name), form)
    return f"{told} {MARK}" if any(one.wrk_cores >= BOUNDED for one in some) else told


def _figure(found: Figure | None, form: str) -> str:
    if found is None:
        return ""
    middle, least, greatest = (form.format(value) for value in found)
    return middle if least == greatest else f"{middle} ({least} to {greatest})"


def _counted(connections: Sequence[int]) -> list[str]:
    return [f"{number:,} connection{'' if number == 1 else 's'}" for number in connections]


def _label(contestant: str) -> str:
    return KINDS[contestant].label


def main() -> None:
    print(markdown(Results.from_json(Path(sys.argv[1]).read_text()), pictures=[]), end="")


if __name__ == "__main__":
    main()
