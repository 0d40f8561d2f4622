import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from unmask.errors import ConfigError, DatasetError, LeakageError
from unmask.evaluation.score_tables import check_apart, read_score_tables

TABLE = "video,label,score\na,0,0.1\nb,REAL,0.2\nc,1,0.9\nd,Fake,0.8\n"


def _write(folder: Path, text: str, name: str = "theirs.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_table_is_read_row_by_row(tmp_path: Path) -> None:
    rows = read_score_tables([_write(tmp_path, TABLE)])
    assert rows["video_id"].to_list() == ["a", "b", "c", "d"]
    assert rows["label"].to_list() == [0, 0, 1, 1]
    assert rows["score"].to_list() == [0.1, 0.2, 0.9, 0.8]
    assert rows["method"].to_list() == ["original", "original", "fake", "fake"]
    assert set(rows["detector"]) == {"theirs"}
    assert set(rows["dataset"]) == {"unnamed"}
    assert rows["line"].to_list() == ["line 2", "line 3", "line 4", "line 5"]


@pytest.mark.parametrize("name", ["t.tsv", "t.csv.gz", "t.parquet", "t.parquet.gz", "t.txt"])
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    expected = read_score_tables([_write(tmp_path, TABLE)])
    path, content = tmp_path / name, pd.read_csv(tmp_path / "theirs.csv")
    if "parquet" in name:
        content.to_parquet(tmp_path / "plain", index=False)
        data = (tmp_path / "plain").read_bytes()
    else:
        separator = {"t.tsv": "\t", "t.txt": ";"}.get(name, ",")
        data = ("\ufeff" + content.to_csv(index=False, sep=separator)).encode()
    path.write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    rows = read_score_tables([path])
    names = ["video_id", "label", "score", "method"]
    pd.testing.assert_frame_equal(rows[names], expected[names])
    assert rows["line"].iloc[0] == ("row 1" if "parquet" in name else "line 2")


def test_numbers_and_booleans_of_parquet_are_labels(tmp_path: Path) -> None:
    for number, labels in enumerate(([0, 1], [0.0, 1.0], [False, True])):
        path = tmp_path / f"{number}.parquet"
        pd.DataFrame({"video": [1, 2], "label": labels, "score": [0.5, 1]}).to_parquet(path)
        rows = read_score_tables([path])
        assert (rows["label"].to_list(), rows["video_id"].to_list()) == ([0, 1], ["1", "2"])


def test_columns_may_have_other_names_and_optional_ones_are_read(tmp_path: Path) -> None:
    text = "Clip,is_fake,p,Frame,who,METHOD,set,model,Split\nx,1,0.7,10,ann,FaceSwap,ff,xception,testing\n"
    names = {"video": "Clip", "label": "is_fake", "score": "p", "group": "who", "dataset": "set", "detector": "model"}
    (row,) = read_score_tables([_write(tmp_path, text)], columns=names).to_dict("records")
    assert (row["video_id"], row["label"], row["score"], row["frame_index"]) == ("x", 1, 0.7, 10)
    assert (row["group"], row["method"], row["dataset"], row["detector"]) == ("ann", "FaceSwap", "ff", "xception")
    assert row["split"] == "test"


def test_a_pattern_reads_one_detector_per_column(tmp_path: Path) -> None:
    # The layout of predictions_medium.csv.gz in the PyPI package deepsafe-bench 1.0.0: prob_<detector>, empty where a
    # detector does not take the medium.
    path = _write(tmp_path, "id,label,prob_sbi,lat_sbi,prob_npr\n1,real,0.1,5,\n2,fake,0.9,6,0.4\n")
    rows = read_score_tables([path], columns={"video": "id", "score": "prob_*"}, missing="count")
    scores = rows.pivot(index="video_id", columns="detector", values="score")
    assert scores["sbi"].to_list() == [0.1, 0.9]
    assert np.isnan(scores["npr"]["1"])
    assert scores["npr"]["2"] == 0.4


@pytest.mark.parametrize(
    ("transform", "given", "expected"),
    [("sigmoid", [0.0, -800.0], [0.5, 0.0]), ("percent", [100, 25], [1.0, 0.25]), ("invert", [0.25, 1.0], [0.75, 0.0])],
)
def test_other_scales_are_mapped(tmp_path: Path, transform: str, given: list[float], expected: list[float]) -> None:
    path = _write(tmp_path, f"video,label,score\na,0,{given[0]}\nb,1,{given[1]}\n")
    assert read_score_tables([path], transform=transform)["score"].to_list() == pytest.approx(expected, abs=1e-12)


def test_blank_lines_do_not_shift_the_numbers_of_lines(tmp_path: Path) -> None:
    path = _write(tmp_path, "video,label,score\na,0,0.1\n\n,,\nb,1,0.9\n")
    assert read_score_tables([path])["line"].to_list() == ["line 2", "line 5"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("clip,truth,p\na,0,0.5\n", ["no column video and label and score", "'clip', 'truth', 'p'", "columns.video="]),
        ("video,label,score\n", ["has no rows"]),
        ("", ["theirs.csv"]),
        ("video,label,score\na,0,1.5\nb,1,-0.1\n", ["2 rows", "line 2", "1.5", "line 3", "scores_transform=sigmoid"]),
        ("video,label,score\na,0,inf\n", ["line 2", "'inf'", "not a number"]),
        ("video,label,score\na,0,high\n", ["line 2", "'high'"]),
        ("video,label,score\na,0,NaN\nb,1,\n", ["2 rows", "line 2", "line 3", "missing_scores=count"]),
        ("video,label,score\na,maybe,0.5\n", ["line 2", "'maybe'", "0 or real"]),
        ("video,label,score\n,0,0.5\n", ["line 2", "empty video"]),
        ("video,label,score\na,0,0.5\na,0,0.6\n", ["'a'", "line 3", "columns.frame"]),
        ("video,label,score,frame\na,0,0.5,1\na,0,0.6,1\n", ["'a', frame 1", "line 3"]),
        ("video,label,score,frame\na,0,0.5,1\na,1,0.6,2\n", ["'a': real", "line 2", "'a': fake", "line 3"]),
        ("video,label,score\na,0,0.5,9,9\n", ["theirs.csv"]),
        ("video,label,score\na,0,0.5\nb,0,0.5,9\n", ["theirs.csv"]),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, text: str, told: list[str]) -> None:
    path = _write(tmp_path, text)
    with pytest.raises(DatasetError) as raised:
        read_score_tables([path])
    assert [part for part in (*told, str(path)) if part not in str(raised.value)] == []


def test_only_some_examples_are_listed(tmp_path: Path) -> None:
    rows = "\n".join(f"v{number},0,2" for number in range(30))
    with pytest.raises(DatasetError, match=r"30 rows[^!]*and 20 more"):
        read_score_tables([_write(tmp_path, f"video,label,score\n{rows}\n")])


def test_files_that_are_no_tables_are_named(tmp_path: Path) -> None:
    for name, data in (("a.csv", b"\xff\xd8\xff\x00\x81"), ("b.csv.gz", b"\x1f\x8b\x00"), ("c", b"PAR1 and no more")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DatasetError, match=name):
            read_score_tables([tmp_path / name])
    for path in (tmp_path, tmp_path / "gone.csv"):
        with pytest.raises(DatasetError, match=str(path)):
            read_score_tables([path])


def test_tables_contradict_each_other_across_files(tmp_path: Path) -> None:
    first = _write(tmp_path, "video,label,score\na,0,0.5\n", "one.csv")
    second = _write(tmp_path, "video,label,score\na,1,0.5\n", "two.csv")
    with pytest.raises(DatasetError, match=r"(?s)one\.csv.*two\.csv"):
        read_score_tables([first, second])
    with pytest.raises(DatasetError, match=r"one\.csv"):
        read_score_tables([first, first])


def test_settings_that_do_not_exist_are_named(tmp_path: Path) -> None:
    path = _write(tmp_path, TABLE)
    with pytest.raises(ConfigError, match=r"columns\.vidoe.*'video'"):
        read_score_tables([path], columns={"vidoe": "x"})
    with pytest.raises(ConfigError, match="scores_transform 'logit'"):
        read_score_tables([path], transform="logit")
    with pytest.raises(ConfigError, match="missing_scores 'drop'"):
        read_score_tables([path], missing="drop")
    with pytest.raises(DatasetError, match=r"columns\.score='p'.*'score'"):
        read_score_tables([path], columns={"score": "p"})


def test_videos_and_groups_of_both_tables_are_refused(tmp_path: Path) -> None:
    judged = read_score_tables([_write(tmp_path, "video,label,score,group\na,0,0.5,ann\n", "judged.csv")])
    for text, told in (("a,0,0.4,bob", "video 'a'"), ("b,1,0.4,ann", "group 'ann'")):
        other = read_score_tables([_write(tmp_path, f"video,label,score,group\n{text}\n", "val.csv")])
        with pytest.raises(LeakageError, match=told):
            check_apart(judged, other)
    apart = read_score_tables([_write(tmp_path, "video,label,score,group\nb,0,0.4,bob\n", "val.csv")])
    check_apart(judged, apart)


def test_equal_names_in_two_datasets_are_two_videos(tmp_path: Path) -> None:
    tables = [
        read_score_tables([_write(tmp_path, f"video,label,score,dataset\na,{label},0.5,{name}\n", f"{name}.csv")])
        for label, name in enumerate(("ff", "dfdc"))
    ]
    check_apart(*tables)
    assert len(read_score_tables([tmp_path / "ff.csv", tmp_path / "dfdc.csv"])) == 2
