"""Evaluation on Ray workers.

An episode depends on its parameters, its seed and the frozen statistics alone. So a lost
worker's episodes are run again elsewhere, a chunk that is late is run a second time and
the first answer counts, and neither changes a result. Two outcomes alone are the
cluster's and not the episode's: ``crashed`` and ``timeout``, each after several workers
were lost to one episode.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import ray
from ray.exceptions import RayError, RaySystemError, RayTaskError

from distes.engines.base import make_lost_chunk
from distes.engines.choice import find_engine
from distes.engines.wire import Chunk, WireTuple
from distes.errors import Notice, RunFailed, UsageError
from distes.evaluators import cluster
from distes.evaluators.base import Event, PlacedChunk, assemble_evaluated, make_event
from distes.evaluators.chunk_size import find_largest_size
from distes.evaluators.connection import Connection, connect, disconnect
from distes.evaluators.headcount import Headcount
from distes.evaluators.scheduling import CHUNK_S, Dispatcher, EpisodeRange
from distes.evaluators.worker import PackedPopulation, Ready, Setup
from distes.evaluators.worker_pool import Loss, WorkerHandle, WorkerPool, find_lost_error
from distes.policies.base import Policy
from distes.population.records import Evaluated, Population, Purpose, RunKey, Status
from distes.signals import shielded
from distes.tasks.base import AnyTask
from distes.tasks.environment import Task, environment_spec

# Workers that one episode may cost before it is given up: a worker may also die of something
# else just then, while an episode that is too slow is so by its own clock.
DEATHS_ALLOWED = {Status.CRASHED: 3, Status.TIMEOUT: 2}
# Seconds beyond twice a chunk's time limit (its environments may have to be made) after which
# a worker, whose own clock should have ended it, is ended from here.
OVERTIME_S = 60.0
LOOK_S = 1.0  # seconds to wait for anything to happen, and between searches for such workers
IDLE_S = 0.05  # where workers are idle


@dataclass(eq=False)
class RayPending:
    """An evaluation under way; asking for its result drives all of them."""

    evaluator: RayEvaluator
    number: int  # from 1
    population: Population
    key: RunKey
    packed: PackedPopulation | None  # both on their way to workers; None once it is over
    worker_s: float  # the pool's `worker_seconds` when it was submitted
    missing: int  # episodes without an answer
    placed: list[PlacedChunk] = field(default_factory=list)  # answers so far
    events: list[Event] = field(default_factory=list)  # what happened, for the log
    busy_s: float = 0.0  # seconds that workers spent on its episodes
    retries: int = 0  # chunks that were run again
    duplicates: int = 0  # chunks that were run a second time because they were late
    handed_out_at: float = 0.0  # time.monotonic() when the last of it was handed out
    answer: Evaluated | None = None  # once it is complete
    error: Exception | None = None  # that ended it

    @property
    def share(self) -> float:
        """Share of its episodes that are answered; any thread may ask."""
        return 1 - self.missing / max(self.population.num_episodes, 1)

    def result(self) -> Evaluated:
        """Wait for the whole answer, handing out work meanwhile.

        Raises:
            RunFailed: workers cannot be started any more.
            Exception: what the user's code raised outside an episode.
        """
        return self.evaluator._wait_for(self)


class RayEvaluator:
    """Runs episodes on Ray workers.

    A Ray that this process is connected to is used and left running. Otherwise the
    cluster at `address` or ``RAY_ADDRESS`` is joined; without either a private one is
    started on this machine, and stopped by `close`.

    Args:
        task: what is to be solved.
        policy: built for the task.
        engine: a resolved engine's name.
        workers: how many; ``auto`` takes all the room there is, as it comes and goes.
        min_workers: how many to wait for before the first episode.
        cpus_per_worker: may be a fraction.
        episode_timeout_s: seconds that one episode may take, or None.
        address: ``host:port`` or ``auto``.
        chunk_s: seconds of work that are handed out at a time; more for many workers.
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
        self._policy = policy
        self._engine = find_engine(engine)
        self._timeout_s = episode_timeout_s
        self._dispatcher = Dispatcher(chunk_s)
        self._running: dict[Any, tuple[WorkerHandle, EpisodeRange]] = {}
        self._references: dict[tuple[int, EpisodeRange], Any] = {}
        self._evaluations: dict[int, RayPending] = {}
        self._unread: dict[int, list[Event]] = {}
        self._retiring: dict[int, WorkerHandle] = {}
        self._losses: list[tuple[Loss, int]] = []
        self._overtime_at = -math.inf
        self._submitted = 0
        self._closed = False
        self._pool: WorkerPool | None = None
        self._connection = connect(address, _count_local_cpus(workers, cpus_per_worker))
        env = task.env if isinstance(task, Task) else None
        spec = environment_spec(env) if isinstance(env, str) else None
        with self._close_at_fault():
            headcount = Headcount(
                workers,
                min_workers=min_workers,
                cpus_per_worker=cpus_per_worker,
                private=self._connection is Connection.STARTED,
            )
            setup = Setup(engine, task, policy, spec, episode_timeout_s)
            self._pool = WorkerPool(setup, headcount, strict=strict)

    @property
    def num_nodes(self) -> int:
        """Nodes of the cluster."""
        return cluster.count_nodes()

    def events(self) -> list[Event]:
        """Take what happened since the last answer."""
        events = [each for unread in self._unread.values() for each in unread]
        events += self._workers.events if self._pool is not None else []
        events += [each for e in self._evaluations.values() for each in e.events]
        self._unread.clear()
        if self._pool is not None:
            self._pool.events.clear()
        return events

    @shielded
    def submit(self, population: Population, key: RunKey) -> RayPending:
        """Start an evaluation; those submitted earlier go first."""
        if self._closed:
            raise RuntimeError("the evaluator is closed")
        self._submitted += 1
        evaluation = RayPending(
            self,
            self._submitted,
            population,
            key,
            PackedPopulation.pack(population, key),
            self._workers.worker_seconds(),
            population.num_episodes,
            handed_out_at=time.monotonic(),
        )
        alike = (population.task is None, population.max_steps, population.records)
        own = self._task if population.task is None else population.task
        cap = find_largest_size(population, own, self._policy)
        self._evaluations[evaluation.number] = evaluation
        first = 1  # a population's own task has another engine
        if population.task is None:
            first = self._engine.first_chunk(population, own, self._policy)
        self._dispatcher.submit(
            *(evaluation.number, evaluation.missing, (population.purpose, *alike), cap, first),
            like=(Purpose.SEARCH, *alike),
        )
        if evaluation.missing:
            self._hand_out()
        else:
            self._complete(evaluation)
        return evaluation

    def close(self) -> None:
        """End the workers, and the Ray that was started for them."""
        if self._closed:
            return
        self._closed = True
        if self._pool is not None:
            self._pool.close()
        self._running.clear()
        self._references.clear()
        if self._connection is not Connection.FOUND:
            disconnect()

    @property
    def _workers(self) -> WorkerPool:
        assert self._pool is not None  # noqa: S101 - set by __init__
        return self._pool

    @contextlib.contextmanager
    def _close_at_fault(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.close()
            raise

    def _wait_for(self, evaluation: RayPending) -> Evaluated:
        while evaluation.answer is None:
            if evaluation.error is not None:
                raise evaluation.error
            if self._closed:
                raise RuntimeError("the evaluator was closed before the answer was there")
            self._step()
        self._unread.pop(evaluation.number, None)
        return evaluation.answer

    @shielded  # Ray's own code mistakes what a signal's handler raises for a fault of its own
    def _step(self) -> None:
        """Wait for anything to happen, deal with all that has, hand out new work."""
        waiting = [*self._workers.starting, *self._running]
        # Idle workers look for late chunks more often than anything need happen.
        timeout = IDLE_S if self._dispatcher.idle else LOOK_S
        ready: list[Any] = []
        if waiting:
            ready, _ = ray.wait(waiting, num_returns=1, timeout=timeout)
        else:
            time.sleep(IDLE_S)
        if ready:
            ready, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0)
        failed: list[tuple[Any, RayError]] = []
        for reference in ready:
            try:
                value = ray.get(reference)
            except RayError as error:
                # Answers first: what a lost worker still answered need not run again.
                failed.append((reference, error))
            else:
                self._take_answer(reference, value)
        for reference, raised in failed:
            self._take_error(reference, raised)
        now = time.monotonic()
        with self._close_at_fault():
            for handle in self._workers.follow(now):
                self._retire(handle)
        self._end_overtime(now)
        self._report_losses()
        self._hand_out()

    def _report_losses(self) -> None:
        if not self._losses:
            return
        reasons = Counter(loss.value for loss, _ in self._losses)
        lost, episodes = len(self._losses), sum(count for _, count in self._losses)
        self._losses.clear()
        _notify(
            f"lost {lost} worker{'s' * (lost != 1)} ({', '.join(reasons)}); {episodes} "
            f"episode{'s' * (episodes != 1)} to run again, with the same seeds"
        )

    def _take_answer(self, reference: Any, value: Ready | WireTuple) -> None:
        if isinstance(value, Ready):
            with self._close_at_fault():
                handle = self._workers.join(reference, value)
            self._dispatcher.join(handle.number)
            return
        seconds, chunk = value[0], Chunk.from_wire(value[1:])
        handle, piece = self._running.pop(reference)
        del self._references[handle.number, piece]
        first = self._dispatcher.finish(handle.number, piece, seconds, time.monotonic())
        evaluation = self._evaluations.get(piece.evaluation)
        if first and evaluation is not None:
            evaluation.busy_s += seconds
            self._place(evaluation, PlacedChunk(chunk, piece.attempt, handle.number, handle.node))
        if handle.number in self._retiring and self._dispatcher.is_resting(handle.number):
            self._leave(handle)

    def _place(self, evaluation: RayPending, placed: PlacedChunk) -> None:
        evaluation.placed.append(placed)
        evaluation.missing -= placed.chunk.stop - placed.chunk.start
        if not evaluation.missing:
            self._complete(evaluation)

    def _complete(self, evaluation: RayPending) -> None:
        now = time.monotonic()
        worker_s = self._workers.worker_seconds() - evaluation.worker_s
        events = [*self._workers.events, *evaluation.events]
        self._workers.events.clear()
        self._drop(evaluation)
        try:
            evaluation.answer = assemble_evaluated(
                evaluation.population,
                evaluation.key,
                self._task,
                evaluation.placed,
                self._workers.nodes,
                summary={
                    "workers": len(self._workers.handles),
                    "chunks": len(evaluation.placed),
                    "retries": evaluation.retries,
                    "duplicates": evaluation.duplicates,
                    "utilisation": min(1.0, evaluation.busy_s / worker_s) if worker_s else 1.0,
                    "tail_wait_s": now - evaluation.handed_out_at,
                },
                events=events,
            )
            self._unread[evaluation.number] = [dict(each) for each in evaluation.answer.events]
        except Exception as error:  # noqa: BLE001 - a user's fitness rule may raise anything
            evaluation.error = error

    def _drop(self, evaluation: RayPending) -> None:
        self._dispatcher.forget(evaluation.number)
        del self._evaluations[evaluation.number]
        evaluation.packed = None

    def _take_error(self, reference: Any, raised: RayError) -> None:
        """Deal with an error that came in place of an answer."""
        lost = find_lost_error(raised)
        if reference in self._workers.starting:
            with self._close_at_fault():
                if lost is None:
                    raise _unwrap_error(raised)
                self._workers.note_failed_start(reference, lost)
        elif reference in self._running:
            handle, piece = self._running[reference]
            if lost is not None:
                self._lose(handle, lost)
                return
            del self._running[reference], self._references[handle.number, piece]
            evaluation = self._evaluations.get(piece.evaluation)
            if evaluation is not None:
                evaluation.error = _unwrap_error(raised)
                self._drop(evaluation)
            self._dispatcher.finish(handle.number, piece, 0.0, time.monotonic())

    def _lose(self, handle: WorkerHandle, error: RayError | None) -> None:
        """Run a lost worker's episodes again, and replace it."""
        for key in [key for key in self._references if key[0] == handle.number]:
            del self._running[self._references.pop(key)]
        self._retiring.pop(handle.number, None)
        now = time.monotonic()
        held = self._dispatcher.running_for(handle.number, now)
        seconds = held[1] if held is not None else 0.0
        loss = self._workers.strike_off(
            handle,
            error,
            sent_at=time.time() - (now - held[0].sent_at) if held is not None else math.inf,
            timed_out=self._timeout_s is not None and seconds >= self._timeout_s,
        )
        status = Status.TIMEOUT if loss is Loss.TIMEOUT else Status.CRASHED
        departure = self._dispatcher.leave(
            handle.number, deaths_allowed=DEATHS_ALLOWED[status] if loss.by_episode else None
        )
        self._workers.note(
            "worker_lost",
            handle,
            reason=loss.value,
            error="" if error is None else type(error).__name__,
            retried=sorted([piece.start, piece.stop] for piece in departure.again),
            lost_s=round(seconds, 3),
        )
        self._losses.append((loss, sum(piece.size for piece in departure.again)))
        first = departure.running
        parts = 0  # of what it ran: together one chunk
        for piece in departure.again:
            evaluation = self._evaluations[piece.evaluation]
            inside = first is not None and first.start <= piece.start < first.stop
            parts += inside
            evaluation.retries += not (inside and parts > 1)
            evaluation.handed_out_at = math.inf
        if departure.given_up is not None:
            self._give_up(departure.given_up, handle, status, error)

    def _give_up(
        self, piece: EpisodeRange, handle: WorkerHandle, status: Status, error: RayError | None
    ) -> None:
        """Mark an episode that killed one worker after the other, and go on without it."""
        evaluation = self._evaluations[piece.evaluation]
        located = evaluation.population.locate(piece.start, piece.stop)
        candidate, episode = (int(each[0]) for each in located)
        evaluation.events.append(
            make_event(
                f"episode_{status.name.lower()}",
                candidate=candidate,
                episode=episode,
                workers_lost=piece.deaths,
                worker=handle.number,
                node=self._workers.nodes[handle.node],
                error="" if error is None else str(error).strip().partition("\n")[0],
            )
        )
        _notify(
            f"candidate {candidate}, episode {episode} of generation "
            f"{evaluation.key.generation} is given up ({status.name.lower()}): "
            f"{piece.deaths} workers were lost to it"
        )
        chunk = make_lost_chunk(
            evaluation.population, self._policy, self._task, piece.start, status
        )
        self._place(evaluation, PlacedChunk(chunk, piece.attempt - 1, handle.number, handle.node))

    def _retire(self, handle: WorkerHandle) -> None:
        """Give a worker nothing more; what it runs may end."""
        self._retiring[handle.number] = handle
        for piece in self._dispatcher.retire(handle.number):
            # Its worker may still run it: Ray's cancellation would not prevent that.
            del self._running[self._references.pop((handle.number, piece))]
        if self._dispatcher.is_resting(handle.number):
            self._leave(handle)

    def _leave(self, handle: WorkerHandle) -> None:
        del self._retiring[handle.number]
        self._dispatcher.leave(handle.number, deaths_allowed=None)
        self._workers.dismiss(handle)

    def _end_overtime(self, now: float) -> None:
        """End workers whose own clock should have ended them."""
        if self._timeout_s is None or now - self._overtime_at < LOOK_S:
            return
        self._overtime_at = now
        for handle in [*self._workers.handles.values(), *self._retiring.values()]:
            held = self._dispatcher.running_for(handle.number, now)
            if held is not None and held[1] > 2 * held[0].size * self._timeout_s + OVERTIME_S:
                self._lose(handle, None)

    def _hand_out(self) -> None:
        if not self._workers.enough:
            return
        oldest = min(self._evaluations, default=0)
        now = time.monotonic()
        for assignment in self._dispatcher.assign(now):
            if assignment.taken_from is not None:
                # Its first worker may still run it: Ray's cancellation would not prevent that,
                # only lose the answer.
                del self._running[self._references.pop((assignment.taken_from, assignment.piece))]
            piece, handle = assignment.piece, self._workers.handles[assignment.worker]
            evaluation = self._evaluations[piece.evaluation]
            evaluation.duplicates += assignment.duplicate
            new = assignment.taken_from is None and not assignment.duplicate
            if new and self._dispatcher.is_exhausted(piece.evaluation):
                evaluation.handed_out_at = now
            sent = None
            if piece.evaluation not in handle.knows:
                sent = evaluation.packed
                known = {number for number in handle.knows if number >= oldest}
                handle.knows = known | {piece.evaluation}
            reference = handle.actor.run.remote(
                piece.evaluation, piece.start, piece.stop, oldest, sent
            )
            self._running[reference] = handle, piece
            self._references[handle.number, piece] = reference


def _count_local_cpus(workers: int | Literal["auto"], cpus_per_worker: float) -> int | None:
    """CPUs of a private Ray: room for all workers, on however small a machine."""
    if workers == "auto":
        return None
    return max(os.cpu_count() or 1, math.ceil(workers * cpus_per_worker))


def _notify(sentence: str) -> None:
    warnings.warn(sentence, Notice, stacklevel=2)


def _unwrap_error(error: RayError) -> Exception:
    """Unwrap what code raised in a worker, keeping its traceback in the message."""
    if isinstance(error, RayTaskError):
        if isinstance(error.cause, UsageError):
            return error.cause
        if isinstance(error.cause, RaySystemError):
            return RunFailed(f"a worker cannot load what it was sent: {error.cause}")
        unwrapped: Exception = error.as_instanceof_cause()
        return unwrapped
    return RunFailed(f"a worker failed: {error}")
