"""Search distributions, drawn alike by driver and workers.

Candidate i's parameters are a function of the distribution, i and (where used) its
context, whatever else is drawn with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from distes.policies import products
from distes.population.records import Distribution
from distes.seeds import NoiseKey, noise
from distes.types import Array, FloatArray, IntArray

EINSUM_LIMIT = 256
"""Above this many parameters a full-covariance draw uses BLAS on blocks of fixed shape."""

BLAS_BLOCK = 64


@dataclass(frozen=True, eq=False)
class Point:
    """Every candidate has the same parameters.

    Attributes:
        parameters: (d,).
    """

    parameters: FloatArray
    uses_context: ClassVar[bool] = False

    @property
    def num_parameters(self) -> int:
        return len(self.parameters)

    def draw(self, candidates: IntArray, contexts: Array | None = None) -> FloatArray:
        """Repeat the parameters, (m, d), without a copy; read-only."""
        return np.broadcast_to(self.parameters, (len(candidates), len(self.parameters)))


@dataclass(frozen=True, eq=False)
class Table:
    """Candidate i has row i.

    Attributes:
        parameters: (n, d).
    """

    parameters: FloatArray
    uses_context: ClassVar[bool] = False

    @property
    def num_parameters(self) -> int:
        return int(self.parameters.shape[1])

    def draw(self, candidates: IntArray, contexts: Array | None = None) -> FloatArray:
        """Pick the candidates' rows, (m, d)."""
        return self.parameters[candidates]


@dataclass(frozen=True, eq=False)
class Gaussian:
    """mean + scale * noise, the scale a standard deviation per parameter or a factor.

    Attributes:
        mean: (d,).
        scale: (d,) standard deviations, or (d, d) a factor A with covariance A Aᵀ.
        key: from `seeds.noise_key`.
        mirrored: candidates 2j and 2j + 1 use the same noise with opposite signs.
    """

    mean: FloatArray
    scale: FloatArray
    key: NoiseKey
    mirrored: bool = False
    uses_context: ClassVar[bool] = False

    @property
    def num_parameters(self) -> int:
        return len(self.mean)

    def noise(self, candidates: IntArray) -> FloatArray:
        """Standard normals behind the candidates, sign of mirroring included, (m, d)."""
        if not self.mirrored:
            return noise(self.key, candidates, self.num_parameters)
        signs = 1.0 - 2.0 * (candidates % 2)
        return noise(self.key, candidates // 2, self.num_parameters) * signs[:, None]

    def draw(self, candidates: IntArray, contexts: Array | None = None) -> FloatArray:
        """Draw the candidates' parameters, (m, d)."""
        if self.scale.ndim == 1:
            return self.mean + self.scale * self.noise(candidates)
        if self.num_parameters > EINSUM_LIMIT:
            return self.mean + self._blocked_product(candidates)
        laid_out = products.lay_out(self.scale.T)
        moved = products.multiply(self.noise(candidates), laid_out)
        return self.mean + moved[:, : self.num_parameters]

    def _blocked_product(self, candidates: IntArray) -> FloatArray:
        """Full-covariance product by BLAS, always on whole aligned blocks of 64 rows."""
        out = np.empty((len(candidates), self.num_parameters))
        blocks = candidates // BLAS_BLOCK
        transposed = np.ascontiguousarray(self.scale.T)
        for block in np.unique(blocks):
            whole = np.arange(block * BLAS_BLOCK, (block + 1) * BLAS_BLOCK)
            chosen = blocks == block
            with products.one_blas_thread():
                moved = self.noise(whole) @ transposed
            out[chosen] = moved[candidates[chosen] - block * BLAS_BLOCK]
        return out


@dataclass(frozen=True, eq=False)
class Concat:
    """A union: the first ``sizes[0]`` candidates from the first part, and so on.

    Attributes:
        parts: distributions over the same parameters.
        sizes: candidates of each part.
    """

    parts: tuple[Distribution, ...]
    sizes: tuple[int, ...]

    @property
    def num_parameters(self) -> int:
        return self.parts[0].num_parameters

    @property
    def uses_context(self) -> bool:
        """Whether any part does."""
        return any(part.uses_context for part in self.parts)

    def draw(self, candidates: IntArray, contexts: Array | None = None) -> FloatArray:
        """Draw each candidate from its part, (m, d).

        Raises:
            IndexError: a candidate lies beyond the last part.
        """
        out = np.empty((len(candidates), self.num_parameters))
        start = 0
        for part, size in zip(self.parts, self.sizes, strict=True):
            chosen = (candidates >= start) & (candidates < start + size)
            if chosen.any():
                given = None if contexts is None else contexts[chosen]
                out[chosen] = part.draw(candidates[chosen] - start, given)
            start += size
        if len(candidates) and int(candidates.max()) >= start:
            raise IndexError(f"candidate {candidates.max()} of a union of {start}")
        return out
