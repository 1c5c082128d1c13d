"""Log lines on standard error, as text or as JSON objects. Nothing that a stranger sent is in one."""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback

PACKAGE = "dexpression"
REPEAT_SECONDS = 60.0  # between two lines of `ThrottledLogger` with the same text


class TextLines(logging.Formatter):
    """Formats a record as a line of time (UTC) and message, and the lines of an exception below it."""

    def format(self, record: logging.LogRecord) -> str:
        line = f"{_moment(record)} {_message(record)}"
        return f"{line}\n{_describe_exception(record)}" if record.exc_info else line


class JsonLines(logging.Formatter):
    """Formats a record as one JSON object: time (UTC), level, message, and `extra={"fields": {...}}` if given."""

    def format(self, record: logging.LogRecord) -> str:
        line = {"time": _moment(record), "level": record.levelname, "message": _message(record)}
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["exception"] = _describe_exception(record)
        return json.dumps(line)


class ThrottledLogger:
    """Logs each text at most once a minute, however often what it says happens."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._next: dict[str, float] = {}

    def warning(self, text: str) -> None:
        """Log a text with the level WARNING."""
        if self._is_due(text):
            self._logger.warning(text)

    def exception(self, text: str) -> None:
        """Log a text with the exception that is handled now."""
        if self._is_due(text):
            self._logger.exception(text)

    def _is_due(self, text: str) -> bool:
        now = time.monotonic()
        is_due = now >= self._next.get(text, now)
        if is_due:
            self._next[text] = now + REPEAT_SECONDS
        return is_due


def start_logging(log_format: str = "plain", level: str = "INFO") -> None:
    """Set up logging of this process on standard error.

    `log_format` is `text` or `json`, or `plain` for messages alone. Of other packages, only warnings and errors are
    logged.
    """
    formatters = {"text": TextLines(), "json": JsonLines()}
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatters.get(log_format, logging.Formatter("%(message)s")))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger(PACKAGE).setLevel(level)
    logging.captureWarnings(True)


def _moment(record: logging.LogRecord) -> str:
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{moment}.{int(record.msecs):03}Z"


def _message(record: logging.LogRecord) -> str:
    """The message of a record of ours; of another package only the place, because its text may repeat a request."""
    if record.name.partition(".")[0] == PACKAGE:
        return record.getMessage()
    return f"{record.levelname} of {record.name}, line {record.lineno} of {record.filename}"


def _describe_exception(record: logging.LogRecord) -> str:
    """The type and the places of an exception, and of those that caused it, without their texts."""
    lines: list[str] = []
    error = record.exc_info[1] if record.exc_info else None
    seen: list[BaseException] = []
    while error and error not in seen:  # causes may go round in a circle
        seen.append(error)
        lines += [f"{type(error).__name__}\n", *traceback.format_tb(error.__traceback__)]
        error = error.__cause__ or error.__context__
    return "".join(lines).rstrip("\n")
