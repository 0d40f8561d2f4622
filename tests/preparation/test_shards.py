import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.preparation.test_prepare import FRACTIONS, SPEC, BrightSpot, Listed, _prepare, _video

from unmask.cli.prepare import prepare_dataset
from unmask.data.splits import SplitOptions
from unmask.data.tables import FaceDataset
from unmask.errors import ConfigError, DatasetError, UntrustedError
from unmask.faces.spec import CropSpec
from unmask.media.encode import write_video
from unmask.media.image import write_jpeg
from unmask.preparation.prepare import Preparation, PrepareResult
from unmask.preparation.records import Shard
from unmask.preparation.shards import ShardResult, merge, prepare_shard, read_notes
from unmask.preparation.work import LocalRunner
from unmask.types import Label, Video


def _plan(videos: list[Video], *, spec: CropSpec = SPEC, seed: int = 0) -> Preparation:
    return Preparation(Listed(videos), spec, SplitOptions(FRACTIONS, seed))


def _shard(videos: list[Video], output: Path, text: str, *, spec: CropSpec = SPEC, seed: int = 0) -> ShardResult:
    return prepare_shard(
        _plan(videos, spec=spec, seed=seed), Shard.parse(text), output=output, detector=BrightSpot(), num_workers=0,
        runner=LocalRunner(0), settings={"crop": {"margin": spec.margin}, "seed": seed},
        overrides=["source=csv", "source.root=a b.csv"],
    )  # fmt: skip


def _merge(videos: list[Video], output: Path, *folders: Path) -> PrepareResult:
    return merge(_plan(videos), read_notes(folders or (output,)), output=output, num_workers=0)


def _contents(root: Path, *, also: tuple[str, ...] = ()) -> dict[str, bytes]:
    """Return the bytes of the tables and of all crops."""
    names = ("videos.parquet", "faces.parquet", "dataset.json", "left_out.csv", "copies.csv", *also)
    paths = [root / name for name in names if (root / name).is_file()]
    return {str(path.relative_to(root)): path.read_bytes() for path in [*paths, *(root / "crops").rglob("*.jpg")]}


@pytest.fixture
def videos(tmp_path: Path) -> list[Video]:
    """Eight videos: five good ones, of which two have the same bytes, one broken, one dark and one missing."""
    names = "abcdefgh"
    found = [_video(tmp_path, name, label=Label(name > "d"), lit=name != "c", write=name != "g") for name in names]
    found[1].path.write_bytes(b"\x00\x00\x00\x18ftypmp42 and no more")
    return found


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("is_common", [True, False], ids=["common folder", "separate folders"])
def test_merged_shards_are_what_one_run_makes_byte_for_byte(
    tmp_path: Path, videos: list[Video], count: int, is_common: bool
) -> None:
    whole = _prepare(videos, tmp_path / "whole")
    folders = [tmp_path / ("faces" if is_common else f"shard{number}") for number in range(1, count + 1)]
    sizes = []
    for number, folder in reversed(list(enumerate(folders, start=1))):
        result = _shard(videos, folder, f"{number}/{count}")
        sizes.append(sum(result.outcomes.values()))
        names = {path.name for path in folder.iterdir() if path.is_file()}
        assert {f"prepare.{number}-of-{count}.json", f"prepare.{number}-of-{count}.jsonl"} <= names
        assert all(re.fullmatch(r"prepare\.\d-of-\d\.jsonl?", name) for name in names)  # no tables, no lists
    assert sum(sizes) == 8
    assert max(sizes) - min(sizes) <= 1
    merged = _merge(videos, tmp_path / "faces", *([] if is_common else folders))
    assert merged.outcomes == whole.outcomes == {"ok": 5, "decode_error": 1, "no_face": 1, "missing": 1}
    assert _contents(tmp_path / "faces") == _contents(tmp_path / "whole")
    assert len(_contents(tmp_path / "faces")) == 3 + 1 + 5 * 4
    names = {path.name for path in (tmp_path / "whole").iterdir()}
    assert {path.name for path in (tmp_path / "faces").iterdir()} == names | {"prepare.json"}


