"""Env steps per second of the loop engine, against loops written by hand.

Three ways to run the same candidates on the same episode seeds, timed in turn:
the engine; a minimal loop over one bare environment with the policy's arithmetic
written out; and a multiprocessing pool that makes an environment for every candidate,
as the programs do that this project grew from (against the engine in one process, times
the processes of the pool, so that both have the same cores).

    python benchmarks/loop_engine.py [--pairs 101]
"""

from __future__ import annotations

import multiprocessing
import os
from typing import Any

import gymnasium as gym
import numpy as np
from common import in_turn, keep, options, ratio

import distes
from distes.engines import choice
from distes.population.distributions import Table
from distes.population.records import Population, RunKey
from distes.strategies.cem import CEM

KEY = RunKey(seed=0, generation=0)


def hand_written(env: Any, limit: int, thetas: Any, seeds: Any, low: Any, high: Any) -> Any:
    """Run linear policies in one bare environment: nothing but what must be done."""
    size = env.observation_space.shape[0]
    outputs = thetas.shape[1] // (size + 1)
    step, einsum, minimum, maximum = env.step, np.einsum, np.minimum, np.maximum
    returns = []
    for theta, seed in zip(thetas, seeds, strict=True):
        weights = np.ascontiguousarray(theta[: size * outputs].reshape(size, outputs))
        bias = theta[size * outputs :]
        observation, _ = env.reset(seed=int(seed))
        total = 0.0
        for _ in range(limit):
            out = einsum("i,io->o", np.asarray(observation, np.float64), weights) + bias
            if low is None:
                action = int(out.argmax())
            else:
                action = minimum(maximum(out, low), high).astype(np.float32)
            observation, reward, terminated, truncated, _ = step(action)
            total += reward
            if terminated or truncated:
                break
        returns.append(float(total))
    return np.array(returns)


def rollout_in_new_environment(job: tuple[str, Any, int]) -> float:
    """One candidate of the pool: makes an environment, as those programs do."""
    env_id, theta, seed = job
    env = gym.make(env_id)
    bounds = (None, None)
    if isinstance(env.action_space, gym.spaces.Box):
        bounds = (env.action_space.low, env.action_space.high)
    result = hand_written(env, 10**9, theta[None], [seed], *bounds)
    env.close()
    return float(result[0])


def candidates(env_id: str, skilled: bool, count: int) -> Any:
    """Random parameters, or ones found by a short search."""
    search = distes.Search(env_id, policy="linear", strategy="cem", seed=1)
    size = search.built_policy().num_parameters
    generator = np.random.default_rng(0)
    if not skilled:
        return generator.standard_normal((count, size))
    run = distes.Search(
        env_id,
        policy="linear",
        strategy=CEM(),
        population=64,
        generations=8,
        seed=1,
        workers=0,
        target=1e9,
    ).run()
    best = run.solution.distribution.draw(np.zeros(1, dtype=np.int64))
    return np.repeat(best, count, axis=0)


def measure(env_id: str, skilled: bool, count: int, pairs: int, pool: Any) -> dict[str, Any]:
    """Time one environment."""
    task = distes.Task(env_id)
    policy = task.build_policy(distes.policies.Linear())
    engine = choice.make("loop", task, policy)
    thetas = candidates(env_id, skilled, count)
    population = Population(Table(thetas), count)
    seeds = population.seeds(KEY, 0, count)
    env = gym.make(env_id).unwrapped
    space = env.action_space
    bounds = (None, None)
    if isinstance(space, gym.spaces.Box):
        bounds = (space.low.astype(np.float64), space.high.astype(np.float64))
    limit = task.step_limit() or 10**9

    def ours() -> Any:
        return engine.run(population, KEY, 0, count)

    def by_hand() -> Any:
        return hand_written(env, limit, thetas, seeds, *bounds)

    def by_pool() -> Any:
        jobs = [(env_id, theta, int(seed)) for theta, seed in zip(thetas, seeds, strict=True)]
        return pool.map(rollout_in_new_environment, jobs, chunksize=1)

    chunk = ours()
    assert np.array_equal(chunk.rows["episode_return"], by_hand())  # the same episodes
    steps = int(chunk.rows["episode_length"].sum())
    timed = in_turn(ours, by_hand, pairs)
    pooled = in_turn(ours, by_pool, max(25, pairs // 4))
    against_pool = [(a / os.cpu_count(), b) for a, b in pooled]
    return {
        "environment": env_id,
        "policy": "found" if skilled else "random",
        "steps_per_episode": steps / count,
        "engine_steps_per_s": steps / float(np.median([a for a, _ in timed])),
        "hand_steps_per_s": steps / float(np.median([b for _, b in timed])),
        "engine/hand": ratio(timed)["ratio_median"],
        "q25": ratio(timed)["ratio_q25"],
        "q75": ratio(timed)["ratio_q75"],
        "pairs": len(timed),
        "engine/pool": ratio(against_pool)["ratio_median"],
    }


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--pairs", type=int, default=101)
    given = parser.parse_args()
    pairs = given.pairs
    with multiprocessing.get_context("fork").Pool() as pool:
        rows = [
            measure("CartPole-v1", True, 8, pairs, pool),
            measure("CartPole-v1", False, 200, pairs, pool),
            measure("HalfCheetah-v5", False, 2, pairs, pool),
        ]
    keep("loop_engine", rows, given.out)


if __name__ == "__main__":
    main()
