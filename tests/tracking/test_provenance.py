import json
from pathlib import Path

import pandas as pd
import pytest

from unmask.data.tables import FaceDataset
from unmask.tracking.provenance import count_crops, digest_table, find_code_state


def test_digest_depends_on_every_label_and_crop(face_dataset: Path) -> None:
    table = FaceDataset.load(face_dataset).faces_of("val")
    digests = {digest_table(table)}
    for column, value in (("label", 1 - table["label"][0]), ("crop", "x.jpg"), ("split", "train"), ("video_id", "v")):
        changed = table.copy()
        changed.loc[0, column] = value
        digests.add(digest_table(changed))
    digests.add(digest_table(table.iloc[1:]))
    assert len(digests) == 6
    assert digest_table(table) == digest_table(table.copy())


def test_counts_are_plain_values() -> None:
    table = pd.DataFrame({"video_id": ["a", "a", "b"], "method": ["original", "original", "FaceSwap"]})
    counts = {"num_crops": 3, "num_videos": 2, "by_method": {"original": 2, "FaceSwap": 1}}
    assert json.loads(json.dumps(count_crops(table))) == counts


def test_code_state_has_the_git_commit() -> None:
    commit = find_code_state().commit
    assert commit == "" or len(commit) == 40


def test_code_state_without_git_has_no_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("unmask.tracking.provenance.config_dir", lambda: tmp_path / "configs")
    state = find_code_state()
    assert (state.commit, state.is_dirty) == ("", False)
