"""Hierarchical relative entropy policy search: several solutions at once.

| name | Daniel, Neumann & Peters 2012, "Hierarchical relative entropy policy search" |
|---|---|
| epsilon | ε |
| overlap | κ̃: options keep at most this share of their overlap in an update |
| gating | of π(o | s) |
| weights, covariances | of the options π(θ | s, o) = N(θ | ψ(s) W_o, Σ_o) |
| responsibilities | p̃(o | s, θ) |
| dual_features | φ, of the value function V(s) = φ(s)ᵀθ |
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from distes.errors import UsageError
from distes.population.features import FeatureChoice, Features, make
from distes.population.records import Episodes, Population
from distes.population.upper_policies import Mixture, linear
from distes.seeds import noise_key, strategy_generator
from distes.strategies.base import Problem
from distes.strategies.numerics import gaussians
from distes.strategies.numerics.hireps import weigh
from distes.strategies.numerics.logistic import multinomial_fit, softmax
from distes.strategies.numerics.regression import Fit
from distes.strategies.parts import upper_level
from distes.strategies.parts.gaussian_refit import Refitting
from distes.strategies.parts.upper_level import Samples
from distes.types import FloatArray

GONE = 1e-12
"""Share of the samples' weight below which an option is removed whatever is set."""

IMPOSSIBLE = -1e300
"""Log-density in place of the -inf of an option that is too narrow for a sample."""


@dataclass(frozen=True)
class Figures:
    """Diagnostics of the last update; NaN before the first.

    Attributes:
        eta: temperature of the weights, in units of the return.
        xi: multiplier of the overlap, in units of the return; 0 where options are apart.
        kl_weights: KL of the weights from the responsibilities.
        kl_gaussian: mean over the options of KL(old ‖ new), over the contexts of each.
        ess: effective samples.
        feature_error: how far the weighted features are from their mean.
        overlap: mean entropy of the responsibilities, in nats.
        samples: that the update used.
    """

    eta: float = math.nan
    xi: float = math.nan
    kl_weights: float = math.nan
    kl_gaussian: float = math.nan
    ess: float = math.nan
    feature_error: float = math.nan
    overlap: float = math.nan
    samples: int = 0


@dataclass(frozen=True, eq=False)
class OptionsState:
    """The mixture of options, and what was learnt last.

    Attributes:
        generation: generations told, the index of the next one.
        gating: (q, O).
        weights: (O, p, d).
        covariances: (O, d, d); zero rows and columns for frozen parameters.
        shares: (O,) of the samples' weight at the last update, sum 1.
        gating_features: of the gating.
        features: ψ.
        dual_features: φ.
        figures: of the last update.
    """

    generation: int
    gating: FloatArray
    weights: FloatArray
    covariances: FloatArray
    shares: FloatArray
    gating_features: Features
    features: Features
    dual_features: Features
    figures: Figures = field(default_factory=Figures)

    @property
    def options(self) -> list[Fit]:
        """The options one by one."""
        return [Fit(w, c) for w, c in zip(self.weights, self.covariances, strict=True)]


