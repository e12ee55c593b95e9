"""Hierarchical relative entropy policy search: several solutions at once.

| name | Daniel, Neumann & Peters 2012, "Hierarchical relative entropy policy search" |
|---|---|
| epsilon | ε |
| overlap | κ̃: options keep at most this share of their overlap in an update |
| gating | of π(o | s) |
| weights, covariances | of the options π(θ | s, o) = N(θ | ψ(s) W_o, Σ_o) |
| responsibilities | p̃(o | s, θ) |
| value_features, dual_features | φ, of the value function V(s) = φ(s)ᵀθ |
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from distes.errors import UsageError
from distes.population.features import FeatureChoice, Features
from distes.population.records import Population
from distes.population.upper_policies import Mixture, multiply_features
from distes.seeds import noise_key, strategy_generator
from distes.strategies.base import Problem
from distes.strategies.numerics import gaussians
from distes.strategies.numerics.hireps import weigh_options
from distes.strategies.numerics.logistic import fit_multinomial, softmax
from distes.strategies.numerics.regression import Fit
from distes.strategies.parts import upper_level
from distes.strategies.parts.gaussian_refit import Refitting
from distes.strategies.parts.relative_entropy import RelativeEntropyMetrics
from distes.strategies.parts.upper_level import Samples
from distes.types import FloatArray, Fraction, NonNegativeFloat, PositiveInt

GONE = 1e-12
"""Share of the samples' weight below which an option is removed whatever is set."""

IMPOSSIBLE = -1e300
"""Log-density in place of the -inf of an option that is too narrow for a sample."""


@dataclass(frozen=True, kw_only=True)
class OptionsMetrics(RelativeEntropyMetrics):
    """Diagnostics of the last update; NaN before the first.

    ``kl_weights`` is from the responsibilities, ``kl_gaussian`` a mean over the options, over
    the contexts of each.

    Attributes:
        xi: multiplier of the overlap, in units of the return; 0 where options are apart.
        overlap: mean entropy of the responsibilities, in nats.
    """

    xi: float = math.nan
    overlap: float = math.nan


@dataclass(frozen=True, eq=False, kw_only=True)
class OptionsState:
    """The mixture of O options, and what was learnt last.

    Attributes:
        generation: generations told, the index of the next one.
        gating: (q, O).
        weights: (O, p, d).
        covariances: (O, d, d); zero rows and columns for frozen parameters.
        shares: (O,) of the samples' weight at the last update, sum 1.
        gating_features: of the gating.
        features: ψ.
        value_features: φ.
        metrics: of the last update.
    """

    generation: int = 0
    gating: FloatArray
    weights: FloatArray
    covariances: FloatArray
    shares: FloatArray
    gating_features: Features
    features: Features
    value_features: Features
    metrics: OptionsMetrics = field(default_factory=OptionsMetrics)

    @property
    def options(self) -> list[Fit]:
        """The options one by one."""
        return [Fit(w, c) for w, c in zip(self.weights, self.covariances, strict=True)]


