"""Random numbers inside kernels: the same, seed by seed, as numpy's generators give.

A kernel's generator is an array of words. `seed_environment` makes of an episode's seed what
``numpy.random.Generator(PCG64(SeedSequence(seed)))`` starts from, as Gymnasium's ``reset``
does; `seed_policy` what `distes.seeds.policy_generator` starts from.

Sources: O'Neill (2014), "PCG: A family of simple fast space-efficient statistically good
algorithms for random number generation"; Salmon et al. (2011), "Parallel random numbers: as
easy as 1, 2, 3" (Philox); O'Neill (2015), "Developing a seed_seq alternative"; Marsaglia, Tsang
(2000), "The ziggurat method for generating random variables".
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np

from distes.engines.kernels.jit import jit
from distes.types import Array

Word: TypeAlias = np.uint64

ENVIRONMENT_WORDS = 4
"""Of a PCG64 generator: state and increment, each high word first."""

POLICY_WORDS = 8
"""Of a Philox generator: two of the key, the counter, the place in the buffer, the buffer."""

_POOL = 4
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_SHIFT = np.uint64(16)
_ZERO = np.uint64(0)
_ONE = np.uint64(1)
_INIT_A, _MULT_A = np.uint64(0x43B0D7E5), np.uint64(0x931E8875)
_INIT_B, _MULT_B = np.uint64(0x8B51F9DD), np.uint64(0x58F38DED)
_MIX_L, _MIX_R = np.uint64(0xCA01F9DD), np.uint64(0x4973F715)
_PCG_HIGH, _PCG_LOW = np.uint64(0x2360ED051FC65DA4), np.uint64(0x4385DF649FCCF645)
_ROTATE = np.uint64(58)
_63, _64 = np.uint64(63), np.uint64(64)
_PHILOX_0, _PHILOX_1 = np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157)
_WEYL_0, _WEYL_1 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B)
_ROUNDS = 10
_DOUBLE = np.uint64(11)
_POLICY_DOMAIN = np.uint64(3)
"""The word of `distes.seeds` that keys policies' generators; a test compares."""
_BYTE = np.uint64(0xFF)
_MANTISSA = np.uint64(2**52 - 1)


def _read_widths() -> Array:
    """Read off the widths (256,) of numpy's ziggurat, whose last bits no formula gives.

    A state is chosen so that the next word names a layer and the number 2**51 or, where that is
    beyond the layer's sure part, a smaller power of two: the draw is its product with the width.
    """
    source = np.random.PCG64(0)
    generator, state = np.random.Generator(source), source.state
    multiplier = (int(_PCG_HIGH) << 64) | int(_PCG_LOW)
    back, increment = pow(multiplier, -1, 2**128), state["state"]["inc"]
    widths = np.empty(256)
    for layer in range(256):
        power = 51 if layer != 1 else 40  # of the top layer nothing is sure, but small numbers are
        word = layer | (2**power << 9)
        state["state"]["state"] = (word - increment) * back % 2**128  # its upper half is 0
        source.state = state
        widths[layer] = generator.standard_normal() / 2**power
    return widths


_WIDTHS = _read_widths()
_ENDS = _WIDTHS * 2.0**52  # of the layers, topmost first; the lowest as wide as its area asks
_TAIL = float(_ENDS[255])
_PER_TAIL = 1 / _TAIL
_HEIGHTS = np.exp(-0.5 * _ENDS**2)
_HEIGHTS[0] = 1.0
_LIMITS = np.floor(np.array([_TAIL, 0.0, *_ENDS[1:255]]) / _ENDS * 2.0**52)
"""Numbers below are under the curve for sure, give or take one of 10¹⁵."""


@jit
def random(generator: Array) -> float:
    """Draw from [0, 1), as ``Generator.random()`` of the environment's generator, (4,) words."""
    return float(_next_word(generator) >> _DOUBLE) * 2.0**-53  # the upper 53 bits


@jit
def uniform(generator: Array, low: float, high: float) -> float:
    """Draw from [low, high), as ``Generator.uniform(low, high)``."""
    return low + (high - low) * random(generator)


@jit
def _next_word(generator: Array) -> Word:
    """Step the environment's generator, (4,) words."""
    # PCG64 XSL RR: state <- state * multiplier + increment, in 128 bits; then the two halves
    # are xored and turned by the upper six bits.
    high, low = generator[0], generator[1]
    new_low = low * _PCG_LOW + generator[3]
    carry = _ONE if new_low < generator[3] else _ZERO
    new_high = (
        high * _PCG_LOW + low * _PCG_HIGH + _high_product(low, _PCG_LOW) + generator[2] + carry
    )
    generator[0], generator[1] = new_high, new_low
    mixed = new_high ^ new_low
    turn = new_high >> _ROTATE
    word: Word = (mixed >> turn) | (mixed << ((_64 - turn) & _63))
    return word


