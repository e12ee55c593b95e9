"""The multi-layer perceptron: layout, arithmetic, start, settings."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from distes.errors import UsageError
from distes.policies import MLP

OBSERVATION = Box(-np.inf, np.inf, (4,), np.float64)
WIDE = Box(-1e6, 1e6, (2,), np.float64)


def test_number_of_parameters():
    """Otherwise a saved network does not fit: (4+1)·32 + (32+1)·32 + (32+1)·2."""
    assert MLP().build(OBSERVATION, Discrete(2)).num_parameters == 160 + 1056 + 66
    assert MLP(hidden=(3,), bias=False).build(OBSERVATION, Discrete(2)).num_parameters == 18


@pytest.mark.parametrize(
    ("activation", "function"),
    [("tanh", np.tanh), ("relu", lambda values: np.where(values > 0, values, 0))],
)
@pytest.mark.parametrize("hidden", [(5,), (5, 3), (1, 4), (4, 1)])
@pytest.mark.parametrize("bias", [True, False])
def test_matches_matrices_written_out(activation, function, hidden, bias):
    """Otherwise layers are cut, ordered or activated in another way than documented."""
    policy = MLP(hidden, activation, bias).build(OBSERVATION, WIDE)
    generator = np.random.default_rng(2)
    sizes = (4, *hidden, 2)
    matrices = [generator.normal(size=pair) for pair in pairwise(sizes)]
    offsets = [generator.normal(size=size) * bias for size in sizes[1:]]
    parts = [
        part
        for matrix, offset in zip(matrices, offsets, strict=True)
        for part in ((matrix.reshape(-1), offset) if bias else (matrix.reshape(-1),))
    ]
    act = policy.bind(np.concatenate(parts))
    for observation in generator.normal(size=(5, 4)):
        values = observation
        for matrix, offset in zip(matrices[:-1], offsets[:-1], strict=True):
            values = function(values @ matrix + offset)
        expected = values @ matrices[-1] + offsets[-1]
        assert act(observation, None) == pytest.approx(expected, rel=1e-12)


def test_start_is_glorot_uniform_with_zero_biases():
    """Otherwise units start alike, or saturated."""
    policy = MLP(hidden=(64, 64)).build(OBSERVATION, Discrete(2))
    layers = policy.layers(policy.initial(np.random.default_rng(0)))
    for (weights, bias), fans in zip(layers, (68, 128, 66), strict=True):
        limit = np.sqrt(6.0 / fans)
        assert np.abs(weights).max() <= limit
        # The largest of >= 128 uniform numbers lies below 0.9 of the limit once in 700,000.
        assert np.abs(weights).max() > 0.9 * limit
        assert np.unique(weights).size == weights.size
        assert not bias.any()


def test_starts_differ_between_generators():
    """Otherwise runs with different seeds begin at the same network."""
    policy = MLP(hidden=(3,)).build(OBSERVATION, Discrete(2))
    first, second = (policy.initial(np.random.default_rng(seed)) for seed in (0, 1))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("hidden", [(), (0,), (8, -1), (8.0,), (True,), ("8",), 32])
def test_layers_without_units_are_refused(hidden):
    """Otherwise the network has no path from observation to action, or no such shape."""
    with pytest.raises(UsageError, match="hidden"):
        MLP(hidden=hidden)


def test_unknown_activation_names_the_nearest():
    """Otherwise a mistyped activation runs as another one."""
    with pytest.raises(UsageError, match="did you mean 'tanh'"):
        MLP(activation="tahn")
