import threading

import pytest

from unmask.tracking import store


def test_hanging_reader_does_not_block_the_end_of_training(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked, release = threading.Event(), threading.Event()

    class Stuck:
        def collect_metrics(self) -> None:
            asked.set()
            release.wait(60)

        def aggregate_metrics(self) -> dict[str, float]:
            return {}

        def clear_metrics(self) -> None:
            pass

    monkeypatch.setattr(store, "_find_readers", lambda: [Stuck()])
    monkeypatch.setattr(store, "_SECONDS_TO_END", 0.1)
    readings = store.SystemReadings(lambda metrics, step: None, seconds=60)
    readings.start()
    assert asked.wait(10)
    readings.stop()
    release.set()
    assert "system metrics" in caplog.text
