"""The REST API under load: many clients, bad and huge files, memory, and how much slower one gets for another.

python benchmarks/api.py [bundle] [seconds]

Starts the service as a user does, on a port of its own, and prints four things: the time of a 640 px image for one
client and for four at once; the same for one client beside two that send the slowest image allowed again and again; the
answers to 50 clients that send good, damaged and too large files and videos; and the memory of all its processes
meanwhile. Without a bundle it takes the newest below outputs/.
"""

import asyncio
import os
import random
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import cv2
import httpx2
import numpy as np
import psutil

from unmask.media.amplifiers import MAX_SCANS
from unmask.media.encode import write_video
from unmask.media.image import encode_jpeg
from unmask.synthetic.draw import Sitter, film
from unmask.synthetic.identity import animate, draw_identity

ROOT = Path(__file__).parents[1]
CLIENTS = 50
ROUNDS = 3


@dataclass(frozen=True)
class Media:
    """What the clients send.

    Args:
        image: A JPEG of 640 px with a face.
        damaged: The same, cut off.
        huge: More bytes than the service takes.
        video: Two seconds.
        slow: As many pixels and scans as are read: seconds for the worker that has it.
    """

    image: bytes
    damaged: bytes
    huge: bytes
    video: bytes
    slow: bytes


def main() -> None:
    """Run all four."""
    bundles = sorted((ROOT / "outputs").rglob("bundle"), key=lambda path: path.stat().st_mtime)
    bundle = Path(sys.argv[1]) if len(sys.argv) > 1 else bundles[-1]
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 60.0
    with tempfile.TemporaryDirectory() as folder:
        media = make_media(Path(folder))
        server = subprocess.Popen(
            [sys.executable, str(ROOT / "serve.py"), f"checkpoint={bundle.resolve()}", "port=0"],
            env={**os.environ, "UNMASK_HOME": folder}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            asyncio.run(measure(server, media, seconds))
        finally:
            server.terminate()
            server.wait(timeout=60)
        left = list((Path(folder) / "service" / "uploads").glob("*"))
        print(f"files left in the folder of uploads: {len(left)}")


def make_media(folder: Path) -> Media:
    """Draw a person."""
    rng = np.random.default_rng(0)
    sitter = Sitter(draw_identity(rng), size=320)
    frames = [head.image for head in film(sitter, animate(rng, num_frames=50, fps=25), rng)]
    image = encode_jpeg(np.asarray(cv2.resize(frames[0], (640, 640)), np.uint8), quality=90)
    write_video(folder / "clip.mp4", frames, fps=25)
    video = (folder / "clip.mp4").read_bytes()
    return Media(image, image[: len(image) // 2], os.urandom(25_000_000), video, make_slow())


def make_slow() -> bytes:
    """Repeat a scan of a progressive JPEG, as often as the service lets it."""
    done, encoded = cv2.imencode(".jpg", np.full((7000, 7000, 3), 90, np.uint8), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])
    assert done
    data = encoded.tobytes()
    starts = [found.start() for found in re.finditer(b"\xff\xda", data)]
    return data[: starts[2]] + data[starts[1] : starts[2]] * (MAX_SCANS - len(starts)) + data[starts[2] :]


async def measure(server: "subprocess.Popen[str]", media: Media, seconds: float) -> None:
    """Wait for the service, then load it."""
    assert server.stderr is not None
    found = re.search(r"http://\S+", server.stderr.readline())
    assert found is not None
    drain = asyncio.create_task(asyncio.to_thread(server.stderr.read))  # what it says must not fill the pipe
    # Without TCP_NODELAY every request waits 40 ms for an acknowledgement, which would hide the service's own time.
    transport = httpx2.AsyncHTTPTransport(
        limits=httpx2.Limits(max_connections=None), socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
    )
    async with httpx2.AsyncClient(base_url=found[0], timeout=120, transport=transport) as client:
        try:
            await wait_until_ready(client)
            await measure_neighbours(client, media)
            await measure_beside_hostile(client, media)
            await measure_crowd(client, media, psutil.Process(server.pid), seconds)
        finally:
            server.terminate()  # or the thread that reads its log never ends
            await drain


async def wait_until_ready(client: httpx2.AsyncClient) -> None:
    """Ask until the workers have loaded the model."""
    for _ in range(300):
        try:
            if (await client.get("/readyz")).status_code == 200:
                return
        except httpx2.TransportError:
            pass  # it does not listen yet
        await asyncio.sleep(0.2)
    raise RuntimeError("the service never got ready")


async def send(
    client: httpx2.AsyncClient, data: bytes, *, path: str = "/v1/images", name: str = "a.jpg", address: str = ""
) -> tuple[int, float]:
    """Send a file, as a proxy for an address; return the status and the seconds; 0 where the connection was closed."""
    start = time.perf_counter()
    try:
        answer = await client.post(
            path, files={"files": (name, data)}, params={"heatmaps": "false"} if "images" in path else {},
            headers={"X-Forwarded-For": address} if address else {},
        )  # fmt: skip
        status = answer.status_code
    except httpx2.TransportError:
        status = 0  # a service that refuses a large body closes before all of it is sent
    return status, time.perf_counter() - start


async def measure_neighbours(client: httpx2.AsyncClient, media: Media) -> None:
    """Compare an image's time for one client with its time for four, in alternating rounds."""
    alone, beside = [], []
    for _ in range(5):
        await send(client, media.image)
    for _ in range(ROUNDS):
        alone += [(await send(client, media.image))[1] for _ in range(30)]

        async def ask() -> list[float]:
            return [(await send(client, media.image))[1] for _ in range(30)]

        for times in await asyncio.gather(*(ask() for _ in range(4))):
            beside += times
    for name, times in (("alone", alone), ("one of four", beside)):
        middle, high = statistics.median(times), statistics.quantiles(times, n=20)[-1]
        print(f"640 px image, {name:12} median {middle * 1e3:6.1f} ms, p95 {high * 1e3:6.1f} ms")
    ratio = statistics.quantiles(beside, n=20)[-1] / statistics.median(alone)
    print(f"p95 of four clients over the median alone: {ratio:.2f} (bar: below 4)")


async def measure_beside_hostile(client: httpx2.AsyncClient, media: Media) -> None:
    """Compare an image's time for one client with its time beside two that keep the workers busy."""
    alone = [(await send(client, media.image, address="192.0.2.1"))[1] for _ in range(40)]
    is_over = asyncio.Event()
    counts: Counter[int] = Counter()

    async def flood(address: str) -> None:
        while not is_over.is_set():
            status, _ = await send(client, media.slow, address=address)
            counts[status] += 1
            if status == 429:
                await asyncio.sleep(0.2)

    floods = [asyncio.create_task(flood(f"192.0.2.{number}")) for number in (10, 11) for _ in range(6)]
    await asyncio.sleep(10)  # until it is known that they are slow
    beside = [await send(client, media.image, address="192.0.2.1") for _ in range(40)]
    is_over.set()
    await asyncio.gather(*floods)
    assert {status for status, _ in beside} == {200}
    for name, times in (("alone", alone), ("beside two hostile", [seconds for _, seconds in beside])):
        middle, high = statistics.median(times), statistics.quantiles(times, n=20)[-1]
        print(f"640 px image, {name:18} median {middle * 1e3:6.1f} ms, p95 {high * 1e3:6.1f} ms")
    print(f"their answers: {', '.join(f'{status}: {count}' for status, count in sorted(counts.items()))}")


async def measure_crowd(client: httpx2.AsyncClient, media: Media, server: psutil.Process, seconds: float) -> None:
    """Let many clients send everything, and look at answers and memory."""
    kinds = {"good": (media.image, "/v1/images", "a.jpg"), "damaged": (media.damaged, "/v1/images", "b.jpg"),
             "huge": (media.huge, "/v1/images", "c.jpg"), "video": (media.video, "/v1/videos", "d.mp4")}  # fmt: skip
    counts: Counter[tuple[str, int]] = Counter()
    memory, end = [], time.monotonic() + seconds

    async def act(number: int) -> None:
        chance = random.Random(number)
        while time.monotonic() < end:
            (kind,) = chance.choices(list(kinds), weights=(70, 15, 10, 5))
            data, path, name = kinds[kind]
            status, _ = await send(client, data, path=path, name=name)
            counts[kind, status] += 1
            if status in (429, 503):
                await asyncio.sleep(0.5)  # a client that heeds Retry-After waits longer

    async def watch() -> None:
        while time.monotonic() < end:
            processes = [server, *server.children(recursive=True)]
            memory.append(sum(process.memory_info().rss for process in processes) / 1e6)
            await asyncio.sleep(1)

    await asyncio.gather(watch(), *(act(number) for number in range(CLIENTS)))
    print(f"{CLIENTS} clients for {seconds:g} s: {sum(counts.values())} requests")
    for (kind, status), count in sorted(counts.items()):
        print(f"  {kind:8} {status or 'closed':>6} {count:6}")
    defects = sum(count for (_, status), count in counts.items() if status >= 500 and status != 503)
    third = max(1, len(memory) // 3)
    parts = [statistics.median(part) for part in (memory[:third], memory[third : 2 * third], memory[2 * third :])]
    print(f"answers of 5xx but 503: {defects} (bar: 0)")
    print(f"memory of all processes, median of each third: {', '.join(f'{part:.0f} MB' for part in parts)}; "
          f"last over first {parts[-1] / parts[0]:.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
