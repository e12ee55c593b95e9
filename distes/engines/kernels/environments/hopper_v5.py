"""Gymnasium's Hopper: one leg that hops, in a plane."""

from __future__ import annotations

from typing import Any

from distes.engines.kernels.mujoco import simulation as sim
from distes.engines.kernels.mujoco.legs import Legs


class Hopper(Legs):
    """Takes what `gymnasium.envs.mujoco.hopper_v5.HopperEnv` takes."""

    entry_point = "gymnasium.envs.mujoco.hopper_v5:HopperEnv"
    exact = True

    def __init__(
        self,
        xml_file: str = "hopper.xml",
        frame_skip: int = 4,
        *,
        forward_reward_weight: float = 1.0,
        ctrl_cost_weight: float = 1e-3,
        healthy_reward: float = 1.0,
        terminate_when_unhealthy: bool = True,
        healthy_state_range: tuple[float, float] = (-100.0, 100.0),
        healthy_z_range: tuple[float, float] = (0.7, float("inf")),
        healthy_angle_range: tuple[float, float] = (-0.2, 0.2),
        reset_noise_scale: float = 5e-3,
        exclude_current_positions_from_observation: bool = True,
        **drawing: Any,
    ) -> None:
        self.open(xml_file, frame_skip, drawing)
        self.require_at_least(nq=3)
        chosen = sim.flags(
            terminate_when_unhealthy, exclude_current_positions_from_observation, True
        )
        ranges = (
            *sim.pair(healthy_z_range),
            *sim.pair(healthy_angle_range),
            *sim.pair(healthy_state_range),
        )
        numbers = (forward_reward_weight, ctrl_cost_weight, sim.weight(healthy_reward))
        self.constants = self.pack(numbers=(*numbers, *chosen, *ranges), noise=reset_noise_scale)
