"""How many workers a run wants: what was asked for, or what the cluster has room for.

Workers that wait for room are a demand that an autoscaler sees, and that ends with this
process.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from typing import Any, Literal

from distes.errors import Notice, RunFailed, UsageError
from distes.evaluators import cluster
from distes.evaluators.base import Event, make_event

PLACED_WITHIN_S = 8.0  # seconds after which what cannot be placed is spoken of, or refused
DESERTED_S = 600.0  # for so long a run that had workers waits for nodes, with no autoscaler
LOOK_S = 1.0  # seconds between two looks at the cluster, at least
LOOK_SHARE = 20  # times the seconds that a look takes, at least


class Headcount:
    """Decides how many workers there should be, as nodes come and go.

    Args:
        workers: how many; ``auto`` follows the cluster.
        min_workers: how many to wait for at the beginning.
        cpus_per_worker: may be a fraction.
        private: whether Ray was started for this run alone, whose room stays as it is.

    Raises:
        UsageError: the cluster has no room for a worker, and nothing that makes room.
    """

    def __init__(
        self,
        workers: int | Literal["auto"],
        *,
        min_workers: int,
        cpus_per_worker: float,
        private: bool,
    ) -> None:
        self.cpus_per_worker = cpus_per_worker
        self._private = private
        self._follows = workers == "auto" and not private
        self._looked_at = self._deserted_since = now = time.monotonic()
        self._short_since: float | None = now
        self._told, self._look_s = False, LOOK_S
        state = self._await_room()
        found = state.vacant(cpus_per_worker) if self._follows else state.room(cpus_per_worker)
        # On a cluster in use, one worker at least waits for its turn.
        least = 1 if private else min_workers
        self.wanted = max(found, least) if workers == "auto" else workers  # as things stand now
        self._least = min(min_workers, self.wanted)

    def _await_room(self) -> cluster.ClusterState:
        """Look until there is room for a worker, or something that makes room."""
        until = time.monotonic() + PLACED_WITHIN_S
        while True:
            state = cluster.read_state()
            if state.room(self.cpus_per_worker) or cluster.can_grow():
                return state
            if time.monotonic() > until:
                raise UsageError(
                    f"there is no room for a worker of {self.cpus_per_worker:g} CPUs: "
                    f"{self._describe_room(state)}"
                )
            time.sleep(0.25)

    def is_reached(self, ready: int) -> bool:
        """Whether as many workers are ready as were to be waited for; once true, it stays."""
        if ready >= self._least:
            self._least = 0
        return not self._least

    def look(self, now: float) -> cluster.ClusterState | None:
        """Look at the cluster, now and then; None when it is too early for it."""
        if now - self._looked_at < self._look_s:
            return None
        state = cluster.read_state()
        took = time.monotonic() - now
        self._looked_at, self._look_s = now, max(LOOK_S, LOOK_SHARE * took)
        return state

    def give_up_place(self) -> None:
        """Want one less for a node that is gone, where nodes decide and none may come."""
        if self._follows and not cluster.can_grow():
            self.wanted = max(self.wanted - 1, 1)

    def fit_in(
        self, state: cluster.ClusterState, ready: int, starting: Mapping[Any, float], now: float
    ) -> list[Any]:
        """Want as many workers as fit: more where nodes came, fewer where nodes went.

        Besides those that are ``ready``, some are ``starting``: when each was asked for, by its
        reference. Returns the references of those that wait in vain, to be withdrawn.
        """
        if not self._follows:
            return []
        least = max(self._least, 1)
        room = max(state.room(self.cpus_per_worker), least)
        late = [each for each, asked_at in starting.items() if now - asked_at > PLACED_WITHIN_S]
        if len(late) == len(starting):  # the others may take what seems vacant
            vacant = state.vacant(self.cpus_per_worker)
            self.wanted = max(min(ready + len(late) + vacant, room), least)
        # Those that only take their time to start have their place; more than the cluster
        # has room for wait in vain.
        excess = ready + len(starting) - room
        if excess <= 0 or not late or cluster.can_grow():
            return []
        withdrawn = late[-excess:]
        self.wanted = max(ready + len(starting) - len(withdrawn), least)
        return withdrawn

    def report_shortage(self, state: cluster.ClusterState, ready: int, now: float) -> Event | None:
        """Say once what was asked for and is not there, in numbers; returns it for the log.

        Raises:
            RunFailed: all nodes have been gone for too long.
        """
        asked = max(self.wanted, self._least)
        if ready >= asked:
            self._short_since, self._told, self._deserted_since = None, False, now
            return None
        if self._short_since is None:
            self._short_since = now
        if now - self._short_since <= PLACED_WITHIN_S or self._private:
            return None  # a private Ray has room for all: they are only slow to start
        cpus, free_cpus = sum(state.cpus.values()), sum(state.free.values())
        message = (
            f"{ready} of {asked} workers of {self.cpus_per_worker:g} CPUs are ready: "
            f"{self._describe_room(state)}, and {free_cpus:g} CPUs free"
        )
        if ready or state.room(self.cpus_per_worker) or cluster.can_grow():
            self._deserted_since = now
        elif now - self._deserted_since > DESERTED_S:
            raise RunFailed(
                f"all nodes are gone, and for {DESERTED_S / 60:g} minutes none has come: "
                f"{message} (the run can be resumed)"
            )
        if self._told:
            return None
        self._told = True
        if self._least:
            message += (
                f"; the run begins with {self._least} (min_workers), as soon as nodes come: "
                "add some, or stop it and ask for fewer"
            )
        warnings.warn(message, Notice, stacklevel=2)
        return make_event(
            "workers_missing", asked=asked, ready=ready, cpus=cpus, free_cpus=free_cpus
        )

    def _describe_room(self, state: cluster.ClusterState) -> str:
        room = state.room(self.cpus_per_worker)
        return f"the cluster has {sum(state.cpus.values()):g} CPUs, room for {room} such workers"
