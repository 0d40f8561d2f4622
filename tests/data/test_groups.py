import json
from importlib.resources import files
from pathlib import Path

from unmask.data.splits import find_groups
from unmask.types import Label, Video


def _video(name: str, *identities: str, original: str | None = None) -> Video:
    return Video(name, Path(name), Label.REAL, "original", identities=identities, original=original)


def test_fake_joins_the_videos_of_both_its_people() -> None:
    groups = find_groups([_video("a", "000"), _video("b", "001"), _video("c", "002"), _video("d", "000", "001")])
    assert groups[0] == groups[1] == groups[3] != groups[2]
    assert sorted(set(groups)) == [0, 1]


def test_fake_is_joined_to_its_original_without_known_people() -> None:
    groups = find_groups([_video("a"), _video("b"), _video("c", original="b"), _video("d", original="absent")])
    assert groups[1] == groups[2]
    assert len(set(groups)) == 3


def test_forgeries_of_one_absent_original_stay_together() -> None:
    first, second = find_groups([_video("a", original="absent"), _video("b", original="absent")])
    assert first == second


def test_chains_of_people_make_one_group() -> None:
    assert len(set(find_groups([_video(str(i), str(i), str(i + 1)) for i in range(50)]))) == 1


def test_person_named_like_a_video_is_not_that_video() -> None:
    assert len(set(find_groups([_video("000", "x"), _video("b", "000")]))) == 2


def test_pairs_of_the_paper_come_out_again() -> None:
    lists = [json.loads((files("unmask.sources") / f"ffpp_splits/{name}.json").read_text()) for name in ("val", "test")]
    pairs = [tuple(pair) for pairs in lists for pair in pairs]
    videos = [_video(f"{a}_{b}", a, b) for a, b in pairs] + [_video(name, name) for pair in pairs for name in pair]
    groups = find_groups(videos)
    assert len(set(groups)) == len(pairs) == 140
    assert groups[0] == groups[140] == groups[141]
