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
    copies = list_copies(bundle)
    check_apart(copies, folder)
    weights = find_weights()
    copies[f"weights/{weights.name}"] = weights
    check_apart(copies, folder)  # all before anything is removed
    for name, source in copies.items():
        replace(source, folder / name)
    for name, text in TEXTS.items():
        (folder / name).write_text(text)


def list_copies(bundle: Path) -> dict[str, Path]:
    """Return where each part of the folder comes from, but for the weights."""
    return {
        **{name: REPOSITORY / name for name in PARTS},
        **{name: REPOSITORY / "spaces" / name for name in OWN},
        **{f"bundle/{name}": bundle / name for name in MODEL},
        # Streamlit Community Cloud reads this one, at the top, and not the one beside the app.
        ".streamlit/config.toml": REPOSITORY / "src/unmask/web/app/.streamlit/config.toml",
    }


def check_apart(copies: dict[str, Path], folder: Path) -> None:
    """Exit if writing the folder would remove or overwrite what it is made of, or this checkout.

    Args:
        copies: Source of each part, by its name in the folder.
        folder: Of the Space.
    """
    place = folder.resolve()
    for source in (REPOSITORY, *copies.values()):
        if is_lost(source.resolve(), copies, place):
            sys.exit(
                f"'{folder}' cannot be the folder of a Space: writing it would remove or overwrite '{source}', which "
                f"it is made of. Nothing was changed. Name a folder of its own: "
                f"python spaces/assemble.py <bundle> ../my-space"
            )


def is_lost(source: Path, copies: dict[str, Path], place: Path) -> bool:
    """Tell whether a source would not outlive the copying, or be copied into itself.

    Args:
        source: A file or folder that something is copied from, or this checkout.
        copies: Source of each part, by its name in the folder.
        place: The folder of the Space, resolved.
    """
    is_within = source in place.parents and source != REPOSITORY  # a folder such as outputs/my-space does no harm
    targets = [place / name for name in copies]
    removed = [place / name for name, copied in copies.items() if copied.is_dir()]
    return (
        is_within
        or source == place
        or source in [target.resolve() for target in targets]
        or any(target in (source, *source.parents) for target in removed)
    )


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
