"""Who is who: whether tracks hold one person each, by position alone and with appearance, and what that costs.

    python benchmarks/people.py

Films drawn people (12, seeds 0 to 11; 32 frames each, a quarter of a second apart), and cuts between them so that all
faces lie in about one place. `purity` is the share of faces whose track belongs to their person, `tracks` how many
tracks a person has; both are 1 at best. The faces are those that the default detector finds.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Sequence

import cv2
import numpy as np

from unmask.faces.retinaface_mobilenet import RetinaFaceMobileNet
from unmask.faces.track import Look, describe_faces, link_tracks
from unmask.synthetic.draw import Sitter, film
from unmask.synthetic.identity import animate, draw_identity
from unmask.types import Face, Image

NUM_PEOPLE, NUM_FRAMES, SIDE = 12, 32, 256

Shot = list[tuple[Face, Look]]
Sequenced = list[tuple[int, Face, Look]]


def main() -> None:
    """Print a table, and the cost of appearance beside that of detection."""
    detector = RetinaFaceMobileNet()
    spent = {"detect": 0.0, "describe": 0.0}
    steady = [film_person(seed, detector, spent, light=0.0) for seed in range(NUM_PEOPLE)]
    varied = [film_person(seed, detector, spent, light=0.25) for seed in range(NUM_PEOPLE)]
    print(f"{'':36} by position: purity tracks   with appearance: purity tracks")
    for light, shots in (("same light", steady), ("light varies", varied)):
        for name, sequences in arrange(shots).items():
            before = [rate(sequence, has_looks=False) for sequence in sequences]
            after = [rate(sequence, has_looks=True) for sequence in sequences]
            (old_purity, old_tracks), (purity, tracks) = np.mean(before, axis=0), np.mean(after, axis=0)
            print(f"{name + ', ' + light:36}{old_purity:20.3f}{old_tracks:7.2f}{purity:25.3f}{tracks:7.2f}")
    num_faces = 2 * NUM_PEOPLE * NUM_FRAMES
    detect, describe = (1000 * spent[key] / num_faces for key in ("detect", "describe"))
    print(f"CPU time a face: detection {detect:.1f} ms at {SIDE} px, appearance {describe:.2f} ms")


def film_person(seed: int, detector: RetinaFaceMobileNet, spent: dict[str, float], *, light: float) -> Shot:
    """Film a person, each frame in other light and sharpness."""
    rng = np.random.default_rng(seed)
    sitter = Sitter(draw_identity(rng), size=SIDE)
    shot = []
    for head in film(sitter, animate(rng, num_frames=NUM_FRAMES, fps=4), rng):
        image = change_light(head.image, rng, light)
        start = time.process_time()
        (faces,) = detector.detect([image])
        middle = time.process_time()
        looks = describe_faces(image, faces[:1])
        spent["detect"] += middle - start
        spent["describe"] += time.process_time() - middle
        shot += list(zip(faces[:1], looks, strict=True))
    return shot


def change_light(image: Image, rng: np.random.Generator, light: float) -> Image:
    """Change brightness, contrast and sharpness by about `light`."""
    if not light:
        return image
    changed = 255 * (image / 255) ** np.exp(light * rng.normal()) * np.exp(light * rng.normal() / 2)
    blurred = cv2.GaussianBlur(np.clip(changed, 0, 255).astype(np.uint8), (0, 0), rng.uniform(0.2, 1.5))
    return np.asarray(blurred, np.uint8)


def arrange(shots: Sequence[Shot]) -> dict[str, list[Sequenced]]:
    """Cut shots together; each frame says whose it is."""
    rng = np.random.default_rng(0)
    pairs = [(first, second) for first in range(NUM_PEOPLE) for second in range(first)]

    def cut(who: Sequence[int]) -> Sequenced:
        return [(person, *shots[person][place]) for place, person in enumerate(who) if place < len(shots[person])]

    return {
        "one person": [cut([person] * NUM_FRAMES) for person in range(NUM_PEOPLE)],
        "shot, counter-shot": [cut([pair[place // 3 % 2] for place in range(NUM_FRAMES)]) for pair in pairs],
        "replaced in the middle": [
            cut([pair[2 * place // NUM_FRAMES] for place in range(NUM_FRAMES)]) for pair in pairs
        ],
        "everybody, at random": [cut(rng.integers(NUM_PEOPLE, size=NUM_FRAMES).tolist()) for _ in range(50)],
    }


def rate(sequence: Sequenced, *, has_looks: bool) -> tuple[float, float]:
    """Return the purity of the tracks, and the mean number of tracks of a person."""
    looks = [[look] for _, _, look in sequence] if has_looks else None
    numbers = link_tracks([[face] for _, face, _ in sequence], looks=looks)
    owners: dict[int, Counter[int]] = defaultdict(Counter)
    tracks: dict[int, set[int]] = defaultdict(set)
    for (person, _, _), (number,) in zip(sequence, numbers, strict=True):
        owners[number][person] += 1
        tracks[person].add(number)
    pure = sum(max(owner.values()) for owner in owners.values())
    return pure / len(sequence), float(np.mean([len(some) for some in tracks.values()]))


if __name__ == "__main__":
    main()
