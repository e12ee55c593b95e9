"""Engines: an episode's result is a function of its parameters, seed and statistics."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import environments
import gymnasium as gym
import numpy as np
import pytest

from distes.engines import choice
from distes.engines.wire import assemble
from distes.errors import UsageError
from distes.policies.linear import Linear
from distes.population.distributions import Gaussian, Point, Table
from distes.population.folding import fold
from distes.population.probes import ObservationMoments
from distes.population.records import RECORDS, Population, RunKey, Status
from distes.seeds import noise_key
from distes.tasks.environment import Task
from distes.tasks.function import FunctionTask

KEY = RunKey(seed=3, generation=2)


def engine_for(task: Any, policy: Any = None, engine: str = "auto") -> Any:
    built = task.build_policy(policy)
    return choice.make(choice.resolve(engine, task, built), task, built), built


def random_population(size: int, dimension: int, **changes: Any) -> Population:
    key = noise_key(KEY.seed, KEY.generation)
    return Population(Gaussian(np.zeros(dimension), np.ones(dimension), key), size, **changes)


@pytest.mark.parametrize("name", ["loop", "auto"])
@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1", "MountainCar-v0"])
def test_equals_gymnasiums_own_loop(env_id: str, name: str) -> None:
    """Stripping wrappers and keeping the limit here must not change an episode."""
    task = Task(env_id)
    engine, policy = engine_for(task, Linear(), name)
    population = random_population(5, policy.num_parameters, episodes=2)
    chunk = engine.run(population, KEY, 0, 10)
    seeds = population.seeds(KEY, 0, 10)
    env = gym.make(env_id)
    for i, row in enumerate(chunk.rows):
        act = policy.bind(population.distribution.draw(np.array([i // 2]))[0])
        observation, _ = env.reset(seed=int(seeds[i]))
        total, steps, terminated, truncated = 0.0, 0, False, False
        while not (terminated or truncated):
            action = act(policy.encode(observation), None)
            observation, reward, terminated, truncated, _ = env.step(action)
            total, steps = total + float(reward), steps + 1
        assert row["episode_return"] == total
        assert row["episode_length"] == steps
        assert (row["terminated"], row["truncated"]) == (terminated, truncated)


@pytest.mark.parametrize("name", ["loop", "auto"])
@pytest.mark.parametrize("cuts", [[7, 20], [1, 2, 3], [16], list(range(1, 32))])
def test_chunks_of_any_cut_agree(cuts: list[int], name: str) -> None:
    """Where a population is cut must not show: returns, seeds, folded sums, all bits."""
    engine, policy = engine_for(Task("CartPole-v1"), Linear(), name)
    population = random_population(
        16,
        policy.num_parameters,
        episodes=2,
        probes=(ObservationMoments(np.zeros(4)),),
        frozen={"observation_mean": np.full(4, 0.01), "observation_std": np.full(4, 0.3)},
    )
    whole = engine.run(population, KEY, 0, 32)
    edges = [0, *cuts, 32]
    parts = [engine.run(population, KEY, a, b) for a, b in itertools.pairwise(edges)]
    columns = ["episode_return", "episode_length", "terminated", "truncated", "status"]
    rows = np.concatenate([part.rows for part in parts])
    for column in columns:
        np.testing.assert_array_equal(rows[column], whole.rows[column])
    sums = fold([node for part in parts for node in part.nodes], 32)
    expected = fold(whole.nodes, 32)
    assert sums.keys() == expected.keys()
    for name, value in sums.items():
        np.testing.assert_array_equal(value, expected[name])


@pytest.mark.parametrize("name", ["loop", "auto"])
def test_statistics_are_applied_before_the_policy(name: str) -> None:
    """Normalisation must equal a policy that normalises for itself."""
    task = Task("CartPole-v1")
    engine, _policy = engine_for(task, Linear(), name)
    mean, std = np.array([0.1, -0.2, 0.05, 0.3]), np.array([0.5, 2.0, 0.25, 4.0])
    theta = np.random.default_rng(0).standard_normal(10)
    weights = theta[:8].reshape(4, 2) / std[:, None]
    folded = np.concatenate([weights.ravel(), theta[8:] - mean @ weights])
    frozen = {"observation_mean": mean, "observation_std": std}
    with_statistics = Population(Point(theta), 1, episodes=20, frozen=frozen)
    without = Population(Point(folded), 1, episodes=20)
    got = engine.run(with_statistics, KEY, 0, 20).rows["episode_return"]
    np.testing.assert_array_equal(got, engine.run(without, KEY, 0, 20).rows["episode_return"])


def test_moments_see_the_observations_that_the_policy_acted_on() -> None:
    """The count is the steps; an array that the environment reuses must be copied."""
    task = Task(environments.reused)
    engine, policy = engine_for(task, Linear())
    population = Population(
        Point(np.zeros(policy.num_parameters)), 1, probes=(ObservationMoments(np.zeros(1)),)
    )
    sums = fold(engine.run(population, KEY, 0, 1).nodes, 1)
    assert sums["observation_count"] == 5
    assert sums["observation_sum"] == 0 + 1 + 2 + 3 + 4
    assert sums["observation_square_sum"] == 0 + 1 + 4 + 9 + 16


def test_a_failed_episode_is_a_row_with_its_traceback() -> None:
    """An exception must cost one episode, and the user must see their own traceback."""
    task = Task(environments.walk, env_kwargs={"fail_above": 1.5})
    engine, policy = engine_for(task, Linear())
    population = random_population(40, policy.num_parameters)
    rows = engine.run(population, KEY, 0, 40)
    failed = rows.rows["status"] == Status.ERROR
    assert 0 < failed.sum() < 40
    assert np.isnan(rows.rows["episode_return"][failed]).all()
    number, traceback = rows.faults[0]
    assert failed[number]
    assert "is off the table" in traceback
    assert "environments.py" in traceback
    # The others are what they are without the failures beside them.
    for i in np.flatnonzero(~failed)[:5]:
        alone = engine.run(population, KEY, int(i), int(i) + 1).rows
        assert alone["episode_return"][0] == rows.rows["episode_return"][i]


def test_nan_returns_are_marked() -> None:
    """A NaN reward must be told apart from an exception, and kept out of fitness."""
    task = Task(environments.walk, env_kwargs={"nan_above": 1.5})
    engine, policy = engine_for(task, Linear())
    population = random_population(40, policy.num_parameters)
    chunk = engine.run(population, KEY, 0, 40)
    bad = chunk.rows["status"] == Status.NAN
    assert 0 < bad.sum() < 40
    episodes = assemble(population, KEY, task, [chunk])
    np.testing.assert_array_equal(np.isnan(episodes.fitness), bad)


def test_failed_episodes_add_nothing_to_probes() -> None:
    """Sums count whole episodes only, and a chunk of failures alone still folds."""
    task = Task(environments.walk, env_kwargs={"fail_above": 1.5})
    engine, policy = engine_for(task, Linear())
    probe = ObservationMoments(np.zeros(2))
    population = random_population(40, policy.num_parameters, probes=(probe,))
    chunks = [engine.run(population, KEY, i, i + 1) for i in range(40)]
    episodes = assemble(population, KEY, task, chunks)
    ok = episodes.status == Status.OK
    assert not ok.all()
    assert episodes.sums["observation_count"] == episodes.episode_length[ok].sum()


def test_step_limits() -> None:
    """The environment's, the task's and the population's limit: the smallest holds."""
    engine, policy = engine_for(Task("Pendulum-v1"), Linear())
    point = Population(Point(np.zeros(policy.num_parameters)), 1)
    row = engine.run(point, KEY, 0, 1).rows[0]
    assert (row["episode_length"], row["terminated"], row["truncated"]) == (200, False, True)
    assert engine.run(replace(point, max_steps=7), KEY, 0, 1).rows[0]["episode_length"] == 7
    engine, _ = engine_for(Task("Pendulum-v1", max_episode_steps=30), Linear())
    assert engine.run(point, KEY, 0, 1).rows[0]["episode_length"] == 30
    wrapped = Task(environments.limited_walk)
    engine, policy = engine_for(wrapped, Linear())
    point = Population(Point(np.zeros(policy.num_parameters)), 1)
    assert engine.run(point, KEY, 0, 1).rows[0]["episode_length"] == 4


