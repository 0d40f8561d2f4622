import json
from collections.abc import Callable
from pathlib import Path

import pytest

from unmask.data.tables import FACE_COLUMNS, VIDEO_COLUMNS, FaceDataset, count_rows, write_dataset
from unmask.errors import DatasetError

Maker = Callable[..., Path]


def test_written_tables_are_read_again(make_faces: Maker) -> None:
    dataset = FaceDataset.load(make_faces({"train": (2, 3), "test": (1, 0)}))
    assert (dataset.name, dataset.spec.detector, dataset.spec.crop_size) == ("drawn", "haar", 40)
    assert tuple(dataset.videos.columns) == VIDEO_COLUMNS
    assert tuple(dataset.faces.columns) == FACE_COLUMNS
    assert list(dataset.videos["identities"].iloc[0]) == ["train00"]
    rows = dataset.faces_of("test")
    assert (len(rows), list(rows.index), set(rows["split"])) == (1, [0], {"test"})


def test_video_figures_are_for_datasets_with_videos(make_faces: Maker) -> None:
    dataset = FaceDataset.load(make_faces({"train": (1, 1)}))
    assert dataset.has_videos
    dataset.videos["kind"] = "image"
    assert not dataset.has_videos


def test_absent_dataset_is_named_with_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"No such folder: dataset\.root='.*gone'.*python prepare\.py .*gone"):
        FaceDataset.load(tmp_path / "gone")


def test_folder_of_something_else_is_no_face_dataset(tmp_path: Path) -> None:
    (tmp_path / "faces.parquet").touch()
    with pytest.raises(DatasetError, match=r"not a face dataset: dataset\.json, videos\.parquet missing"):
        FaceDataset.load(tmp_path)


@pytest.mark.parametrize("name", ["dataset.json", "videos.parquet", "faces.parquet"])
def test_damaged_table_is_a_clear_error(make_faces: Maker, name: str) -> None:
    root = make_faces({"train": (1, 1)})
    (root / name).write_bytes(b"PAR1 {")
    with pytest.raises(DatasetError, match=r"tables of the face dataset '.*' cannot be read: .*python prepare\.py"):
        FaceDataset.load(root)


def test_description_without_a_spec_is_a_clear_error(make_faces: Maker) -> None:
    root = make_faces({"train": (1, 1)})
    (root / "dataset.json").write_text('{"name": "drawn"}')
    with pytest.raises(DatasetError, match="cannot be read: 'preprocessing'"):
        FaceDataset.load(root)


def test_empty_split_is_named_with_those_that_are_not(make_faces: Maker) -> None:
    dataset = FaceDataset.load(make_faces({"train": (2, 1)}))
    with pytest.raises(DatasetError, match=r"No face crops in '.*' for split 'val'.*\{'train': 3\}"):
        dataset.faces_of("val")


def test_unknown_split_lists_the_choices(make_faces: Maker) -> None:
    with pytest.raises(DatasetError, match=r"'holdout'.*train, val, test"):
        FaceDataset.load(make_faces({"train": (1, 1)})).faces_of("holdout")


@pytest.mark.parametrize(
    ("counts", "words"), [((3, 0), "3 real crops and no fake"), ((0, 2), "2 fake crops and no real")]
)
def test_one_class_in_a_split_is_refused(make_faces: Maker, counts: tuple[int, int], words: str) -> None:
    dataset = FaceDataset.load(make_faces({"train": (1, 1), "val": counts}))
    dataset.check_classes("train")
    with pytest.raises(DatasetError, match=rf"Split 'val' of '.*{words}"):
        dataset.check_classes("val")


@pytest.mark.parametrize("number", [0, 1, 2])
def test_interrupted_write_leaves_the_tables_that_were_there(
    make_faces: Maker, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    root = make_faces({"train": (1, 1)})
    dataset, before = FaceDataset.load(root), {path: path.read_bytes() for path in root.iterdir() if path.is_file()}
    written: list[Path] = []

    def fail(path: Path, data: bytes) -> None:
        if len(written) == number:
            raise KeyboardInterrupt
        written.append(path)
        path.write_bytes(data)

    monkeypatch.setattr("unmask.data.tables.write_bytes", fail)
    with pytest.raises(KeyboardInterrupt):
        write_dataset(root, info={"name": "other"}, videos=dataset.videos.head(1), faces=dataset.faces.head(1))
    assert {path: path.read_bytes() for path in root.iterdir() if path.is_file()} == before


def test_counts_are_plain_values(make_faces: Maker) -> None:
    dataset = FaceDataset.load(make_faces({"train": (2, 3), "val": (1, 1)}))
    counts = count_rows(dataset.videos, dataset.faces)
    assert json.loads(json.dumps(counts)) == {
        "videos": {"ok": 7},
        "faces": 7,
        "faces_by_split": {"train": {"fake": 3, "real": 2}, "val": {"real": 1, "fake": 1}},
        "faces_by_method": {"FaceSwap": 4, "original": 3},
    }
