import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from tests.images import Image, build, read_stages, start

REPOSITORY = Path(__file__).parents[1]
HEAVY = ("torch", "torchvision", "lightning", "mlflow", "streamlit", "pandas", "sklearn", "timm", "onnx")
MAX_MEGABYTES = 700
ASSEMBLE = (sys.executable, str(REPOSITORY / "spaces" / "assemble.py"))
CHROMIUM = shutil.which("chromium")

STAGES = {
    **{f"Dockerfile {name}": stage for name, stage in read_stages(REPOSITORY / "Dockerfile").items()},
    "spaces": read_stages(REPOSITORY / "spaces" / "Dockerfile")["only"],
}
SERVING = [name for name in STAGES if name != "Dockerfile base"]


@pytest.mark.parametrize("name", SERVING)
def test_every_image_is_slim_and_runs_as_nobody_special(name: str) -> None:
    stage = STAGES[name]
    assert stage.all("FROM") == ["python:3.11-slim"]
    assert stage.all("USER") == ["1000"]  # by number: Kubernetes cannot tell that a name is not root
    assert [word for word, _ in stage.lines].index("USER") > max(
        place for place, (word, _) in enumerate(stage.lines) if word == "RUN"
    )
    assert json.loads(stage.all("CMD")[-1])


@pytest.mark.parametrize("name", ["Dockerfile api", "Dockerfile app", "Dockerfile mlflow"])
def test_every_service_has_a_health_check_on_its_port(name: str) -> None:
    port = STAGES[name].all("EXPOSE")[0]
    assert f"http://127.0.0.1:{port}/" in STAGES[name].all("HEALTHCHECK")[0]
    assert any(port in argument for argument in json.loads(STAGES[name].all("CMD")[-1]))


@pytest.mark.parametrize("name", ["Dockerfile api", "Dockerfile app", "spaces", "Dockerfile mlflow"])
def test_no_image_reports_its_use_to_anybody(name: str) -> None:
    key = "MLFLOW_DISABLE_TELEMETRY" if name.endswith("mlflow") else "ORT_DISABLE_TELEMETRY"
    assert STAGES[name].environment[key] in ("1", "true")


