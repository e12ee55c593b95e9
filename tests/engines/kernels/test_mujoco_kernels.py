"""Kernels whose steps MuJoCo takes, against Gymnasium's environments stepped by the loop."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from marks import slow

pytest.importorskip("numba")
pytest.importorskip("mujoco")

from distes.engines import choice
from distes.engines.kernels import lookup
from distes.engines.kernels.mujoco import arithmetic
from distes.errors import UsageError
from distes.policies.base import PolicySpec
from distes.policies.linear import Linear
from distes.policies.mlp import MLP
from distes.population.distributions import Table
from distes.population.records import Population, RunKey, Status
from distes.tasks.environment import Task

KEY = RunKey(seed=5, generation=1)
ROWS = ("episode_return", "episode_length", "terminated", "truncated", "status")

OTHER: dict[str, dict[str, Any]] = {
    "InvertedPendulum-v5": {"frame_skip": 3, "reset_noise_scale": 0.05},
    "InvertedDoublePendulum-v5": {
        "frame_skip": 2,
        "healthy_reward": 3.5,
        "reset_noise_scale": 0.02,
    },
    "Reacher-v5": {"frame_skip": 4, "reward_dist_weight": 0.7, "reward_control_weight": 0.3},
    "Pusher-v5": {"frame_skip": 2, "reward_near_weight": 0.2, "reward_control_weight": 0.7},
    "Swimmer-v5": {
        "ctrl_cost_weight": 0.1,
        "reset_noise_scale": 0.3,
        "exclude_current_positions_from_observation": False,
    },
    "Hopper-v5": {
        "healthy_z_range": (0.4, 3.0),
        "healthy_state_range": (-20, 20),
        "ctrl_cost_weight": 0.3,
        "terminate_when_unhealthy": False,
    },
    "Walker2d-v5": {
        "healthy_angle_range": (-2.0, 0.3),
        "forward_reward_weight": 2.5,
        "exclude_current_positions_from_observation": False,
    },
    "HalfCheetah-v5": {"frame_skip": 2, "ctrl_cost_weight": 0.7, "reset_noise_scale": 0.4},
    "Ant-v5": {
        "main_body": "front_left_leg",
        "contact_force_range": (-0.3, 20.0),
        "include_cfrc_ext_in_observation": False,
        "contact_cost_weight": 0.02,
    },
    "Humanoid-v5": {
        "contact_cost_range": (0.1, 0.2),
        "include_cinert_in_observation": False,
        "include_qfrc_actuator_in_observation": False,
        "healthy_z_range": (0.3, 3.0),
    },
    "HumanoidStandup-v5": {
        "impact_cost_weight": 0.1,
        "ctrl_cost_weight": 0.3,
        "exclude_current_positions_from_observation": False,
        "include_cvel_in_observation": False,
    },
}
"""Arguments that are no default; each makes other returns."""

QUICK = ("HalfCheetah-v5",)
"""A program takes seconds to compile: the default run has one."""


def candidates(policy: Any, size: int) -> np.ndarray[Any, Any]:
    """From timid to wild: actions at their bounds, some parameters that are no numbers."""
    generator = np.random.default_rng(2)
    spread = np.geomspace(0.01, 30.0, size)[:, None]
    found = generator.normal(size=(size, policy.num_parameters)) * spread
    found[size // 2, 0] = np.nan
    found[-1, -1] = np.inf
    return found


def compare(task: Task, spec: PolicySpec, size: int) -> Any:
    """Run candidates on both engines; every bit of what comes of them is equal."""
    policy = task.build_policy(spec)
    assert choice.resolve("auto", task, policy) == "compiled"
    compiled, loop = (choice.make(name, task, policy) for name in ("compiled", "loop"))
    assert compiled.is_exact
    population = Population(Table(candidates(policy, size)), size, episodes=2)
    with np.errstate(all="ignore"):
        found, expected = (
            each.run(population, KEY, 0, population.num_episodes) for each in (compiled, loop)
        )
    for name in ROWS:
        np.testing.assert_array_equal(found.rows[name], expected.rows[name], err_msg=name)
    assert found.info.keys() == expected.info.keys()
    for name in found.info:
        np.testing.assert_array_equal(found.info[name], expected.info[name], err_msg=name)
    return found


@pytest.mark.parametrize("name", [name if name in QUICK else slow(name) for name in OTHER])
def test_episodes_are_gymnasiums(name: str) -> None:
    """Returns, lengths, ends and the final info, as registered and with other arguments.

    If wrong: a run that begins in Python goes on otherwise in machine code.
    """
    names = type(lookup.kernel_of(Task(name))).info_names
    returns = []
    for arguments in ({}, OTHER[name]):
        task = Task(name, env_kwargs=arguments, log_info=names, max_episode_steps=200)
        rows = compare(task, Linear(), 12).rows
        returns.append(rows["episode_return"][rows["status"] == Status.OK])
        assert len(returns[-1]) >= 12
    assert not np.array_equal(*returns)
    compare(replace(task, env_kwargs={}), MLP(hidden=(6,), activation="relu"), 8)


@pytest.mark.parametrize("size", [1, 7, 8, 23, 128, 129, 1000])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_sums_are_numpys(size: int, kind: Any) -> None:
    """numpy adds in eight columns, and by halves above 128 numbers."""
    values = np.random.default_rng(size).normal(size=size).astype(kind)
    assert arithmetic.pairwise_sum(values) == values.sum()
    assert arithmetic.sum_of_squares(values) == np.square(values).sum()


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("Hopper-v5", {"xml_file": "/nowhere.xml"}, "/nowhere.xml does not exist"),
        ("Reacher-v5", {"xml_file": "swimmer.xml"}, "nq 5, not 4"),
        ("Hopper-v5", {"healthy_reward": np.float32(1.0)}, "not a number of Python's"),
        ("Ant-v5", {"include_cfrc_ext_in_observation": 1}, "neither True nor False"),
        ("Ant-v5", {"helthy_reward": 1.0}, "unexpected argument 'helthy_reward'"),
        ("Ant-v5", {"healthy_z_range": (0.2, 1.0, 5.0)}, "not a range of two numbers"),
        ("Ant-v5", {"main_body": "nobody"}, "nobody"),
        ("Ant-v5", {"healthy_reward": float("inf")}, "inf is not finite"),
        ("Hopper-v5", {"frame_skip": 2.0}, "frame_skip 2.0 is not a whole number"),
        ("Hopper-v5", {"reset_noise_scale": -0.1}, "below 0"),
        ("Hopper-v5", {"ctrl_cost_weight": float("nan")}, "NaN"),
    ],
)
def test_arguments_that_are_not_honoured(name: str, arguments: Any, said: str) -> None:
    """Each is another environment, or none: the loop runs it, or says what is wrong."""
    task = Task(name, env_kwargs=arguments)
    with pytest.raises(UsageError, match=said):
        choice.resolve("compiled", task, Task(name).build_policy(Linear()))


def test_arguments_of_drawing_change_nothing() -> None:
    """They are the renderer's."""
    task = Task("Hopper-v5", env_kwargs={"width": 64, "camera_id": 0, "render_mode": "rgb_array"})
    assert choice.resolve("auto", task, task.build_policy(Linear())) == "compiled"


