"""Rewards of environments as functions of a step, for strategies that learn a model."""

from __future__ import annotations

import numpy as np

from distes.types import Array, FloatArray

CART_POLE_POSITION = 2.4  # m: where an episode ends, to either side
CART_POLE_ANGLE = 12 * 2 * np.pi / 360  # rad: likewise


def cart_pole(
    observations: FloatArray,
    actions: Array,  # noqa: ARG001 - as any reward
    next_observations: FloatArray,
) -> tuple[FloatArray, Array]:
    """Rewards of CartPole: 1 for every step, the one that ends the episode included.

    Args:
        observations: (m, 4) position, velocity, angle, angular velocity.
        actions: (m,) 0 or 1.
        next_observations: (m, 4).

    Returns:
        Rewards (m,) and whether the pole has fallen or the cart has left the track (m,).
    """
    gone = np.abs(next_observations[:, 0]) > CART_POLE_POSITION
    fallen = np.abs(next_observations[:, 2]) > CART_POLE_ANGLE
    return np.ones(len(observations)), gone | fallen