@pytest.mark.parametrize("name", SERVING)
def test_copied_files_exist_and_are_sent_to_the_builder(name: str) -> None:
    allowed = [line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for source in STAGES[name].copied:
        if name != "spaces" or source not in ("bundle", "weights"):  # the Space's own, see assemble.py
            assert (REPOSITORY / source).exists(), source
            assert any(Path(source).match(pattern) for pattern in allowed), source


def test_nothing_that_ships_names_an_index() -> None:
    locks = [f"requirements-{group}.lock" for group in ("serve", "app", "mlflow")]
    for path in ("Dockerfile", "compose.yaml", "spaces/Dockerfile", *locks):
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


def test_only_a_bundle_makes_a_space(tmp_path: Path) -> None:
    done = subprocess.run(
        [*ASSEMBLE, str(tmp_path), str(tmp_path / "space")], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode != 0
    assert "is not a bundle: it has no 'model.onnx'" in done.stderr
    assert not (tmp_path / "space").exists()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What `assemble.py` copies, without the code: a checkout that may be lost."""
    checkout = tmp_path / "checkout"
    shutil.copytree(REPOSITORY / "spaces", checkout / "spaces")
    for name in (
        "src/unmask/web/app/.streamlit/config.toml",
        "configs/paths.yaml",
        "bundle/model.onnx",
        "bundle/spec.json",
    ):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text(name)
    for name in ("pyproject.toml", "LICENSE", "requirements-app.lock", ".gitignore"):
        (checkout / name).write_text(name)
    return checkout


def assemble(checkout: Path, bundle: str, folder: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "spaces/assemble.py", bundle, folder]
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True, timeout=300, check=False)


def read_all(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("bundle", "folder", "lost"),
    [
        ("bundle", ".", ""),
        ("bundle", "../link", ""),
        ("bundle", "..", ""),  # the checkout is called src here
        ("bundle", "src", "src"),
        ("bundle", "src/unmask/space", "src"),
        ("bundle", "configs", "configs"),
        ("bundle", "spaces", "spaces/README.md"),
        ("../space/bundle", "../space", "bundle/model.onnx"),
        ("../space/src/bundle", "../space", "src/bundle/model.onnx"),
    ],
)
def test_a_space_is_not_written_over_what_it_is_made_of(checkout: Path, bundle: str, folder: str, lost: str) -> None:
    checkout = checkout.rename(checkout.with_name("src"))
    (checkout.parent / "link").symlink_to(checkout)
    if bundle.startswith(".."):
        shutil.copytree(checkout / "bundle", checkout / bundle)
    before = read_all(checkout.parent)
    done = assemble(checkout, bundle, folder)
    assert read_all(checkout.parent) == before
    assert done.returncode == 1
    assert f"'{folder}' cannot be the folder of a Space: writing it would remove or overwrite" in done.stderr
    assert f"{lost}'. Nothing was changed" in done.stderr
    assert "python spaces/assemble.py <bundle> ../my-space" in done.stderr


@pytest.mark.parametrize("folder", ["../my-space", "outputs/my-space"])
def test_a_space_may_lie_beside_the_checkout_or_in_a_folder_of_it_that_is_not_copied(
    checkout: Path, folder: str
) -> None:
    before = read_all(checkout)
    for _ in range(2):
        done = assemble(checkout, "bundle", folder)
        assert done.returncode == 0, done.stderr
    assert read_all(checkout).items() >= before.items()
    assert (checkout / folder / "src/unmask/web/app/.streamlit/config.toml").is_file()


@pytest.fixture
def space(tmp_path: Path) -> Path:
    """The folder of a Space, assembled twice, with a bundle in name alone."""
    bundle, space = tmp_path / "bundle", tmp_path / "space"
    bundle.mkdir()
    for name in ("model.onnx", "spec.json"):
        (bundle / name).write_text(name)
    subprocess.run([*ASSEMBLE, str(bundle), str(space)], timeout=300, check=True)
    (space / ".streamlit" / "secrets.toml").write_text("kept")
    (space / "src" / "gone.py").write_text("")
    subprocess.run([*ASSEMBLE, str(bundle), str(space)], timeout=300, check=True)
    return space


def test_a_space_is_assembled_whole_and_anew(space: Path) -> None:
    assert all((space / source).exists() for source in STAGES["spaces"].copied)
    assert (space / ".streamlit" / "secrets.toml").read_text() == "kept"
    assert not (space / "src" / "gone.py").exists()
    assert "*.onnx filter=lfs" in (space / ".gitattributes").read_text()
    _, front, text = (space / "README.md").read_text().split("---\n", 2)
    matter = yaml.safe_load(front)
    assert matter["sdk"] == "docker"
    assert STAGES["spaces"].port == str(matter["app_port"])
    assert len(matter["short_description"]) <= 60
    assert text.strip()


def test_a_space_has_what_streamlit_community_cloud_looks_for(space: Path) -> None:
    assert (space / ".streamlit" / "config.toml").is_file()
    required = (space / "requirements.txt").read_text().split()
    assert required == ["-r", "requirements-app.lock"]
    assert (space / required[1]).is_file()
    code = "import os, runpy; runpy.run_path('streamlit_app.py'); import unmask; print(unmask.__file__)"
    code += "; print(os.environ['UNMASK_CHECKPOINT']); print(*os.listdir(os.environ['UNMASK_CACHE']))"
    clean = {key: value for key, value in os.environ.items() if not key.startswith("UNMASK_")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=space, env=clean, capture_output=True, text=True, timeout=300, check=True
    )
    file, checkpoint, weights = done.stdout.splitlines()[-3:]
    assert file == str(space / "src" / "unmask" / "__init__.py")
    assert checkpoint == str(space / "bundle")
    assert weights == "retinaface_mobilenet025.onnx"


def test_a_space_is_made_by_the_steps_of_the_app() -> None:
    space, app = STAGES["spaces"], STAGES["Dockerfile app"]
    for word in ("ENV", "USER", "WORKDIR"):
        assert space.all(word) == app.all(word)
    assert space.all("RUN") == [step for step in app.all("RUN") if "unmask.faces.retinaface_mobilenet" not in step]
    assert space.all("COPY") == [*app.all("COPY"), "weights /opt/weights", "bundle /model"]
    # In the frame that a Space is shown in, browsers withhold the cookie that uploads need.
    moved = [argument.replace(app.port, space.port) for argument in app.command]
    assert space.command == [*moved, "--server.enableXsrfProtection", "false"]


@pytest.fixture
def image(request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Image]:
    """What the steps of a stage make, in an environment instead of an image; there is no Docker here."""
    folder = tmp_path / "image"
    folder.mkdir()
    began = time.monotonic()
    image = build(STAGES[request.param], folder, context=REPOSITORY)
    with capsys.disabled():
        megabytes, seconds = image.num_bytes / 1e6, time.monotonic() - began
        sys.stdout.write(f" {request.param}: {megabytes:.0f} MB of packages, installed in {seconds:.0f} s ")
    yield image
    shutil.rmtree(folder)  # pytest keeps its folders, and three of these are two gigabytes


@pytest.fixture
def photo(synthetic_root: Path, tmp_path: Path) -> Path:
    from unmask.media.image import write_jpeg
    from unmask.media.video import read_frames

    clip = next((synthetic_root / "original_sequences").rglob("*.mp4"))
    write_jpeg(tmp_path / "photo.jpg", next(read_frames(clip, num_frames=1)).image, quality=95)
    return tmp_path / "photo.jpg"


@pytest.mark.slow
@pytest.mark.parametrize("image", ["Dockerfile api"], indirect=True)
def test_the_image_of_the_api_is_small_and_answers_for_a_photo(
    image: Image, checkpoint: Path, photo: Path, make_form: Callable[..., tuple[bytes, str]]
) -> None:
    assert 50e6 < image.num_bytes < MAX_MEGABYTES * 1e6
    assert not image.package_names & set(HEAVY)
    assert {"unmask", "onnxruntime"} <= image.package_names
    with start(image, model=checkpoint.parents[1] / "bundle") as address:
        wait_for(f"{address}/readyz")
        body, kind = make_form("files", "photo.jpg", photo.read_bytes())
        request = urllib.request.Request(f"{address}/v1/images", data=body, headers={"Content-Type": kind})
        with urllib.request.urlopen(request, timeout=60) as answer:
            said = json.load(answer)
    assert re.search(r'"verdict": "(real|fake|uncertain)"', json.dumps(said)), said


def wait_for(url: str) -> None:
    for _ in range(300):
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"{url} never answered well")


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium here")
@pytest.mark.parametrize("image", ["Dockerfile app"], indirect=True)
def test_the_image_of_the_app_judges_a_photo_in_a_browser(image: Image, checkpoint: Path, photo: Path) -> None:
    assert not image.package_names & (set(HEAVY) - {"streamlit", "pandas"})
    with start(image, model=checkpoint.parents[1] / "bundle") as address:
        assert re.search("Real|Fake|Uncertain", ask_app(address, photo))


def ask_app(address: str, photo: Path) -> str:
    """Give the app a photo in a browser and read its verdict."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.goto(address)
        page.locator("input[type=file]").set_input_files(photo)
        verdict = page.locator("[class*=st-key-verdict]").get_by_role("heading").first.inner_text(timeout=60_000)
        browser.close()
    return verdict


@pytest.mark.slow
@pytest.mark.parametrize("image", ["Dockerfile mlflow"], indirect=True)
def test_the_image_of_mlflow_keeps_a_run_and_answers_to_its_own_names_alone(image: Image) -> None:
    from mlflow import MlflowClient

    assert not image.package_names & (set(HEAVY) - {"mlflow", "pandas", "sklearn"})
    with start(image) as address:
        client = MlflowClient(address)
        run_id = client.create_run(client.create_experiment("shipping")).info.run_id
        client.log_metric(run_id, "val/auroc", 0.5)
        client.log_text(run_id, "kept", "note.txt")
        assert client.get_run(run_id).data.metrics == {"val/auroc": 0.5}
        assert [file.path for file in client.list_artifacts(run_id)] == ["note.txt"]
        foreign = urllib.request.Request(f"{address}/", headers={"Host": "unmask.example"})
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(foreign, timeout=5)
    assert (image.root / "data" / "mlflow.db").is_file()
    assert list((image.root / "data" / "mlartifacts").rglob("note.txt"))


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
