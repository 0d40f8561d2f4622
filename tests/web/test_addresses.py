from pathlib import Path

import pytest

from unmask.web import addresses


def test_a_path_is_its_own_address() -> None:
    assert addresses.find_model("~/first/bundle") == Path.home() / "first" / "bundle"
    assert addresses.find_model("outputs/first/best.ckpt") == Path("outputs/first/best.ckpt")


@pytest.mark.parametrize("name", ["runs:/abc", "models:/faces@best"])
def test_an_address_is_asked_for_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    asked: list[str] = []

    def fetch(name: str) -> Path:
        asked.append(name)
        return tmp_path

    monkeypatch.setattr("unmask.training.tracking_fetch.fetch_model", fetch)
    assert addresses.find_model(name) == tmp_path
    assert asked == [name]