def test_merging_again_and_preparing_again_change_nothing(tmp_path: Path, videos: list[Video]) -> None:
    for text in ("1/2", "2/2"):
        _shard(videos, tmp_path / "faces", text)
    _merge(videos, tmp_path / "faces")
    before = _contents(tmp_path / "faces")
    _merge(videos, tmp_path / "faces")
    assert _contents(tmp_path / "faces") == before
    assert _prepare(videos, tmp_path / "faces").num_reused == 7  # all but the missing one
    assert _contents(tmp_path / "faces") == before
    assert _shard(videos, tmp_path / "faces", "1/2").num_reused == 3
    _merge(videos, tmp_path / "faces")
    assert _contents(tmp_path / "faces") == before


@pytest.mark.parametrize("text", ["0/2", "3/2", "2", "1/", "a/b", "-1/2", "1/2/3", "½"])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=rf"shard='{re.escape(text)}'.*shard=2/5"):
        Shard.parse(text)


def test_shards_are_equal_parts_of_the_listing() -> None:
    assert [Shard(number, 3).take("abcdefgh") for number in (1, 2, 3)] == [list("adg"), list("beh"), list("cf")]


def test_shard_resumes_after_an_interruption(
    tmp_path: Path, videos: list[Video], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    _prepare(videos, tmp_path / "whole")
    _shard(videos, tmp_path / "faces", "2/2")
    _shard(videos, tmp_path / "faces", "1/2")
    journal = tmp_path / "faces" / "prepare.1-of-2.jsonl"
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:2])[:-30])
    with monkeypatch.context() as patched:
        patched.setattr(BrightSpot, "detect", interrupt)
        with pytest.raises(KeyboardInterrupt):
            _shard(videos, tmp_path / "faces", "1/2")
    assert _shard(videos, tmp_path / "faces", "1/2").num_reused == 1
    _merge(videos, tmp_path / "faces")
    assert _contents(tmp_path / "faces") == _contents(tmp_path / "whole")


def test_unfinished_shards_are_named_with_the_command_for_them(tmp_path: Path, videos: list[Video]) -> None:
    _shard(videos, tmp_path / "faces", "1/3")
    with pytest.raises(DatasetError) as caught:
        _merge(videos, tmp_path / "faces")
    lines = str(caught.value).splitlines()
    for number, counts in ((2, "3 of 3"), (3, "2 of 2")):
        (line,) = [line for line in lines if f"Shard {number}/3" in line]
        command = f"python prepare.py source=csv 'source.root=a b.csv' output={tmp_path / 'faces'} shard={number}/3"
        assert command in line
        assert counts in line
    assert not any("Shard 1/3" in line for line in lines)
    assert not (tmp_path / "faces" / "dataset.json").exists()


def test_damaged_crops_and_changed_files_are_work_for_their_shard(tmp_path: Path, videos: list[Video]) -> None:
    for number in (1, 2):
        _shard(videos, tmp_path / str(number), f"{number}/2")
    (crop, *_) = sorted((tmp_path / "1" / "crops" / "listed" / "a").iterdir())
    crop.write_bytes(crop.read_bytes()[:50])
    write_video(videos[3].path, [np.full((96, 96, 3), 200, np.uint8)] * 3, fps=25)
    with pytest.raises(DatasetError) as caught:
        _merge(videos, tmp_path / "faces", tmp_path / "1", tmp_path / "2")
    one, two = (line for line in str(caught.value).splitlines() if "Shard" in line)
    for line, name, number in ((one, "listed/a", 1), (two, "listed/d", 2)):
        for word in (name, f"shard={number}/2", f"output={tmp_path / str(number)} "):
            assert word in line
    assert _shard(videos, tmp_path / "1", "1/2").num_repaired == 1
    _shard(videos, tmp_path / "2", "2/2")
    _merge(videos, tmp_path / "faces", tmp_path / "1", tmp_path / "2")
    _prepare(videos, tmp_path / "whole")
    assert _contents(tmp_path / "faces") == _contents(tmp_path / "whole")


