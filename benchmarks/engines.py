"""Steps a second: the loop engine, the compiled engine, and what else there is.

One process, one core, for each environment and policy: the loop engine, the compiled engine
(as a whole, and its program alone), a loop in numba written by hand for the same arithmetic,
Gymnasium's own vector CartPole, and EnvPool where it is installed. All drive the same policy;
episodes of the two engines are compared.

    python benchmarks/engines.py
"""

from __future__ import annotations

import importlib.util
import math
import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numba
import numpy as np
from common import keep, options

from distes.engines.compiled import CompiledEngine
from distes.engines.kernels.batch import Batch
from distes.engines.kernels.environments import acrobot
from distes.engines.loop import LoopEngine
from distes.policies import MLP, Linear
from distes.population.distributions import Table
from distes.population.records import Population, RunKey
from distes.tasks.environment import Task

ENVIRONMENTS = (
    "CartPole-v1",
    "Pendulum-v1",
    "Acrobot-v1",
    "MountainCar-v0",
    "MountainCarContinuous-v0",
    "distes/WallFollow-v0",
)
POLICIES = {"linear": Linear(), "MLP 64-64 relu": MLP(hidden=(64, 64), activation="relu")}
KEY = RunKey(0, 0)
REPEATS = 7


def typical(work: Callable[[], int]) -> float:
    """Steps a second: the median of several runs, the first left out."""
    work()
    rates = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        steps = work()
        rates.append(steps / (time.perf_counter() - began))
    return float(np.median(rates))


def balanced(env: str, policy: Any) -> np.ndarray:
    """Parameters that balance CartPole; zeros elsewhere."""
    parameters = np.zeros(policy.num_parameters)
    if env != "CartPole-v1":
        return parameters
    gains = np.array([1.0, 2.0, 8.0, 3.0])
    layers = policy.layers(parameters)
    if len(layers) == 1:
        layers[0][0][:, 1] = gains
        return parameters
    # The two signs of one linear output, passed on.
    (first, _), (second, _), (last, _) = layers
    first[:, 0], first[:, 1] = gains, -gains
    second[0, 0] = second[1, 1] = 1.0
    last[0, 1] = last[1, 0] = 1.0
    return parameters


def engines(env: str, label: str) -> dict[str, Any]:
    """Compare the engines on an environment with a policy."""
    task = Task(env)
    policy = task.build_policy(POLICIES[label])
    # What drawing many parameters costs is not the engines' affair: candidates are given.
    size = 1024 if label == "linear" else 256
    draws = np.random.default_rng(0).normal(size=(size, policy.num_parameters))
    table = Table(balanced(env, policy) + 1e-3 * draws)
    small, large = Population(table, 32), Population(table, size)
    mixed = np.where(np.arange(64)[:, None] % 2, table.parameters[:64], draws[:64])
    checked = Population(Table(mixed), 64)
    slow, fast = LoopEngine(task, policy), CompiledEngine(task, policy)

    def steps(engine: Any, population: Population) -> int:
        return int(engine.run(population, KEY, 0, population.size).rows["episode_length"].sum())

    one, other = (engine.run(checked, KEY, 0, 64).rows for engine in (slow, fast))
    runner, conditions = fast._load_runner(), fast._conditions(large, None)
    seeds = large.seeds(KEY, 0, large.size)
    parameters, rows = large.distribution.draw(np.arange(large.size)), np.arange(large.size)
    resets = runner.reset(seeds, None)
    batch = Batch(resets, seeds, parameters, rows, conditions)
    rates = {
        "loop": typical(lambda: steps(slow, small)),
        "compiled": typical(lambda: steps(fast, large)),
        "program": typical(lambda: int(runner.run(batch).lengths.sum())),
    }
    return {
        "environment": env,
        "policy": label,
        **{f"{name}_steps_s": rate for name, rate in rates.items()},
        "compiled_over_loop": rates["compiled"] / rates["loop"],
        "differing": int((one["episode_return"] != other["episode_return"]).sum()),
        "bare_steps_s": bare(env, label),
        "vector_steps_s": vector(env, label),
        "envpool_steps_s": envpool(env, label),
    }


def bare(env: str, label: str) -> float:
    """The same arithmetic in a loop written by hand for it alone, where one is here."""
    if env == "Acrobot-v1" and label == "linear":
        return typical(lambda: bare_acrobot(200_000, 2.0))
    if env == "CartPole-v1" and label != "linear":
        shapes = [(4, 64), (64,), (64, 64), (64,), (64, 2), (2,)]
        arrays = [np.zeros(shape) for shape in shapes]
        return typical(lambda: bare_cartpole(*arrays, 20_000))
    return math.nan


