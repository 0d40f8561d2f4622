"""What is shown where there is no model yet."""

from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from unmask.web.app.text import code


def show_welcome(folders: Sequence[Path]) -> None:
    """Say how to come by a model.

    Args:
        folders: Where models were looked for.
    """
    st.title("Is this face real?", anchor=False)
    st.info("There is no model yet. Make one, then load this page again.", icon=":material/model_training:")
    st.markdown("**To try it out**: draws faces, forges them, trains on them; about three minutes on two cores.")
    st.code("make demo", language="bash")
    st.markdown("**On data of your own**, such as FaceForensics++:")
    st.code(
        "python prepare.py source=ffpp source.root=/data/FaceForensics++ output=data/ffpp-c23\n"
        "python train.py dataset.root=data/ffpp-c23",
        language="bash",
        wrap_lines=True,
    )
    st.markdown("**With a model that you have**, a bundle or a checkpoint:")
    st.code("make app CHECKPOINT=path/to/bundle", language="bash")
    looked = " and ".join(code(folder.resolve()) for folder in folders)
    st.caption(f"Looked for bundles and checkpoints below {looked}.")
    st.button("Look again", icon=":material/refresh:")
