"""Learning from trajectories through whole runs: the same on any workers, and through a loss."""

from __future__ import annotations

import json
import pickle
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import environments
import numpy as np
import pytest
from marks import slow
from searches import StopAt, assert_same_run

from distes import Search, Task
from distes.engines.choice import Engines
from distes.engines.wire import ROW, Chunk, PackedTrajectories
from distes.errors import Notice
from distes.evaluators.chunk_size import EPISODES_PER_CHUNK, INLINE_BYTES, find_largest_size
from distes.evaluators.serial import SerialEvaluator
from distes.policies import GaussianNoise, Linear
from distes.policies.softmax import Softmax
from distes.population.distributions import Gaussian, Point
from distes.population.policy_gradient_sums import PolicyGradientSums
from distes.population.probes import ObservationMoments
from distes.population.records import RECORDS, Population, RunKey, Trajectory
from distes.runs.reader import load
from distes.seeds import noise_key
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


@pytest.mark.parametrize("name", [slow(name) if "," in name else name for name in LEARNERS])
@pytest.mark.parametrize("workers", [slow(1), 2, slow(5)])
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


@pytest.mark.parametrize("at", [slow(100), 700])
def test_a_killed_worker_does_not_change_what_is_learnt(
    tmp_path: Path, ray_local: Any, at: int
) -> None:
    """Early it dies of sessions, later perhaps of elites that are run again."""

    def run(name: str, once: Path, workers: int) -> None:
        task = Task(
            environments.Deadly,
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


def test_what_happens_to_elites_that_run_again_is_logged(tmp_path: Path) -> None:
    """Faults of a second run are events of its generation; no episode is logged twice."""
    environments.Tiring.resets = 0
    task = Task(environments.Tiring, env_kwargs={"fails": (12,)})
    strategy = DeepCEM(percentile=80.0)
    settings: dict[str, Any] = {"population": 10, "generations": 1, "final_episodes": 3}
    settings |= {"heldout_episodes": 2, "workers": 0, "out": tmp_path / "run"}
    with pytest.warns(Notice, match="1 of 2 episodes went otherwise"):
        Search(task, strategy=strategy, **settings).run()
    run = load(tmp_path / "run")
    assert (run.episodes["status"] == "ok").all()
    assert len(run.episodes) == 10
    lines = (tmp_path / "run" / "events.jsonl").read_text().splitlines()
    faults = [event for event in map(json.loads, lines) if event["kind"] == "episode_error"]
    assert [(each["generation"], each["purpose"]) for each in faults] == [(0, "search")]
    assert "tired of reset 12" in faults[0]["traceback"]


def test_what_travels() -> None:
    """Sums do not grow with the length of episodes; elites ship as plain columns."""
    sizes = {}
    strategy = Reinforce(baseline="batch_mean")
    for steps in (20, 60):
        task = Task("Pendulum-v1", max_episode_steps=steps)
        problem = Search(task, strategy=strategy, policy=GaussianNoise(), workers=0).check()
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
    assert find_largest_size(plain, task, policy) == EPISODES_PER_CHUNK
    lengths = {}
    for horizon in (1000, 4000, 100_000):
        probed = replace(plain, probes=(PolicyGradientSums(horizon=horizon),))
        lengths[horizon] = find_largest_size(probed, task, policy)
        sums = Engines("loop", task, policy).run(probed, RunKey(0, 0), 0, 1).nodes[0][2]
        size = sum(value.nbytes for value in sums.values())
        assert lengths[horizon] * ROW.itemsize + size <= INLINE_BYTES or size > INLINE_BYTES
    assert 1 < lengths[4000] < lengths[1000] <= lengths[100_000]


def test_traces_travel_as_their_numbers_alone() -> None:
    trajectories = [
        Trajectory(np.zeros(600), np.ones((t, 4)), np.ones(t, np.int64), np.ones(t), np.ones(4))
        for t in (3, 200, 17)
    ]
    for records in (RECORDS, ("observations", "actions")):
        packed = PackedTrajectories.pack(trajectories, records)
        sent = pickle.dumps(packed.to_wire(), 5)
        each = 8 * (4 + 1 + 1) if records is RECORDS else 8 * (4 + 1)
        last = 32 if records is RECORDS else 0
        assert len(sent) <= 220 * each + 3 * (last + 8) + 120
        arrived = PackedTrajectories.from_wire(pickle.loads(sent))  # noqa: S301 - made just now
        again = arrived.unpack(np.zeros((3, 600)))
        for one, other in zip(trajectories, again, strict=True):
            assert np.array_equal(one.observations, other.observations)
            assert np.array_equal(one.actions, other.actions)
            assert other.actions.dtype == np.int64
            if records is RECORDS:
                assert np.array_equal(one.rewards, other.rewards)
                assert np.array_equal(one.last_observation, other.last_observation)
            else:
                assert len(other.rewards) == 0
                assert other.last_observation is None


def test_chunks_arrive_as_they_were() -> None:
    """WireTuple or not, a chunk says the same: rows, sums, contexts, info, faults, trajectories."""
    task = Task(
        environments.Walk,
        context="uniform",
        context_low=(0.0,),
        context_high=(2.0,),
        env_kwargs={"fail_above": 1.0},
        log_info=("distance",),
    )
    policy = task.build_policy(Linear())
    population = Population(
        Gaussian(np.zeros(3), np.ones(3), noise_key(1, 0)),
        11,
        probes=(ObservationMoments(np.zeros(2)),),
        records=RECORDS,
    )
    engine = Engines("loop", task, policy)
    for start, stop in ((0, 11), (3, 4)):
        chunk = engine.run(population, RunKey(0, 0), start, stop)
        sent = pickle.dumps(chunk.to_wire(), 5)
        again = Chunk.from_wire(pickle.loads(sent))  # noqa: S301 - made just now
        assert again.rows.dtype == chunk.rows.dtype
        assert again.rows.tobytes() == chunk.rows.tobytes()
        assert (again.start, again.stop, again.faults) == (start, stop, chunk.faults)
        assert np.array_equal(again.contexts, chunk.contexts)
        assert np.array_equal(again.info["distance"], chunk.info["distance"], equal_nan=True)
        for (level, index, sums), other in zip(chunk.nodes, again.nodes, strict=True):
            assert (level, index, list(sums)) == (*other[:2], list(other[2]))
            assert all(np.array_equal(sums[name], other[2][name]) for name in sums)
        for field in fields(PackedTrajectories):
            one, other = (getattr(each.trajectories, field.name) for each in (chunk, again))
            assert one.dtype == other.dtype
            assert np.array_equal(one, other)


@pytest.mark.parametrize("episodes_a_chunk", [6, 100])
def test_deep_cem_sends_its_elites_and_64_bytes_an_episode(episodes_a_chunk: int) -> None:
    """Observations and choices of elites, 40 bytes a step, are its share; pickled answers."""
    strategy = DeepCEM()
    problem = Search("CartPole-v0", strategy=strategy, workers=0).check()
    population = strategy.ask(problem, strategy.init(problem))
    engines, sent, shares = Engines("loop", problem.task, problem.policy), 0, 0
    problem.evaluator = SerialEvaluator(problem.task, problem.policy, "loop")
    submit = problem.evaluator.submit

    def counted(population: Population, key: RunKey) -> Any:
        nonlocal sent, shares
        total = population.num_episodes
        for start in range(0, total, episodes_a_chunk):
            chunk = engines.run(population, key, start, min(start + episodes_a_chunk, total))
            sent += len(pickle.dumps((0.25, *chunk.to_wire()), 5))
            if chunk.trajectories is not None:
                shares += 40 * int(chunk.rows["episode_length"].sum())
        return submit(population, key)

    problem.evaluator.submit = counted  # type: ignore[method-assign]
    episodes = problem.evaluator.submit(population, RunKey(0, 0)).result().episodes
    strategy.tell(problem, strategy.init(problem), population, episodes)
    assert shares > 0
    assert sent - shares <= 64 * 100