@dataclass(frozen=True)
class HiREPS(Refitting[OptionsState]):
    """Hierarchical REPS (Daniel et al. 2012; 2016): options, and a gating among them.

    Each option is a solution of its own, where a single Gaussian would average them into
    none. Contexts are learnt from where the task has some. Settings besides those of
    `strategies.refitting.Refitting`:

    Attributes:
        num_options: at the start; more are more likely to find all solutions.
        overlap: share of their overlap that options keep at most in an update, in (0, 1];
            none for no bound.
        option_spread: of the options' means at the start, which are drawn from the initial
            Gaussian, in its standard deviations.
        prune_below: options that get less than this share of the samples' weight are
            removed, >= 0.
        dual_features: of the value function, which tells a good sample from a lucky
            context: constant, linear, affine, quadratic, cubic, rbf:COUNT, or a function
            contexts (m, k) -> (m, p).
        policy_features: of the options' means, likewise.
        gating_features: of the gating, likewise.
    """

    num_options: int = 3
    overlap: float | None = 0.9
    option_spread: float = 1.0
    prune_below: float = 0.02
    dual_features: FeatureChoice = "quadratic"
    policy_features: FeatureChoice = "affine"
    gating_features: FeatureChoice = "affine"

    def __post_init__(self) -> None:
        """Refuse settings outside their ranges."""
        super().__post_init__()
        if self.num_options < 1:
            raise UsageError(f"num_options {self.num_options} is not at least 1")
        if self.overlap is not None and not 0 < self.overlap <= 1:
            raise UsageError(f"overlap {self.overlap} is not in (0, 1], or none")
        if not 0 <= self.option_spread < math.inf:
            raise UsageError(f"option_spread {self.option_spread} is not a finite number >= 0")
        if self.option_spread == 0 and self.num_options > 1:
            raise UsageError(
                f"option_spread 0 makes {self.num_options} options the same, and they would "
                "stay so: give a number above 0, or num_options 1"
            )
        if not 0 <= self.prune_below * self.num_options < 1:
            raise UsageError(
                f"prune_below {self.prune_below} is not in [0, {1 / self.num_options:.3g}), "
                f"below an equal share of {self.num_options} options"
            )

    def population_size(self, problem: Problem) -> int:
        """As asked, else ten times what the options' regressions need."""
        if problem.population_size is not None:
            return problem.population_size
        return upper_level.default_size(self._least(problem), self.epsilon)

    def check(self, problem: Problem) -> None:
        """Refuse a start that does not fit, and populations too small to learn from."""
        mean = upper_level.start_mean(problem, self.initial_mean)
        upper_level.start_std(problem, self.initial_std)
        upper_level.initial_weights(self._basis(problem, "policy_features"), mean)
        self._basis(problem, "gating_features")
        self._basis(problem, "dual_features")
        if problem.num_contexts:
            upper_level.refuse_repeats(problem)
        size, needed = self.population_size(problem), self._least(problem)
        effective = size * math.exp(-self.epsilon)
        if effective < needed:
            raise UsageError(
                f"a population of {size} has at most {effective:.1f} effective samples with "
                f"epsilon {self.epsilon:g}, and {self.num_options} options need {needed}: give "
                f"a population of {math.ceil(needed * math.exp(self.epsilon))}, a smaller "
                "epsilon, fewer policy_features, or fewer options"
            )

    def _least(self, problem: Problem) -> int:
        """Fewest effective samples for all options."""
        return self.num_options * self.needed(problem, self._basis(problem, "policy_features"))

    def _basis(self, problem: Problem, name: str) -> Features:
        """Features as chosen, before any context was seen; of no context a constant."""
        if name != "policy_features" and not problem.num_contexts:
            return make("constant", 0)
        return make(getattr(self, name), problem.num_contexts, name)

    def init(self, problem: Problem) -> OptionsState:
        """Start with options whose means are the same for all contexts, but different."""
        features = self._basis(problem, "policy_features")
        gating_features = self._basis(problem, "gating_features")
        std = upper_level.start_std(problem, self.initial_std)
        middle = upper_level.initial_weights(
            features, upper_level.start_mean(problem, self.initial_mean)
        )
        count = self.num_options
        weights = np.tile(middle, (count, 1, 1))
        if count > 1:
            # Without a constant, options can differ in how they depend on the context alone.
            moved = slice(None) if features.constant is None else [features.constant]
            noise = strategy_generator(problem.seed).standard_normal(weights[:, moved].shape)
            weights[:, moved] += self.option_spread * std * noise
        return OptionsState(
            generation=0,
            gating=np.zeros((gating_features.num_features, count)),
            weights=weights,
            covariances=np.tile(np.diag(std**2), (count, 1, 1)),
            shares=np.full(count, 1.0 / count),
            gating_features=gating_features,
            features=features,
            dual_features=self._basis(problem, "dual_features"),
        )

    def ask(self, problem: Problem, state: OptionsState) -> Population:
        """Sample the mixture."""
        drawn = _mixture(
            state,
            upper_level.scales(state.covariances),
            key=noise_key(problem.seed, state.generation),
            option_key=noise_key(problem.seed, state.generation, 1),
        )
        return problem.population(drawn, self.population_size(problem))

    def tell(
        self, problem: Problem, state: OptionsState, population: Population, episodes: Episodes
    ) -> OptionsState:
        """Reweight the samples option by option, refit options and gating."""
        contextual = problem.num_contexts > 0
        return self.learn(
            state, upper_level.samples_of(population, episodes, contextual=contextual)
        )

    def learn(self, state: OptionsState, samples: Samples) -> OptionsState:
        """Update from samples of the state's mixture, wherever they come from."""
        first = state.generation == 0
        state = replace(state, generation=state.generation + 1)
        if len(samples) < 2:
            return state
        state = _fitted(state, samples.contexts)
        if first:
            upper_level.tell_of_dependent(state.features, samples.contexts, "policy_features")
            upper_level.tell_of_dependent(
                state.gating_features, samples.contexts, "gating_features"
            )
        responsibilities = _responsibilities(state, samples)
        weighting = weigh(
            samples.returns,
            responsibilities,
            self.epsilon,
            state.dual_features(samples.contexts),
            self.overlap,
        )
        shares = weighting.weights.sum(axis=0)
        kept = np.flatnonzero(
            (shares >= max(self.prune_below, GONE)) | (np.arange(len(shares)) == shares.argmax())
        )
        refits = [
            self.refit(
                state.features(samples.contexts),
                samples.parameters,
                weighting.weights[:, option] / shares[option],
                state.options[option],
                _reach(responsibilities[:, option]),
            )
            for option in kept
        ]
        weights = weighting.weights[:, kept] / shares[kept].sum()
        return replace(
            state,
            gating=multinomial_fit(state.gating_features(samples.contexts), weights),
            weights=np.stack([fit.coefficients for fit, _ in refits]),
            covariances=np.stack([fit.covariance for fit, _ in refits]),
            shares=shares[kept] / shares[kept].sum(),
            figures=Figures(
                eta=weighting.eta,
                xi=weighting.xi,
                kl_weights=weighting.kl,
                kl_gaussian=float(np.mean([divergence for _, divergence in refits])),
                ess=weighting.ess,
                feature_error=weighting.feature_error,
                overlap=weighting.entropy,
                samples=len(samples),
            ),
        )

    def solution(self, problem: Problem, state: OptionsState) -> Population:
        """Deploy the mean of the likeliest option for a context."""
        still = np.zeros((len(state.weights), state.weights.shape[2]))
        deployed = _mixture(state, still, key=upper_level.NO_NOISE, option_key=upper_level.NO_NOISE)
        return Population(replace(deployed, greedy=True), 1)

    def metrics(self, state: OptionsState) -> dict[str, float]:
        """Diagnostics of the update; entropy and widths of the options."""
        std = np.concatenate([upper_level.free_std(each) for each in state.covariances])
        entropies = np.array([upper_level.free_entropy(each) for each in state.covariances])
        figures = state.figures
        return {
            "eta": figures.eta,
            "xi": figures.xi,
            "kl_weights": figures.kl_weights,
            "kl_gaussian": figures.kl_gaussian,
            "ess": figures.ess,
            "feature_error": figures.feature_error,
            "overlap": figures.overlap,
            "samples": figures.samples,
            "num_options": len(state.weights),
            "entropy": float(state.shares @ entropies),
            "std_mean": float(std.mean()),
            "std_min": float(std.min()),
            "std_max": float(std.max()),
        }

    def stop(self, state: OptionsState) -> str | None:
        """Stop when no option leaves anything to search."""
        if all(upper_level.shrunk(each.covariance, self.initial_std) for each in state.options):
            return "all options have shrunk to a point"
        return None


