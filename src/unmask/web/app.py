"""The web page: drop pictures or a video, see the verdict.

streamlit run src/unmask/web/app.py -- outputs/train/<run>/checkpoints/best.ckpt
"""

import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import streamlit as st

from unmask.errors import MediaError, UnmaskError
from unmask.inference.drawing import draw_faces
from unmask.inference.predictor import Predictor
from unmask.inference.results import FaceResult, Prediction
from unmask.media.kinds import PICTURE_SUFFIXES, VIDEO_SUFFIXES
from unmask.media.picture import read_picture
from unmask.media.video import read_frames
from unmask.types import MediaKind, Picture, Verdict

SAYINGS = {
    Verdict.FAKE: (":material/warning:", "Fake", "red"),
    Verdict.REAL: (":material/check_circle:", "Real", "green"),
    Verdict.UNCERTAIN: (":material/help:", "Uncertain", "orange"),
    Verdict.NO_FACE: (":material/face_retouching_off:", "No face found", "gray"),
}


def main() -> None:
    """Lay out the page."""
    st.set_page_config(page_title="Unmask", page_icon=":material/theater_comedy:")
    st.title("Unmask")
    st.caption("Is the face in a picture or a video real or fake?")
    path = choose_checkpoint()
    if path is None:
        explain_training()
        return
    try:
        with st.spinner("Loading the model"):
            predictor: Predictor = st.cache_resource(load_predictor, show_spinner=False)(str(path), _stamp(path))
    except UnmaskError as error:
        st.error(_plain(error))
        return
    show_model(predictor)
    kinds = sorted(suffix.removeprefix(".") for suffix in PICTURE_SUFFIXES | VIDEO_SUFFIXES)
    files = st.file_uploader("Pictures or videos", type=kinds, accept_multiple_files=True)
    for file in files or []:
        show_file(predictor, file.name, file.getvalue(), stamp=_stamp(path))


def choose_checkpoint() -> Path | None:
    """Return the checkpoint of the text field, filled at first with that of the command line or the newest one."""
    given = next((argument for argument in sys.argv[1:] if argument.endswith(".ckpt")), None)
    first = given or find_newest(Path(os.environ.get("UNMASK_HOME", ".")) / "outputs")
    text = st.sidebar.text_input("Checkpoint", value=str(first or ""), help="A file that train.py wrote").strip()
    return Path(text) if text else None


def find_newest(folder: Path) -> Path | None:
    """Return the newest best checkpoint below a folder."""
    return max(folder.glob("**/checkpoints/best*.ckpt"), key=lambda path: path.stat().st_mtime, default=None)


def explain_training() -> None:
    """Say how to come by a checkpoint."""
    st.info("There is no checkpoint yet. Make one, then load this page again:")
    st.code(
        "python prepare.py source=synthetic output=data/synthetic-faces\n"
        "python train.py dataset.root=data/synthetic-faces",
        language="bash",
    )
    st.write("Or give the path of a checkpoint in the field at the left.")


def load_predictor(path: str, stamp: float) -> Predictor:
    """Load a checkpoint; `stamp` lets the cache notice that the file has changed."""
    return Predictor.load(path)


def show_model(predictor: Predictor) -> None:
    """Say in the side bar what decides."""
    decision, spec = predictor.decision, predictor.crop_spec
    st.sidebar.markdown(
        f"**Threshold** {decision.threshold:.4f} ({decision.criterion.replace('_', ' ')})\n\n"
        f"**Video score** {decision.aggregation} of {predictor.num_frames} frames\n\n"
        f"**Face detector** {spec.detector}"
    )


def show_file(predictor: Predictor, name: str, data: bytes, *, stamp: float) -> None:
    """Predict an upload and show what came of it."""
    st.divider()
    st.subheader(_plain(name), anchor=False)
    try:
        with st.spinner(f"Looking at {name}"):
            prediction, picture = st.cache_data(predict_upload, show_spinner=False, max_entries=20)(
                predictor, name, data, stamp
            )
    except UnmaskError as error:
        st.error(_plain(error))
        return
    icon, word, colour = SAYINGS[prediction.verdict]
    verdict, score, threshold = st.columns([2, 1, 1])
    verdict.markdown(f"### :{colour}[{icon} {word}]")
    score.metric("Score, P(fake)", "none" if prediction.score is None else f"{prediction.score:.4f}")
    threshold.metric("Threshold", f"{prediction.threshold:.4f}")
    if picture is not None:
        st.image(picture, caption=_caption(prediction), width="stretch")
    if prediction.kind is MediaKind.VIDEO and prediction.faces:
        st.line_chart(_timeline(prediction), x_label="seconds", y_label="score")
    if len(prediction.faces) > 1:
        st.dataframe([_row(face) for face in prediction.faces], hide_index=True)


def predict_upload(_predictor: Predictor, name: str, data: bytes, stamp: float) -> tuple[Prediction, Picture | None]:
    """Predict the bytes of a file, and draw its faces; of a video, into the frame with the highest score.

    Args:
        _predictor: Not part of the cache's key; `stamp` stands for it.
        name: As uploaded.
        data: The whole file.
        stamp: Of the checkpoint.

    Raises:
        MediaError: It cannot be read; the message names it as uploaded.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"upload{Path(name).suffix}"
        path.write_bytes(data)
        try:
            prediction = _predictor.predict_file(path)
            picture = read_picture(path) if prediction.kind is MediaKind.PICTURE else None
            faces = prediction.faces
            if prediction.kind is MediaKind.VIDEO and faces:
                picture, faces = _clearest_frame(_predictor, path, prediction)
        except MediaError as error:
            raise MediaError(str(error).replace(str(path), name)) from error
    return replace(prediction, path=name), None if picture is None else draw_faces(picture, faces)


def _clearest_frame(
    predictor: Predictor, path: Path, prediction: Prediction
) -> tuple[Picture | None, tuple[FaceResult, ...]]:
    """Find the frame with the highest score of a face that decides, and its faces as of that frame."""
    rows = {face.track: face for face in prediction.faces}
    best = max(
        prediction.frames,
        key=lambda frame: max((face.score for face in frame.faces if rows[face.track].decides), default=-1.0),
    )
    faces = tuple(replace(rows[face.track], box=face.box, score=face.score) for face in best.faces)
    frames = read_frames(path, num_frames=predictor.num_frames)
    return next((frame.image for frame in frames if frame.index == best.index), None), faces


def _caption(prediction: Prediction) -> str:
    if not prediction.faces:
        return ""
    return "Boxes: number of the face and its score" + (
        ", in the frame with the highest score" if prediction.kind is MediaKind.VIDEO else ""
    )


def _timeline(prediction: Prediction) -> Any:
    import pandas as pd

    rows = [
        (frame.time_seconds, f"face {face.track}", face.score) for frame in prediction.frames for face in frame.faces
    ]
    return pd.DataFrame(rows, columns=["time", "face", "score"]).pivot(index="time", columns="face", values="score")


def _row(face: FaceResult) -> dict[str, Any]:
    return {
        "face": face.track,
        "verdict": str(face.verdict),
        "score": face.score,
        "frames": face.num_frames,
        "decides": face.decides,
    }


def _stamp(path: Path) -> float:
    return path.stat().st_mtime if path.is_file() else 0.0


def _plain(text: object) -> str:
    """Keep Streamlit from reading names of files as Markdown."""
    return "".join(f"\\{letter}" if letter in "\\`*_[]$:~#<>" else letter for letter in str(text))


if __name__ == "__main__":
    main()
