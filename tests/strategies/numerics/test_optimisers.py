"""Adam against its definition, written out for two steps."""

import numpy as np
import pytest

from distes.strategies.numerics.optimisers import AdamState


def test_two_steps_by_hand():
    change, state = AdamState.begin(2).step(np.array([3.0, -0.5]), 0.1)
    # Bias correction makes the first step α·sign(g).
    assert change == pytest.approx([0.1, -0.1], rel=1e-6)
    change, state = state.step(np.array([1.0, -0.5]), 0.1)
    mean = (0.9 * 0.1 * 3.0 + 0.1 * 1.0) / (1 - 0.81)
    size = np.sqrt((0.999 * 0.001 * 9.0 + 0.001 * 1.0) / (1 - 0.999**2))
    assert change[0] == pytest.approx(0.1 * mean / size, rel=1e-6)
    assert change[1] == pytest.approx(-0.1, rel=1e-6)
    assert state.steps == 2


def test_it_climbs():
    """A concave quadratic's top is reached from afar."""
    at, state = np.array([5.0, -3.0]), AdamState.begin(2)
    for _ in range(2000):
        change, state = state.step(-2 * (at - [1.0, 2.0]) * [1.0, 100.0], 0.05)
        at = at + change
    assert at == pytest.approx([1.0, 2.0], abs=1e-2)
