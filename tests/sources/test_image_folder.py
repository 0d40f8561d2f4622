from pathlib import Path

import pytest

from unmask.errors import ConfigError, SourceError
from unmask.sources.folders import describe_folder
from unmask.sources.image_folder import ImageFolder
from unmask.types import Label, MediaKind


def _lay_out(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_folders_named_after_labels_are_read_at_any_depth(tmp_path: Path) -> None:
    root = _lay_out(
        tmp_path, "real/a.jpg", "real_flickr/deep/b.png", "fake_stylegan/c.JPG", "Fake/d.mp4", "notes/e.jpg"
    )
    videos = {video.video_id: video for video in ImageFolder(root).list_videos()}
    assert sorted(videos) == [
        "image_folder/Fake/d.mp4", "image_folder/fake_stylegan/c.JPG", "image_folder/real/a.jpg",
        "image_folder/real_flickr/deep/b.png",
    ]  # fmt: skip
    real, fake = videos["image_folder/real_flickr/deep/b.png"], videos["image_folder/fake_stylegan/c.JPG"]
    assert (real.label, real.method, real.split, real.kind) == (Label.REAL, "original", None, MediaKind.IMAGE)
    assert (fake.label, fake.method) == (Label.FAKE, "fake_stylegan")
    assert videos["image_folder/Fake/d.mp4"].kind == MediaKind.VIDEO
    assert fake.path == root / "fake_stylegan/c.JPG"


@pytest.mark.parametrize(("folder", "split"), [("valid", "val"), ("val", "val"), ("Train", "train"), ("test", "test")])
def test_folders_of_splits_are_known_by_their_usual_names(tmp_path: Path, folder: str, split: str) -> None:
    root = _lay_out(tmp_path, f"{folder}/real/a.jpg", f"{folder}/fake/a.jpg")
    videos = ImageFolder(root, name="140k").list_videos()
    assert [(video.video_id, video.split) for video in videos] == [
        (f"140k/{folder}/fake/a.jpg", split), (f"140k/{folder}/real/a.jpg", split)
    ]  # fmt: skip


def test_absent_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"No such folder: source\.root='.*gone'"):
        ImageFolder(tmp_path / "gone").list_videos()


def test_wrong_layout_says_what_was_looked_for_and_what_was_found(tmp_path: Path) -> None:
    root = _lay_out(tmp_path, "cats/a.jpg", "dogs/b.jpg")
    with pytest.raises(SourceError, match=r"0 real, 0 fake, 2 in .*'cats/', 'dogs/'.*source=csv"):
        ImageFolder(root).list_videos()


def _labels(root: Path, **options: object) -> dict[str, str]:
    """Return label and split of each file, such as `fake train`."""
    videos = ImageFolder(root, **options).list_videos()  # type: ignore[arg-type]
    return {
        video.path.relative_to(root).as_posix(): f"{video.label.name.lower()} {video.split or ''}".strip()
        for video in videos
    }


def test_a_folder_above_both_labels_says_nothing_itself(tmp_path: Path) -> None:
    names = ("real_and_fake_face/training_real/a.jpg", "real_and_fake_face/training_fake/b.jpg", "fake_stylegan/c.jpg")
    assert list(_labels(_lay_out(tmp_path, *names)).values()) == ["fake", "fake", "real"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("train/0_real/a.jpg", "train/1_fake/b.jpg", "val/0_real/c.jpg"), "real train, fake train, real val"),
        (("train/car/0_real/a.jpg", "train/car/1_fake/b.jpg"), "real train, fake train"),
        (("fake_vs_real/real/a.jpg", "fake_vs_real/fake/b.jpg"), "fake, real"),
        (("real_vs_fake/real-vs-fake/valid/real/a.jpg", "real_vs_fake/real-vs-fake/test/fake/b.jpg"),
         "fake test, real val"),
        (("FakeDetection/Real/a.jpg", "FakeDetection/Fake/b.jpg"), "fake, real"),
        (("sdv4/train/ai/a.png", "sdv4/val/nature/b.png"), "fake train, real val"),
        (("real/testing/a.jpg", "fake/dev/b.jpg", "fake/training/c.jpg"), "fake val, fake train, real test"),
        (("test_real/a.jpg", "test_fake/b.jpg", "train_real/c.jpg", "train_fake/d.jpg"),
         "fake test, real test, fake train, real train"),
        (("realFaces/a.jpg", "fakefaces/b.jpg", "Fake2/c.jpg"), "fake, fake, real"),
        (("real/montreal/a.jpg", "fake/realistic/b.jpg"), "fake, real"),
        (("test_set/fake_x/a.jpg", "test_set/fake_y/b.jpg"), "fake test, fake test"),
    ],
)  # fmt: skip
def test_labels_and_splits_are_read_at_any_depth(tmp_path: Path, names: tuple[str, ...], expected: str) -> None:
    assert ", ".join(_labels(_lay_out(tmp_path, *names)).values()) == expected


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("not_fake", "negates"), ("non-fake", "negates"), ("unreal", "could mean"), ("realistic", "could mean"),
        ("real_and_fake_face", "could mean"), ("real2fake", "could mean"), ("realvsfake", "could mean"),
    ],
)  # fmt: skip
def test_a_name_that_could_mean_either_label_is_refused(tmp_path: Path, name: str, told: str) -> None:
    root = _lay_out(tmp_path, "real/a.jpg", "fake/b.jpg", f"{name}/c.jpg")
    with pytest.raises(SourceError, match=rf"'{name}/': .*{told}") as refused:
        ImageFolder(root).list_videos()
    assert "source.real=[...] source.fake=[...]" in str(refused.value)
    assert _labels(root, real=["real"], fake=["fake", name])[f"{name}/c.jpg"] == "fake"


