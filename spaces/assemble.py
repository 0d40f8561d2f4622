"""Make a folder of this checkout and a bundle that Hugging Face Spaces and Streamlit Community Cloud run as it is.

python spaces/assemble.py outputs/train/first/bundle ../my-space

Commit what it wrote (`*.onnx` with Git LFS) and push it; docs/serving.md, "Shipping", says where.
"""

import shutil
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PARTS = ("src", "configs", "pyproject.toml", "LICENSE", "requirements-app.lock", ".gitignore")
OWN = ("README.md", "Dockerfile", "streamlit_app.py")
MODEL = ("model.onnx", "spec.json")
TEXTS = {
    ".gitattributes": "*.onnx filter=lfs diff=lfs merge=lfs -text\n",
    "requirements.txt": "-r requirements-app.lock\n",  # the name that Streamlit Community Cloud looks for
}


def assemble(bundle: Path, folder: Path) -> None:
    """Write the folder; parts of an earlier one are replaced.

    Args:
        bundle: Of a training.
        folder: Of the Space; its other files stay.
    """
    missing = [name for name in MODEL if not (bundle / name).is_file()]
    if missing:
        sys.exit(f"'{bundle}' is no bundle: it has no '{missing[0]}'. Name the folder 'bundle' of a training.")
    for name in PARTS:
        replace(REPOSITORY / name, folder / name)
    for name in OWN:
        replace(REPOSITORY / "spaces" / name, folder / name)
    for name in MODEL:
        replace(bundle / name, folder / "bundle" / name)
    weights = find_weights()
    replace(weights, folder / "weights" / weights.name)
    # Streamlit Community Cloud reads this one, at the top, and not the one beside the app.
    replace(REPOSITORY / "src/unmask/web/app/.streamlit/config.toml", folder / ".streamlit/config.toml")
    for name, text in TEXTS.items():
        (folder / name).write_text(text)


def replace(source: Path, target: Path) -> None:
    """Copy a file or a folder over an earlier one."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "local"))
    else:
        shutil.copyfile(source, target)


def find_weights() -> Path:
    """Return the file of the face detector's weights, fetched if need be."""
    sys.path.insert(0, str(REPOSITORY / "src"))
    from unmask.errors import DetectorError
    from unmask.faces.weights import mobilenet_weights

    try:
        return mobilenet_weights()
    except DetectorError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    assemble(Path(sys.argv[1]), Path(sys.argv[2]))
