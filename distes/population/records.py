"""The two records that cross between driver and workers, and what they are made of.

A `Population` says how to draw candidates and what to report; `Episodes` says what
happened. Strategies and evaluators meet only through these two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from distes.seeds import Purpose, RunKey, episode_seeds
from distes.types import Array, FloatArray, IntArray

if TYPE_CHECKING:
    from distes.policies.base import Policy
    from distes.tasks.base import AnyTask

__all__ = [
    "Contextual",
    "Distribution",
    "Episodes",
    "Evaluated",
    "Population",
    "Probe",
    "Purpose",
    "RunKey",
    "Status",
    "Telemetry",
    "Trajectory",
]


class Status(IntEnum):
    """How an episode ended."""

    OK = 0
    ERROR = 1
    NAN = 2
    CRASHED = 3
    TIMEOUT = 4


@runtime_checkable
class Distribution(Protocol):
    """A search distribution over parameters. Pure: driver and worker draw the same."""

    @property
    def num_parameters(self) -> int:
        """Length d of a parameter vector."""

    @property
    def uses_context(self) -> bool:
        """Whether `draw` needs contexts; if not, candidates are drawn in batches."""

    def draw(self, candidates: IntArray, contexts: Array | None = None) -> FloatArray:
        """Draw parameters for chosen candidates.

        Args:
            candidates: (m,) candidate numbers.
            contexts: (m, k), one context per candidate drawn; None where unused.

        Returns:
            (m, d) parameters; each row depends on its candidate and context alone.
        """


@runtime_checkable
class Contextual(Distribution, Protocol):
    """A distribution that can draw for contexts one by one, as resets show them."""

    def prepare_draw(self, candidates: IntArray) -> Callable[[int, FloatArray], FloatArray]:
        """Do ahead what needs no context.

        Args:
            candidates: (m,) candidate numbers.

        Returns:
            (index into candidates, context (k,)) -> parameters (d,), as `draw` gives them.
        """


RECORDS = ("observations", "actions", "rewards", "last_observation")
"""The parts of a trajectory that can be asked for."""


@dataclass(frozen=True)
class Trajectory:
    """What an engine recorded of one episode.

    Attributes:
        parameters: (d,) the episode's.
        observations: (T, k) encoded observations before normalisation.
        actions: (T, ...) actions, or what a policy chose before it made actions of it;
            empty unless they were asked for.
        rewards: (T,) rewards; empty unless they were asked for.
        last_observation: (k,) after the last step, encoded; None unless actions were
            asked for.
    """

    parameters: FloatArray
    observations: FloatArray
    actions: Array
    rewards: FloatArray
    last_observation: FloatArray | None = None


@runtime_checkable
class Probe(Protocol):
    """What an episode reports beyond its return, as sums folded over all episodes."""

    @property
    def records(self) -> frozenset[str]:
        """Which of ``observations``, ``actions``, ``rewards`` the engine must record."""

    def sums(
        self, trajectory: Trajectory, policy: Policy, frozen: Mapping[str, FloatArray]
    ) -> Mapping[str, FloatArray]:
        """Reduce one episode to named arrays, each of the same shape for every episode.

        Args:
            trajectory: what was recorded.
            policy: that acted.
            frozen: statistics of the population.
        """


def normalise(observations: FloatArray, frozen: Mapping[str, FloatArray]) -> FloatArray:
    """Observations (..., k) as the policy sees them: less the mean, over the deviation."""
    mean, std = frozen.get("observation_mean"), frozen.get("observation_std")
    return observations if mean is None or std is None else (observations - mean) / std


@dataclass(frozen=True, eq=False)
class Rerun:
    """Episodes that were run before, sorted by (candidate, episode).

    Attributes:
        candidate: (r,).
        episode: (r,) within the candidate.
        seed: (r,).
        start_seed: (r,) what their environments were reset with.
    """

    candidate: IntArray
    episode: IntArray
    seed: IntArray
    start_seed: IntArray

    @classmethod
    def of(cls, population: Population, episodes: Episodes, rows: IntArray) -> Rerun:
        """Name episodes of an evaluated population by their rows among all, (r,) ascending."""
        start = episodes.seed
        if population.same_start:
            _, first, which = np.unique(episodes.candidate, return_index=True, return_inverse=True)
            start = episodes.seed[first][which]
        columns = (episodes.candidate, episodes.episode, episodes.seed, start)
        return cls(*(column[rows] for column in columns))


@dataclass(frozen=True, eq=False)
class Population:
    """How to draw candidates, how many, how often to try each, what to report.

    Attributes:
        distribution: where the candidates come from.
        size: candidates, n.
        episodes: episodes per candidate, one number or (n,).
        seed_group: neighbouring candidates that share episode seeds: 1 each its own,
            2 mirrored pairs, n common random numbers.
        probes: what to report beyond the return.
        frozen: statistics that stay fixed within the population
            (``observation_mean`` and ``observation_std``, (k,) each).
        contexts: (n, k) contexts imposed through ``reset(options=...)``.
        task: evaluated instead of the search's own task (a learned model, say).
        max_steps: a step limit below the task's own.
        purpose: what the evaluation is for.
        same_start: all episodes of a candidate begin with the same seed; a stochastic
            policy acts differently in each.
        rerun: episodes that are run in place of all, as they were before; None for all.
        records: parts of each episode's trajectory to give beside the results, of `RECORDS`;
            observations are always among them.
    """

    distribution: Distribution
    size: int
    episodes: int | IntArray = 1
    seed_group: int = 1
    probes: tuple[Probe, ...] = ()
    frozen: Mapping[str, FloatArray] = field(default_factory=dict)
    contexts: FloatArray | None = None
    task: AnyTask | None = None
    max_steps: int | None = None
    purpose: Purpose = Purpose.SEARCH
    same_start: bool = False
    rerun: Rerun | None = None
    records: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Let any whole number say how many episodes each candidate has."""
        if type(self.episodes) is not int and np.ndim(self.episodes) == 0:
            object.__setattr__(self, "episodes", int(self.episodes))

    @property
    def num_episodes(self) -> int:
        """Episodes in all, m."""
        if self.rerun is not None:
            return len(self.rerun.seed)
        if isinstance(self.episodes, int):
            return self.size * self.episodes
        return int(self.episodes.sum())

    def counts(self) -> IntArray:
        """Episodes of each candidate, (n,)."""
        if self.rerun is not None:
            return np.bincount(self.rerun.candidate, minlength=self.size)
        if isinstance(self.episodes, int):
            return np.full(self.size, self.episodes, dtype=np.int64)
        return np.asarray(self.episodes, dtype=np.int64)

    def locate(self, start: int, stop: int) -> tuple[IntArray, IntArray]:
        """Turn flat episode numbers into (candidate, episode within candidate).

        Args:
            start: first flat number, among those that are run.
            stop: one past the last.

        Returns:
            Two (stop - start,) arrays.
        """
        if self.rerun is not None:
            return self.rerun.candidate[start:stop], self.rerun.episode[start:stop]
        flat = np.arange(start, stop, dtype=np.int64)
        if isinstance(self.episodes, int):
            return flat // self.episodes, flat % self.episodes
        ends = np.cumsum(self.episodes)
        candidate = np.searchsorted(ends, flat, side="right")
        return candidate, flat - (ends - self.episodes)[candidate]

    def seeds(self, key: RunKey, start: int, stop: int) -> IntArray:
        """Seeds of the flat episodes ``start .. stop``."""
        if self.rerun is not None:
            return self.rerun.seed[start:stop]
        candidate, episode = self.locate(start, stop)
        return episode_seeds(key, self.purpose, candidate // self.seed_group, episode)

    def start_seeds(self, key: RunKey, start: int, stop: int) -> IntArray:
        """What the environments of the flat episodes ``start .. stop`` are reset with."""
        if self.rerun is not None:
            return self.rerun.start_seed[start:stop]
        if not self.same_start:
            return self.seeds(key, start, stop)
        candidate, episode = self.locate(start, stop)
        first = np.zeros_like(episode)
        return episode_seeds(key, self.purpose, candidate // self.seed_group, first)


@dataclass(frozen=True, eq=False)
class Episodes:
    """What happened, one entry per episode, sorted by (candidate, episode).

    Attributes:
        candidate: (m,) int64.
        episode: (m,) int64, within the candidate.
        seed: (m,) int64 environment seed.
        episode_return: (m,) undiscounted sum of rewards; NaN unless status is OK.
        episode_length: (m,) int64 steps.
        terminated: (m,) bool.
        truncated: (m,) bool.
        status: (m,) int8, a `Status`.
        fitness: (n,) one per candidate, by the task's rule; NaN = failed.
        contexts: (m, k) or None.
        sums: probes folded over all episodes.
        info: chosen keys of the final info, (m,) each.
    """

    candidate: IntArray
    episode: IntArray
    seed: IntArray
    episode_return: FloatArray
    episode_length: IntArray
    terminated: Array
    truncated: Array
    status: Array
    fitness: FloatArray
    contexts: FloatArray | None = None
    sums: Mapping[str, FloatArray] = field(default_factory=dict)
    info: Mapping[str, FloatArray] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Telemetry:
    """Where and when episodes ran: logged, never shown to a strategy.

    Attributes:
        attempt: (m,) int16, 1 for the first try.
        worker: (m,) int32 worker number.
        node: (m,) int32 index into `nodes`.
        nodes: node names.
        started_at: (m,) seconds since the epoch.
        duration_s: (m,) seconds in the episode.
        summary: figures about the whole evaluation (workers, retries, utilisation).
    """

    attempt: Array
    worker: Array
    node: Array
    nodes: tuple[str, ...]
    started_at: FloatArray
    duration_s: FloatArray
    summary: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Evaluated:
    """An evaluator's whole answer: results, how they came about, and what was recorded."""

    episodes: Episodes
    telemetry: Telemetry
    events: tuple[Mapping[str, object], ...] = ()
    trajectories: tuple[Trajectory, ...] = ()
