"""Schedules at their ends and half way."""

import pytest

from distes.strategies.numerics.schedules import value_at


@pytest.mark.parametrize(
    ("shape", "quarter", "half"),
    [
        ("linear", 0.7525, 0.505),
        ("cosine", 0.01 + 0.99 * (1 + 0.5**0.5) / 2, 0.505),
        ("exponential", 10**-0.5, 0.1),
    ],
)
def test_a_value_goes_from_its_start_to_its_end(shape, quarter, half):
    """If wrong: a run follows another schedule than the one it names, or overshoots its end."""
    found = [value_at(at, 1.0, 0.01, shape, 20) for at in (0, 5, 10, 20, 21, 1000)]
    assert found == pytest.approx([1.0, quarter, half, 0.01, 0.01, 0.01])
    assert value_at(20, 1.0, 0.01, shape, 20) == 0.01


def test_without_an_end_it_is_constant():
    """If wrong: what nobody scheduled changes."""
    assert [value_at(at, 0.3, None, "cosine", 20) for at in (0, 10, 100)] == [0.3] * 3
