import json
from pathlib import Path

import pytest

from unmask.errors import SourceError
from unmask.forgeries import Forgeries, SourceRecord
from unmask.sources.ffpp import FaceForensics
from unmask.sources.folders import Source, record_source
from unmask.sources.forge import ForgedMedia
from unmask.sources.image_folder import ImageFolder
from unmask.sources.synthetic import SyntheticFaces
from unmask.types import Video


class Foreign:
    """A user's own source, which says nothing of its fakes."""

    name = "mine"

    def list_videos(self) -> list[Video]:
        return []


class Telling(Foreign):
    forgeries = "external"


class Wrong(Foreign):
    forgeries = "genuine"


class Mixed(Foreign):
    records = (SourceRecord("a", Forgeries.EXTERNAL), SourceRecord("b", Forgeries.DRAWN))


def kind_of(source: Source) -> str:
    (record,) = record_source(source)
    return record.forgeries.value


def test_what_unmask_wrote_is_known_by_its_mark_whatever_reads_it_and_calls_it(tmp_path: Path) -> None:
    (tmp_path / "drawn" / "original_sequences").mkdir(parents=True)
    (tmp_path / "drawn" / "synthetic.json").write_text("{}")
    (tmp_path / "forged").mkdir()
    (tmp_path / "forged" / "forge.json").write_text(json.dumps({"originals": {}}))
    for name, kind in (("drawn", "drawn"), ("forged", "self_made")):
        assert kind_of(FaceForensics(tmp_path / name, name="ffpp")) == kind
        assert kind_of(ImageFolder(tmp_path / name, name="celebs")) == kind
    assert kind_of(ImageFolder(tmp_path / "drawn" / "original_sequences")) == "drawn"


def test_a_published_dataset_is_external_even_if_it_is_called_as_ours(tmp_path: Path) -> None:
    assert kind_of(FaceForensics(tmp_path, name="synthetic")) == "external"
    assert kind_of(ImageFolder(tmp_path, name="forge")) == "external"


def test_drawn_faces_stay_drawn_when_they_are_forged_once_more(tmp_path: Path) -> None:
    source = ForgedMedia(tmp_path / "drawn", tmp_path / "out", detector=_NoDetector())
    assert kind_of(source) == "self_made"
    (tmp_path / "drawn").mkdir()
    (tmp_path / "drawn" / "synthetic.json").write_text("{}")
    assert kind_of(source) == kind_of(SyntheticFaces(tmp_path / "other")) == "drawn"
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "forge.json").write_text(json.dumps({"forgeries": "drawn"}))
    assert kind_of(FaceForensics(tmp_path / "out")) == "drawn"
    (tmp_path / "out" / "forge.json").write_text("damaged")
    assert kind_of(FaceForensics(tmp_path / "out")) == "self_made"


def test_a_source_of_somebody_else_may_say_so_and_is_unknown_if_it_does_not() -> None:
    assert kind_of(Foreign()) == "unknown"
    assert kind_of(Telling()) == "external"
    assert record_source(Mixed()) == Mixed.records
    with pytest.raises(SourceError, match=r"'genuine'.*'mine'.*Wrong.*drawn, self_made, external, unknown"):
        record_source(Wrong())


class _NoDetector:
    name, weights_sha256 = "none", ""

    def detect(self, images: object) -> list[list[object]]:
        return []
