"""Policies that say how probable their choices were, and how that depends on parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from distes.policies.base import Sampler
from distes.types import Array, FloatArray


@runtime_checkable
class StochasticPolicy(Sampler, Protocol):
    """A policy that samples, and can say how its choices depend on its parameters.

    Parameters are (d,), observations (T, k) encoded, choices (T,) or (T, a).
    """

    def log_prob(
        self, parameters: FloatArray, observations: FloatArray, choices: Array
    ) -> FloatArray:
        """Log π(c_t | x_t), (T,)."""

    def log_prob_grad(
        self, parameters: FloatArray, observations: FloatArray, choices: Array, weights: FloatArray
    ) -> FloatArray:
        """Σ_t w_t ∇ log π(c_t | x_t), (d,), for weights w (T,)."""


@dataclass(frozen=True, eq=False)
class LogProbGradSums:
    """Sums over the steps of an episode.

    Attributes:
        gradients: (w, d) Σ_t w_t ∇ log π(c_t | x_t), for each row of weights.
        squares: (w, d) Σ_t w_t (∇ log π(c_t | x_t))², element by element; None unless asked.
        entropy: (d,) Σ_t ∇ H(π(· | x_t)); None unless asked.
    """

    gradients: FloatArray
    squares: FloatArray | None = None
    entropy: FloatArray | None = None


@runtime_checkable
class LogProbGradSummer(StochasticPolicy, Protocol):
    """A policy that adds up in one pass whatever a gradient needs of an episode."""

    @property
    def entropy_varies(self) -> bool:
        """Whether the entropy of its choices depends on the parameters."""

    def sum_log_prob_grads(
        self,
        parameters: FloatArray,
        observations: FloatArray,
        choices: Array,
        weights: FloatArray,
        *,
        squares: bool = False,
        entropy: bool = False,
    ) -> LogProbGradSums:
        """Add up log-prob gradients, weighted in several ways: each row of weights (w, T) is one.

        Their squares and the entropy's gradients are added up where asked for.
        """
