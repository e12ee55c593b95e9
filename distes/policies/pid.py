"""PID controllers: an output from an observation's error, its integral and its derivative.

| name | in control |
|---|---|
| setpoint | r, what observations are to be |
| error | e = r − o |
| proportional, integral, derivative | K_p, K_i, K_d |
| totals | I, the integral term |
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box
from numpy.random import Generator

from distes.errors import UsageError
from distes.policies.base import Act, BuiltPolicy, PolicySpec, number_names
from distes.policies.spaces import ActionHead, ObservationEncoder, describe
from distes.types import FloatArray, NonNegativeFloat, PositiveFloat


@dataclass(frozen=True)
class Pid(PolicySpec):
    """K_p·e + I + K_d·ė + offset, where e = setpoint − o and I sums K_i·e·dt.

    Parameters are [K_p; K_i; K_d], each (action, observation) row by row: 12 on the
    wall-following robot, whose values are the defaults. They start at zero. Integral and
    derivative begin anew with each episode.

    Attributes:
        setpoint: what observations are to be; components beyond those given are to be 0.
        dt: seconds between actions, > 0.
        log_error: take sign(e)·log(1 + |e|) of the first component's error.
        integral_limit: greatest size of each component of I, >= 0.
        offset: added to each action.
        limit: greatest size of each component of an action, > 0; it is then clipped to the
            action space, too.
    """

    setpoint: tuple[float, ...] = (10.0,)
    dt: PositiveFloat = 0.1
    log_error: bool = True
    integral_limit: NonNegativeFloat = 30.0
    offset: float = 150.0
    limit: PositiveFloat = 324.0

    def build(self, observation_space: gym.Space[Any], action_space: gym.Space[Any]) -> PidPolicy:
        for kind, space in (("observation", observation_space), ("action", action_space)):
            if not isinstance(space, Box):
                raise UsageError(
                    f"{kind} space {describe(space)} is not supported by pid: accepted is Box"
                )
        seen = ObservationEncoder(observation_space)
        if len(self.setpoint) > seen.size:
            raise UsageError(
                f"setpoint has {len(self.setpoint)} numbers, an observation {seen.size}"
            )
        return PidPolicy(self, seen, ActionHead(action_space))


@dataclass(frozen=True, eq=False)
class PidPolicy(BuiltPolicy):
    """A PID controller built for given spaces.

    Attributes:
        settings: of the controller.
        encoder: environment observation -> (k,).
        head: (n,) -> action.
    """

    settings: Pid
    encoder: ObservationEncoder
    head: ActionHead

    @property
    def num_parameters(self) -> int:
        return 3 * self.encoder.size * self.head.num_outputs

    def name_parameters(self, observations: Sequence[str] | None) -> list[str]:
        return [
            f"{gain}[{output}, {each}]"
            for gain in ("proportional", "integral", "derivative")
            for output in range(self.head.num_outputs)
            for each in number_names(observations, self.encoder.size)
        ]

    def bind(self, parameters: FloatArray) -> Act:
        """Make the acting function of one episode, with an integral and an error of its own."""
        settings, size, outputs = self.settings, self.encoder.size, self.head.num_outputs
        gains = np.array(parameters, np.float64).reshape(3, outputs, size)
        # Plain numbers: controllers are small, and sums are in the order of the indices.
        rows = list(zip(*gains.tolist(), strict=True))
        setpoint = [*settings.setpoint, *[0.0] * (size - len(settings.setpoint))]
        dt, log_error, offset = settings.dt, settings.log_error, settings.offset
        most, limit, decode = settings.integral_limit, settings.limit, self.head.decode
        before: list[float] | None = None
        totals = [0.0] * outputs

        def act(observation: FloatArray, _generator: Generator | None) -> Any:
            nonlocal before
            errors = [due - seen for due, seen in zip(setpoint, observation.tolist(), strict=True)]
            if log_error:
                errors[0] = math.copysign(math.log1p(abs(errors[0])), errors[0])
            earlier, before = before or errors, errors
            actions = []
            for i, (proportional, integral, derivative) in enumerate(rows):
                action, total = offset, totals[i]
                for j, error in enumerate(errors):
                    total += integral[j] * error * dt
                    rate = (error - earlier[j]) / dt
                    action += proportional[j] * error + derivative[j] * rate
                totals[i] = total = min(max(total, -most), most)
                actions.append(min(max(action + total, -limit), limit))
            return decode(np.array(actions))

        return act
