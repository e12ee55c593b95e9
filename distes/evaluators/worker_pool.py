"""The driver's side of Ray workers: started, counted, replaced, taken leave of.

Ray's restarts and retries are off. A worker that is lost is replaced; one that dies while
it starts is tried again after a pause, each pause twice the last. How many there should be
is the `Headcount`'s affair; what runs inside a worker is in `distes.evaluators.worker`.
"""

from __future__ import annotations

import math
import re
import secrets
import sys
import time
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import ray
from ray import exceptions
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeLabelSchedulingStrategy, NotIn

from distes.errors import RunFailed, UsageError
from distes.evaluators import cluster
from distes.evaluators.base import Event, make_event
from distes.evaluators.fingerprint import find_differences, take_fingerprint
from distes.evaluators.headcount import Headcount
from distes.evaluators.worker import DistesWorker, Ready, Setup

GONE = (exceptions.NodeDiedError, exceptions.LocalRayletDiedError)  # with its node
# Errors that mean a worker is gone; anything else is an error of the code it ran.
LOST = (
    *(exceptions.RayActorError, exceptions.OutOfMemoryError, exceptions.WorkerCrashedError),
    *(exceptions.ObjectLostError, *GONE),
)
# Seconds for which no worker is started on a lost node: Ray counts on one whose raylet was
# killed for about 14 s.
AVOIDED_S = 30.0
PAUSE_S = 0.5
MAX_PAUSE_S = 30.0  # seconds before the next try, after a worker died while it started
MAX_FAILED_STARTS = 5  # waves of workers that died while they started; then the run stops
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")

_NOT_CREATED = "creation task"  # in Ray's words for a worker whose code could not be loaded


class Loss(Enum):
    """Why a worker is gone."""

    DIED = "process died"
    MEMORY = "out of memory"
    TIMEOUT = "episode timeout"
    NODE = "node lost"
    PREEMPTED = "node preempted"
    IDLE = "died while idle"

    @property
    def by_episode(self) -> bool:
        """Whether what it ran may be the cause."""
        return self in (Loss.DIED, Loss.MEMORY, Loss.TIMEOUT)


@dataclass(eq=False)
class WorkerHandle:
    """A worker as the driver sees it."""

    number: int  # for people
    actor: Any  # Ray's handle
    asked_at: float  # when it was asked for
    node: int = -1  # index into the pool's node names
    node_id: str = ""  # Ray's
    knows: set[int] = field(default_factory=set)  # evaluations whose population it was sent


