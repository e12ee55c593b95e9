"""All environments of our own: registered, checked by Gymnasium, and honest about contexts."""

from __future__ import annotations

import math
import subprocess
import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import distes
from distes.engines.loop import LoopEngine
from distes.errors import UsageError
from distes.policies import Pid, Threshold
from distes.population.distributions import Point
from distes.population.records import Population, RunKey
from distes.tasks import envs
from distes.tasks.environment import VERIFIED_PURE, Task
from distes.testing import assert_pure

NAMES = sorted(envs.ENVIRONMENTS)

INSIDE = {
    "distes/WallFollow-v0": [163.5, 0.75],
    "distes/ContextualCartPole-v0": [0.01, -0.02, 0.03, -0.04],
    "distes/ContextualAcrobot-v0": [0.05, -0.08],
    "distes/PhysicalPendulum-v0": [0.8, 1.2],
    "distes/PhysicalCartPole-v0": [0.2, 1.4],
}


def test_environments_are_those_asked_for():
    assert set(INSIDE) == set(NAMES)
    assert set(NAMES) <= VERIFIED_PURE


@pytest.mark.parametrize("name", NAMES)
def test_gymnasium_accepts_it(name):
    with warnings.catch_warnings():
        # Gymnasium's own classic control has infinite bounds and unscaled actions, too.
        warnings.filterwarnings("error", category=UserWarning)
        warnings.filterwarnings("ignore", message=".*(infinity|symmetric and normalized).*")
        env = gym.make(name)
        check_env(env.unwrapped)
        env.close()


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if "Wall" in name else pytest.mark.slow) for name in NAMES],
)
def test_it_is_pure_and_reused(name):
    """In other processes, too; on one instance all that is reused is tried by test_purity."""
    assert Task(name).reuses_env
    assert_pure(name)


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_is_an_episode(name):
    def episode(env, seed):
        env.action_space.seed(7)
        observation, info = env.reset(seed=seed)
        rows = [info["context"], observation]
        for _ in range(30):
            observation, reward, terminated, *_ = env.step(env.action_space.sample())
            rows += [observation, np.array([reward])]
            if terminated:
                break
        return np.concatenate(rows)

    one, other = gym.make(name).unwrapped, gym.make(name).unwrapped
    other.reset(seed=99, options={"context": INSIDE[name]})
    assert np.array_equal(episode(one, 5), episode(other, 5))
    assert not np.array_equal(episode(one, 5), episode(one, 6))


@pytest.mark.parametrize("name", NAMES)
def test_imposed_contexts_are_taken_up(name):
    """And leave the next episode alone."""
    env = gym.make(name).unwrapped
    _, free = env.reset(seed=3)
    _, info = env.reset(seed=3, options={"context": np.array(INSIDE[name])})
    assert info["context"] == pytest.approx(np.array(INSIDE[name]), rel=1e-6)
    assert info["context"].dtype == np.float64
    _, again = env.reset(seed=3)
    assert np.array_equal(again["context"], free["context"])


@pytest.mark.parametrize("name", NAMES)
def test_imposing_what_would_be_drawn_changes_nothing(name):
    env = gym.make(name).unwrapped
    env.action_space.seed(1)
    actions = [env.action_space.sample() for _ in range(10)]
    first, info = env.reset(seed=8)
    free = [env.step(action)[0] for action in actions]
    second, _ = env.reset(seed=8, options={"context": info["context"]})
    assert np.array_equal(first, second)
    assert all(
        np.array_equal(one, env.step(action)[0]) for one, action in zip(free, actions, strict=True)
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("context", "said"),
    [
        ([1.0], r"a context has shape \(1,\)"),
        (3.0, r"a context has shape \(\)"),
        ("far", "the context 'far' is not numbers"),
        (None, "is not from"),
        (math.nan, "is not from"),
        (math.inf, "is not from"),
    ],
)
def test_bad_contexts_are_told_in_a_sentence(name, context, said):
    size = len(INSIDE[name])
    if context is None:
        context = [-1e9] * size
    elif isinstance(context, float) and context != 3.0:
        context = [context] * size
    with pytest.raises(UsageError, match=said) as refused:
        gym.make(name).reset(options={"context": context})
    assert name in str(refused.value)
    assert "\n" not in str(refused.value)


def test_cartpole_is_gymnasiums():
    """Step by step, from the same start; and the first observation is the context."""
    ours, theirs = gym.make("distes/ContextualCartPole-v0"), gym.make("CartPole-v1")
    for seed in range(3):
        observation, info = ours.reset(seed=seed)
        assert np.array_equal(observation, theirs.reset(seed=seed)[0])
        assert observation == pytest.approx(info["context"])
        assert_same_steps(ours, theirs)
    start = np.array([0.3, -0.5, 0.05, 0.4])
    ours.reset(seed=0, options={"context": start})
    theirs.reset(seed=0)
    theirs.unwrapped.state = start.copy()
    assert_same_steps(ours, theirs)


