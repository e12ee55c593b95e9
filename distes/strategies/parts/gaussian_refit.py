"""What strategies that refit Gaussians to weighted samples share: their settings, the refit.

| name | Deisenroth, Neumann & Peters 2013, "A survey on policy search for robotics", 2.4 |
|---|---|
| epsilon | ε |
| rows | ψ(s_i) |
| weights | w_i, of the samples |
| coefficients | W, of the mean ψ(s) W |
| covariance | Σ |
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from distes.errors import UsageError, unknown
from distes.population.features import Features
from distes.strategies.base import Problem, Strategy
from distes.strategies.numerics import gaussians
from distes.strategies.numerics.moments import effective_size
from distes.strategies.numerics.regression import Fit, constrained_fit, weighted_fit
from distes.strategies.parts import upper_level
from distes.types import FloatArray

S = TypeVar("S")

_CHOICES = {
    "update": ("constrained", "ml"),
    "normaliser": ("standard", "regression"),
    "covariance": ("full", "diagonal"),
}


@dataclass(frozen=True)
class Refitting(Strategy[S]):
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
        initial_mean: where to start, one number for each parameter; none is where the
            policy starts.
        initial_std: at the start, one number or one for each parameter; a parameter with 0
            is frozen where it starts.
        min_std: least standard deviation of what is not frozen, >= 0; it goes before the
            bounds.
    """

    epsilon: float = 0.5
    update: Literal["constrained", "ml"] = "constrained"
    entropy_loss: float | None = None
    normaliser: Literal["standard", "regression"] = "standard"
    covariance: Literal["full", "diagonal"] = "full"
    initial_mean: tuple[float, ...] | None = None
    initial_std: float | tuple[float, ...] = 1.0
    min_std: float = 0.0

    def __post_init__(self) -> None:
        """Refuse settings outside their ranges."""
        for name in ("update", "normaliser", "covariance"):
            given, accepted = getattr(self, name), _CHOICES[name]
            if given not in accepted:
                raise unknown(name, given, accepted)
        if not 0 < self.epsilon < math.inf:
            raise UsageError(f"epsilon {self.epsilon} is not a finite number > 0")
        if self.entropy_loss is not None and not 0 <= self.entropy_loss < math.inf:
            raise UsageError(f"entropy_loss {self.entropy_loss} is not a finite number >= 0")
        if self.entropy_loss is not None and self.update != "constrained":
            raise UsageError("entropy_loss is kept by update 'constrained' alone")
        if not 0 <= self.min_std < math.inf:
            raise UsageError(f"min_std {self.min_std} is not a finite number >= 0")
        if self.normaliser != "standard" and self.update != "ml":
            raise UsageError(f"normaliser '{self.normaliser}' is of update 'ml' alone")
        upper_level.refuse_bad_std(self.initial_std, self.min_std)

    def needed(self, problem: Problem, features: Features) -> int:
        """Fewest effective samples: columns and, without a trust region, free parameters."""
        columns = upper_level.full_size(features)
        if self.update == "constrained":
            return columns + 1
        free = int((upper_level.start_std(problem, self.initial_std) > 0).sum())
        return columns + (free if self.covariance == "full" else 1)

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
        free = np.diag(old.covariance) > 0
        if not free.any():
            return old, 0.0
        targets = parameters[:, free]
        part = Fit(old.coefficients[:, free], old.covariance[np.ix_(free, free)])
        diagonal = self.covariance == "diagonal"
        if self.update == "constrained":
            fit = constrained_fit(
                rows,
                targets,
                weights,
                part.coefficients,
                part.covariance,
                epsilon=self.epsilon,
                entropy_loss=self.entropy_loss,
                diagonal=diagonal,
                reach=reach,
            )
        else:
            plain = weighted_fit(
                rows,
                targets,
                weights,
                part.coefficients,
                normaliser=self.normaliser,
                diagonal=diagonal,
            )
            # With fewer effective samples than unknowns the rest stays with the old one.
            unknowns = len(part.coefficients) + (1 if diagonal else int(free.sum()))
            share = min(1.0, effective_size(weights) / unknowns)
            scatter = self.scatter(plain, targets, weights)
            fit = Fit(plain.coefficients, share * scatter + (1 - share) * part.covariance)
        if not upper_level.usable(fit.coefficients, fit.covariance):
            return old, 0.0
        coefficients = old.coefficients.copy()
        coefficients[:, free] = fit.coefficients
        covariance = upper_level.floored(upper_level.embedded(fit.covariance, free), self.min_std)
        moved = gaussians.kl(
            rows @ part.coefficients,
            part.covariance,
            rows @ fit.coefficients,
            covariance[np.ix_(free, free)],
            reach,
        )
        return Fit(coefficients, covariance), moved

    def scatter(self, fit: Fit, targets: FloatArray, weights: FloatArray) -> FloatArray:
        """Σ of a weighted maximum-likelihood update, (d, d) of the free parameters."""
        return fit.covariance
