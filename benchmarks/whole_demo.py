"""Seconds, memory and disk of the whole demo in a fresh folder: bars 5 minutes, 4 GB, 300 MB, test video ROC-AUC 0.95.

    python benchmarks/whole_demo.py [overrides of the training]

ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 with precision=fp32 stand in for a processor without AVX512.

Memory is the sum of the proportional set sizes of all its processes (Linux), the largest of samples twice a second.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

MINUTES, GIGABYTES, DISK_MEGABYTES, AUROC = 5, 4, 300, 0.95


def descendants(pid: int) -> list[int]:
    """Return a process and all below it."""
    found = [pid]
    for parent in found:
        for tasks in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += [int(child) for child in tasks.read_text().split()]
            except OSError:
                continue  # ended meanwhile
    return found


def memory_of(pid: int) -> int:
    """Return the bytes that a process and those below it hold; shared pages count once."""
    total = 0
    for process in descendants(pid):
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


def main() -> None:
    """Run the demo, watch its memory, and print figures beside their bars."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        demo = subprocess.Popen(
            [sys.executable, "-m", "unmask.cli.demo", *sys.argv[1:]],
            cwd=folder,
            env=os.environ | {"UNMASK_HOME": folder},
        )
        peak = [0]

        def watch() -> None:
            while demo.poll() is None:
                peak[0] = max(peak[0], memory_of(demo.pid))
                time.sleep(0.5)

        watcher = threading.Thread(target=watch)
        watcher.start()
        code = demo.wait()
        watcher.join()
        minutes = (time.monotonic() - start) / 60
        result = Path(folder) / "outputs" / "demo" / "evaluate" / "result.json"
        (figures,) = json.loads(result.read_text())["datasets"].values() if code == 0 else ({"video": {"auroc": 0}},)
        # Second names of one file take no further room.
        sizes = {path.stat().st_ino: path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()}
    megabytes = sum(sizes.values()) / 1e6
    auroc, gigabytes = figures["video"]["auroc"], peak[0] / 1e9
    print(f"\nminutes {minutes:.1f} (bar {MINUTES})   memory {gigabytes:.2f} GB (bar {GIGABYTES})", end="   ")
    print(f"disk {megabytes:.0f} MB (bar {DISK_MEGABYTES})", end="   ")
    print(f"test/video_auroc {auroc:.3f} (bar {AUROC})")
    held = code == 0 and minutes < MINUTES and gigabytes < GIGABYTES and megabytes <= DISK_MEGABYTES and auroc >= AUROC
    print("held" if held else "missed")
    sys.exit(not held)


if __name__ == "__main__":
    main()
