"""Episodes that kill, hang or run out of time: their own rows are lost, and no other."""

import ctypes
import dataclasses
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import ray
from evaluations import KEY, all_there, assert_equal, gaussian, serially, settle, sphere

from distes.errors import RunFailed
from distes.evaluators import cluster
from distes.policies import Linear
from distes.population.distributions import Table
from distes.population.probes import ObservationMoments
from distes.population.records import Population, Status
from distes.tasks.environment import Task
from distes.tasks.function import FunctionTask


def leave(code=3):
    os._exit(code)


def segfault():
    ctypes.string_at(0)


def hang():
    """Sleep in C code that keeps Python's lock: no thread of Python's can run."""
    ctypes.PyDLL(None).sleep(3600)


@dataclasses.dataclass(frozen=True)
class Harmful:
    """Does harm above a limit of the first parameter, the first so many times."""

    harm: object
    directory: str
    times: int = 1000
    above: float = 0.5
    __name__ = "harmful"

    def __call__(self, parameters):
        time.sleep(0.005)
        if parameters[0] > self.above:
            for attempt in range(self.times):
                try:
                    (Path(self.directory) / f"{parameters[0]}-{attempt}").touch(exist_ok=False)
                except FileExistsError:
                    continue
                self.harm()
        return sphere(parameters)


def table(size, *harmful):
    """Candidates of which the given ones are above the limit."""
    rows = np.zeros((size, 2))
    rows[:, 1] = np.arange(size)
    rows[list(harmful), 0] = 1.0 + np.arange(len(harmful))
    return Population(Table(rows), size)


def harmless(population, *harmful):
    """The answer without harm, and a mask of the rows that have none."""
    (expected,) = serially(settle(FunctionTask(sphere, 2)), population)
    return expected.episodes, ~np.isin(np.arange(population.size), harmful)


def kinds(answer):
    return [event["kind"] for event in answer.events]


@pytest.mark.slow
@pytest.mark.parametrize("harm", [leave, segfault], ids=["exit", "segfault"])
def test_poison_costs_its_own_row_only(on_ray, tmp_path, harm):
    """Two poisonous candidates of one chunk, beside others: both found, nobody else hurt."""
    population = table(40, 7, 8)
    expected, others = harmless(population, 7, 8)
    evaluator = all_there(
        on_ray(settle(FunctionTask(Harmful(harm, str(tmp_path)), 2)), workers=2), 2, 2
    )
    answer = evaluator.submit(population, KEY).result()
    assert (answer.episodes.status == np.where(others, Status.OK, Status.CRASHED)).all()
    np.testing.assert_array_equal(
        answer.episodes.fitness, np.where(others, expected.fitness, np.nan)
    )
    crashed = [event for event in answer.events if event["kind"] == "episode_crashed"]
    assert sorted(event["candidate"] for event in crashed) == [7, 8]
    lost = [event for event in answer.events if event["kind"] == "worker_lost"]
    assert len(lost) >= 6  # three each, and those of the chunk they were in
    assert {event["reason"] for event in lost} == {"process died"}
    assert answer.telemetry.attempt[7] >= 3


def test_a_hang_is_ended_and_marked(on_ray, tmp_path):
    """A simulator stuck in its own code blocks every thread: its worker is replaced, the
    episode tried again elsewhere, and only then given up."""
    population = table(30, 11)
    expected, others = harmless(population, 11)
    evaluator = on_ray(
        settle(FunctionTask(Harmful(hang, str(tmp_path)), 2)), workers=2, episode_timeout_s=1.0
    )
    answer = all_there(evaluator, 2, 2).submit(population, KEY).result()
    assert answer.episodes.status[11] == Status.TIMEOUT
    assert (answer.episodes.status[others] == Status.OK).all()
    np.testing.assert_array_equal(
        answer.episodes.fitness, np.where(others, expected.fitness, np.nan)
    )
    (event,) = [each for each in answer.events if each["kind"] == "episode_timeout"]
    assert (event["candidate"], event["workers_lost"]) == (11, 2)
    lost = [each for each in answer.events if each["kind"] == "worker_lost"]
    assert {each["reason"] for each in lost} == {"episode timeout"}
    assert len(list(tmp_path.iterdir())) >= 2


def test_a_completed_answer_beats_a_time_out(on_ray, tmp_path):
    """A hang that does not repeat, of a network drive say, must leave no trajectory in results."""
    population = table(30, 4, 19)
    expected, _ = harmless(population)
    harmful = Harmful(hang, str(tmp_path), times=1)
    evaluator = on_ray(settle(FunctionTask(harmful, 2)), workers=2, episode_timeout_s=1.0)
    answer = all_there(evaluator, 2, 2).submit(population, KEY).result()
    assert_equal(answer.episodes, expected)
    assert "episode_timeout" not in kinds(answer)
    assert kinds(answer).count("worker_lost") == 2
    assert (answer.telemetry.attempt[[4, 19]] >= 2).all()


def test_the_limit_is_one_episodes_own(on_ray):
    """A chunk of many episodes takes longer than any of them may: nobody is ended for that."""
    population = gaussian(2, 400)
    (expected,) = serially(settle(FunctionTask(sphere, 2)), population)
    task = FunctionTask(Harmful(hang, "", above=np.inf), 2)
    evaluator = on_ray(settle(task), workers=2, episode_timeout_s=0.3, chunk_s=1.0)
    answer = evaluator.submit(population, KEY).result()
    assert_equal(answer.episodes, expected.episodes)
    durations = np.bincount(answer.telemetry.worker, answer.telemetry.duration_s)
    assert durations.max() > 0.6
    assert "worker_lost" not in kinds(answer)


