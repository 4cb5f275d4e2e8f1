"""The pictures of the suite's report, drawn by matplotlib from the JSON file: SVG files beside it.

    benchmarks/.venvs/pictures/bin/python -m benchmarks.pictures benchmarks/results/….json

It runs in an environment that has matplotlib and none of the service's packages, so it imports nothing that needs them.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib
from matplotlib import pyplot
from matplotlib.axes import Axes

from benchmarks.records import MILLION, Results, distinct, figure, figure_of, matching

MILLISECONDS, PER_SECOND = "milliseconds", "answers per second"


def by_connections(results: Results, axes: Axes, name: str, unit: str) -> None:
    """A line for each contestant, with the least and the greatest of its rounds."""
    counted = results.select("counting")
    axes.set_prop_cycle(
        color=[matplotlib.colormaps["tab20"](number) for number in range(20)]
    )  # there are more than ten
    for contestant in distinct(counted, "contestant"):
        some = matching(counted, contestant=contestant)
        connections = distinct(some, "connections")
        found = [figure_of(matching(some, connections=number), name) for number in connections]
        known = [one for one in found if one]
        (line,) = axes.plot(connections, [one.median for one in known], marker="o", label=contestant)
        least, greatest = [one.least for one in known], [one.greatest for one in known]
        axes.fill_between(connections, least, greatest, color=line.get_color(), alpha=0.15, linewidth=0)
    axes.set(xscale="log", yscale="log", xlabel="connections", ylabel=unit)
    numbers = distinct(counted, "connections")
    axes.set_xticks(numbers, [f"{number:,}" for number in numbers], minor=False)
    axes.minorticks_off()


def rates(results: Results, axes: Axes) -> None:
    by_connections(results, axes, "rate", PER_SECOND)


def latencies(results: Results, axes: Axes) -> None:
    by_connections(results, axes, "p99", MILLISECONDS)


def mixes(results: Results, axes: Axes) -> None:
    """A bar for each kind of requests, those of a contestant beside each other."""
    found = results.select("mixes")
    kinds, contestants = distinct(found, "requests"), distinct(found, "contestant")
    width = 0.8 / max(1, len(contestants))
    for place, contestant in enumerate(contestants):
        some = [figure_of(matching(found, contestant=contestant, requests=kind), "rate") for kind in kinds]
        heights = [one.median if one else 0 for one in some]
        axes.bar([at + place * width for at in range(len(kinds))], heights, width, label=contestant)
    axes.set_xticks([at + width * (len(contestants) - 1) / 2 for at in range(len(kinds))], kinds)
    axes.set_ylabel(PER_SECOND)


def cost(results: Results, axes: Axes) -> None:
    """A bar for each contestant and what it was sent: the server's CPU seconds, and behind them those of its store."""
    found = results.select("cost")
    bars = list(dict.fromkeys((one.contestant, one.requests) for one in found))[::-1]
    sent = [matching(found, contestant=contestant, requests=requests) for contestant, requests in bars]
    before = [0.0] * len(bars)
    for name, label in (("server_cpu", "server"), ("store_cpu", "store")):
        some = [figure([one.per_million(name) for one in rounds]) for rounds in sent]
        lengths = [one.median if one else 0.0 for one in some]
        axes.barh([", ".join(bar) for bar in bars], lengths, left=before, label=label)
        before = [sum(pair) for pair in zip(before, lengths, strict=True)]
    axes.set_xlabel(f"CPU seconds of {MILLION:,} hits")


#: Part of the results that a picture needs, and what draws it.
DRAWN: dict[str, tuple[str, Callable[[Results, Axes], None]]] = {
    "rates": ("counting", rates),
    "latencies": ("counting", latencies),
    "mixes": ("mixes", mixes),
    "cost": ("cost", cost),
}


def draw(results: Results, stem: Path) -> None:
    for name, (part, drawing) in DRAWN.items():
        if results.select(part):
            made, axes = pyplot.subplots(figsize=(9, 5), layout="constrained")
            drawing(results, axes)
            axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
            axes.grid(alpha=0.3)
            # Without the date the same results make the same file.
            made.savefig(stem.with_name(f"{stem.name}-{name}.svg"), metadata={"Date": None})
            pyplot.close(made)


def main() -> None:
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "benchmarks"
    source = Path(sys.argv[1])
    draw(Results.from_json(source.read_text()), source.with_suffix(""))


if __name__ == "__main__":
    main()
