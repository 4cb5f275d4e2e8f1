"""The log: lines for people or JSON for machines, and never so many that they are a burden.

A line in JSON has the fields below and no others. What code hands over beside its message may be personal, such as the
request that Django gives with an error.
"""

import logging
import re
import threading
from collections import Counter
from datetime import UTC, datetime
from typing import Any

from pythonjsonlogger.json import JsonFormatter

from counters import requestid

#: What `manage.py serve` tells gunicorn's master in the environment, since it has no settings.
MASTER_LOG_FORMAT = "HITCOUNTER_MASTER_LOG_FORMAT"
#: Of warnings and errors that are alike, but for what is filled in; further ones are added up.
MOST_A_SECOND = 5


# In tracebacks, psycopg's errors say more than their first sentence: these lines may quote rows.
_QUOTING = re.compile(r"\n(?:DETAIL|CONTEXT):.*")


class WithoutRows(logging.Formatter):
    """Leaves out of tracebacks what the database quotes of rows, which may be personal."""

    def formatException(self, ei: Any) -> Any:
        return _QUOTING.sub("", logging.Formatter.formatException(self, ei))


def told(record: logging.LogRecord) -> str:
    """The message, with how many like it were left out before it."""
    left_out = getattr(record, "left_out", 0)
    message = record.getMessage()
    return f"{message} (and {left_out} like it before, which are left out)" if left_out else message


class Line(WithoutRows):
    """Time, level, logger and message, and the request's id if one is being answered."""

    def __init__(self) -> None:
        super().__init__("{asctime} {levelname} {name}: {message}", style="{")

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = told(record)
        line = super().formatMessage(record)
        id = requestid.current.get()
        return f"{line} [{id}]" if id else line


class JSONLine(WithoutRows, JsonFormatter):
    """The same as an object: time, level, logger, message, and where there are such, request_id and exception."""

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        log_data["time"] = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        log_data["level"] = record.levelname
        log_data["logger"] = record.name
        log_data["message"] = told(record)
        if id := requestid.current.get():
            log_data["request_id"] = id
        if exception := message_dict.get("exc_info"):
            log_data["exception"] = exception


FORMATTERS: dict[str, type[logging.Formatter]] = {"text": Line, "json": JSONLine}


class Bounded(logging.Filter):
    """Lets through so many warnings and errors a second that are alike; the next that passes tells how many did not."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._second = 0
        self._seen: Counter[tuple[str, str]] = Counter()
        self._left_out: Counter[tuple[str, str]] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        alike = record.name, str(record.msg)
        with self._lock:
            if int(record.created) != self._second:
                self._second = int(record.created)
                self._seen.clear()
            self._seen[alike] += 1
            if self._seen[alike] > MOST_A_SECOND:
                self._left_out[alike] += 1
                return False
            left_out = self._left_out.pop(alike, 0)
        if left_out:
            record.left_out = left_out  # not in its message, which others see, too
        return True


def speak_alike(logger: logging.Logger, form: str) -> None:
    """Have what a library has set up for its own logger write lines in this form, no more than others."""
    for handler in logger.handlers:
        handler.setFormatter(FORMATTERS[form]())
        handler.addFilter(Bounded())