def test_watched_episodes_equal_unwatched_ones(on_ray):
    """Run one by one under a time limit, sums over observations must not change a bit."""
    parts = settle(Task("CartPole-v1"), Linear())
    population = gaussian(
        parts[1].num_parameters, 50, episodes=3, probes=(ObservationMoments(np.full(4, 0.1)),)
    )
    (expected,) = serially(parts, population)
    answer = on_ray(parts, workers=2, episode_timeout_s=30.0).submit(population, KEY).result()
    assert_equal(answer.episodes, expected.episodes)


@dataclasses.dataclass(frozen=True)
class Pole:
    """A CartPole that ends its process when its pole starts out to the right of a limit."""

    limit: float

    def __call__(self):
        import gymnasium as gym

        limit = self.limit

        class Fragile(gym.Wrapper):
            def reset(self, **kwargs):
                observation, info = super().reset(**kwargs)
                if observation[2] > limit:
                    leave()
                return observation, info

        return Fragile(gym.make("CartPole-v1").unwrapped)


@pytest.mark.slow
def test_sums_do_without_a_lost_episode(on_ray):
    """An episode that is given up still has its place in the tree of sums, as zeros."""
    task = Task(Pole(0.049), max_episode_steps=20)
    policy = task.build_policy(Linear())
    probe = ObservationMoments(np.zeros(4))
    population = gaussian(policy.num_parameters, 60, probes=(probe,))
    answer = on_ray((task, policy, "loop"), workers=2).submit(population, KEY).result()
    crashed = answer.episodes.status == Status.CRASHED
    assert 0 < crashed.sum() < 6
    assert (answer.episodes.episode_length[crashed] == 0).all()
    counted = answer.episodes.sums["observation_count"][0]
    assert counted == answer.episodes.episode_length.sum()


@dataclasses.dataclass(frozen=True)
class Fatal:
    """A function that ends every process but the one that made it, while it is loaded."""

    pid: int
    __name__ = "fatal"

    def __call__(self, parameters):
        return sphere(parameters)

    def __reduce__(self):
        return load_or_die, (self.pid,)


def load_or_die(pid):
    if os.getpid() != pid:
        leave()
    return Fatal(pid)


@pytest.mark.slow
def test_workers_that_die_while_they_start_stop_the_run(on_ray, monkeypatch):
    """With pauses in between, not at once, and not for ever."""
    from distes.evaluators import worker_pool

    monkeypatch.setattr(worker_pool, "PAUSE_S", 0.05)
    evaluator = on_ray(settle(FunctionTask(Fatal(os.getpid()), 2)), workers=2)
    with pytest.raises(RunFailed, match=r"died while they started, 5 times .*can be resumed"):
        evaluator.submit(gaussian(2, 5), KEY).result()


@pytest.mark.slow
def test_deaths_while_idle_are_nobodys_fault(on_ray):
    """Workers that died between two evaluations never ran what they are sent next: the
    episode must not be given up for them."""
    evaluator = all_there(on_ray(settle(FunctionTask(sphere, 2)), workers=4), 4, 2)
    hands = list(evaluator._pool.handles.values())
    pids = ray.get([hand.actor.__ray_call__.remote(lambda _: os.getpid()) for hand in hands])
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while not all(cluster.find_death_time(hand.actor._actor_id.hex()) for hand in hands):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    answer = evaluator.submit(gaussian(2, 1), KEY).result()
    assert (answer.episodes.status == Status.OK).all()
    reasons = {e["reason"] for e in answer.events if e["kind"] == "worker_lost"}
    assert reasons == {"died while idle"}


class SlowToMake:
    """Makes an environment that takes its time to load, but not to run."""

    def __call__(self):
        import gymnasium as gym

        time.sleep(2.0)
        return gym.make("CartPole-v1")


@pytest.mark.slow
def test_the_limit_does_not_count_loading(on_ray):
    """A simulator that takes longer to load than an episode may take must not time out."""
    task = Task(SlowToMake(), max_episode_steps=5, reuse_env=True)
    policy = task.build_policy(Linear())
    population = gaussian(policy.num_parameters, 6)
    evaluator = on_ray((task, policy, "loop"), workers=1, episode_timeout_s=1.0)
    answer = evaluator.submit(population, KEY).result()
    assert (answer.episodes.status == Status.OK).all()


class SlowToLoad(FunctionTask):
    """A task that takes long to unpickle: workers are placed, but not ready."""

    def __reduce__(self):
        return load_slowly, (2.5,)


def load_slowly(seconds):
    time.sleep(seconds)
    return FunctionTask(sphere, 2)


@pytest.mark.slow
def test_slow_starts_are_waited_for(on_ray, monkeypatch):
    """Workers that take their time to import must not be withdrawn and started for ever."""
    from distes.evaluators import headcount

    monkeypatch.setattr(headcount, "PLACED_WITHIN_S", 0.5)
    monkeypatch.setattr(headcount, "LOOK_S", 0.1)
    evaluator = on_ray(settle(SlowToLoad(sphere, 2)), workers="auto")
    all_there(evaluator, 5, 2)
    assert evaluator._pool._count <= 6  # started once each, as far as there was room


def test_more_to_wait_for_than_workers_is_no_trap(on_ray):
    """A run begun with many ``min_workers`` must also go on, or be evaluated, with few."""
    evaluator = on_ray(settle(FunctionTask(sphere, 2)), workers=2, min_workers=16)
    assert len(evaluator.submit(gaussian(2, 5), KEY).result().episodes.fitness) == 5
