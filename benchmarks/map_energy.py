"""Where heat maps of forged faces lie: their energy inside the forged region, beside that region's share of the crop.

python benchmarks/map_energy.py [bundle] [data] [frames a video]

Without arguments it takes what `make demo` made. The data lies in the layout of FaceForensics++ with `masks` folders
and `splits/test.json`; only videos of the test split are looked at. Bar: on average more energy lies inside than the
area's share, which is what a map that knows nothing has. On drawn forgeries it shows that the machinery works.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from unmask.faces.crop import cut_shown
from unmask.inference.annotate import spread_map
from unmask.inference.predictor import Predictor
from unmask.media.video import read_frames


def find_forgeries(root: Path) -> Iterator[tuple[str, Path, Path]]:
    """Yield method, video and mask of each forgery of the test split."""
    pairs = json.loads((root / "splits" / "test.json").read_text(encoding="utf-8"))
    names = {"_".join(pair) for one, other in pairs for pair in ((one, other), (other, one))}
    for video in sorted(root.glob("manipulated_sequences/*/*/videos/*.mp4")):
        mask = video.parents[2] / "masks" / "videos" / video.name
        if video.parents[1].name != "masks" and video.stem in names and mask.is_file():
            yield video.parents[2].name, video, mask


def measure(predictor: Predictor, video: Path, mask: Path) -> Iterator[tuple[float, float]]:
    """Yield for each scored face the share of energy inside the forged region, and that region's share of the crop."""
    faces = {frame.index: frame.faces for frame in predictor.predict_video(video).frames if frame.faces}
    for frame in read_frames(mask):
        for face in faces.get(frame.index, ()):
            if face.activation_map is None:
                raise SystemExit("This network has no maps of its own. Name a bundle of one with global pooling.")
            inside = cut_shown(frame.image, face.face, predictor.crop_spec)[..., 0] > 127
            heat = spread_map(face.activation_map, size=inside.shape[0])
            if inside.any() and heat.any():
                yield float(heat[inside].sum() / heat.sum()), float(inside.mean())


def main() -> None:
    """Print a line for each method, and one for all."""
    bundle = sys.argv[1] if len(sys.argv) > 1 else "outputs/demo/train/bundle"
    root = Path(sys.argv[2] if len(sys.argv) > 2 else "data/demo")
    predictor = Predictor.load(bundle, device="cpu", num_frames=int(sys.argv[3]) if len(sys.argv) > 3 else 8)
    found: dict[str, list[tuple[float, float]]] = {}
    for method, video, mask in find_forgeries(root):
        found.setdefault(method, []).extend(measure(predictor, video, mask))
    if not any(found.values()):
        raise SystemExit(f"No forgeries with masks of the test split in '{root}'.")
    every = [row for rows in found.values() for row in rows]
    for method, rows in {**found, "all": every}.items():
        energy, area = np.mean(rows, axis=0)
        over = np.mean([inside > share for inside, share in rows])
        print(f"{method:<15} {len(rows):>5} crops  energy inside {energy:.3f}  area {area:.3f}  over it in {over:.0%}")
    inside, share = np.mean(every, axis=0)
    print(f"bar {'held' if inside > share else 'missed'}: {inside / share:.2f} times the area's share")


if __name__ == "__main__":
    main()