def _mixture(
    state: OptionsState, scales: FloatArray, *, key: tuple[int, int], option_key: tuple[int, int]
) -> Mixture:
    return Mixture(
        gating=state.gating,
        weights=state.weights,
        scales=scales,
        gating_features=state.gating_features,
        features=state.features,
        key=key,
        option_key=option_key,
    )


def _fitted(state: OptionsState, contexts: FloatArray) -> OptionsState:
    """Adapt all features to contexts; what they gain starts at zero."""
    features = state.features.fitted(contexts)
    gating_features = state.gating_features.fitted(contexts)
    return replace(
        state,
        features=features,
        weights=np.stack([upper_level.grown(each, features) for each in state.weights]),
        gating_features=gating_features,
        gating=upper_level.grown(state.gating, gating_features),
        dual_features=state.dual_features.fitted(contexts),
    )


def _responsibilities(state: OptionsState, samples: Samples) -> FloatArray:
    """p̃(o | s, θ) ∝ π(o | s) π(θ | s, o), (N, O)."""
    count = len(samples)
    if len(state.weights) == 1:
        return np.ones((count, 1))
    free = np.diag(state.covariances[0]) > 0
    rows = state.features(samples.contexts)
    logits = linear(state.gating_features, state.gating, samples.contexts, count)
    with np.errstate(over="ignore"):
        densities = np.column_stack(
            [
                gaussians.log_density(
                    samples.parameters[:, free],
                    rows @ option.coefficients[:, free],
                    option.covariance[np.ix_(free, free)],
                )
                for option in state.options
            ]
        )
    return softmax(logits + np.maximum(densities, IMPOSSIBLE))


def _reach(responsibilities: FloatArray) -> FloatArray | None:
    """How much each sample's context counts for an option; None where all do alike."""
    if (responsibilities == responsibilities[0]).all():
        return None
    reach: FloatArray = responsibilities / responsibilities.sum()
    return reach
