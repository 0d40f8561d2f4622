import re
from pathlib import Path

import pytest

from unmask.data.splits import find_groups
from unmask.errors import ConfigError, SourceError
from unmask.sources.csv_table import CsvTable
from unmask.sources.reading import read_source
from unmask.types import Label, MediaKind


def _write(root: Path, text: str, *, name: str = "table.csv", encoding: str = "utf-8") -> Path:
    """Writes a table and empty files for what its first cells name."""
    root.mkdir(exist_ok=True)
    (root / name).write_bytes(text.encode(encoding))
    for line in text.splitlines()[1:]:
        path = root / line.replace(";", ",").replace("\t", ",").split(",")[0].strip('"')
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def _labels(root: Path, **options: object) -> str:
    videos = CsvTable(root, **options).list_videos()  # type: ignore[arg-type]
    return ", ".join(f"{video.path.name} {video.label.name.lower()} {video.split or ''}".strip() for video in videos)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_tables_are_read_however_they_are_written(tmp_path: Path, separator: str, encoding: str, end: str) -> None:
    lines = ["path,label", "ä b.jpg,0", "b.jpg,1", "c.mp4,REAL", "d.mp4, Fake", ""]
    _write(tmp_path, end.join(lines).replace(",", separator), encoding=encoding)
    assert _labels(tmp_path) == "ä b.jpg real, b.jpg fake, c.mp4 real, d.mp4 fake"


def test_one_table_a_split_in_a_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, text in {"train": "a.jpg,0\nb.jpg,1", "valid": "c.jpg,1", "test": "d.jpg,0", "notes": "e.jpg,0"}.items():
        _write(tmp_path, f"path,label\n{text}\n", name=f"{name}.csv")
    assert _labels(tmp_path) == "d.jpg real test, a.jpg real train, b.jpg fake train, c.jpg fake val"
    assert "'notes.csv'" in caplog.text


def test_every_column_is_used(tmp_path: Path) -> None:
    _write(
        tmp_path,
        "path,label,video,identity,method,split\n"
        "f/1.png,1,clip,ann;bob,FaceSwap,test\nf/2.png,1,clip,ann;bob,FaceSwap,test\n"
        "r.mp4,0,,ann,,test\ns.mp4,0,,cem,,train\n",
    )
    frames, ann, cem = CsvTable(tmp_path).list_videos()
    assert (frames.video_id, frames.kind, frames.method) == ("csv/clip", MediaKind.FRAMES, "FaceSwap")
    assert frames.frames == (tmp_path / "f/1.png", tmp_path / "f/2.png")
    assert (frames.identities, frames.split, ann.split, cem.split) == (("ann", "bob"), "test", "test", "train")
    assert (ann.method, ann.kind, ann.video_id) == ("original", MediaKind.VIDEO, "csv/r.mp4")
    first, second, third = find_groups([frames, ann, cem])
    assert first == second != third


def test_a_folder_of_frames_and_an_absolute_path_are_read(tmp_path: Path) -> None:
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip/0.png").touch()
    (tmp_path / "x.mp4").touch()
    (tmp_path / "t.tsv").write_text(f"File Path\tLabel\nclip\tFAKE\n{tmp_path}/x.mp4\tREAL\n")
    clip, video = CsvTable(tmp_path / "t.tsv").list_videos()
    assert (clip.kind, clip.path, video.path) == (MediaKind.FRAMES, tmp_path / "clip", tmp_path / "x.mp4")
    assert ".." not in video.video_id
    assert not video.video_id.startswith("csv//")


def test_columns_of_other_names_are_told(tmp_path: Path) -> None:
    _write(tmp_path, "bild,art\na.jpg,0\n")
    with pytest.raises(SourceError, match=r"'bild', 'art'.*source\.columns\.path=\.\.\. source\.columns\.label=\.\.\."):
        CsvTable(tmp_path).list_videos()
    assert _labels(tmp_path, columns={"path": "bild", "label": "art"}) == "a.jpg real"
    with pytest.raises(SourceError, match=r"source\.columns\.label='typ' .*'bild', 'art'"):
        CsvTable(tmp_path, columns={"path": "bild", "label": "typ"}).list_videos()
    with pytest.raises(ConfigError, match=r"source\.columns\.pfad.*path, label"):
        CsvTable(tmp_path, columns={"pfad": "bild"})


def test_unknown_labels_are_named_with_their_lines(tmp_path: Path) -> None:
    _write(tmp_path, "path,label\na.jpg,0\nb.jpg,spoof\nc.jpg,\n")
    with pytest.raises(SourceError, match=r"(?s)2 rows.*line 3: 'spoof'.*line 4: ''.*source\.fake_label="):
        CsvTable(tmp_path).list_videos()


