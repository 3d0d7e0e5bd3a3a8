"""How the server logs: lines for people or JSON for programs, with the id of the call in hand."""

import logging

from pythonjsonlogger.json import JsonFormatter

from model.console import LOG_FORMAT
from server import call
from server.config import LogFormat


class _OfCall(logging.Filter):
    """Puts the id of the call that is being answered into records; never keeps one back."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass."""
        current = call.current()
        record.request_id = "" if current is None else current.request_id
        return True


class _Console(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # the library's name
        line = super().formatMessage(record)
        request_id = getattr(record, "request_id", "")
        return f"{line} request={request_id}" if request_id else line


def configure(form: LogFormat) -> None:
    """Log to standard error in this form, everything of this process."""
    handler = logging.StreamHandler()
    handler.addFilter(_OfCall())
    handler.setFormatter(
        _Console(LOG_FORMAT)
        if form is LogFormat.CONSOLE
        else JsonFormatter(
            "%(asctime)s %(levelname)s %(name)s %(message)s %(request_id)s",
            rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
            datefmt="%Y-%m-%dT%H:%M:%S%z",
        )
    )
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