def test_acrobot_is_gymnasiums():
    ours, theirs = gym.make("distes/ContextualAcrobot-v0"), gym.make("Acrobot-v1")
    for seed in range(3):
        observation, info = ours.reset(seed=seed)
        assert np.array_equal(observation, theirs.reset(seed=seed)[0])
        assert np.array_equal(observation[4:], info["context"])
        assert_same_steps(ours, theirs)
    observation, _ = ours.reset(seed=4, options={"context": [1.5, -2.0]})
    start, _ = theirs.reset(seed=4)
    assert np.array_equal(observation[:4], start[:4])
    assert observation[4:].tolist() == [1.5, -2.0]
    theirs.unwrapped.state[2:] = [1.5, -2.0]
    assert_same_steps(ours, theirs)


@pytest.mark.parametrize(
    ("ours", "theirs", "context"),
    [
        ("distes/PhysicalPendulum-v0", "Pendulum-v1", [1.0, 1.0]),
        ("distes/PhysicalCartPole-v0", "CartPole-v1", [0.1, 1.0]),
    ],
)
def test_physical_parameters_of_gymnasium_give_gymnasiums_dynamics(ours, theirs, context):
    one, other = gym.make(ours), gym.make(theirs)
    for seed in range(3):
        first, _ = one.reset(seed=seed, options={"context": context})
        assert np.array_equal(first, other.reset(seed=seed)[0])
        assert_same_steps(one, other)


def assert_same_steps(ours, theirs, steps=40):
    ours.action_space.seed(2)
    for _ in range(steps):
        action = ours.action_space.sample()
        one, other = ours.step(action), theirs.step(action)
        assert np.array_equal(one[0], other[0])
        assert one[1:3] == other[1:3]
        if one[2]:
            break


def test_heavier_and_longer_pendulums_fall_by_the_formula():
    """θ'' = 3g/(2l) sin θ + 3u/(m l²), of a rod about its end."""
    env = gym.make("distes/PhysicalPendulum-v0").unwrapped
    for mass, length in ((0.5, 0.5), (1.5, 0.7), (0.9, 1.5)):
        env.reset(seed=0, options={"context": [mass, length]})
        env.state = np.array([0.3, 0.1])
        observation, *_ = env.step(np.array([1.2], dtype=np.float32))
        torque = float(np.float32(1.2))
        acceleration = 15 / length * math.sin(0.3) + 3 * torque / (mass * length**2)
        assert observation[2] == pytest.approx(0.1 + 0.05 * acceleration, rel=1e-6)


def test_heavier_and_longer_poles_fall_by_the_formula():
    """Barto, Sutton and Anderson (1983), with the pole's half length."""
    env = gym.make("distes/PhysicalCartPole-v0").unwrapped
    mass, length = 0.7, 3.0
    env.reset(seed=0, options={"context": [mass, length]})
    env.state = np.array([0.0, 0.0, 0.1, -0.2])
    observation, *_ = env.step(1)
    half, total = length / 2, 1.0 + mass
    push = (10 + mass * half * 0.04 * math.sin(0.1)) / total
    turning = (9.8 * math.sin(0.1) - math.cos(0.1) * push) / (
        half * (4 / 3 - mass * math.cos(0.1) ** 2 / total)
    )
    sliding = push - mass * half * turning * math.cos(0.1) / total
    assert observation == pytest.approx(
        np.array([0.0, 0.02 * sliding, 0.1 - 0.004, -0.2 + 0.02 * turning]), rel=1e-5, abs=1e-7
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("source", ["info", "uniform"])
def test_contexts_reach_the_engine(name, source):
    """Drawn by the environment or by distes, the episodes table has what the reset showed."""
    inside = INSIDE[name]
    bounds = {}
    if source == "uniform":
        bounds = {
            "context_low": tuple(0.99 * c if c > 0 else 1.01 * c for c in inside),
            "context_high": tuple(1.01 * c if c > 0 else 0.99 * c for c in inside),
        }
    task = Task(name, context=source, max_episode_steps=3, **bounds)
    assert task.num_contexts == len(inside)
    spec = Pid(limit=2.0, offset=0.0) if "Wall" in name or "Pendulum" in name else Threshold()
    policy = task.build_policy(spec)
    population = Population(Point(policy.initial(np.random.default_rng(0))), 4)
    chunk = LoopEngine(task, policy).run(population, RunKey(0, 0, 0), 0, 4)
    assert chunk.faults == []
    assert chunk.contexts.shape == (4, len(inside))
    assert len(np.unique(chunk.contexts[:, 0])) > 1 or source == "uniform"
    imposed = np.array([inside] * 4)
    population = Population(population.distribution, 4, contexts=imposed)
    chunk = LoopEngine(task, policy).run(population, RunKey(0, 0, 0), 0, 4)
    assert chunk.contexts == pytest.approx(imposed, rel=1e-5)


def test_importing_the_environments_registers_them():
    """As Gymnasium's projects do; nothing that draws is loaded with them."""
    code = (
        "import sys, gymnasium, distes.tasks.envs; "
        "env = gymnasium.make('distes/WallFollow-v0'); "
        "print(env.reset(seed=0)[0].shape, 'pygame' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "(2,) False\n", done.stderr
    assert done.stderr == ""


def test_importing_distes_does_not_import_gymnasium():
    code = "import sys, distes; print('gymnasium' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"


def test_distes_is_there():
    assert distes.policies.Pid is Pid
    assert distes.policies.Threshold is Threshold
