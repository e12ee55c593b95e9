"""Ray workers, wherever the cluster has room: started, counted, replaced, taken leave of.

Ray's restarts and retries are off. A worker that is lost is replaced; one that dies while
it starts is tried again after a pause, each pause twice the last. The number of workers
follows the cluster, or stays at what was asked for: workers that wait for room are a
demand that an autoscaler sees, and that ends with this process.
"""

from __future__ import annotations

import math
import re
import secrets
import sys
import time
import warnings
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal

import ray
from ray.exceptions import (
    ActorUnavailableError,
    LocalRayletDiedError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    WorkerCrashedError,
)
from ray.util.scheduling_strategies import NodeLabelSchedulingStrategy, NotIn

from distes.errors import Notice, RunFailed, UsageError
from distes.evaluators import cluster
from distes.evaluators.base import Event, event
from distes.evaluators.connection import Connection
from distes.evaluators.fingerprint import differences, fingerprint
from distes.evaluators.worker import DistesWorker, Ready, Setup

LOST = (
    RayActorError,
    OutOfMemoryError,
    NodeDiedError,
    WorkerCrashedError,
    LocalRayletDiedError,
    ObjectLostError,
)
"""Errors that mean a worker is gone; anything else is an error of the code it ran."""

PLACED_WITHIN_S = 8.0
"""Seconds after which what cannot be placed is spoken of, or refused."""

DESERTED_S = 600.0
"""Seconds for which a run that had workers waits where no node is left, and no autoscaler."""

AVOIDED_S = 30.0
"""Seconds for which no worker is started on a node that was lost: Ray goes on counting on
a node whose raylet was killed for about 14 s."""

LOOK_S = 1.0
"""Seconds between two looks at the cluster, and at least `LOOK_SHARE` times what one takes."""

LOOK_SHARE = 20

PAUSE_S = 0.5
MAX_PAUSE_S = 30.0
"""Seconds before the next try, after a worker died while it started."""

MAX_FAILED_STARTS = 5
"""Waves of workers that may die while they start before a run without any worker stops."""


_COLOUR = re.compile(r"\x1b\[[0-9;]*m")

_MADE_BADLY = "creation task"
"""In Ray's words for a worker whose own code could not even be loaded."""


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
    """A worker as the driver sees it.

    Attributes:
        number: for people.
        actor: Ray's handle.
        asked_at: when it was asked for.
        node: index into the pool's node names.
        node_id: Ray's.
        knows: evaluations whose population it was sent.
    """

    number: int
    actor: Any
    asked_at: float
    node: int = -1
    node_id: str = ""
    knows: set[int] = field(default_factory=set)


