from pathlib import Path

import pytest

from unmask.data.splits import SplitOptions, assign_splits, find_groups
from unmask.errors import ConfigError, LeakageError, SourceError
from unmask.forgeries import record_training
from unmask.preparation.check import check_source
from unmask.sources.auto import AutoSource
from unmask.sources.folders import record_source
from unmask.sources.portraits import Portraits
from unmask.types import Label, MediaKind

FRACTIONS = {"train": 0.6, "val": 0.2, "test": 0.2}


def _lay_out(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def _people(root: Path, **options: str | None) -> dict[str, tuple[tuple[str, ...], str | None]]:
    """Return identities and split of each image, by its path below the root."""
    videos = Portraits(root, **options).list_videos()  # type: ignore[arg-type]
    assert {(video.label, video.method, video.kind) for video in videos} == {(Label.REAL, "original", MediaKind.IMAGE)}
    names = [video.path.relative_to(root).as_posix() for video in videos]
    assert [video.video_id for video in videos] == [f"portraits/{name}" for name in names]
    return {name: (video.identities, video.split) for name, video in zip(names, videos, strict=True)}


@pytest.mark.parametrize("top", ["", "lfw-deepfunneled/lfw-deepfunneled/"])
def test_a_folder_is_a_person_as_in_lfw(tmp_path: Path, top: str, caplog: pytest.LogCaptureFixture) -> None:
    # LFW: lfw/<name>/<name>_0001.jpg; Kaggle's copy wraps it twice. Ai is a name here, not a label.
    root = _lay_out(
        tmp_path, *(f"{top}{name}.jpg" for name in ("Ai_Sugiyama/Ai_Sugiyama_0001", "Ann_Lee/Ann_Lee_0001",
                                                     "Ann_Lee/Ann_Lee_0002"))
    )  # fmt: skip
    assert _people(root) == {
        f"{top}Ai_Sugiyama/Ai_Sugiyama_0001.jpg": (("Ai_Sugiyama",), None),
        f"{top}Ann_Lee/Ann_Lee_0001.jpg": (("Ann_Lee",), None),
        f"{top}Ann_Lee/Ann_Lee_0002.jpg": (("Ann_Lee",), None),
    }
    assert caplog.text == ""


def test_folders_of_splits_are_no_people(tmp_path: Path) -> None:
    # VGGFace2: {train,test}/n000001/0001_01.jpg, with other people in test.
    root = _lay_out(tmp_path, "train/n000002/0001_01.jpg", "test/n000001/0001_01.jpg", "val/n000003/0002_01.jpg")
    assert _people(root) == {
        "test/n000001/0001_01.jpg": (("n000001",), "test"),
        "train/n000002/0001_01.jpg": (("n000002",), "train"),
        "val/n000003/0002_01.jpg": (("n000003",), "val"),
    }
    assert {split for _, split in _people(root, splits=None).values()} == {None}


def test_prepare_keeps_a_person_in_one_split_and_refuses_folders_that_do_not(tmp_path: Path) -> None:
    root = _lay_out(tmp_path / "people", *(f"p{person}/{image}.jpg" for person in range(10) for image in range(3)))
    videos = Portraits(root).list_videos()
    splits = assign_splits(videos, fractions=FRACTIONS, seed=0)
    homes = {(video.identities, split) for video, split in zip(videos, splits, strict=True)}
    assert len(homes) == 10
    assert set(splits) == {"train", "val", "test"}
    crossing = _lay_out(tmp_path / "crossing", "train/ann/1.jpg", "test/ann/2.jpg")
    with pytest.raises(LeakageError, match=r"source\.splits=null"):
        assign_splits(Portraits(crossing).list_videos(), fractions=FRACTIONS, seed=0)
    assert len(set(find_groups(Portraits(crossing, splits=None).list_videos()))) == 1


def test_loose_images_are_each_by_themselves_which_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert _people(_lay_out(tmp_path, "a.jpg", "b.png", "ann/c.jpg")) == {
        "a.jpg": ((), None), "ann/c.jpg": (("ann",), None), "b.png": ((), None)
    }  # fmt: skip
    assert "2 of 3 images" in caplog.text
    assert "'a.jpg'" in caplog.text


def test_the_thousands_of_ffhq_are_no_people(tmp_path: Path) -> None:
    # FFHQ: images1024x1024/05000/05123.png; each photograph shows somebody else.
    root = _lay_out(tmp_path, "images1024x1024/05000/05123.png", "images1024x1024/69000/69999.png")
    assert {people for people, _ in _people(root).values()} == {()}
    assert _people(root, people="folder")["images1024x1024/05000/05123.png"] == (("05000",), None)


def test_who_is_a_person_is_as_the_config_says(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # YouTube Faces: <name>/<clip>/0.555.jpg
    root = _lay_out(tmp_path, "Aaron_Eckhart/0/0.555.jpg", "Aaron_Eckhart/1/0.1.jpg")
    assert [people for people, _ in _people(root).values()] == [("0",), ("1",)]
    assert [people for people, _ in _people(root, people="top").values()] == [("Aaron_Eckhart",)] * 2
    assert [people for people, _ in _people(root, people="none").values()] == [()] * 2
    assert "unknown" not in caplog.text
    with pytest.raises(ConfigError, match=r"source\.people='face'.*folder"):
        Portraits(root, people="face")
    with pytest.raises(ConfigError, match=r"source\.splits='random'.*official"):
        Portraits(root, splits="random")


# CelebA: Img/img_align_celeba/000001.jpg, Anno/identity_CelebA.txt `000001.jpg 2880`, Eval/list_eval_partition.txt
# `000001.jpg 0`, where 0, 1 and 2 are train, val and test.
CELEBA = ("000001 2880 0", "000002 2937 1", "000003 8692 2", "000004 2880 0")


def _celeba(
    root: Path, *, anno: str = "Anno/", end: str = ".jpg", partition: str = "Eval/list_eval_partition.txt"
) -> Path:
    rows = [row.split() for row in CELEBA]
    _lay_out(root, *(f"Img/img_align_celeba/{number}{end}" for number, _, _ in rows[:3]), f"{anno}x", partition)
    (root / anno / "identity_CelebA.txt").write_text("".join(f"{number}.jpg {person}\n" for number, person, _ in rows))
    comma = "," if partition.endswith(".csv") else " "
    header = "image_id,partition\n" if partition.endswith(".csv") else ""
    (root / partition).write_text(header + "".join(f"{number}.jpg{comma}{split}\n" for number, _, split in rows))
    return root


@pytest.mark.parametrize(
    ("anno", "end", "partition"),
    [("Anno/", ".jpg", "Eval/list_eval_partition.txt"), ("", ".png", "list_eval_partition.csv")],
)
def test_celeba_has_people_and_splits_by_its_lists(tmp_path: Path, anno: str, end: str, partition: str) -> None:
    root = _celeba(tmp_path, anno=anno, end=end, partition=partition)
    folder = "Img/img_align_celeba"
    assert _people(root) == {
        f"{folder}/000001{end}": (("2880",), "train"),
        f"{folder}/000002{end}": (("2937",), "val"),
        f"{folder}/000003{end}": (("8692",), "test"),
        f"{folder}/000004.jpg": (("2880",), "train"),  # in the lists, but not here
    }
    by_name = {video.path.stem: video.is_there for video in Portraits(root).list_videos()}
    assert by_name == {"000001": True, "000002": True, "000003": True, "000004": False}
    assert {split for _, split in _people(root, splits=None).values()} == {None}


def test_celeba_without_its_list_of_people_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = _celeba(tmp_path)
    (root / "Anno" / "identity_CelebA.txt").unlink()
    assert set(_people(root).values()) == {((), "train"), ((), "val"), ((), "test")}
    assert "identity_CelebA.txt" in caplog.text
    assert "4 of 4 images" in caplog.text


@pytest.mark.parametrize("line", ["000001.jpg", "000001.jpg 1 2", "readme 5"])
def test_a_damaged_list_is_refused_with_its_lines(tmp_path: Path, line: str) -> None:
    root = _celeba(tmp_path)
    (root / "Anno" / "identity_CelebA.txt").write_text(f"000002.jpg 7\n{line}\n")
    with pytest.raises(SourceError) as refused:
        Portraits(root).list_videos()
    assert "identity_CelebA.txt" in str(refused.value)
    assert f"line 2: '{line}'" in str(refused.value)


@pytest.mark.parametrize("folder", ["fake", "1_fake", "training_fake", "Synthetic"])
def test_folders_of_fakes_are_refused(tmp_path: Path, folder: str) -> None:
    root = _lay_out(tmp_path, "real/a.jpg", f"{folder}/b.jpg")
    with pytest.raises(SourceError) as refused:
        Portraits(root).list_videos()
    assert f"'{folder}'" in str(refused.value)
    assert "source=image_folder" in str(refused.value)


def test_videos_are_skipped_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert list(_people(_lay_out(tmp_path / "some", "ann/a.jpg", "ann/b.mp4"))) == ["ann/a.jpg"]
    assert "Skipped 1 videos" in caplog.text
    with pytest.raises(SourceError, match="photographs"):
        Portraits(_lay_out(tmp_path / "none", "ann/b.mp4")).list_videos()
    with pytest.raises(SourceError, match=r"source\.root='.*gone'"):
        Portraits(tmp_path / "gone").list_videos()


def test_a_training_on_portraits_has_self_made_fakes_or_drawn_ones(tmp_path: Path) -> None:
    records = record_training(record_source(Portraits(tmp_path)), makes_fakes=True)
    assert [record.forgeries for record in records] == ["self_made"]
    (tmp_path / "synthetic.json").touch()
    assert Portraits(tmp_path).forgeries == "drawn"


def test_a_check_counts_photographs_and_what_is_skipped(tmp_path: Path) -> None:
    names = [f"Person_{number}/Person_{number}_0001.jpg" for number in range(8)]
    root = _lay_out(tmp_path, *names, "Person_1/clip.mp4", "Person_1/._a.jpg", "Person_1/notes.txt")
    found = check_source(AutoSource(root), SplitOptions(FRACTIONS, 0))
    assert found.source == "portraits"
    assert {part.name: (part.have, part.missing) for part in found.parts} == {"original": (8, 0), "": (0, 0)}
    reasons = " ".join(found.parts[-1].reasons)
    assert "1 videos ('Person_1/clip.mp4')" in reasons
    assert found.parts[-1].unexpected == 3
    assert (found.counts["classes"], found.counts["identities"]) == ({"real": 8, "fake": 0}, 8)
    assert all(numbers["real"] for numbers in found.counts["splits"].values())
    assert found.problems == []


def test_a_check_of_celeba_counts_what_its_lists_alone_name(tmp_path: Path) -> None:
    found = check_source(AutoSource(_celeba(tmp_path)), SplitOptions(FRACTIONS, 0))
    first = found.parts[0]
    assert (first.name, first.have, first.missing, first.unexpected) == ("original", 3, 1, 0)
    assert found.counts["splits_of"] == "source"
    assert {split: numbers["real"] for split, numbers in found.counts["splits"].items()} == {
        "train": 1, "val": 1, "test": 1
    }  # fmt: skip


@pytest.mark.parametrize("top", ["", "VGGFace2/"])
def test_vggface2_and_celeba_without_identities_are_read_whatever_their_root(tmp_path: Path, top: str) -> None:
    # Kaggle's copy of CelebA has list_eval_partition.csv, and not the list of people.
    names = ("train/n000002/0001_01.jpg", "train/n000003/0001_01.jpg", "test/n000001/0001_01.jpg")
    _lay_out(tmp_path / "a", *(f"{top}{name}" for name in names))
    assert {video.split for video in AutoSource(tmp_path / "a").list_videos()} == {"train", "test"}
    _celeba(tmp_path / "b" / top, anno="", partition="list_eval_partition.csv")
    (tmp_path / "b" / top / "identity_CelebA.txt").unlink()
    assert [video.split for video in AutoSource(tmp_path / "b").list_videos()] == ["train", "val", "test", "train"]


def test_links_out_of_the_root_are_refused_unless_followed(tmp_path: Path) -> None:
    root, outside = _lay_out(tmp_path / "root", "ann/a.jpg"), _lay_out(tmp_path / "outside", "bob/b.jpg")
    (root / "bob").symlink_to(outside / "bob")
    with pytest.raises(SourceError, match=r"bob.*\n.*source\.follow_links=true"):
        Portraits(root).list_videos()
    assert len(Portraits(root, follow_links=True).list_videos()) == 2
