"""What a strategy is, and what it may know and ask for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Generic, Protocol, TypeVar

from distes.policies.base import Policy
from distes.population.records import RECORDS, Distribution, Episodes, Population, Trajectory
from distes.registry import check_fields
from distes.tasks.base import AnyTask
from distes.types import FloatArray, IntArray

S = TypeVar("S")


class Problem(Protocol):
    """The services of a search to its strategy."""

    @property
    def task(self) -> AnyTask:
        """What is to be solved."""

    @property
    def policy(self) -> Policy:
        """The policy whose parameters are searched for."""

    @property
    def num_parameters(self) -> int:
        """Length d of a parameter vector."""

    @property
    def num_contexts(self) -> int:
        """Length k of a context; 0 without contexts."""

    @property
    def context_range(self) -> tuple[FloatArray, FloatArray] | None:
        """Least and greatest contexts, (k,) each, where the task says so."""

    @property
    def start(self) -> FloatArray:
        """Where to start, (d,)."""

    @property
    def start_statistics(self) -> Mapping[str, FloatArray]:
        """Observation statistics that belong to the start; nothing where it has none."""

    @property
    def start_spread(self) -> FloatArray | None:
        """How widely to search at the start: deviations (d,) or a covariance (d, d).

        None leaves it to the strategy; only one that `takes_spread` is given any.
        """

    @property
    def seed(self) -> int:
        """The run's seed, for `seeds.noise_key` and `seeds.strategy_generator`."""

    @property
    def population_size(self) -> int | None:
        """Candidates per generation as the user asked; None leaves it to the strategy."""

    def population(self, distribution: Distribution, size: int) -> Population:
        """Make a search population with the run's episodes, seeds and step limit."""

    def run(self, population: Population) -> Episodes:
        """Evaluate a further population within the current generation."""

    def weigh_noise(
        self,
        population: Population,
        weights: FloatArray,
        squares: FloatArray | None = None,
    ) -> tuple[FloatArray, FloatArray]:
        """Sum the standard normals z that a Gaussian population was drawn with.

        The candidates' rows are never held at once, so their number and their length may be
        large together.

        Args:
            population: of the distribution `Gaussian`.
            weights: (n,) w; 0 for candidates that failed.
            squares: (n,) v; None is 0.

        Returns:
            Σ w z and Σ v z², (d,) each.
        """

    @property
    def has_trajectories(self) -> bool:
        """Whether episodes have observations and actions; a function's have none."""

    def trajectories(
        self,
        population: Population,
        episodes: Episodes,
        rows: IntArray,
        records: tuple[str, ...] = RECORDS,
    ) -> list[Trajectory]:
        """Give what was seen and done in chosen episodes.

        Args:
            population: that was evaluated.
            episodes: what happened.
            rows: (r,) which of them, counted from 0.
            records: parts of the trajectories that are needed, besides the observations.

        Returns:
            One trajectory for each row; one of an episode that failed, or that cannot be had
            again as it was, has no steps.

        Raises:
            UsageError: the task has no trajectories.
        """


@dataclass(frozen=True)
class Strategy(ABC, Generic[S]):
    """A search method. Its fields are its hyper-parameters, flags and configuration.

    State is a plain dataclass of arrays and numbers, so that any strategy can be saved.
    All methods are free of side effects: the same arguments give the same result.
    """

    default_policy: ClassVar[str] = "auto"
    """Name of the policy where the user chooses none; ``auto`` follows from the task."""

    takes_spread: ClassVar[bool] = False
    """Whether `init` begins with `Problem.start_spread`, where there is one. A state with a
    ``spread``, (d,) or (d, d), can be begun from."""

    grows: ClassVar[bool] = False
    """Whether `tell` takes any number of candidates of the distribution that `ask` gives."""

    def __post_init__(self) -> None:
        """Refuse fields outside their annotations."""
        check_fields(self)

    def population_size(self, problem: Problem) -> int | None:
        """Candidates of the first generation: as asked, else a number of the strategy's own.

        None where that is not known before it asks.
        """
        return problem.population_size

    def check(self, problem: Problem) -> None:
        """Refuse what cannot work, before anything starts.

        Raises:
            UsageError: one sentence with what was given and what is accepted.
        """

    @abstractmethod
    def init(self, problem: Problem) -> S:
        """Make the state before the first generation."""

    @abstractmethod
    def ask(self, problem: Problem, state: S) -> Population:
        """Say whom to evaluate next."""

    @abstractmethod
    def tell(self, problem: Problem, state: S, population: Population, episodes: Episodes) -> S:
        """Learn from what happened; ``episodes`` belongs to ``population``."""

    @abstractmethod
    def solution(self, problem: Problem, state: S) -> Population:
        """Say what to deploy: one candidate, statistics included."""

    def metrics(self, state: S) -> dict[str, float]:
        """Figures for the generations log; the same names in every generation.

        Strategies with elites give ``elite_return_mean`` and ``elite_return_std``.
        """
        return {}

    def stop(self, state: S) -> str | None:
        """Give a reason to stop, or None."""
        return None
