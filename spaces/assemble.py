"""Make the folder of a Hugging Face Space out of this checkout and a bundle.

python spaces/assemble.py outputs/train/first/bundle ../my-space

Commit what it wrote to the Space's repository (`model.onnx` with Git LFS) and push it.
"""

import shutil
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
PARTS = ("src", "configs", "pyproject.toml", "LICENSE", "requirements-app.lock")
MODEL = ("model.onnx", "spec.json")


def assemble(bundle: Path, folder: Path) -> None:
    """Write the folder; parts of an earlier one are replaced.

    Args:
        bundle: Of a training.
        folder: Of the Space; its other files stay.
    """
    missing = [name for name in MODEL if not (bundle / name).is_file()]
    if missing:
        sys.exit(f"'{bundle}' is no bundle: it has no '{missing[0]}'. Name the folder 'bundle' of a training.")
    folder.mkdir(parents=True, exist_ok=True)
    for name in PARTS:
        source, target = REPOSITORY / name, folder / name
        if source.is_dir():
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "local"))
        else:
            shutil.copy(source, target)
    for name in ("README.md", "Dockerfile"):
        shutil.copy(REPOSITORY / "spaces" / name, folder)
    (folder / "bundle").mkdir(exist_ok=True)
    for name in MODEL:
        shutil.copy(bundle / name, folder / "bundle")
    (folder / ".gitattributes").write_text("*.onnx filter=lfs diff=lfs merge=lfs -text\n")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    assemble(Path(sys.argv[1]), Path(sys.argv[2]))
