"""The purity check: it must see each kind of leak, and pass what has none."""

import re

import gymnasium as gym
import numpy as np
import pytest
from marks import slow

from distes.errors import UsageError
from distes.policies.base import PolicySpec
from distes.policies.identity import DirectPolicy
from distes.tasks.environment import VERIFIED_PURE, Task
from distes.tasks.function import FunctionTask
from distes.tasks.purity import check
from distes.testing import assert_pure


class Walk(gym.Env):
    """A random walk, all of it decided by the seed and the actions."""

    observation_space = gym.spaces.Dict(
        {"place": gym.spaces.Box(-np.inf, np.inf, (1,)), "side": gym.spaces.Discrete(2)}
    )
    action_space = gym.spaces.Tuple((gym.spaces.Discrete(3), gym.spaces.Box(-1, 1, (1,))))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = self.np_random.normal()
        self.steps = 0
        return self.observe(), {"steps": 0}

    def step(self, action):
        self.place += float(action[0] - 1 + action[1][0]) + self.noise()
        self.steps += 1
        ended = abs(self.place) > 4
        return self.observe(), -abs(self.place), ended, self.steps == 30, {"steps": self.steps}

    def noise(self):
        return self.np_random.normal()

    def observe(self):
        return {"place": np.array([self.place], np.float32), "side": int(self.place > 0)}


class Tired(Walk):
    """Keeps a trace of its episodes, one part in 10**12: the sort of leak that hides."""

    past = 0

    def step(self, action):
        self.past += 1
        return super().step(action)

    def noise(self):
        return super().noise() * (1 + 1e-12 * (self.past - self.steps))


class Forgetful(Walk):
    """Changes on reuse only in the info, and only after an aborted episode."""

    def reset(self, *, seed=None, options=None):
        stale = getattr(self, "open", False)
        observation, _ = super().reset(seed=seed)
        return observation, {"stale": float(stale)}

    def step(self, action):
        observation, reward, terminated, truncated, _ = super().step(action)
        self.open = not (terminated or truncated)
        return observation, reward, terminated, truncated, {}


class Unseeded(Walk):
    """Draws from numpy's global generator."""

    def noise(self):
        return np.random.normal()  # noqa: NPY002


class Shared(Walk):
    """Its instances share a list."""

    log: list = []  # noqa: RUF012

    def reset(self, *, seed=None, options=None):
        self.log.append(seed)
        observation, info = super().reset(seed=seed)
        self.place += len(self.log)
        return observation, info


class Hashed(Walk):
    """Depends on the hash of a string, which differs between processes."""

    def noise(self):
        return super().noise() * (1 + hash("wind") % 1000)


class Fragile(Walk):
    """Raises in its second episode."""

    used = False

    def reset(self, *, seed=None, options=None):
        if self.used:
            raise RuntimeError("already used")
        self.used = True
        return super().reset(seed=seed)


class Broken(Walk):
    def step(self, action):
        raise RuntimeError("no power")


class Endless(Walk):
    def step(self, action):
        observation, reward, _, _, info = super().step(action)
        return observation, reward, False, False, info


class FixedSpec(PolicySpec):
    """Acts by its first parameter alone."""

    def build(self, observation_space, action_space):
        return Fixed(np.zeros(2))


class Fixed(DirectPolicy):
    stochastic = False

    @property
    def encode(self):
        return lambda observation: observation["place"].astype(np.float64)

    def bind(self, parameters):
        return lambda observation, generator: (1, np.array([parameters[0]]))


def test_clean_environment_is_pure_everywhere():
    """A false alarm would make users build environments anew for nothing."""
    report = check(Walk)
    assert report.pure
    assert report.other_process is not None
    counts = [
        finding.episodes for finding in (report.reuse, report.new_instance, report.other_process)
    ]
    assert counts == [40, 10, 10]
    assert "reuse: 0 of 40 episodes differ over 20 histories" in str(report)
    assert "reuse_env=True would" in str(report)
    assert_pure(Task(Walk, reuse_env=True))


def test_leak_of_a_last_bit_is_found():
    """A leak too small to see in returns still makes two runs drift apart."""
    report = check(Tired, processes=False)
    assert report.reuse.count > 0
    assert report.reproducible
    assert not report.pure
    assert 0 < report.reuse.return_difference < 1e-6
    assert report.reuse.first_step == 1
    assert str(report.reuse.differing[0]) in str(report)
    assert "builds a new instance for every episode: results are reproducible" in str(report)
    kept = check(Task(Tired, reuse_env=True), processes=False)
    assert not kept.reproducible
    assert "reuse_env=False" in str(kept)
    with pytest.raises(AssertionError, match="Tired: not pure"):
        assert_pure(Tired)


def test_leak_after_an_aborted_episode_into_logged_info_is_found():
    """The engines break episodes off at the step limit; what is logged must be pure too."""
    assert check(Task(Forgetful), processes=False).pure
    report = check(Task(Forgetful, log_info=("stale",)), processes=False)
    assert report.reuse.count > 0
    assert report.reuse.first_step == 0
    assert "first at the reset, returns are the same" in str(report)


@pytest.mark.parametrize("env", [Unseeded, Shared])
def test_randomness_beyond_the_seed_shows_in_new_instances(env):
    """Building anew does not help here: the user must hear that results won't repeat."""
    report = check(env, processes=False)
    assert report.new_instance.count > 0
    assert not report.reproducible
    assert "self.np_random" in str(report)


