"""Evaluation on Ray workers.

Restarts and retries are left to the driver: Ray's are off, a lost worker's episodes are
run again elsewhere, and the worker is replaced. An episode depends on its parameters, its
seed and the frozen statistics alone, so running one twice is harmless.
"""

from __future__ import annotations

import math
import os
import secrets
import sys
import time
import warnings
from dataclasses import dataclass, field
from typing import Any, Literal

import ray
from ray.exceptions import (
    LocalRayletDiedError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RaySystemError,
    RayTaskError,
    WorkerCrashedError,
)

from distes.errors import RunFailed, UsageError
from distes.evaluators.base import PlacedChunk, evaluated
from distes.evaluators.connection import Connection, connect, disconnect
from distes.evaluators.dispatch import CHUNK_S, MAX_ATTEMPTS, Assignment, Dispatcher, Piece
from distes.evaluators.fingerprint import differences, fingerprint
from distes.evaluators.worker import Answer, Ready, Setup, Worker
from distes.policies.base import Policy
from distes.population import Evaluated, Population, RunKey
from distes.rollouts.base import ROW
from distes.task import AnyTask, Task, environment_spec

LOST = (
    RayActorError,
    OutOfMemoryError,
    NodeDiedError,
    WorkerCrashedError,
    LocalRayletDiedError,
    ObjectLostError,
)
"""Errors that mean a worker is gone; anything else is an error of the code it ran."""

PLACED_WITHIN_S = 10.0
"""Seconds after which workers that are not there yet are spoken of."""

EPISODES_PER_CHUNK = 2048
INLINE_BYTES = 80_000
"""Answers below 100 KB travel with the reply and outlive the node that made them."""

Event = dict[str, object]


@dataclass(eq=False)
class _Hand:
    """A worker as the driver sees it."""

    number: int
    actor: Any
    node: int = -1
    knows: set[int] = field(default_factory=set)  # evaluations whose population it was sent


@dataclass(eq=False)
class _Evaluation:
    """An evaluation under way."""

    number: int
    population: Population
    key: RunKey
    reference: Any
    began: float
    missing: int
    placed: list[PlacedChunk] = field(default_factory=list)
    busy_s: float = 0.0
    retries: int = 0
    answer: Evaluated | None = None
    error: Exception | None = None