@numba.njit(error_model="numpy")  # type: ignore[untyped-decorator]
def bare_acrobot(steps: int, two: float) -> int:
    """Runge and Kutta's steps of Acrobot alone."""
    state = np.array([0.05, -0.05, 0.02, 0.01])
    for i in range(steps):
        acrobot.swing_up(state, float(i % 3) - 1.0, two)
    return steps


@numba.njit(error_model="numpy")  # type: ignore[untyped-decorator]
def bare_cartpole(w1: Any, b1: Any, w2: Any, b2: Any, w3: Any, b3: Any, steps: int) -> int:
    """CartPole with a ReLU network of 64-64 units, its shapes written out."""
    x, x_dot, theta, theta_dot = 0.01, 0.02, -0.01, 0.03
    first, second, out, seen = np.zeros(64), np.zeros(64), np.zeros(2), np.zeros(4)
    for _ in range(steps):
        seen[0], seen[1] = np.float32(x), np.float32(x_dot)
        seen[2], seen[3] = np.float32(theta), np.float32(theta_dot)
        first[:] = 0.0
        for i in range(4):
            for j in range(64):
                first[j] += seen[i] * w1[i, j]
        for j in range(64):
            first[j] = max(first[j] + b1[j], 0.0)
        second[:] = 0.0
        for i in range(64):
            for j in range(64):
                second[j] += first[i] * w2[i, j]
        for j in range(64):
            second[j] = max(second[j] + b2[j], 0.0)
        out[:] = 0.0
        for i in range(64):
            for j in range(2):
                out[j] += second[i] * w3[i, j]
        force = 10.0 if out[1] + b3[1] > out[0] + b3[0] else -10.0
        cos, sin = math.cos(theta), math.sin(theta)
        shared = (force + 0.05 * theta_dot * theta_dot * sin) / 1.1
        theta_acc = (9.8 * sin - cos * shared) / (0.5 * (4.0 / 3.0 - 0.1 * cos * cos / 1.1))
        x_acc = shared - 0.05 * theta_acc * cos / 1.1
        x, x_dot = x + 0.02 * x_dot, x_dot + 0.02 * x_acc
        theta, theta_dot = theta + 0.02 * theta_dot, theta_dot + 0.02 * theta_acc
        if abs(theta) > 0.2 or abs(x) > 2.4:
            x, x_dot, theta, theta_dot = 0.01, 0.02, -0.01, 0.03
    return steps


def vector(env: str, label: str) -> float:
    """Gymnasium's vector CartPole with a linear policy: one seed for all episodes."""
    if env != "CartPole-v1" or label != "linear":
        return math.nan
    size = 4096
    envs = gym.make_vec(env, num_envs=size, vectorization_mode="vector_entry_point")
    weights = np.array([1.0, 2.0, 8.0, 3.0])

    def work() -> int:
        seen, _ = envs.reset(seed=0)
        for _ in range(500):
            seen = envs.step((seen @ weights > 0).astype(np.int64))[0]
        return 500 * size

    return typical(work)


def envpool(env: str, label: str) -> float:
    """EnvPool with a linear policy."""
    names = ("CartPole-v1", "Pendulum-v1", "Acrobot-v1", "MountainCar-v0")
    if label != "linear" or env not in names or importlib.util.find_spec("envpool") is None:
        return math.nan
    pool = importlib.import_module("envpool")
    size = 4096
    envs = pool.make(env, env_type="gymnasium", num_envs=size, num_threads=1)
    seen, _ = envs.reset()
    balances = env == "CartPole-v1"
    weights = np.array([1.0, 2.0, 8.0, 3.0]) if balances else np.zeros(np.shape(seen)[1])
    box, steps = hasattr(envs.action_space, "high"), 500 if balances else 200

    def work() -> int:
        shown, _ = envs.reset()
        for _ in range(steps):
            output = shown @ weights
            choice = np.clip(output, -2, 2)[:, None] if box else output > 0
            shown = envs.step(choice.astype(np.float32 if box else np.int32))[0]
        return steps * size

    return typical(work)


def main() -> None:
    given = options(__doc__).parse_args()
    keep("engines", [engines(env, label) for label in POLICIES for env in ENVIRONMENTS], given.out)


if __name__ == "__main__":
    main()
