"""REINFORCE: its sums and gradients from trajectories, written out; what it refuses."""

from dataclasses import dataclass, replace
from typing import get_args

import gymnasium as gym
import numpy as np
import pytest

from distes import FunctionTask, Search, Task
from distes.errors import Notice, UsageError
from distes.evaluators.serial import SerialEvaluator
from distes.policies import Linear
from distes.policies.base import PolicySpec
from distes.policies.gaussian import GaussianNoise
from distes.policies.sigmoid import Sigmoid
from distes.policies.softmax import Softmax
from distes.policies.tabular import Tabular
from distes.population.distributions import Point
from distes.population.folding import fold, fold_chunk
from distes.population.policy_gradient_sums import (
    PolicyGradientSums,
    sum_returns_to_go,
    value_features,
)
from distes.population.records import RECORDS, Population, RunKey, Trajectory
from distes.registry import settings_of
from distes.strategies.numerics.optimisers import AdamState
from distes.strategies.reinforce import Reinforce, Returns
from distes.testing.problems import episodes_of

TASK = Task("CartPole-v0")
KEY = RunKey(3, 0)


def evaluated(policy, parameters, probe, size=7, frozen=None, records=False):
    population = Population(
        Point(parameters),
        size,
        probes=(probe,),
        frozen=frozen or {},
        records=RECORDS if records else (),
    )
    return SerialEvaluator(TASK, policy, "loop").submit(population, KEY).result()


def built(spec=None):
    return TASK.build_policy(spec or Softmax(hidden=(4,)))


def test_sums_are_those_of_the_trajectories():
    """Every sum once more, from what was seen and done."""
    policy = built()
    parameters = np.random.default_rng(0).normal(size=policy.num_parameters)
    probe = PolicyGradientSums(
        discount=0.9, horizon=12, value=True, squares=True, entropy=True, center=1.5
    )
    answer = evaluated(policy, parameters, probe, records=True)
    sums, steps = answer.episodes.sums, []
    for trajectory in answer.trajectories:
        returns = [
            sum(0.9**k * r for k, r in enumerate(trajectory.rewards[t:]))
            for t in range(len(trajectory.rewards))
        ]
        for t, value in enumerate(returns):
            at = slice(t, t + 1)
            one = np.ones(1)
            gradient = policy.log_prob_grad(
                parameters, trajectory.observations[at], trajectory.actions[at], one
            )
            entropy = policy.sum_log_prob_grads(
                parameters,
                trajectory.observations[at],
                trajectory.actions[at],
                one[None],
                entropy=True,
            ).entropy
            features = value_features(trajectory.observations, len(returns))[t]
            steps.append((t, value, gradient, entropy, features))
    expected = {
        "grad": sum(s for _, _, s, _, _ in steps),
        "grad_return": sum((g - 1.5) * s for _, g, s, _, _ in steps),
        "grad_square": sum(s**2 for _, _, s, _, _ in steps),
        "grad_square_return": sum((g - 1.5) * s**2 for _, g, s, _, _ in steps),
        "entropy_grad": sum(e for _, _, _, e, _ in steps),
        "episode_count": [7],
        "return_count": [len(steps)],
        "return_sum": [sum(g - 1.5 for _, g, _, _, _ in steps)],
        "return_square_sum": [sum((g - 1.5) ** 2 for _, g, _, _, _ in steps)],
        "return_size": [sum(abs(g) for _, g, _, _, _ in steps)],
        "time_count": [sum(t == k for t, *_ in steps) for k in range(12)],
        "time_sum": [sum(g for t, g, *_ in steps if t == k) for k in range(12)],
        "value_gram": sum(np.outer(f, f) for *_, f in steps),
        "value_target": sum(g * f for _, g, _, _, f in steps),
    }
    assert sums.keys() == expected.keys()
    for name, value in expected.items():
        assert np.asarray(sums[name]) == pytest.approx(np.asarray(value), rel=1e-9), name


