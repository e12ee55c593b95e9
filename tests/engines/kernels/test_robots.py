"""Robots of one's own: what one description makes is equal in Python and in machine code."""

from __future__ import annotations

import copy
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from marks import slow
from paths import EXAMPLES

pytest.importorskip("numba")
pytest.importorskip("mujoco")
sys.path.insert(0, str(EXAMPLES))

from two_poles import HeavyPoles, TwoPoles

from distes.engines import choice
from distes.engines.kernels.mujoco.robot import Robot, Simulation
from distes.errors import UsageError
from distes.policies import Linear
from distes.tasks.environment import Task
from distes.testing import assert_kernel_matches
from distes.types import Array


class Pushed(TwoPoles):
    """Uses what the others do not."""

    numbers = {"wind": 0.4, "until": 0.3}  # noqa: RUF012
    info_names = ("moved", "time")
    has_contact_forces = True

    @staticmethod
    def start(now: Simulation, generator: Array) -> None:
        now.qvel[0] = now.numbers[0] * now.qpos[1]

    @staticmethod
    def reward(now: Simulation, action: Array) -> float:
        moved = now.qpos[0] - now.previous_qpos[0]
        return moved + now.xpos[2, 2] * now.xmat[3, 0] + now.subtree_com[1, 0] + now.cfrc_ext[1, 0]

    @staticmethod
    def is_over(now: Simulation) -> bool:
        return now.time[0] >= now.numbers[1]

    @staticmethod
    def inform(now: Simulation, info: Array) -> None:
        info[0] = now.qpos[0] - now.previous_qpos[0]
        info[1] = now.time[0]


@pytest.mark.parametrize(
    ("robot", "arguments"), [(HeavyPoles, {}), slow(TwoPoles, {}), slow(Pushed, {"wind": -2.0})]
)
def test_machine_code_does_what_python_does(robot: type[Robot], arguments: Any) -> None:
    """Episodes, contexts that are imposed and that are drawn, and infos.

    If wrong: the model of one episode is another one's, or an episode begins where another ended.
    """
    report = assert_kernel_matches(robot.kernel, robot, Linear(), 120, env_kwargs=arguments)
    assert report.steps > 1000


RESTING = """<mujoco><option timestep="0.005"/><worldbody><geom type="plane" size="5 5 1"/>
<body pos="0 0 0.099"><freejoint/><geom type="box" size="0.1 0.1 0.1" mass="1"/>
<body pos="0.2 0 0.1"><joint name="arm" axis="0 1 0"/><geom type="capsule" size="0.03"
fromto="-0.1 0 0.05 0.2 0 0.05" mass="0.3"/></body></body></worldbody>
<actuator><motor joint="arm" ctrlrange="-1 1" gear="2"/></actuator></mujoco>"""


class Resting(Robot):
    """Begins where it lies, so that the solver has contacts to solve for at once."""

    num_observations = 15

    @staticmethod
    def observe(now: Simulation, observation: Array) -> None:
        observation[:8] = now.qpos
        observation[8:] = now.qvel

    @staticmethod
    def reward(now: Simulation, action: Array) -> float:
        return now.qpos[0]

    @staticmethod
    def is_over(now: Simulation) -> bool:
        return False