def test_what_labels_mean_can_be_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    _write(tmp_path, "path,label\na.jpg,live\nb.jpg,Spoof\n")
    assert _labels(tmp_path, fake_label="spoof") == "a.jpg real, b.jpg fake"
    assert _labels(tmp_path, real_label="live") == "a.jpg real, b.jpg fake"
    assert "'Spoof' means fake (1 rows)" in caplog.text
    with pytest.raises(SourceError, match="line 2: 'live'"):
        CsvTable(tmp_path, fake_label="spoof", real_label="genuine").list_videos()


def test_one_for_real_is_understood_where_a_column_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    _write(tmp_path / "set", "path,label,label_str\nfake/a.jpg,0,fake\nreal/b.jpg,1,real\n")
    assert _labels(tmp_path / "set") == "a.jpg fake, b.jpg real"
    assert re.search(r"'1' means real \(1 rows\).*'label_str'", caplog.text)


def test_labels_that_the_folders_contradict_are_refused_until_confirmed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _write(tmp_path, "path,label\nfake/a.jpg,0\nreal/b.jpg,1\n")
    with pytest.raises(SourceError, match=r"2 of 2 rows.*line 2.*source\.fake_label=0.*source\.fake_label=1"):
        CsvTable(tmp_path).list_videos()
    assert _labels(tmp_path, fake_label=0) == "a.jpg fake, b.jpg real"
    assert "contradict" not in caplog.text
    assert _labels(tmp_path, fake_label=1) == "a.jpg real, b.jpg fake"
    assert "contradict" in caplog.text


def test_missing_files_are_rows_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _write(tmp_path, "path,label\na.jpg,0\nb.jpg,1\n")
    (tmp_path / "b.jpg").unlink()
    assert [video.is_there for video in CsvTable(tmp_path).list_videos()] == [True, False]
    assert "1 of 2 rows" in caplog.text
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(SourceError, match=r"None of the 2 files.*a\.jpg.*source\.media_root.*source\.replace"):
        CsvTable(tmp_path).list_videos()


