"""Run a preparation again and again, each time killed by SIGKILL at another change of a file, and compare the ends.

`python -m tests.preparation.killed whole|common|separate FOLDER` prints how many moments it tried. The runs are forks
of one process, which imports everything once.
"""

import io
import logging
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from itertools import count
from pathlib import Path
from typing import Any

from tests.preparation.test_prepare import SPEC, _prepare, _video
from tests.preparation.test_shards import _contents, _merge, _shard

from unmask.types import Label, Video

Command = Callable[[Path], object]
LISTS = ("near_duplicates.csv",)


def make_commands(kind: str, videos: list[Video]) -> list[Command]:
    """Return the commands that make a face dataset in `<folder>/faces`."""
    if kind == "whole":
        return [lambda folder: _prepare(videos, folder / "faces")]
    names = ["faces", "faces"] if kind == "common" else ["one", "two"]
    shards: list[Command] = [
        lambda folder, name=name, text=text: _shard(videos, folder / name, text)  # type: ignore[misc]
        for name, text in zip(names, ("1/2", "2/2"), strict=True)
    ]
    return [*shards, lambda folder: _merge(videos, folder / "faces", *(folder / name for name in dict.fromkeys(names)))]


def die_at(moment: int) -> None:
    """Kill this process before the n-th change of a file; of what is written then, the first half is on the disk."""
    changes = count(1)

    def is_last() -> bool:
        return next(changes) == moment

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    class Torn(io.FileIO):
        def write(self, data: Any) -> int:
            if is_last():
                super().write(bytes(data)[: len(data) // 2])
                die()
            return super().write(data)

    def write_bytes(self: Path, data: bytes) -> int:
        with Torn(self, "w") as file:
            return file.write(data)

    open_path = Path.open

    def open_torn(self: Path, mode: str = "r", *rest: Any, **options: Any) -> Any:
        return Torn(self, "ab+") if mode == "ab+" else open_path(self, mode, *rest, **options)

    def guard(owner: Any, name: str) -> None:
        change = getattr(owner, name)

        def guarded(*arguments: Any, **options: Any) -> Any:
            if is_last():
                die()
            return change(*arguments, **options)

        setattr(owner, name, guarded)

    Path.write_bytes, Path.open = write_bytes, open_torn  # type: ignore[assignment,method-assign]
    for owner, name in ((Path, "replace"), (Path, "unlink"), (os, "link"), (shutil, "rmtree")):
        guard(owner, name)


def run(command: Command, folder: Path, *, moment: int = 0) -> bool:
    """Run a command in a fork, and return whether it survived."""
    pid = os.fork()
    if pid == 0:
        die_at(moment)
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
            command(folder)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (0, -signal.SIGKILL), f"{code} at {moment}"
    return code == 0


def list_files(root: Path) -> Iterator[str]:
    for path in root.rglob("*"):
        if path.is_file():
            yield str(path.relative_to(root))


def main() -> None:
    kind, folder = sys.argv[1], Path(sys.argv[2])
    logging.disable()
    videos = [_video(folder, name, label=Label(name > "a"), lit=name != "c") for name in "abc"]
    commands = make_commands(kind, videos)
    for command in commands:
        assert run(command, folder / "expected")
    expected, names = _contents(folder / "expected/faces", also=LISTS), set(list_files(folder / "expected/faces"))
    assert len(expected) >= 3 + 2 * SPEC.num_frames, "tables and crops"
    num_tried = 0
    for place in range(len(commands)):
        for moment in count(1):
            shutil.rmtree(folder / "run", ignore_errors=True)
            for command in commands[:place]:
                assert run(command, folder / "run")
            if run(commands[place], folder / "run", moment=moment):
                break
            run(commands[place], folder / "run", moment=moment)  # killed again, or finished
            for command in commands[place:]:
                assert run(command, folder / "run")
            assert _contents(folder / "run/faces", also=LISTS) == expected, f"{place} {moment}"
            assert set(list_files(folder / "run/faces")) == names, f"{place} {moment}"
            num_tried += 1
    sys.stdout.write(f"{num_tried}\n")


if __name__ == "__main__":
    main()