@pytest.mark.parametrize(
    ("text", "changed", "words"),
    [
        ("2/2", {"spec": replace(SPEC, margin=1.5)}, ["crop.margin", "1.3", "1.5"]),
        ("2/2", {"seed": 7}, ["seed", "0 in", "7 in"]),
        ("2/3", {}, ["shard", "1/2", "2/3"]),
    ],
    ids=["spec", "seed", "count"],
)
def test_shards_with_different_settings_are_refused(
    tmp_path: Path, videos: list[Video], text: str, changed: Mapping[str, Any], words: list[str]
) -> None:
    _shard(videos, tmp_path / "faces", "1/2")
    with pytest.raises(DatasetError) as caught:
        _shard(videos, tmp_path / "faces", text, **changed)
    assert all(word in str(caught.value) for word in [*words, str(tmp_path / "faces" / "prepare.1-of-2.json")])
    assert [path.name for path in (tmp_path / "faces").glob("*.json")] == ["prepare.1-of-2.json"]  # withdrawn
    assert not [path for path in (tmp_path / "faces" / "crops" / "listed").iterdir() if path.name in "bdfh"]
    _shard(videos, tmp_path / "other", text, **changed)
    with pytest.raises(DatasetError) as caught:
        _merge(videos, tmp_path / "merged", tmp_path / "faces", tmp_path / "other")
    assert all(word in str(caught.value) for word in words)


def test_shards_of_another_listing_are_refused(tmp_path: Path, videos: list[Video]) -> None:
    _shard(videos, tmp_path / "faces", "1/2")
    with pytest.raises(DatasetError, match=r"(?s)source.*videos: '8 .*'7 "):
        _shard(videos[1:], tmp_path / "faces", "2/2")
    (tmp_path / "faces" / "prepare.1-of-2.json").unlink()  # as the message says
    _shard(videos[1:], tmp_path / "faces", "2/2")
    _shard(videos[1:], tmp_path / "faces", "1/2")
    _merge(videos[1:], tmp_path / "faces")
    _prepare(videos[1:], tmp_path / "whole")
    shutil.rmtree(tmp_path / "faces" / "crops" / "listed" / "a")  # no longer in the source
    assert _contents(tmp_path / "faces") == _contents(tmp_path / "whole")


def test_same_shard_of_two_folders_is_refused(tmp_path: Path, videos: list[Video]) -> None:
    for name in "ab":
        _shard(videos, tmp_path / name, "1/2")
    with pytest.raises(DatasetError, match=r"1/2.*/a/.*/b/"):
        read_notes([tmp_path / "a", tmp_path / "b"])


def test_folder_without_shards_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("empty", "none"):
        with pytest.raises(DatasetError, match=rf"{name}'.*output=\S*{name} shard=1/2"):
            read_notes([tmp_path / name])


def test_run_without_shards_leaves_those_of_others_alone(tmp_path: Path, videos: list[Video]) -> None:
    _shard(videos, tmp_path / "faces", "1/2")
    with pytest.raises(DatasetError, match=rf"(?s)prepare\.1-of-2\.jsonl.*task=merge output={tmp_path}/faces"):
        _prepare(videos, tmp_path / "faces")


def test_crops_of_other_settings_are_never_taken_for_those_of_shards(tmp_path: Path, videos: list[Video]) -> None:
    _prepare(videos, tmp_path / "faces", spec=replace(SPEC, margin=2.0))
    with pytest.raises(DatasetError, match=r"prepare\.jsonl"):
        _shard(videos, tmp_path / "faces", "1/1")
    _shard(videos, tmp_path / "one", "1/1")
    with pytest.raises(DatasetError, match=r"prepare\.jsonl"):
        _merge(videos, tmp_path / "faces", tmp_path / "one")
    (tmp_path / "faces" / "prepare.jsonl").unlink()
    _shard(videos, tmp_path / "faces", "1/1")
    assert not (tmp_path / "faces" / "dataset.json").exists()
    _merge(videos, tmp_path / "faces")
    _prepare(videos, tmp_path / "whole")
    assert _contents(tmp_path / "faces") == _contents(tmp_path / "whole")
    assert _prepare(videos, tmp_path / "faces", spec=replace(SPEC, margin=2.0)).num_reused == 0


def test_shard_leaves_the_temporary_folders_of_others_alone(tmp_path: Path, videos: list[Video]) -> None:
    for name in (".remade-1-of-2-x", ".remade-2-of-2-x"):
        (tmp_path / "faces" / name).mkdir(parents=True)
    _shard(videos, tmp_path / "faces", "1/2")
    assert [path.name for path in (tmp_path / "faces").glob(".remade-*")] == [".remade-2-of-2-x"]


@pytest.fixture
def images(in_folder: Path) -> tuple[str, ...]:
    """Arguments that index twelve images, and the images."""
    for number in range(12):
        label = ("real", "fake")[number % 2]
        write_jpeg(Path(f"raw/{label}/{number}.jpg"), np.full((16, 16, 3), 20 * number, np.uint8), quality=90)
    return ("source=image_folder", "source.root=raw", "detector=none", "num_workers=0", "split.train=0.5",
            "split.val=0.25", "split.test=0.25", "seed=4")  # fmt: skip