@pytest.mark.slow
def test_an_episode_that_begins_in_contact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its solver begins where the reset left it.

    If wrong: first steps differ in their last bits, wherever an episode begins on the ground.
    """
    model = tmp_path / "resting.xml"
    model.write_text(RESTING)
    monkeypatch.setattr(Resting, "xml_file", model, raising=False)
    assert_kernel_matches(Resting.kernel, Resting, Linear(), 60)


def test_an_environment_is_a_function_of_seed_and_context() -> None:
    """Whatever context the episode before had."""
    env = HeavyPoles()
    given: Any = [{"context": np.array(each)} for each in ([1.0, 1.0], [2.0, 0.5])]

    def roll(options: Any) -> list[float]:
        observation, info = env.reset(seed=3, options=options)
        seen = [*observation, *info["context"]]
        for _ in range(20):
            observation, reward, *_ = env.step(np.array([0.3], np.float32))
            seen += [*observation, reward]
        return seen

    first, other, drawn = roll(given[0]), roll(given[1]), roll(None)
    assert first != other != drawn != first
    assert (roll(given[0]), roll(None), roll(given[1])) == (first, drawn, other)
    env.close()


def test_it_is_an_environment_like_gymnasiums() -> None:
    """Resets without a seed go on; copies are their own; contexts of other shapes are refused."""
    env = HeavyPoles(width=64)
    first, _ = env.reset(seed=3)
    again, _ = env.reset()
    assert not np.array_equal(first, again)
    other = pickle.loads(pickle.dumps(copy.deepcopy(env)))  # noqa: S301
    np.testing.assert_array_equal(other.reset(seed=3)[0], first)
    seen = other.step(np.zeros(1, np.float32))[0]
    assert not np.array_equal(seen, first)
    assert other.width == 64
    for context in (1.5, [1.5], [1.0, 2.0, 3.0], [1.0, np.nan]):
        with pytest.raises(UsageError, match="has 2 finite numbers"):
            env.reset(options={"context": context})
    with pytest.raises(ValueError, match=r"shape \(2,\)"):
        env.step(np.zeros(2, np.float32))
    with pytest.raises(TypeError, match="cannot be copied"):
        copy.copy(env._simulation)


def test_a_robot_whose_steps_are_written_anew_has_no_kernel() -> None:
    """Machine code would go on with the old ones; nor is a promise inherited."""

    class Louder(TwoPoles):
        exact = True

        def step(self, action: Any) -> Any:
            seen, reward, *rest = super().step(action)
            return seen, 100.0 * reward, *rest

    class Quieter(Louder):
        pass

    for robot in (Louder, Quieter):
        task = Task(robot, max_episode_steps=5)
        assert choice.resolve("auto", task, task.build_policy(Linear())) == "loop"
    assert Louder._kernel.exact
    assert not Quieter._kernel.exact


def wrong(**members: Any) -> type[Robot]:
    statics = {
        name: staticmethod(each) if callable(each) else each for name, each in members.items()
    }
    return type("Wrong", (TwoPoles,), statics)


BAD_MODEL = "<mujoco><worldbody><body><joint type='hing'/></body></worldbody></mujoco>"


def write(now: Simulation, action: Array) -> float:
    now.numbers[0] += 1.0
    return 1.0


NO_RANGE = """<mujoco><worldbody><body><joint name="a"/><geom size="1"/></body></worldbody>
<actuator><motor joint="a"/></actuator></mujoco>"""

MISTAKES: list[Any] = [
    ({"reward": write, "numbers": {"n": 1.0}}, "Wrong.reward fails.*destination is read-only"),
    ({"reward": lambda now, action: absent(now)}, "Wrong.reward fails.*NameError.*absent"),  # noqa: F821
    ({"num_contexts": 1}, r"Wrong.draw_context is missing: write draw_context\(generator, context"),
    ({"xml_file": "no_range.xml"}, "actuator 0 of .*no_range.xml has no ctrlrange"),
    ({"frame_skip": 2.5}, "frame_skip 2.5 is not a whole number"),
    ({"numbers": {"n": "x"}}, "n of Wrong is 'x', not a number"),
    ({"observe": lambda now, observation: now.qpoz}, "Wrong.observe 'qpoz': did you mean 'qpos'"),
    (
        {"num_observations": 5},
        "Wrong.observe fails in plain Python: ValueError: could not broadcast",
    ),
    (
        {"is_over": lambda now: now.qpos[7] > 1},
        "Wrong.is_over fails in plain Python: IndexError: index 7",
    ),
    ({"observe": Robot.observe}, r"write observe\(now, observation\)"),
    ({"xml_file": "/nowhere.xml"}, "/nowhere.xml does not exist"),
    ({"xml_file": "bad.xml"}, "bad.xml does not compile: XML Error: invalid keyword: 'hing'"),
]


@pytest.mark.parametrize(("members", "said"), MISTAKES)
def test_mistakes_are_said_in_a_sentence(
    members: Any, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is compiled, or run."""
    monkeypatch.chdir(tmp_path)
    Path("bad.xml").write_text(BAD_MODEL)
    Path("no_range.xml").write_text(NO_RANGE)
    with pytest.raises(UsageError, match=said):
        Task(wrong(**members), max_episode_steps=5).build_policy(Linear())


def test_numbers_are_the_robots() -> None:
    with pytest.raises(UsageError, match=r"unknown number .wint.: did you mean .wind."):
        Task(Pushed, env_kwargs={"wint": 1.0}).build_policy(Linear())


@pytest.mark.slow
def test_what_numba_refuses_is_said_in_a_sentence() -> None:
    task = Task(wrong(reward=lambda now, action: now.qpos.tolist()[0]), max_episode_steps=5)
    policy = task.build_policy(Linear())
    engine = choice.make(choice.resolve("compiled", task, policy), task, policy)
    with pytest.raises(UsageError, match=r"kernel of Wrong does not compile.*tolist"):
        engine.prepare()
