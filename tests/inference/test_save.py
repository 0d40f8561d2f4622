from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from unmask.errors import ConfigError, MediaError
from unmask.faces.spec import CropSpec
from unmask.inference import annotate, save
from unmask.inference.annotate import _between, draw_heat, spread_map
from unmask.inference.predictor import Predictor
from unmask.inference.results import FaceScore, FrameResult, Prediction
from unmask.inference.save import check_extras, save_extras
from unmask.media import encode, video
from unmask.media.encode import write_video
from unmask.media.frames import Screen
from unmask.media.image import read_image, write_jpeg
from unmask.media.video import probe_video, read_frames


@pytest.fixture
def talkie(tmp_path: Path, clip: Path) -> Path:
    """The clip with a second of sound."""
    path = tmp_path / "talkie.mp4"
    with av.open(str(clip)) as images, av.open(str(path), "w") as output:
        copied = output.add_stream_from_template(images.streams.video[0])
        sound = output.add_stream("aac", rate=16000, layout="mono")
        for packet in images.demux(images.streams.video[0]):
            if packet.dts is not None:
                packet.stream = copied
                output.mux(packet)
        for start in range(0, 16000, 1024):
            wave = np.sin(np.arange(start, start + 1024) / 20).astype(np.float32)[None]
            frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16000, start
            output.mux(sound.encode(frame))
        output.mux(sound.encode(None))
    return path


def count_sound(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size]


