"""The web app: drop images or a video, see the verdict.

streamlit run src/unmask/web/app/main.py -- outputs/train/<run>/bundle
"""

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import streamlit as st

from unmask.errors import UnmaskError
from unmask.web.app.check_page import show_check_page, show_compare_page
from unmask.web.app.model_page import show_model_page
from unmask.web.app.models import (
    Model,
    ModelFile,
    Settings,
    follow_aliases,
    given_model,
    list_models,
    load_model,
    read_settings,
)
from unmask.web.app.views import code, plain

STYLE = """
<style>
.stMainBlockContainer { max-width: 68rem; padding-top: 4rem; }
.stMarkdown code { color: inherit; overflow-wrap: anywhere; white-space: pre-wrap; }
.stMarkdown td { overflow-wrap: anywhere; }
.stMarkdown td:first-child { width: 9rem; overflow-wrap: normal; }
.stMarkdown thead { display: none; }
[class*="st-key-verdict"] h2 { padding: 0; }
#vg-tooltip-element img { width: 11rem; max-width: 45vw; height: auto; }
@media (max-width: 640px) {
  .stMainBlockContainer { padding-left: 1rem; padding-right: 1rem; }
  #vg-tooltip-element { left: 1rem !important; }
}
</style>
"""


def main() -> None:
    """Lay out the app: the model in the sidebar, one page per task."""
    st.set_page_config(page_title="Unmask", page_icon=str(Path(__file__).with_name("icon.svg")), layout="wide")
    st.html(STYLE)
    page = st.navigation(
        [
            st.Page(partial(run_page, check_files), title="Check files", icon=":material/search:", default=True),
            st.Page(
                partial(run_page, compare_models), title="Compare models", icon=":material/compare:", url_path="compare"
            ),
            st.Page(
                partial(run_page, describe_model),
                title="About the model",
                icon=":material/fact_check:",
                url_path="about",
            ),
        ],
        position="top",
    )
    page.run()


Show = Callable[[Model, list[ModelFile], Settings], None]


def run_page(show: Show) -> None:
    """Load the chosen model and show a page; show an UnmaskError as a message.

    Args:
        show: Function that takes the model, all other models and the settings.
    """
    try:
        settings = st.cache_resource(_read_settings, show_spinner=False)(os.environ.get("UNMASK_HOME"))
        files = follow_aliases(list_models(settings.folders, given=given_model()))
        if not files:
            show_welcome(settings.folders)
            return
        chosen = _choose(files)
        show(load_model(chosen, settings), [file for file in files if file != chosen], settings)
    except UnmaskError as error:
        st.error(plain(error), icon=":material/error:")


def check_files(model: Model, others: list[ModelFile], settings: Settings) -> None:
    """Show the page that checks files."""
    show_check_page(model, settings)


def compare_models(model: Model, others: list[ModelFile], settings: Settings) -> None:
    """Show the page that compares two models."""
    show_compare_page(model, others, settings)


def describe_model(model: Model, others: list[ModelFile], settings: Settings) -> None:
    """Show the page about the model."""
    show_model_page(model, settings)


def _read_settings(home: str | None) -> Settings:
    """Read the settings; cached per `UNMASK_HOME`."""
    return read_settings()


def _choose(files: list[ModelFile]) -> ModelFile:
    by_path = {file.path: file for file in files}  # the path stays when a model is overwritten
    with st.sidebar:
        path: str = st.selectbox("Model", by_path, format_func=lambda path: by_path[path].label, key="model")
        st.caption(plain(by_path[path].place))
    return by_path[path]


def show_welcome(folders: Sequence[Path]) -> None:
    """Explain how to get a model.

    Args:
        folders: Folders that were searched for models.
    """
    st.title("Is this face real?", anchor=False)
    st.info("There is no model yet. Create one, then reload this page.", icon=":material/model_training:")
    st.markdown("**To try it out**: draw faces, forge them and train on them; takes about four minutes on two cores.")
    st.code("make demo", language="bash")
    st.markdown("**On your own data**, such as FaceForensics++:")
    st.code(
        "python prepare.py source=ffpp source.root=/data/FaceForensics++ output=data/ffpp-c23\n"
        "python train.py dataset.root=data/ffpp-c23",
        language="bash",
        wrap_lines=True,
    )
    st.markdown("**With an existing model**, a bundle or a checkpoint:")
    st.code("make app CHECKPOINT=path/to/bundle", language="bash")
    looked = " and ".join(code(folder.resolve()) for folder in folders)
    st.caption(f"Searched for bundles and checkpoints below {looked}.")
    st.button("Search again", icon=":material/refresh:")


if __name__ == "__main__":
    main()
