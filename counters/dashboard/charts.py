"""A series drawn: what a template needs to write it as SVG. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from math import ceil, floor, log10
from typing import NamedTuple

from django.utils.formats import date_format
from django.utils.translation import gettext, gettext_noop

from counters.stats import Point

#: Of the space that one interval has, in which its bar stands.
_GAP = 0.12
HEIGHT = 100
MOST_TICKS = 6
#: For figures that would take a third of a phone's width.
_LETTERS = ((10**12, gettext_noop("T")), (10**9, gettext_noop("B")), (10**6, gettext_noop("M")))
_HOURS_BY_THEMSELVES = 50
#: Django's date formats, for the axis and for the table.
_SHORT = {"hour": "H:i", "day": "j M", "week": "j M", "month": "M Y"}
_LONG = {"hour": "D, j M Y, H:i", "day": "D, j M Y", "week": "j M Y", "month": "F Y"}


class Tick(NamedTuple):
    """A label below the bars, at so many % of the width."""

    at: float
    label: str


class Bar(NamedTuple):
    """What the table behind the chart says of an interval."""

    label: str
    hits: int
    visitors: int


class Chart(NamedTuple):
    """Bars for hits, and within them those for visitors: the outlines of SVG paths, `width` units wide, HEIGHT high.

    That height stands for `top` hits, which `scale` says in short; `ticks` are the labels below, `bars` the figures.
    """

    width: int
    hits: str
    visitors: str
    top: int
    scale: str
    ticks: list[Tick]
    bars: list[Bar]
    highest: Bar


def chart(series: Sequence[Point], interval: str) -> Chart | None:
    """The chart of a series; None of one without hits."""
    if not any(point.hits for point in series):
        return None
    top = _ceiling(max(point.hits for point in series))
    bars = [Bar(date_format(point.at, _LONG[interval]), point.hits, point.visitors) for point in series]
    return Chart(
        width=len(series),
        hits=_outline([point.hits / top for point in series]),
        visitors=_outline([point.visitors / top for point in series]),
        top=top,
        scale=_compact(top),
        ticks=_ticks([point.at for point in series], interval),
        bars=bars,
        highest=max(bars, key=lambda bar: bar.hits),
    )


class Class(NamedTuple):
    """Of a histogram: what took at most `most` ms, and more than the class before; its bar in % of the longest."""

    most: str
    requests: int
    bar: float


def histogram(classes: Sequence[Mapping[str, float]]) -> list[Class]:
    """The rows of a histogram of latencies, as a load test reports it."""
    longest = max((one["count"] for one in classes), default=0) or 1
    return [Class(f"{one['ms']:,g}", int(one["count"]), round(100 * one["count"] / longest, 2)) for one in classes]


def _ceiling(most: int) -> int:
    """The least of 1, 2, 5, 10, 20, 50 and so on that is not exceeded, in finer steps where there is room."""
    power = 10 ** floor(log10(most))
    return next(int(step * power) for step in (1, 2, 3, 4, 5, 6, 8, 10) if step * power >= most)


def _compact(number: int) -> str:
    """A number as it is written beside a chart on a phone: its millions, billions or trillions by a letter."""
    size, letter = next(((size, letter) for size, letter in _LETTERS if number >= size), (1, ""))
    return f"{number / size:,.10g}{gettext(letter) if letter else ''}"


def _outline(shares: Sequence[float]) -> str:
    """One rectangle for each share of the height, from the left."""
    return "".join(
        f"M{at + _GAP:.2f} {HEIGHT}V{HEIGHT * (1 - share):.2f}H{at + 1 - _GAP:.2f}V{HEIGHT}Z"
        for at, share in enumerate(shares)
        if share
    )


def _ticks(times: Sequence[datetime], interval: str) -> list[Tick]:
    """Some of the times, evenly apart; of the hours of many days, those at which days begin."""
    where, form = list(range(len(times))), _SHORT[interval]
    if interval == "hour" and len(times) > _HOURS_BY_THEMSELVES:
        where, form = [n for n in where[1:] if times[n].date() != times[n - 1].date()], _SHORT["day"]
    step = ceil(len(where) / MOST_TICKS)
    return [
        Tick(round(100 * (at + 0.5) / len(times), 2), date_format(times[at], form))
        for at in where[(len(where) - 1) % step // 2 :: step]
    ]
