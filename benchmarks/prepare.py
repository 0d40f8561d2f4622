"""What `prepare.py` costs beside decoding alone and two peers, its memory over 500 videos, a check of 100,000 files.

    python benchmarks/prepare.py [speed] [memory] [check] [clips=FOLDER] [photographs=FOLDER] [rounds=3]

Without a word of the first three it measures all. The clips (640x480 to 1280x720, 300 frames, H.264, one to three
people who move) are drawn, or made of square photographs of one face each; `clips` keeps them for the next run. The way
of this project is `prepare` with the default detector and two workers. Beside it stand

- `decode`: PyAV alone in two processes, which decodes all frames and converts the same 32 of each video to RGB;
- `opencv`: `VideoCapture.read` of every frame, a Haar cascade on the same 32, crops written as JPEG;
- `retinaface`: RetinaFace ResNet-50 once a sampled frame, as the README of retinaface-pytorch shows (`max_size=2048`).
  As it takes seconds a frame, two frames are measured, once, and multiplied. Without its weights at hand its network
  has random ones, which take the same time, and its faces are not counted.

A run on all clips less a run on two is what a video costs without the start of processes, by wall time and by CPU time;
other work on the machine changes the latter less. Rounds alternate; figures are medians. Bars: half of the videos a
minute of `decode`, 1.5 times those of the faster peer, as many faces found; 1.5 GB with two workers, level from the
10th video to the 500th; 100,000 files checked in 10 s. `benchmarks/splits.py` groups and splits a million rows (bar:
20 s).
"""

import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing import Pool
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from whole_demo import descendants

from unmask.faces.crop import cut_crop, encode_crop
from unmask.faces.detector import describe_detector
from unmask.faces.retinaface_mobilenet import RetinaFaceMobileNet
from unmask.faces.retinaface_resnet50 import WEIGHTS_URL
from unmask.faces.spec import CropSpec
from unmask.faces.track import describe_faces, follow_largest
from unmask.media.encode import write_video
from unmask.media.video import choose_frames, index_video, read_indexed
from unmask.preparation.prepare import prepare
from unmask.sources.image_folder import ImageFolder
from unmask.synthetic.draw import Sitter, film
from unmask.synthetic.identity import animate, draw_identity
from unmask.types import Face, Image

SIZES, PEOPLE = ((640, 480), (854, 480), (960, 540), (1280, 720)), (1, 2, 3)
NUM_FRAMES, NUM_SAMPLED, NUM_WORKERS, FPS = 300, 32, 2, 25
FEW = 2
NUM_RESNET_FRAMES = 2
NUM_SHORT, NUM_SHORT_FRAMES, NUM_DISTINCT, MARKS = 500, 16, 10, (10, 100)
NUM_FILES = 100_000
BARS = {"decode": 0.5, "peer": 1.5, "gigabytes": 1.5, "growth": 1.1, "seconds": 10}
FRACTIONS = {"train": 0.7, "val": 0.15, "test": 0.15}
DETECTOR: dict[str, Any] = {"confidence": 0.7, "nms_iou": 0.4, "max_side": 640, "first_side": 320}
"""Values of configs/detector/retinaface_mobilenet.yaml."""

Box = tuple[float, float, float, float]
Centres = list[tuple[float, float]]


def main() -> None:
    """Print the machine, and each measurement beside its bar."""
    words = [word for word in sys.argv[1:] if "=" not in word]
    options = dict(word.split("=", 1) for word in sys.argv[1:] if "=" in word)
    if words[:1] == ["one-way"]:  # in a process of its own, so that its CPU time and that of its children can be told
        _, way, clips, number = words
        print(json.dumps(WAYS[way](list_clips(Path(clips))[: int(number)])))
        return
    if words[:1] == ["prepare-folder"]:  # copies of few videos, which near-duplicates would list
        prepare_folder(*map(Path, words[1:]), near_duplicates="skip")
        return
    print_machine()
    with tempfile.TemporaryDirectory() as folder:
        clips = Path(options.get("clips", Path(folder) / "clips"))
        photographs = Path(options["photographs"]) if "photographs" in options else None
        if "speed" in words or not words:
            if photographs is not None and not any(photographs.glob("*.jpg")):
                sys.exit(
                    f"photographs={photographs} has no *.jpg. Name a folder of square photographs of one face each."
                )
            make_clips(clips, photographs)
            measure_speed(clips, rounds=int(options.get("rounds", 3)))
            print_profile(list_clips(clips))
        if "memory" in words or not words:
            measure_memory(Path(folder))
        if "check" in words or not words:
            measure_check(Path(folder))


