"""Show that the memory of a prediction does not grow with the video: five minutes against two hours.

python benchmarks/predict_memory.py [bundle]

Without an argument it takes what `make demo` made. The videos are small, plain and without faces, whose results take
about 2 kB a frame more; each is predicted in a process of its own, evenly spaced and every n-th frame, whose peak
memory the system tells. Bar: two hours take at most 50 MB more than five minutes.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from unmask.media.encode import write_video

FPS = 10
LENGTHS = {"5 minutes": 300, "2 hours": 7200}
WAYS = {"32 evenly spaced": "num_frames=32", "every 10th frame": "every_n=10"}
BAR = 50.0

PROGRAM = """
import resource, sys
from unmask.inference.predictor import Predictor
bundle, video, key, number = sys.argv[1:]
predictor = Predictor.load(bundle, device="cpu", **{key: int(number)})
prediction = predictor.predict_video(video)
print(len(prediction.frames), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def main() -> None:
    """Print the peak memory of every way and length, and the differences."""
    bundle = sys.argv[1] if len(sys.argv) > 1 else "outputs/demo/train/bundle"
    peaks: dict[tuple[str, str], float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, seconds in LENGTHS.items():
            video = Path(folder) / f"{seconds}.mp4"
            write_video(video, (np.full((96, 128, 3), n % 256, np.uint8) for n in range(seconds * FPS)), fps=FPS)
            for way, option in WAYS.items():
                command = [sys.executable, "-c", PROGRAM, bundle, str(video), *option.split("=")]
                answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                frames, peak = answer.split()
                peaks[name, way] = float(peak)
                print(f"{way:<17} {name:<10} {frames:>5} frames looked at, peak {float(peak):6.0f} MB")
    short, long = LENGTHS
    for way in WAYS:
        growth = peaks[long, way] - peaks[short, way]
        print(f"{way:<17} grows by {growth:5.1f} MB, bar {BAR:g}: {'held' if growth <= BAR else 'missed'}")


if __name__ == "__main__":
    main()
