"""Run the fast tests on other Pythons, and with other versions of what Unmask depends on.

    python tests/pythons.py locked    # on every supported Python that is found, with the versions of requirements.lock
    python tests/pythons.py latest    # on the newest Python, with the newest versions that pyproject.toml allows
    python tests/pythons.py lowest    # on the oldest Python, with the oldest versions
    python tests/pythons.py smoke     # prepares, trains and predicts on the newest Python other than this one

Further arguments go to pytest: `python tests/pythons.py locked -x tests/media`. `--only 3.12` leaves the other Pythons
out. Every run has an environment of its own in the checkout (`.venv-3.12`, `.venv-3.11-lowest`), whose files uv links
from its cache, so that a further one costs little time and disk.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
RESOLUTIONS = {"latest": "highest", "lowest": "lowest-direct"}
SMOKE_SECONDS = 240  # for each of its commands


@dataclass(frozen=True)
class Interpreter:
    """A Python that was found.

    Args:
        version: Minor version, such as `3.12`.
        path: The executable.
    """

    version: str
    path: Path


def main() -> None:
    """Run what the command line asks for; the exit code is 1 where something failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["locked", *RESOLUTIONS, "smoke"])
    parser.add_argument("--only", metavar="3.x", choices=list_supported(), help="leave the other Pythons out")
    asked, options = parser.parse_known_args()
    wanted = [asked.only] if asked.only else list_supported()
    found = [interpreter for version in wanted if (interpreter := find_interpreter(version))]
    missing = sorted(set(wanted) - {interpreter.version for interpreter in found}, key=wanted.index)
    outcomes = [run(asked.what, interpreter, options) for interpreter in choose(asked.what, found)]
    print("\n" + "\n".join(line for line, _ in outcomes))
    for version in missing:
        print(f"Python {version}: not found")
    if not outcomes:
        print("Nothing was run: no supported Python was found" + (" beside this one." if found else "."))
    sys.exit(not all(passed for _, passed in outcomes))


def choose(what: str, found: Sequence[Interpreter]) -> list[Interpreter]:
    """Return the interpreters to run on.

    Args:
        what: As on the command line.
        found: Oldest first.
    """
    if what == "smoke":
        running = "{}.{}".format(*sys.version_info)
        return [interpreter for interpreter in found if interpreter.version != running][-1:]
    return {"locked": list(found), "latest": list(found[-1:]), "lowest": list(found[:1])}[what]


def run(what: str, interpreter: Interpreter, options: Sequence[str]) -> tuple[str, bool]:
    """Build an environment and run in it; return a line about it and whether all went well."""
    print(f"\n== Python {interpreter.version}, {what}: {interpreter.path}", flush=True)
    start = time.monotonic()
    try:
        environment = install_resolved(interpreter, what) if what in RESOLUTIONS else install_locked(interpreter)
        passed = smoke(environment) if what == "smoke" else run_tests(environment, options)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        print(error)
        passed = False
    word = "passed" if passed else "FAILED"
    return f"Python {interpreter.version}, {what}: {word} after {time.monotonic() - start:.0f} s", passed


def list_supported() -> list[str]:
    """Return the minor versions that the project names, oldest first."""
    prefix = "Programming Language :: Python :: "
    return [line.removeprefix(prefix) for line in PROJECT["project"]["classifiers"] if line.startswith(prefix)]


def find_interpreter(version: str) -> Interpreter | None:
    """Look for a Python on the PATH, among those of pyenv, and among those that uv knows."""
    for path in list_candidates(version):
        code = "import sys; print(*sys.version_info[:2], sep='.')"
        try:
            done = subprocess.run([path, "-c", code], capture_output=True, text=True, timeout=60, check=False)
        except OSError:
            continue
        if done.stdout.strip() == version:  # a shim of pyenv may stand for a version that is not chosen
            return Interpreter(version, path)
    return None


def list_candidates(version: str) -> Iterator[Path]:
    """Yield where a Python may be."""
    if on_path := shutil.which(f"python{version}"):
        yield Path(on_path)
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    yield from sorted(pyenv.glob(f"{version}.*/bin/python"), key=lambda path: (len(str(path)), path), reverse=True)
    command = [find_uv(), "python", "find", "--system", "--no-python-downloads", "--no-config", version]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode == 0:
        yield Path(done.stdout.strip())


