from pathlib import Path

import pytest

from unmask.data.splits import check_groups, find_groups
from unmask.errors import ConfigError, SourceError
from unmask.sources.fakeavceleb import FakeAVCeleb
from unmask.types import Label

# Header and rows as public loaders of FakeAVCeleb v1.2 (DASH-Lab/FakeAVCeleb) quote them: the column of the folder has
# no name, and the folder starts with 'FakeAVCeleb/'.
HEADER = "source,target1,target2,method,category,type,race,gender,path,\n"
AFRICAN = "African/men/id00076"
TABLE = (
    f"id00076,-,-,real,A,RealVideo-RealAudio,African,men,00109.mp4,FakeAVCeleb/RealVideo-RealAudio/{AFRICAN}\n"
    f"id00076,-,-,rtvc,B,RealVideo-FakeAudio,African,men,00109_fake.mp4,FakeAVCeleb/RealVideo-FakeAudio/{AFRICAN}\n"
    f"id00076,id00166,-,faceswap,C,FakeVideo-RealAudio,African,men,00109_id00166_f.mp4,"
    f"FakeAVCeleb/FakeVideo-RealAudio/{AFRICAN}\n"
    f"id00076,id00476,10,wav2lip,D,FakeVideo-FakeAudio,African,men,00109_10_id00476_wavtolip.mp4,"
    f"FakeAVCeleb/FakeVideo-FakeAudio/{AFRICAN}\n"
)
PLACES = (
    f"RealVideo-RealAudio/{AFRICAN}/00109.mp4", f"RealVideo-FakeAudio/{AFRICAN}/00109_fake.mp4",
    f"FakeVideo-RealAudio/{AFRICAN}/00109_id00166_f.mp4",
    f"FakeVideo-FakeAudio/{AFRICAN}/00109_10_id00476_wavtolip.mp4",
)  # fmt: skip
REAL = f"fakeavceleb/original/{AFRICAN}/00109"


def _lay_out(root: Path, *names: str, table: str | None = HEADER + TABLE) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    if table is not None:
        (root / "meta_data.csv").write_text(table)
    return root


def test_rows_of_the_table_become_videos(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    videos = FakeAVCeleb(_lay_out(tmp_path, *PLACES)).list_videos()
    assert [(v.video_id, v.label, v.method, v.split, v.identities, v.original, v.is_there) for v in videos] == [
        (REAL, Label.REAL, "original", "test", ("id00076",), None, True),
        (f"fakeavceleb/faceswap/FakeVideo-RealAudio/{AFRICAN}/00109_id00166_f", Label.FAKE, "faceswap", "test",
         ("id00076", "id00166"), REAL, True),
        (f"fakeavceleb/wav2lip/FakeVideo-FakeAudio/{AFRICAN}/00109_10_id00476_wavtolip", Label.FAKE, "wav2lip", "test",
         ("id00076", "id00476"), REAL, True),
    ]  # fmt: skip
    assert "1 videos of 'RealVideo-FakeAudio'" in caplog.text


def test_real_faces_with_a_cloned_voice_are_real_if_wanted(tmp_path: Path) -> None:
    videos = FakeAVCeleb(_lay_out(tmp_path, *PLACES), fake_audio="real").list_videos()
    (cloned,) = (video for video in videos if video.method == "RealVideo-FakeAudio")
    assert (cloned.video_id, cloned.label) == (f"fakeavceleb/RealVideo-FakeAudio/{AFRICAN}/00109_fake", Label.REAL)
    assert (cloned.identities, cloned.original) == (("id00076",), REAL)


def test_half_a_download_lists_what_is_missing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    extra = f"RealVideo-RealAudio/{AFRICAN}/99999.mp4"
    videos = FakeAVCeleb(_lay_out(tmp_path, PLACES[0], extra)).list_videos()
    assert [video.is_there for video in videos] == [True, False, False]
    for word in ("'FakeVideo-RealAudio'", "'FakeVideo-FakeAudio'", f"'{extra}'"):
        assert word in caplog.text


def test_the_folder_is_made_of_the_columns_where_it_is_not_stated(tmp_path: Path) -> None:
    table = HEADER + "id00076,-,-,real,A,RealVideo-RealAudio,African,men,00109.mp4\n"
    (video,) = FakeAVCeleb(_lay_out(tmp_path, PLACES[0], table=table)).list_videos()
    assert (video.video_id, video.is_there) == (REAL, True)


def test_without_the_table_names_tell(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    videos = FakeAVCeleb(_lay_out(tmp_path, *PLACES, table=None)).list_videos()
    assert {(video.method, video.label, video.original) for video in videos} == {
        ("original", Label.REAL, None), ("f", Label.FAKE, REAL), ("wavtolip", Label.FAKE, REAL),
    }  # fmt: skip
    assert "meta_data.csv" in caplog.text


def test_splits_by_identity_keep_everybody_in_one_split(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows, people = "", [f"id{number:05d}" for number in range(12)]
    for one in people:
        rows += f"{one},-,-,real,A,RealVideo-RealAudio,Asian (East),women,1.mp4,F/RealVideo-RealAudio/a/w/{one}\n"
        for other in people:
            if other != one:
                file = f"1_{other}_fsgan.mp4,F/FakeVideo-RealAudio/a/w/{one}"
                rows += f"{one},{other},-,fsgan,C,FakeVideo-RealAudio,a,w,{file}\n"
    root = _lay_out(tmp_path, f"RealVideo-RealAudio/a/w/{people[0]}/1.mp4", table=HEADER + rows)
    videos = FakeAVCeleb(root, splits="identity").list_videos()
    check_groups([v.video_id for v in videos], find_groups(videos), [v.split for v in videos])
    for split in ("train", "val", "test"):
        assert {video.label for video in videos if video.split == split} == set(Label)
    assert f"Dropped {12 + 132 - len(videos)} of 132 fakes" in caplog.text


@pytest.mark.parametrize(
    ("table", "word"),
    [
        (HEADER, "0 that do"),
        (HEADER + "id1,-,-,real,A,Other,African,men,1.mp4\n", r"line 2: 'id1,-,-,real,A,Other,African,men,1\.mp4'"),
        (HEADER + "id1,-,-,real\n", "line 2: 'id1,-,-,real'"),
        (HEADER + "id1,-,-,real,A,RealVideo-RealAudio,African,men,7.mp4\n", r"id00076/00109\.mp4"),
    ],
)
def test_a_table_of_another_form_is_refused(tmp_path: Path, table: str, word: str) -> None:
    with pytest.raises(SourceError, match=word):
        FakeAVCeleb(_lay_out(tmp_path, PLACES[0], table=table)).list_videos()


def test_unknown_choices_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"source\.fake_audio='fake'.*skip or real"):
        FakeAVCeleb(tmp_path, fake_audio="fake")
    with pytest.raises(ConfigError, match=r"source\.splits='official'"):
        FakeAVCeleb(tmp_path, splits="official")
