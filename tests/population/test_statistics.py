"""Figures about episodes, and the interval around a score."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distes.population.distributions import Table
from distes.population.records import Episodes, Population, Status
from distes.population.statistics import compute_score, student_quantile, summarise_generation


def make_episodes(returns, status=None, per_candidate=1):
    returns = np.asarray(returns, dtype=np.float64)
    total = len(returns)
    candidate = np.arange(total) // per_candidate
    status = np.zeros(total, np.int8) if status is None else np.asarray(status, np.int8)
    episode_return = np.where(status == Status.OK, returns, np.nan)
    return Episodes(
        candidate=candidate,
        episode=np.arange(total) % per_candidate,
        seed=np.arange(total),
        episode_return=episode_return,
        episode_length=np.arange(1, total + 1),
        terminated=np.ones(total, bool),
        truncated=np.zeros(total, bool),
        status=status,
        fitness=episode_return.reshape(-1, per_candidate).mean(axis=1),
    )


def make_population(size, episodes=1):
    return Population(Table(np.zeros((size, 2))), size, episodes)


def test_summary_figures_are_those_of_the_episodes():
    """A wrong figure would mislead every learning curve drawn from the log."""
    row = summarise_generation(make_population(5), make_episodes([1, 2, 3, 4, 10]))
    assert row == {
        "episodes": 5,
        "env_steps": 15,
        "failed": 0,
        "episode_return_mean": 4.0,
        "episode_return_std": pytest.approx(math.sqrt(10)),
        "episode_return_min": 1.0,
        "episode_return_q05": pytest.approx(1.2),
        "episode_return_q25": 2.0,
        "episode_return_q50": 3.0,
        "episode_return_q75": 4.0,
        "episode_return_q95": pytest.approx(8.8),
        "episode_return_max": 10.0,
        "fitness_mean": 4.0,
        "fitness_std": pytest.approx(math.sqrt(10)),
        "fitness_min": 1.0,
        "fitness_max": 10.0,
        "episode_length_mean": 3.0,
    }


def test_failed_episodes_are_counted_and_left_out():
    """A failed episode that entered a mean would turn the whole row into NaN."""
    episodes = make_episodes([1, 2, 3, 5], [0, Status.ERROR, 0, 0], per_candidate=2)
    row = summarise_generation(make_population(2, 2), episodes)
    assert row["failed"] == 1
    assert row["env_steps"] == 10
    assert row["episode_return_mean"] == 3.0
    assert row["fitness_mean"] == row["fitness_max"] == 4.0
    assert row["episode_length_mean"] == pytest.approx(8 / 3)


def test_all_failed_gives_nan_without_a_warning():
    """A generation in which everything fails must still be logged, silently."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        row = summarise_generation(
            make_population(2), make_episodes([0, 0], [Status.NAN, Status.TIMEOUT])
        )
    assert row["failed"] == 2
    assert math.isnan(row["episode_return_q50"])
    assert math.isnan(row["fitness_mean"])
    assert math.isnan(row["episode_length_mean"])


@pytest.mark.parametrize(
    ("probability", "degrees", "expected"),
    [  # from the published table of Student's t
        (0.975, 1, 12.706),
        (0.975, 2, 4.303),
        (0.975, 3, 3.182),
        (0.975, 10, 2.228),
        (0.995, 29, 2.756),
        (0.95, 120, 1.658),
        (0.975, 100_000, 1.960),
        (0.5, 7, 0.0),
    ],
)
def test_student_quantile_is_the_tabled_one(probability, degrees, expected):
    """A wrong quantile would make every printed interval too wide or too narrow."""
    assert student_quantile(probability, degrees) == pytest.approx(expected, abs=6e-4)


def test_symmetric_returns_give_students_interval():
    """Without skewness there is nothing to shift: Student (1908)."""
    returns = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    found = compute_score(returns)
    half = 2.7764451 * math.sqrt(2.5 / 5)
    assert (found.mean, found.std) == (3.0, pytest.approx(math.sqrt(2.5)))
    assert found.low == pytest.approx(3 - half)
    assert found.high == pytest.approx(3 + half)


def test_equal_returns_give_no_width():
    """Rounding in the mean must not print 500.0 with an interval around it, nor 0/0."""
    for value in (500.0, 0.1):
        found = compute_score(np.full(100, value))
        assert (found.mean, found.std, found.low, found.high) == (value, 0.0, value, value)


def test_failed_returns_are_excluded_and_counted():
    """A failed episode must neither vanish unsaid nor make the score NaN."""
    found = compute_score(np.array([1.0, np.nan, 3.0]))
    assert (found.mean, found.episodes, found.failed) == (2.0, 2, 1)
    nothing = compute_score(np.array([np.nan]))
    assert math.isnan(nothing.mean)
    assert (nothing.episodes, nothing.failed) == (0, 1)


def test_one_return_bounds_nothing():
    """One episode says nothing about the spread: an interval would be invented."""
    found = compute_score(np.array([7.0]))
    assert found.mean == 7.0
    assert math.isnan(found.std)
    assert math.isnan(found.low)
    assert math.isnan(found.high)


@given(
    st.lists(st.integers(-500, 500), min_size=2, max_size=40),
    st.sampled_from([0.5, 0.95, 0.9999]),
)
def test_interval_holds_the_mean_and_mirrors(values, confidence):
    """However skewed the returns, the mean lies inside, and negating returns mirrors all."""
    found = compute_score(np.array(values, float), confidence)
    mirrored = compute_score(-np.array(values, float), confidence)
    assert found.low <= found.mean <= found.high
    assert mirrored.low == pytest.approx(-found.high, abs=1e-9)
    assert mirrored.high == pytest.approx(-found.low, abs=1e-9)


def test_interval_covers_the_mean_of_skewed_bounded_returns():
    """Plain t puts its lower end above the true mean in 8% of such runs, instead of 2.5%."""
    generator = np.random.default_rng(1)
    size = (3000, 100)
    returns = np.where(generator.random(size) < 0.9, 500.0, generator.uniform(100, 500, size))
    found = [compute_score(row) for row in returns]
    too_high = np.mean([one.low > 480 for one in found])
    too_low = np.mean([one.high < 480 for one in found])
    assert too_high < 0.05
    assert too_low < 0.05
