"""What prediction costs beside its parts alone: images against ONNX Runtime, video against decode + detect + network.

python benchmarks/predict.py [bundle] [video] [rounds]

Without arguments it takes what `make demo` made.

Bars: images with given faces reach 0.9 of ONNX Runtime's throughput on the same crops, video 0.6 of its parts run one
after another. Rounds alternate; figures are medians.
"""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from unmask.faces.crop import crop_as_stored, prepare_input, stack_planes
from unmask.inference.predictor import Predictor
from unmask.media.video import read_frames

NUM_CROPS = 256
BARS = {"images": 0.9, "video": 0.6}


def measure(work: Callable[[], object]) -> float:
    """Return the wall seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    """Alternate the ways, and print medians and ratios."""
    demo_video = "data/demo/original_sequences/youtube/c23/videos/000.mp4"
    bundle = Path(sys.argv[1] if len(sys.argv) > 1 else "outputs/demo/train/bundle")
    video = Path(sys.argv[2] if len(sys.argv) > 2 else demo_video)
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 7
    predictor = Predictor.load(bundle, device="cpu")
    frame = next(read_frames(video, num_frames=1))
    faces = predictor.detector.detect([frame.image])[0][:1]
    crop = prepare_input(crop_as_stored(frame.image, faces[0], predictor.crop_spec), predictor.input_spec)
    batch = stack_planes([crop] * predictor.batch_size)

    def run_network() -> None:
        for _ in range(NUM_CROPS // predictor.batch_size):
            predictor.backend.score(batch)

    def run_parts() -> None:
        frames = list(read_frames(video, num_frames=predictor.num_frames))
        found = predictor.detector.detect([shown.image for shown in frames])
        spec, size = predictor.crop_spec, predictor.input_spec
        crops = [
            prepare_input(crop_as_stored(shown.image, face, spec), size)
            for shown, some in zip(frames, found, strict=True)
            for face in some
        ]
        predictor.backend.score(stack_planes(crops))

    ways: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "images": (
            lambda: predictor.predict_images([frame.image] * NUM_CROPS, faces=[faces] * NUM_CROPS),
            run_network,
        ),
        "video": (lambda: predictor.predict_video(video), run_parts),
    }
    for name, (ours, parts) in ways.items():
        ours(), parts()
        pairs = [(measure(ours), measure(parts)) for _ in range(rounds)]
        mine, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratio = statistics.median(part / own for own, part in pairs)
        verdict = "held" if ratio >= BARS[name] else "missed"
        print(f"{name:<9} predictor {mine:.3f} s, parts {theirs:.3f} s, ratio {ratio:.2f}, bar {BARS[name]}: {verdict}")


if __name__ == "__main__":
    main()