def print_machine() -> None:
    """Print processor, cores, vector extensions, load and versions."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    facts = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
    values = {key.strip(): value.strip() for key, value in facts.items()}
    flags = [flag for flag in values.get("flags", "").split() if flag.startswith(("avx", "amx", "fma"))]
    print(f"{values.get('model name', platform.processor())}, {os.cpu_count()} cores, {' '.join(flags)}")
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{platform.platform()}, Python {platform.python_version()}, OpenCV {cv2.__version__}, load {load}")


# The clips


def list_clips(folder: Path) -> list[Path]:
    """Return the clips, sizes mixed."""
    return sorted(folder.rglob("*.mp4"), key=lambda path: path.name)


def make_clips(folder: Path, photographs: Path | None) -> None:
    """Write a clip for each size and number of people, unless it is there, with the places of the people beside it."""
    rng = np.random.default_rng(0)
    kinds = [(size, people) for people in PEOPLE for size in SIZES]
    for number, ((width, height), people) in enumerate(kinds):
        path = folder / ("real" if number % 2 else "fake") / f"{number:02d}_{width}x{height}_{people}.mp4"
        parts = [film_photograph, film_drawn][photographs is None]
        seeds = [int(seed) for seed in rng.integers(0, 2**31, people)]
        if path.exists() and path.with_suffix(".json").exists():
            continue
        heights = [height * (0.75 if place == 0 else 0.4) for place in range(people)]
        sides = [round(side * min(0.9 * width / sum(heights), 1)) for side in heights]
        films = [parts(seed, side, photographs) for seed, side in zip(seeds, sides, strict=True)]
        places: list[list[Box]] = []
        write_video(path, compose(films, sides, width=width, height=height, places=places, seed=number), fps=FPS)
        path.with_suffix(".json").write_text(json.dumps(places))
        print(f"  made {path}", flush=True)


def film_drawn(seed: int, side: int, _: Path | None, *, num_frames: int = NUM_FRAMES) -> Iterator[Image]:
    """Draw a person who moves and speaks."""
    rng = np.random.default_rng(seed)
    sitter = Sitter(draw_identity(rng), size=side)
    for head in film(sitter, animate(rng, num_frames=num_frames, fps=FPS), rng):
        yield head.image


def film_photograph(seed: int, side: int, folder: Path | None) -> Iterator[Image]:
    """Show a photograph that sways and grows a little."""
    assert folder is not None
    files = sorted(folder.glob("*.jpg"))
    image = cv2.cvtColor(cv2.imread(str(files[seed % len(files)])), cv2.COLOR_BGR2RGB)
    short = min(image.shape[:2])
    top, left = ((extent - short) // 2 for extent in image.shape[:2])
    image = cv2.resize(image[top : top + short, left : left + short], (side, side), interpolation=cv2.INTER_AREA)
    for time_step in range(NUM_FRAMES):
        angle, zoom = 6 * np.sin(time_step / 31 + seed), 1.04 + 0.04 * np.sin(time_step / 43 + seed)
        matrix = cv2.getRotationMatrix2D((side / 2, side / 2), angle, zoom)
        yield np.asarray(cv2.warpAffine(image, matrix, (side, side), borderMode=cv2.BORDER_REFLECT), np.uint8)


def compose(
    films: Sequence[Iterator[Image]],
    sides: Sequence[int],
    *,
    width: int,
    height: int,
    places: list[list[Box]],
    seed: int,
) -> Iterator[Image]:
    """Move people, each in a column of its own, over a background, with the noise of a sensor."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(40, 200, (9, 16, 3)).astype(np.uint8)
    wall = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) + rng.normal(0, 8, (height, width, 1))
    wall = np.clip(wall, 0, 255).astype(np.uint8)
    free = (width - sum(sides)) / len(sides)
    starts = np.cumsum([0, *sides[:-1]]) + np.arange(len(sides)) * free
    noise = np.empty((height, width, 3), np.int8)
    for time_step, images in enumerate(zip(*films, strict=True)):
        frame, boxes = wall.copy(), []
        for number, (image, side, start) in enumerate(zip(images, sides, starts, strict=True)):
            left = round(start + free * (0.5 + 0.45 * np.sin(time_step / 25 + 2 * number)))
            top = round((height - side) * (0.5 + 0.4 * np.cos(time_step / 33 + number)))
            frame[top : top + side, left : left + side] = image
            boxes.append((float(left), float(top), float(left + side), float(top + side)))
        places.append(boxes)
        cv2.randn(noise, 0, 3)
        yield np.asarray(cv2.add(frame, noise, dtype=cv2.CV_8U))


# The ways: each takes clips, and returns what it found


