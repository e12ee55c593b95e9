"""A cart with two poles of different lengths, described once: an environment and its machine code.

`distes run two_poles:TwoPoles-v0 --strategy cmaes --common-seeds` from this folder searches from
the command line. `HeavyPoles-v0` has other masses in each episode, as a context. The guide is
docs/robots.md.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import gymnasium as gym

import distes
from distes.engines.kernels.kernel import Array, jit, uniform
from distes.engines.kernels.mujoco.robot import Model, Robot, Simulation
from distes.testing import assert_kernel_matches

TRACK = 2.4  # m to either side
FALLEN = 0.63  # rad, 36 degrees


class TwoPoles(Robot):
    """Wieland (1991), "Evolving neural network controllers for unstable systems"."""

    xml_file = Path(__file__).with_name("two_poles.xml")
    num_observations = 6
    frame_skip = 2
    reset_noise = 0.03
    info_names = ("place",)
    observation_names = (
        *("cart in m", "long pole in rad", "short pole in rad"),
        *("cart in m/s", "long pole in rad/s", "short pole in rad/s"),
    )

    @staticmethod
    def observe(now: Simulation, observation: Array) -> None:
        observation[:3] = now.qpos
        observation[3:] = now.qvel

    @staticmethod
    def reward(now: Simulation, action: Array) -> float:
        return 1.0 - 0.1 * abs(now.qpos[0]) - 0.01 * action[0] * action[0]

    @staticmethod
    def is_over(now: Simulation) -> bool:
        return abs(now.qpos[0]) > TRACK or has_fallen(now.qpos[1]) or has_fallen(now.qpos[2])

    @staticmethod
    def inform(now: Simulation, info: Array) -> None:
        info[0] = now.qpos[0]


@jit
def has_fallen(angle: float) -> bool:
    """Say whether a pole leans too far."""
    return abs(angle) > FALLEN


class HeavyPoles(TwoPoles):
    """The same, with poles between half and twice as heavy as in the file."""

    num_contexts = 2
    context_names = ("mass of the long pole", "mass of the short pole")

    @staticmethod
    def draw_context(generator: Array, context: Array) -> None:
        context[0] = uniform(generator, 0.5, 2.0)
        context[1] = uniform(generator, 0.5, 2.0)

    @staticmethod
    def apply_context(model: Model, context: Array) -> None:
        for pole in range(2):  # bodies: the world, the cart, the poles
            model.body_mass[2 + pole] *= context[pole]
            model.body_inertia[2 + pole] *= context[pole]


if __name__ != "__main__":
    for robot in (TwoPoles, HeavyPoles):
        name = f"{robot.__name__}-v0"
        if name not in gym.registry:
            place = f"{__name__}:{robot.__name__}"
            gym.register(name, place, max_episode_steps=1000, reward_threshold=950)


def main(generations: int = 400, out: Path | None = None) -> Any:
    # By its name, under which other processes find it.
    env = "two_poles:TwoPoles-v0"
    two_poles = importlib.import_module("two_poles")
    print(assert_kernel_matches(two_poles.TwoPoles.kernel, env, distes.policies.Linear(), 200))
    result = distes.Search(
        distes.Task(env, log_info=("place",)),
        strategy=distes.strategies.CMAES(),
        policy="linear",
        population=24,
        common_seeds=True,
        generations=generations,
        out=out,
    ).run()
    score = result.score
    print(f"{result.stopped}: {score.mean:.1f} of 1000 over {score.episodes} unseen episodes")
    return result


if __name__ == "__main__":
    main()