def test_baselines_of_the_generation_before_are_subtracted():
    policy = built(Softmax())
    parameters = np.random.default_rng(0).normal(size=policy.num_parameters)
    plain = PolicyGradientSums()
    by_time = np.array([20.0, 18.0, 15.0])
    answer = evaluated(policy, parameters, plain, records=True)
    timed = evaluated(policy, parameters, PolicyGradientSums(by_time=by_time)).episodes.sums
    by_value = np.random.default_rng(1).normal(size=12)
    valued = evaluated(policy, parameters, PolicyGradientSums(by_value=by_value)).episodes.sums
    expected = {"time": 0.0, "value": 0.0}
    for trajectory in answer.trajectories:
        length = len(trajectory.rewards)
        returns = sum_returns_to_go(trajectory.rewards, 1.0)
        known = by_time[np.minimum(np.arange(length), 2)]
        values = value_features(trajectory.observations, length) @ by_value
        for name, baseline in (("time", known), ("value", values)):
            expected[name] += policy.log_prob_grad(
                parameters, trajectory.observations, trajectory.actions, returns - baseline
            )
    assert timed["grad_return"] == pytest.approx(expected["time"], rel=1e-9)
    assert valued["grad_return"] == pytest.approx(expected["value"], rel=1e-9)


def test_normalised_observations_are_learnt_from_as_they_were_seen():
    policy = built(Softmax())
    parameters = np.random.default_rng(0).normal(size=policy.num_parameters)
    frozen = {"observation_mean": np.full(4, 0.1), "observation_std": np.full(4, 0.5)}
    answer = evaluated(policy, parameters, PolicyGradientSums(), frozen=frozen, records=True)
    expected = sum(
        policy.log_prob_grad(
            parameters,
            (trajectory.observations - 0.1) / 0.5,
            trajectory.actions,
            np.ones(len(trajectory.rewards)),
        )
        for trajectory in answer.trajectories
    )
    assert answer.episodes.sums["grad"] == pytest.approx(expected, rel=1e-9)


def test_softmax_and_sigmoid_take_the_same_step():
    """One law, written with one output or two: the same choices, the same gradient."""
    two, one = built(Softmax()), built(Sigmoid())
    weights = np.random.default_rng(0).normal(size=(5, 2))
    probe = PolicyGradientSums(discount=0.99)
    ours = evaluated(two, weights.ravel(), probe, records=True)
    logit = weights[:, 1] - weights[:, 0]
    by_time = [t.rewards for t in ours.trajectories]
    gradient = sum(
        one.log_prob_grad(logit, t.observations, t.actions, sum_returns_to_go(r, 0.99))
        for t, r in zip(ours.trajectories, by_time, strict=True)
    )
    assert ours.episodes.sums["grad_return"].reshape(5, 2)[:, 1] == pytest.approx(
        gradient, rel=1e-9
    )


SUMS = {
    "grad": np.array([2.0, -1.0]),
    "grad_return": np.array([10.0, 4.0]),
    "grad_square": np.array([4.0, 2.0]),
    "grad_square_return": np.array([12.0, 4.0]),
    "entropy_grad": np.array([0.5, 0.25]),
    "episode_count": np.array([4.0]),
    "return_count": np.array([10.0]),
    "return_sum": np.array([30.0]),
    "return_square_sum": np.array([130.0]),
    "return_size": np.array([30.0]),
    "time_count": np.array([4.0, 2.0, 0.0]),
    "time_sum": np.array([20.0, 8.0, 0.0]),
}
"""Mean return 3, standard deviation 2; four whole episodes."""

GRADIENTS = [
    ({"baseline": "none"}, [10.0, 4.0]),
    ({"baseline": "batch_mean"}, [10.0 - 3 * 2, 4.0 + 3 * 1]),
    ({"baseline": "variance_optimal"}, [10.0 - 3 * 2, 4.0 + 2 * 1]),
    ({"baseline": "per_time_step"}, [10.0, 4.0]),
    ({"baseline": "none", "standardize": True}, [10.0 / 2, 4.0 / 2]),
    ({"baseline": "batch_mean", "standardize": True}, [(10.0 - 3 * 2) / 2, (4.0 + 3) / 2]),
    ({"baseline": "none", "entropy_bonus": 2.0}, [11.0, 4.5]),
]


