"""What one client may hold while others come."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.types import Receive, Scope, Send

from unmask.web.api import jobs, shares
from unmask.web.api.guard import Crowd
from unmask.web.api.settings import hash_key, make_key
from unmask.web.api.shares import Places, Turn, Turns, name_address
from unmask.web.api.workers import Workers


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(shares.time, "monotonic", clock)
    return clock


class Desk:
    """Turns whose work is done when the test says so."""

    def __init__(self, num_workers: int, clock: Clock) -> None:
        self.turns, self.clock = Turns(num_workers, slow_seconds=2), clock
        self.begun: list[str] = []
        self.at_work: dict[str, Turn] = {}

    def ask(self, client: str, name: str) -> Turn:
        def begin() -> None:
            self.begun.append(name)
            self.at_work[name] = turn

        turn = Turn(client, begin)
        self.turns.ask(turn)
        return turn

    def end(self, name: str, *, seconds: float) -> None:
        self.clock.now += seconds
        self.turns.leave(self.at_work.pop(name))


def take_all(places: Places, client: str) -> int:
    count = 0
    while places.take(client):
        count += 1
    return count


def test_no_client_holds_more_places_than_are_free() -> None:
    places = Places(32)
    assert take_all(places, "a") == 17
    assert take_all(places, "b") == 8
    assert take_all(places, "c") == 4
    assert places.take("polite")
    for _ in range(17):
        places.give("a")
    assert places.count("a") == 0
    assert take_all(places, "d") > 8


@pytest.mark.parametrize("total", [1, 2, 3])
def test_single_client_may_take_the_last_places(total: int) -> None:
    places = Places(total)
    assert take_all(places, "a") == min(total, 2)
    assert take_all(Places(total), "a") + 1 >= total


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("192.0.2.1", "192.0.2.1"), ("::ffff:192.0.2.1", "192.0.2.1"), ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::ffff", "2001:db8:1:2::/64"), ("fe80::1%eth0", "fe80::/64"), ("testclient", "testclient"),
        ("", ""),
    ],
)  # fmt: skip
def test_all_addresses_of_a_client_share_one_name(host: str, name: str) -> None:
    assert name_address(host) == name


def test_client_that_used_less_is_served_first(clock: Clock) -> None:
    desk = Desk(1, clock)
    for number in range(5):
        desk.ask("greedy", f"greedy {number}")
    desk.end("greedy 0", seconds=1)
    desk.ask("polite", "polite")
    desk.end("greedy 1", seconds=1)
    assert desk.begun == ["greedy 0", "greedy 1", "polite"]


def test_client_holds_half_of_the_workers_while_others_wait_and_all_when_alone(clock: Clock) -> None:
    desk = Desk(4, clock)
    for number in range(6):
        desk.ask("greedy", f"greedy {number}")
    assert len(desk.at_work) == 4
    for number in range(3):
        desk.ask("polite", f"polite {number}")
    for number in range(3):
        desk.end(f"greedy {number}", seconds=0.1)
    assert [name for name in desk.begun[4:] if name.startswith("polite")] == ["polite 0", "polite 1"]
    assert sum(name.startswith("greedy") for name in desk.at_work) == 2


def test_slow_clients_leave_a_worker_to_the_others(clock: Clock) -> None:
    desk = Desk(2, clock)
    for client in ("a", "b"):
        for number in range(4):
            desk.ask(client, f"{client} {number}")
    desk.end("a 0", seconds=10)
    desk.end("b 0", seconds=10)
    assert len(desk.at_work) == 1  # of both together
    desk.ask("polite", "polite 0")
    assert "polite 0" in desk.at_work
    desk.end("polite 0", seconds=0.1)
    assert len(desk.at_work) == 1
    clock.now += 600  # what was long ago is forgotten
    (name,) = desk.at_work
    desk.end(name, seconds=0.1)
    assert desk.at_work


def test_client_slowed_by_load_is_not_blocked_by_much_slower_ones(clock: Clock) -> None:
    desk = Desk(2, clock)
    for number in range(3):
        desk.ask("hostile", f"hostile {number}")
    desk.end("hostile 0", seconds=30)
    desk.ask("polite", "polite 0")
    desk.end("polite 0", seconds=3)
    desk.ask("polite", "polite 1")
    assert "polite 1" in desk.at_work


def test_cancelled_work_frees_its_worker(clock: Clock) -> None:
    desk = Desk(1, clock)
    desk.ask("a", "first")
    waiting = desk.ask("b", "second")
    desk.ask("c", "third")
    desk.turns.leave(waiting)
    desk.turns.leave(waiting)
    desk.end("first", seconds=1)
    assert desk.begun == ["first", "third"]


def test_cancelled_turn_leaves_the_queue() -> None:
    async def check() -> None:
        turns = Turns(1, slow_seconds=2)
        async with turns.one("a"):
            with suppress(TimeoutError):
                async with asyncio.timeout(0.01), turns.one("b"):
                    raise AssertionError("there is one worker")
        async with asyncio.timeout(1), turns.one("c"):
            pass

    asyncio.run(check())


def test_number_of_remembered_clients_is_limited(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "_MOST_REMEMBERED", 10)
    desk = Desk(1, clock)
    for number in range(100):
        desk.ask(f"client {number}", f"{number}")
        desk.end(f"{number}", seconds=0.1)
    assert len(desk.turns._accounts) <= 11


def test_one_address_leaves_open_requests_to_others() -> None:
    async def check() -> None:
        go_on = asyncio.Event()

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            await go_on.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})

        async def ask(host: str) -> int:
            sent: list[dict[str, Any]] = []

            async def receive() -> dict[str, Any]:
                return {"type": "http.request", "body": b"", "more_body": False}

            async def send(message: Any) -> None:
                sent.append(message)

            scope = {
                "type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": [], "client": (host, 1),
                "server": ("a", 80), "root_path": "",
            }  # fmt: skip
            await crowd(scope, receive, send)
            return int(sent[0]["status"])

        crowd = Crowd(answer, most=8)
        waiting = [asyncio.create_task(ask("192.0.2.1")) for _ in range(8)]
        await asyncio.sleep(0)
        other = asyncio.create_task(ask("192.0.2.2"))
        await asyncio.sleep(0)
        go_on.set()
        assert sorted(await asyncio.gather(*waiting)) == [200] * 5 + [429] * 3
        assert await other == 200

    asyncio.run(check())


Ask = Callable[..., Any]


def post(client: TestClient, path: Path, route: str = "images", **headers: str) -> Any:
    files = [("files", (path.name, path.read_bytes()))]
    return client.post(f"/v1/{route}?heatmaps=false", files=files, headers=headers)


def test_client_with_its_share_waits_and_others_do_not(start: Ask, media: Path, tmp_path: Path) -> None:
    keys = make_key(), make_key()
    limits = {"images_at_once": 4, "jobs": 4}
    with start(tmp_path, limits=limits, api_keys=tuple(map(hash_key, keys))) as client:
        service = client.app.state.service
        greedy = hash_key(keys[0])
        assert [service.take_place(greedy) for _ in range(4)] == [True, True, True, False]
        refused = post(client, media / "face.jpg", **{"X-API-Key": keys[0]})
        assert (refused.status_code, refused.json()["code"]) == (429, "share_used_up")
        assert int(refused.headers["retry-after"]) > 0
        assert "service.images_at_once" in refused.json()["detail"]
        assert post(client, media / "face.jpg", **{"X-API-Key": keys[1]}).status_code == 200
        with service.one_more_video(greedy), service.one_more_video(greedy), service.one_more_video(greedy):
            refused = post(client, media / "clip.mp4", "videos", **{"X-API-Key": keys[0]})
            assert (refused.status_code, refused.json()["code"]) == (429, "share_used_up")
            assert "service.jobs" in refused.json()["detail"]
            assert post(client, media / "clip.mp4", "videos", **{"X-API-Key": keys[1]}).status_code == 202
        for _ in range(3):
            service.give_place(greedy)
        assert not service._open_uploads


def test_video_of_another_client_overtakes_queued_ones(
    start: Ask, media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = make_key(), make_key()
    with start(tmp_path, limits={"jobs": 16}, api_keys=tuple(map(hash_key, keys))) as client:
        begun: list[str] = []
        begin = Workers._begin
        monkeypatch.setattr(Workers, "_begin", lambda self, job: begun.append(job.id) or begin(self, job))
        first = [post(client, media / "clip.mp4", "videos", **{"X-API-Key": keys[0]}).json()["id"] for _ in range(5)]
        last = post(client, media / "clip.mp4", "videos", **{"X-API-Key": keys[1]}).json()["id"]
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and len(begun) < 6:
            time.sleep(0.1)
        assert sorted(begun) == sorted([*first, last])
        assert begun[0] == first[0]
        assert begun.index(last) < begun.index(first[-1])
        open_jobs = [client.get(f"/v1/jobs/{name}", headers={"X-API-Key": keys[0]}).json() for name in first]
        assert all(job["error"] is None for job in open_jobs)


def test_expensive_image_is_refused_at_once(start: Ask, tmp_path: Path) -> None:
    from tests.media.test_amplifiers import progressive

    with start(tmp_path) as client:
        (path := tmp_path / "hungry.jpg").write_bytes(progressive(4000, side=1000))
        begun = time.monotonic()
        answer = post(client, path)
        assert time.monotonic() - begun < 5
    assert answer.status_code == 422
    assert "'hungry.jpg'" in answer.json()["detail"]
    assert "limits.max_scans" in answer.json()["detail"]
    assert jobs.open_predictor.cache_info().currsize == 0  # the workers' own processes read it


@pytest.mark.slow
def test_polite_client_is_not_kept_waiting_by_two_hostile_ones(bundle: Path, media: Path, tmp_path: Path) -> None:
    import statistics
    from threading import Event, Thread

    import httpx2
    from tests.media.test_amplifiers import progressive
    from tests.web.api.test_server import serve

    slow, face = progressive(40, side=7000), (media / "face.jpg").read_bytes()
    is_over, answers = Event(), []

    def ask(address: str, data: bytes) -> tuple[int, float]:
        begun = time.monotonic()
        answer = httpx2.post(
            f"{server}/v1/images?heatmaps=false", files={"files": ("a.jpg", data)}, timeout=120,
            headers={"X-Forwarded-For": address},
        )  # fmt: skip
        return answer.status_code, time.monotonic() - begun

    def flood(address: str) -> None:
        while not is_over.is_set():
            answers.append(ask(address, slow)[0])

    with serve(tmp_path, bundle, "image_workers=2", "service.images_at_once=8") as (server, _):
        assert ask("192.0.2.1", face)[0] == 200
        alone = [ask("192.0.2.1", face)[1] for _ in range(20)]
        threads = [Thread(target=flood, args=(f"192.0.2.{number}",)) for number in (10, 11) for _ in range(5)]
        for thread in threads:
            thread.start()
        time.sleep(15)  # until it is known that they are slow
        beside = [ask("192.0.2.1", face) for _ in range(20)]
        is_over.set()
        for thread in threads:
            thread.join()
    assert {status for status, _ in beside} == {200}
    assert {200, 429, 503} >= set(answers)  # the last when every place is taken
    middle = statistics.median(seconds for _, seconds in beside)
    assert middle < 10 * statistics.median(alone) + 0.5, (middle, alone)


def test_trickling_uploads_of_one_client_leave_places_to_others(start: Ask, media: Path, tmp_path: Path) -> None:
    async def trickle(app: Any, give_up: asyncio.Event) -> int:
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            await give_up.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http", "method": "POST", "path": "/v1/images", "raw_path": b"/v1/images", "query_string": b"",
            "headers": [(b"content-type", b"multipart/form-data; boundary=x")], "http_version": "1.1",
            "scheme": "http", "client": ("192.0.2.9", 1), "server": ("127.0.0.1", 80), "root_path": "",
        }  # fmt: skip
        await app(scope, receive, send)
        return int(sent[0]["status"])

    async def trickle_all(app: Any, begun: list[asyncio.Event]) -> list[int]:
        give_up = asyncio.Event()
        tasks = [asyncio.create_task(trickle(app, give_up)) for _ in range(8)]
        begun.append(give_up)
        return list(await asyncio.gather(*tasks))

    with start(tmp_path, limits={"images_at_once": 8}) as client:
        begun: list[asyncio.Event] = []
        assert client.portal is not None
        trickling = client.portal.start_task_soon(trickle_all, client.app, begun)
        while not begun or client.app.state.service.places.num_taken < 5:
            time.sleep(0.01)
        assert post(client, media / "face.jpg").status_code == 200
        client.portal.call(begun[0].set)
        assert sorted(trickling.result(timeout=30)) == [400] * 5 + [429] * 3
