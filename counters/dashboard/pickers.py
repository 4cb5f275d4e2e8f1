"""How a page is narrowed otherwise: periods, intervals, bots, and what it is narrowed to already."""

from datetime import date
from typing import Any, NamedTuple

from django.utils.formats import date_format
from django.utils.functional import Promise
from django.utils.translation import gettext, gettext_lazy, gettext_noop

from counters.dashboard import panels
from counters.dashboard.narrowing import Narrowing

PERIODS: dict[str, str | Promise] = {
    "today": gettext_lazy("Today"),
    "7d": gettext_lazy("7 days"),
    "30d": gettext_lazy("30 days"),
    "12mo": gettext_lazy("12 months"),
    "all": gettext_lazy("All"),
}
INTERVALS: dict[str, str | Promise] = {
    "hour": gettext_lazy("by the hour"),
    "day": gettext_lazy("by the day"),
    "week": gettext_lazy("by the week"),
    "month": gettext_lazy("by the month"),
}
AUDIENCES: dict[str, str | Promise] = {
    "": gettext_lazy("people and bots"),
    "false": gettext_lazy("people"),
    "true": gettext_lazy("bots"),
}
WHOLE_DAYS = gettext_noop("Single hits and hours are not kept of all of this period: it is shown by days of UTC.")


class Choice(NamedTuple):
    """One of several: its value, what it is called, the address with it, and whether it is in force."""

    value: str
    name: str | Promise
    link: str
    chosen: bool


def picker(narrowing: Narrowing, view: str, *parts: str) -> dict[str, Any]:
    """What a page offers to choose from."""
    asked = narrowing.asked
    changed = {"first", "last", "interval", "tz", "bot", "period", "cursor"}
    return {
        "action": narrowing.link(view, *parts).partition("?")[0],
        "kept": [(name, value) for name, value in narrowing.given.items() if name not in changed],
        "periods": [
            Choice(
                value,
                name,
                narrowing.link(view, *parts, period=value, first=None, last=None, interval=None, cursor=None),
                narrowing.period == value,
            )
            for value, name in PERIODS.items()
        ],
        "intervals": [
            Choice(value, name, "", narrowing.interval == value)
            for value, name in INTERVALS.items()
            if value in {*narrowing.intervals, narrowing.interval}
        ],
        "audiences": [
            Choice(value, name, "", narrowing.question.filters.get("bot", "") == value)
            for value, name in AUDIENCES.items()
        ],
        "days": _days(asked["first"], asked["last"]),
        "first": asked["first"].isoformat() if asked["first"] else "",
        "last": asked["last"].isoformat() if asked["last"] else "",
        "chips": panels.chips(narrowing, view, *parts),
        "note": gettext(WHOLE_DAYS) if narrowing.whole_days else "",
    }


def _days(first: date | None, last: date | None) -> str:
    """A period of days of its own as people write it, "" for none."""
    if first and last:
        days = [date_format(day, "j M Y") for day in dict.fromkeys((first, last))]
        return " – ".join(days)
    if first:
        return gettext("since %(day)s") % {"day": date_format(first, "j M Y")}
    return gettext("until %(day)s") % {"day": date_format(last, "j M Y")} if last else ""