def beginning(strategy, **settings):
    search = Search("CartPole-v0", policy=Softmax(bias=False), strategy=strategy, workers=0)
    problem = search.check()
    state = replace(strategy.init(problem), parameters=np.array([1.0, 5.0]))
    return problem, replace(state, adam=AdamState.begin(2), **settings)


def told(strategy, sums, returns=(1.0, 2.0, 3.0, 4.0), **settings):
    """The state after sums that nobody measured, of a policy with two parameters."""
    problem, state = beginning(strategy, **settings)
    episodes = replace(episodes_of(np.array(returns)), sums=sums)
    return strategy.tell(problem, state, strategy.ask(problem, state), episodes)


@pytest.mark.parametrize(("settings", "gradient"), GRADIENTS)
def test_plain_steps_by_hand(settings, gradient):
    """Uphill, by the learning rate times the mean over whole episodes, whatever failed."""
    strategy = Reinforce(
        **{"standardize": False, "optimiser": "sgd", "learning_rate": 0.5, **settings}
    )
    after = told(strategy, SUMS, (1.0, np.nan, 2.0, 3.0, np.nan, 4.0))
    gradient = np.array(gradient) / 4
    assert after.parameters == pytest.approx(np.array([1.0, 5.0]) + 0.5 * gradient)
    assert after.gradient_norm == pytest.approx(np.hypot(*gradient))
    assert (after.return_mean, after.return_std) == pytest.approx((3.0, 2.0))


@pytest.mark.parametrize(("settings", "gradient"), GRADIENTS)
def test_adams_first_step_by_hand(settings, gradient):
    """Its size is the learning rate, uphill."""
    strategy = Reinforce(**{"standardize": False, "learning_rate": 0.5, **settings})
    after = told(strategy, SUMS)
    assert after.parameters == pytest.approx(np.array([1.0, 5.0]) + 0.5 * np.sign(gradient))
    assert after.adam.first == pytest.approx(0.1 * np.array(gradient) / 4)


@pytest.mark.parametrize(("settings", "gradient"), GRADIENTS)
def test_the_centre_of_the_sums_does_not_show(settings, gradient):
    """The same generation, summed about 7, which was the mean of the one before it."""
    strategy = Reinforce(**{"standardize": False, "optimiser": "sgd", **settings})
    shifted = {
        **SUMS,
        "grad_return": SUMS["grad_return"] - 7 * SUMS["grad"],
        "grad_square_return": SUMS["grad_square_return"] - 7 * SUMS["grad_square"],
        "return_sum": SUMS["return_sum"] - 7 * 10,
        "return_square_sum": SUMS["return_square_sum"] - 2 * 7 * 30 + 49 * 10,
    }
    after = told(strategy, shifted, return_mean=7.0)
    assert after.parameters == pytest.approx(told(strategy, SUMS).parameters)
    assert (after.return_mean, after.return_std) == pytest.approx((3.0, 2.0))


def test_what_is_asked_for():
    """The probe has the settings, and the baselines of the generation before."""
    strategy = Reinforce(discount=0.7, horizon=3)
    after = told(strategy, SUMS)
    assert after.by_time == pytest.approx([5.0, 4.0])
    problem, _ = beginning(strategy)
    (probe,) = strategy.ask(problem, after).probes
    assert probe.discount == 0.7
    assert probe.horizon == 3
    assert np.array_equal(probe.by_time, after.by_time)
    assert probe.center == 0.0

    strategy = Reinforce(baseline="batch_mean")
    (probe,) = strategy.ask(problem, told(strategy, SUMS)).probes
    assert (probe.center, probe.horizon, probe.by_time, probe.by_value) == (3.0, 0, None, None)