def run_ours(clips: Sequence[Path]) -> list[Any]:
    """Prepare the clips with the default detector and two workers."""
    with tempfile.TemporaryDirectory() as folder:
        for clip in clips:
            link = Path(folder) / "source" / clip.parent.name / clip.name
            link.parent.mkdir(parents=True, exist_ok=True)
            os.link(clip, link) if clip.stat().st_dev == os.stat(folder).st_dev else shutil.copy(clip, link)
        prepare_folder(Path(folder) / "source", Path(folder) / "faces")
    return []


def prepare_folder(root: Path, output: Path, *, near_duplicates: str = "warn") -> None:
    """Prepare a folder of real and fake videos as `prepare.py` does by default."""
    detector = RetinaFaceMobileNet(**DETECTOR)
    node = {"_target_": "unmask.faces.retinaface_mobilenet.RetinaFaceMobileNet", **DETECTOR}
    prepare(
        ImageFolder(root),
        output=output,
        detector=detector,
        spec=CropSpec(**describe_detector(detector, node)),
        fractions=FRACTIONS,
        seed=0,
        num_workers=NUM_WORKERS,
        near_duplicates=near_duplicates,
    )


def run_decode(clips: Sequence[Path]) -> list[Any]:
    """Decode the clips in two processes."""
    with Pool(NUM_WORKERS) as pool:
        pool.map(decode, map(str, clips), chunksize=1)
    return []


def decode(path: str) -> None:
    """Decode all frames of a video with PyAV, and convert the sampled ones to RGB."""
    import av

    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"  # a process a core
        sampled = set(choose_frames(stream.frames, num_frames=NUM_SAMPLED))
        for index, frame in enumerate(container.decode(stream)):
            if index in sampled:
                frame.to_ndarray(format="rgb24")


def run_opencv(clips: Sequence[Path]) -> list[list[Centres]]:
    """Read every frame, detect with Haar on the sampled ones, write the crops."""
    cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for clip in clips:
            capture = cv2.VideoCapture(str(clip))
            sampled = set(choose_frames(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), num_frames=NUM_SAMPLED))
            index, centres = 0, []
            while True:
                is_there, frame = capture.read()
                if not is_there:
                    break
                if index in sampled:
                    grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
                    boxes = cascade.detectMultiScale(grey, scaleFactor=1.1, minNeighbors=5)
                    for number, (x, y, w, h) in enumerate(boxes):
                        crop = cv2.resize(frame[y : y + h, x : x + w], (256, 256))
                        cv2.imwrite(f"{folder}/{clip.stem}_{index}_{number}.jpg", crop)
                    centres.append([(float(x + w / 2), float(y + h / 2)) for x, y, w, h in boxes])
                index += 1
            capture.release()
            found.append(centres)
    return found


def run_retinaface(clips: Sequence[Path]) -> dict[str, Any]:
    """Detect with RetinaFace ResNet-50 on a few frames of a clip, and return the seconds of one."""
    import torch
    from retinaface.predict_single import Model

    path = Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS_URL.rsplit("/", 1)[1]
    model = Model(max_size=2048, device="cpu")
    if path.is_file():
        model.load_state_dict(torch.hub.load_state_dict_from_url(WEIGHTS_URL, map_location="cpu"))
    model.eval()
    index = index_video(clips[0])
    frames = [frame.image for frame in read_indexed(index, choose_frames(NUM_FRAMES, num_frames=NUM_RESNET_FRAMES + 1))]
    model.predict_jsons(frames[0])
    start, used = time.perf_counter(), time.process_time()
    for image in frames[1:]:
        model.predict_jsons(image)
    wall, cpu = (time.perf_counter() - start), (time.process_time() - used)
    return {"wall": wall / NUM_RESNET_FRAMES, "cpu": cpu / NUM_RESNET_FRAMES, "has_weights": path.is_file()}


WAYS: dict[str, Callable[[Sequence[Path]], Any]] = {
    "ours": run_ours,
    "decode": run_decode,
    "opencv": run_opencv,
    "retinaface": run_retinaface,
}


# Speed


