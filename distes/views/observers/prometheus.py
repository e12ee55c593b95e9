"""Figures of a run for Prometheus, exported by Ray from the driver's process.

Counters count what this session did, work that a resumed run repeats included; gauges say
how the run stands. Ray writes ``ray_`` before each name; docs/monitoring.md says where
the figures appear.
"""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from distes.evaluators.auto import is_ray_connected
from distes.population.statistics import Score
from distes.runs.reader import load
from distes.runs.storage.location import Location
from distes.search.observer import Observer
from distes.search.settings import Settings
from distes.views import scores

if TYPE_CHECKING:
    from ray.util.metrics import Counter, Gauge

EXPORTED_PREFIX = "ray_"
RUN, PHASE = "run", "phase"


COUNTERS = {
    "distes_episodes_total": ("Episodes of the search.", "episodes"),
    "distes_env_steps_total": ("Environment steps of these episodes.", "env_steps"),
    "distes_failed_episodes_total": ("Episodes that did not end well.", "failed"),
    "distes_retries_total": ("Chunks run again because a worker was lost.", "retries"),
    "distes_duplicates_total": (
        "Chunks run a second time so as not to wait for a slow worker.",
        "duplicates",
    ),
    "distes_tail_wait_seconds_total": (
        "Seconds that idle workers waited for a generation's last episodes.",
        "tail_wait_s",
    ),
}
"""Counter -> what it counts, and the column of the generations log that is added up."""

PHASE_SECONDS = "distes_phase_seconds_total"
PHASES = {"ask": "ask_s", "run": "run_s", "tell": "tell_s", "log": "log_s"}
"""Values of the tag ``phase`` of `PHASE_SECONDS`, and their columns."""

GENERATIONS = "distes_generations"
BEST, MEAN, HELDOUT = "distes_best_return", "distes_mean_return", "distes_heldout_return"
WORKERS, UTILISATION = "distes_workers", "distes_utilisation_ratio"

GAUGES = {
    GENERATIONS: "Generations done, all sessions of the run together.",
    BEST: "Greatest return of any search episode so far.",
    MEAN: "Mean return of the last generation's episodes.",
    HELDOUT: "Mean return of the solution on held-out seeds, newest score.",
    WORKERS: "Workers that took part in the last generation.",
    UTILISATION: "Share of the workers' time spent in episodes, last generation.",
}

EXPORTED = frozenset(EXPORTED_PREFIX + name for name in (*COUNTERS, *GAUGES, PHASE_SECONDS))
"""All names, as Prometheus sees them."""


class Metrics(Observer):
    """Exports how a search goes."""

    def __init__(self) -> None:
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._run = ""
        self._owed: dict[tuple[str, str], float] = {}  # what no Ray was there to be told of
        self._levels: dict[str, float] = {}
        self._best = -math.inf
        self._heldout_is_ours = False
        self._fault: Exception | None = None
        self._lock = threading.Lock()

    def started(self, search: Settings, path: Location, resumed_at: int | None) -> None:
        """Name the run, and take up where its log ends."""
        self._run = path.name
        self._set(GENERATIONS, resumed_at or 0)
        if resumed_at:
            # The tables of a long run have thousands of parts: the search does not wait.
            reader = threading.Thread(target=self._take_up, args=(path,), daemon=True)
            reader.name = "distes-metrics"
            reader.start()
        with self._lock:
            self._export()

    def _export(self) -> None:
        """Export what is known as soon as there is a Ray; a small run needs none."""
        if self._counters or not is_ray_connected():
            return
        from ray.util.metrics import Counter, Gauge

        run = {RUN: self._run}
        for name, (meaning, _) in COUNTERS.items():
            counter = Counter(name, meaning, (RUN,))
            self._counters[name] = counter.set_default_tags(run)
            # Ray refuses 0, and an increase is seen only if there was something before it:
            # without this, the first retry of a run would never show.
            counter.inc(sys.float_info.min)
        seconds = Counter(PHASE_SECONDS, "Seconds of the driver in each phase.", (RUN, PHASE))
        self._counters[PHASE_SECONDS] = seconds.set_default_tags(run)
        for name, meaning in GAUGES.items():
            self._gauges[name] = Gauge(name, meaning, (RUN,)).set_default_tags(run)
        for (name, phase), owed in self._owed.items():
            self._count(name, owed, phase)
        for name, value in self._levels.items():
            self._set(name, value)

    def generation(self, row: Mapping[str, Any]) -> None:
        """Add a generation's figures."""
        if self._fault is not None:
            raise self._fault
        with self._lock:
            self._export()
        for name, (_, column) in COUNTERS.items():
            self._count(name, row.get(column, 0))
        for phase, column in PHASES.items():
            self._count(PHASE_SECONDS, row.get(column, 0), phase)
        self._improve(row["episode_return_max"])
        self._set(GENERATIONS, row["generation"] + 1)
        self._set(MEAN, row["episode_return_mean"])
        self._set(WORKERS, row.get("workers", math.nan))
        self._set(UTILISATION, row.get("utilisation", math.nan))

    def heldout(self, generation: int, score: Score, target: float | None, confirms: bool) -> None:
        """Export the newest score on held-out seeds."""
        with self._lock:
            self._heldout_is_ours = True
            self._set(HELDOUT, score.mean)

    def _take_up(self, path: Location) -> None:
        """Set the gauges that speak of the whole run, as far as this session knows no newer."""
        try:
            run = load(path)
            self._improve(run.generations["episode_return_max"].max())
            found = scores.score_heldout(run).values()
        except Exception as error:  # noqa: BLE001 - told where observers' faults are told
            self._fault = error
            return
        with self._lock:
            if not self._heldout_is_ours:
                for each in found:  # the last that is finite stays
                    self._set(HELDOUT, each.mean)

    def _improve(self, value: float) -> None:
        with self._lock:
            if value > self._best:
                self._best = float(value)
                self._set(BEST, self._best)

    def _count(self, name: str, more: float, phase: str = "") -> None:
        if not self._counters:
            self._owed[name, phase] = self._owed.get((name, phase), 0.0) + more
        elif more > 0:
            self._counters[name].inc(float(more), {PHASE: phase} if phase else None)

    def _set(self, name: str, value: float) -> None:
        if not math.isfinite(value):
            return
        if self._gauges:
            self._gauges[name].set(float(value))
        else:
            self._levels[name] = float(value)
