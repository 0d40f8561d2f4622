"""Create a folder from this checkout and a bundle that Hugging Face Spaces and Streamlit Community Cloud can run.

python spaces/assemble.py outputs/train/first/bundle ../my-space

Commit the folder (`*.onnx` with Git LFS) and push it; see docs/serving.md, "Shipping".
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
    """Write the folder, replacing the parts of an earlier one.

    Args:
        bundle: Bundle of a training.
        folder: Folder of the Space, whose other files stay.
    """
    missing = [name for name in MODEL if not (bundle / name).is_file()]
    if missing:
        sys.exit(f"'{bundle}' is not a bundle: it has no '{missing[0]}'. Give the folder 'bundle' of a training.")
    copies = list_copies(bundle)
    check_apart(copies, folder)
    weights = find_weights()
    copies[f"weights/{weights.name}"] = weights
    check_apart(copies, folder)  # check everything before anything is removed
    for name, source in copies.items():
        replace(source, folder / name)
    for name, text in TEXTS.items():
        (folder / name).write_text(text)


def list_copies(bundle: Path) -> dict[str, Path]:
    """Return the source of each part of the folder, except the weights."""
    return {
        **{name: REPOSITORY / name for name in PARTS},
        **{name: REPOSITORY / "spaces" / name for name in OWN},
        **{f"bundle/{name}": bundle / name for name in MODEL},
        # Streamlit Community Cloud reads the one at the top, not the one beside the app.
        ".streamlit/config.toml": REPOSITORY / "src/unmask/web/app/.streamlit/config.toml",
    }


def check_apart(copies: dict[str, Path], folder: Path) -> None:
    """Exit if writing the folder would remove or overwrite its sources or this checkout.

    Args:
        copies: Source of each part, by its name in the folder.
        folder: Folder of the Space.
    """
    place = folder.resolve()
    for source in (REPOSITORY, *copies.values()):
        if is_lost(source.resolve(), copies, place):
            sys.exit(
                f"'{folder}' cannot be the folder of a Space: writing it would remove or overwrite its source "
                f"'{source}'. Nothing was changed. Give a separate folder: "
                f"python spaces/assemble.py <bundle> ../my-space"
            )


def is_lost(source: Path, copies: dict[str, Path], place: Path) -> bool:
    """Return whether copying would destroy a source, or copy it into itself.

    Args:
        source: File or folder that is copied, or this checkout.
        copies: Source of each part, by its name in the folder.
        place: The folder of the Space, resolved.
    """
    is_within = source in place.parents and source != REPOSITORY  # a folder such as outputs/my-space is harmless
    targets = [place / name for name in copies]
    removed = [place / name for name, copied in copies.items() if copied.is_dir()]
    return (
        is_within
        or source == place
        or source in [target.resolve() for target in targets]
        or any(target in (source, *source.parents) for target in removed)
    )


def replace(source: Path, target: Path) -> None:
    """Replace a file or folder with a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "local"))
    else:
        shutil.copyfile(source, target)


def find_weights() -> Path:
    """Return the face detector's weights file, downloaded if needed."""
    sys.path.insert(0, str(REPOSITORY / "src"))
    from unmask.errors import DetectorError
    from unmask.faces.retinaface_mobilenet import mobilenet_weights

    try:
        return mobilenet_weights()
    except DetectorError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    assemble(Path(sys.argv[1]), Path(sys.argv[2]))