def test_extras_of_a_video_are_written(
    talkie: Path, spec: CropSpec, make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    prediction = Predictor.load(make_checkpoint(spec), device="cpu", num_frames=6).predict_video(talkie)
    files = save_extras(prediction, tmp_path / "extras", names=["heatmaps", "video", "timeline"], spec=spec)
    names = {path.name for path in files}
    assert {"annotated.mp4", "timeline.png"} < names
    assert {path.name for path in (tmp_path / "extras").iterdir()} == names
    assert len([name for name in names if name.startswith("heatmap_")]) == len(prediction.key_frames) == 5
    assert read_image(tmp_path / "extras" / "timeline.png").shape[2] == 3
    annotated = tmp_path / "extras" / "annotated.mp4"
    assert probe_video(annotated).num_frames == probe_video(talkie).num_frames
    before, after = (list(read_frames(path)) for path in (talkie, annotated))
    assert [frame.time_seconds for frame in after] == pytest.approx([frame.time_seconds for frame in before], abs=1e-3)
    x1, y1, _, y2 = (round(value) for value in prediction.frames[0].faces[0].box)
    edge = np.s_[(y1 + y2) // 2, x1 - 1 : x1 + 2]
    assert np.abs(before[0].image[edge].astype(int) - after[0].image[edge]).max() > 30
    assert len(count_sound(talkie)) > 10
    sound = count_sound(talkie)
    assert count_sound(annotated) == sound[len(sound) - len(count_sound(annotated)) :]
    assert len(count_sound(annotated)) >= len(sound) - 1  # the encoder's priming comes before the first frame


def test_a_video_without_sound_is_annotated(
    clip: Path, spec: CropSpec, make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    prediction = Predictor.load(make_checkpoint(spec), device="cpu", num_frames=2).predict_video(clip)
    assert [path.name for path in save_extras(prediction, tmp_path / "x", names=["video"], spec=spec)] == [
        "annotated.mp4"
    ]


def test_heat_maps_decode_only_the_frames_they_show(
    clip: Path, spec: CropSpec, make_checkpoint: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prediction = Predictor.load(make_checkpoint(spec), device="cpu", every_n=1).predict_video(clip)
    decoded = []
    show = Screen.show
    monkeypatch.setattr(Screen, "show", lambda *frame, **beside: decoded.append(frame) or show(*frame, **beside))
    files = save_extras(prediction, tmp_path, names=["heatmaps"], spec=spec)
    assert len(files) == len(decoded) == len(prediction.key_frames) == 5


@pytest.mark.parametrize("name", ["heatmaps", "video"])
def test_extras_keep_the_limit_of_pixels(
    clip: Path, spec: CropSpec, make_checkpoint: Callable[..., Path], tmp_path: Path, name: str
) -> None:
    prediction = Predictor.load(make_checkpoint(spec), device="cpu", num_frames=2).predict_video(clip)
    with pytest.raises(MediaError, match=r"192 x 192 pixels, more than the maximum of 36,863"):
        save_extras(prediction, tmp_path, names=[name], spec=spec, max_pixels=192 * 192 - 1)
    assert save_extras(prediction, tmp_path, names=[name], spec=spec, max_pixels=192 * 192)


def test_the_heat_map_of_an_image_keeps_the_limit_of_pixels(
    whole_image_spec: CropSpec, make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    write_jpeg(tmp_path / "a.jpg", np.full((40, 40, 3), 90, np.uint8), quality=90)
    prediction = Predictor.load(make_checkpoint(whole_image_spec), device="cpu").predict_image(tmp_path / "a.jpg")
    with pytest.raises(MediaError, match="40 x 40 pixels, more than the maximum of 1,599"):
        save_extras(prediction, tmp_path, names=["heatmaps"], spec=whole_image_spec, max_pixels=1599)


def test_a_face_appears_with_its_first_frame_and_stays_until_the_next_examined_one() -> None:
    first, then = (
        FrameResult(10 * at, at, tuple(FaceScore(track, (at, 0, at + 9, 9), 1.0, 0.5) for track in tracks))
        for at, tracks in enumerate([(0, 1), (1, 2)])
    )
    placed = {face.track: face.box for face in _between(first, then, 0.5)}
    assert placed == {0: (0, 0, 9, 9), 1: (0.5, 0, 9.5, 9)}


@pytest.fixture
def prediction(clip: Path, spec: CropSpec, make_checkpoint: Callable[..., Path]) -> Prediction:
    return Predictor.load(make_checkpoint(spec), device="cpu", num_frames=2).predict_video(clip)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (IndexError("tuple index out of range"), "tuple index out of range"),
        (ValueError("Conversion to numpy array is not supported."), "Conversion to numpy array is not supported"),
        (av.error.InvalidDataError(1, "Invalid data found", "a.mp4"), "Invalid data found"),
        (av.error.UndefinedError(1, "Unknown error occurred", "a.mp4"), "Unknown error occurred"),
        (EOFError(), "EOFError"),
        (OverflowError("too large"), "too large"),
    ],
)
@pytest.mark.parametrize("name", ["heatmaps", "video"])
def test_every_ffmpeg_error_names_the_file_and_leaves_no_output(
    prediction: Prediction,
    spec: CropSpec,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    error: Exception,
    reason: str,
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(video, "_find_place", fail)
    with pytest.raises(MediaError, match=rf"talking head\.mp4' cannot be .*{reason}\. "):
        save_extras(prediction, tmp_path / "x", names=[name], spec=spec)
    assert list(tmp_path.glob("x/*")) == []


@pytest.mark.parametrize("name", ["heatmaps", "video"])
@pytest.mark.parametrize("error", [ValueError, IndexError, ZeroDivisionError])
def test_a_bug_in_drawing_is_not_blamed_on_the_file(
    prediction: Prediction,
    spec: CropSpec,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    error: type[Exception],
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error("drawn wrongly")

    monkeypatch.setattr(annotate, "draw_faces", fail)
    monkeypatch.setattr(save, "draw_face_heat", fail)
    with pytest.raises(error, match="drawn wrongly"):
        save_extras(prediction, tmp_path / "x", names=[name], spec=spec)
    assert list(tmp_path.glob("x/*")) == []


def test_a_failed_video_names_the_file_and_leaves_no_output(
    clip: Path, spec: CropSpec, make_checkpoint: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise av.error.ExternalError(1, "Generic error in an external library", "x264")

    prediction = Predictor.load(make_checkpoint(spec), device="cpu", num_frames=2).predict_video(clip)
    monkeypatch.setattr(encode, "_add_video", fail)
    with pytest.raises(MediaError, match=r"talking head\.mp4' cannot be .*Generic error in an external library\. "):
        save_extras(prediction, tmp_path / "x", names=["video"], spec=spec)
    assert list(tmp_path.glob("x/*")) == []


def test_every_nth_frame_is_examined(clip: Path, spec: CropSpec, make_checkpoint: Callable[..., Path]) -> None:
    predictor = Predictor.load(make_checkpoint(spec), device="cpu", every_n=10)
    steps = list(predictor.watch_video(clip))
    assert steps[-1].prediction is not None
    assert [frame.index for frame in steps[-1].prediction.frames] == [0, 10, 20]
    assert (steps[-1].num_done, steps[-1].num_frames) == (3, 3)
    with pytest.raises(ConfigError, match="every_n=0"):
        Predictor.load(make_checkpoint(spec), device="cpu", every_n=0)


def test_memory_does_not_grow_with_the_video(
    tmp_path: Path, whole_image_spec: CropSpec, make_checkpoint: Callable[..., Path]
) -> None:
    import tracemalloc

    predictor = Predictor.load(make_checkpoint(whole_image_spec), device="cpu", every_n=1, batch_size=8)
    peaks = []
    for num_frames in (30, 30, 240):
        write_video(tmp_path / "long.mp4", (np.full((128, 128, 3), n, np.uint8) for n in range(num_frames)), fps=25)
        tracemalloc.start()
        assert len(predictor.predict_video(tmp_path / "long.mp4").frames) == num_frames
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] - peaks[1] < 210 * 4000, "more than 4 kB a frame: pixels are kept"


def test_a_heat_map_is_hot_where_the_map_is_high() -> None:
    heat = spread_map(np.array([[3.0, -5.0], [0.0, 0.0]]), size=64)
    assert heat[:16, :16].min() == 1.0
    assert heat[:, 48:].max() == 0.0
    assert spread_map(np.full((2, 2), -1.0), size=8).max() == 0.0
    drawn = draw_heat(np.full((64, 64, 3), 128, np.uint8), np.array([[3.0, 0.0], [0.0, 0.0]]))
    assert drawn[4, 4, 0] > drawn[60, 60, 0]
    assert drawn[4, 4, 0] > drawn[4, 4, 2]


def test_an_unknown_extra_lists_the_choices() -> None:
    with pytest.raises(ConfigError, match=r"'gif'.*heatmaps, video, timeline"):
        check_extras(["video", "gif"])
