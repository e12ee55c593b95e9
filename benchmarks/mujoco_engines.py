"""MuJoCo's environments: the loop engine, the compiled engine, and a bare loop of mj_step.

One process, one core. For each environment a linear policy runs the same episodes on both engines,
and their controls are given to mj_step alone, in machine code and without the lock, from the same
starts: that is the limit, what MuJoCo's own arithmetic costs. Where an observation needs forces of
contacts (mj_rnePostConstraint) a second limit has them, too. EnvPool, where it is installed, runs
one linear policy on one thread, on a MuJoCo of its own, 64 environments in a call.

Rounds go by turns; rates and ratios are medians over them, of the process's own time.

    python benchmarks/mujoco_engines.py [--rounds 7] [--environments Hopper-v5 ...]
        [--out benchmarks/results]
"""

from __future__ import annotations

import importlib.util
import math
import time
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from common import keep, options

from distes.engines.compiled import CompiledEngine
from distes.engines.kernels.mujoco import simulation as sim
from distes.engines.loop import LoopEngine
from distes.policies import Linear
from distes.population.distributions import Table
from distes.population.records import RECORDS, Population, RunKey
from distes.tasks.environment import Task

ENVIRONMENTS = (
    *("InvertedPendulum", "InvertedDoublePendulum", "Reacher", "Pusher", "Swimmer", "Hopper"),
    *("Walker2d", "HalfCheetah", "Ant", "Humanoid", "HumanoidStandup"),
)
KEY = RunKey(0, 0)
STEPS = 4_000
"""Least number of steps of a round."""

BATCH = 64
"""Environments that EnvPool steps in one call."""


@numba.njit(error_model="numpy", nogil=True)  # type: ignore[untyped-decorator]
def step_alone(states: Any, ends: Any, controls: Any, constants: Any, with_forces: float) -> None:
    """Begin each episode as it began, and step with its controls."""
    wanted, constants[sim.RNE] = constants[sim.RNE], with_forces
    at = 0
    for i in range(len(ends)):
        sim.set_state(states[i], constants)
        while at < ends[i]:
            sim.simulate(controls[at], constants)
            at += 1
    constants[sim.RNE] = wanted


def compare(name: str, rounds: int) -> dict[str, Any]:
    """Time all ways by turns."""
    task = Task(f"{name}-v5")
    policy = task.build_policy(Linear())
    loop, compiled = LoopEngine(task, policy), CompiledEngine(task, policy)
    draws = np.random.default_rng(1).normal(size=(1_000, policy.num_parameters))
    table = Table(0.1 * draws)
    # As many episodes as a round takes.
    tried = compiled.run(Population(table, 1_000), KEY, 0, 20).rows["episode_length"].mean()
    size = min(1_000, math.ceil(STEPS / tried))
    population = Population(Table(0.1 * draws[:size]), size)
    recorded = Population(Table(0.1 * draws[:size]), size, records=RECORDS)
    chunk = compiled.run(recorded, KEY, 0, size)
    packed: Any = chunk.trajectories
    kernel, runner = compiled._kernel, compiled._load_runner()
    states = runner.reset(population.start_seeds(KEY, 0, size), None).states
    controls = np.ascontiguousarray(packed.actions, np.float64)
    ends = np.cumsum(packed.lengths, dtype=np.int64)
    differing = 0
    steps = int(packed.lengths.sum())

    def alone(forces: bool) -> Callable[[], int]:
        def work() -> int:
            step_alone(states, ends, controls, kernel.constants, float(forces))
            return steps

        return work

    def engine(which: Any) -> Callable[[], int]:
        def work() -> int:
            nonlocal differing
            rows = which.run(population, KEY, 0, size).rows
            differing += int((rows["episode_return"] != chunk.rows["episode_return"]).sum())
            return int(rows["episode_length"].sum())

        return work

    ways = {"loop": engine(loop), "kernel": engine(compiled), "bare": alone(False)}
    if kernel.has_contact_forces:
        ways["bare_with_forces"] = alone(True)
    if importlib.util.find_spec("envpool") is not None:
        ways["envpool"] = envpool(name, policy, draws)
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(rounds + 1):
        for way, work in ways.items():
            began = time.process_time()
            done = work()
            spent = time.process_time() - began
            if turn:  # the first one warms up
                rates[way].append(done / spent)
    own = np.array(rates["kernel"])
    return {
        "environment": task.name,
        "steps": steps,
        **{f"{way}_steps_s": round(float(np.median(each))) for way, each in rates.items()},
        **{
            f"kernel_over_{way}": round(float(np.median(own / np.array(each))), 3)
            for way, each in rates.items()
            if way != "kernel"
        },
        "differing": differing,
    }


def envpool(name: str, policy: Any, draws: Any) -> Callable[[], int]:
    """EnvPool on one thread, a batch of environments with one product a step for all."""
    pool = importlib.import_module("envpool")
    envs = pool.make(f"{name}-v5", env_type="gymnasium", num_envs=BATCH, num_threads=1)
    (weights, bias), *_ = policy.layers(0.1 * draws[0])
    low, high = envs.action_space.low, envs.action_space.high

    def work() -> int:
        seen, _ = envs.reset()
        for _ in range(STEPS // BATCH):
            seen = envs.step(np.clip(seen @ weights + bias, low, high))[0]
        return STEPS // BATCH * BATCH

    return work


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="of each way (7)")
    parser.add_argument(
        "--environments", nargs="+", default=ENVIRONMENTS, choices=ENVIRONMENTS, metavar="NAME"
    )
    given = parser.parse_args()
    rows = [compare(name, given.rounds) for name in given.environments]
    keep("mujoco_engines", rows, given.out)


if __name__ == "__main__":
    main()
