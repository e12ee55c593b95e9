"""Gymnasium's Walker2d: two legs that walk, in a plane."""

from __future__ import annotations

from typing import Any

from distes.engines.kernels.mujoco import simulation as sim
from distes.engines.kernels.mujoco.legs import Legs


class Walker2d(Legs):
    """Takes what `gymnasium.envs.mujoco.walker2d_v5.Walker2dEnv` takes."""

    entry_point = "gymnasium.envs.mujoco.walker2d_v5:Walker2dEnv"
    exact = True

    def __init__(
        self,
        xml_file: str = "walker2d_v5.xml",
        frame_skip: int = 4,
        *,
        forward_reward_weight: float = 1.0,
        ctrl_cost_weight: float = 1e-3,
        healthy_reward: float = 1.0,
        terminate_when_unhealthy: bool = True,
        healthy_z_range: tuple[float, float] = (0.8, 2.0),
        healthy_angle_range: tuple[float, float] = (-1.0, 1.0),
        reset_noise_scale: float = 5e-3,
        exclude_current_positions_from_observation: bool = True,
        **drawing: Any,
    ) -> None:
        self.open(xml_file, frame_skip, drawing)
        self.require_at_least(nq=3)
        chosen = sim.flags(
            terminate_when_unhealthy, exclude_current_positions_from_observation, False
        )
        ranges = (*sim.pair(healthy_z_range), *sim.pair(healthy_angle_range), 0.0, 0.0)
        numbers = (forward_reward_weight, ctrl_cost_weight, sim.weight(healthy_reward))
        self.constants = self.pack(numbers=(*numbers, *chosen, *ranges), noise=reset_noise_scale)
