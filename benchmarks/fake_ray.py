"""A stand-in for Ray, in memory and in virtual time, under the real driver code.

Its workers run nothing: each answers after the virtual seconds that its episodes take. The
clock shows the processor time that the driver's own code really used, plus what each call
of Ray costs (as measured on the real one), plus the time for which the driver had nothing
to do. So it shows how long a generation would take on a cluster of any size, and what the
driver did meanwhile, on one core and without a cluster.
"""

from __future__ import annotations

import gc
import heapq
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

from distes.engines.wire import ROW, Chunk
from distes.evaluators import cluster, headcount, worker_pool
from distes.evaluators import ray as evaluators_ray
from distes.evaluators.connection import Connection
from distes.evaluators.fingerprint import take_fingerprint
from distes.evaluators.worker import Answer, Ready


class Costs(NamedTuple):
    """Seconds of the driver's processor time in Ray's calls, all threads together.

    Attributes:
        submit_s: to call an actor.
        get_s: to get an answer that is there.
        wait_s: to look at one reference, per look: a step looks twice.
        latency_s: on the way, each direction; no processor time.
    """

    submit_s: float
    get_s: float
    wait_s: float
    latency_s: float = 0.001


@dataclass
class Clock:
    """The driver's virtual time, and where it went."""

    ray_s: float = 0.0
    idle_s: float = 0.0
    parts: dict[str, float] = field(default_factory=dict)
    _fake_s: float = 0.0
    _began: float = field(default_factory=time.thread_time)
    _part: str = "step"
    _part_began: float = 0.0

    def own_s(self) -> float:
        """Processor time that the driver's own code took."""
        return time.thread_time() - self._began - self._fake_s

    def now(self) -> float:
        """Virtual seconds."""
        return self.own_s() + self.ray_s + self.idle_s

    def sleep(self, seconds: float) -> None:
        """Let virtual time go by."""
        self.idle_s += seconds

    @contextmanager
    def outside(self) -> Iterator[None]:
        """Do not count what the stand-in does."""
        began = time.thread_time()
        yield
        self._fake_s += time.thread_time() - began

    def charged(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Charge a function's own time to a part, less what it calls of other parts."""

        def charge(*args: Any) -> Any:
            before = self._switch(name)
            try:
                return function(*args)
            finally:
                self._switch(before)

        return charge

    def _switch(self, name: str) -> str:
        now, before = self.own_s(), self._part
        self.parts[before] = self.parts.get(before, 0.0) + now - self._part_began
        self._part, self._part_began = name, now
        return before


class _Reference:
    """An answer to come; forgotten once the driver drops it."""

    __slots__ = ("__weakref__", "make")

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make


class _Actor:
    """A worker that runs nothing, one call after the other."""

    def __init__(self, fake: FakeRay, number: int) -> None:
        self._fake = fake
        self._number = number
        self._free_at = 0.0
        self.start = SimpleNamespace(remote=self._start)
        self.run = SimpleNamespace(remote=self._run)

    def _start(self, setup: object) -> _Reference:
        ready = Ready("fake", "node", self._number, self._fake.fingerprint)
        return self._fake.answer(lambda: ready, self._fake.clock.now())

    def _run(self, evaluation: int, start: int, stop: int, oldest: int, sent: object) -> _Reference:
        fake = self._fake
        with fake.clock.outside():
            fake.clock.ray_s += fake.costs.submit_s
            fake.chunks += 1
            ends = fake.ends[evaluation]
            seconds = float(ends[stop] - ends[start])
            arrives = fake.clock.now() + fake.costs.latency_s
            self._free_at = max(self._free_at, arrives) + seconds
            return fake.answer(
                lambda: Answer(Chunk(start, stop, np.zeros(stop - start, ROW)), seconds).to_wire(),
                self._free_at + fake.costs.latency_s,
            )


class FakeRay:
    """The calls of Ray that the driver makes.

    Attributes:
        clock: virtual time.
        ends: per evaluation, (m + 1,) running sum of its episodes' seconds.
        chunks: calls of workers so far.
    """

    def __init__(self, costs: Costs) -> None:
        self.costs = costs
        self.clock = Clock()
        self.ends: dict[int, Any] = {}
        self.chunks = 0
        self.fingerprint = take_fingerprint()
        self._actors = 0
        self._order = 0
        self._coming: list[tuple[float, int, weakref.ref[_Reference]]] = []
        self._there: deque[weakref.ref[_Reference]] = deque()

    def put(self, value: object) -> object:
        """Give the value itself."""
        return value

    def is_initialized(self) -> bool:
        """Always."""
        return True

    def kill(self, actor: object) -> None:
        """End an actor: there is nothing to end."""

    def remote(self, **options: object) -> Callable[[type], Any]:
        """Make actors in place of a class's."""

        def make(*args: object) -> _Actor:
            self._actors += 1
            return _Actor(self, self._actors)

        made = SimpleNamespace(remote=make)
        return lambda _: SimpleNamespace(options=lambda **_: made)

    def answer(self, make: Callable[[], Any], at: float) -> _Reference:
        """Promise an answer."""
        reference = _Reference(make)
        self._order += 1
        heapq.heappush(self._coming, (at, self._order, weakref.ref(reference)))
        return reference

    def wait(
        self, references: Sequence[_Reference], *, num_returns: int, timeout: float
    ) -> tuple[list[_Reference], None]:
        """Give answers that are there, or wait for the next; the driver may have dropped some."""
        with self.clock.outside():
            self.clock.ray_s += self.costs.wait_s * len(references)
            until = self.clock.now() + timeout
            while not self._arrived() and self._coming and self._coming[0][0] <= until:
                self.clock.idle_s += max(0.0, self._coming[0][0] - self.clock.now())
            if not self._there:
                self.clock.idle_s += max(0.0, until - self.clock.now())
            found = [each for each in (ref() for ref in self._there) if each is not None]
            return found[:num_returns], None

    def get(self, reference: _Reference) -> Any:
        """Give an answer that is there."""
        with self.clock.outside():
            self.clock.ray_s += self.costs.get_s
            if self._there and self._there[0]() is reference:
                self._there.popleft()
            else:
                self._there = deque(ref for ref in self._there if ref() is not reference)
            return reference.make()

    def _arrived(self) -> bool:
        now = self.clock.now()
        while self._coming and self._coming[0][0] <= now:
            reference = heapq.heappop(self._coming)[2]
            if reference() is not None:
                self._there.append(reference)
        while self._there and self._there[0]() is None:
            self._there.popleft()
        return bool(self._there)


PARTS = {"_hand_out": "dispatch", "_take_answer": "receive", "_complete": "assemble"}


@contextmanager
def under(fake: FakeRay, workers: int) -> Iterator[None]:
    """Put the stand-in under the driver's code; charge its parts."""
    clock = SimpleNamespace(monotonic=fake.clock.now, sleep=fake.clock.sleep)
    state = cluster.ClusterState({"node": float(workers)}, {"node": 0.0}, frozenset())
    real = evaluators_ray.RayEvaluator
    with (
        mock.patch.multiple(evaluators_ray, ray=fake, time=clock, connect=lambda *_: FOUND),
        mock.patch.multiple(worker_pool, ray=fake, time=clock),
        mock.patch.multiple(headcount, time=clock),
        mock.patch.multiple(cluster, read_state=lambda: state, can_grow=lambda: False),
        mock.patch.multiple(
            real,
            **{name: fake.clock.charged(part, getattr(real, name)) for name, part in PARTS.items()},
        ),
    ):
        gc.collect()
        yield


FOUND = Connection.FOUND
