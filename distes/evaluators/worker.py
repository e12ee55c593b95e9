"""What runs inside a Ray worker: engines of its own, and the populations under way."""

from __future__ import annotations

import faulthandler
import os
import pickle
import platform
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import ray
from ray import cloudpickle
from ray.exceptions import RaySystemError
from threadpoolctl import threadpool_limits

from distes.engines.choice import Engines
from distes.engines.wire import Chunk, WireTuple, join_chunks
from distes.evaluators.fingerprint import take_fingerprint
from distes.policies.base import Policy
from distes.population.records import Population, RunKey
from distes.tasks.base import AnyTask

SMALL_BYTES = 16_000  # a population up to this size is sent to each worker, a larger one shared


class Setup(NamedTuple):
    """What all workers are made from, broadcast once."""

    engine: str  # a resolved engine's name
    task: AnyTask  # what is to be solved
    policy: Policy  # built for the task
    environment: gym.envs.registration.EnvSpec | None  # the driver's code may have registered it
    episode_timeout_s: float | None = None  # after which an episode ends its worker


class Ready(NamedTuple):
    """What a worker says of itself when it is ready."""

    node: str  # name of its machine
    node_id: str  # Ray's
    pid: int  # its process
    fingerprint: dict[str, str]  # of its libraries and processor


class PackedPopulation(NamedTuple):
    """A population and its key on their way to workers."""

    data: bytes  # pickled, arrays apart; empty for large ones
    arrays: tuple[bytes, ...] = ()  # bytes of the arrays, which arrive read-only
    shared: tuple[Any, ...] = ()  # one reference to a large one: each machine keeps one copy

    @classmethod
    def pack(cls, population: Population, key: RunKey) -> PackedPopulation:
        """Pack what goes to every worker; small ones go with the call, in half the time."""
        found: list[pickle.PickleBuffer] = []
        with suppress(Exception):  # Ray says more of why it cannot be pickled
            data = cloudpickle.dumps((population, key), protocol=5, buffer_callback=found.append)
            arrays = [each.raw() for each in found]
            if len(data) + sum(each.nbytes for each in arrays) <= SMALL_BYTES:
                return cls(data, tuple(bytes(each) for each in arrays))
        return cls(b"", shared=(ray.put((population, key)),))

    def unpack(self) -> tuple[Population, RunKey]:
        """Take population and key out again.

        Raises:
            RaySystemError: something in it cannot be loaded here.
        """
        content: tuple[Population, RunKey]
        if self.shared:
            content = ray.get(self.shared[0])
            return content
        try:
            content = pickle.loads(self.data, buffers=self.arrays)  # noqa: S301 - the driver's own
        except Exception as error:
            raise RaySystemError(f"System error: {error}", traceback.format_exc()) from error
        return content


class DistesWorker:
    """Runs chunks of episodes, one at a time; named so on Ray's dashboard.

    Args:
        number: the worker's number, for people.
        path: the driver's import path; what is missing here is added at the end.
    """

    def __init__(self, number: int, path: Sequence[str]) -> None:
        self._number = number
        self._engines: Engines
        self._timeout_s: float | None = None
        self._populations: dict[int, tuple[Population, RunKey]] = {}
        sys.path += [entry for entry in path if entry not in sys.path and Path(entry).is_dir()]
        for library in ("OMP", "OPENBLAS", "MKL"):
            os.environ[f"{library}_NUM_THREADS"] = "1"

    def __repr__(self) -> str:
        """Name the worker, in logs and on the dashboard."""
        return f"distes worker {self._number} on {platform.node()}"

    def start(self, setup: Sequence[Any]) -> Ready:
        """Make the engines.

        Args:
            setup: one reference to a `Setup`; nested, so that the driver's import path is
                in place before the user's code is loaded.
        """
        given: Setup = ray.get(setup[0])
        spec = given.environment
        if spec is not None and spec.id not in gym.registry:
            gym.registry[spec.id] = spec
        self._engines = Engines(given.engine, given.task, given.policy)
        self._timeout_s = given.episode_timeout_s
        self._engines.prepare()  # a worker is ready when its simulator is
        threadpool_limits(1)
        node_id = ray.get_runtime_context().get_node_id()
        return Ready(platform.node(), node_id, os.getpid(), take_fingerprint())

    def run(
        self, evaluation: int, start: int, stop: int, oldest: int, sent: PackedPopulation | None
    ) -> WireTuple:
        """Run the flat episodes ``start .. stop``: the seconds, and the chunk's `Chunk.to_wire`.

        Args:
            evaluation: its number.
            start: first flat episode number.
            stop: one past the last.
            oldest: evaluations with lower numbers are over.
            sent: the population and its key, the first time only: a reference with every
                call would double what a call costs.
        """
        if sent is not None:
            self._populations[evaluation] = sent.unpack()
            for over in [number for number in self._populations if number < oldest]:
                del self._populations[over]
        population, key = self._populations[evaluation]
        began = time.perf_counter()
        run = self._engines.run if self._timeout_s is None else self._run_watched
        chunk = run(population, key, start, stop)
        return time.perf_counter() - began, *chunk.to_wire()

    def _run_watched(self, population: Population, key: RunKey, start: int, stop: int) -> Chunk:
        """Run one episode at a time; one that takes too long ends this process.

        The clock is a thread of C that needs no lock of Python's: it stops a simulator
        that hangs inside its own code, and leaves the traceback in the worker's log.
        """
        assert self._timeout_s is not None  # noqa: S101 - as `run` has seen
        chunks = []
        try:
            for flat in range(start, stop):
                self._engines.prepare(population)  # making it is no part of an episode
                faulthandler.dump_traceback_later(self._timeout_s, exit=True)
                chunks.append(self._engines.run(population, key, flat, flat + 1))
                faulthandler.cancel_dump_traceback_later()
        finally:
            faulthandler.cancel_dump_traceback_later()
        return join_chunks(chunks)