def test_contexts_are_imposed_at_reset() -> None:
    """A population's contexts must reach the environment and come back in the rows."""
    task = Task(environments.walk)
    engine, policy = engine_for(task, Linear())
    theta = np.zeros(policy.num_parameters)
    near = Population(Point(theta), 2, contexts=np.array([[0.0], [50.0]]), seed_group=2)
    chunk = engine.run(near, KEY, 0, 2)
    assert chunk.rows["episode_return"][1] < -400 < chunk.rows["episode_return"][0]
    np.testing.assert_array_equal(chunk.contexts, near.contexts)


def test_a_populations_own_task_goes_before_the_searchs() -> None:
    """Imagined episodes run on their own task, with the same loop."""
    task = Task("CartPole-v1")
    policy = task.build_policy(Linear())
    engines = choice.Engines("loop", task, policy)
    table = Table(np.array([[1.0, 1.0], [0.0, 1.0]]))
    imagined = FunctionTask(environments.sphere, 2)
    chunk = engines.run(Population(table, 2, task=imagined), KEY, 0, 2)
    np.testing.assert_array_equal(chunk.rows["episode_return"], [0.0, -1.0])
    own = engines.run(Population(Point(np.zeros(10)), 1), KEY, 0, 1)
    assert own.rows["episode_return"][0] > 1
    engines.close()


