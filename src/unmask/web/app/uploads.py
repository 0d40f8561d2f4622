"""Where a visitor gives files: dropped, chosen, or taken with the camera."""

from typing import Any

import streamlit as st

from unmask.media.kinds import IMAGE_NAMES, VIDEO_FORMATS
from unmask.web.app.scoring import DroppedFile
from unmask.web.app.text import plain, shorten

FILES, CAMERA = "Files", "Camera"

_KEPT = "kept-files"
"""What was given last, on any page: Streamlit empties its own widgets whenever the page changes."""

_FEW = 3


def ask_files(*, page: str) -> list[DroppedFile]:
    """Show a place to drop files or the camera, and return what was given last, here or on another page.

    Any file is taken: whether it is an image or a video is told from its content, not from its name.

    Args:
        page: Tells the widgets from those of other pages.
    """
    source = st.segmented_control(
        "Where from",
        [FILES, CAMERA],
        default=FILES,
        required=True,
        format_func=lambda name: f"{':material/upload_file:' if name == FILES else ':material/photo_camera:'} {name}",
        label_visibility="collapsed",
        key=f"source-{page}",
    )
    key = f"{source}-{page}"
    if source == CAMERA:
        now = st.camera_input("Take a photo of a face", key=key, on_change=_keep, args=(key,))
    else:
        now = st.file_uploader("Images or videos", accept_multiple_files=True, key=key, on_change=_keep, args=(key,))
    kept: list[DroppedFile] = st.session_state.get(_KEPT, [])
    if kept and not now:
        _offer_kept(kept, page=page)
    if not kept:
        limit = f"Up to {st.get_option('server.maxUploadSize')} MB a file: a larger one turns red and is left out. "
        start = limit if source == FILES else ""
        st.caption(f"{start}What you give goes to the machine that runs this app, and is gone when you close the page.")
        if source == FILES:
            st.caption(f"Images: {', '.join(IMAGE_NAMES)}. Videos: {', '.join(VIDEO_FORMATS)}.")
    return kept


def _keep(key: str) -> None:
    given: Any = st.session_state[key]
    files = given if isinstance(given, list) else [given] if given else []
    st.session_state[_KEPT] = [
        DroppedFile(file.file_id, "camera.jpg" if key.startswith(CAMERA) else file.name, file) for file in files
    ]


def _offer_kept(kept: list[DroppedFile], *, page: str) -> None:
    """Say which files are shown though the place to drop them is empty."""
    names = ", ".join(plain(shorten(file.name)) for file in kept[:_FEW])
    more = f" and {len(kept) - _FEW} more" if len(kept) > _FEW else ""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"From before: {names}{more}", width="content")
        st.button("Take away", icon=":material/close:", key=f"forget-{page}", on_click=_forget)


def _forget() -> None:
    st.session_state.pop(_KEPT, None)