def test_callbacks_are_refused() -> None:
    """Python must not be called where the lock is not held."""
    task = Task("Hopper-v5")
    policy = task.build_policy(Linear())
    mujoco: Any = importlib.import_module("mujoco")
    mujoco.set_mjcb_passive(lambda model, data: None)
    try:
        with pytest.raises(UsageError, match="mjcb_passive is set"):
            choice.resolve("compiled", task, policy)
    finally:
        mujoco.set_mjcb_passive(None)


@pytest.mark.parametrize("engine", ["loop", slow("compiled")])
def test_warnings_are_the_logs(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A simulation that is unstable is said once in a chunk, and in no file or terminal."""
    assets = Path(str(gym.__file__)).parent / "envs/mujoco/assets"
    model, folder = tmp_path / "strong.xml", tmp_path / "folder"
    model.write_text((assets / "swimmer.xml").read_text().replace('gear="150.0"', 'gear="1e9"'))
    folder.mkdir()
    monkeypatch.chdir(folder)
    task = Task("Swimmer-v5", env_kwargs={"xml_file": str(model)}, max_episode_steps=30)
    policy = task.build_policy(Linear())
    population = Population(Table(np.ones((2, policy.num_parameters))), 2)
    chunk = choice.make(engine, task, policy).run(population, KEY, 0, 2)
    unstable = [each for each in chunk.warnings if "unstable" in each]
    assert len(unstable) == 1
    assert not any(letter.isdigit() for letter in unstable[0])
    assert list(folder.iterdir()) == []
    assert "unstable" not in "".join(capfd.readouterr())