def test_info_keys_are_read_from_the_last_step() -> None:
    """What is logged is how the episode ended; keys that are not there are NaN."""
    task = Task(environments.walk, log_info=("distance", "is_success", "missing"))
    engine, policy = engine_for(task, Linear())
    chunk = engine.run(random_population(3, policy.num_parameters), KEY, 0, 3)
    assert (chunk.info["distance"] >= 0).all()
    np.testing.assert_array_equal(chunk.info["is_success"], chunk.info["distance"] < 0.2)
    assert np.isnan(chunk.info["missing"]).all()


def test_functions() -> None:
    """One by one, vectorised and noisy: the value is the return."""
    table = Table(np.array([[1.0, 1.0], [0.0, 1.0], [3.0, 1.0]]))
    population = Population(table, 3, episodes=2)
    expected = [0.0, 0.0, -1.0, -1.0, -4.0, -4.0]
    for function, vectorised in (
        (environments.sphere, False),
        (environments.vectorised_sphere, True),
    ):
        task = FunctionTask(function, 2, vectorised=vectorised)
        chunk = engine_for(task)[0].run(population, KEY, 0, 6)
        np.testing.assert_array_equal(chunk.rows["episode_return"], expected)
    task = FunctionTask(environments.noisy_sphere, 2, noisy=True)
    engine = engine_for(task)[0]
    first = engine.run(population, KEY, 0, 6).rows["episode_return"]
    np.testing.assert_array_equal(
        first[3:5], engine.run(population, KEY, 3, 5).rows["episode_return"]
    )
    assert first[0] != first[1]


def test_a_function_of_the_wrong_shape_is_an_error_row() -> None:
    """A vectorised function that sums too much must not be broadcast into returns."""
    task = FunctionTask(environments.sphere, 2, vectorised=True)
    chunk = engine_for(task)[0].run(Population(Table(np.ones((3, 2))), 3), KEY, 0, 3)
    assert (chunk.rows["status"] == Status.ERROR).all()
    assert "shape" in chunk.faults[0][1]


def test_unknown_engine_is_refused() -> None:
    with pytest.raises(UsageError, match=r"'lop'.*did you mean 'loop'"):
        choice.accept("lop", Task("CartPole-v1"))


