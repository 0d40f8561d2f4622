import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[1]
HEAVY = ("torch", "torchvision", "lightning", "mlflow", "streamlit", "pandas", "sklearn", "timm", "onnx")
MAX_MEGABYTES = 700


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


STAGES = {
    **{f"Dockerfile {name}": stage for name, stage in read_stages(REPOSITORY / "Dockerfile").items()},
    "spaces": read_stages(REPOSITORY / "spaces" / "Dockerfile")["only"],
}
SERVING = [name for name in STAGES if name != "Dockerfile base"]


@pytest.mark.parametrize("name", SERVING)
def test_every_image_is_slim_and_runs_as_nobody_special(name: str) -> None:
    stage = STAGES[name]
    assert stage.all("FROM") == ["python:3.11-slim"]
    assert stage.all("USER") == ["unmask"]
    assert [word for word, _ in stage.lines].index("USER") > max(
        place for place, (word, _) in enumerate(stage.lines) if word == "RUN"
    )
    assert json.loads(stage.all("CMD")[-1])


@pytest.mark.parametrize("name", ["Dockerfile api", "Dockerfile app", "Dockerfile mlflow"])
def test_every_service_has_a_health_check_on_its_port(name: str) -> None:
    port = STAGES[name].all("EXPOSE")[0]
    assert f"http://127.0.0.1:{port}/" in STAGES[name].all("HEALTHCHECK")[0]
    assert any(port in argument for argument in json.loads(STAGES[name].all("CMD")[-1]))


@pytest.mark.parametrize("name", SERVING)
def test_copied_files_exist_and_are_sent_to_the_builder(name: str) -> None:
    allowed = [line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for source in STAGES[name].copied:
        if (name, source) != ("spaces", "bundle"):  # the Space's own, see assemble.py
            assert (REPOSITORY / source).exists(), source
            assert any(Path(source).match(pattern) for pattern in allowed), source


def test_nothing_that_ships_names_an_index() -> None:
    paths = ("Dockerfile", "compose.yaml", "spaces/Dockerfile", "requirements-serve.lock", "requirements-mlflow.lock")
    for path in paths:
        text = (REPOSITORY / path).read_text()
        assert not re.search(r"--(extra-)?index-url|--find-links|--trusted-host|(?<![\d.])/simple", text), path


@pytest.mark.parametrize("group", ["serve", "app", "mlflow"])
def test_locks_of_the_images_are_pinned_hashed_and_of_the_one_lock(group: str) -> None:
    whole = set(re.findall(r"^(\S+==\S+)", (REPOSITORY / "requirements.lock").read_text(), re.MULTILINE))
    text = (REPOSITORY / f"requirements-{group}.lock").read_text()
    entries = re.split(r"^(?=[^\s#])", text, flags=re.MULTILINE)[1:]
    assert len(entries) > 30
    for entry in entries:
        assert re.search(r"^\s+--hash=sha256:[0-9a-f]{64}", entry, re.MULTILINE), entry.splitlines()[0]
        assert entry.split()[0] in whole
    names = {entry.split("==")[0] for entry in entries}
    needed = {"app": {"streamlit", "pandas"}, "mlflow": {"mlflow", "pandas"}}.get(group, set())
    assert not names & (set(HEAVY) - needed)


def test_compose_has_the_api_the_app_and_mlflow_on_loopback() -> None:
    compose = yaml.safe_load((REPOSITORY / "compose.yaml").read_text())
    assert set(compose["services"]) == {"api", "app", "mlflow"}
    for name, service in compose["services"].items():
        stage = STAGES[f"Dockerfile {service['build']['target']}"]
        (port,) = service["ports"]
        assert port == f"127.0.0.1:{stage.all('EXPOSE')[0]}:{stage.all('EXPOSE')[0]}", name
        for volume in service["volumes"]:
            source = volume.rsplit(":/", 1)[0]
            assert source.startswith("${BUNDLE:?") or source in compose["volumes"], volume


def test_a_space_is_assembled_whole(tmp_path: Path) -> None:
    bundle, space = tmp_path / "bundle", tmp_path / "space"
    bundle.mkdir()
    script = [sys.executable, str(REPOSITORY / "spaces" / "assemble.py"), str(bundle), str(space)]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "is no bundle: it has no 'model.onnx'" in done.stderr
    for name in ("model.onnx", "spec.json"):
        (bundle / name).write_text(name)
    subprocess.run(script, check=True)
    assert all((space / source).exists() for source in STAGES["spaces"].copied)
    assert "lfs" in (space / ".gitattributes").read_text()
    _, front, text = (space / "README.md").read_text().split("---\n", 2)
    matter = yaml.safe_load(front)
    assert matter["sdk"] == "docker"
    assert STAGES["spaces"].all("EXPOSE") == [str(matter["app_port"])]
    assert len(matter["short_description"]) <= 60
    assert text.strip()


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the steps of the API's stage make, in an environment instead of an image; there is no Docker here."""
    folder, stage = tmp_path_factory.mktemp("image"), STAGES["Dockerfile api"]
    build = folder / "build"
    build.mkdir()
    subprocess.run([sys.executable, "-m", "venv", str(folder / "env")], check=True)
    environment = make_environment(folder, stage)
    for word, rest in stage.lines:
        if word == "COPY":
            *sources, target = shlex.split(rest)
            for source in sources:
                copy(REPOSITORY / source, build / target)
        if word == "RUN" and rest.startswith("python "):
            command = rest.replace("/opt/weights", environment["UNMASK_CACHE"])
            done = subprocess.run(
                command, shell=True, cwd=build, env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{rest}\n{done.stderr}"
    return folder


def make_environment(folder: Path, stage: Stage) -> dict[str, str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "COV", "UNMASK"))}
    places = {"UNMASK_CACHE": str(folder / "weights"), "UNMASK_HOME": str(folder / "data")}
    return clean | stage.environment | places | {"PATH": f"{folder / 'env' / 'bin'}:{os.environ['PATH']}"}


def copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "local"))
    else:
        shutil.copy(source, target)


@pytest.mark.slow
def test_installed_packages_stay_small_and_free_of_training(image: Path) -> None:
    (packages,) = (image / "env").glob("lib/python*/site-packages")
    tools = ("pip", "setuptools")  # of every environment
    size = sum(
        path.stat().st_size for path in packages.rglob("*")
        if path.is_file() and not path.relative_to(packages).parts[0].startswith(tools)
    )  # fmt: skip
    assert 50e6 < size < MAX_MEGABYTES * 1e6, f"{size / 1e6:.0f} MB"
    found = {path.name for path in packages.iterdir()}
    assert not found & set(HEAVY)
    assert {"unmask", "onnxruntime"} <= found


@pytest.fixture
def service(image: Path, checkpoint: Path, tmp_path: Path) -> Iterator[str]:
    """The address of the service, started by the image's command on a bundle."""
    command = json.loads(STAGES["Dockerfile api"].all("CMD")[-1])
    places = {"checkpoint=/model": f"checkpoint={checkpoint.parents[1] / 'bundle'}", "host=0.0.0.0": "host=127.0.0.1"}
    command = [places.get(argument, argument).replace("port=8000", "port=0") for argument in command]
    environment = make_environment(image, STAGES["Dockerfile api"]) | {"UNMASK_HOME": str(tmp_path)}
    environment["PYTHONUNBUFFERED"] = "1"
    command[0] = str(image / "env" / "bin" / command[0])
    log = tmp_path / "log.txt"
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        address = None
        for _ in range(300):
            assert process.poll() is None, log.read_text()
            found = re.search(r"http://127\.0\.0\.1:\d+", log.read_text())
            address = found.group() if found else None
            if address and is_ready(address):
                break
            time.sleep(0.1)
        assert address is not None, log.read_text()
        yield address
    finally:
        process.terminate()
        process.wait(timeout=30)


def is_ready(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.mark.slow
def test_the_image_answers_for_a_picture(
    service: str, tmp_path: Path, synthetic_root: Path, make_form: Callable[..., tuple[bytes, str]]
) -> None:
    from unmask.media.picture import encode_jpeg
    from unmask.media.video import read_frames

    clip = next((synthetic_root / "original_sequences").rglob("*.mp4"))
    picture = encode_jpeg(next(read_frames(clip, num_frames=1)).image, quality=95)
    check = STAGES["Dockerfile api"].all("HEALTHCHECK")[0].partition("CMD ")[2]
    code = json.loads(check)[2].replace("http://127.0.0.1:8000", service)
    subprocess.run([sys.executable, "-c", code], check=True)
    body, kind = make_form("files", "photo.jpg", picture)
    request = urllib.request.Request(f"{service}/v1/images", data=body, headers={"Content-Type": kind})
    with urllib.request.urlopen(request, timeout=60) as answer:
        said = json.load(answer)
    assert re.search(r'"verdict": "(real|fake|uncertain)"', json.dumps(said)), said


@pytest.fixture
def make_form() -> Callable[..., tuple[bytes, str]]:
    def make(field_name: str, file_name: str, data: bytes) -> tuple[bytes, str]:
        boundary = uuid.uuid4().hex
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="{field_name}"; filename="{file_name}"\r\n'
            f"Content-Type: image/jpeg\r\n\r\n"
        )
        return head.encode() + data + f"\r\n--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"

    return make
