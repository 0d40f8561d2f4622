from typing import Any

import pytest

from unmask.forgeries import (
    Forgeries,
    SourceRecord,
    name_sources,
    qualify_figures,
    read_sources,
    read_trained_on,
    record_training,
    warn_in_short,
    warn_of_training,
)

DRAWN, SELF_MADE, EXTERNAL, UNKNOWN = (SourceRecord(f"{kind} set", kind) for kind in Forgeries)


@pytest.mark.parametrize("source", [DRAWN, SELF_MADE, UNKNOWN])
def test_all_but_fakes_made_by_others_are_warned_of_by_name(source: SourceRecord) -> None:
    warning, figures = warn_of_training([source]), qualify_figures([source])
    assert warning is not None
    assert figures is not None
    assert f"'{source.name}'" in warning
    assert warn_in_short([source])


def test_fakes_made_by_others_need_no_warning_whatever_the_source_is_called() -> None:
    for name in ("ffpp", "synthetic", "forge"):
        source = SourceRecord(name, Forgeries.EXTERNAL)
        assert warn_of_training([source]) is qualify_figures([source]) is warn_in_short([source]) is None


def test_a_mixture_is_as_doubtful_as_its_worst_part_and_says_that_it_is_a_part() -> None:
    warning = warn_of_training([EXTERNAL, SELF_MADE, DRAWN])
    assert warning is not None
    assert "partly" in warning
    assert "'drawn set'" in warning
    assert "external set" not in warning
    figures = qualify_figures([EXTERNAL, SELF_MADE])
    assert figures is not None
    assert "'self_made set'" in figures


@pytest.mark.parametrize(
    ("name", "kind"), [("synthetic", "drawn"), ("forge", "self_made"), ("ffpp", "unknown"), (None, "unknown")]
)
def test_records_from_before_are_read_by_their_name_alone(name: str | None, kind: str) -> None:
    (dataset,), (model,) = read_sources({"name": name}), read_trained_on({"dataset": name})
    assert dataset == model
    assert dataset.forgeries == kind


def test_a_record_wins_over_the_name() -> None:
    info = {
        "name": "synthetic",
        "sources": [{"name": "a", "forgeries": "external"}, {"name": "b", "forgeries": "drawn"}],
    }
    assert name_sources(read_sources(info)) == "a, b (drawn faces)"


@pytest.mark.parametrize("records", [[], "drawn", [3], {"name": "x"}, [{"forgeries": "newer kind"}], None])
def test_a_damaged_or_later_record_is_of_unknown_origin(records: Any) -> None:
    (source,) = read_trained_on({"dataset": "mine", "trained_on": records})
    assert source.forgeries is Forgeries.UNKNOWN


def test_a_training_that_makes_its_own_fakes_is_self_made_on_whatever_real_faces() -> None:
    kinds = [source.forgeries for source in record_training([EXTERNAL, UNKNOWN, DRAWN, SELF_MADE], makes_fakes=True)]
    assert kinds == ["self_made", "self_made", "drawn", "self_made"]
    assert record_training([EXTERNAL, DRAWN], makes_fakes=False) == (EXTERNAL, DRAWN)


def test_a_record_survives_plain_values() -> None:
    for source in (DRAWN, SELF_MADE, EXTERNAL, UNKNOWN):
        assert SourceRecord.from_dict(source.to_dict()) == source