def measure_speed(clips: Path, *, rounds: int) -> None:
    """Alternate the ways, and print seconds a video, ratios and faces found."""
    names = list_clips(clips)
    costs: dict[str, list[tuple[float, float]]] = {"ours": [], "decode": [], "opencv": []}
    found: Any = None
    for _ in range(rounds):
        for way, seen in costs.items():
            _, *few = run_apart(way, clips, FEW)
            result, *everything = run_apart(way, clips, len(names))
            found = result if way == "opencv" else found
            wall, cpu = ((all_of - some) / (len(names) - FEW) for all_of, some in zip(everything, few, strict=True))
            seen.append((wall, cpu))
            print(
                f"  {way}: {wall:.2f} s, {cpu:.2f} s of CPU a video; start {few[1] - FEW * cpu:.1f} s of CPU",
                flush=True,
            )
    resnet, *_ = run_apart("retinaface", clips, 1)
    costs["retinaface"] = [(resnet["wall"] * NUM_SAMPLED, resnet["cpu"] * NUM_SAMPLED)] * rounds
    weights = "its weights" if resnet["has_weights"] else "random weights, which take the same time"
    print(f"  retinaface: {resnet['wall']:.1f} s a frame of {names[0].name}, with {weights}", flush=True)
    for way, seen in costs.items():
        wall, cpu = (statistics.median(column) for column in zip(*seen, strict=True))
        print(f"{way:11} {60 / wall:7.1f} videos a minute, {wall:6.2f} s and {cpu:6.2f} s of CPU a video")
    ratios = {
        way: [
            statistics.median(other[column] / own[column] for own, other in zip(costs["ours"], costs[way], strict=True))
            for column in (0, 1)
        ]
        for way in ("decode", "opencv", "retinaface")
    }
    for way, (wall, cpu) in ratios.items():
        print(f"speed beside {way:11} {wall:.2f} by wall time, {cpu:.2f} by CPU time")
    say("speed beside decoding alone, CPU time", ratios["decode"][1], BARS["decode"], is_most=False)
    faster = min(ratios[way][1] for way in ("opencv", "retinaface"))
    say("speed beside the faster peer, CPU time", faster, BARS["peer"], is_most=False)
    print_faces(names, found)


def run_apart(way: str, clips: Path, number: int) -> tuple[Any, float, float]:
    """Run a way on some clips in a process of its own, and return its result, wall seconds and CPU seconds."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, __file__, "one-way", way, str(clips), str(number)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        sys.exit(answer.stderr)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return json.loads(answer.stdout.splitlines()[-1]), wall, used


def print_faces(clips: Sequence[Path], opencv: Sequence[Sequence[Centres]]) -> None:
    """Count the people in the sampled frames that each way has found: a centre of a face inside the person's square."""
    detectors = {
        "ours": RetinaFaceMobileNet(**DETECTOR),
        "ours, without a first search": RetinaFaceMobileNet(**DETECTOR | {"first_side": 0}),
    }
    counts: dict[str, list[int]] = {name: [0, 0] for name in (*detectors, "opencv")}
    total = 0
    for number, clip in enumerate(clips):
        places = json.loads(clip.with_suffix(".json").read_text())
        sampled = choose_frames(NUM_FRAMES, num_frames=NUM_SAMPLED)
        people = [places[index] for index in sampled]
        total += sum(map(len, people))
        images = [frame.image for frame in read_indexed(index_video(clip), sampled)]
        centres = {
            name: [[centre(face.box) for face in faces] for faces in one.detect(images)]
            for name, one in detectors.items()
        }
        centres["opencv"] = list(opencv[number])
        for name, seen in centres.items():
            hits = sum(count_found(boxes, points) for boxes, points in zip(people, seen, strict=True))
            counts[name][0] += hits
            counts[name][1] += sum(map(len, seen)) - hits
    for name, (hits, others) in counts.items():
        print(f"faces found, {name}: {hits} of {total}, and {others} other boxes")
    say("as many faces as the peer", counts["ours"][0], counts["opencv"][0], is_most=False)


def centre(box: Sequence[float]) -> tuple[float, float]:
    """Return the centre of a box."""
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def count_found(people: Sequence[Sequence[float]], points: Sequence[Sequence[float]]) -> int:
    """Count the squares that hold a point."""
    return sum(any(x1 <= x <= x2 and y1 <= y <= y2 for x, y in points) for x1, y1, x2, y2 in people)


def say(what: str, figure: float, bar: float, *, is_most: bool) -> None:
    """Print a figure beside its bar."""
    is_held = figure <= bar if is_most else figure >= bar
    print(f"{what}: {figure:.2f}, bar {bar:g}: {'held' if is_held else 'missed'}", flush=True)