@jit
def normal(generator: Array) -> float:
    """Draw from the standard normal distribution, as ``Generator.standard_normal()``."""
    while True:
        word = _next_word(generator)
        layer = int(word & _BYTE)
        number = (word >> np.uint64(9)) & _MANTISSA
        value = float(number) * float(_WIDTHS[layer])
        if (word >> np.uint64(8)) & _ONE:
            value = -value
        if float(number) < _LIMITS[layer]:
            return value
        if layer == 0:  # Marsaglia's tail
            while True:
                beyond = -_PER_TAIL * math.log1p(-random(generator))
                other = -math.log1p(-random(generator))
                if other + other > beyond * beyond:
                    negative = (number >> np.uint64(8)) & _ONE
                    return -(_TAIL + beyond) if negative else _TAIL + beyond
        drop = _HEIGHTS[layer - 1] - _HEIGHTS[layer]
        if drop * random(generator) + _HEIGHTS[layer] < math.exp(-0.5 * value * value):
            return value


@jit
def policy_random(generator: Array) -> float:
    """Draw from [0, 1), as ``Generator.random()`` of the policy's generator, (8,) words."""
    place = generator[3]
    if place == _ZERO:
        generator[2] += _ONE
        _fill_buffer(generator)
    generator[3] = (place + _ONE) & np.uint64(3)
    return float(generator[np.int64(4) + np.int64(place)] >> _DOUBLE) * 2.0**-53


@jit
def seed_environment(generator: Array, seed: int) -> None:
    """Start the generator (4,) that Gymnasium's ``reset(seed=seed)`` starts, seed in [0, 2**63)."""
    pool = np.zeros(_POOL, np.uint64)
    _fill_pool(pool, np.uint64(seed))
    words = np.empty(4, np.uint64)
    _draw_words(pool, words)
    increment_high = (words[2] << _ONE) | (words[3] >> _63)
    increment_low = (words[3] << _ONE) | _ONE
    # From state 0 one step gives the increment; the seed is added, and one step taken.
    low = increment_low + words[1]
    carry = _ONE if low < increment_low else _ZERO
    generator[0] = increment_high + words[0] + carry
    generator[1] = low
    generator[2], generator[3] = increment_high, increment_low
    random(generator)


@jit
def seed_policy(generator: Array, seed: int) -> None:
    """Start the generator (8,) of `distes.seeds.policy_generator`, seed in [0, 2**63)."""
    pool = np.zeros(_POOL, np.uint64)
    constant = _fill_pool(pool, np.uint64(seed))
    word = _POLICY_DOMAIN
    for i in range(_POOL):
        mixed, constant = _hash_word(word, constant)
        pool[i] = _mix_words(pool[i], mixed)
    words = np.empty(2, np.uint64)
    _draw_words(pool, words)
    generator[0], generator[1] = words[0], words[1]
    generator[2] = _ZERO
    generator[3] = _ZERO


@jit
def _hash_word(value: Word, constant: Word) -> tuple[Word, Word]:
    # O'Neill's hashmix: the constant changes with every word.
    value = (value ^ constant) & _LOW
    constant = (constant * _MULT_A) & _LOW
    value = (value * constant) & _LOW
    return value ^ (value >> _SHIFT), constant


@jit
def _mix_words(left: Word, right: Word) -> Word:
    value = (_MIX_L * left - _MIX_R * right) & _LOW
    return value ^ (value >> _SHIFT)


@jit
def _fill_pool(pool: Array, seed: Word) -> Word:
    """Mix a seed into the entropy pool; the hash constant after it."""
    constant = _INIT_A
    for i in range(_POOL):
        word = _ZERO
        if i == 0:
            word = seed & _LOW
        if i == 1:
            word = seed >> _HALF
        pool[i], constant = _hash_word(word, constant)
    for source in range(_POOL):
        for target in range(_POOL):
            if source != target:
                mixed, constant = _hash_word(pool[source], constant)
                pool[target] = _mix_words(pool[target], mixed)
    return constant


@jit
def _draw_words(pool: Array, words: Array) -> None:
    """Fill 64-bit words from the pool, low half first."""
    constant = _INIT_B
    for i in range(2 * len(words)):
        value = (pool[i % _POOL] ^ constant) & _LOW
        constant = (constant * _MULT_B) & _LOW
        value = (value * constant) & _LOW
        value ^= value >> _SHIFT
        if i % 2 == 0:
            words[i // 2] = value
        else:
            words[i // 2] |= value << _HALF


@jit
def _high_product(left: Word, right: Word) -> Word:
    """Upper 64 of the 128 bits of a product."""
    left_high, left_low = left >> _HALF, left & _LOW
    right_high, right_low = right >> _HALF, right & _LOW
    middle = left_high * right_low + ((left_low * right_low) >> _HALF)
    other = left_low * right_high + (middle & _LOW)
    return left_high * right_high + (middle >> _HALF) + (other >> _HALF)


@jit
def _fill_buffer(generator: Array) -> None:
    """Fill the buffer with the block of the counter."""
    key_0, key_1 = generator[0], generator[1]
    # Philox4x64-10: ten rounds of two products, the key raised by Weyl's constants in between.
    a, b, c, d = generator[2], _ZERO, _ZERO, _ZERO
    for _ in range(_ROUNDS):
        high_0, low_0 = _high_product(_PHILOX_0, a), _PHILOX_0 * a
        high_1, low_1 = _high_product(_PHILOX_1, c), _PHILOX_1 * c
        a, b, c, d = high_1 ^ b ^ key_0, low_1, high_0 ^ d ^ key_1, low_0
        key_0 += _WEYL_0
        key_1 += _WEYL_1
    generator[4], generator[5], generator[6], generator[7] = a, b, c, d