def test_paths_are_found_below_the_table_or_where_the_config_says(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("path,label\ntrain/a.jpg,0\nC:\\data\\b.jpg,1\n")
    for name in ("inner/deeper/train/a.jpg", "other/b.jpg"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    source = CsvTable(tmp_path, replace={"C:\\data": str(tmp_path / "other")})
    assert [video.path for video in source.list_videos()] == [
        tmp_path / "inner/deeper/train/a.jpg", tmp_path / "other/b.jpg"
    ]  # fmt: skip
    (given, _) = CsvTable(tmp_path, media_root=tmp_path / "inner/deeper").list_videos()
    assert given.path == tmp_path / "inner/deeper/train/a.jpg"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("path,label\n", "no rows"),
        ("", "is empty"),
        ("path,label\n,0\n", "line 2: no path"),
        ("path,label,split\na.jpg,0,holdout\n", "line 2: split 'holdout'"),
        ("path,label\na.jpg,0\n./a.jpg,1\n", "two labels"),
        ("path,label,video\na.jpg,0,x\nb.jpg,1,x\n", "more than one label"),
        ("path,label,video\na.mp4,0,x\nb.mp4,0,x\n", "not images"),
    ],
)
def test_tables_that_cannot_be_meant_are_refused(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(SourceError, match=told):
        CsvTable(_write(tmp_path, text)).list_videos()


def test_a_path_listed_twice_is_taken_once_in_a_split(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _write(tmp_path, "path,label\na.jpg,0\na.jpg,0\nb.jpg,1\n")
    assert _labels(tmp_path) == "a.jpg real, b.jpg fake"
    assert "1 rows" in caplog.text


def test_the_same_file_in_two_splits_gets_two_ids(tmp_path: Path) -> None:
    for split in ("train", "test"):
        _write(tmp_path / "tables", f"path,label\n../base.mp4,0\n{split}.jpg,1\n", name=f"{split}.csv")
    ids = [video.video_id for video in CsvTable(tmp_path / "tables").list_videos()]
    assert ids == ["csv/test/base.mp4", "csv/test/test.jpg", "csv/train/base.mp4", "csv/train/train.jpg"]


def test_rows_that_end_in_the_same_name_keep_apart(tmp_path: Path) -> None:
    _write(tmp_path / "t", "path,label,split\na.mp4,0,train\n../a.mp4,1,train\na.mp4,0,test\n")
    videos = CsvTable(tmp_path / "t").list_videos()
    assert [video.video_id for video in videos] == ["csv/a.mp4", "csv/a.mp4~2", "csv/a.mp4~3"]
    assert [video.split for video in videos] == ["train", "train", "test"]


def test_several_tables_without_splits_are_told(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        _write(tmp_path, "path,label\nx.jpg,0\n", name=name)
    with pytest.raises(SourceError, match=r"2 tables.*'a\.csv', 'b\.csv'.*source\.root"):
        CsvTable(tmp_path).list_videos()
    assert _labels(tmp_path / "a.csv") == "x.jpg real"


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"path,label\n\xff\xe4.jpg,0\n")
    with pytest.raises(SourceError, match=r"a\.csv' is not UTF-8"):
        CsvTable(tmp_path).list_videos()
    with pytest.raises(SourceError, match=r"No such table or folder: source\.root='gone'"):
        CsvTable("gone").list_videos()


def _write_table(root: Path, text: str, *files: str) -> Path:
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root / "t.csv").write_text(text)
    return root / "t.csv"


# Issue threads of frame-based pipelines list every frame as a row; as images of their own they cross splits.
def test_listed_frames_are_the_frames_of_one_video(tmp_path: Path) -> None:
    names = [f"{clip}/{number:04d}.png" for clip in ("v1", "v2") for number in range(3)]
    table = _write_table(tmp_path, "path,label\n" + "".join(f"{name},{int(name > 'v2')}\n" for name in names), *names)
    assert [(v.video_id, v.label, v.kind, len(v.frames)) for v in CsvTable(table).list_videos()] == [
        ("csv/v1", Label.REAL, MediaKind.FRAMES, 3), ("csv/v2", Label.FAKE, MediaKind.FRAMES, 3)
    ]  # fmt: skip
    assert {v.kind for v in CsvTable(table, frames_of="none").list_videos()} == {MediaKind.IMAGE}
    with pytest.raises(ConfigError, match=r"source\.frames_of='x'"):
        CsvTable(table, frames_of="x")


@pytest.mark.parametrize(
    ("rows", "names"),
    [
        ("real/{0},0\nfake/{0},1\n", ("real", "fake")),  # folders of labels
        ("train/{0},0\ntest/{0},1\n", ("train", "test")),  # of splits
        ("a/{0},0\na/9.png,1\nb/{0},1\nb/9.png,0\n", ("a", "b")),  # of both labels
    ],
)
def test_folders_that_are_no_videos_keep_their_images_apart(tmp_path: Path, rows: str, names: tuple[str, ...]) -> None:
    files = [f"{name}/{number}" for name in names for number in ("0001.png", "9.png")]
    table = _write_table(tmp_path, "path,label\n" + rows.format("0001.png"), *files)
    assert {video.kind for video in CsvTable(table).list_videos()} == {MediaKind.IMAGE}


def test_frames_of_folder_decides_for_any_names(tmp_path: Path) -> None:
    table = _write_table(tmp_path, "path,label\nv/x.png,0\nv/y.png,0\nw/z.png,1\n", "v/x.png", "v/y.png", "w/z.png")
    assert [(v.video_id, len(v.frames)) for v in CsvTable(table, frames_of="folder").list_videos()] == [
        ("csv/v", 2), ("csv/w", 1)
    ]  # fmt: skip


def test_paths_that_climb_out_of_the_table_are_refused_unless_allowed(tmp_path: Path) -> None:
    table = _write_table(
        tmp_path / "data", "path,label\na.mp4,0\n../b.mp4,1\nsub/../a2.mp4,1\n", "a.mp4", "a2.mp4", "sub/c"
    )
    (tmp_path / "b.mp4").touch()
    with pytest.raises(SourceError, match=r"1 paths lead out.*\n.*\.\./b\.mp4.*\n.*source\.allow_outside=true"):
        read_source(CsvTable(table))
    assert [video.is_there for video in read_source(CsvTable(table, allow_outside=True))] == [True] * 3
    assert len(read_source(CsvTable(table, media_root=tmp_path / "data", allow_outside=True))) == 3


def test_absolute_paths_may_lie_anywhere(tmp_path: Path) -> None:
    (tmp_path / "elsewhere.mp4").touch()
    table = _write_table(tmp_path / "data", f"path,label\na.mp4,0\n{tmp_path / 'elsewhere.mp4'},1\n", "a.mp4")
    assert [video.is_there for video in read_source(CsvTable(table))] == [True, True]