def test_dependence_on_the_process_is_found():
    """Within one process such an environment looks clean; workers would disagree."""
    report = check(Hashed)
    assert report.reuse.count == report.new_instance.count == 0
    assert report.other_process is not None
    assert report.other_process.count == 10
    assert not report.pure
    assert "not on several workers" in str(report)


def test_function_that_cannot_be_sent_is_said_not_compared():
    """A comparison that did not happen must not look like one that passed."""

    def local():
        return Walk()

    report = check(local)
    assert report.other_process is not None
    assert report.other_process.episodes == 0
    assert "other process: not compared: it cannot be sent" in str(report)
    assert "local: pure, as far as compared" in str(report)


def test_environment_that_the_other_process_does_not_know_is_said():
    """An id registered here only could not run on workers either."""
    gym.register("OnlyHere-v0", entry_point=Walk)
    try:
        report = check("OnlyHere-v0")
    finally:
        del gym.registry["OnlyHere-v0"]
    assert "other process: not compared: the environment could not be made" in str(report)


def test_exception_on_reuse_is_a_difference():
    """Skipping episodes that raise would call this environment pure."""
    report = check(Fragile, processes=False)
    assert report.reuse.count > 0
    assert np.isnan(report.reuse.return_difference)
    assert "some raise an exception" in str(report)


def test_environment_that_only_raises_is_refused():
    """Equal exceptions everywhere are no purity."""
    with pytest.raises(UsageError, match=r"every episode of Broken raises.*no power"):
        check(Broken)


def test_episode_without_end_is_cut():
    """Without a cut the check would never return."""
    assert check(Endless, histories=2, episodes=1, processes=False).pure


def test_check_is_deterministic_and_leaves_the_global_generator_alone():
    """A check that moved numpy's global state would itself be impure."""
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first = check(Tired, seed=3, processes=False)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
    assert first == check(Tired, seed=3, processes=False)
    assert first != check(Tired, seed=4, processes=False)


def test_policy_acts_in_place_of_random_actions():
    """Some leaks show only in states that random actions never reach."""
    random = check(Tired, processes=False)
    acted = check(Tired, policy=FixedSpec(), processes=False)
    assert acted.reuse.count > 0
    assert acted != random
    assert check(Walk, policy=FixedSpec()).pure


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"task": Walk, "histories": 0}, "histories 0 is not at least 1"),
        ({"task": Walk, "episodes": 0}, "episodes 0 is not at least 1"),
        ({"task": FunctionTask(np.sum, 2)}, "sum is no environment"),
        ({"task": "CartPol-v1"}, "did you mean 'CartPole-v1'"),
    ],
)
def test_bad_arguments_are_refused(arguments, sentence):
    """With no histories or no episodes, the check could not fail."""
    with pytest.raises(UsageError, match=sentence):
        check(**arguments)


STEPS = {"CarRacing-v3": 4, "Humanoid-v5": 60, "HumanoidStandup-v5": 20}
"""Shorter episodes where a step or a reset is dear."""
SIMULATORS = {
    name for name in VERIFIED_PURE if re.search("mujoco|box2d", str(gym.spec(name).entry_point))
}
"""They need more installed than the default run does."""


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize(
    "name",
    [slow(name) if name in SIMULATORS else name for name in sorted(VERIFIED_PURE)],
)
def test_environment_that_distes_reuses_is_pure(name):
    """A name on the list that leaks would make results depend on the number of workers."""
    report = check(Task(name, max_episode_steps=STEPS.get(name, 120)), episodes=4, processes=False)
    assert report.histories == 20
    assert report.pure, str(report)
    assert report.reuses_env


def test_map_drawn_when_the_instance_is_made_is_found():
    """FrozenLake's random map is drawn without a seed: every worker would have its own."""
    report = check(Task("FrozenLake-v1", env_kwargs={"map_name": None}), processes=False)
    assert report.new_instance.count > 0
    assert "when an instance is made" in str(report)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["CartPole-v1", "Taxi-v4", "HalfCheetah-v5", "LunarLander-v3"])
def test_environment_is_the_same_in_another_process(name):
    """Workers are other processes: their episodes must be the driver's, bit for bit."""
    report = check(Task(name, max_episode_steps=120), histories=1)
    assert report.other_process is not None
    assert (report.other_process.episodes, report.other_process.count) == (10, 0)


@pytest.mark.slow
def test_bipedal_walker_is_not_pure_on_reuse():
    """It is known to leak: if the check missed it, passing would mean nothing."""
    report = check(Task("BipedalWalker-v3", max_episode_steps=60), processes=False)
    assert report.reuse.count > 0
    assert report.reproducible
    assert not report.reuses_env


@pytest.mark.parametrize("clears", [False, True])
def test_what_mujocos_data_keep_is_named(clears):
    """A solver that starts where the episode before ended, to the last bits of an acceleration.

    If wrong: who wrote the environment learns that it leaks, and searches for days where.
    """
    hopper = pytest.importorskip("gymnasium.envs.mujoco.hopper_v5").HopperEnv

    class Sloppy(hopper):
        def reset(self, *, seed=None, options=None):
            gym.Env.reset(self, seed=seed)
            if clears:
                self.data.qacc_warmstart[:] = 0.0
            return self.reset_model(), {}

    report = check(Task(Sloppy, max_episode_steps=100), processes=False, histories=6)
    assert report.pure == clears
    assert ("qacc_warmstart" in str(report)) == (not clears)
    assert ("mujoco.mj_resetData(model, data)" in str(report)) == (not clears)
