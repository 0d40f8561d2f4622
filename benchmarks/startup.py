"""How fast the commands answer before any work: bar 1.5 s each, beside a bare `import hydra` in the same rounds.

python benchmarks/startup.py [rounds]
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
BAR_SECONDS = 1.5
PEER = [sys.executable, "-c", "import hydra"]
COMMANDS = {
    "train.py --help": ["train.py", "--help"],
    "train.py --cfg job": ["train.py", "--cfg", "job"],
    "train.py optimizer.lrr=1": ["train.py", "optimizer.lrr=1"],
    "prepare.py --help": ["prepare.py", "--help"],
    "evaluate.py --help": ["evaluate.py", "--help"],
    "predict.py --help": ["predict.py", "--help"],
}


def measure(command: list[str]) -> float:
    """Return the wall seconds of one run; a misspelt key is meant to fail."""
    start = time.perf_counter()
    subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    return time.perf_counter() - start


def main() -> None:
    """Alternate the commands and the peer, and print medians and ratios."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    times: dict[str, list[float]] = {name: [] for name in ("import hydra", *COMMANDS)}
    for _ in range(rounds):
        times["import hydra"].append(measure(PEER))
        for name, arguments in COMMANDS.items():
            times[name].append(measure([sys.executable, *arguments]))
    peer = statistics.median(times["import hydra"])
    print(f"Median of {rounds} alternating rounds; bar {BAR_SECONDS} s")
    for name, values in times.items():
        median = statistics.median(values)
        print(f"  {name:<26} {median:5.2f} s   {median / peer:5.2f} x import hydra")
    worst = max(statistics.median(times[name]) for name in COMMANDS)
    print(f"{'held' if worst < BAR_SECONDS else 'missed'}: slowest {worst:.2f} s")


if __name__ == "__main__":
    main()
