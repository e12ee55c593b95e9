"""Learning from trajectories through whole runs: the same on any workers, and through a loss."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import environments
import numpy as np
import pytest
from test_search import StopAt, assert_same_run

from distes import Search, Task
from distes.distributions import Point
from distes.evaluators.ray import EPISODES_PER_CHUNK, INLINE_BYTES, longest_chunk
from distes.policies import Gaussian
from distes.policies.softmax import Softmax
from distes.population import Population, RunKey, Trace
from distes.rollouts import Engines
from distes.rollouts.base import ROW, PackedTraces
from distes.score_sums import ScoreSums
from distes.strategies import DeepCEM, Reinforce, TabularCEM
from distes.strategies.base import Strategy

LEARNERS: dict[str, tuple[str, Strategy[Any]]] = {
    "deep_cem": ("CartPole-v0", DeepCEM(reuse=1)),
    "deep_cem, regression": ("Pendulum-v1", DeepCEM()),
    "tabular_cem": ("FrozenLake-v1", TabularCEM(same_start=True)),
    "reinforce": ("CartPole-v0", Reinforce(entropy_bonus=0.01)),
    "reinforce, value": ("CartPole-v0", Reinforce(baseline="value")),
}


def search(out: Path, name: str, **changes: Any) -> Search:
    env, strategy = LEARNERS[name]
    settings: dict[str, Any] = {"population": 14, "generations": 3, "episodes": 2, "seed": 5}
    settings |= {"heldout_episodes": 4, "final_episodes": 5, "workers": 0, "strategy": strategy}
    settings |= {"normalize_observations": name == "reinforce"}
    return Search(Task(env, max_episode_steps=60), out=out, **{**settings, **changes})


@pytest.mark.parametrize("name", LEARNERS)
@pytest.mark.parametrize("workers", [1, 2, 5])
def test_the_same_run_at_any_number_of_workers(
    tmp_path: Path, ray_local: Any, workers: int, name: str
) -> None:
    """Gradients fold along one tree; elites are run again from their seeds."""
    search(tmp_path / "serial", name).run()
    search(tmp_path / "ray", name, workers=workers).run()
    assert_same_run(tmp_path / "ray", tmp_path / "serial")


@pytest.mark.parametrize("name", LEARNERS)
def test_resumed_runs_are_the_same(tmp_path: Path, name: str) -> None:
    """Optimisers, baselines, tables and remembered elites go on exactly."""
    search(tmp_path / "whole", name).run()
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "cut", name, observers=(StopAt(1),)).run()
    Search.resume(tmp_path / "cut", workers=0)
    assert_same_run(tmp_path / "cut", tmp_path / "whole")


class Deadly(environments.gym.Wrapper[Any, Any, Any, Any]):
    """CartPole that kills its process once, at a chosen number of steps in all."""

    def __init__(self, once: str, at: int) -> None:
        super().__init__(environments.gym.make("CartPole-v1").unwrapped)
        self._once, self._left = Path(once), at

    def step(self, action: Any) -> Any:
        self._left -= 1
        if self._left < 0:
            try:
                self._once.touch(exist_ok=False)
            except FileExistsError:
                pass
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        return super().step(action)


@pytest.mark.parametrize("at", [100, 700])
def test_a_killed_worker_does_not_change_what_is_learnt(
    tmp_path: Path, ray_local: Any, at: int
) -> None:
    """Early it dies of sessions, later perhaps of elites that are run again."""

    def run(name: str, once: Path, workers: int) -> None:
        task = Task(
            Deadly,
            env_kwargs={"once": str(once), "at": at},
            max_episode_steps=50,
            reuse_env=True,
        )
        strategy = DeepCEM()
        settings: dict[str, Any] = {"population": 16, "generations": 4, "final_episodes": 5}
        Search(
            task, strategy=strategy, out=tmp_path / name, workers=workers, target=1e9, **settings
        ).run()

    there = tmp_path / "there"
    there.touch()  # nothing dies of it any more
    run("serial", there, 0)
    run("ray", tmp_path / "once", 2)
    assert (tmp_path / "once").exists(), "no worker was killed"
    assert_same_run(tmp_path / "ray", tmp_path / "serial")


def test_what_travels() -> None:
    """Sums do not grow with the length of episodes; elites ship as plain columns."""
    sizes = {}
    strategy = Reinforce(baseline="batch_mean")
    for steps in (20, 60):
        task = Task("Pendulum-v1", max_episode_steps=steps)
        problem = Search(task, strategy=strategy, policy=Gaussian(), workers=0).check()
        population = strategy.ask(problem, strategy.init(problem))
        chunk = Engines("loop", problem.task, problem.policy).run(
            population, RunKey(0, 0), 0, population.num_episodes
        )
        sizes[steps] = chunk.rows.nbytes + sum(
            value.nbytes for *_, sums in chunk.nodes for value in sums.values()
        )
    assert sizes[20] == sizes[60]


def test_chunks_leave_room_for_sums() -> None:
    """So that an answer travels inline with them; sums that never do shorten nothing."""
    task, policy = Task("CartPole-v0"), Task("CartPole-v0").build_policy(Softmax())
    plain = Population(Point(np.zeros(policy.num_parameters)), 5000)
    assert longest_chunk(plain, task, policy) == EPISODES_PER_CHUNK
    lengths = {}
    for horizon in (1000, 4000, 100_000):
        probed = replace(plain, probes=(ScoreSums(horizon=horizon),))
        lengths[horizon] = longest_chunk(probed, task, policy)
        sums = Engines("loop", task, policy).run(probed, RunKey(0, 0), 0, 1).nodes[0][2]
        size = sum(value.nbytes for value in sums.values())
        assert lengths[horizon] * ROW.itemsize + size <= INLINE_BYTES or size > INLINE_BYTES
    assert 1 < lengths[4000] < lengths[1000] <= lengths[100_000]


def test_traces_travel_as_their_numbers_alone() -> None:
    traces = [
        Trace(np.zeros(600), np.ones((t, 4)), np.ones(t, np.int64), np.ones(t), np.ones(4))
        for t in (3, 200, 17)
    ]
    packed = PackedTraces.of(traces)
    sizes = [each.nbytes for each in vars(packed).values()]
    assert sum(sizes) == 220 * (4 + 1 + 1) * 8 + 3 * (8 + 32)
    again = packed.unpacked(np.zeros((3, 600)))
    for one, other in zip(traces, again, strict=True):
        assert np.array_equal(one.observations, other.observations)
        assert np.array_equal(one.actions, other.actions)
        assert np.array_equal(one.last_observation, other.last_observation)