class WorkerPool:
    """The workers of one evaluator.

    Args:
        setup: what all workers are made from.
        headcount: how many there should be, and of which size.
        strict: refuse workers whose libraries or processor differ from the driver's.

    Attributes:
        handles: workers that are ready, by number.
        starting: those that are not, by the reference that tells.
        nodes: names of the machines so far.
        events: for the log; whoever logs them empties the list.
    """

    def __init__(self, setup: Setup, headcount: Headcount, *, strict: bool) -> None:
        self.handles: dict[int, WorkerHandle] = {}
        self.starting: dict[Any, WorkerHandle] = {}
        self.nodes: list[str] = []
        self.events: list[Event] = []
        self._name = secrets.token_hex(3)
        self._strict = strict
        self._own_fingerprint = take_fingerprint()
        self._leaving: dict[int, WorkerHandle] = {}
        self._avoided: dict[str, float] = {}  # nodes, and until when
        self._count = 0
        self._failed_starts, self._failed_at, self._resume_at = 0, -math.inf, -math.inf
        self._worker_s, self._counted_at = 0.0, time.monotonic()
        self._headcount = headcount
        self._setup = ray.put(setup)
        self._make = ray.remote(
            num_cpus=headcount.cpus_per_worker,
            max_restarts=0,
            max_task_retries=0,
            scheduling_strategy="SPREAD",
        )(DistesWorker)
        for _ in range(headcount.wanted):
            self._start()

    @property
    def enough(self) -> bool:
        """Whether as many workers are ready as were to be waited for; once true, it stays."""
        return self._headcount.is_reached(len(self.handles))

    def worker_seconds(self) -> float:
        """Sum over the ready workers of the seconds that each has been ready for."""
        now = time.monotonic()
        self._worker_s += len(self.handles) * (now - self._counted_at)
        self._counted_at = now
        return self._worker_s

    def join(self, reference: Any, ready: Ready) -> WorkerHandle:
        """Count a worker that says it is ready.

        Raises:
            UsageError: it differs from the driver, and strict was asked for.
            RunFailed: the same, where other nodes have worked already.
        """
        handle = self.starting.pop(reference)
        self._failed_starts = 0
        differing = find_differences(self._own_fingerprint, ready.fingerprint)
        if ready.node not in self.nodes:
            self.nodes.append(ready.node)
            if differing:
                self.events.append(
                    make_event("fingerprint", node=ready.node, driver_and_worker=differing)
                )
        if differing and self._strict:
            said = "; ".join(f"{name} {b!r} where {a!r}" for name, (a, b) in differing.items())
            sentence = (
                f"worker {handle.number} on {ready.node} differs from the driver, and strict was "
                f"asked for: {said}"
            )
            if len(self.nodes) > 1:  # it came later: the run is under way
                raise RunFailed(f"{sentence} (the run can be resumed)")
            raise UsageError(sentence)
        handle.node = self.nodes.index(ready.node)
        handle.node_id = ready.node_id
        self.worker_seconds()
        self.handles[handle.number] = handle
        waited_s = round(time.monotonic() - handle.asked_at, 3)
        self.note("worker_joined", handle, pid=ready.pid, waited_s=waited_s)
        return handle

    def note(self, kind: str, handle: WorkerHandle, **fields: object) -> None:
        """Note for the log what happened just now to a worker that was ready."""
        where = {"node": self.nodes[handle.node], "node_id": handle.node_id}
        self.events.append(make_event(kind, worker=handle.number, **where, **fields))

    def note_failed_start(self, reference: Any, error: RayError) -> None:
        """Take note that a worker died while it started; `follow` tries again later.

        Raises:
            RunFailed: there is no other worker, and this went on for too long.
        """
        handle, cause, now = self.starting.pop(reference), _cause_line(error), time.monotonic()
        self.events.append(make_event("worker_start_failed", worker=handle.number, error=cause))
        ray.kill(handle.actor)
        if handle.asked_at > self._failed_at:  # not of a wave that was counted already
            self._failed_starts += 1
            self._failed_at = now
        if _NOT_CREATED in str(error) and not self.handles:
            raise RunFailed(
                f"workers cannot be made on the cluster's nodes: {cause} (is distes "
                "installed there, as here? the run can be resumed)"
            ) from error
        if self._failed_starts >= MAX_FAILED_STARTS and not self.handles:
            raise RunFailed(
                f"workers died while they started, {self._failed_starts} times in a row; the "
                f"last error was: {cause} (the run can be resumed)"
            ) from error
        pause = min(PAUSE_S * 2 ** min(self._failed_starts - 1, 10), MAX_PAUSE_S)
        self._resume_at = now + pause

    def strike_off(
        self,
        handle: WorkerHandle,
        error: RayError | None,
        *,
        sent_at: float,
        timed_out: bool = False,
    ) -> Loss:
        """Strike off a worker that is gone, and ask for another in its place.

        Args:
            handle: of the worker.
            error: Ray's; None where it is ended from here.
            sent_at: when it was sent what it runs, in seconds since the epoch.
            timed_out: whether what it runs takes longer than one episode may.
        """
        died_at = cluster.find_death_time(handle.actor._actor_id.hex())
        idle = died_at is not None and died_at < sent_at
        loss = _find_loss(handle, error, idle=idle, timed_out=timed_out)
        self.worker_seconds()
        counted = self.handles.pop(handle.number, None) is not None
        self._leaving.pop(handle.number, None)
        ray.kill(handle.actor)  # where it is unreachable rather than dead
        on_node = loss in (Loss.NODE, Loss.PREEMPTED)
        if on_node:
            self._avoided[handle.node_id] = time.monotonic() + AVOIDED_S
        if counted and on_node:
            self._headcount.give_up_place()
        short = len(self.handles) + len(self.starting) < self._headcount.wanted
        if short and time.monotonic() >= self._resume_at:
            self._start()
        return loss

    def follow(self, now: float) -> list[WorkerHandle]:
        """Look at the cluster, now and then: start, withdraw and retire workers.

        Returns:
            Workers that should get nothing more, because their nodes are about to go; end
            each by `dismiss` when it rests.

        Raises:
            RunFailed: all nodes have been gone for too long.
        """
        state = self._headcount.look(now)
        if state is None:
            return []
        retiring = [handle for handle in self.handles.values() if handle.node_id in state.draining]
        if retiring:
            self.worker_seconds()
        self._avoided = {node: until for node, until in self._avoided.items() if now < until}
        for handle in retiring:
            del self.handles[handle.number]
            self._leaving[handle.number] = handle
        asked_at = {reference: handle.asked_at for reference, handle in self.starting.items()}
        for reference in self._headcount.fit_in(state, len(self.handles), asked_at, now):
            ray.kill(self.starting.pop(reference).actor)
        if now >= self._resume_at:
            for _ in range(self._headcount.wanted - len(self.handles) - len(self.starting)):
                self._start()
        shortage = self._headcount.report_shortage(state, len(self.handles), now)
        if shortage is not None:
            self.events.append(shortage)
        return retiring

    def dismiss(self, handle: WorkerHandle) -> None:
        """End a worker that rests on a node about to go."""
        self._leaving.pop(handle.number)
        ray.kill(handle.actor)
        self.note("worker_left", handle, reason="node is draining")

    def close(self) -> None:
        """End all workers."""
        # Not where somebody has shut Ray down already: asking it would start another.
        if ray.is_initialized():
            for workers in (self.handles, self._leaving, self.starting):
                for handle in workers.values():
                    ray.kill(handle.actor)
        for workers in (self.handles, self._leaving, self.starting):
            workers.clear()

    def _start(self) -> None:
        number = self._count
        self._count += 1
        options: dict[str, Any] = {"name": f"distes-{self._name}-worker-{number}"}
        if self._avoided:
            options["scheduling_strategy"] = NodeLabelSchedulingStrategy(
                hard={"ray.io/node-id": NotIn(*self._avoided)}
            )
        actor = self._make.options(**options).remote(number, [each for each in sys.path if each])
        reference = actor.start.remote([self._setup])
        self.starting[reference] = WorkerHandle(number, actor, time.monotonic())


def find_lost_error(raised: RayError) -> RayError | None:
    """Give the error that says a worker is gone; None where its code raised one."""
    inner = getattr(raised, "cause", None)
    error: RayError = inner if isinstance(inner, LOST) else raised
    return error if isinstance(error, LOST) else None


def _find_loss(
    handle: WorkerHandle, error: RayError | None, *, idle: bool, timed_out: bool
) -> Loss:
    if error is None:
        return Loss.TIMEOUT
    if isinstance(error, exceptions.OutOfMemoryError) and not idle:
        return Loss.MEMORY
    if getattr(error, "preempted", False):
        return Loss.PREEMPTED
    gone = isinstance(error, (exceptions.ActorUnavailableError, *GONE))
    if gone or not cluster.is_node_alive(handle.node_id):
        return Loss.NODE
    if idle:
        return Loss.IDLE
    return Loss.TIMEOUT if timed_out else Loss.DIED


def _cause_line(error: BaseException) -> str:
    """Give the line of Ray's account that says most, without colours."""
    lines = [line.strip() for line in _COLOUR.sub("", str(error)).strip().splitlines()]
    return lines[-1 if _NOT_CREATED in lines[0] else 0] if lines else type(error).__name__