class Pool:
    """The workers of one evaluator.

    Args:
        setup: what all workers are made from.
        workers: how many; ``auto`` follows the cluster.
        min_workers: how many to wait for at the beginning.
        cpus_per_worker: may be a fraction.
        connection: how this process came to its Ray.
        strict: refuse workers whose libraries or processor differ from the driver's.

    Raises:
        UsageError: the cluster has no room for a worker, and nothing that makes room.

    Attributes:
        hands: workers that are ready, by number.
        starting: those that are not, by the reference that tells.
        nodes: names of the machines so far.
        events: for the log; whoever logs them empties the list.
    """

    def __init__(
        self,
        setup: Setup,
        *,
        workers: int | Literal["auto"],
        min_workers: int,
        cpus_per_worker: float,
        connection: Connection,
        strict: bool,
    ) -> None:
        self.hands: dict[int, WorkerHandle] = {}
        self.starting: dict[Any, WorkerHandle] = {}
        self.nodes: list[str] = []
        self.events: list[Event] = []
        self._name = secrets.token_hex(3)
        self._cpus = cpus_per_worker
        self._private = connection is Connection.STARTED
        self._strict = strict
        self._own_fingerprint = fingerprint()
        self._leaving: dict[int, WorkerHandle] = {}
        self._avoided: dict[str, float] = {}  # nodes, and until when
        self._count = 0
        self._failed_starts = 0
        self._failed_at = -math.inf
        self._resume_at = -math.inf
        self._short_since: float | None = time.monotonic()
        self._deserted_since = time.monotonic()
        self._told = False
        self._looked_at = time.monotonic()
        self._look_s = LOOK_S
        self._worker_s = 0.0
        self._counted_at = time.monotonic()
        self._follows = workers == "auto" and not self._private
        view = self._first_view()
        found = view.vacant(cpus_per_worker) if self._follows else view.room(cpus_per_worker)
        # On a cluster in use, one worker at least waits for its turn.
        self._wanted = (
            max(found, 1 if self._private else min_workers) if workers == "auto" else workers
        )
        self._least = min(min_workers, self._wanted)
        self._setup = ray.put(setup)
        self._make = ray.remote(
            num_cpus=cpus_per_worker,
            max_restarts=0,
            max_task_retries=0,
            scheduling_strategy="SPREAD",
        )(DistesWorker)
        for _ in range(self._wanted):
            self._start()

    def _first_view(self) -> cluster.View:
        """Look until there is room for a worker, or something that makes room.

        Raises:
            UsageError: there is neither, for `PLACED_WITHIN_S`.
        """
        until = time.monotonic() + PLACED_WITHIN_S
        while True:
            view = cluster.view()
            if view.room(self._cpus) or cluster.grows():
                return view
            if time.monotonic() > until:
                raise UsageError(
                    f"there is no room for a worker of {self._cpus:g} CPUs: {_inventory(view)}, "
                    f"room for 0 such workers"
                )
            time.sleep(0.25)

    @property
    def enough(self) -> bool:
        """Whether as many workers are ready as were to be waited for; once true, it stays."""
        if len(self.hands) >= self._least:
            self._least = 0
        return not self._least

    def worker_seconds(self) -> float:
        """Sum over the ready workers of the seconds that each has been ready for."""
        now = time.monotonic()
        self._worker_s += len(self.hands) * (now - self._counted_at)
        self._counted_at = now
        return self._worker_s

    def joined(self, reference: Any, ready: Ready) -> WorkerHandle:
        """Count a worker that says it is ready.

        Raises:
            UsageError: it differs from the driver, and strict was asked for.
            RunFailed: the same, where other nodes have worked already.
        """
        hand = self.starting.pop(reference)
        self._failed_starts = 0
        differing = differences(self._own_fingerprint, ready.fingerprint)
        if ready.node not in self.nodes:
            self.nodes.append(ready.node)
            if differing:
                self.events.append(
                    event("fingerprint", node=ready.node, driver_and_worker=differing)
                )
        if differing and self._strict:
            said = "; ".join(f"{name} {b!r} where {a!r}" for name, (a, b) in differing.items())
            sentence = (
                f"worker {hand.number} on {ready.node} differs from the driver, and strict was "
                f"asked for: {said}"
            )
            if len(self.nodes) > 1:  # it came later: the run is under way
                raise RunFailed(f"{sentence} (the run can be resumed)")
            raise UsageError(sentence)
        hand.node = self.nodes.index(ready.node)
        hand.node_id = ready.node_id
        self.worker_seconds()
        self.hands[hand.number] = hand
        self.events.append(
            event(
                "worker_joined",
                worker=hand.number,
                node=ready.node,
                node_id=ready.node_id,
                pid=ready.pid,
                waited_s=round(time.monotonic() - hand.asked_at, 3),
            )
        )
        return hand

    def failed_to_start(self, reference: Any, error: RayError) -> None:
        """Take note that a worker died while it started; `follow` tries again later.

        Raises:
            RunFailed: there is no other worker, and this went on for too long.
        """
        hand = self.starting.pop(reference)
        now = time.monotonic()
        self.events.append(event("worker_start_failed", worker=hand.number, error=_cause(error)))
        self._kill(hand)
        if hand.asked_at > self._failed_at:  # not of a wave that was counted already
            self._failed_starts += 1
            self._failed_at = now
        if _MADE_BADLY in str(error) and not self.hands:
            raise RunFailed(
                f"workers cannot be made on the cluster's nodes: {_cause(error)} (is distes "
                "installed there, as here? the run can be resumed)"
            ) from error
        if self._failed_starts >= MAX_FAILED_STARTS and not self.hands:
            raise RunFailed(
                f"workers died while they started, {self._failed_starts} times in a row; the "
                f"last error was: {_cause(error)} (the run can be resumed)"
            ) from error
        pause = min(PAUSE_S * 2 ** min(self._failed_starts - 1, 10), MAX_PAUSE_S)
        self._resume_at = now + pause

    def lost(
        self, hand: WorkerHandle, error: RayError | None, *, sent_at: float, timed_out: bool = False
    ) -> Loss:
        """Strike off a worker that is gone, and ask for another in its place.

        Args:
            hand: which.
            error: Ray's; None where it is ended from here.
            sent_at: when it was sent what it runs, in seconds since the epoch.
            timed_out: whether what it runs takes longer than one episode may.
        """
        died_at = cluster.died_at(hand.actor._actor_id.hex())
        idle = died_at is not None and died_at < sent_at
        loss = _why(hand, error, idle=idle, timed_out=timed_out)
        self.worker_seconds()
        counted = self.hands.pop(hand.number, None) is not None
        self._leaving.pop(hand.number, None)
        self._kill(hand)  # where it is unreachable rather than dead
        # A place on a node that is gone is given up where the number follows the cluster,
        # unless the cluster may grow again.
        on_node = loss in (Loss.NODE, Loss.PREEMPTED)
        if on_node:
            self._avoided[hand.node_id] = time.monotonic() + AVOIDED_S
        if counted and on_node and self._follows and not cluster.grows():
            self._wanted = max(self._wanted - 1, 1)
        short = len(self.hands) + len(self.starting) < self._wanted
        if short and time.monotonic() >= self._resume_at:
            self._start()
        return loss

    def follow(self, now: float) -> list[WorkerHandle]:
        """Look at the cluster, now and then: start, withdraw and retire workers.

        Args:
            now: time.monotonic().

        Returns:
            Workers that should get nothing more, because their nodes are about to go; end
            each by `left` when it rests.

        Raises:
            RunFailed: all nodes have been gone for too long.
        """
        if now - self._looked_at < self._look_s:
            return []
        view = cluster.view()
        took = time.monotonic() - now
        self._looked_at, self._look_s = now, max(LOOK_S, LOOK_SHARE * took)
        retiring = [hand for hand in self.hands.values() if hand.node_id in view.draining]
        if retiring:
            self.worker_seconds()
        self._avoided = {node: until for node, until in self._avoided.items() if now < until}
        for hand in retiring:
            del self.hands[hand.number]
            self._leaving[hand.number] = hand
        if self._follows:
            self._fit_in(view, now)
        if now >= self._resume_at:
            for _ in range(self._wanted - len(self.hands) - len(self.starting)):
                self._start()
        self._speak(view, now)
        return retiring

    def left(self, hand: WorkerHandle) -> None:
        """End a worker that rests on a node about to go."""
        self._leaving.pop(hand.number)
        self._kill(hand)
        self.events.append(
            event(
                "worker_left",
                worker=hand.number,
                node=self.nodes[hand.node],
                node_id=hand.node_id,
                reason="node is draining",
            )
        )

    def close(self) -> None:
        """End all workers."""
        # Not where somebody has shut Ray down already: asking it would start another.
        if ray.is_initialized():
            for hand in [*self.hands.values(), *self._leaving.values(), *self.starting.values()]:
                self._kill(hand)
        self.hands.clear()
        self._leaving.clear()
        self.starting.clear()

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

    def _fit_in(self, view: cluster.View, now: float) -> None:
        """Want as many workers as fit: more where nodes came, fewer where nodes went."""
        least = max(self._least, 1)
        room = max(view.room(self._cpus), least)
        late = [
            reference
            for reference, hand in self.starting.items()
            if now - hand.asked_at > PLACED_WITHIN_S
        ]
        if len(late) == len(self.starting):  # the others may take what seems vacant
            vacant = view.vacant(self._cpus)
            self._wanted = max(min(len(self.hands) + len(late) + vacant, room), least)
        # Those that only take their time to start have their place; more than the cluster
        # has room for wait in vain.
        excess = len(self.hands) + len(self.starting) - room
        if excess > 0 and late and not cluster.grows():
            for reference in late[-excess:]:
                self._kill(self.starting.pop(reference))
            self._wanted = max(len(self.hands) + len(self.starting), least)

    def _speak(self, view: cluster.View, now: float) -> None:
        """Say once what was asked for and is not there, in numbers."""
        if len(self.hands) >= max(self._wanted, self._least):
            self._short_since, self._told = None, False
            self._deserted_since = now
            return
        if self._short_since is None:
            self._short_since = now
        late = now - self._short_since > PLACED_WITHIN_S
        if not late or self._private:
            return  # a private Ray has room for all: they are only slow to start
        message = self._no_room(view)
        if self.hands or view.room(self._cpus) or cluster.grows():
            self._deserted_since = now
        elif now - self._deserted_since > DESERTED_S:
            raise RunFailed(
                f"all nodes are gone, and for {DESERTED_S / 60:g} minutes none has come: "
                f"{message} (the run can be resumed)"
            )
        if self._told:
            return
        self._told = True
        if self._least:
            message += (
                f"; the run begins with {self._least} (min_workers), as soon as nodes come: "
                "add some, or stop it and ask for fewer"
            )
        warnings.warn(message, Notice, stacklevel=2)
        self.events.append(
            event(
                "workers_missing",
                asked=max(self._wanted, self._least),
                ready=len(self.hands),
                cpus=sum(view.cpus.values()),
                free_cpus=sum(view.free.values()),
            )
        )

    def _no_room(self, view: cluster.View) -> str:
        return (
            f"{len(self.hands)} of {max(self._wanted, self._least)} workers of {self._cpus:g} "
            f"CPUs are ready: {_inventory(view)}, room for {view.room(self._cpus)} such workers, "
            f"and {sum(view.free.values()):g} CPUs free"
        )

    def _kill(self, hand: WorkerHandle) -> None:
        ray.kill(hand.actor)