def test_one_bad_row_of_a_vectorised_function_fails_alone() -> None:
    """Otherwise which episodes fail would depend on how they were cut into chunks."""
    table = Table(np.array([[1.0, 1.0], [np.inf, 1.0], [0.0, 1.0], [3.0, 1.0]]))
    engine = engine_for(FunctionTask(environments.picky_sphere, 2, vectorised=True))[0]
    whole = engine.run(Population(table, 4), KEY, 0, 4).rows
    parts = [engine.run(Population(table, 4), KEY, i, i + 1).rows for i in range(4)]
    for column in ("episode_return", "status"):
        np.testing.assert_array_equal(
            whole[column], np.concatenate([part[column] for part in parts])
        )
    np.testing.assert_array_equal(whole["status"] == Status.ERROR, [False, True, False, False])


def test_rewards_are_summed_in_double_precision() -> None:
    """Ten thousand rewards of 0.1 in float32 would come to 999.9."""
    engine, policy = engine_for(Task(environments.small_rewards), Linear())
    row = engine.run(Population(Point(np.zeros(policy.num_parameters)), 1), KEY, 0, 1).rows[0]
    assert row["episode_return"] == pytest.approx(10_000 * float(np.float32(0.1)), rel=1e-12)


def test_an_info_that_is_no_number_is_said_in_one_sentence() -> None:
    engine, policy = engine_for(Task("Taxi-v4", log_info=("action_mask",)), Linear())
    population = random_population(1, policy.num_parameters)
    with pytest.raises(UsageError, match=r"log_info 'action_mask' is .* not a number") as refusal:
        engine.run(population, KEY, 0, 1)
    assert "\n" not in str(refusal.value)


def test_an_environment_that_cannot_be_closed_keeps_its_episode() -> None:
    """The episode is over; its result stands."""
    engine, policy = engine_for(Task(environments.unclosable), Linear())
    population = Population(Point(np.zeros(policy.num_parameters)), 3)
    np.testing.assert_array_equal(engine.run(population, KEY, 0, 3).rows["episode_return"], 5.0)


@pytest.mark.parametrize(("reuse", "made"), [(False, 3), (True, 1)])
def test_environments_are_kept_only_where_that_is_said(reuse: bool, made: int) -> None:
    """If wrong: what one episode leaves behind changes the next one's result."""
    instances = []

    def make() -> Any:
        instances.append(environments.Reused())
        return instances[-1]

    task = Task(make, reuse_env=reuse)
    engine, policy = engine_for(task, Linear())
    instances.clear()
    engine.run(Population(Point(np.zeros(policy.num_parameters)), 3), KEY, 0, 3)
    assert len(instances) == made


def test_a_policy_may_write_into_its_parameters() -> None:
    """Otherwise the next episode has others, or none can be run."""

    class Spoiling(Linear):
        def build(self, *spaces: Any) -> Any:
            built = super().build(*spaces)
            bind = built.bind

            def spoil(parameters: Any) -> Any:
                act = bind(parameters.copy())
                parameters[:] = np.nan
                return act

            object.__setattr__(built, "bind", spoil)
            return built

    for records in ((), RECORDS):
        point = Point(np.random.default_rng(0).normal(size=10))
        population = Population(point, 2, episodes=2, records=records)
        chunks = [
            engine_for(Task("CartPole-v1"), policy)[0].run(population, KEY, 0, 4)
            for policy in (Linear(), Spoiling())
        ]
        ours, theirs = (chunk.rows["episode_return"].tolist() for chunk in chunks)
        assert ours == theirs
        assert chunks[1].rows["status"].tolist() == [0] * 4


def test_any_whole_number_counts_episodes() -> None:
    """A count from an array must mean the same as a plain one."""
    assert Population(Point(np.zeros(1)), 10, episodes=np.int64(3)).num_episodes == 30  # type: ignore[arg-type]
