"""Standardised fitness; ranks and utilities are in `test_nes`."""

import numpy as np
import pytest

from distes.strategies.numerics.shaping import standardise


def test_standardised_fitness_by_hand():
    """If wrong: failed candidates shift the others, or the divisor is another one."""
    found = standardise(np.array([1.0, np.nan, 2.0, 6.0, 3.0]))
    assert found == pytest.approx(np.array([-2, 0, -1, 3, 0]) / np.sqrt(14 / 4))


@pytest.mark.parametrize(
    "fitness", [[0.1] * 7, [np.nan, np.nan], [np.nan, 3.0], [0.0, 0.0], [1e9, 1e9 + 1e-6]]
)
def test_what_is_equal_has_nothing_to_tell(fitness):
    """If wrong: rounding errors are blown up to a whole update."""
    assert not standardise(np.array(fitness)).any()
