"""What REPS and CREPS share: a linear-Gaussian upper policy, reweighted samples, a refit.

| name | Deisenroth, Neumann & Peters 2013, 2.4.3 |
|---|---|
| epsilon | ε |
| dual_features | φ, of the value function V(s) = φ(s)ᵀθ |
| policy_features | ψ, of the mean of π(θ | s) |
| weights | W, of the mean ψ(s) W |
| covariance | Σ |
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, field, replace

import numpy as np

from distes.errors import UsageError
from distes.population.features import Features
from distes.population.records import Episodes, Population
from distes.strategies.base import Problem
from distes.strategies.numerics.regression import Fit
from distes.strategies.numerics.reps import weigh
from distes.strategies.parts import upper_level
from distes.strategies.parts.gaussian_refit import Refitting
from distes.strategies.parts.importance import Generation, importance
from distes.strategies.parts.upper_level import Samples
from distes.types import FloatArray


@dataclass(frozen=True)
class Figures:
    """Diagnostics of the last update; NaN before the first.

    Attributes:
        eta: temperature of the weights, in units of the return.
        kl_weights: KL(w ‖ q) of the weights.
        kl_gaussian: mean over the contexts of KL(old ‖ new) of the policies.
        ess: effective samples.
        feature_error: how far the weighted features are from their mean.
        samples: that the update used.
    """

    eta: float = math.nan
    kl_weights: float = math.nan
    kl_gaussian: float = math.nan
    ess: float = math.nan
    feature_error: float = math.nan
    samples: int = 0


@dataclass(frozen=True, eq=False)
class UpperState:
    """The upper-level policy, and what was learnt last.

    Attributes:
        generation: generations told, the index of the next one.
        weights: (p, d).
        covariance: (d, d); zero rows and columns for frozen parameters.
        features: ψ.
        dual_features: φ.
        memory: earlier generations, newest first.
        figures: of the last update.
    """

    generation: int
    weights: FloatArray
    covariance: FloatArray
    features: Features
    dual_features: Features
    memory: tuple[Generation, ...] = ()
    figures: Figures = field(default_factory=Figures)


@dataclass(frozen=True)
class RelativeEntropy(Refitting[UpperState]):
    """Reweights a generation's samples within a KL bound, and refits a linear Gaussian.

    Settings besides those of `strategies.refitting.Refitting`:

    Attributes:
        reuse: earlier generations whose samples are used again, with importance weights.
    """

    reuse: int = 0

    def __post_init__(self) -> None:
        """Refuse a negative number of generations."""
        super().__post_init__()
        if self.reuse < 0:
            raise UsageError(f"reuse {self.reuse} is not at least 0")

    @abstractmethod
    def contextual(self, problem: Problem) -> bool:
        """Whether contexts are learnt from."""

    @abstractmethod
    def policy_basis(self, problem: Problem) -> Features:
        """ψ, before any context was seen."""

    @abstractmethod
    def dual_basis(self, problem: Problem) -> Features:
        """φ, before any context was seen."""

    def population_size(self, problem: Problem) -> int:
        """As asked, else ten times what a regression and a covariance need."""
        if problem.population_size is not None:
            return problem.population_size
        return upper_level.default_size(
            self.needed(problem, self.policy_basis(problem)), self.epsilon
        )

    def check(self, problem: Problem) -> None:
        """Refuse a start that does not fit, and populations too small to learn from."""
        self.check_start(problem)
        size = self.population_size(problem)
        self.refuse_few(problem, size, "a population of", "policy_features (or reuse samples)")

    def check_start(self, problem: Problem) -> None:
        """Refuse features, and a start, that do not fit the problem."""
        mean = upper_level.start_mean(problem, self.initial_mean)
        upper_level.start_std(problem, self.initial_std)
        upper_level.initial_weights(self.policy_basis(problem), mean)
        self.dual_basis(problem)
        if self.contextual(problem):
            upper_level.refuse_repeats(problem)

    def refuse_few(self, problem: Problem, size: int, what: str, others: str) -> None:
        """Refuse samples that are too few for the features.

        Args:
            problem: whose policy is learnt.
            size: samples of an update.
            what: they are called.
            others: what else may be given fewer, or more.
        """
        needed = self.needed(problem, self.policy_basis(problem))
        effective = size * (1 + self.reuse) * math.exp(-self.epsilon)
        if effective < needed:
            raise UsageError(
                f"{what} {size} gives at most {effective:.1f} effective samples with "
                f"epsilon {self.epsilon:g}, and the update needs {needed}: give {what} "
                f"{math.ceil(needed * math.exp(self.epsilon) / (1 + self.reuse))}, a smaller "
                f"epsilon, or fewer {others}"
            )

    def init(self, problem: Problem) -> UpperState:
        """Start with a mean that is the same for all contexts."""
        features = self.policy_basis(problem)
        mean = upper_level.start_mean(problem, self.initial_mean)
        std = upper_level.start_std(problem, self.initial_std)
        return UpperState(
            generation=0,
            weights=upper_level.initial_weights(features, mean),
            covariance=np.diag(std**2),
            features=features,
            dual_features=self.dual_basis(problem),
        )

    def ask(self, problem: Problem, state: UpperState) -> Population:
        """Sample the upper policy."""
        drawn = upper_level.gaussian(
            problem, state.weights, state.covariance, state.features, state.generation
        )
        return problem.population(drawn, self.population_size(problem))

    def tell(
        self, problem: Problem, state: UpperState, population: Population, episodes: Episodes
    ) -> UpperState:
        """Reweight the samples, refit the policy."""
        contextual = self.contextual(problem)
        return self.learn(
            state, upper_level.samples_of(population, episodes, contextual=contextual)
        )

    def learn(self, state: UpperState, samples: Samples) -> UpperState:
        """Update from samples of the state's policy, wherever they come from."""
        state = replace(state, generation=state.generation + 1)
        if len(samples) < 2:
            return state
        features = state.features.fitted(samples.contexts)
        dual_features = state.dual_features.fitted(samples.contexts)
        if not state.figures.samples:  # of the first generation that is learnt from
            upper_level.tell_of_dependent(features, samples.contexts, "policy_features")
        state = replace(
            state,
            features=features,
            dual_features=dual_features,
            weights=upper_level.grown(state.weights, features),
        )
        own = Generation(samples, state.weights, state.covariance, features)
        used = (own, *state.memory)
        weighting = weigh(
            np.concatenate([each.samples.returns for each in used]),
            self.epsilon,
            dual_features(np.concatenate([each.samples.contexts for each in used])),
            importance(used),
        )
        fit, divergence = self.refit(
            features(np.concatenate([each.samples.contexts for each in used])),
            np.concatenate([each.samples.parameters for each in used]),
            weighting.weights,
            Fit(state.weights, state.covariance),
        )
        return replace(
            state,
            weights=fit.coefficients,
            covariance=fit.covariance,
            memory=used[: self.reuse],
            figures=Figures(
                eta=weighting.eta,
                kl_weights=weighting.kl,
                kl_gaussian=divergence,
                ess=weighting.ess,
                feature_error=weighting.feature_error,
                samples=len(weighting.weights),
            ),
        )

    def solution(self, problem: Problem, state: UpperState) -> Population:
        """Deploy the mean: a function of the context."""
        return upper_level.deployed(state.weights, state.features)

    def metrics(self, state: UpperState) -> dict[str, float]:
        """Diagnostics of the update, and the width of the policy."""
        figures = state.figures
        return {
            "eta": figures.eta,
            "kl_weights": figures.kl_weights,
            "kl_gaussian": figures.kl_gaussian,
            "ess": figures.ess,
            "feature_error": figures.feature_error,
            "samples": figures.samples,
            **upper_level.width(state.covariance),
        }

    def stop(self, state: UpperState) -> str | None:
        """Stop when all candidates of a context would be the same."""
        return upper_level.shrunk(state.covariance, self.initial_std)