class RayEvaluator:
    """Runs episodes on Ray workers.

    A Ray that this process is connected to is used and left running. Otherwise the
    cluster at `address` or ``RAY_ADDRESS`` is joined; without either a private one is
    started on this machine, and stopped by `close`.

    Args:
        task: what is to be solved.
        policy: built for the task.
        engine: a resolved engine's name.
        workers: how many; None fills the cluster.
        cpus_per_worker: may be a fraction.
        address: ``host:port`` or ``auto``.
        chunk_s: seconds of work that are handed out at a time.
        strict: refuse workers whose libraries or processor differ from the driver's.

    Raises:
        UsageError: a number makes no sense, the cluster cannot be reached, or it has no
            room for a single worker.
    """

    def __init__(
        self,
        task: AnyTask,
        policy: Policy,
        engine: str,
        *,
        workers: int | Literal["auto"] = "auto",
        min_workers: int = 1,
        cpus_per_worker: float = 1.0,
        episode_timeout_s: float | None = None,
        address: str | None = None,
        chunk_s: float = CHUNK_S,
        strict: bool = False,
    ) -> None:
        if workers != "auto" and workers < 1:
            raise UsageError(f"workers {workers} is not at least 1 (0 runs without Ray)")
        for name, value in (("cpus_per_worker", cpus_per_worker), ("chunk_s", chunk_s)):
            if not (math.isfinite(value) and value > 0):
                raise UsageError(f"{name} {value} is not a finite number above 0")
        self._task = task
        self._cpus = cpus_per_worker
        self._strict = strict
        self._dispatcher = Dispatcher(chunk_s)
        self._name = secrets.token_hex(3)
        self._own_fingerprint = fingerprint()
        self._hands: dict[int, _Hand] = {}
        self._nodes: list[str] = []
        self._starting: dict[Any, _Hand] = {}
        self._running: dict[Any, tuple[_Hand, Piece]] = {}
        self._evaluations: dict[int, _Evaluation] = {}
        self._events: list[Event] = []
        self._count = 0
        self._submitted = 0
        self._failed_starts = 0
        self._told = False
        self._closed = False
        self._connection = connect(address, _local_cpus(workers, cpus_per_worker))
        try:
            self._asked = _room(cpus_per_worker) if workers == "auto" else workers
            if not self._asked:
                raise UsageError(self._no_room(1))
            spec = (
                environment_spec(task.env)
                if isinstance(task, Task) and isinstance(task.env, str)
                else None
            )
            self._setup = ray.put(Setup(engine, task, policy, spec))
            self._make = ray.remote(
                num_cpus=cpus_per_worker,
                max_restarts=0,
                max_task_retries=0,
                scheduling_strategy="SPREAD",
            )(Worker)
            self._since = time.monotonic()
            for _ in range(self._asked):
                self._start_worker()
        except BaseException:
            self.close()
            raise

    def submit(self, population: Population, key: RunKey) -> RayPending:
        """Start an evaluation; those submitted earlier go first."""
        if self._closed:
            raise RuntimeError("the evaluator is closed")
        self._submitted += 1
        evaluation = _Evaluation(
            self._submitted,
            population,
            key,
            ray.put((population, key)),
            time.perf_counter(),
            population.num_episodes,
        )
        kind = (population.purpose, population.task is None, population.max_steps)
        cap = min(EPISODES_PER_CHUNK, max(1, INLINE_BYTES // self._bytes_per_episode(population)))
        self._evaluations[evaluation.number] = evaluation
        self._dispatcher.submit(evaluation.number, evaluation.missing, kind, cap)
        if evaluation.missing:
            self._hand_out()
        else:
            self._complete(evaluation)
        return RayPending(self, evaluation)

    def close(self) -> None:
        """End the workers, and the Ray that was started for them."""
        if self._closed:
            return
        self._closed = True
        # Not where somebody has shut Ray down already: asking it would start another.
        for hand in [*self._hands.values(), *self._starting.values()]:
            if ray.is_initialized():
                ray.kill(hand.actor)
        self._hands.clear()
        self._starting.clear()
        self._running.clear()
        self._evaluations.clear()
        if self._connection is not Connection.FOUND:
            disconnect()

    def _wait_for(self, evaluation: _Evaluation) -> Evaluated:
        while evaluation.answer is None:
            if evaluation.error is not None:
                raise evaluation.error
            if self._closed:
                raise RuntimeError("the evaluator was closed before the answer was there")
            self._step()
        return evaluation.answer

    def _step(self) -> None:
        """Wait for anything to happen, deal with all that has, hand out new work."""
        waiting = [*self._starting, *self._running]
        ready, _ = ray.wait(waiting, num_returns=1, timeout=1.0)
        if ready:
            ready, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0)
        self._tell_of_missing_workers()
        failed: list[tuple[Any, RayError]] = []
        for reference in ready:
            try:
                value = ray.get(reference)
            except RayError as error:
                # Answers first: what a lost worker still answered need not run again.
                failed.append((reference, error))
            else:
                self._received(reference, value)
        for reference, lost in failed:
            self._failed(reference, lost)
        self._hand_out()

    def _received(self, reference: Any, value: Ready | Answer) -> None:
        if isinstance(value, Ready):
            self._joined(self._starting.pop(reference), value)
            return
        hand, piece = self._running.pop(reference)
        self._dispatcher.done(hand.number, piece, value.seconds, time.monotonic())
        evaluation = self._evaluations.get(piece.work)
        if evaluation is None:
            return
        evaluation.placed.append(PlacedChunk(value.chunk, piece.attempt, hand.number, hand.node))
        evaluation.busy_s += value.seconds
        evaluation.missing -= piece.size
        if not evaluation.missing:
            self._complete(evaluation)

    def _complete(self, evaluation: _Evaluation) -> None:
        wall = time.perf_counter() - evaluation.began
        workers = max(len(self._hands), 1)
        events, self._events = self._events, []
        self._drop(evaluation)
        try:
            evaluation.answer = evaluated(
                evaluation.population,
                evaluation.key,
                self._task,
                evaluation.placed,
                self._nodes,
                summary={
                    "workers": len(self._hands),
                    "chunks": len(evaluation.placed),
                    "retries": evaluation.retries,
                    "utilisation": min(1.0, evaluation.busy_s / (workers * wall)),
                },
                events=events,
            )
        except Exception as error:  # noqa: BLE001 - a user's fitness rule may raise anything
            evaluation.error = error

    def _drop(self, evaluation: _Evaluation) -> None:
        self._dispatcher.forget(evaluation.number)
        del self._evaluations[evaluation.number]
        evaluation.reference = None

    def _failed(self, reference: Any, raised: RayError) -> None:
        """Deal with an error that came in place of an answer."""
        inner = getattr(raised, "cause", None)
        error: RayError = inner if isinstance(inner, LOST) else raised
        if reference in self._starting:
            hand = self._starting.pop(reference)
            if not isinstance(error, LOST):
                self.close()
                raise _of_user(error)
            self._failed_starts += 1
            if self._failed_starts >= MAX_ATTEMPTS:
                self.close()
                raise RunFailed(f"workers die while they start; the last one: {error}") from error
            self._lose(hand, error)
        elif reference in self._running:
            hand, piece = self._running[reference]
            if isinstance(error, LOST):
                self._lose(hand, error)
                return
            del self._running[reference]
            self._dispatcher.done(hand.number, piece, 0.0, time.monotonic())
            evaluation = self._evaluations.get(piece.work)
            if evaluation is not None:
                evaluation.error = _of_user(error)
                self._drop(evaluation)

    def _lose(self, hand: _Hand, error: RayError) -> None:
        """Run a lost worker's episodes again, and replace it."""
        self._hands.pop(hand.number, None)
        for reference in [r for r, (owner, _) in self._running.items() if owner is hand]:
            del self._running[reference]
        pieces = self._dispatcher.leave(hand.number)
        self._events.append(
            {
                "kind": "worker_lost",
                "worker": hand.number,
                "node": self._nodes[hand.node] if hand.node >= 0 else "",
                "error": type(error).__name__,
                "preempted": bool(getattr(error, "preempted", False)),
                "retried": [[piece.start, piece.stop] for piece in pieces],
            }
        )
        for piece in pieces:
            evaluation = self._evaluations.get(piece.work)
            if evaluation is None:
                continue
            evaluation.retries += 1
            if piece.attempt > MAX_ATTEMPTS:
                evaluation.error = RunFailed(_lost_for_good(evaluation, piece, error))
                self._drop(evaluation)
        ray.kill(hand.actor)  # where it is unreachable rather than dead
        self._start_worker()

    def _start_worker(self) -> None:
        number = self._count
        self._count += 1
        actor = self._make.options(name=f"distes-{self._name}-worker-{number}").remote(
            number, [entry for entry in sys.path if entry]
        )
        hand = _Hand(number, actor)
        self._starting[actor.start.remote([self._setup])] = hand

    def _joined(self, hand: _Hand, ready: Ready) -> None:
        self._failed_starts = 0
        differing = differences(self._own_fingerprint, ready.fingerprint)
        if ready.node not in self._nodes:
            self._nodes.append(ready.node)
            if differing:
                self._events.append(
                    {"kind": "fingerprint", "node": ready.node, "driver_and_worker": differing}
                )
        if differing and self._strict:
            self.close()
            raise UsageError(
                f"worker {hand.number} on {ready.node} differs from the driver, and strict was "
                "asked for: "
                + "; ".join(f"{name} {b!r} where {a!r}" for name, (a, b) in differing.items())
            )
        hand.node = self._nodes.index(ready.node)
        self._hands[hand.number] = hand
        self._dispatcher.join(hand.number)
        self._events.append({"kind": "worker_joined", "worker": hand.number, "node": ready.node})

    def _hand_out(self) -> None:
        oldest = min(self._evaluations, default=0)
        for assignment in self._dispatcher.assign(time.monotonic()):
            if assignment.taken_from is not None:
                self._take_back(assignment)
            piece, hand = assignment.piece, self._hands[assignment.worker]
            evaluation = self._evaluations[piece.work]
            sent = None
            if piece.work not in hand.knows:
                sent = [evaluation.reference]
                hand.knows = {number for number in hand.knows if number >= oldest} | {piece.work}
            reference = hand.actor.run.remote(piece.work, piece.start, piece.stop, oldest, sent)
            self._running[reference] = hand, piece

    def _take_back(self, assignment: Assignment) -> None:
        """Wait no longer for a chunk that another worker has now.

        Its first worker may still run it: Ray's cancellation would not prevent that, only
        lose the answer.
        """
        for reference, (hand, piece) in self._running.items():
            if piece is assignment.piece and hand.number == assignment.taken_from:
                del self._running[reference]
                return

    def _tell_of_missing_workers(self) -> None:
        late = time.monotonic() - self._since > PLACED_WITHIN_S
        if self._told or not late:
            return
        self._told = True
        if self._connection is Connection.STARTED or len(self._hands) >= self._asked:
            return  # a private Ray has room for all: they are only slow to start
        message = self._no_room(self._asked)
        if not self._hands and not _room(self._cpus):
            self.close()
            raise UsageError(message)
        warnings.warn(message, RuntimeWarning, stacklevel=2)
        self._events.append(
            {
                "kind": "workers_missing",
                "asked": self._asked,
                "ready": len(self._hands),
                "cpus": float(ray.cluster_resources().get("CPU", 0)),
                "free_cpus": float(ray.available_resources().get("CPU", 0)),
            }
        )

    def _no_room(self, asked: int) -> str:
        total = ray.cluster_resources().get("CPU", 0)
        free = ray.available_resources().get("CPU", 0)
        return (
            f"{len(self._hands)} of {asked} workers of {self._cpus:g} CPUs are ready: the "
            f"cluster has {total:g} CPUs, room for {_room(self._cpus)} such workers, and "
            f"{free:g} CPUs free"
        )

    def _bytes_per_episode(self, population: Population) -> int:
        task = self._task if population.task is None else population.task
        imposed = 0 if population.contexts is None else int(population.contexts.shape[1])
        info = len(task.log_info) if isinstance(task, Task) else 0
        return int(ROW.itemsize) + 8 * (max(imposed, task.num_contexts) + info)


@dataclass(frozen=True)
class RayPending:
    """An evaluation on its way; asking for its result drives all of them."""

    evaluator: RayEvaluator
    evaluation: _Evaluation

    def result(self) -> Evaluated:
        """Wait for the whole answer, handing out work meanwhile.

        Raises:
            RunFailed: episodes were lost with their workers too often.
            Exception: what the user's code raised outside an episode.
        """
        return self.evaluator._wait_for(self.evaluation)


def _local_cpus(workers: int | Literal["auto"], cpus_per_worker: float) -> int | None:
    """CPUs of a private Ray: room for all workers, on however small a machine."""
    if workers == "auto":
        return None
    return max(os.cpu_count() or 1, math.ceil(workers * cpus_per_worker))


def _room(cpus_per_worker: float) -> int:
    """How many workers the cluster's nodes could hold if they were empty."""
    return sum(
        int(node["Resources"].get("CPU", 0) / cpus_per_worker + 1e-9)
        for node in ray.nodes()
        if node["Alive"]
    )


def _of_user(error: RayError) -> Exception:
    """Unwrap what code raised in a worker, keeping its traceback in the message."""
    if isinstance(error, RayTaskError):
        if isinstance(error.cause, UsageError):
            return error.cause
        if isinstance(error.cause, RaySystemError):
            return RunFailed(f"a worker cannot load what it was sent: {error.cause}")
        unwrapped: Exception = error.as_instanceof_cause()
        return unwrapped
    return RunFailed(f"a worker failed: {error}")


def _lost_for_good(evaluation: _Evaluation, piece: Piece, error: RayError) -> str:
    candidate, _ = evaluation.population.locate(piece.start, piece.stop)
    return (
        f"workers died {MAX_ATTEMPTS} times while they ran candidates {candidate[0]} to "
        f"{candidate[-1]} (episodes {piece.start} to {piece.stop - 1}) of generation "
        f"{evaluation.key.generation}; the last error: {error}"
    )