def test_a_value_function_is_that_of_least_squares():
    """Long episodes, too: the cube of the time must not drown the other features."""
    policy = built(Softmax())
    generator = np.random.default_rng(0)
    features, returns, gram, target = [], [], 0.0, 0.0
    probe = PolicyGradientSums(value=True)
    for length in (2000, 1500, 700):
        observations = generator.normal(size=(length, 4)) * [1.0, 0.1, 3.0, 0.5]
        rewards = observations @ [0.1, 5.0, -0.2, 0.3] + 1.0
        trajectory = Trajectory(np.zeros(10), observations, np.zeros(length, np.int64), rewards)
        sums = probe.sums(trajectory, policy, {})
        gram, target = gram + sums["value_gram"], target + sums["value_target"]
        features.append(value_features(observations, length))
        returns.append(sum_returns_to_go(rewards, 1.0))
    rows, values = np.concatenate(features), np.concatenate(returns)
    best = rows @ np.linalg.lstsq(rows, values, rcond=None)[0]
    strategy = Reinforce(baseline="value")
    after = told(strategy, {**SUMS, "value_gram": gram, "value_target": target})
    assert rows @ after.by_value == pytest.approx(best, abs=0.01 * values.std())
    (probe,) = strategy.ask(beginning(strategy)[0], after).probes
    assert np.array_equal(probe.by_value, after.by_value)


class Bandit(gym.Env):
    """One step; the second arm is worth more, by ``better``, on top of ``base``."""

    def __init__(self, better=1.0, base=0.0):
        self.observation_space = gym.spaces.Box(-1, 1, (1,), np.float64)
        self.action_space = gym.spaces.Discrete(2)
        self._better, self._base = better, base

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1), {}

    def step(self, action):
        return np.zeros(1), self._base + self._better * action, True, False, {}


def learnt(env_kwargs, generations=8, **settings):
    """Probability of the second arm, which begins at a half, and the run's result."""
    task = Task(Bandit, env_kwargs=env_kwargs, reuse_env=True)
    result = Search(
        task,
        policy=Softmax(),
        strategy=Reinforce(**settings),
        population=20,
        generations=generations,
        final_episodes=2,
        workers=0,
    ).run()
    theta = result.parameters
    policy = task.build_policy(Softmax())
    return float(np.exp(policy.log_prob(theta, np.zeros((1, 1)), np.ones(1))[0])), result


BASELINES = get_args(settings_of(Reinforce)["baseline"].hint)


@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
@pytest.mark.parametrize("baseline", BASELINES)
def test_the_better_arm_becomes_likelier(baseline, optimiser):
    likelier, _ = learnt({}, baseline=baseline, optimiser=optimiser, learning_rate=0.2)
    assert likelier > 0.6


SOME_BASELINE = [baseline for baseline in BASELINES if baseline != "none"]


@pytest.mark.parametrize("baseline", SOME_BASELINE)
def test_a_large_offset_does_not_hide_the_difference(baseline):
    """From the second generation on sums are about the mean of the first."""
    likelier, _ = learnt({"base": 1e8}, baseline=baseline, learning_rate=0.2)
    assert likelier > 0.6


@pytest.mark.parametrize("base", [0.1, 1e8 + 0.1])
@pytest.mark.parametrize("baseline", SOME_BASELINE)
def test_returns_that_are_all_alike_teach_nothing(baseline, base):
    """Otherwise Adam walks as far on their rounding errors as on anything else."""
    likelier, _ = learnt({"better": 0.0, "base": base}, baseline=baseline)
    assert likelier == 0.5


ROUNDED = {
    **SUMS,
    "grad_return": 0.1 * SUMS["grad"] + 1e-17,
    "grad_square_return": 0.1 * SUMS["grad_square"] + 1e-17,
    "return_sum": np.array([1.0 - 1e-16]),
    "return_square_sum": np.array([0.1 + 1e-16]),
    "return_size": np.array([1.0]),
}
"""All returns 0.1, summed with rounding errors."""

NEXT_TO_NOTHING = {
    **SUMS,
    "grad_return": np.array([1e-17, -3e-17]),
    "return_sum": np.array([1e-16]),
    "return_square_sum": np.array([4e-33]),
    "return_size": np.array([1.0]),
}
"""The same, less baselines that are right up to rounding."""


