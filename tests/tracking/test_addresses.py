from pathlib import Path
from typing import Any

import pytest

import unmask
from unmask.tracking import addresses


def test_a_path_is_its_own_address() -> None:
    assert addresses.fetch_model("~/first/bundle") == Path.home() / "first" / "bundle"
    assert addresses.fetch_model("outputs/first/best.ckpt") == Path("outputs/first/best.ckpt")


@pytest.mark.parametrize("name", ["runs:/abc", "models:/faces@best"])
def test_an_address_is_looked_up_in_the_store_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    asked: list[tuple[str, Any]] = []

    def fetch(name: str, **options: Any) -> Path:
        asked.append((name, options["uri"]))
        return tmp_path

    monkeypatch.setattr(addresses, "_fetch", fetch)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert unmask.fetch_model(name) == tmp_path
    assert asked == [(name, "http://127.0.0.1:9")]
