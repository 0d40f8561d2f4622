from pathlib import Path

import pytest

from unmask.errors import ConfigError
from unmask.sources.dfd import DeepFakeDetection
from unmask.types import Label

REAL = "original_sequences/actors/c23/videos"
FAKE = "manipulated_sequences/DeepFakeDetection/c23/videos"


def _touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_actors_and_their_forgeries_are_all_test(tmp_path: Path) -> None:
    root = _touch(tmp_path, f"{REAL}/01__exit_phone_room.mp4", f"{FAKE}/01_02__exit_phone_room__YVGY8LOK.mp4")
    real, fake = DeepFakeDetection(root).list_videos()
    assert real.video_id == "dfd/original/c23/01__exit_phone_room"
    assert (real.label, real.identities, real.split) == (Label.REAL, ("actor 01",), "test")
    assert fake.video_id == "dfd/DeepFakeDetection/c23/01_02__exit_phone_room__YVGY8LOK"
    assert (fake.label, fake.identities, fake.split) == (Label.FAKE, ("actor 01", "actor 02"), "test")
    assert (fake.original, fake.method) == (real.video_id, "DeepFakeDetection")


def test_the_flat_copy_holds_fakes_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = _touch(tmp_path, "DeepFakeDetection/01_02__walk__YVGY8LOK.mp4", "original/000.mp4")
    (fake,) = DeepFakeDetection(root).list_videos()
    assert (fake.label, fake.original) == (Label.FAKE, None)
    assert "only one class" in caplog.text


def test_split_by_actor_keeps_everybody_in_one_split(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    people = [f"{number:02d}" for number in range(12)]
    names = [f"{REAL}/{one}__walk.mp4" for one in people]
    names += [f"{FAKE}/{one}_{other}__walk__ABCDEFGH.mp4" for one in people for other in people if one != other]
    videos = DeepFakeDetection(_touch(tmp_path, *names), splits="actor").list_videos()
    splits_of = {
        person: {video.split for video in videos if person in video.identities}
        for video in videos for person in video.identities
    }  # fmt: skip
    assert all(len(splits) == 1 for splits in splits_of.values())
    for split in ("train", "val", "test"):
        assert {video.label for video in videos if video.split == split} == set(Label)
    assert f"{len(names) - len(videos)} fakes" in caplog.text


@pytest.mark.parametrize(("key", "value"), [("splits", "random"), ("media", "clips")])
def test_unknown_choices_are_refused(tmp_path: Path, key: str, value: str) -> None:
    with pytest.raises(ConfigError, match=rf"source\.{key}='{value}'.*Choose"):
        DeepFakeDetection(tmp_path, **{key: value})  # type: ignore[arg-type]
