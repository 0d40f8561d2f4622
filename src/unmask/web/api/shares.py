"""Fair shares: what one client may hold of what all of them share, and whose work is next.

A time limit bounds one request, and a client that sends the slowest file allowed again and again would still keep
everyone else waiting. So no client holds more places than are still free, which leaves one to whoever comes next; the
client that used the least of the workers' time is served first; and clients whose work is slow leave a worker to the
others.
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
_FADING = 0.7  # of a client's slowest work, with each further one: a fast file in between does not make it fast
_FAR_LESS = 4
_MOST_REMEMBERED = 10_000
_IPV6_OF_ONE = 64  # bits: whoever has one address has as many as they like below these


def name_address(host: str) -> str:
    """Return what stands for a client's address: of IPv6 the network, since a client can choose the rest freely."""
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
    """A number of places, of which no client holds more than are still free.

    One client alone gets half of them, two a third each, and so on (dynamic thresholds; Choudhury and Hahne, 1998).

    Args:
        total: How many there are.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.num_taken = 0
        self._held: Counter[str] = Counter()

    @property
    def is_full(self) -> bool:
        """Whether nobody gets a place."""
        return self.num_taken >= self.total

    def take(self, client: str | None) -> bool:
        """Take a place, if there is one for this client.

        Args:
            client: Any name; None for nobody, who gets each place there is.
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
    """A piece of work that waits for a worker, or has one.

    Args:
        client: Whose it is.
        begin: Called when a worker is free for it.
        began: On the clock of `time.monotonic`; None while it waits.
    """

    client: str
    begin: Callable[[], None]
    began: float | None = None


@dataclass
class _Account:
    """What is remembered of a client.

    Args:
        spent: Seconds of workers.
        slowest: Seconds of its slowest work, which fades with each further one.
        updated: When; of both, half is forgotten each minute.
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
    """Decides who is next.

    Args:
        num_workers: How many pieces of work are done at a time.
        slow_seconds: A client whose work took longer is slow: all slow ones together leave one worker to the others,
            where there are two or more.
    """

    def __init__(self, num_workers: int, *, slow_seconds: float) -> None:
        self._num_workers, self._slow_seconds = num_workers, slow_seconds
        self._lock = RLock()
        self._waiting: list[Turn] = []
        self._running: list[Turn] = []
        self._accounts: dict[str, _Account] = {}

    def ask(self, turn: Turn) -> None:
        """Wait for a worker; the turn may begin at once."""
        with self._lock:
            self._waiting.append(turn)
        self._go_on()

    def leave(self, turn: Turn) -> None:
        """Give the worker back, or wait no more."""
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
        """Hold a worker, having waited for it; for those who all live in one event loop."""
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
            turn.begin()  # outside of the lock, since it takes others

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
            # Of those that used the workers alike, whoever came first.
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
        # On a machine with too much to do everyone is slow; whoever is far less so than the others is not held up.
        return own <= self._slow_seconds or own * _FAR_LESS < max(slow)

    def _find_longest(self, client: str, now: float) -> float:
        """Return the seconds of a client's slowest work, of which what it does at the moment may be the slowest."""
        account = self._accounts.get(client)
        begun = [turn.began for turn in self._running if turn.client == client and turn.began is not None]
        return max([account.slowest if account else 0.0, *(now - began for began in begun)])

    def _add_up(self, client: str, now: float) -> float:
        account = self._accounts.get(client)
        under_way = sum(now - (turn.began or now) for turn in self._running if turn.client == client)
        return (account.spent if account else 0.0) + under_way

    def _forget(self) -> None:
        """Forget those who came longest ago, once there are many."""
        if len(self._accounts) > _MOST_REMEMBERED:
            ranked = sorted(self._accounts, key=lambda client: self._accounts[client].updated)
            for client in ranked[: _MOST_REMEMBERED // 2]:
                del self._accounts[client]
