"""The log of the service: a JSON object a line on stdout, whoever writes it."""

import json
import logging
import sys
import time
from pathlib import Path

# What every record has, and uvicorn's second copy of its message, with colours.
_OWN = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


class JsonLines(logging.Formatter):
    """A JSON object a line: time, level, logger, event, and what was given as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        entry = {
            "time": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "event": record.getMessage(),
        }
        entry |= {key: value for key, value in vars(record).items() if key not in _OWN}
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def log_as_json() -> None:
    """Let what anyone logs in this process, and every warning, leave through stdout as JSON, and nowhere else.

    uvicorn, pebble and asyncio log through the root, whose handlers Hydra has set; these are replaced.
    """
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
        old.close()
        if isinstance(old, logging.FileHandler):
            _remove_if_empty(Path(old.baseFilename))
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines())
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)


def _remove_if_empty(file: Path) -> None:
    """Remove the log that Hydra began in a folder of this start, and the folder if nothing else is in it."""
    if file.is_file() and not file.stat().st_size:
        file.unlink()
        if not any(file.parent.iterdir()):
            file.parent.rmdir()
