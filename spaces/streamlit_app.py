"""The web app for Streamlit Community Cloud, in a folder created by `assemble.py`; Unmask is not installed there."""

import os
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
SOURCES = str(FOLDER / "src")
if SOURCES not in sys.path:  # Streamlit reruns this file on every interaction
    sys.path.insert(0, SOURCES)
os.environ.setdefault("UNMASK_CHECKPOINT", str(FOLDER / "bundle"))
os.environ.setdefault("UNMASK_CACHE", str(FOLDER / "weights"))
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from unmask.web.app.main import main  # noqa: E402

main()
