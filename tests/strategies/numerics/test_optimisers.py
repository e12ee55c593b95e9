"""Optimisers against their definitions, written out for a few steps."""

import numpy as np
import pytest

from distes.strategies.numerics.optimisers import AdamState, ClipUpState, MomentumState


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


def test_three_steps_of_clipup_by_hand():
    """If wrong: a step depends on the gradient's length, or is longer than the maximum speed."""
    state = ClipUpState.begin(2, limit=2.0)
    change, state = state.step(np.array([300.0, 400.0]), 0.1)
    assert change == pytest.approx([0.06, 0.08])  # α g/‖g‖
    change, state = state.step(np.array([0.0, -2.0]), 0.1)
    assert change == pytest.approx([0.054, -0.028])  # 0.9 v + α g/‖g‖
    # 0.9 v + (0.3, 0) = (0.3486, -0.0252), with α 0.3, is shorter than v^max = 0.6; with the
    # limit 1 it is cut to the length 0.3.
    free = state.step(np.array([5.0, 0.0]), 0.3)[0]
    assert free == pytest.approx([0.3486, -0.0252])
    cut = ClipUpState(state.velocity, limit=1.0).step(np.array([5.0, 0.0]), 0.3)[0]
    assert cut == pytest.approx(0.3 * free / np.hypot(0.3486, 0.0252))


def test_clipup_without_a_gradient_rolls_on():
    """If wrong: a gradient of length 0 makes the parameters NaN."""
    change, state = ClipUpState(np.array([0.1, 0.0]), limit=2.0).step(np.zeros(2), 0.1)
    assert change == pytest.approx([0.09, 0.0])
    assert state.velocity == pytest.approx(change)


def test_three_steps_with_momentum_by_hand():
    """If wrong: gradients fade at another rate, or the learning rate is applied twice."""
    state, changes = MomentumState.begin(1), []
    for gradient, rate in [(2.0, 0.1), (1.0, 0.1), (0.0, 0.5)]:
        change, state = state.step(np.array([gradient]), rate)
        changes.append(change[0])
    assert changes == pytest.approx([0.2, 0.28, 0.5 * 2.52])
