"""Every seed and every noise key in the project.

Nothing random depends on who computes it or in what order: a seed is a hash of what it
is for, and noise is generated in numbered blocks from a counter-based generator
(Philox; Salmon et al. 2011). No generator is kept between calls.
"""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator, Philox, SeedSequence
from numpy.random.bit_generator import ISeedSequence

from distes.types import Array, FloatArray, IntArray

BLOCK_NORMALS = 4096
"""Normals per noise block: small enough to redraw one candidate cheaply."""

BLOCK_COLUMNS = 16384
"""Most columns of a noise block: wider rows are cut, so that some columns of all rows can be
drawn without the rest."""

NoiseKey = tuple[int, int]


class Purpose(IntEnum):
    """What an evaluation is for; only ``SEARCH`` counts against budgets."""

    SEARCH = 0
    HELDOUT = 1
    TEST = 2
    REEVALUATION = 3
    MODEL = 4


class _Domain(IntEnum):
    """Keeps keys made for different uses apart."""

    EPISODES = 1
    NOISE = 2
    POLICY = 3
    STRATEGY = 4
    CONTEXT = 5
    MODEL = 6


class RunKey(NamedTuple):
    """Identifies one evaluation of a population within a run.

    Attributes:
        seed: the run's seed, >= 0.
        generation: counted from 0.
        call: 0 for the search's own population, higher for further requests.
    """

    seed: int
    generation: int
    call: int = 0


def _hash(seed: int, *words: int) -> SeedSequence:
    return SeedSequence(seed, spawn_key=words)


def episode_seeds(key: RunKey, purpose: Purpose, group: IntArray, episode: IntArray) -> IntArray:
    """Derive one environment seed per episode.

    The highest of the 63 bits is 0 for search and 1 for every other purpose, so a seed
    that was searched on can never be one that is scored on.

    Args:
        key: the evaluation that the episodes belong to.
        purpose: what the evaluation is for.
        group: (m,) candidate or seed-group index of each episode.
        episode: (m,) index of the episode within its candidate.

    Returns:
        (m,) int64 seeds in [0, 2**63).
    """
    if len(group) == 0:
        return np.empty(0, dtype=np.int64)
    hashed = _hash(key.seed, _Domain.EPISODES, purpose, key.generation, key.call)
    # Word i of the Philox stream belongs to group i; it starts a SplitMix64 stream, in which
    # the episode is the position. A counter yields four words, hence the blocks.
    block = int(group.min()) // 4
    count = int(group.max()) - 4 * block + 1
    words = Philox(hashed, counter=[block, 0, 0, 0]).random_raw(count)
    mixed = splitmix(words[group - 4 * block], episode.astype(np.uint64))
    top = np.uint64(0 if purpose == Purpose.SEARCH else 1 << 62)
    seeds: IntArray = ((mixed & np.uint64((1 << 62) - 1)) | top).astype(np.int64)
    return seeds


