import ast
import re
import runpy
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import train_tiny
from tests.prepared import lay_out_prepared
from tests.published import lay_out_published

from unmask.media.image import write_jpeg
from unmask.media.video import read_frames

REPOSITORY = Path(__file__).parents[1]
DOCUMENTS = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
SCRIPTS = ["prepare.py", "train.py", "evaluate.py", "predict.py", "serve.py"]

# What makes a command small enough for a test; it replaces the same choice of a group, and wins over the same key.
SMALL = {
    "prepare.py": ["crop.num_frames=2", "crop.crop_size=64", "num_workers=0"],
    "train.py": ["model=tiny", "debug=fast", "trainer.max_epochs=1", "trainer.accelerator=cpu"],
    "evaluate.py": ["device=cpu"],
    "predict.py": ["device=cpu", "num_frames=2"],
}
# The same without debug=fast, which tracks nothing.
TRACKED = [
    "model=tiny", "trainer.max_epochs=1", "trainer.accelerator=cpu", "trainer.limit_train_batches=2",
    "trainer.limit_val_batches=2", "dataset.num_workers=0", "dataset.batch_size=8",
]  # fmt: skip
SMALL_SOURCES = {
    "synthetic": ["source.num_identities=6", "source.num_frames=2", "source.size=128"],
    "forge": ["source.num_frames=2"],
}


PUBLISHED = {
    "/data/Celeb-DF-v2": "celebdf", "/data/Celeb-DF++": "celebdfpp", "/data/dfdc_preview_set": "dfdc_preview",
    "/data/DeeperForensics-1.0": "deeperforensics", "/data/UADFV": "uadfv", "/data/DFDM": "dfdm",
    "/data/FFIW10K": "ffiw", "/data/FakeAVCeleb_v1.2": "fakeavceleb",
}  # fmt: skip


READS = ("source.root", "source.lists", "source.ffpp_root", "source.celebdf_root", "dataset.root", "checkpoint")
"""Keys whose value is one of the places above."""


def find_blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), flags=re.MULTILINE | re.DOTALL)


def find_commands() -> list[str]:
    """List the shell lines of every document, and those in the docstrings of the scripts."""
    text = "\n".join(block for path in DOCUMENTS for block in find_blocks(path, "bash")).replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    for name in SCRIPTS:
        docstring = ast.get_docstring(ast.parse((REPOSITORY / name).read_text())) or ""
        lines += [line for line in docstring.splitlines() if line.startswith("python ")]
    return list(dict.fromkeys(lines))


COMMANDS = find_commands()
RUNS = [command for command in COMMANDS if re.match(r"(\w+=\S+ )?python ", command)]
SLOW = [command for command in RUNS if "hydra/launcher=" in command or "sweep=" in command]


@pytest.fixture
def places(in_folder: Path, synthetic_root: Path, face_dataset: Path, checkpoint: Path) -> dict[str, Path]:
    """What the paths in the documents stand for; the files that are predicted lie in the current folder."""
    clips = sorted((synthetic_root / "original_sequences/youtube/c23/videos").glob("*.mp4"))
    photographs = in_folder / "photographs"
    labelled = in_folder / "labelled"
    prepared = lay_out_prepared(in_folder / "prepared", [next(read_frames(clip, num_frames=1)).image for clip in clips])
    for number, clip in enumerate(clips):
        image = next(read_frames(clip, num_frames=1)).image
        write_jpeg(photographs / f"{number}.jpg", image, quality=95)
        for label in ("real", "fake"):
            write_jpeg(labelled / label / f"{number}.jpg", image, quality=95)
    for path in (Path("clip.mp4"), Path("my clips/a=b.mp4")):
        path.parent.mkdir(exist_ok=True)
        shutil.copy(clips[0], path)
    for path in (Path("photo.jpg"), Path("-odd=name.jpg"), Path("folder/photo.jpg")):
        path.parent.mkdir(exist_ok=True)
        shutil.copy(photographs / "0.jpg", path)
    published = lay_out_published(in_folder / "published", clips)
    trained = ["best.ckpt", *(f"outputs/train/{run}/checkpoints/best.ckpt" for run in ("<run>", "first"))]
    return {
        "/data/FaceForensics++": synthetic_root,
        "/data/photographs": photographs,
        **{place: published[name] for place, name in PUBLISHED.items()},
        "/data/photos": labelled,
        **{f"/data/{name}": path for name, path in prepared.items()},
        "/data/DF40": prepared["rgb"],
        **dict.fromkeys(("data/ffpp-c23", "data/celebdf", "data/synthetic-faces"), face_dataset),
        **dict.fromkeys(trained, checkpoint),
        **{f"outputs/train/{run}/bundle": checkpoint.parents[1] / "bundle" for run in ("<run>", "first")},
        **{path.replace("best", "last"): checkpoint.with_name("last.ckpt") for path in trained},
    }


def substitute(argument: str, places: dict[str, Path]) -> str:
    key, _, value = argument.partition("=")
    reads = key in READS and not value.startswith("models:/")
    return f"{key}={places[value]}" if reads else argument