@dataclass(frozen=True)
class HiREPS(Refitting[OptionsState]):
    """Hierarchical REPS (Daniel et al. 2012; 2016): options, and a gating among them.

    Each option is a solution of its own, where a single Gaussian would average them into
    none. Contexts are learnt from where the task has some. Settings besides those of
    `strategies.parts.gaussian_refit.Refitting`:

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

    num_options: PositiveInt = 3
    overlap: Fraction | None = 0.9
    option_spread: NonNegativeFloat = 1.0
    prune_below: NonNegativeFloat = 0.02
    dual_features: FeatureChoice = "quadratic"
    policy_features: FeatureChoice = "affine"
    gating_features: FeatureChoice = "affine"

    def __post_init__(self) -> None:
        """Refuse options that could not become different, or would all be removed."""
        super().__post_init__()
        if self.option_spread == 0 and self.num_options > 1:
            raise UsageError(
                f"option_spread 0 makes {self.num_options} options the same, and they would "
                "stay so: give a number above 0, or num_options 1"
            )
        if self.prune_below * self.num_options >= 1:
            raise UsageError(
                f"prune_below {self.prune_below} is not in [0, {1 / self.num_options:.3g}), "
                f"below an equal share of {self.num_options} options"
            )

    def count_needed(self, problem: Problem) -> int:
        """Fewest effective samples for all options."""
        return self.num_options * super().count_needed(problem)

    def check(self, problem: Problem) -> None:
        """Refuse a start that does not fit, and populations too small to learn from."""
        super().check(problem)
        self.refuse_few(
            problem,
            self.population_size(problem),
            who=f"{self.num_options} options need",
            fewer="policy_features or options",
        )

    def init(self, problem: Problem) -> OptionsState:
        """Start with options whose means are the same for all contexts, but different."""
        features, middle, std = self.start(problem)
        gating_features = self.basis(problem, "gating_features")
        count = self.num_options
        weights = np.tile(middle, (count, 1, 1))
        if count > 1:
            # Without a constant, options can differ in how they depend on the context alone.
            varied = slice(None) if features.constant is None else [features.constant]
            noise = strategy_generator(problem.seed).standard_normal(weights[:, varied].shape)
            weights[:, varied] += self.option_spread * std * noise
        return OptionsState(
            gating=np.zeros((gating_features.num_features, count)),
            weights=weights,
            covariances=np.tile(np.diag(std**2), (count, 1, 1)),
            shares=np.full(count, 1.0 / count),
            gating_features=gating_features,
            features=features,
            value_features=self.basis(problem, "dual_features"),
        )

    def ask(self, problem: Problem, state: OptionsState) -> Population:
        """Sample the mixture."""
        mixture = _build_mixture(
            state,
            upper_level.factor_covariances(state.covariances),
            key=noise_key(problem.seed, state.generation),
            option_key=noise_key(problem.seed, state.generation, 1),
        )
        return problem.population(mixture, self.population_size(problem))

    def learn(self, state: OptionsState, samples: Samples) -> OptionsState:
        """Reweight the samples option by option, refit options and gating."""
        state = replace(state, generation=state.generation + 1)
        if len(samples) < 2:
            return state
        state = _fit_features(state, samples.contexts)
        rows = state.features(samples.contexts)
        # E-step: p̃(o | s, θ), then w_io of the bounded program (numerics.hireps, eqs. 1 and 2).
        responsibilities = _compute_responsibilities(state, samples)
        weighting = weigh_options(
            samples.returns,
            responsibilities,
            self.epsilon,
            state.value_features(samples.contexts),
            self.overlap,
        )
        shares = weighting.weights.sum(axis=0)
        kept = np.flatnonzero(
            (shares >= max(self.prune_below, GONE)) | (np.arange(len(shares)) == shares.argmax())
        )
        # M-step: each option is refitted with its own weights w_·o/Σ_i w_io, and the gating
        # with all of them.
        refits = []
        for option in kept:
            own = weighting.weights[:, option] / shares[option]
            # How much each context counts for the option; None where all do alike.
            shown = responsibilities[:, option]
            reach = shown / shown.sum() if np.ptp(shown) else None
            refits.append(self.refit(rows, samples.parameters, own, state.options[option], reach))
        weights = weighting.weights[:, kept] / shares[kept].sum()
        return replace(
            state,
            gating=fit_multinomial(state.gating_features(samples.contexts), weights),
            weights=np.stack([fit.coefficients for fit, _ in refits]),
            covariances=np.stack([fit.covariance for fit, _ in refits]),
            shares=shares[kept] / shares[kept].sum(),
            metrics=OptionsMetrics(
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
        key = upper_level.NO_NOISE
        mixture = _build_mixture(state, still, key=key, option_key=key)
        return Population(replace(mixture, greedy=True), 1)

    def metrics(self, state: OptionsState) -> dict[str, float]:
        """Diagnostics of the update; entropy and widths of the options."""
        return {
            **vars(state.metrics),
            "num_options": len(state.weights),
            **upper_level.describe_width(state.covariances, state.shares),
        }

    def stop(self, state: OptionsState) -> str | None:
        """Stop when no option leaves anything to search."""
        if all(upper_level.has_shrunk(each, self.initial_std) for each in state.covariances):
            return "all options have shrunk to a point"
        return None


def _build_mixture(
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


def _fit_features(state: OptionsState, contexts: FloatArray) -> OptionsState:
    """Adapt all features to contexts, (N, k); coefficients they gain start at zero."""
    features = state.features.adapt_to(contexts)
    gating_features = state.gating_features.adapt_to(contexts)
    if not state.metrics.samples:  # the first generation that is learnt from
        upper_level.warn_of_dependence(features, contexts, "policy_features")
        upper_level.warn_of_dependence(gating_features, contexts, "gating_features")
    return replace(
        state,
        features=features,
        weights=np.stack([upper_level.grow_weights(each, features) for each in state.weights]),
        gating_features=gating_features,
        gating=upper_level.grow_weights(state.gating, gating_features),
        value_features=state.value_features.adapt_to(contexts),
    )


def _compute_responsibilities(state: OptionsState, samples: Samples) -> FloatArray:
    """p̃(o | s, θ) ∝ π(o | s) π(θ | s, o) by Bayes' rule, (N, O)."""
    count = len(samples)
    if len(state.weights) == 1:
        return np.ones((count, 1))
    free, _ = upper_level.take_free(state.covariances[0])
    rows = state.features(samples.contexts)
    # log π(o | s), up to what all options of a context have in common
    logits = multiply_features(state.gating_features, state.gating, samples.contexts, count)
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