def lost_error(raised: RayError) -> RayError | None:
    """Give the error that says a worker is gone; None where its code raised one."""
    inner = getattr(raised, "cause", None)
    error: RayError = inner if isinstance(inner, LOST) else raised
    return error if isinstance(error, LOST) else None


def _why(hand: WorkerHandle, error: RayError | None, *, idle: bool, timed_out: bool) -> Loss:
    if error is None:
        return Loss.TIMEOUT
    if isinstance(error, OutOfMemoryError) and not idle:
        return Loss.MEMORY
    if getattr(error, "preempted", False):
        return Loss.PREEMPTED
    gone = isinstance(error, ActorUnavailableError | NodeDiedError | LocalRayletDiedError)
    if gone or not cluster.is_alive(hand.node_id):
        return Loss.NODE
    if idle:
        return Loss.IDLE
    return Loss.TIMEOUT if timed_out else Loss.DIED


def _inventory(view: cluster.View) -> str:
    return f"the cluster has {sum(view.cpus.values()):g} CPUs"


def _cause(error: BaseException) -> str:
    """Give the line of Ray's account that says most, without colours."""
    lines = [line.strip() for line in _COLOUR.sub("", str(error)).strip().splitlines()]
    return lines[-1 if _MADE_BADLY in lines[0] else 0] if lines else type(error).__name__
