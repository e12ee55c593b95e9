"""Model-based relative entropy stochastic search (Abdolmaleki et al. 2015, "MORE").

Contextual: Tangkaratt et al. 2017, "Policy search with high-dimensional context variables".

| name | paper |
|---|---|
| epsilon | ε, bound on KL(new ‖ old) |
| entropy_rate, min_entropy | γ, H0: the entropy is kept above β = γ(H − H0) + H0 |
| policy_features | φ(s) of the policy's mean, and of the model's terms linear in θ |
| baseline_features | of the model's function of the context |
| weights, covariance | of the mean ψ(s) W; Q |
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from distes.errors import UsageError
from distes.population.features import FeatureChoice, Features, make
from distes.population.records import Episodes, Population
from distes.strategies.base import Problem, Strategy
from distes.strategies.numerics import gaussians, more, surrogate
from distes.strategies.parts import upper_level
from distes.strategies.parts.importance import Generation, importance
from distes.types import FloatArray

OWN_DEPTH = math.log(1e6)
"""Nats for each parameter from the entropy at the start to a min_entropy of our own."""


@dataclass(frozen=True)
class Figures:
    """Diagnostics of the last update; NaN before the first.

    Attributes:
        eta: multiplier of the KL bound, in units of the return.
        omega: multiplier of the entropy bound, likewise.
        kl_gaussian: mean over the contexts of KL(new ‖ old).
        surrogate_r2: share of the returns' variance, beyond what contexts explain, that the
            model predicts for samples left out; not above 0 where it has learnt nothing,
            and then the policy stays.
        penalty: of the model's regression, per sample.
        ess: effective samples that the model was fitted to.
        samples: that the update used.
    """

    eta: float = math.nan
    omega: float = math.nan
    kl_gaussian: float = math.nan
    surrogate_r2: float = math.nan
    penalty: float = math.nan
    ess: float = math.nan
    samples: int = 0


@dataclass(frozen=True, eq=False)
class MOREState:
    """The upper-level policy, and what was learnt last.

    Attributes:
        generation: generations told, the index of the next one.
        weights: (p, d).
        covariance: (d, d); zero rows and columns for frozen parameters.
        min_entropy: H0.
        features: of the policy.
        baseline: features of the model's function of the context.
        memory: earlier generations, newest first.
        figures: of the last update.
    """

    generation: int
    weights: FloatArray
    covariance: FloatArray
    min_entropy: float
    features: Features
    baseline: Features
    memory: tuple[Generation, ...] = ()
    figures: Figures = field(default_factory=Figures)


@dataclass(frozen=True)
class MORE(Strategy[MOREState]):
    """Fits a quadratic model of the return, and maximises it within a KL bound.

    Abdolmaleki et al. 2015, and with contexts Tangkaratt et al. 2017. A model that predicts
    nothing of samples left out is not followed.

    Attributes:
        epsilon: bound on the KL divergence of an update, in nats, > 0.
        entropy_rate: share of the entropy above its least that an update keeps, in [0, 1];
            the nearer to 1, the slower the search narrows.
        min_entropy: least entropy of the policy, in nats; none is where standard deviations
            are a millionth of those at the start.
        policy_features: of the policy's mean: constant, linear, affine, quadratic, cubic,
            rbf:COUNT, or a function contexts (m, k) -> (m, p).
        baseline_features: of the returns that a context alone explains, likewise.
        initial_mean: where to start, one number for each parameter; none is where the
            policy starts.
        initial_std: at the start, one number or one for each parameter; a parameter with 0
            is frozen where it starts.
        min_std: least standard deviation in any direction that is not frozen, >= 0.
        reuse: earlier generations whose samples are used again, with importance weights.
    """

    epsilon: float = 0.5
    entropy_rate: float = 0.99
    min_entropy: float | None = None
    policy_features: FeatureChoice = "affine"
    baseline_features: FeatureChoice = "quadratic"
    initial_mean: tuple[float, ...] | None = None
    initial_std: float | tuple[float, ...] = 1.0
    min_std: float = 0.0
    reuse: int = 4

    def __post_init__(self) -> None:
        """Refuse settings outside their ranges."""
        if not 0 < self.epsilon < math.inf:
            raise UsageError(f"epsilon {self.epsilon} is not a finite number > 0")
        if not 0 <= self.entropy_rate <= 1:
            raise UsageError(f"entropy_rate {self.entropy_rate} is not in [0, 1]")
        if self.min_entropy is not None and not math.isfinite(self.min_entropy):
            raise UsageError(f"min_entropy {self.min_entropy} is not a finite number")
        if not 0 <= self.min_std < math.inf:
            raise UsageError(f"min_std {self.min_std} is not a finite number >= 0")
        if self.reuse < 0:
            raise UsageError(f"reuse {self.reuse} is not at least 0")
        upper_level.refuse_bad_std(self.initial_std, self.min_std)

    def population_size(self, problem: Problem) -> int:
        """As asked, else twice the terms that are linear in the parameters."""
        if problem.population_size is not None:
            return problem.population_size
        return max(50, 2 * problem.num_parameters * self._columns(problem))

    def check(self, problem: Problem) -> None:
        """Refuse a start that does not fit, and populations too small to learn from."""
        mean = upper_level.start_mean(problem, self.initial_mean)
        upper_level.start_std(problem, self.initial_std)
        upper_level.initial_weights(self._policy_basis(problem), mean)
        if problem.num_contexts:
            upper_level.refuse_repeats(problem)
        size = self.population_size(problem)
        needed = upper_level.full_size(self._baseline_basis(problem)) + self._columns(problem) + 1
        if size < needed:
            raise UsageError(
                f"a population of {size} is too small for the model: give at least {needed}, or "
                "fewer policy_features or baseline_features"
            )

    def init(self, problem: Problem) -> MOREState:
        """Start with a mean that is the same for all contexts."""
        features = self._policy_basis(problem)
        std = upper_level.start_std(problem, self.initial_std)
        least = self.min_entropy
        if least is None:
            free = std[std > 0]
            least = gaussians.entropy(np.diag(free**2)) - OWN_DEPTH * len(free)
        return MOREState(
            generation=0,
            weights=upper_level.initial_weights(
                features, upper_level.start_mean(problem, self.initial_mean)
            ),
            covariance=np.diag(std**2),
            min_entropy=least,
            features=features,
            baseline=self._baseline_basis(problem),
        )

    def ask(self, problem: Problem, state: MOREState) -> Population:
        """Sample the upper policy."""
        drawn = upper_level.gaussian(
            problem, state.weights, state.covariance, state.features, state.generation
        )
        return problem.population(drawn, self.population_size(problem))

    def tell(
        self, problem: Problem, state: MOREState, population: Population, episodes: Episodes
    ) -> MOREState:
        """Fit the model, move to where it is high."""
        samples = upper_level.samples_of(population, episodes, contextual=problem.num_contexts > 0)
        first = state.generation == 0
        state = replace(state, generation=state.generation + 1)
        if len(samples) < 2:
            return state
        features = state.features.fitted(samples.contexts)
        if first:
            upper_level.tell_of_dependent(features, samples.contexts, "policy_features")
        state = replace(
            state,
            features=features,
            baseline=state.baseline.fitted(samples.contexts),
            weights=upper_level.grown(state.weights, features),
        )
        own = Generation(samples, state.weights, state.covariance, features)
        used = (own, *state.memory)
        return replace(self._learnt(state, used), memory=used[: self.reuse])

    def _learnt(self, state: MOREState, used: tuple[Generation, ...]) -> MOREState:
        free = np.diag(state.covariance) > 0
        factor = upper_level.root(state.covariance)[np.ix_(free, free)]
        contexts = np.concatenate([each.samples.contexts for each in used])
        rows = state.features(contexts)
        parameters = np.concatenate([each.samples.parameters for each in used])[:, free]
        apart = parameters - rows @ state.weights[:, free]
        given = importance(used)
        weights: FloatArray = np.ones(len(rows)) if given is None else given
        figures = Figures(
            kl_gaussian=0.0,
            ess=float(weights.sum() ** 2 / (weights @ weights)),
            samples=len(rows),
        )
        model = surrogate.fit(
            np.asarray(np.linalg.solve(factor, apart.T).T, dtype=np.float64),
            rows,
            np.column_stack([np.ones(len(rows)), state.baseline(contexts)]),
            np.concatenate([each.samples.returns for each in used]),
            weights,
        )
        if model is None:
            return replace(state, figures=figures)
        figures = replace(figures, surrogate_r2=model.r2, penalty=model.penalty)
        if model.r2 <= 0:
            # Noise: a bound of ε would be spent on it all the same, in a random direction.
            return replace(state, figures=figures)
        entropy = gaussians.entropy(state.covariance[np.ix_(free, free)])
        new = more.update(
            model.quadratic,
            model.linear,
            state.features(used[0].samples.contexts),
            epsilon=self.epsilon,
            entropy_change=(self.entropy_rate - 1) * (entropy - state.min_entropy),
        )
        covariance = factor @ new.covariance @ factor.T
        coefficients = state.weights.copy()
        coefficients[:, free] += new.shift @ factor.T
        if not upper_level.usable(coefficients, covariance):
            return replace(state, figures=figures)
        covariance = upper_level.embedded((covariance + covariance.T) / 2, free)
        floored = upper_level.floored(covariance, self.min_std)
        now = state.features(used[0].samples.contexts)
        moved = gaussians.kl(
            now @ coefficients[:, free],
            floored[np.ix_(free, free)],
            now @ state.weights[:, free],
            state.covariance[np.ix_(free, free)],
        )
        return replace(
            state,
            weights=coefficients,
            covariance=floored,
            figures=replace(figures, eta=new.eta, omega=new.omega, kl_gaussian=moved),
        )

    def solution(self, problem: Problem, state: MOREState) -> Population:
        """Deploy the mean: a function of the context."""
        return upper_level.deployed(state.weights, state.features)

    def metrics(self, state: MOREState) -> dict[str, float]:
        """Diagnostics of the update, and the width of the policy."""
        figures = state.figures
        return {
            "eta": figures.eta,
            "omega": figures.omega,
            "kl_gaussian": figures.kl_gaussian,
            "surrogate_r2": figures.surrogate_r2,
            "penalty": figures.penalty,
            "ess": figures.ess,
            "samples": figures.samples,
            **upper_level.width(state.covariance),
        }

    def stop(self, state: MOREState) -> str | None:
        """Stop when all candidates of a context would be the same."""
        return upper_level.shrunk(state.covariance, self.initial_std)

    def _columns(self, problem: Problem) -> int:
        return upper_level.full_size(self._policy_basis(problem))

    def _policy_basis(self, problem: Problem) -> Features:
        return make(self.policy_features, problem.num_contexts, "policy_features")

    def _baseline_basis(self, problem: Problem) -> Features:
        return make(self.baseline_features, problem.num_contexts, "baseline_features")