@pytest.mark.parametrize(
    ("sums", "settings"),
    [
        *((ROUNDED, {"baseline": baseline}) for baseline in SOME_BASELINE if baseline != "value"),
        (ROUNDED, {"baseline": "batch_mean", "standardize": False}),
        (ROUNDED, {"baseline": "variance_optimal", "standardize": False}),
        (NEXT_TO_NOTHING, {}),
        (NEXT_TO_NOTHING, {"standardize": False}),
    ],
)
def test_rounding_errors_teach_nothing(sums, settings):
    assert told(Reinforce(**settings), sums).parameters.tolist() == [1.0, 5.0]


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_returns_too_large_to_square_teach_nothing():
    with pytest.warns(Notice, match="leaves [0-9]+ of 20 episodes out"):
        likelier, _ = learnt({"better": 1e160}, generations=2)
    assert likelier == 0.5


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_sums_that_are_too_large_teach_nothing():
    with pytest.warns(Notice, match="too large"):
        likelier, result = learnt({"better": 1e154}, generations=2, baseline="none")
    assert likelier == 0.5
    assert result is not None


class OnceHuge(Bandit):
    """A fifth of its episodes return a number whose square is none any more."""

    def reset(self, *, seed=None, options=None):
        given = super().reset(seed=seed)
        self._odd = self.np_random.random() < 0.2
        return given

    def step(self, action):
        observation, reward, *rest = super().step(action)
        return observation, 1e200 if self._odd else reward, *rest


def test_an_episode_whose_sums_are_not_finite_is_left_out():
    """The others still teach."""
    strategy = Reinforce(baseline="value")
    task = Task(OnceHuge, reuse_env=True)
    search = Search(task, policy=Softmax(bias=False), strategy=strategy, workers=0, population=40)
    problem = search.check()
    state = strategy.init(problem)
    population = strategy.ask(problem, state)
    evaluator = SerialEvaluator(task, problem.policy, "loop")
    with np.errstate(invalid="ignore", over="ignore"):
        episodes = evaluator.submit(population, KEY).result().episodes
    whole = int(episodes.sums["episode_count"][0])
    assert 20 < whole < 40
    assert all(np.isfinite(each).all() for each in episodes.sums.values())
    with pytest.warns(Notice, match=f"{40 - whole} of 40 episodes out"):
        after = strategy.tell(problem, state, population, episodes)
    assert np.isfinite(after.gradient_norm)


@pytest.fixture(scope="module")
def many_episodes():
    """A policy, and what it saw and did in many episodes."""
    policy = built(Softmax())
    parameters = np.zeros(policy.num_parameters)
    answer = evaluated(policy, parameters, PolicyGradientSums(), size=1500, records=True)
    return policy, answer.trajectories


@pytest.mark.parametrize("baseline", ["none", "batch_mean", "per_time_step", "variance_optimal"])
def test_baselines_do_not_bias(baseline, many_episodes):
    """The expected step is the same with any of them: many generations of one policy."""
    policy, trajectories = many_episodes
    strategy = Reinforce(baseline=baseline, standardize=False, discount=1.0)
    by_time = np.linspace(22, 1, 30) if baseline == "per_time_step" else None
    probe = PolicyGradientSums(by_time=by_time, squares=baseline == "variance_optimal")
    found, plain = (
        fold(fold_chunk(0, [each.sums(t, policy, {}) for t in trajectories]), len(trajectories))
        for each in (probe, PolicyGradientSums())
    )
    gradient = strategy._gradient(found, Returns.of(found, 0.0)) / 1500
    # Of the weight of the pole's speed: about -12, known to two tenths.
    assert gradient[6] == pytest.approx(plain["grad_return"][6] / 1500, abs=1.0)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"discount": 1.5}, "discount"),
        ({"baseline": "timely"}, "unknown baseline"),
        ({"optimiser": "adm"}, "did you mean 'adam'"),
        ({"entropy_bonus": -1.0}, "entropy_bonus"),
        ({"horizon": 0}, "horizon"),
        ({"horizon": 1.5}, "horizon 1.5 is not a whole number"),
    ],
)
def test_settings_outside_their_ranges(settings, sentence):
    with pytest.raises(UsageError, match=sentence):
        Reinforce(**settings)


