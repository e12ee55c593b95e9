"""Tasks: what is refused, and how episodes make fitness."""

from __future__ import annotations

from typing import Any

import environments
import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distes.errors import UsageError
from distes.policies.linear import Linear
from distes.policies.mlp import MLP
from distes.tasks.environment import VERIFIED_PURE, Task, environment_spec
from distes.tasks.function import FunctionTask


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"env": "CartPol-v1"}, r"unknown environment 'CartPol-v1': did you mean 'CartPole-v1'"),
        ({"env": "no_such_package:Env-v0"}, "there is no module 'no_such_package'"),
        ({"env": "CartPole-v1", "max_episode_steps": 0}, "max_episode_steps 0"),
        ({"env": "CartPole-v1", "fitness": "median"}, "fitness 'median' is not one of mean"),
        ({"env": "CartPole-v1", "fitness": "cvar:2"}, "fitness 'cvar:2'"),
        ({"env": "CartPole-v1", "reward_shift": float("nan")}, "reward_shift nan"),
    ],
)
def test_refused_at_once(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says) as refusal:
        Task(**arguments)
    assert "\n" not in str(refusal.value)


def test_refused_when_built() -> None:
    with pytest.raises(UsageError, match=r"does not accept env_kwargs.*gravity_"):
        Task("CartPole-v1", env_kwargs={"gravity_": 3}).make_env()
    with pytest.raises(UsageError, match=r"does not accept env_kwargs .*bogus"):
        Task(environments.limited_walk, env_kwargs={"bogus": 3}).build_policy(Linear())
    with pytest.raises(UsageError, match=r"returned a float, not a gymnasium\.Env"):
        Task(lambda: 3.0).build_policy(Linear())  # type: ignore[arg-type, return-value]
    with pytest.raises(UsageError, match=r"NormalizeObservation.*normalize_observations"):
        Task(environments.normalised_walk).build_policy(Linear())
    with pytest.raises(UsageError, match="needs a policy"):
        Task("CartPole-v1").build_policy(None)
    with pytest.raises(UsageError, match="takes no policy"):
        FunctionTask(environments.sphere, 2).build_policy(Linear())
    with pytest.raises(UsageError, match="start has 1 numbers, num_parameters is 2"):
        FunctionTask(environments.sphere, 2, start=(0.0,))


def test_wrappers_that_the_engines_replace_are_stripped() -> None:
    """They cost a third of a CartPole step; a user's own wrapper must stay."""
    env = Task("CartPole-v1").make_env()
    assert env is env.unwrapped

    def clipped() -> gym.Env[Any, Any]:
        return gym.wrappers.TimeLimit(gym.wrappers.ClipAction(environments.Walk()), 5)

    assert isinstance(Task(clipped).make_env(), gym.wrappers.ClipAction)


def test_reuse_is_for_verified_environments() -> None:
    """An environment nobody checked is built anew, unless its user says otherwise."""
    assert Task("CartPole-v1").reuses_env
    assert not Task("BipedalWalker-v3").reuses_env
    assert not Task(environments.walk).reuses_env
    assert Task(environments.walk, reuse_env=True).reuses_env
    assert not Task("CartPole-v1", reuse_env=False).reuses_env
    assert all(environment_spec(env_id) for env_id in VERIFIED_PURE)


def score(task: Task, table: Any) -> Any:
    table = np.asarray(table, dtype=np.float64)
    counts = np.full(len(table), table.shape[1])
    return task.compute_fitness(table.ravel(), np.full(table.size, 10), counts)


def test_fitness_rules_by_hand() -> None:
    table = [[1.0, 5.0, 3.0, 7.0], [2.0, 2.0, 2.0, 2.0]]
    np.testing.assert_array_equal(score(Task("CartPole-v1"), table), [4.0, 2.0])
    np.testing.assert_array_equal(score(Task("CartPole-v1", fitness="min"), table), [1.0, 2.0])
    # The worst half of 1, 3, 5, 7 is 1 and 3.
    np.testing.assert_array_equal(score(Task("CartPole-v1", fitness="cvar:0.5"), table), [2.0, 2.0])
    best = Task("CartPole-v1", fitness=lambda returns: returns.max(axis=1))
    np.testing.assert_array_equal(score(best, table), [7.0, 2.0])
    # Ten steps of one less each.
    shifted = Task("CartPole-v1", reward_shift=1.0)
    np.testing.assert_array_equal(score(shifted, table), [-6.0, -8.0])


def test_one_failed_episode_fails_its_candidate_alone() -> None:
    table = [[1.0, np.nan], [2.0, 4.0]]
    for fitness in ("mean", "min", "cvar:0.5"):
        got = score(Task("CartPole-v1", fitness=fitness), table)
        assert np.isnan(got[0])
        assert np.isfinite(got[1])


@given(st.lists(st.integers(0, 4), min_size=1, max_size=12), st.integers(0, 2**31))
def test_uneven_episode_counts(counts: list[int], seed: int) -> None:
    """Candidates with their own number of episodes are scored from those alone."""
    returns = np.random.default_rng(seed).standard_normal(sum(counts))
    got = Task("CartPole-v1").compute_fitness(returns, np.ones(len(returns), int), np.array(counts))
    ends = np.cumsum(counts)
    for value, end, count in zip(got, ends, counts, strict=True):
        if count == 0:
            assert np.isnan(value)
        else:
            assert value == pytest.approx(returns[end - count : end].mean(), abs=1e-12)


def test_a_fitness_function_gives_one_number_per_row() -> None:
    """A mean over everything would be broadcast, and nothing could be learnt from it."""
    with pytest.raises(UsageError, match=r"returned shape \(\) .* one number per row"):
        score(Task("CartPole-v1", fitness=np.mean), [[1.0, 2.0], [3.0, 4.0]])


def test_a_fitness_function_never_sees_a_failure() -> None:
    """A user's rule need not know how failed episodes are marked."""

    def rule(returns: Any) -> Any:
        assert np.isfinite(returns).all()
        return returns.sum(axis=1)

    got = score(Task("CartPole-v1", fitness=rule), [[1.0, np.nan], [2.0, 4.0]])
    np.testing.assert_array_equal(got, [np.nan, 6.0])


def test_limits_of_inner_wrappers() -> None:
    """A longer limit than a wrapper inside allows would be ignored without a word."""
    with pytest.raises(UsageError, match="above the 4 steps of a TimeLimit inside"):
        Task(environments.inner_limit, max_episode_steps=9).build_policy(Linear())
    assert Task(environments.inner_limit).step_limit() == 4
    assert Task("CartPole-v1", env_kwargs={"sutton_barto_reward": True}).reuses_env is False


def test_policies_too_large_to_search_are_refused() -> None:
    """Before anything of that size is made: an image with a wide layer is soon there."""
    with pytest.raises(UsageError, match=r"would have 10,010,882 parameters, more than"):
        Task("CartPole-v1").build_policy(MLP(hidden=(3160, 3160)))
    small = Task("CartPole-v1").build_policy(MLP(hidden=(3000, 3000)))
    assert small.num_parameters < 10_000_000