@pytest.mark.parametrize("names", [("fake/real_faces/a.jpg",), ("fake/b.jpg", "fake/real/a.jpg")])
def test_a_label_below_the_other_one_is_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    with pytest.raises(SourceError, match=r"'fake/real.*/' contradicts 'fake/'"):
        ImageFolder(_lay_out(tmp_path, *names)).list_videos()


def test_two_splits_above_a_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"'train/val/real/' .*train and val"):
        ImageFolder(_lay_out(tmp_path, "train/val/real/a.jpg", "train/fake/b.jpg")).list_videos()


def test_the_method_is_the_most_telling_name_above_a_fake(tmp_path: Path) -> None:
    names = ("test/progan/car/1_fake/a.jpg", "test/stylegan/1_fake/b.jpg", "test/fake_ldm/c.jpg", "val/1_fake/d.jpg")
    methods = {video.path.name: video.method for video in ImageFolder(_lay_out(tmp_path, *names)).list_videos()}
    assert methods == {"a.jpg": "progan", "b.jpg": "stylegan", "c.jpg": "fake_ldm", "d.jpg": "fake"}


@pytest.mark.parametrize("label", ["real", "fake_x"])
def test_one_label_alone_is_read(tmp_path: Path, label: str) -> None:
    assert len(ImageFolder(_lay_out(tmp_path, f"test/{label}/a.jpg")).list_videos()) == 1


def test_one_label_beside_names_that_say_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"1 real, 0 fake, 1 in folders .*'generated'"):
        ImageFolder(_lay_out(tmp_path, "real/a.jpg", "generated/b.jpg")).list_videos()


def test_files_below_no_label_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ImageFolder(_lay_out(tmp_path, "real/a.jpg", "fake/b.jpg", "notes/c.jpg", "notes/d.jpg")).list_videos()
    assert "2 files" in caplog.text
    assert "'notes'" in caplog.text


def test_hidden_and_system_folders_are_passed_over_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = _lay_out(
        tmp_path, "real/a.jpg", "fake/b.jpg", "real/.ipynb_checkpoints/a-checkpoint.jpg", "__MACOSX/real/a.jpg"
    )
    assert _labels(root) == {"real/a.jpg": "real", "fake/b.jpg": "fake"}
    assert "1 in '.ipynb_checkpoints'" in caplog.text
    assert "1 in '__MACOSX'" in caplog.text


def test_links_out_of_the_root_are_refused_or_followed(tmp_path: Path) -> None:
    _lay_out(tmp_path, "pool/r/1.jpg", "pool/f/2.jpg", "set/real/a.jpg", "set/fake/b.jpg")
    root = tmp_path / "set"
    (root / "real" / "ext").symlink_to("../../pool/r")
    (root / "fake" / "ext").symlink_to("../../pool/f")
    with pytest.raises(
        SourceError, match=r"2 links.*\n.*fake/ext' -> '\.\./\.\./pool/f'[\s\S]*source\.follow_links=true"
    ):
        ImageFolder(root).list_videos()
    assert _labels(root, follow_links=True) == {
        "fake/b.jpg": "fake", "fake/ext/2.jpg": "fake", "real/a.jpg": "real", "real/ext/1.jpg": "real"
    }  # fmt: skip


FRAMES = ("fake/x/0000.png", "fake/x/0001.png", "real/y/0000.png", "real/y/frame_0001.png", "real/z.mp4")


def test_images_numbered_anew_in_every_folder_are_frames(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    videos = {video.path.name: video for video in ImageFolder(_lay_out(tmp_path, *FRAMES)).list_videos()}
    assert {name: video.kind for name, video in videos.items()} == {
        "x": MediaKind.FRAMES, "y": MediaKind.FRAMES, "z.mp4": MediaKind.VIDEO
    }  # fmt: skip
    assert videos["x"].video_id == "image_folder/fake/x"
    assert "2 folders" in caplog.text
    assert "source.frames_of=none" in caplog.text


@pytest.mark.parametrize(
    "names",
    [
        ("real/00000/00000.png", "real/00000/00001.png", "real/00001/01000.png", "fake/a.png"),  # FFHQ counts through
        ("real/Ann/Ann_0001.jpg", "real/Bob/Bob_0001.jpg", "fake/a.jpg"),  # LFW
        ("real/0001.jpg", "fake/0001.jpg"),
    ],
)
def test_numbered_photographs_are_no_frames(tmp_path: Path, names: tuple[str, ...]) -> None:
    videos = ImageFolder(_lay_out(tmp_path, *names)).list_videos()
    assert {video.kind for video in videos} == {MediaKind.IMAGE}
    assert len(videos) == len(names)


def test_frames_are_as_the_config_says(tmp_path: Path) -> None:
    root = _lay_out(tmp_path, *FRAMES, "real/clip/first.png")
    assert len(ImageFolder(root, frames_of="none").list_videos()) == 6
    assert len(ImageFolder(root, frames_of="folder").list_videos()) == 4
    with pytest.raises(ConfigError, match=r"source\.frames_of='clip'.*folder"):
        ImageFolder(root, frames_of="clip")


def test_description_of_a_folder_is_short(tmp_path: Path) -> None:
    _lay_out(tmp_path / "full", *(f"{index:02d}.jpg" for index in range(11)))
    (tmp_path / "empty").mkdir()
    assert describe_folder(tmp_path / "full", limit=2) == "'00.jpg', '01.jpg' and 9 more"
    assert describe_folder(tmp_path / "empty") == "nothing, it is empty"
    assert describe_folder(tmp_path / "gone") == "nothing, it does not exist"
    assert describe_folder(tmp_path) == "'empty/', 'full/'"
