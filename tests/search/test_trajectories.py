"""Trajectories of chosen episodes: run again, they are what was evaluated."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import environments
import gymnasium as gym
import numpy as np
import pytest

from distes.errors import Notice, UsageError
from distes.evaluators.serial import SerialEvaluator
from distes.policies import MLP, Linear
from distes.policies.softmax import Softmax
from distes.population.distributions import Gaussian, Point
from distes.population.features import build_features
from distes.population.records import Population, Purpose, RunKey
from distes.population.upper_policies import LinearGaussian
from distes.search.problem import SearchProblem
from distes.seeds import noise_key
from distes.tasks.environment import Task
from distes.tasks.function import FunctionTask
from distes.testing.problems import FunctionProblem, sphere
from distes.types import FloatArray


def problem_for(task: Any, policy: Any) -> SearchProblem:
    built = task.build_policy(policy)
    return SearchProblem(
        task=task,
        engine="function" if isinstance(task, FunctionTask) else "loop",
        policy=built,
        start=np.zeros(built.num_parameters),
        seed=3,
        population_size=None,
        episodes=1,
        common_seeds=False,
        evaluator=SerialEvaluator(task, built, "loop") if isinstance(task, Task) else None,
    )


def evaluate(problem: SearchProblem, population: Population) -> Any:
    assert problem.evaluator is not None
    return problem.evaluator.submit(population, RunKey(3, 5)).result().episodes


def gaussian(problem: SearchProblem, size: int, **changes: Any) -> Population:
    d = problem.num_parameters
    return Population(Gaussian(np.zeros(d), np.ones(d), noise_key(1, 0)), size, **changes)


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_they_are_the_episodes_that_were_evaluated(env_id: str) -> None:
    """Returns, lengths and parameters agree; replayed actions give the same observations."""
    problem = problem_for(Task(env_id), MLP((4,)))
    population = gaussian(problem, 6, episodes=2)
    episodes = evaluate(problem, population)
    rows = np.array([7, 0, 11])
    trajectories = problem.trajectories(population, episodes, rows)
    for row, trajectory in zip(rows.tolist(), trajectories, strict=True):
        assert sum(trajectory.rewards.tolist()) == episodes.episode_return[row]
        for column in (trajectory.observations, trajectory.actions, trajectory.rewards):
            assert len(column) == episodes.episode_length[row]
        drawn = population.distribution.draw(episodes.candidate[row : row + 1])[0]
        assert np.array_equal(trajectory.parameters, drawn)
        env = gym.make(env_id)
        observation, _ = env.reset(seed=int(episodes.seed[row]))
        for seen, action in zip(trajectory.observations, trajectory.actions, strict=True):
            assert np.array_equal(seen, observation)
            observation = env.step(action)[0]
        assert trajectory.last_observation is not None
        assert np.array_equal(trajectory.last_observation, observation)


def test_frozen_statistics_contexts_and_further_populations() -> None:
    """What changes an episode changes its trajectory: statistics, contexts, purpose, limit."""
    task = Task("CartPole-v1", context="observation:2,3")
    problem = problem_for(task, Linear())
    features = build_features("affine", 2)
    weights = np.random.default_rng(0).normal(size=(features.num_features, 10))
    upper = LinearGaussian(weights, np.full(10, 0.5), features, noise_key(1, 0))
    statistics = {"observation_mean": np.full(4, 0.1), "observation_std": np.full(4, 0.4)}
    population = Population(upper, 8, frozen=statistics, max_steps=30, purpose=Purpose.REEVALUATION)
    episodes = problem.run(population)
    for row, trajectory in enumerate(problem.trajectories(population, episodes, np.arange(8))):
        assert trajectory.rewards.sum() == episodes.episode_return[row]
        assert episodes.contexts is not None
        assert np.array_equal(trajectory.observations[0, 2:], episodes.contexts[row])
    plain = replace(population, frozen={})
    with pytest.warns(Notice, match="episodes went otherwise"):
        others = problem.trajectories(plain, episodes, np.arange(8))
    assert any(len(trajectory.rewards) == 0 for trajectory in others), "statistics were not applied"


def test_imposed_contexts() -> None:
    problem = problem_for(
        Task(environments.Walk, context="uniform", context_low=(0.0,), context_high=(2.0,)),
        Linear(),
    )
    for imposed in (None, np.array([[0.5], [1.5], [1.0]])):
        population = gaussian(problem, 3, contexts=imposed)
        episodes = evaluate(problem, population)
        trajectories = problem.trajectories(population, episodes, np.arange(3))
        for row, trajectory in enumerate(trajectories):
            assert sum(trajectory.rewards.tolist()) == episodes.episode_return[row]
            assert trajectory.observations[0, 1] == pytest.approx(episodes.contexts[row, 0])


def test_failed_episodes_have_no_steps_and_are_not_tried_again() -> None:
    """Trying again what killed a worker would kill the driver."""
    problem = problem_for(Task(environments.Walk, env_kwargs={"fail_above": 1.0}), Linear())
    population = gaussian(problem, 30)
    episodes = evaluate(problem, population)
    failed = np.flatnonzero(episodes.status != 0)
    assert 0 < len(failed) < 30
    trajectories = problem.trajectories(population, episodes, np.arange(30))
    assert [len(t.observations) == 0 for t in trajectories] == (episodes.status != 0).tolist()
    assert all(len(trajectories[i].rewards) == 0 for i in failed)
    assert problem.trajectories(population, episodes, failed[:0]) == []


def test_episodes_that_go_otherwise_give_no_trajectory() -> None:
    """An environment that is not pure would hand over another episode than was judged."""
    task = Task(environments.Forgetful, reuse_env=True)
    problem = problem_for(task, Linear())
    population = gaussian(problem, 8)
    episodes = evaluate(problem, population)
    with pytest.warns(Notice, match=r"8 of 8 episodes went otherwise .* reuse_env .* distes check"):
        trajectories = problem.trajectories(population, episodes, np.arange(8))
    assert all(len(trajectory.observations) == 0 for trajectory in trajectories)
    fresh = problem_for(replace(task, reuse_env=False), Linear())
    episodes = evaluate(fresh, population)
    with warnings.catch_warnings():
        warnings.simplefilter("error", Notice)
        trajectories = fresh.trajectories(population, episodes, np.arange(8))
    assert all(len(trajectory.observations) == 10 for trajectory in trajectories)


@pytest.mark.parametrize("field", ["episode_return", "episode_length", "status"])
def test_each_of_return_length_and_status_must_be_as_before(field: str) -> None:
    problem = problem_for(Task(environments.Walk), Linear())
    population = gaussian(problem, 5)
    episodes = evaluate(problem, population)
    column = getattr(episodes, field).copy()
    column[3] += 1
    told = replace(episodes, **{field: column})
    rows = np.array([4, 3, 1])
    if field == "status":  # it failed and is not tried again, the more so as it succeeds
        trajectories = problem.trajectories(population, told, rows)
    else:
        with pytest.warns(Notice, match="1 of 3"):
            trajectories = problem.trajectories(population, told, rows)
    assert [len(trajectory.observations) for trajectory in trajectories] == [10, 0, 10]


def test_what_fails_when_it_is_run_again_gives_no_trajectory() -> None:
    task = Task(environments.Walk)
    problem = problem_for(task, Linear())
    population = gaussian(problem, 30)
    episodes = evaluate(problem, population)
    problem.evaluator = SerialEvaluator(
        Task(environments.Walk, env_kwargs={"fail_above": 1.0}), problem.policy, "loop"
    )
    told: list[Any] = []
    problem.on_rerun = told.append
    with pytest.warns(Notice, match="of 30 episodes went otherwise"):
        trajectories = problem.trajectories(population, episodes, np.arange(30))
    failed = told[0].episodes.status != 0
    assert 0 < failed.sum() < 30
    assert [len(trajectory.observations) == 0 for trajectory in trajectories] == failed.tolist()
    assert told[0].events[0]["kind"] == "episode_error"


def test_only_what_is_asked_for_travels() -> None:
    problem = problem_for(Task("CartPole-v1"), Linear())
    population = gaussian(problem, 3)
    episodes = evaluate(problem, population)
    asked = ("observations", "actions")
    for trajectory in problem.trajectories(population, episodes, np.arange(3), asked):
        assert len(trajectory.actions) == len(trajectory.observations) > 0
        assert len(trajectory.rewards) == 0
        assert trajectory.last_observation is None


def test_they_are_neither_logged_nor_counted() -> None:
    problem = problem_for(Task("CartPole-v1"), Linear())
    logged: list[Any] = []
    problem.on_run = lambda *given: logged.append(given)
    population = gaussian(problem, 3)
    problem.begin(2)
    problem.trajectories(population, evaluate(problem, population), np.arange(3))
    assert logged == []
    problem.run(population)
    assert logged[0][0] == RunKey(3, 2, 1), "a trajectory took a number"


def test_episodes_from_one_start() -> None:
    """All of a candidate's begin alike; a stochastic policy acts differently in each."""
    problem = problem_for(Task("CartPole-v1"), Softmax())
    point = Point(np.zeros(problem.num_parameters))
    population = Population(point, 4, episodes=3, same_start=True)
    episodes = evaluate(problem, population)
    assert len(np.unique(episodes.seed)) == 12
    trajectories = problem.trajectories(population, episodes, np.arange(12))
    for row, trajectory in enumerate(trajectories):
        assert trajectory.rewards.sum() == episodes.episode_return[row]
        first = trajectories[row - row % 3]
        assert np.array_equal(trajectory.observations[0], first.observations[0])
    assert len({tuple(trajectory.actions.tolist()) for trajectory in trajectories}) > 8
    starts = [tuple(trajectory.observations[0]) for trajectory in trajectories]
    assert len(set(starts)) == 4


def value(parameters: FloatArray) -> float:
    return -float((parameters**2).sum())


def test_functions_have_none() -> None:
    problem = problem_for(FunctionTask(value, 2), None)
    assert not problem.has_trajectories
    assert problem_for(Task("CartPole-v1"), Linear()).has_trajectories
    made_up = FunctionProblem(sphere, np.zeros(2))
    episodes = made_up.evaluate(gaussian(problem, 2))
    for each in (problem, made_up):
        with pytest.raises(UsageError, match="no trajector"):
            each.trajectories(gaussian(problem, 2), episodes, np.arange(2))
