import json
import logging
import subprocess
import sys
from pathlib import Path

from unmask.web.api.settings import JsonLines

WRITERS = """
import logging, sys, warnings
from pathlib import Path

folder = Path(sys.argv[1])
(folder / "empty").mkdir(parents=True)
(folder / "full").mkdir()
for name in ("empty", "full"):
    logging.getLogger().addHandler(logging.FileHandler(folder / name / "serve.log"))
logging.getLogger().addHandler(logging.StreamHandler(sys.stdout))
(folder / "full" / "serve.log").write_text("kept")

from unmask.web.api.settings import log_as_json

log_as_json()
logging.getLogger("unmask.web.api").info("ours", extra={"status": 200})
logging.getLogger("uvicorn.error").info("process [%d]", 7, extra={"color_message": "process [\\x1b[36m%d\\x1b[0m]"})
logging.getLogger("asyncio").debug("nobody reads this")
warnings.warn("a\\nwarning")
try:
    1 / 0
except ZeroDivisionError as error:
    logging.exception(error)  # as pebble does
"""


def test_whatever_is_logged_is_a_line_of_json(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WRITERS, str(tmp_path / "runs")], capture_output=True, text=True, timeout=300, check=True
    )
    ours, uvicorns, warning, pebbles = map(json.loads, done.stdout.splitlines())
    assert (ours["logger"], ours["level"], ours["event"], ours["status"]) == ("unmask.web.api", "INFO", "ours", 200)
    assert (uvicorns["event"], uvicorns.keys()) == ("process [7]", {"time", "level", "logger", "event"})
    assert (warning["logger"], "a\nwarning" in warning["event"]) == ("py.warnings", True)
    assert pebbles["traceback"].endswith("ZeroDivisionError: division by zero")
    assert not done.stderr


def test_empty_hydra_log_is_removed(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-c", WRITERS, str(tmp_path / "runs")], capture_output=True, timeout=300, check=True
    )
    assert not (tmp_path / "runs" / "empty").exists()
    assert (tmp_path / "runs" / "full" / "serve.log").read_text() == "kept"


def test_log_line_has_utc_time() -> None:
    record = logging.makeLogRecord({"msg": "x", "created": 0.25, "msecs": 250.0})
    assert json.loads(JsonLines().format(record))["time"] == "1970-01-01T00:00:00.250Z"
