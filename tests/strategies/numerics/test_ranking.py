"""Choosing elites, against a plain stable sort."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from distes.strategies.numerics.ranking import pick_elites


@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0, 2.0, math.nan]), max_size=40), st.integers(0, 50))
def test_elites_are_the_first_of_a_stable_sort_of_the_valid(fitness, count):
    """Failed candidates are never chosen, ties go to the earlier, however many are asked."""
    valid = [i for i, value in enumerate(fitness) if not math.isnan(value)]
    expected = sorted(valid, key=lambda i: -fitness[i])[:count]
    assert pick_elites(np.array(fitness, dtype=float), count).tolist() == expected


def test_minus_infinity_is_worse_than_any_number_and_better_than_failure():
    """It ranks last among the valid."""
    assert pick_elites(np.array([-np.inf, np.nan, 0.0]), 3).tolist() == [2, 0]