def _run(*arguments: str) -> dict[str, Any]:
    """Run prepare.py in this process, and return its result.json."""
    from unmask.cli.shell import composing

    with composing("prepare", arguments, None) as job:
        prepare_dataset(job.cfg)
        content: dict[str, Any] = json.loads((job.folder / "result.json").read_text())
        return content


def test_merge_needs_no_settings_of_the_shards(images: tuple[str, ...]) -> None:
    _run(*images, "output=whole")
    first = _run(*images, "output=faces", "shard=1/2")
    assert (first["shard"], first["videos"], first["faces"]) == ("1/2", {"ok": 6}, 6)
    _run(*images, "output=faces", "shard=2/2")
    assert _run("task=merge", "output=faces", "num_workers=0")["videos"] == {"ok": 12}
    assert _contents(Path("faces")) == _contents(Path("whole"))
    _run(*images, "output=faces", "task=merge")  # the same settings may be named


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("seed=5", [r"seed: 5", "4"]),
        ("source.root=other", [r"source\.root: 'other'", "'raw'"]),
        ("split.train=0.4", [r"split\.train: 0\.4", "0.5"]),
    ],
)
def test_merge_refuses_settings_that_contradict_the_shards(
    images: tuple[str, ...], given: str, words: list[str]
) -> None:
    _run(*images, "output=faces", "shard=1/1")
    with pytest.raises(ConfigError, match=".*".join([*words, r"prepare\.1-of-1\.json"])):
        _run(*images, given, "output=faces", "task=merge")


def test_note_of_a_shard_cannot_call_anything(images: tuple[str, ...]) -> None:
    _run(*images, "output=faces", "shard=1/1")
    path = Path("faces/prepare.1-of-1.json")
    note = json.loads(path.read_text())
    note["settings"]["source"] = {"_target_": "os.mkdir", "_args_": ["x"]}
    path.write_text(json.dumps(note))
    with pytest.raises(UntrustedError, match=r"prepare\.1-of-1\.json.*os\.mkdir"):
        _run("task=merge", "output=faces")
    assert not Path("x").exists()
    path.write_text("{}")
    with pytest.raises(DatasetError, match=r"prepare\.1-of-1\.json"):
        _run("task=merge", "output=faces")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("shard=6/5",), "shard='6/5'"),
        (("shards=[a,b]",), r"shards=.*task=merge"),
        (("task=merge", "shard=1/2"), r"shard=1/2"),
    ],
)
def test_senseless_combinations_of_keys_are_refused(
    images: tuple[str, ...], arguments: tuple[str, ...], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        _run(*images, "output=faces", *arguments)


def test_merged_folders_stay_and_the_dataset_loads(images: tuple[str, ...]) -> None:
    for number in (1, 2, 3):
        _run(*images, f"output=part{number}", f"shard={number}/3")
    _run("task=merge", "output=faces", "shards=[part1,part2,part3]", "num_workers=0")
    assert len(FaceDataset.load("faces").videos) == 12
    assert sorted(path.name for path in Path("part2").iterdir()) == ["prepare.2-of-3.json", "prepare.2-of-3.jsonl"]


def test_forgeries_that_reuse_boxes_are_in_the_shard_of_their_original() -> None:
    def make(name: str, original: str | None = None) -> Video:
        label = Label.REAL if original is None else Label.FAKE
        return Video(name, Path(name), label, "original" if original is None else "FaceSwap", original=original)

    videos = [
        *(make(f"real{number}") for number in range(4)),
        *(make(f"fake{number}", f"real{number}") for number in range(4)),
    ]
    videos.append(make("orphan", "absent"))
    spec = CropSpec("haar", boxes="from_original")
    parts = [Shard(number, 3).take_videos(videos, spec) for number in (1, 2, 3)]
    assert sorted(video.video_id for part in parts for video in part) == sorted(video.video_id for video in videos)
    for part in parts:
        names = {video.video_id for video in part}
        assert {video.video_id for video in part if video.original in {"real0", "real1", "real2", "real3"}} == {
            f"fake{name.removeprefix('real')}" for name in names if name.startswith("real")
        }
    assert Shard(1, 3).take_videos(videos, CropSpec("haar")) == Shard(1, 3).take(videos)