def splitmix(state: Array, position: Array) -> Array:
    """Find element ``position`` of the SplitMix64 stream that starts at ``state``.

    Steele, Lea and Flood (2014), "Fast splittable pseudorandom number generators".

    Args:
        state: (m,) uint64.
        position: (m,) uint64, from 0.

    Returns:
        (m,) uint64.
    """
    # Weyl sequence: each step adds the odd number nearest to 2^64/φ, the golden ratio.
    mixed = state + (position + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    # Then three xorshifts and two multiplications, of Stafford's variant 13, scatter the bits.
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    result: Array = mixed ^ (mixed >> np.uint64(31))
    return result


def policy_generator(episode_seed: int) -> Generator:
    """Make the generator from which a stochastic policy samples within one episode."""
    return Generator(Philox(_hash(int(episode_seed), _Domain.POLICY)))


def context_generator(episode_seed: int) -> Generator:
    """Make the generator from which a context sampler draws an episode's context."""
    return Generator(Philox(_hash(int(episode_seed), _Domain.CONTEXT)))


def model_generator(episode_seed: int) -> Generator:
    """Make the generator from which a learnt model draws the states of one rollout."""
    return Generator(Philox(_hash(int(episode_seed), _Domain.MODEL)))


def context_uniform(seeds: IntArray, size: int) -> FloatArray:
    """Draw numbers in [0, 1) for episodes' contexts, (m,) seeds -> (m, size)."""
    # Apart from everything else that is made of the same seed.
    state = splitmix(seeds.astype(np.uint64), np.full(len(seeds), _Domain.CONTEXT, np.uint64))
    words = [splitmix(state, np.full(len(seeds), j, np.uint64)) for j in range(size)]
    # The upper 53 bits of a word, as many as a float64 holds, in units of 2^-53.
    drawn: FloatArray = (np.stack(words, axis=1) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return drawn


def strategy_generator(seed: int, *words: int) -> Generator:
    """Make a generator for a strategy's own choices, keyed by what they are for.

    Args:
        seed: the run's.
        words: what the choices are for, each >= 0; other words give other generators.
    """
    return Generator(Philox(_hash(seed, _Domain.STRATEGY, *words)))


def noise_key(seed: int, generation: int, stream: int = 0) -> NoiseKey:
    """Key the noise of one generation; ``stream`` separates several draws within it."""
    hashed = _hash(seed, _Domain.NOISE, generation, stream)
    first, second = hashed.generate_state(2, np.uint64).tolist()
    return first, second


def noise(
    key: NoiseKey, rows: IntArray, size: int, columns: tuple[int, int] | None = None
) -> FloatArray:
    """Draw standard normals for chosen rows of an endless (rows, size) table.

    Rows come in blocks of about 4096 normals, wide ones in column blocks of 16384, each from
    its own Philox counter: any part of the table has the same values however it is asked for.

    Args:
        key: from `noise_key`.
        rows: (m,) row numbers, >= 0.
        size: columns, d.
        columns: first and last (exclusive) of those wanted, c of them; None is all.

    Returns:
        (m, c) standard normals.
    """
    start, stop = columns or (0, size)
    if size > BLOCK_COLUMNS:
        return _draw_wide(key, rows, size, start, stop)
    if len(rows) and np.count_nonzero(rows[1:] - rows[:-1] == 1) == len(rows) - 1:
        if len(rows) * size <= BLOCK_NORMALS:
            return _draw_few(key, int(rows[0]), len(rows), size)[:, start:stop].copy()
        return _draw_successive(key, int(rows[0]), len(rows), size)[:, start:stop]
    per_block = max(1, BLOCK_NORMALS // max(size, 1))
    out = np.empty((len(rows), size))
    blocks = rows // per_block
    for block in np.unique(blocks):
        chosen = blocks == block
        inside = rows[chosen] - block * per_block
        # Later rows of a block are not needed: normals are generated in row order.
        found = _generator_of(key, int(block)).standard_normal((int(inside.max()) + 1, size))
        out[chosen] = found[inside]
    return out[:, start:stop]


def _draw_wide(key: NoiseKey, rows: IntArray, size: int, start: int, stop: int) -> FloatArray:
    """Draw columns ``start .. stop`` of rows that are cut into column blocks."""
    out = np.empty((len(rows), stop - start))
    for block in range(start // BLOCK_COLUMNS, -(-stop // BLOCK_COLUMNS)):
        begin = block * BLOCK_COLUMNS
        first, last = max(start, begin), min(stop, size, begin + BLOCK_COLUMNS)
        for row, values in zip(rows.tolist(), out[:, first - start : last - start], strict=True):
            generator = _generator_of(key, row, block)
            if first == begin:
                generator.standard_normal(out=values)
            else:
                values[:] = generator.standard_normal(last - begin)[first - begin :]
    return out


@lru_cache(maxsize=1)
def _draw_few(key: NoiseKey, first: int, count: int, size: int) -> FloatArray:
    """Draw successive rows of at most a block in all; for copies alone.

    The last ones stay: a small population is drawn to be tried, to be learnt of and to be
    logged, and to make the generator takes longer than to draw from it.
    """
    return _draw_successive(key, first, count, size)


def _draw_successive(key: NoiseKey, first: int, count: int, size: int) -> FloatArray:
    """Draw rows ``first .. first + count``, of which whole blocks are generated in place."""
    per_block = max(1, BLOCK_NORMALS // max(size, 1))
    out = np.empty((count, size))
    stop = first + count
    for block in range(first // per_block, (stop - 1) // per_block + 1):
        generator = _generator_of(key, block)
        start, end = block * per_block, min((block + 1) * per_block, stop)
        if start >= first:
            generator.standard_normal(out=out[start - first : end - first])
        else:
            found = generator.standard_normal((end - start, size))
            out[: end - first] = found[first - start :]
    return out


class _Words(ISeedSequence):
    """A key that is ready, as what Philox asks for its key.

    Given as ``key=``, Philox would first ask the system for entropy and hash it, in vain: that
    takes longer than to draw a small block.
    """

    def __init__(self, key: NoiseKey) -> None:
        self._key = np.array(key, dtype=np.uint64)

    def generate_state(self, n_words: int, dtype: Any = np.uint64) -> Array:
        """Give both words."""
        return self._key


def _generator_of(key: NoiseKey, block: int, column_block: int = 0) -> Generator:
    counter = np.array([0, 0, column_block, block], dtype=np.uint64)
    words: Any = _Words(key)  # numpy's stubs do not know that it takes any ISeedSequence
    return Generator(Philox(words, counter=counter))
