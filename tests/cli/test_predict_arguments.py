from pathlib import Path

import pytest

from unmask.cli.arguments import Arguments, split_arguments


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "name",
    [
        "clip.mp4", "my holiday.jpg", "a,b.jpg", "[1].png", "sub/x.png", "/abs/a=b.jpg", "./a=b.jpg", "1=2.jpg",
        "{x}.jpg", "-",
    ],
)  # fmt: skip
def test_argument_that_does_not_look_like_an_override_is_a_path(name: str) -> None:
    assert split_arguments([name]) == Arguments(paths=(name,), overrides=())


@pytest.mark.parametrize(
    "text",
    [
        "checkpoint=best.ckpt", "+extra=1", "++extra.deep=1", "~key", "~key=1", "hydra.run.dir=x", "a/b@c.d=e",
        "inputs=[a.jpg,b.mp4]", "--help", "--config-dir=x", "-m", "hydra/launcher=joblib",
    ],
)  # fmt: skip
def test_overrides_and_flags_go_to_hydra(text: str) -> None:
    assert split_arguments([text]) == Arguments(paths=(), overrides=(text,))


def test_a_file_that_exists_is_a_path_though_it_reads_like_an_override() -> None:
    Path("a=b.jpg").touch()
    assert split_arguments(["a=b.jpg", "c=d.jpg"]) == Arguments(paths=("a=b.jpg",), overrides=("c=d.jpg",))


def test_everything_after_two_dashes_is_a_path() -> None:
    parts = split_arguments(["threshold=0.4", "--", "-strange.jpg", "--help", "key=value", "--"])
    assert parts == Arguments(paths=("-strange.jpg", "--help", "key=value", "--"), overrides=("threshold=0.4",))


def test_the_value_of_a_flag_stays_with_the_flag() -> None:
    parts = split_arguments(["--cfg", "job", "--config-dir", "mine", "--info", "plugins", "clip.mp4"])
    assert parts.paths == ("clip.mp4",)
    assert parts.overrides == ("--cfg", "job", "--config-dir", "mine", "--info", "plugins")


def test_order_of_paths_is_kept_between_overrides() -> None:
    parts = split_arguments(["b.jpg", "checkpoint=x.ckpt", "a.jpg", "device=cpu"])
    assert parts == Arguments(paths=("b.jpg", "a.jpg"), overrides=("checkpoint=x.ckpt", "device=cpu"))


def test_text_too_long_for_a_path_does_not_stop_the_command() -> None:
    override = "inputs=[" + "a" * 5000 + "]"
    assert split_arguments([override]).overrides == (override,)
