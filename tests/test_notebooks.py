import json
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
from tests.conftest import REPOSITORY

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))


def read_with(path: Path, root: Path) -> dict[str, Any]:
    """Read a notebook, and let its cell of parameters name a dataset."""
    notebook: dict[str, Any] = json.loads(path.read_text())
    cells = [cell for cell in notebook["cells"] if "parameters" in cell["metadata"].get("tags", ())]
    assert len(cells) == 1
    cells[0]["source"] = [f"root = {str(root)!r}"]
    return notebook


def test_there_is_a_notebook_to_explore_with() -> None:
    assert [path.name for path in NOTEBOOKS] == ["explore.ipynb"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebook_is_kept_without_outputs(path: Path) -> None:
    notebook = json.loads(path.read_text())
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)  # the first minor version that has ids
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_code_of_a_notebook_runs_from_top_to_bottom(
    path: Path, face_dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, Any] = {}
    with mpl.rc_context({"backend": "Agg"}):
        for cell in read_with(path, face_dataset)["cells"]:
            if cell["cell_type"] == "code":
                exec(compile("".join(cell["source"]), f"{path.name}:{cell['id']}", "exec"), names)
        assert len(names["figure"].axes) == 5 * 6
        mpl.pyplot.close(names["figure"])
    assert len(names["cues"]) >= 7
    assert "synthetic" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.skipif(
    not (find_spec("nbclient") and find_spec("ipykernel")), reason="nbclient and ipykernel are not installed"
)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebook_runs_in_a_kernel(path: Path, face_dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbclient
    import nbformat

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY / "src"), os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.from_dict(read_with(path, face_dataset))
    nbformat.validate(notebook)
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
