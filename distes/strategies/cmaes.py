"""CMA-ES: adapts mean, step size and covariance of a Gaussian to the ranks of its samples.

Hansen (2016), "The CMA evolution strategy: a tutorial" (arXiv:1604.00772); the separable form
of Ros and Hansen (2008), "A simple modification in CMA-ES achieving linear time and space
complexity".

| name | tutorial |
|---|---|
| mean, step_size, covariance | m, σ, C: candidates have the covariance σ²C |
| path_step, path_cov | p_σ, p_c |
| positive, negative weights | w_i, by rank |
| effective | μ_eff |
| step_rate, step_damping | c_σ, d_σ |
| path_rate, rank_one, rank_mu | c_c, c_1, c_μ |

Equal returns share the mean of their weights, so that what is equal does not pull by its order.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import numpy as np

from distes.errors import UsageError
from distes.population.distributions import Gaussian, Point
from distes.population.records import Episodes, Population
from distes.seeds import noise_key
from distes.strategies.base import Problem, Strategy
from distes.strategies.numerics import ranking, shaping
from distes.strategies.parts.elite_figures import EliteFigures
from distes.types import FloatArray, PositiveFloat

WORST_CONDITION = 1e14
"""Of the covariance: beyond, its small axes are rounding."""


@dataclass(frozen=True, eq=False)
class CMAConstants:
    """Weights and learning rates of an update.

    Attributes:
        weights: w, (λ,) by rank: the positive half sums to 1, the rest is negative or 0.
        effective: μ_eff of the positive ones.
        step_rate: c_σ.
        step_damping: d_σ.
        path_rate: c_c.
        rank_one: c_1.
        rank_mu: c_μ.
    """

    weights: FloatArray
    effective: float
    step_rate: float
    step_damping: float
    path_rate: float
    rank_one: float
    rank_mu: float

    @classmethod
    def of(cls, samples: int, size: int, *, separable: bool, active: bool) -> CMAConstants:
        """Compute them.

        Args:
            samples: λ >= 2, those that did not fail.
            size: n, the number of parameters.
            separable: for a diagonal covariance, which can be learnt faster.
            active: whether bad samples count, with negative weights.
        """
        raw = shaping.log_rank_weights(samples)  # eq. 49
        half = samples // 2
        best, worst = raw[:half], raw[half:]
        effective = best.sum() ** 2 / np.sum(best**2)  # eq. 8, Table 1
        step_rate = (effective + 2) / (size + effective + 5)  # eq. 55
        excess = math.sqrt((effective - 1) / (size + 1)) - 1
        damping = 1 + 2 * max(0.0, excess) + step_rate  # eq. 55
        share = effective / size
        if separable:
            # Learning rates of a diagonal, whose n numbers need fewer samples than n²/2.
            root = math.sqrt(size)
            path_rate = (1 + 1 / size + share) / (root + 1 / size + 2 * share)
            rank_one = 1 / (size + 2 * root + share)
            rank_mu = (0.25 + effective + 1 / effective - 2) / (size + 4 * root + effective / 2)
        else:
            path_rate = (4 + share) / (size + 4 + 2 * share)  # eq. 56
            rank_one = min(1.0, samples / 6) * 2 / ((size + 1.3) ** 2 + effective)  # eq. 57
            rank_mu = 2 * (0.25 + effective + 1 / effective - 2)
            rank_mu /= (size + 2) ** 2 + effective  # eq. 58 with α_cov = 2
        rank_mu = min(1 - rank_one, rank_mu)
        weights = np.concatenate([best / best.sum(), np.zeros_like(worst)])  # eq. 53, w >= 0
        negative = float(-worst.sum())
        if active and negative > 0 and rank_mu > 0:
            against = worst.sum() ** 2 / np.sum(worst**2)  # μ_eff⁻, Table 1
            bound = min(
                1 + rank_one / rank_mu,  # eq. 50: the update of C keeps its scale
                1 + 2 * against / (effective + 2),  # eq. 51
                (1 - rank_one - rank_mu) / (size * rank_mu),  # eq. 52: C stays positive definite
            )
            weights[half:] = bound * worst / negative  # eq. 53, w < 0
        return cls(weights, float(effective), step_rate, damping, path_rate, rank_one, rank_mu)


@dataclass(frozen=True, eq=False)
class CMAESState:
    """The search distribution and the paths of its mean.

    Attributes:
        generation: generations told, the index of the next one.
        mean: m, (d,).
        step_size: σ.
        covariance: C, (d, d); its diagonal (d,) where it is separable.
        path_step: p_σ, (d,).
        path_cov: p_c, (d,).
        start_step: σ at the start.
        elites: figures of the last generation's better half.
    """

    generation: int
    mean: FloatArray
    step_size: float
    covariance: FloatArray
    path_step: FloatArray
    path_cov: FloatArray
    start_step: float
    elites: EliteFigures = field(default_factory=EliteFigures)


@dataclass(frozen=True)
class CMAES(Strategy[CMAESState]):
    """CMA-ES (Hansen 2016), with a full or a separable covariance.

    Attributes:
        covariance: ``full``, or ``separable`` for many parameters: the diagonal alone.
        active: whether the worse half of the samples counts, with negative weights.
        initial_std: standard deviation of every parameter at the start, > 0.
        tolerance: stop where steps have shrunk to this share of their start, > 0.
    """

    grows: ClassVar[bool] = True

    covariance: Literal["full", "separable"] = "full"
    active: bool = True
    initial_std: PositiveFloat = 1.0
    tolerance: PositiveFloat = 1e-12

    @property
    def separable(self) -> bool:
        """Whether the covariance is a diagonal."""
        return self.covariance == "separable"

    def population_size(self, problem: Problem) -> int:
        """As asked, else λ = 4 + ⌊3 ln n⌋."""
        if problem.population_size is not None:
            return problem.population_size
        return 4 + math.floor(3 * math.log(problem.num_parameters))

    def check(self, problem: Problem) -> None:
        """Refuse populations that cannot be weighted, and a matrix that is too large."""
        size, dimension = self.population_size(problem), problem.num_parameters
        if size < 4:
            raise UsageError(f"a population of {size} is too small for cmaes: give at least 4")
        memory = 4 * 8 * dimension**2  # C, its root, and what decomposing them needs
        if not self.separable and memory > 8 * 2**30:
            raise UsageError(
                f"a full covariance of {dimension:,} parameters needs about {memory / 2**30:,.0f} "
                "GiB: give strategy.covariance separable"
            )

    def init(self, problem: Problem) -> CMAESState:
        """Start where the policy does, alike in all directions."""
        size = problem.num_parameters
        return CMAESState(
            generation=0,
            mean=np.array(problem.start, dtype=np.float64),
            step_size=self.initial_std,
            covariance=np.ones(size) if self.separable else np.eye(size),
            path_step=np.zeros(size),
            path_cov=np.zeros(size),
            start_step=self.initial_std,
        )

    def ask(self, problem: Problem, state: CMAESState) -> Population:
        """Sample N(m, σ²C): eqs. 38-40."""
        root = np.sqrt(state.covariance) if self.separable else _roots(state.covariance)[0]
        key = noise_key(problem.seed, state.generation)
        gaussian = Gaussian(state.mean, state.step_size * root, key)
        return problem.population(gaussian, self.population_size(problem))

    def tell(
        self, problem: Problem, state: CMAESState, population: Population, episodes: Episodes
    ) -> CMAESState:
        """Move the mean, lengthen or shorten the step, turn and stretch the covariance."""
        fitness = episodes.fitness
        order = ranking.pick_elites(fitness, len(fitness))
        told = replace(state, generation=state.generation + 1)
        told = replace(told, elites=EliteFigures.of(episodes, fitness, order[: len(order) // 2]))
        if len(order) < 2 or fitness[order[0]] == fitness[order[-1]]:
            return told  # nothing is better than anything else: there is nothing to learn
        size = problem.num_parameters
        constants = CMAConstants.of(len(order), size, separable=self.separable, active=self.active)
        weights = _share_among_equal(constants.weights, fitness[order])
        steps = (population.distribution.draw(order) - state.mean) / state.step_size  # y, eq. 39
        whiten = self._whitener(state.covariance)

        # Mean: only good samples pull, bad ones shape the covariance alone.
        step = np.maximum(weights, 0) @ steps  # eq. 41
        mean = state.mean + state.step_size * step  # eq. 42, c_m = 1

        # Step size: longer where successive steps of the mean agree, shorter where they cancel.
        turn = constants.step_rate
        path_step = (1 - turn) * state.path_step + math.sqrt(
            turn * (2 - turn) * constants.effective
        ) * whiten(step[None])[0]  # eq. 43
        # χ_n = E‖N(0, I)‖, exactly; some programs take its expansion in 1/n.
        expected = math.sqrt(2) * math.exp(math.lgamma((size + 1) / 2) - math.lgamma(size / 2))
        length = float(np.linalg.norm(path_step))
        rate = turn / constants.step_damping
        # At most by e in one update, as where a start is far too narrow.
        step_size = state.step_size * math.exp(min(1.0, rate * (length / expected - 1)))  # eq. 44

        # Covariance: rank one from the path, rank μ from the samples.
        warm = 1 - (1 - turn) ** (2 * told.generation)
        goes_on = length**2 / size / warm < 2 + 4 / (size + 1)  # h_σ
        turn = constants.path_rate
        path_cov = (1 - turn) * state.path_cov
        if goes_on:
            path_cov = path_cov + math.sqrt(turn * (2 - turn) * constants.effective) * step  # 45
        lengths = np.sum(whiten(steps) ** 2, axis=1)
        # A bad sample is taken at the length √n: however far it was, C stays positive (eq. 46).
        scaled = np.where(weights < 0, weights * size / np.maximum(lengths, 1e-300), weights)
        stalled = 0.0 if goes_on else turn * (2 - turn)
        kept = (
            1
            + constants.rank_one * stalled
            - constants.rank_one
            - constants.rank_mu * float(weights.sum())
        )
        if self.separable:
            one, many = path_cov**2, scaled @ steps**2
        else:
            one, many = np.outer(path_cov, path_cov), steps.T @ (scaled[:, None] * steps)
        covariance = (
            kept * state.covariance + constants.rank_one * one + constants.rank_mu * many
        )  # eq. 47
        if not self.separable:
            covariance = (covariance + covariance.T) / 2
        return replace(
            told,
            mean=mean,
            step_size=step_size,
            covariance=covariance,
            path_step=path_step,
            path_cov=path_cov,
        )

    def solution(self, problem: Problem, state: CMAESState) -> Population:
        """Deploy the mean: unlike the best candidate, it was not chosen for its luck."""
        return Population(Point(state.mean), 1)

    def metrics(self, state: CMAESState) -> dict[str, float]:
        """Step size, widths and condition of the search distribution."""
        std = state.step_size * np.sqrt(_diagonal(state.covariance))
        return {
            **state.elites.metrics(),
            "mean_norm": float(np.linalg.norm(state.mean)),
            "step_size": state.step_size,
            "std_min": float(std.min()),
            "std_max": float(std.max()),
            "condition": _condition(state.covariance),
        }

    def stop(self, state: CMAESState) -> str | None:
        """Stop where steps are too small to matter, or the covariance is beyond arithmetic.

        Stops about equal returns are left out on purpose: returns are noisy, and a search at
        the greatest return an environment has is not one that stagnates.
        """
        std = state.step_size * np.sqrt(_diagonal(state.covariance))
        paths = state.step_size * np.abs(state.path_cov)
        if np.all(np.maximum(std, paths) < self.tolerance * state.start_step):
            return f"steps have shrunk to {self.tolerance:g} of their start"
        if np.all(state.mean + 0.2 * std == state.mean):
            return "steps no longer change the mean"
        if _condition(state.covariance) > WORST_CONDITION:
            return f"the covariance's condition is above {WORST_CONDITION:g}"
        return None

    def _whitener(self, covariance: FloatArray) -> Callable[[FloatArray], FloatArray]:
        """Give y -> C^(-1/2) y, for rows."""
        if self.separable:
            deviations = np.sqrt(covariance)
            return lambda rows: rows / deviations
        inverse = _roots(covariance)[1]
        return lambda rows: rows @ inverse


def _share_among_equal(weights: FloatArray, ordered: FloatArray) -> FloatArray:
    """Give equal returns, which are neighbours by rank, the mean of their weights."""
    if (np.diff(ordered) != 0).all():
        return weights
    starts = np.flatnonzero(np.r_[True, np.diff(ordered) != 0])
    counts = np.diff(np.r_[starts, len(ordered)])
    return np.repeat(np.add.reduceat(weights, starts) / counts, counts)


def _roots(covariance: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Symmetric C^(1/2) and C^(-1/2), (d, d) each."""
    values, vectors = np.linalg.eigh(covariance)
    values = np.maximum(values, values[-1] * 1e-30)
    root: FloatArray = (vectors * np.sqrt(values)) @ vectors.T
    inverse: FloatArray = (vectors / np.sqrt(values)) @ vectors.T
    return root, inverse


def _diagonal(covariance: FloatArray) -> FloatArray:
    return covariance if covariance.ndim == 1 else np.diag(covariance)


def _condition(covariance: FloatArray) -> float:
    """Ratio of the greatest to the least variance in any direction."""
    values = covariance if covariance.ndim == 1 else np.linalg.eigvalsh(covariance)
    return float(values.max() / max(values.min(), 1e-300))
