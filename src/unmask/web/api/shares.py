"""Fair shares: how many places a client may hold, and whose work is next.

A time limit bounds one request, but a client that keeps sending the slowest permitted file would still make everyone
else wait. So no client holds more places than are still free, which leaves one for the next client; the client that has
used the least worker time is served first; and clients with slow work leave one worker to the others.
"""

import asyncio
import ipaddress
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from threading import RLock

_HALF_LIFE_SECONDS = 60.0
_FADING = 0.7  # decay of a client's slowest time per further task: one fast file does not make the client fast
_FAR_LESS = 4
_MOST_REMEMBERED = 10_000
_IPV6_OF_ONE = 64  # bits: the owner of one address can use all others of its /64


def name_address(host: str) -> str:
    """Return the share key of a client's address: for IPv6 the network, since clients choose the rest freely."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, _IPV6_OF_ONE), strict=False))


class Places:
    """A fixed number of places, of which no client holds more than are still free.

    A single client gets half of them, two get a third each, and so on (dynamic thresholds; Choudhury and Hahne, 1998).

    Args:
        total: Number of places.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.num_taken = 0
        self._held: Counter[str] = Counter()

    @property
    def is_full(self) -> bool:
        """Whether no place is free."""
        return self.num_taken >= self.total

    def take(self, client: str | None) -> bool:
        """Take a place and return True, if one is available to this client.

        Args:
            client: Any name; None for an anonymous client without a share limit.
        """
        free = self.total - self.num_taken
        if free < 1 or (client is not None and self._held[client] > free):
            return False
        self.num_taken += 1
        if client is not None:
            self._held[client] += 1
        return True

    def give(self, client: str | None) -> None:
        """Give a place back."""
        self.num_taken -= 1
        if client is not None:
            self._held[client] -= 1
            if self._held[client] <= 0:
                del self._held[client]

    def count(self, client: str) -> int:
        """Return how many places a client holds."""
        return self._held[client]


@dataclass(eq=False)
class Turn:
    """A task that waits for a worker, or occupies one.

    Args:
        client: Owner of the task.
        begin: Callback for when a worker is free.
        began: Start time by `time.monotonic`; None while waiting.
    """

    client: str
    begin: Callable[[], None]
    began: float | None = None


@dataclass
class _Account:
    """Worker time of a client; both figures halve every minute.

    Args:
        spent: Worker seconds used.
        slowest: Seconds of its slowest task, decaying with each further task.
        updated: Time of the last update.
    """

    spent: float = 0.0
    slowest: float = 0.0
    updated: float = field(default_factory=time.monotonic)

    def fade(self, now: float) -> None:
        left = 0.5 ** ((now - self.updated) / _HALF_LIFE_SECONDS)
        self.spent, self.slowest, self.updated = self.spent * left, self.slowest * left, now

    def add(self, seconds: float, now: float) -> None:
        self.fade(now)
        self.spent += seconds
        self.slowest = max(seconds, self.slowest * _FADING)


class Turns:
    """Scheduler that decides whose task is next.

    Args:
        num_workers: Number of concurrent tasks.
        slow_seconds: Task time beyond which a client counts as slow. All slow clients together leave one worker free,
            if there are at least two.
    """

    def __init__(self, num_workers: int, *, slow_seconds: float) -> None:
        self._num_workers, self._slow_seconds = num_workers, slow_seconds
        self._lock = RLock()
        self._waiting: list[Turn] = []
        self._running: list[Turn] = []
        self._accounts: dict[str, _Account] = {}

    def ask(self, turn: Turn) -> None:
        """Queue a turn; it may begin at once."""
        with self._lock:
            self._waiting.append(turn)
        self._go_on()

    def leave(self, turn: Turn) -> None:
        """Release the worker, or leave the queue."""
        with self._lock:
            if turn in self._waiting:
                self._waiting.remove(turn)
            elif turn in self._running:
                self._running.remove(turn)
                assert turn.began is not None
                now = time.monotonic()
                self._accounts.setdefault(turn.client, _Account()).add(now - turn.began, now)
                self._forget()
        self._go_on()

    @asynccontextmanager
    async def one(self, client: str) -> AsyncIterator[None]:
        """Wait for a worker and hold it; for callers in one event loop."""
        has_begun = asyncio.Event()
        turn = Turn(client, has_begun.set)
        self.ask(turn)
        try:
            await has_begun.wait()
            yield
        finally:
            self.leave(turn)

    def _go_on(self) -> None:
        while (turn := self._take_next()) is not None:
            turn.begin()  # outside the lock, since it takes other locks

    def _take_next(self) -> Turn | None:
        with self._lock:
            if not self._waiting or len(self._running) >= self._num_workers:
                return None
            now = time.monotonic()
            for client in {turn.client for turn in (*self._waiting, *self._running)} & self._accounts.keys():
                self._accounts[client].fade(now)
            firsts = {turn.client: turn for turn in reversed(self._waiting)}
            held = Counter(turn.client for turn in self._running)
            may = [turn for turn in firsts.values() if self._may_begin(turn.client, held, len(firsts), now)]
            if not may:
                return None
            # First come, first served among clients with equal worker time.
            turn = min(may, key=lambda some: (self._add_up(some.client, now), self._waiting.index(some)))
            self._waiting.remove(turn)
            self._running.append(turn)
            turn.began = now
            return turn

    def _may_begin(self, client: str, held: Counter[str], num_clients: int, now: float) -> bool:
        if num_clients > 1 and held[client] >= math.ceil(self._num_workers / 2):
            return False
        own = self._find_longest(client, now)
        slow = [
            longest for turn in self._running if (longest := self._find_longest(turn.client, now)) > self._slow_seconds
        ]
        if self._num_workers < 2 or len(slow) < self._num_workers - 1:
            return True
        # On an overloaded machine everyone is slow; a client that is much faster than the others is not held back.
        return own <= self._slow_seconds or own * _FAR_LESS < max(slow)

    def _find_longest(self, client: str, now: float) -> float:
        """Return the seconds of a client's slowest task, running ones included."""
        account = self._accounts.get(client)
        begun = [turn.began for turn in self._running if turn.client == client and turn.began is not None]
        return max([account.slowest if account else 0.0, *(now - began for began in begun)])

    def _add_up(self, client: str, now: float) -> float:
        account = self._accounts.get(client)
        under_way = sum(now - (turn.began or now) for turn in self._running if turn.client == client)
        return (account.spent if account else 0.0) + under_way

    def _forget(self) -> None:
        """Forget the least recently seen clients, once there are many."""
        if len(self._accounts) > _MOST_REMEMBERED:
            ranked = sorted(self._accounts, key=lambda client: self._accounts[client].updated)
            for client in ranked[: _MOST_REMEMBERED // 2]:
                del self._accounts[client]
