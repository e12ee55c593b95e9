"""CMA-ES: adapts mean, step size and covariance of a Gaussian to the ranks of its samples.

Hansen (2016), "The CMA evolution strategy: a tutorial" (arXiv:1604.00772); the separable form
of Ros and Hansen (2008), "A simple modification in CMA-ES achieving linear time and space
complexity"; the limited-memory form of Loshchilov, Glasmachers and Beyer (2017), see
`parts.limited_memory`.

| name | tutorial |
|---|---|
| mean, step_size, covariance | m, σ, C: candidates have the covariance σ²C |
| path_step, covariance.path | p_σ, p_c |
| positive, negative weights | w_i, by rank |
| effective | μ_eff |
| step_rate, step_damping | c_σ, d_σ |
| path_rate, rank_one, rank_mu | c_c, c_1, c_μ |

Equal returns share the mean of their weights, so that what is equal does not pull by its order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import numpy as np

from distes.errors import UsageError
from distes.population.distributions import Boxed, Point
from distes.population.records import Distribution, Episodes, Population
from distes.seeds import noise_key, strategy_generator
from distes.strategies.base import Problem, Strategy
from distes.strategies.numerics import ranking, stagnation
from distes.strategies.numerics.cma_constants import (
    CMAConstants,
    expected_length,
    share_among_equal,
)
from distes.strategies.numerics.rate_adaptation import RateAdaptation
from distes.strategies.parts import spreads
from distes.strategies.parts.attempts import Attempt
from distes.strategies.parts.covariances import DiagonalCovariance, FullCovariance
from distes.strategies.parts.elite_figures import EliteFigures
from distes.strategies.parts.limited_memory import LimitedMemory
from distes.strategies.parts.memory import refuse_beyond_memory
from distes.tasks.function import FunctionTask
from distes.types import FloatArray, IntArray, PositiveFloat

WORST_CONDITION = 1e14
"""Of the covariance: beyond, its small axes are rounding."""


MATRICES = 8
"""That are held at once at most: C, B, what candidates are drawn with, and a decomposition's."""


@dataclass(frozen=True, eq=False)
class CMAESState:
    """The search distribution and the paths of its mean.

    Attributes:
        generation: generations told, the index of the next one.
        mean: m, (d,).
        step_size: σ.
        covariance: C and p_c, or what stands for them.
        path_step: p_σ, (d,).
        rates: of the mean and of the covariance, where they adapt; else none.
        attempt: what the search since the last restart has done.
        elites: figures of the last generation's better half.
    """

    generation: int
    mean: FloatArray
    step_size: float
    covariance: FullCovariance | DiagonalCovariance | LimitedMemory
    path_step: FloatArray
    attempt: Attempt
    rates: tuple[RateAdaptation, ...] = ()
    elites: EliteFigures = field(default_factory=EliteFigures)

    @property
    def spread(self) -> FloatArray | None:
        """σ²C, (d, d), or deviations, (d,); None of limited memory, which knows neither."""
        if isinstance(self.covariance, LimitedMemory):
            return None
        if isinstance(self.covariance, FullCovariance):
            return self.step_size**2 * self.covariance.matrix
        return self.step_size * self.covariance.deviations


