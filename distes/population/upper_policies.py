"""Upper-level policies: search distributions whose candidates depend on the context.

Candidate i's noise is fixed by i alone; the context that an episode shows at its reset
decides what parameters it becomes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from distes.policies import products
from distes.population.distributions import Gaussian
from distes.population.features import Features
from distes.seeds import NoiseKey, noise
from distes.types import Array, FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class LinearGaussian:
    """π(θ | s) = N(θ | ψ(s) W, A Aᵀ): the mean is linear in features of the context.

    Attributes:
        weights: W, (p, d).
        scale: (d,) standard deviations, or (d, d) a factor A; zero for what is frozen.
        features: ψ.
        key: from `seeds.noise_key`.
    """

    weights: FloatArray
    scale: FloatArray
    features: Features
    key: NoiseKey

    @property
    def num_parameters(self) -> int:
        return int(self.weights.shape[1])

    @property
    def uses_context(self) -> bool:
        """Unless the features are constant."""
        return self.features.uses_context

    def draw(self, candidates: IntArray, contexts: Array | None = None) -> FloatArray:
        """Draw the candidates' parameters for their contexts, (m, d)."""
        mean = multiply_features(self.features, self.weights, contexts, len(candidates))
        if not self.scale.any():
            return mean
        return mean + Gaussian(np.zeros(len(self.scale)), self.scale, self.key).draw(candidates)

    def prepare_draw(self, candidates: IntArray) -> Callable[[int, FloatArray], FloatArray]:
        """Draw the noise ahead; a context then costs one product."""
        features, size = self.features, self.num_parameters
        laid_out = products.lay_out(self.weights)
        if not self.scale.any():
            return lambda _, context: products.multiply(features(context[None]), laid_out)[0, :size]
        moved = Gaussian(np.zeros(size), self.scale, self.key).draw(candidates)
        return lambda index, context: (
            products.multiply(features(context[None]), laid_out)[0, :size] + moved[index]
        )


@dataclass(frozen=True, eq=False)
class Mixture:
    """π(θ | s) = Σ_o π(o | s) N(θ | ψ(s) W_o, A_o A_oᵀ): options, and a gating among them.

    The gating is a softmax over φ(s) G (Daniel et al. 2012, "Hierarchical relative entropy
    policy search").

    Attributes:
        gating: G, (q, O).
        weights: W_o, (O, p, d).
        scales: (O, d) standard deviations, or (O, d, d) factors A_o.
        gating_features: φ.
        features: ψ.
        key: of the parameters, from `seeds.noise_key`.
        option_key: of the choice of options.
        greedy: the likeliest option instead of a drawn one.
    """

    gating: FloatArray
    weights: FloatArray
    scales: FloatArray
    gating_features: Features
    features: Features
    key: NoiseKey
    option_key: NoiseKey
    greedy: bool = False

    @property
    def num_parameters(self) -> int:
        return int(self.weights.shape[2])

    @property
    def uses_context(self) -> bool:
        """Unless neither gating nor options do."""
        return self.features.uses_context or self.gating_features.uses_context

    def probabilities(self, contexts: Array | None, count: int) -> FloatArray:
        """π(o | s) of contexts, (m, O)."""
        logits = multiply_features(self.gating_features, self.gating, contexts, count)
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        # In order of the options, as one row alone would be added up.
        total = np.add.reduce(np.ascontiguousarray(shares.T), axis=0)
        probabilities: FloatArray = shares / total[:, None]
        return probabilities

    def choose_options(self, candidates: IntArray, contexts: Array | None = None) -> IntArray:
        """Which option each candidate draws, (m,)."""
        return self._options_at(
            self.probabilities(contexts, len(candidates)), self._levels(candidates)
        )

    def draw(self, candidates: IntArray, contexts: Array | None = None) -> FloatArray:
        """Draw options, then parameters, (m, d)."""
        chosen = self.choose_options(candidates, contexts)
        out = np.empty((len(candidates), self.num_parameters))
        for option in np.unique(chosen):
            rows = chosen == option
            seen = None if contexts is None else contexts[rows]
            out[rows] = self._part(option).draw(candidates[rows], seen)
        return out

    def prepare_draw(self, candidates: IntArray) -> Callable[[int, FloatArray], FloatArray]:
        """Draw ahead what chooses an option, and each option's noise once it is needed."""
        levels = self._levels(candidates)
        part = cache(lambda option: self._part(option).prepare_draw(candidates))

        def draw_one(index: int, context: FloatArray) -> FloatArray:
            probabilities = self.probabilities(context[None], 1)
            option = self._options_at(probabilities, levels[index : index + 1])[0]
            return part(int(option))(index, context)

        return draw_one

    def _levels(self, candidates: IntArray) -> FloatArray:
        """Where in [0, 1) each candidate's choice falls, (m,); of no use to a greedy one."""
        return (
            np.zeros(len(candidates)) if self.greedy else draw_uniform(self.option_key, candidates)
        )

    def _options_at(self, probabilities: FloatArray, levels: FloatArray) -> IntArray:
        """Options from π(o | s) (m, O) and levels (m,)."""
        if self.greedy:
            return np.asarray(probabilities.argmax(axis=1))
        ends = np.cumsum(probabilities, axis=1)[:, :-1]
        chosen: IntArray = (levels[:, None] >= ends).sum(axis=1)
        return chosen

    def _part(self, option: int) -> LinearGaussian:
        """The policy of one option."""
        return LinearGaussian(self.weights[option], self.scales[option], self.features, self.key)


def multiply_features(
    features: Features, weights: FloatArray, contexts: Array | None, count: int
) -> FloatArray:
    """Evaluate ψ(s) W, (m, out), row by row the same in any batch.

    Args:
        features: ψ.
        weights: W, (p, out).
        contexts: (m, k); None where features are constant.
        count: m.

    Raises:
        ValueError: features depend on contexts, and there are none.
    """
    if not features.uses_context:
        rows = np.ones((count, features.num_features))
    elif contexts is None:
        raise ValueError("parameters depend on the context, and none is given")
    else:
        rows = features(contexts)
    return products.multiply(rows, products.lay_out(weights))[:, : weights.shape[1]]


def draw_uniform(key: NoiseKey, candidates: IntArray) -> FloatArray:
    """One number in (0, 1) for each candidate, (m,): the normal distribution of its noise."""
    normals = noise(key, candidates, 1)[:, 0]
    return np.array([0.5 * math.erfc(-value / math.sqrt(2.0)) for value in normals.tolist()])