@pytest.mark.parametrize(
    ("task", "policy", "settings", "sentence"),
    [
        ("CartPole-v0", Linear(), {}, "always takes the same"),
        ("FrozenLake-v1", Tabular(), {}, "have gradients"),
        ("Pendulum-v1", GaussianNoise(), {"entropy_bonus": 0.1}, "entropy_bonus 0.1 needs"),
        (Task("CartPole-v0", fitness="min"), Softmax(), {}, "fitness 'min' does nothing"),
        (Task("CartPole-v0", reward_shift=1.0), Softmax(), {}, "reward_shift 1 does nothing"),
        (FunctionTask(np.sum, 3), None, {}, "sum is a function, which takes none"),
    ],
)
def test_what_does_not_do(task, policy, settings, sentence):
    with pytest.raises(UsageError, match=sentence):
        Search(task, policy=policy, strategy=Reinforce(**settings), workers=0).check()


def test_common_seeds_would_make_all_episodes_one():
    with pytest.raises(UsageError, match="common_seeds"):
        Search(
            "CartPole-v0", policy=Softmax(), strategy=Reinforce(), common_seeds=True, workers=0
        ).check()


@pytest.mark.parametrize(("limit", "expected"), [(7, 7), (None, 200), (5000, 1000)])
def test_no_more_time_steps_travel_than_episodes_have(limit, expected):
    task = Task("CartPole-v0", max_episode_steps=limit)
    strategy = Reinforce()
    problem = Search(task, policy=Softmax(), strategy=strategy, workers=0).check()
    (probe,) = strategy.ask(problem, strategy.init(problem)).probes
    assert probe.horizon == expected


class Plain:
    """What a user might write: samples, and gives the two functions that are asked for."""

    num_parameters = 2
    observation_size = 4
    stochastic = True

    def __init__(self):
        self._inner = TASK.build_policy(Softmax(bias=False))
        self.encode = self._inner.encode

    def initial(self, generator):
        return np.zeros(2)

    def _all(self, parameters):
        return np.outer([0.0, 0.0, 1.0, 0.0], parameters).ravel()

    def bind(self, parameters):
        return self._inner.bind(self._all(parameters))

    def choose(self, parameters):
        return self._inner.choose(self._all(parameters))

    def decode(self, choice):
        return self._inner.decode(choice)

    def log_prob(self, parameters, observations, actions):
        return self._inner.log_prob(self._all(parameters), observations, actions)

    def log_prob_grad(self, parameters, observations, actions, weights):
        whole = self._all(parameters)
        return self._inner.log_prob_grad(whole, observations, actions, weights)[4:6]


@dataclass(frozen=True)
class PlainSpec(PolicySpec):
    """Makes one."""

    def build(self, observation_space, action_space):
        return Plain()


def test_a_users_policy_needs_two_functions_alone():
    """The rest of what a network gives is asked for only where a setting needs it."""
    settings = {"policy": PlainSpec(), "workers": 0, "population": 10}
    for needing in ({"baseline": "variance_optimal"}, {"entropy_bonus": 0.1}):
        with pytest.raises(UsageError, match="Plain"):
            Search(TASK, strategy=Reinforce(**needing), **settings).check()
    search = Search(TASK, strategy=Reinforce(), generations=3, final_episodes=2, **settings)
    assert np.abs(search.run().parameters).max() > 0.1


def test_the_signature_is_all_that_policies_share():
    """A fault in a policy's own functions ends the run, and is no fault of the environment."""

    class Wrong(Plain):
        def log_prob_grad(self, parameters):
            return parameters

    population = Population(Point(np.zeros(2)), 3, probes=(PolicyGradientSums(),))
    with pytest.raises(TypeError, match="log_prob_grad"):
        SerialEvaluator(TASK, Wrong(), "loop").submit(population, KEY).result()


def test_all_episodes_failed_changes_nothing():
    strategy = Reinforce()
    nothing = {name: np.zeros_like(value) for name, value in SUMS.items()}
    after = told(strategy, nothing, (np.nan, np.nan), gradient_norm=3.0)
    assert after.parameters.tolist() == [1.0, 5.0]
    assert after.generation == 1
    assert np.isnan(list(strategy.metrics(after).values())).all()
