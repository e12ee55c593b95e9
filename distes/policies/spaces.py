"""Between an environment's spaces and a policy's vectors of numbers.

An encoder turns an observation into a flat float64 vector; a head turns a vector of
outputs into an action. Both are made once per environment and called at every step, so
each carries the shortest function that does its work for its space.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple
from gymnasium.spaces.utils import flatdim, flatten

from distes.errors import EpisodeError, UsageError
from distes.types import Array, FloatArray

UNBOUNDED = 1e30
"""A bound at least this large stands for none: some environments write the largest float."""

LARGEST_INTEGER = 2**53
"""Integers beyond this are not exact as outputs, which are float64."""


class ObservationEncoder:
    """Turns observations of one space into flat vectors.

    Box is flattened, Discrete and MultiDiscrete become one-hot, MultiBinary zeros and
    ones; Dict and Tuple are flattened part by part in Gymnasium's order.

    Attributes:
        space: what the observations come from.
        scale: map [low, high] to [-1, 1] in each Box dimension with finite bounds; the
            others stay as they are.
        size: length k of an encoded observation.
        encode: observation -> (k,) float64. The function itself, for hot loops; it may
            give back the environment's own array, so whoever keeps it copies it.

    Raises:
        UsageError: the space, or one inside it, has no flat form of fixed length.
    """

    def __init__(self, space: gym.Space[Any], scale: bool = False) -> None:
        self.space = space
        self.scale = scale
        self.size = sum(flatdim(leaf) for leaf in _leaves(space, space))
        self.encode = plain = _encode(space)
        found = scaling(space) if scale else None
        if found is not None:
            center, factor = found
            self.encode = lambda observation: (plain(observation) - center) * factor

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel as space and setting: the function is made anew."""
        return ObservationEncoder, (self.space, self.scale)


class ActionHead:
    """Turns output vectors into actions of one space.

    Discrete takes the largest of n outputs, MultiDiscrete that of each component,
    MultiBinary the outputs that are at least 0. Box clips to its bounds, then casts to
    its dtype (whole numbers are rounded first): float64 where float32 is due changes
    what an environment returns.

    Attributes:
        space: what the actions belong to.
        rescale: for Box, outputs in [-1, 1] stand for [low, high]; beyond, they are
            clipped. Other spaces have nothing to rescale.
        num_outputs: length of an output vector.
        decode: (num_outputs,) -> action. The function itself, for hot loops.

    Raises:
        UsageError: the space is not supported, or is to be rescaled and has no bounds.
    """

    def __init__(self, space: gym.Space[Any], rescale: bool = False) -> None:
        self.space = space
        self.rescale = rescale
        self.num_outputs, self.decode = _decode(space, rescale)
        if not self.num_outputs:
            raise UsageError(f"action space {describe(space)} has no components")

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel as space and setting: the function is made anew."""
        return ActionHead, (self.space, self.rescale)


def describe(space: gym.Space[Any]) -> str:
    """Write a space on one line."""
    return " ".join(str(space).split())


def _leaves(space: gym.Space[Any], whole: gym.Space[Any]) -> list[gym.Space[Any]]:
    """List the spaces inside Dict and Tuple, in Gymnasium's order of flattening."""
    if isinstance(space, Dict):
        return [leaf for part in space.spaces.values() for leaf in _leaves(part, whole)]
    if isinstance(space, Tuple):
        return [leaf for part in space.spaces for leaf in _leaves(part, whole)]
    if isinstance(space, Box | Discrete | MultiDiscrete | MultiBinary):
        return [space]
    inside = "" if space is whole else f" (inside {describe(whole)})"
    raise UsageError(
        f"observation space {describe(space)}{inside} is not supported: accepted are Box, "
        "Discrete, MultiDiscrete, MultiBinary, and Dict or Tuple of these"
    )


def _encode(space: gym.Space[Any]) -> Callable[[Any], FloatArray]:
    float64, asarray, zeros = np.float64, np.asarray, np.zeros
    if isinstance(space, Box | MultiBinary):
        shape, is_flat = tuple(space.shape), len(space.shape) == 1

        def flat(observation: Any) -> FloatArray:
            # Next to nothing when the environment gives float64 already.
            try:
                seen = asarray(observation, float64)
            except (TypeError, ValueError, OverflowError):
                raise _no_numbers(observation) from None
            if seen.shape != shape:
                raise EpisodeError(f"an observation has shape {seen.shape} where {shape} is due")
            return seen if is_flat else seen.reshape(-1)

        return flat
    if isinstance(space, Discrete):
        size = int(space.n)

        def one_hot(observation: Any) -> FloatArray:
            encoded = zeros(size)
            encoded[number_row(observation, space)] = 1.0
            return encoded

        return one_hot
    due = (flatdim(space),)

    def flat_parts(observation: Any) -> FloatArray:
        try:
            seen = asarray(flatten(space, observation), float64)
        except (TypeError, ValueError, OverflowError, LookupError, AttributeError):
            raise _no_numbers(observation) from None
        if seen.shape != due:
            raise EpisodeError(f"an observation has shape {seen.shape}, flat, where {due} is due")
        return seen

    return flat_parts


