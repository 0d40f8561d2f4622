"""Images without Docker: a Dockerfile's stages, the steps of one in a clean environment, and its command."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

PLACES = re.compile(r"/(data|model|opt)(?=[/\"'\s]|$)")
"""The folders of an image that are given another place here."""


@dataclass
class Stage:
    """A stage of a Dockerfile, with what it inherits."""

    lines: list[tuple[str, str]] = field(default_factory=list)

    def all(self, word: str) -> list[str]:
        return [rest for instruction, rest in self.lines if instruction == word]

    @property
    def environment(self) -> dict[str, str]:
        return dict(pair.split("=", 1) for rest in self.all("ENV") for pair in shlex.split(rest))

    @property
    def copied(self) -> list[str]:
        return [source for rest in self.all("COPY") for source in shlex.split(rest)[:-1]]

    @property
    def port(self) -> str:
        return self.all("EXPOSE")[-1]

    @property
    def command(self) -> list[str]:
        return [str(argument) for argument in json.loads(self.all("CMD")[-1])]

    @property
    def health_check(self) -> list[str]:
        return [str(argument) for argument in json.loads(self.all("HEALTHCHECK")[-1].partition("CMD ")[2])]


def read_stages(path: Path) -> dict[str, Stage]:
    stages: dict[str, Stage] = {}
    text = path.read_text().replace("\\\n", " ")
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        word, rest = line.split(maxsplit=1)
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            current = stages[name or "only"] = Stage(list(stages[base].lines) if base in stages else [("FROM", base)])
        else:
            current.lines.append((word, rest))
    return stages


@dataclass(frozen=True)
class Image:
    """What the steps of a stage made in a folder: an environment, and the image's folders below `root`."""

    stage: Stage
    folder: Path

    @property
    def root(self) -> Path:
        return self.folder / "root"

    @property
    def packages(self) -> Path:
        (packages,) = (self.folder / "env").glob("lib/python*/site-packages")
        return packages

    @property
    def package_names(self) -> set[str]:
        return {path.name for path in self.packages.iterdir()}

    @property
    def num_bytes(self) -> int:
        """Size of the installed packages, without the tools of every environment."""
        return sum(
            path.stat().st_size for path in self.packages.rglob("*")
            if path.is_file() and not path.relative_to(self.packages).parts[0].startswith(("pip", "setuptools"))
        )  # fmt: skip

    @property
    def environment(self) -> dict[str, str]:
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "COV", "UNMASK"))}
        own = {key: self.place(value) for key, value in self.stage.environment.items()}
        return clean | own | {"PATH": f"{self.folder / 'env' / 'bin'}:{os.environ['PATH']}"}

    def place(self, text: str) -> str:
        """Name the folders here instead of those of the image."""
        return PLACES.sub(lambda found: str(self.root) + found.group(), text)


def build(stage: Stage, folder: Path, *, context: Path) -> Image:
    """Do the steps of a stage; the base image's Python and user are those of this machine.

    Args:
        stage: Of a Dockerfile.
        folder: Empty; it will hold the image.
        context: What the Dockerfile copies from.
    """
    image, workplace = Image(stage, folder), folder / "build"
    workplace.mkdir()
    for name in ("data", "opt"):
        (image.root / name).mkdir(parents=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder / "env")], check=True)
    for word, rest in stage.lines:
        if word == "COPY":
            *sources, target = shlex.split(rest)
            for source in sources:
                copy(context / source, workplace / image.place(target))
        if word == "RUN" and not rest.startswith("useradd "):
            run(image.place(rest), cwd=workplace, environment=image.environment)
    return image


def run(command: str, *, cwd: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(command, shell=True, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stderr}"


def copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "local"), dirs_exist_ok=True)
    else:
        shutil.copy(source, target)


@contextmanager
def start(image: Image, *, model: Path | None = None) -> Iterator[str]:
    """Run the image's command until its health check agrees, and give the address; on loopback and a free port.

    Args:
        image: From `build`.
        model: Folder of a bundle, mounted at `/model`.
    """
    if model and not (image.root / "model").exists():
        (image.root / "model").symlink_to(model, target_is_directory=True)
    port, free = image.stage.port, find_port()

    def translate(argument: str) -> str:
        argument = image.place(argument).replace("0.0.0.0", "127.0.0.1")
        return re.sub(rf"(^|[=:]){port}(?=/|$)", rf"\g<1>{free}", argument)

    log = image.folder / "log.txt"
    command = [translate(argument) for argument in image.stage.command]
    home, environment = image.root / "data", image.environment
    with log.open("w") as output:
        server = subprocess.Popen(
            command, cwd=home, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        check = [argument.replace(f":{port}/", f":{free}/") for argument in image.stage.health_check]
        for _ in range(1000):  # some minutes
            assert server.poll() is None, log.read_text()
            if subprocess.run(check, env=environment, capture_output=True, check=False).returncode == 0:
                break
            time.sleep(0.1)
        else:
            raise AssertionError(f"The health check never agreed.\n{log.read_text()}")
        yield f"http://127.0.0.1:{free}"
    finally:
        with suppress(ProcessLookupError):  # it ended by itself
            os.killpg(server.pid, signal.SIGTERM)  # MLflow's workers too
        server.wait(timeout=30)


def find_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
