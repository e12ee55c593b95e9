"""What strategies that refit Gaussians to weighted samples share: their settings, the refit.

| name | Deisenroth, Neumann & Peters 2013, "A survey on policy search for robotics", 2.4 |
|---|---|
| epsilon | ε |
| rows | ψ(s_i) |
| weights | w_i, of the samples |
| coefficients, covariance | W and Σ of π(θ | s) = N(θ | ψ(s) W, Σ) |
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from distes.errors import UsageError
from distes.strategies.base import Problem
from distes.strategies.numerics import gaussians
from distes.strategies.numerics.moments import effective_size
from distes.strategies.numerics.regression import Fit, fit_constrained, fit_weighted
from distes.strategies.parts import upper_level
from distes.strategies.parts.upper_level import UpperLevel
from distes.types import FloatArray, NonNegativeFloat, PositiveFloat

S = TypeVar("S")

WIDE = 18.0
"""Nats above which a bound asks for more than a hundred million candidates."""


@dataclass(frozen=True)
class Refitting(UpperLevel[S]):
    """Refits linear Gaussians to samples that were weighted within a KL bound.

    Attributes:
        epsilon: bound on the KL divergence of an update, in nats, > 0.
        update: ``constrained`` keeps the fitted Gaussian itself within the bound; ``ml`` is
            plain weighted maximum likelihood, which may exceed it by far.
        entropy_loss: with ``constrained``, most entropy that an update takes, in nats,
            >= 0; none for no limit.
        normaliser: of the covariance with ``ml``: ``standard``, or ``regression``, which
            corrects for the coefficients, too.
        covariance: ``full`` or ``diagonal``.
    """

    epsilon: PositiveFloat = 0.5
    update: Literal["constrained", "ml"] = "constrained"
    entropy_loss: NonNegativeFloat | None = None
    normaliser: Literal["standard", "regression"] = "standard"
    covariance: Literal["full", "diagonal"] = "full"

    def __post_init__(self) -> None:
        """Refuse settings that belong to the other kind of update."""
        super().__post_init__()
        if self.entropy_loss is not None and self.update != "constrained":
            raise UsageError("entropy_loss is kept by update 'constrained' alone")
        if self.normaliser != "standard" and self.update != "ml":
            raise UsageError(f"normaliser '{self.normaliser}' is of update 'ml' alone")

    def count_needed(self, problem: Problem) -> int:
        """Fewest effective samples: columns and, without a trust region, free parameters."""
        columns = upper_level.count_features(self.basis(problem, "policy_features"))
        if self.update == "constrained":
            return columns + 1
        free = int((self.start_std(problem) > 0).sum())
        return columns + (free if self.covariance == "full" else 1)

    def default_population(self, problem: Problem) -> int:
        """Ten times the effective samples that an update needs, more with a wide bound."""
        times = max(10.0, 1.5 * math.exp(min(self.epsilon, WIDE)))
        return max(50, math.ceil(self.count_needed(problem) * times))

    def refuse_few(
        self,
        problem: Problem,
        size: int,
        *,
        what: str = "a population of",
        who: str = "the update needs",
        fewer: str = "policy_features",
        generations: int = 1,
    ) -> None:
        """Refuse samples of which too few are effective.

        Weights that use up the bound leave at most N e^-ε of N samples effective, since
        ε = Σ w log(N w) ≤ log(N Σ w²).

        Args:
            problem: whose policy is learnt.
            size: samples of a generation.
            what: they are called.
            who: needs effective samples.
            fewer: what there may be less of instead.
            generations: whose samples are used in one update.

        Raises:
            UsageError: they are too few; the sentence says how many would do.
        """
        needed = self.count_needed(problem)
        effective = size * generations * math.exp(-self.epsilon)
        if effective < needed:
            enough = math.ceil(needed * math.exp(min(self.epsilon, WIDE)) / generations)
            more = f"{what} {enough}, " if self.epsilon < WIDE else ""
            raise UsageError(
                f"{what} {size} gives at most {effective:.1f} effective samples with epsilon "
                f"{self.epsilon:g}, and {who} {needed}: give {more}a smaller epsilon, "
                f"or fewer {fewer}"
            )

    def refit(
        self,
        rows: FloatArray,
        parameters: FloatArray,
        weights: FloatArray,
        old: Fit,
        reach: FloatArray | None = None,
    ) -> tuple[Fit, float]:
        """Fit what is free of a linear Gaussian, within the bounds that are set.

        Args:
            rows: (N, p).
            parameters: (N, d).
            weights: (N,), sum 1.
            old: the Gaussian before; zero rows and columns of its covariance are frozen.
            reach: (N,) how much each sample's context counts in the divergence, sum 1; None
                for all alike.

        Returns:
            The new Gaussian, and the mean over the contexts of KL(old ‖ new); the old one
            where the samples do not give another that could be drawn from.
        """
        free, free_covariance = upper_level.take_free(old.covariance)
        if not free.any():
            return old, 0.0
        part = Fit(old.coefficients[:, free], free_covariance)
        fit = self._fit_free(rows, parameters[:, free], weights, part, reach)
        if not upper_level.is_usable(fit.coefficients, fit.covariance):
            return old, 0.0
        coefficients = old.coefficients.copy()
        coefficients[:, free] = fit.coefficients
        covariance = upper_level.floor_covariance(
            upper_level.embed_free(fit.covariance, free), self.min_std
        )
        divergence = gaussians.kl(
            rows @ part.coefficients,
            part.covariance,
            rows @ fit.coefficients,
            covariance[np.ix_(free, free)],
            reach,
        )
        return Fit(coefficients, covariance), divergence

    def _fit_free(
        self,
        rows: FloatArray,
        targets: FloatArray,
        weights: FloatArray,
        old: Fit,
        reach: FloatArray | None,
    ) -> Fit:
        """Fit the free parameters, (N, d) of them, as `update` says."""
        diagonal = self.covariance == "diagonal"
        if self.update == "constrained":  # numerics.regression, eqs. (5) to (7)
            return fit_constrained(
                rows,
                targets,
                weights,
                old,
                epsilon=self.epsilon,
                entropy_loss=self.entropy_loss,
                diagonal=diagonal,
                reach=reach,
            )
        # numerics.regression, eqs. (1) and (2)
        plain = fit_weighted(
            rows, targets, weights, old.coefficients, normaliser=self.normaliser, diagonal=diagonal
        )
        # With fewer effective samples than unknowns the rest stays with the old one.
        unknowns = len(old.coefficients) + (1 if diagonal else targets.shape[1])
        share = min(1.0, effective_size(weights) / unknowns)
        scatter = self.scatter(plain, targets, weights)
        return Fit(plain.coefficients, share * scatter + (1 - share) * old.covariance)

    def scatter(self, fit: Fit, targets: FloatArray, weights: FloatArray) -> FloatArray:
        """Σ of a weighted maximum-likelihood update, (d, d) of the free parameters."""
        return fit.covariance