def shrink(script: str, arguments: list[str], places: dict[str, Path]) -> list[str]:
    if any(argument.startswith(("reproduce=", "resume_sweep=", "task=send")) for argument in arguments):
        return arguments  # what these go back to was small
    if "task=repair" in arguments or "task=explore" in arguments:
        return [arguments[0], f"output={places['data/ffpp-c23']}"]
    if script == "serve.py":
        return [*arguments, "--cfg", "job"]  # it would serve for ever; tests/web/api/test_server.py starts it
    is_tracked = any(argument.startswith(("register=", "sweep=")) for argument in arguments)
    small = list(TRACKED if is_tracked and script == "train.py" else SMALL[script])
    if any(argument.startswith("sweep=") for argument in arguments):
        small.append("hydra.sweeper.n_trials=2")
    if "task=robustness" in arguments:
        small += ["robustness.limit=1", "robustness.levels=[5]"]
    if script == "prepare.py":
        source = next(argument for argument in arguments if argument.startswith("source=")).partition("=")[2]
        small += SMALL_SOURCES.get(source, [])
        if source == "ffpp" and "source.splits=null" not in arguments:
            small.append(f"source.splits={places['/data/FaceForensics++'] / 'splits'}")  # the official ones name others
        if any(argument == "source.compression=c40" for argument in arguments):
            small.append("source.compression=c23")
    if any(argument.startswith("resume=") for argument in arguments):
        return [*(text for text in arguments if "max_epochs" not in text), "trainer.max_epochs=3"]  # the rest is small
    groups = {argument.partition("=")[0] for argument in small if "." not in argument.partition("=")[0]}
    groups.add("hydra.sweeper.n_trials")
    kept = [argument for argument in arguments if argument.partition("=")[0] not in groups]
    end = kept.index("--") if "--" in kept else len(kept)
    return [*kept[:end], *small, *kept[end:]]


def train_tracked(dataset: Path) -> str:
    """Train as `register=faces` does, in the current folder, and return the run's id."""
    result = train_tiny(dataset, Path("tracked"), "logger=mlflow", "register=faces", "paths.root=.")
    return str(result["run_id"])


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, places: dict[str, Path]) -> Callable[[str], int]:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def run(command: str) -> int:
        if "<run> " in command or "models:/" in command:
            command = command.replace("<run> ", f"{train_tracked(places['data/ffpp-c23'])} ")
        if "resume=" in command:
            assert run("python train.py dataset.root=data/ffpp-c23 hydra.run.dir=outputs/train/first") == 0
        if "resume_sweep=" in command:
            assert run("python train.py -m dataset.root=data/ffpp-c23 seed=0,1") == 0
        words = shlex.split(command)
        while "=" in words[0]:
            monkeypatch.setenv(*words.pop(0).split("=", 1))
        _, script, *arguments = words
        monkeypatch.setattr(sys, "path", list(sys.path))
        arguments = shrink(script, [substitute(argument, places) for argument in arguments], places)
        monkeypatch.setattr(sys, "argv", [script, *arguments])
        try:
            runpy.run_path(str(REPOSITORY / script), run_name="__main__")
        except SystemExit as stop:
            return int(stop.code or 0)
        return 0

    return run


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "command", [pytest.param(run, marks=pytest.mark.slow if run in SLOW else ()) for run in RUNS], ids=str
)
def test_documented_command_runs(command: str, run: Callable[[str], int], capfd: pytest.CaptureFixture[str]) -> None:
    assert run(command) == 0, capfd.readouterr().err
    if "--cfg" not in command and "task=send" not in command and "serve.py" not in command:
        assert list(Path().glob("outputs/**/result.json")) + list(Path().glob("multirun/**/result.json"))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_documented_python_runs(
    document: Path, places: dict[str, Path], in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(in_folder / "photo.jpg", in_folder / "other.jpg")
    for block in find_blocks(document, "python"):
        code = block
        for place in sorted(places, key=len, reverse=True):
            code = code.replace(f'"{place}', f'"{places[place]}').replace(f'={place}"', f'={places[place]}"')
        exec(code, {})
        assert capsys.readouterr().out


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_documented_mistake_is_answered_as_shown(
    document: Path, run: Callable[[str], int], capfd: pytest.CaptureFixture[str]
) -> None:
    for block in find_blocks(document, "console"):
        command, *shown = block.splitlines()
        assert run(command.removeprefix("$ ")) == 2
        told = capfd.readouterr().err.replace(f"{REPOSITORY}/", "").split()
        assert told == " ".join(shown).split()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_fence_is_run_or_says_why_not(document: Path) -> None:
    lines, is_open = document.read_text().splitlines(), False
    for number, line in enumerate(lines):
        if not line.lstrip().startswith("```"):
            continue
        is_open = not is_open
        if is_open and line not in ("```bash", "```python", "```console"):
            above = lines[number - 1] if number else ""
            assert re.fullmatch(r"<!-- not run: .+ -->", above), f"{document.name}:{number + 1}: {line}"
    assert not is_open


def test_every_documented_command_is_checked() -> None:
    assert len(RUNS) > 20
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), flags=re.MULTILINE))
    for command in set(COMMANDS) - set(RUNS) - {"source .venv/bin/activate"}:
        program, target, *_ = shlex.split(command)
        assert (program, target in targets) == ("make", True), command


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_linked_files_exist(document: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)", document.read_text()):
        assert link.startswith("https://") or (document.parent / link).exists(), link


def test_documents_name_targets_that_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), flags=re.MULTILINE))
    for document in DOCUMENTS:
        assert set(re.findall(r"`make ([a-z-]+)", document.read_text())) <= targets