def _no_numbers(observation: Any) -> EpisodeError:
    return EpisodeError(
        f"an observation is of type {type(observation).__name__} and holds no numbers of the "
        "observation space"
    )


def number_row(observation: Any, space: Discrete) -> int:
    """Count an observation of a Discrete space from the space's first one.

    Raises:
        EpisodeError: it is not in the space.
    """
    try:
        row = int(observation) - int(space.start)
    except (TypeError, ValueError, OverflowError):
        row = -1
    if not 0 <= row < space.n:
        given = f"{observation!r:.40}"
        raise EpisodeError(f"an observation is {given}, which is not in {describe(space)}")
    return row


def scaling(space: gym.Space[Any]) -> tuple[FloatArray, FloatArray] | None:
    """What maps finite bounds to -1 and 1: less a centre (k,), times a factor (k,).

    None where no dimension has finite bounds.
    """
    bounds = [_bounds(leaf) for leaf in _leaves(space, space)]
    low = np.concatenate([low for low, _ in bounds])
    high = np.concatenate([high for _, high in bounds])
    finite = np.isfinite(low) & np.isfinite(high) & (low < high)
    if not finite.any():
        return None
    center, factor = np.zeros(len(low)), np.ones(len(low))
    center[finite] = (low[finite] + high[finite]) / 2.0
    factor[finite] = 2.0 / (high[finite] - low[finite])
    return center, factor


def has_bounds(space: gym.Space[Any]) -> bool:
    """Whether a space is a Box whose every dimension has finite bounds."""
    return isinstance(space, Box) and all(np.isfinite(bound).all() for bound in _bounds(space))


def _bounds(space: gym.Space[Any]) -> tuple[FloatArray, FloatArray]:
    """Flat bounds of a Box, infinite where there is none; other spaces have none."""
    if not isinstance(space, Box):
        none = np.full(flatdim(space), np.inf)
        return -none, none
    low, high = space.low.astype(np.float64).reshape(-1), space.high.astype(np.float64).reshape(-1)
    below = space.bounded_below.reshape(-1) & (low > -UNBOUNDED)
    above = space.bounded_above.reshape(-1) & (high < UNBOUNDED)
    return np.where(below, low, -np.inf), np.where(above, high, np.inf)


def _decode(space: gym.Space[Any], rescale: bool) -> tuple[int, Callable[[FloatArray], Any]]:
    if isinstance(space, Discrete):
        start = int(space.start)
        if start:
            return int(space.n), lambda outputs: start + int(outputs.argmax())
        return int(space.n), lambda outputs: int(outputs.argmax())
    if isinstance(space, MultiBinary):
        shape, binary = space.shape, space.dtype
        return math.prod(shape), lambda outputs: (outputs >= 0.0).astype(binary).reshape(shape)
    if isinstance(space, MultiDiscrete):
        return int(space.nvec.sum()), _components(space)
    if isinstance(space, Box):
        return math.prod(space.shape), _box(space, rescale)
    raise UsageError(
        f"action space {describe(space)} is not supported: accepted are Box, Discrete, "
        "MultiDiscrete and MultiBinary"
    )


def _components(space: MultiDiscrete) -> Callable[[FloatArray], Array]:
    spans = [slice(*ends) for ends in pairwise([0, *np.cumsum(space.nvec).tolist()])]
    start, dtype, shape = space.start, space.dtype, space.shape

    def decode(outputs: FloatArray) -> Array:
        chosen = np.array([outputs[span].argmax() for span in spans], dtype=dtype)
        return chosen.reshape(shape) + start

    return decode


def _box(space: Box, rescale: bool) -> Callable[[FloatArray], Array]:
    dtype: np.dtype[Any] = np.dtype(space.dtype)
    shape = space.shape
    low, high = space.low.astype(np.float64).reshape(-1), space.high.astype(np.float64).reshape(-1)
    whole_numbers = dtype.kind != "f"
    if whole_numbers and (np.abs([low, high]) > LARGEST_INTEGER).any():
        raise UsageError(
            f"action space {describe(space)} is not supported: bounds of whole numbers must "
            "lie within ±2**53"
        )
    if not whole_numbers:
        # Without bounds, the largest number of the dtype is one: a cast cannot overflow.
        limit = float(np.finfo(dtype).max)
        low, high = np.maximum(low, -limit), np.minimum(high, limit)
    center, half = np.zeros(len(low)), np.ones(len(low))
    if rescale:
        if not has_bounds(space):
            raise UsageError(
                f"rescale_actions needs finite bounds, which action space {describe(space)} lacks"
            )
        center, half = (low + high) / 2.0, (high - low) / 2.0
    minimum, maximum = np.minimum, np.maximum
    if not rescale and not whole_numbers and len(shape) == 1:
        return lambda outputs: minimum(maximum(outputs, low), high).astype(dtype)

    def decode(outputs: FloatArray) -> Array:
        # Clipping after the map clips outputs to [-1, 1] and its rounding to the bounds.
        action = minimum(maximum(outputs * half + center, low), high)
        if whole_numbers:
            action = np.rint(action)
        return action.astype(dtype).reshape(shape)

    return decode
