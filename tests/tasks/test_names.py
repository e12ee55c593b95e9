"""Names of numbers: each stands for the number that it is given to."""

from __future__ import annotations

from typing import Any

import environments
import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

import distes
from distes.errors import Notice
from distes.policies import MLP, Linear, Pid, Softmax, Tabular, Threshold
from distes.tasks.names import collect_names


class Named(environments.Windy):
    """An environment that says what it shows."""

    observation_names = ("place", "goal", "wind")
    context_names = ("where to", "against what")


class Wrapped(gym.ObservationWrapper[Any, Any, Any]):
    """Shows one number more, and names it."""

    observation_names = ("place", "goal", "wind", "more")

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self.observation_space = Box(-10, 10, (4,), np.float64)

    def observation(self, observation: Any) -> Any:
        return np.append(observation, 0.0)


class Misnamed(environments.Windy):
    """As libraries are that mean something else by the same word."""

    observation_names = [["place"], ["goal"]]  # noqa: RUF012


def collect(env: Any, policy: Any, **settings: Any) -> dict[str, list[str]]:
    task = distes.Task(env, **settings)
    return collect_names(task, task.build_policy(policy))


def test_an_environment_names_its_numbers() -> None:
    """If wrong: plots and tables name a number as another one, or fall back to digits."""
    found = collect(Named, Linear(bias=False), context="info")
    assert found["context_names"] == ["where to", "against what"]
    assert found["parameter_names"][0] == "w[place, 0]"
    found = collect(Named, Linear(), context="observation:1")
    assert found["context_names"] == ["goal"]
    assert "w[more, 0]" in collect(lambda: Wrapped(Named()), Linear())["parameter_names"]
    found = collect("CartPole-v1", Threshold(bias=True))
    assert found == {"parameter_names": ["w[0]", "w[1]", "w[2]", "w[3]", "b"]}


def test_a_function_names_its_numbers() -> None:
    """If wrong: the parameters of a function have no names but numbers."""

    def cost(parameters: Any, context: Any) -> float:
        return -float(np.sum((parameters - context) ** 2))

    bounds: Any = {"context": "uniform", "context_low": (-1.0,), "context_high": (1.0,)}
    task = distes.FunctionTask(cost, 2, **bounds)
    assert collect_names(task, task.build_policy(None)) == {}
    cost.parameter_names, cost.context_names = ("kp", "ki"), ["mass"]  # type: ignore[attr-defined]
    named = {"parameter_names": ["kp", "ki"], "context_names": ["mass"]}
    assert collect_names(task, task.build_policy(None)) == named


def test_names_that_do_not_fit_stop_nothing() -> None:
    """If wrong: a library's attribute of that name keeps its environments from being searched."""
    with pytest.warns(Notice, match="observation_names of Misnamed are left out"):
        found = collect(Misnamed, Linear())
    assert found["parameter_names"][0] == "w[0, 0]"


@pytest.mark.parametrize(
    ("spec", "observation_space", "action_space"),
    [
        (Linear(), Box(-1, 1, (3,)), Discrete(2)),
        (Linear(), Discrete(3), Box(-1, 1, (2,))),
        (MLP(hidden=(4, 5)), Box(-1, 1, (3,)), Discrete(2)),
        (Softmax(bias=False), Box(-1, 1, (3,)), Discrete(3)),
        (Threshold(bias=True), Box(-1, 1, (3,)), Discrete(2)),
        (Pid(), Box(-1, 1, (3,)), Box(-1, 1, (2,))),
        (Tabular(), Discrete(3), Discrete(2)),
    ],
)
def test_policies_name_each_parameter(spec: Any, observation_space: Any, action_space: Any) -> None:
    """If wrong: a run cannot be tabulated, or two of its columns are one."""
    policy = spec.build(observation_space, action_space)
    for observations in (None, ["x", "y", "z"]):
        names = policy.name_parameters(observations)
        assert len(set(names)) == len(names) == policy.num_parameters
        assert observations is None or any("[z" in name or ", z" in name for name in names)


def test_names_stand_at_their_parameters() -> None:
    """If wrong: a weight is said to be of an observation that it does not see."""
    spaces = Box(-1, 1, (3,)), Box(-9, 9, (2,))
    for spec in (Linear(), Pid(log_error=False, setpoint=(0.0,), offset=0.0)):
        policy = spec.build(*spaces)
        names = policy.name_parameters(["x", "y", "z"])
        for number, name in enumerate(names):
            parameters = np.zeros(policy.num_parameters)
            parameters[number] = 1.0
            moved = {
                (seen, output)
                for i, seen in enumerate("xyz")
                for output in range(2)
                if policy.bind(parameters)(np.eye(3)[i], None)[output]
                != policy.bind(parameters)(np.zeros(3), None)[output]
            }
            inside = name[name.index("[") + 1 : -1].split(", ")
            if len(inside) == 2 and not name.startswith("derivative"):
                seen, output = inside if isinstance(spec, Linear) else inside[::-1]
                assert moved == {(seen, int(output))}