def find_uv() -> str:
    """Return the uv of this environment, or the one on the PATH."""
    beside = Path(sys.executable).with_name("uv")
    return str(beside) if beside.exists() else "uv"


def install_locked(interpreter: Interpreter) -> Path:
    """Build an environment as `make setup` does, with the locked versions."""
    environment = REPOSITORY / f".venv-{interpreter.version}"
    call("make", "--no-print-directory", "setup", f"VENV={environment.name}", f"PYTHON={interpreter.path}")
    return environment


def install_resolved(interpreter: Interpreter, what: str) -> Path:
    """Build an environment as pip would: without the lock, and without the overrides of [tool.uv], which pip ignores.

    What the overrides are for is installed afterwards, as the comments of pyproject.toml tell a user to.
    """
    environment = REPOSITORY / f".venv-{interpreter.version}-{what}"
    uv, plain = find_uv(), ["--no-config", "--resolution", RESOLUTIONS[what]]
    into = ["--no-config", "--quiet", "--python", str(environment / "bin" / "python")]
    call(uv, "venv", "--no-config", "--quiet", "--clear", "--seed", "--python", str(interpreter.path), str(environment))
    with tempfile.TemporaryDirectory() as folder:
        chosen = Path(folder) / "requirements.txt"
        wanted = ["pyproject.toml", "--extra", "sweep", "--group", "dev", "--python", str(interpreter.path)]
        call(uv, "pip", "compile", *plain, "--quiet", "--no-annotate", *wanted, "-o", str(chosen))
        call(uv, "pip", "install", *into, "-r", str(chosen))
    (optuna,) = (text for text in PROJECT["tool"]["uv"]["override-dependencies"] if text.startswith("optuna"))
    call(uv, "pip", "install", *into, "--resolution", RESOLUTIONS[what], "--upgrade-package", "optuna", optuna)
    call(uv, "pip", "install", *into, "--no-deps", *PROJECT["dependency-groups"]["retinaface"])
    call(uv, "pip", "install", *into, "--no-deps", "--no-build-isolation", "--editable", ".")
    call(str(environment / "bin" / "python"), "-m", "unmask.faces.retinaface_mobilenet")
    return environment


def run_tests(environment: Path, options: Sequence[str]) -> bool:
    """Run the fast tests in an environment."""
    command = ["-m", "pytest", "-m", "not slow and not gpu", "-n", "2", "--dist", "loadgroup", "--max-worker-restart=0"]
    done = subprocess.run([environment / "bin" / "python", *command, *options], cwd=REPOSITORY, check=False)
    return done.returncode == 0


def smoke(environment: Path) -> bool:
    """Prepare drawn videos, train a small network on them for an epoch, and predict one of them."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        drawn, faces, trained = home / "drawn", home / "faces", home / "train"
        drawing = ["source=synthetic", f"source.root={drawn}", "source.num_identities=6", "source.num_frames=8"]
        training = [f"dataset.root={faces}", "model=tiny", "trainer.max_epochs=1", "dataset.num_workers=2"]
        ask(environment, home, "prepare", *drawing, f"output={faces}", "crop.num_frames=4")
        ask(environment, home, "train", *training, f"hydra.run.dir={trained}")
        clip = min(drawn.rglob("*.mp4"))
        for model in (trained / "checkpoints" / "best.ckpt", trained / "bundle"):
            ask(environment, home, "predict", f"checkpoint={model}", str(clip), f"hydra.run.dir={home / 'run'}")
            (prediction,) = json.loads((home / "run" / "predictions.json").read_text())
            if prediction["error"] or not prediction["faces"]:
                print(f"'{clip.name}' was not judged by {model.name}: {prediction['error'] or prediction['verdict']}")
                return False
    return True


def ask(environment: Path, home: Path, command: str, *arguments: str) -> None:
    """Run a command of Unmask whose files go into a folder."""
    program = environment / "bin" / "unmask"
    own = os.environ | {"UNMASK_HOME": str(home)}
    subprocess.run([program, command, *arguments], cwd=home, env=own, timeout=SMOKE_SECONDS, check=True)


def call(*command: str) -> None:
    """Run a command in the checkout."""
    subprocess.run(command, cwd=REPOSITORY, check=True)


if __name__ == "__main__":
    main()
