"""The first page: give files, see verdicts."""

import streamlit as st

from unmask.types import MediaKind
from unmask.web.app.batch import show_downloads, show_table
from unmask.web.app.card import show_card
from unmask.web.app.faces import say_dropped, show_frame
from unmask.web.app.loading import Model
from unmask.web.app.model_line import show_model_line, warn_of_models
from unmask.web.app.session import look_at_all
from unmask.web.app.settings import Settings
from unmask.web.app.uploads import ask_files
from unmask.web.app.video import show_video
from unmask.web.app.views import Looked
from unmask.web.app.words import NO_PROOF


def show_check_page(model: Model, settings: Settings) -> None:
    """Ask for files and show what the model says of them.

    Args:
        model: The one chosen in the side bar.
        settings: Of the app.
    """
    st.title("Is this face real?", anchor=False)
    show_model_line(model)
    dropped = ask_files(page="check")
    (files,) = look_at_all([model], dropped, page="check", settings=settings)  # which forgets what was taken away
    if not files:
        warn_of_models(model)
        _explain()
        return
    if len(files) == 1:
        show_file(model, files[0])
        show_downloads(model, files)
    else:
        show_file(model, show_table(model, files))


def show_file(model: Model, looked: Looked) -> None:
    """Show everything about one file, the verdict first."""
    show_card(model, looked)
    if looked.prediction.error is not None:
        return
    if looked.prediction.kind is MediaKind.VIDEO:
        show_video(model, looked)
    elif looked.views:
        st.fragment(_show_picture)(looked)
    else:
        say_dropped()


def _show_picture(looked: Looked) -> None:
    found = looked.prediction.faces
    st.subheader("Where the score comes from" if found else "What was examined", anchor=False)
    show_frame(looked, looked.views[0], key=looked.key, alt="The image with its faces marked")


def _explain() -> None:
    st.markdown(
        "Drop images or a video with a face. You get a verdict, where the score lies against its threshold, the "
        "faces that were found, a heat map of what looks forged, and of a video its timeline. Several files give a "
        "table that you can sort and download."
    )
    st.caption(NO_PROOF)