@dataclass(frozen=True)
class CMAES(Strategy[CMAESState]):
    """CMA-ES (Hansen 2016), with a full, a separable or a limited covariance.

    Attributes:
        covariance: ``full``; for many parameters ``separable``, the diagonal alone, or
            ``limited``, a few directions in which the mean has moved.
        active: whether the worse half of the samples counts, with negative weights;
            ``limited`` has none.
        initial_std: standard deviation of every parameter at the start, > 0.
        tolerance: stop where steps have shrunk to this share of their start, > 0.
        stops: which reasons end an attempt: ``steps`` that are too small or a covariance
            beyond arithmetic; ``all``, also returns that no longer rise; ``none``; ``auto`` is
            ``all`` for functions without noise, else ``steps``.
        restarts: what follows: the end of the search (``none``); an attempt from elsewhere with
            twice the population (``ipop``); or, in turn, such a one and small ones (``bipop``).
        adapt_rates: slow down where returns are noisy or have many optima, and go on with a
            small population (`numerics.rate_adaptation`); for a full covariance.
        bounds: least and greatest value of every parameter. The search knows none: what it
            samples is bent into the box (`population.distributions.Boxed`), so that returns
            stay what they are, and workers draw as ever.
    """

    grows: ClassVar[bool] = True
    takes_spread: ClassVar[bool] = True

    covariance: Literal["full", "separable", "limited"] = "full"
    active: bool = True
    initial_std: PositiveFloat = 1.0
    tolerance: PositiveFloat = 1e-12
    stops: Literal["auto", "all", "steps", "none"] = "auto"
    restarts: Literal["none", "ipop", "bipop"] = "none"
    adapt_rates: bool = False
    bounds: tuple[float, float] | None = None

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
        if self.adapt_rates and self.covariance != "full":
            raise UsageError(
                f"strategy.adapt_rates needs a full covariance, not a {self.covariance} one"
            )
        if self.covariance == "limited" and problem.start_spread is not None:
            raise UsageError(
                "strategy.covariance limited has no spread to begin with: leave "
                "start_from_spread out"
            )
        if self.bounds is not None:
            low, high = self.bounds
            if low >= high:
                raise UsageError(
                    f"strategy.bounds {low:g}, {high:g} cross: give the lower one first"
                )
            if not ((problem.start >= low) & (problem.start <= high)).all():
                raise UsageError(
                    f"the start has parameters from {problem.start.min():g} to "
                    f"{problem.start.max():g}: strategy.bounds {low:g}, {high:g} must contain them"
                )
        if self.restarts != "none" and self.stops == "none":
            raise UsageError(
                f"strategy.restarts {self.restarts} never happen with strategy.stops none: "
                "give stops auto, all or steps"
            )
        if self.covariance == "full":
            refuse_beyond_memory(
                (MATRICES + (4 if self.adapt_rates else 0)) * dimension**2 + 4 * size * dimension,
                f"a full covariance of {dimension:,} parameters",
                "give strategy.covariance separable or limited",
            )

    def init(self, problem: Problem) -> CMAESState:
        """Start where the policy does, alike in all directions."""
        start = self._unbend(np.array(problem.start, dtype=np.float64))
        size = self.population_size(problem)
        history = stagnation.NOTHING if self._judges_returns(problem) else None
        spread = problem.start_spread
        step = self.initial_std
        if spread is not None:  # σ² is the mean variance, and the rest is C's
            step = float(np.sqrt(np.mean(spreads.to_deviations(spread) ** 2)))
        attempt = Attempt(size, step, start, start, history=history)
        begun = self._begin(0, start, attempt)
        return begun if spread is None else replace(begun, covariance=self._shape(spread, step))

    def ask(self, problem: Problem, state: CMAESState) -> Population:
        """Sample N(m, σ²C): eqs. 38-40."""
        key = noise_key(problem.seed, state.generation)
        gaussian = state.covariance.spread(state.mean, state.step_size, key)
        return problem.population(self._bend(gaussian), state.attempt.population)

    def tell(
        self, problem: Problem, state: CMAESState, population: Population, episodes: Episodes
    ) -> CMAESState:
        """Move the mean, lengthen or shorten the step, turn and stretch the covariance."""
        if isinstance(population.distribution, Boxed):
            population = replace(population, distribution=population.distribution.inner)
        fitness = episodes.fitness
        order = ranking.pick_elites(fitness, len(fitness))
        told = replace(
            state,
            generation=state.generation + 1,
            attempt=state.attempt.count(state.mean, fitness),
            elites=EliteFigures.of(episodes, fitness, order[: len(order) // 2]),
        )
        if len(order) > 1 and fitness[order[0]] > fitness[order[-1]]:
            told = self._learn(problem, told, population, fitness, order)
        # Else nothing is better than anything else: there is nothing to learn.
        if self.restarts == "none" or self._find_stop(told) is None:
            return told
        return self._restart(problem, told)

    def _learn(
        self,
        problem: Problem,
        state: CMAESState,
        population: Population,
        fitness: FloatArray,
        order: IntArray,
    ) -> CMAESState:
        """Learn from candidates ``order``, best first."""
        active = self.active and self.covariance != "limited"
        separable = self.separable
        constants = CMAConstants.of(len(order), len(state.mean), separable=separable, active=active)
        weights = np.zeros(len(fitness))
        weights[order] = share_among_equal(constants.weights, fitness[order])
        shape = state.covariance
        if isinstance(shape, LimitedMemory):
            return _update_limited(problem, state, shape, population, weights, len(order))
        return _update(problem, state, shape, population, weights, constants)

    def solution(self, problem: Problem, state: CMAESState) -> Population:
        """Deploy the mean, or a better one of an attempt before.

        Unlike the best candidate, a mean was not chosen for its luck.
        """
        found = state.attempt.solution
        return Population(self._bend(Point(state.mean if found is None else found)), 1)

    def metrics(self, state: CMAESState) -> dict[str, float]:
        """Step size, widths and condition of the search distribution."""
        std = state.step_size * state.covariance.deviations
        return {
            **state.elites.metrics(),
            "mean_norm": float(np.linalg.norm(state.mean)),
            "step_size": state.step_size,
            "std_mean": float(std.mean()),
            "std_min": float(std.min()),
            "std_max": float(std.max()),
            "condition": state.covariance.condition,
            "restarts": state.attempt.number,
        }

    def stop(self, state: CMAESState) -> str | None:
        """Stop where an attempt ends and no other follows."""
        return self._find_stop(state) if self.restarts == "none" else None

    def _find_stop(self, state: CMAESState) -> str | None:
        """Say why an attempt ends, or None.

        A search at the greatest return that an environment has is not one that stagnates:
        returns count where they are exact.
        """
        attempt, shape = state.attempt, state.covariance
        if 0 < attempt.limit <= attempt.evaluations:
            return f"a small attempt has had its {attempt.limit} evaluations"
        if self.stops == "none":
            return None
        std = state.step_size * shape.deviations
        paths = state.step_size * np.abs(shape.path)
        if np.all(np.maximum(std, paths) < self.tolerance * attempt.start_step):
            return f"steps have shrunk to {self.tolerance:g} of their start"
        if np.any(state.mean + 0.2 * std == state.mean):
            return "steps no longer change the mean"
        if shape.condition > WORST_CONDITION:
            return f"the covariance's condition is above {WORST_CONDITION:g}"
        if attempt.history is None:
            return None
        return stagnation.find_end(attempt.history, len(state.mean), attempt.population)

    def _judges_returns(self, problem: Problem) -> bool:
        """Whether returns can end an attempt."""
        exact = isinstance(problem.task, FunctionTask) and not problem.task.noisy
        return self.stops == "all" or (self.stops == "auto" and exact)

    def _restart(self, problem: Problem, state: CMAESState) -> CMAESState:
        """Begin another attempt: anywhere in the box, or as far from the start as candidates."""
        generator = strategy_generator(problem.seed, state.generation)
        if self.bounds is not None:
            start = self._unbend(generator.uniform(*self.bounds, len(state.mean)))
        else:
            start = problem.start + self.initial_std * generator.standard_normal(len(state.mean))
        if self.restarts == "ipop":
            attempt = state.attempt.follow_ipop()
        else:
            first, step = self.population_size(problem), self.initial_std
            uniform = (generator.random(), generator.random())
            attempt = state.attempt.follow_bipop(first, step, uniform)
        begun = self._begin(state.generation, start, attempt)
        return replace(begun, elites=state.elites)

    def _bend(self, distribution: Distribution) -> Distribution:
        return distribution if self.bounds is None else Boxed(distribution, *self.bounds)

    def _unbend(self, parameters: FloatArray) -> FloatArray:
        if self.bounds is None:
            return parameters
        return Boxed(Point(parameters), *self.bounds).unbend(parameters)

    def _begin(self, generation: int, mean: FloatArray, attempt: Attempt) -> CMAESState:
        size = len(mean)
        return CMAESState(
            generation=generation,
            mean=mean,
            step_size=attempt.start_step,
            covariance=self._start_shape(size),
            path_step=np.zeros(size),
            attempt=attempt,
            rates=(
                (
                    RateAdaptation(np.zeros(size), memory=0.1),
                    RateAdaptation(np.zeros((size, size)), memory=0.03),
                )
                if self.adapt_rates
                else ()
            ),
        )

    def _shape(self, spread: FloatArray, step_size: float) -> FullCovariance | DiagonalCovariance:
        path = np.zeros(len(spread))
        if self.separable:
            return DiagonalCovariance((spreads.to_deviations(spread) / step_size) ** 2, path)
        return FullCovariance.decompose(spreads.to_covariance(spread) / step_size**2, path)

    def _start_shape(self, size: int) -> FullCovariance | DiagonalCovariance | LimitedMemory:
        match self.covariance:
            case "full":
                return FullCovariance.start(size)
            case "separable":
                return DiagonalCovariance.start(size)
            case "limited":
                return LimitedMemory.start(size)


def _update(
    problem: Problem,
    state: CMAESState,
    shape: FullCovariance | DiagonalCovariance,
    population: Population,
    weights: FloatArray,
    constants: CMAConstants,
) -> CMAESState:
    """Update by the tutorial; ``weights`` (n,) of the candidates, 0 for those that failed."""
    size = len(state.mean)
    sums = shape.sum_steps(problem, population, weights)

    # Mean: only good samples pull, bad ones shape the covariance alone.
    mean = state.mean + state.step_size * sums.step  # eqs. 41 and 42, c_m = 1

    # Step size: longer where successive steps of the mean agree, shorter where they cancel.
    turn = constants.step_rate
    gain = math.sqrt(turn * (2 - turn) * constants.effective)
    path_step = (1 - turn) * state.path_step + gain * sums.white  # eq. 43
    length = math.sqrt(path_step @ path_step)
    rate = turn / constants.step_damping
    # At most by e in one update, as where a start is far too narrow.
    growth = min(1.0, rate * (length / expected_length(size) - 1))
    step_size = state.step_size * math.exp(growth)  # eq. 44

    # Covariance: rank one from the path, rank μ from the samples.
    warm = 1 - (1 - turn) ** (2 * state.attempt.generations)
    goes_on = length**2 / size / warm < 2 + 4 / (size + 1)  # h_σ
    turn = constants.path_rate
    gain = math.sqrt(turn * (2 - turn) * constants.effective) if goes_on else 0.0
    path = (1 - turn) * shape.path + gain * sums.step  # eq. 45
    stalled = 0.0 if goes_on else turn * (2 - turn)
    kept = 1 + constants.rank_one * (stalled - 1) - constants.rank_mu * float(weights.sum())
    covariance = shape.learn(sums.seen, kept, path, constants)  # eq. 47
    if not state.rates:  # else it is decomposed once it is known how much is learnt
        covariance = covariance.renew(constants)
    told = replace(
        state, mean=mean, step_size=step_size, covariance=covariance, path_step=path_step
    )
    if state.rates and isinstance(shape, FullCovariance) and isinstance(covariance, FullCovariance):
        return _slow_down(told, covariance, state, shape, sums.white)
    return told


def _slow_down(
    told: CMAESState,
    covariance: FullCovariance,
    state: CMAESState,
    shape: FullCovariance,
    white: FloatArray,
) -> CMAESState:
    """Take a part of an update: algorithm 1 of LRA-CMA-ES.

    Args:
        told: after the whole update.
        covariance: its own, not decomposed.
        state: before it.
        shape: its covariance, decomposed.
        white: the mean's step by (σ²C)^(-½), (d,).
    """
    size = len(state.mean)
    variance = state.step_size**2
    change = told.step_size**2 * covariance.matrix - variance * shape.matrix
    whiten = (shape.axes / shape.lengths) @ shape.axes.T
    local = whiten @ change @ whiten / (variance * math.sqrt(2))
    of_mean, of_covariance = state.rates
    rates = of_mean.follow(white), of_covariance.follow(local)
    whole = variance * shape.matrix + rates[1].rate * change
    found = FullCovariance.decompose(whole, covariance.path)
    step_size = math.exp(float(np.log(found.lengths).sum()) / size)  # C has the determinant 1
    return replace(
        told,
        mean=state.mean + rates[0].rate * (told.mean - state.mean),
        # Noise shortens the steps that are best: they go with the mean's rate.
        step_size=step_size * of_mean.rate / rates[0].rate,
        covariance=replace(found, matrix=whole / step_size**2, lengths=found.lengths / step_size),
        rates=rates,
    )


def _update_limited(
    problem: Problem,
    state: CMAESState,
    shape: LimitedMemory,
    population: Population,
    weights: FloatArray,
    samples: int,
) -> CMAESState:
    """Update by algorithm 1 of LM-MA-ES; ``weights`` (n,) of the candidates, >= 0."""
    size = len(state.mean)
    covariance, pull, step = shape.follow(problem, population, weights, samples)
    turn = min(1.0, 2 * samples / size)  # c_σ
    gain = math.sqrt(turn * (2 - turn) / float(weights @ weights))
    path_step = (1 - turn) * state.path_step + gain * pull
    growth = turn / 2 * (float(path_step @ path_step) / size - 1)
    return replace(
        state,
        mean=state.mean + state.step_size * step,
        step_size=state.step_size * math.exp(min(1.0, growth)),
        covariance=covariance,
        path_step=path_step,
    )
