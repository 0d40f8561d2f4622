"""The console script `unmask`: a sub-command for each task."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from unmask import __version__
from unmask.errors import suggest
from unmask.paths import CONSOLE_VARIABLE

COMMANDS = {
    "prepare": "turn videos or images into a face dataset",
    "train": "train a detector on a face dataset",
    "evaluate": "score a face dataset with a checkpoint and write a report",
    "predict": "judge images and videos",
    "serve": "serve the REST API and its page",
    "app": "open the web app: unmask app [bundle or checkpoint] [options of streamlit]",
    "ui": "open MLflow on the store that the runs went to",
    "demo": "draw, forge, prepare, train, evaluate and predict, without data or GPU",
}

WITHOUT_KEYS = ("app", "ui", "demo")
COMPLETION = ("-sc", "--shell-completion")


def main() -> None:
    """Run `unmask <command> ...`; exit code 2 where there is no such command."""
    name, arguments = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("--help", [])
    if name in ("--help", "-h", "help"):
        print(describe())
    elif name in ("--version", "-V", "version"):
        print(f"unmask {__version__}")
    elif name in COMPLETION:
        complete()
    elif name not in COMMANDS:
        hint = suggest(name, COMMANDS)
        print(f"Error: No command '{name}'.{hint} Choose one of: {', '.join(COMMANDS)}", file=sys.stderr)
        sys.exit(2)
    else:
        os.environ[CONSOLE_VARIABLE] = "1"
        sys.argv[1:] = arguments
        _find(name)()


def complete() -> None:
    """Answer `unmask -sc install=bash`, and what the shell asks after that; Hydra completes the keys of a command."""
    program, _, rest = os.environ.get("COMP_LINE", "").partition(" ")
    name, is_complete, line = rest.lstrip().partition(" ")
    if sys.argv[2:] == ["query=bash"] and not is_complete:
        print(" ".join(each for each in COMMANDS if each.startswith(name)))
    elif sys.argv[2:] != ["query=bash"]:
        _find("train")()  # the function to install is the same for all
    elif name in COMMANDS and name not in WITHOUT_KEYS:
        os.environ["COMP_LINE"] = f"{program} {line}"
        _find(name)()


def describe() -> str:
    """Return the commands, a line each."""
    lines = [f"  {name:<10}{text}" for name, text in COMMANDS.items()]
    return "\n".join(
        ["usage: unmask <command> ...", "", "commands:", *lines, "", "unmask <command> --help lists its keys."]
    )


def _find(name: str) -> Callable[[], None]:
    """Import a command, and let processes that start the program again, such as those of DDP, start the command."""
    if name == "app":
        return open_app
    sys.modules["__main__"].__spec__ = importlib.util.find_spec(f"unmask.cli.{name}")
    if name == "prepare":
        from unmask.cli.prepare import main
    elif name == "train":
        from unmask.cli.train import main
    elif name == "evaluate":
        from unmask.cli.evaluate import main
    elif name == "predict":
        from unmask.cli.predict import main
    elif name == "serve":
        from unmask.cli.serve import main
    elif name == "ui":
        from unmask.cli.serve import open_ui as main
    else:
        from unmask.cli.demo import main
    return main


def open_app() -> None:
    """Run the web app on loopback, and end with its exit code."""
    options = [text for text in sys.argv[1:] if text.startswith("--")]
    given = [text.removeprefix("checkpoint=") for text in sys.argv[1:] if not text.startswith("--")]
    page = Path(__file__).parents[1] / "web" / "app" / "main.py"
    command = [sys.executable, "-m", "streamlit", "run", str(page), "--server.address", "127.0.0.1", *options]
    try:
        sys.exit(subprocess.call([*command, "--", *given]))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
