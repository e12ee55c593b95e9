"""Search distributions, drawn alike by driver and workers.

Candidate i's parameters are a function of the distribution, i and (where used) its
context, whatever else is drawn with it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from distes.policies import products
from distes.population.records import Distribution, Population
from distes.seeds import BLOCK_COLUMNS, NoiseKey, noise
from distes.types import Array, FloatArray, IntArray

EINSUM_LIMIT = 256
"""Above this many parameters a full-covariance draw uses BLAS on blocks of fixed shape."""

BLAS_BLOCK = 16
"""Rows of such a block: few, since a block is drawn whole for any of its candidates."""

SUMMED_NORMALS = 1 << 20
"""Most normals that are held while noise is summed up."""


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

    def noise(self, candidates: IntArray, columns: tuple[int, int] | None = None) -> FloatArray:
        """Standard normals behind the candidates, sign of mirroring included, (m, d).

        ``columns`` asks for some of them only: first and last, exclusive.
        """
        if not self.mirrored:
            return noise(self.key, candidates, self.num_parameters, columns)
        signs = 1.0 - 2.0 * (candidates % 2)
        drawn = noise(self.key, candidates // 2, self.num_parameters, columns)
        return drawn * signs[:, None]

    def weigh_noise(
        self, weights: FloatArray, squares: FloatArray | None = None
    ) -> tuple[FloatArray, FloatArray]:
        """Sum the candidates' normals z, and their squares, without holding all of them.

        Summed block of columns by block of columns, in the candidates' order: whoever sums a
        block has the same bits.

        Args:
            weights: (n,) w, of candidates 0 .. n - 1.
            squares: (n,) v; None is 0.

        Returns:
            Σ w z and Σ v z², (d,) each.
        """
        used = np.stack([weights, np.zeros_like(weights) if squares is None else squares])
        candidates = np.arange(len(weights))
        if self.mirrored:  # both of a pair have one noise, which is drawn once
            used = np.pad(used, [(0, 0), (0, len(weights) % 2)])
            used = np.stack([used[0, ::2] - used[0, 1::2], used[1, ::2] + used[1, 1::2]])
            candidates = candidates[::2]
        needed = used.any(axis=0)
        used, candidates = used[:, needed], candidates[needed]
        size, count = self.num_parameters, len(candidates)
        sums, square_sums = np.zeros(size), np.zeros(size)
        rows = max(1, SUMMED_NORMALS // min(max(size, 1), BLOCK_COLUMNS))
        for start in range(0, size, BLOCK_COLUMNS):
            stop = min(start + BLOCK_COLUMNS, size)
            for first in range(0, count, rows):
                part = slice(first, first + rows)
                drawn = products.lay_out(self.noise(candidates[part], (start, stop)))
                sums[start:stop] += products.multiply(used[0][part], drawn)[: stop - start]
                if used[1].any():
                    drawn *= drawn
                    square_sums[start:stop] += products.multiply(used[1][part], drawn)[
                        : stop - start
                    ]
        return sums, square_sums

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
        """Full-covariance product by BLAS, always on whole aligned blocks of rows."""
        out = np.empty((len(candidates), self.num_parameters))
        blocks = candidates // BLAS_BLOCK
        transposed = np.ascontiguousarray(self.scale.T)
        with products.one_blas_thread():
            for block in np.unique(blocks):
                whole = np.arange(block * BLAS_BLOCK, (block + 1) * BLAS_BLOCK)
                chosen = blocks == block
                moved = self.noise(whole) @ transposed
                out[chosen] = moved[candidates[chosen] - block * BLAS_BLOCK]
        return out


@dataclass(frozen=True, eq=False)
class LowRankGaussian(Gaussian):
    """mean + scale * (s z + Vᵀ U V z): noise z that is longer or shorter in a few directions.

    Attributes:
        directions: V, (m, d).
        mixing: U, (m, m).
        share: s, of the noise in all directions alike.
    """

    directions: FloatArray = field(kw_only=True)
    mixing: FloatArray = field(kw_only=True)
    share: float = field(kw_only=True)

    def stretch(self, normals: FloatArray) -> FloatArray:
        """Turn normals z, (m, d), into s z + Vᵀ U V z; each row apart from the others."""
        stretched = self.share * normals
        count = len(self.directions)
        if count:
            along = products.multiply(normals, products.lay_out(self.directions.T))[:, :count]
            mixed = products.multiply(along, products.lay_out(self.mixing.T))[:, :count]
            laid_out = products.lay_out(self.directions)
            stretched += products.multiply(mixed, laid_out)[:, : self.num_parameters]
        return stretched

    def draw(self, candidates: IntArray, contexts: Array | None = None) -> FloatArray:
        """Draw the candidates' parameters, (m, d)."""
        return self.mean + self.scale * self.stretch(self.noise(candidates))


@dataclass(frozen=True, eq=False)
class Boxed:
    """Any distribution over all numbers, each parameter bent into an interval.

    The identity but for a margin of 5% at each bound, where it is a parabola, and periodic
    beyond: `BoxConstraintsLinQuadTransformation` of package cma.

    Attributes:
        inner: the distribution.
        low: least value of each parameter.
        high: greatest value, > low.
    """

    inner: Distribution
    low: float
    high: float

    @property
    def num_parameters(self) -> int:
        return self.inner.num_parameters

    @property
    def uses_context(self) -> bool:
        """Whether the inner one does."""
        return self.inner.uses_context

    @property
    def margins(self) -> tuple[float, float]:
        """Widths of the parabolas at the lower and the upper bound."""
        half = (self.high - self.low) / 2
        low, high = (min(half, 0.05 * max(abs(b), 1.0)) for b in (self.low, self.high))
        return low, high

    def draw(self, candidates: IntArray, contexts: Array | None = None) -> FloatArray:
        """Draw the candidates' parameters, (m, d), all between the bounds."""
        drawn = self.inner.draw(candidates, contexts)
        below, above = self.margins
        least, greatest = self.low - below, self.high + above
        width = greatest - least
        # A triangle wave: the interval of the parabolas' ends, and its mirror images beyond.
        drawn = least + width - np.abs(np.mod(drawn - least, 2 * width) - width)
        bent = np.where(
            drawn > self.high - above,
            self.high - (drawn - greatest) ** 2 / (4 * above),
            np.where(
                drawn < self.low + below, self.low + (drawn - least) ** 2 / (4 * below), drawn
            ),
        )
        inside: FloatArray = np.clip(bent, self.low, self.high)
        return inside

    def unbend(self, parameters: FloatArray) -> FloatArray:
        """Find what is drawn as parameters that lie between the bounds."""
        below, above = self.margins
        at_low = 2 * np.sqrt(below * np.maximum(parameters - self.low, 0)) + self.low - below
        at_high = self.high + above - 2 * np.sqrt(above * np.maximum(self.high - parameters, 0))
        unbent: FloatArray = np.where(
            parameters > self.high - above,
            at_high,
            np.where(parameters < self.low + below, at_low, parameters),
        )
        return unbent


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


def weigh_noise(
    population: Population, weights: FloatArray, squares: FloatArray | None = None
) -> tuple[FloatArray, FloatArray]:
    """Sum what a Gaussian population was drawn with; see `Gaussian.weigh_noise`.

    Raises:
        TypeError: it was drawn otherwise.
    """
    if not isinstance(population.distribution, Gaussian):
        raise TypeError(f"{type(population.distribution).__name__} is drawn without normals")
    return population.distribution.weigh_noise(weights, squares)