def print_profile(clips: Sequence[Path]) -> None:
    """Print where the CPU time of our way goes, in one process, without what happens once a dataset."""
    detectors = {
        "detect": RetinaFaceMobileNet(**DETECTOR),
        "detect, without a first search": RetinaFaceMobileNet(**DETECTOR | {"first_side": 0}),
    }
    for detector in detectors.values():
        detector.detect([np.zeros((480, 640, 3), np.uint8)])
    spec, spent = CropSpec("retinaface_mobilenet"), defaultdict[str, float](float)

    def measure(what: str, work: Callable[..., Any], *args: Any) -> Any:
        start = time.process_time()
        result = work(*args)
        spent[what] += 1000 * (time.process_time() - start) / len(clips)
        return result

    def encode(shown: Sequence[tuple[Image, Sequence[Face]]]) -> None:
        for image, faces in shown:
            for face in faces:
                encode_crop(cut_crop(image, face, spec), spec)

    for clip in clips:
        index = measure("index", index_video, clip)
        sampled = choose_frames(index.info.num_frames, num_frames=NUM_SAMPLED)
        frames = measure("decode and convert", lambda *args: [*read_indexed(*args)], index, sampled)
        images = [frame.image for frame in frames]
        found = {name: measure(name, detector.detect, images) for name, detector in detectors.items()}
        faces = [some[:4] for some in found["detect"]]
        measure("cut and encode", encode, list(zip(images, faces, strict=True)))
        looks = measure("describe", lambda *args: [*map(describe_faces, *args)], images, faces)
        measure("follow", lambda faces, looks: follow_largest(faces, looks=looks), faces, looks)
    print("CPU time of a video, ms: " + "; ".join(f"{what} {value:.0f}" for what, value in spent.items()))


# Memory and the check


def measure_memory(folder: Path) -> None:
    """Prepare 500 short videos, and print the memory of all processes on the way."""
    root, distinct = folder / "short", []
    for number in range(NUM_DISTINCT):
        path = folder / "distinct" / f"{number}.mp4"
        frames = film_drawn(number, 256, None, num_frames=NUM_SHORT_FRAMES)
        write_video(path, frames, fps=FPS)
        distinct.append(path.read_bytes())
    for number in range(NUM_SHORT):
        path = root / ("real" if number % 2 else "fake") / f"{number:04d}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        # A box that players skip makes every file another one.
        path.write_bytes(distinct[number % NUM_DISTINCT] + b"\0\0\0\x10free" + number.to_bytes(8, "big"))
    output = folder / "faces"
    command = [sys.executable, __file__, "prepare-folder", str(root), str(output)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    left, peak = list(MARKS), 0.0
    sums: list[float] = []
    last: dict[int, float] = {}
    while process.poll() is None:
        journal = output / "prepare.jsonl"
        finished = journal.read_bytes().count(b"\n") if journal.exists() else 0
        memory = read_memory(process.pid, "Pss")
        peak = max(peak, sum(memory.values()))
        # The tables that are written after the last video are no part of the workers' memory.
        reached = left[0] if left and finished >= left[0] else NUM_SHORT if finished == NUM_SHORT and last else 0
        if reached:
            shown = last if reached == NUM_SHORT else memory
            rss = sum(read_memory(process.pid, "Rss").values())
            each = " + ".join(f"{value:.3f}" for value in shown.values())
            print(f"memory at video {reached}: PSS {each} = {sum(shown.values()):.2f} GB, RSS {rss:.2f} GB", flush=True)
            sums.append(sum(shown.values()))
            left, last = left[1:], {} if reached == NUM_SHORT else last
        elif 0 < finished < NUM_SHORT:
            last = memory
        time.sleep(0.1)
    if process.returncode:
        sys.exit(f"prepare ended with {process.returncode}")
    say("peak in GB (PSS) with two workers, tables and report included", peak, BARS["gigabytes"], is_most=True)
    say(f"memory before video {NUM_SHORT} over that at {MARKS[0]}", sums[-1] / sums[0], BARS["growth"], is_most=True)


def read_memory(pid: int, name: str) -> dict[int, float]:
    """Return the GB of a process and those below it: `Pss` counts shared pages once, `Rss` in each of them."""
    found = {}
    for process in descendants(pid):
        with suppress(OSError):  # ended meanwhile
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
            found[process] = sum(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) * 1024 / 1e9
    return found


def measure_check(folder: Path) -> None:
    """Check a source of 100,000 files with the command."""
    root = folder / "many"
    for number in range(NUM_FILES):
        kind = "real" if number % 2 else "fake"
        path = root / kind / f"{number // 2000:03d}" / f"{kind}_{number:06d}.jpg"
        if number % 2000 < 2:
            path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, str(Path(__file__).parents[1] / "prepare.py"), "source=image_folder", "task=check"]
    command += [f"source.root={root}", f"hydra.run.dir={folder / 'run'}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    say(f"seconds of a check of {NUM_FILES:,} files ({used:.1f} s of CPU)", wall, BARS["seconds"], is_most=True)


if __name__ == "__main__":
    main()
