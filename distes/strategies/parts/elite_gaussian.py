"""What CEM and its variants share: a Gaussian refit to the elites of each generation."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Generic, Literal, TypeVar

import numpy as np

from distes.errors import UsageError
from distes.population.distributions import Gaussian, Point
from distes.population.records import Episodes, Population
from distes.seeds import noise_key, strategy_generator
from distes.strategies.base import Problem, Strategy
from distes.strategies.numerics import moments, ranking
from distes.strategies.parts import spreads
from distes.strategies.parts.elite_figures import EliteFigures
from distes.strategies.parts.memory import refuse_beyond_memory
from distes.types import (
    FloatArray,
    Fraction,
    IntArray,
    Momentum,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Share,
)

DEFAULT_SIZE = 64

MATRICES = 4
"""That are held at once at most, with a full covariance."""

_INITIAL_MEAN = 2
"""Word that keys the generator of a uniform initial mean."""


@dataclass(frozen=True, eq=False)
class GaussianState:
    """The search distribution, and figures of the elites it was last refit to.

    Attributes:
        generation: generations told, the index of the next one.
        mean: (d,).
        std: (d,) without the extra variance of sampling.
        covariance: (d, d) likewise; None for a diagonal distribution.
        elites: figures of the last generation's elites.
    """

    generation: int
    mean: FloatArray
    std: FloatArray
    covariance: FloatArray | None
    elites: EliteFigures

    @property
    def spread(self) -> FloatArray:
        """Standard deviations (d,), or the covariance (d, d)."""
        return self.std if self.covariance is None else self.covariance


S = TypeVar("S", bound=GaussianState)


@dataclass(frozen=True)
class EliteGaussian(Strategy[S], Generic[S]):
    """Samples a Gaussian and refits it to the best candidates.

    Candidates are sampled with covariance ``C + extra(t)·I``: the extra variance keeps an
    early run of luck from ending the search (Szita & Lőrincz 2006). It adds to the
    variance, not to the standard deviation, and only to sampling: the stored covariance
    is that of the elites, which carry it.

    Attributes:
        elite_fraction: share of the population that is elite, in (0, 1].
        elite_count: number of elites instead of a share.
        covariance: ``diagonal``, or ``full``.
        shrinkage: of a full covariance towards its diagonal, in [0, 1].
        initial_mean: ``policy``, where the policy starts; or ``uniform`` in [0, 1)^d.
        initial_std: standard deviation of every parameter at the start, > 0.
        extra_std: root of the extra variance at the start, >= 0; 0 turns it off.
        extra_decay: ``constant``; ``linear``, to 0 at ``extra_generations``; or
            ``exponential``, by e every ``extra_generations``.
        extra_generations: how long the extra variance decays, > 0.
        mean_smoothing: share of the old mean that is kept, in [0, 1).
        std_smoothing: share of the old standard deviation (of a full covariance: of
            the old covariance) that is kept, in [0, 1).
        min_std: least standard deviation in any direction, >= 0.
        weighting: ``uniform``; or ``proportional`` to the fitness above the worst
            candidate's: with elite_fraction 1 this is proportionate CEM (Goschin et al.
            2013), which improves the expected fitness, where a cut improves a quantile
            and rewards luck.
        ddof: subtracted from the number of elites in the variance's divisor.
    """

    takes_spread: ClassVar[bool] = True

    elite_fraction: Fraction = 0.2
    elite_count: PositiveInt | None = None
    covariance: Literal["diagonal", "full"] = "diagonal"
    shrinkage: Share = 0.1
    initial_mean: Literal["policy", "uniform"] = "policy"
    initial_std: PositiveFloat = 1.0
    extra_std: NonNegativeFloat = 1.0
    extra_decay: Literal["constant", "linear", "exponential"] = "linear"
    extra_generations: PositiveFloat = 20.0
    mean_smoothing: Momentum = 0.0
    std_smoothing: Momentum = 0.0
    min_std: NonNegativeFloat = 0.0
    weighting: Literal["uniform", "proportional"] = "uniform"
    ddof: NonNegativeInt = 0

    def population_size(self, problem: Problem) -> int:
        """Candidates of the first generation: as asked, else 64.

        With a full covariance at least 4 d, of which the elites are near d.
        """
        least = 4 * problem.num_parameters if self.covariance == "full" else 0
        return problem.population_size or max(DEFAULT_SIZE, least)

    def num_elites(self, problem: Problem) -> int:
        """Elites of every generation."""
        if self.elite_count is not None:
            return self.elite_count
        return round(self.elite_fraction * self.population_size(problem))

    def check(self, problem: Problem) -> None:
        """Refuse a population that gives too few elites to refit the Gaussian to."""
        size, count = self.population_size(problem), self.num_elites(problem)
        if count > size:
            raise UsageError(f"elite_count {count} is more than the population of {size}")
        # One elite has no variance: a floor, or extra variance for good, must stand in.
        alone = self.min_std > 0 or (self.extra_std > 0 and self.extra_decay == "constant")
        if count < 1 or (count == 1 and not alone):
            raise UsageError(
                f"a population of {size} gives {count} elites, at least 2 are needed: give a "
                "larger population or elite_fraction (one elite works with min_std > 0)"
            )
        if self.ddof >= count > 1:
            raise UsageError(f"ddof {self.ddof} is not below the number of elites, {count}")
        dimension, full = problem.num_parameters, self.covariance == "full"
        refuse_beyond_memory(
            2 * count * dimension + (MATRICES * dimension**2 if full else 0),
            f"{'a full covariance' if full else f'a table of {count:,} elites'} of "
            f"{dimension:,} parameters",
            "give strategy.covariance diagonal" if full else "give a smaller population",
        )
        if full and self.shrinkage == 0 and count <= dimension:
            raise UsageError(
                f"a full covariance of {dimension} parameters needs at least {dimension + 1} "
                f"elites, a population of {size} gives {count}: give a larger population, "
                "shrinkage > 0, or a diagonal covariance"
            )

    def solution(self, problem: Problem, state: S) -> Population:
        """Deploy the mean: unlike the best candidate, it was not chosen for its luck."""
        return Population(Point(state.mean), 1)

    def metrics(self, state: S) -> dict[str, float]:
        """Elites and the width of the search distribution, extra variance apart."""
        return {
            **state.elites.metrics(),
            "mean_norm": float(np.linalg.norm(state.mean)),
            "std_mean": float(state.std.mean()),
            "std_min": float(state.std.min()),
            "std_max": float(state.std.max()),
            "extra_std": math.sqrt(self.extra_variance(state.generation)),
        }

    def stop(self, state: S) -> str | None:
        """Stop when all candidates would be the same."""
        widest = math.sqrt(float(state.std.max()) ** 2 + self.extra_variance(state.generation))
        if np.all(state.mean + widest == state.mean):
            return "the search distribution has shrunk to a point"
        return None

    def extra_variance(self, generation: int) -> float:
        """Variance added in sampling a generation: Z_t of Szita & Lőrincz 2006."""
        elapsed = generation / self.extra_generations
        share = {
            "constant": 1.0,
            "linear": max(1.0 - elapsed, 0.0),
            "exponential": math.exp(-elapsed),
        }[self.extra_decay]
        return share * self.extra_std**2

    def initial_state(self, problem: Problem) -> GaussianState:
        """Make the Gaussian before the first generation."""
        dimension = problem.num_parameters
        mean = problem.start
        if self.initial_mean == "uniform":
            mean = strategy_generator(problem.seed, _INITIAL_MEAN).random(dimension)
        std, covariance = np.full(dimension, self.initial_std), None
        if problem.start_spread is not None:
            std = spreads.to_deviations(problem.start_spread)
        if self.covariance == "full":
            given = problem.start_spread
            covariance = np.diag(std**2) if given is None else spreads.to_covariance(given)
        return GaussianState(
            generation=0,
            mean=np.array(mean, dtype=np.float64),
            std=std,
            covariance=covariance,
            elites=EliteFigures(),
        )

    def build_gaussian(self, problem: Problem, state: S) -> Gaussian:
        """Build what the state's generation is sampled from, N(μ, C + extra(t) I)."""
        extra = self.extra_variance(state.generation)
        if state.covariance is None:
            scale = np.sqrt(state.std**2 + extra) if extra else state.std
        else:
            widened = state.covariance + extra * np.eye(len(state.mean))
            scale = moments.symmetric_root(widened)
        return Gaussian(state.mean, scale, noise_key(problem.seed, state.generation))

    def refit(
        self,
        problem: Problem,
        state: S,
        population: Population,
        episodes: Episodes,
        fitness: FloatArray,
    ) -> S:
        """Refit to the elites by ``fitness``, which may differ from the episodes' own.

        The Gaussian nearest to the elites in cross entropy, argmax Σ_i w_i log N(θ_i; μ, C)
        (de Boer et al. 2005), has their weighted mean and covariance; each is then smoothed
        with what it was.
        """
        count = self.num_elites(problem)
        chosen = ranking.pick_elites(fitness, count)
        state = replace(
            state,
            generation=state.generation + 1,
            elites=EliteFigures.of(episodes, fitness, chosen),
        )
        if len(chosen) == 0:
            return state
        samples = population.distribution.draw(chosen)
        weights = self._weigh_elites(fitness, chosen)
        if count > 1 and moments.effective_size(weights) <= max(1, self.ddof) + 1e-9:
            # Nearly all candidates failed: what is left says where, not how widely.
            mean = weights @ samples / weights.sum()  # Σ w_i θ_i/Σ w_i
            return replace(state, mean=self._smooth(state.mean, mean, self.mean_smoothing))
        ddof = self.ddof if count > 1 else 0
        if state.covariance is None:
            mean, variance = moments.mean_and_variance(samples, weights, ddof)
            std = self._smooth(state.std, np.sqrt(variance), self.std_smoothing)
            std, covariance = np.maximum(std, self.min_std), None
        else:
            mean, covariance = moments.mean_and_covariance(samples, weights, ddof)
            covariance = moments.shrink_to_diagonal(covariance, self.shrinkage)
            covariance = self._smooth(state.covariance, covariance, self.std_smoothing)
            covariance = moments.floor_variance(covariance, self.min_std**2)
            std = np.sqrt(np.diag(covariance))
        mean = self._smooth(state.mean, mean, self.mean_smoothing)
        return replace(state, mean=mean, std=std, covariance=covariance)

    def _weigh_elites(self, fitness: FloatArray, chosen: IntArray) -> FloatArray:
        """Weights of the elites, (r,); best first, the best's is 1."""
        if self.weighting == "proportional":
            # Of fitness above the worst: w_i = (f_i - f_min)/(f_max - f_min).
            above = fitness[chosen] - np.nanmin(fitness)
            if above[0] > 0:
                scaled: FloatArray = above / above[0]
                return scaled
        return np.ones(len(chosen))

    @staticmethod
    def _smooth(old: FloatArray, new: FloatArray, kept: float) -> FloatArray:
        """(1 - kept) new + kept old; exactly the new where nothing is kept."""
        return (1 - kept) * new + kept * old if kept else new
