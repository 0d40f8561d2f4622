from pathlib import Path

import pytest

from unmask.inference.limits import Input, expand_inputs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.mp4", "a.JPG", "notes.txt", "deep/er/c.png", "[1].jpg", "empty/x.csv"):
        path = tmp_path / "media" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "media"


def test_a_folder_gives_its_media_to_the_bottom(folder: Path) -> None:
    found = {entry.path.relative_to(folder).as_posix() for entry in expand_inputs([folder])}
    assert found == {"b.mp4", "a.JPG", "deep/er/c.png", "[1].jpg"}


def test_hidden_files_and_folders_below_the_named_one_are_passed_over(folder: Path) -> None:
    for name in (".thumbs/a.jpg", "deep/.cache/er/a.jpg", ".a.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    assert len(expand_inputs([folder])) == 4
    assert expand_inputs([folder / ".thumbs"]) == [Input(folder / ".thumbs" / "a.jpg")]


def test_a_file_is_taken_whatever_its_suffix(folder: Path) -> None:
    assert expand_inputs([folder / "notes.txt"]) == [Input(folder / "notes.txt")]


def test_a_pattern_gives_its_matches(folder: Path) -> None:
    assert expand_inputs([f"{folder}/*.mp4"]) == [Input(folder / "b.mp4")]
    assert expand_inputs([f"{folder}/**/*.png"]) == [Input(folder / "deep/er/c.png")]


def test_a_pattern_passes_over_what_folders_do(folder: Path) -> None:
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "d.png").touch()
    assert expand_inputs([f"{folder}/**/*.png"]) == [Input(folder / "deep/er/c.png")]
    assert expand_inputs([f"{folder}/__MACOSX/*.png"]) == [Input(folder / "__MACOSX/d.png")]


def test_a_file_whose_name_reads_like_a_pattern_is_a_file(folder: Path) -> None:
    assert expand_inputs([folder / "[1].jpg"]) == [Input(folder / "[1].jpg")]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone.mp4", "No such file or folder: '{path}'"),
        ("*.webm", "Nothing matches the pattern '{path}'"),
        ("empty", "The folder '{path}' contains no images or videos"),
    ],
)
def test_what_leads_nowhere_becomes_a_row_with_an_error(folder: Path, name: str, message: str) -> None:
    path = folder / name
    (entry,) = expand_inputs([path])
    assert entry.path == path
    assert message.format(path=path) in str(entry.error)


def test_no_file_comes_twice(folder: Path) -> None:
    entries = expand_inputs([folder / "b.mp4", folder, f"{folder}/b.*"])
    assert [entry.path.name for entry in entries].count("b.mp4") == 1
    assert entries[0].path.name == "b.mp4"


def test_a_file_spelled_in_several_ways_comes_once_as_spelled_first(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    (folder / "link.mp4").symlink_to(folder / "b.mp4")
    names = ["deep/../b.mp4", folder / "b.mp4", "./b.mp4", "link.mp4", "b.*", folder / "notes.txt", "notes.txt"]
    assert expand_inputs(names) == [Input(Path("deep/../b.mp4")), Input(folder / "notes.txt")]
    assert len(expand_inputs([".", folder])) == 4


def test_what_cannot_be_a_path_becomes_a_row_with_an_error_once(folder: Path) -> None:
    (folder / "loop.jpg").symlink_to(folder / "loop.jpg")
    entries = expand_inputs(["a\0.jpg", "a\0.jpg", folder / "loop.jpg"])
    assert [entry.path for entry in entries] == [Path("a\0.jpg"), folder / "loop.jpg"]
    assert all(entry.error for entry in entries)
