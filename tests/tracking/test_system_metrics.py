import threading

import pytest

from unmask.tracking import store


def test_reader_that_hangs_does_not_keep_a_training_from_ending(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked, go_on = threading.Event(), threading.Event()

    class Stuck:
        def collect_metrics(self) -> None:
            asked.set()
            go_on.wait(60)

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
    go_on.set()
    assert "its last readings are lost" in caplog.text
