"""REINFORCE: its sums and gradients from traces, written out; what it refuses."""

import numpy as np
import pytest

from distes import Search, Task
from distes.distributions import Point
from distes.errors import UsageError
from distes.evaluators.serial import SerialEvaluator
from distes.policies import Linear
from distes.policies.sigmoid import Sigmoid
from distes.policies.softmax import Softmax
from distes.policies.tabular import Tabular
from distes.population import RECORDS, Population, RunKey
from distes.score_sums import ScoreSums, returns_to_go, value_features
from distes.strategies.reinforce import Reinforce

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


def test_sums_are_those_of_the_traces():
    """Every sum once more, from what was seen and done."""
    policy = built()
    parameters = np.random.default_rng(0).normal(size=policy.num_parameters)
    probe = ScoreSums(discount=0.9, horizon=12, value=True, squares=True, entropy=True)
    answer = evaluated(policy, parameters, probe, records=True)
    sums, steps = answer.episodes.sums, []
    for trace in answer.traces:
        returns = [
            sum(0.9**k * r for k, r in enumerate(trace.rewards[t:]))
            for t in range(len(trace.rewards))
        ]
        for t, value in enumerate(returns):
            at = slice(t, t + 1)
            one = np.ones(1)
            score = policy.log_prob_grad(parameters, trace.observations[at], trace.actions[at], one)
            entropy = policy.log_prob_grad(
                parameters,
                trace.observations[at],
                trace.actions[at],
                np.zeros(1),
                entropy_weights=one,
            )
            features = value_features(trace.observations, len(returns))[t]
            steps.append((t, value, score, entropy, features))
    expected = {
        "score": sum(s for _, _, s, _, _ in steps),
        "score_return": sum(g * s for _, g, s, _, _ in steps),
        "score_square": sum(s**2 for _, _, s, _, _ in steps),
        "score_square_return": sum(g * s**2 for _, g, s, _, _ in steps),
        "entropy_gradient": sum(e for _, _, _, e, _ in steps),
        "return_count": [len(steps)],
        "return_sum": [sum(g for _, g, _, _, _ in steps)],
        "return_square_sum": [sum(g**2 for _, g, _, _, _ in steps)],
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
    plain = ScoreSums()
    by_time = np.array([20.0, 18.0, 15.0])
    answer = evaluated(policy, parameters, plain, records=True)
    timed = evaluated(policy, parameters, ScoreSums(by_time=by_time)).episodes.sums
    by_value = np.random.default_rng(1).normal(size=12)
    valued = evaluated(policy, parameters, ScoreSums(by_value=by_value)).episodes.sums
    expected = {"time": 0.0, "value": 0.0}
    for trace in answer.traces:
        length = len(trace.rewards)
        returns = returns_to_go(trace.rewards, 1.0)
        known = by_time[np.minimum(np.arange(length), 2)]
        values = value_features(trace.observations, length) @ by_value
        for name, baseline in (("time", known), ("value", values)):
            expected[name] += policy.log_prob_grad(
                parameters, trace.observations, trace.actions, returns - baseline
            )
    assert timed["score_return"] == pytest.approx(expected["time"], rel=1e-9)
    assert valued["score_return"] == pytest.approx(expected["value"], rel=1e-9)


def test_normalised_observations_are_scored_as_they_were_seen():
    policy = built(Softmax())
    parameters = np.random.default_rng(0).normal(size=policy.num_parameters)
    frozen = {"observation_mean": np.full(4, 0.1), "observation_std": np.full(4, 0.5)}
    answer = evaluated(policy, parameters, ScoreSums(), frozen=frozen, records=True)
    expected = sum(
        policy.log_prob_grad(
            parameters, (trace.observations - 0.1) / 0.5, trace.actions, np.ones(len(trace.rewards))
        )
        for trace in answer.traces
    )
    assert answer.episodes.sums["score"] == pytest.approx(expected, rel=1e-9)


def test_softmax_and_sigmoid_take_the_same_step():
    """One law, written with one output or two: the same choices, the same gradient."""
    two, one = built(Softmax()), built(Sigmoid())
    weights = np.random.default_rng(0).normal(size=(5, 2))
    probe = ScoreSums(discount=0.99)
    ours = evaluated(two, weights.ravel(), probe, records=True)
    logit = weights[:, 1] - weights[:, 0]
    by_time = [t.rewards for t in ours.traces]
    gradient = sum(
        one.log_prob_grad(logit, t.observations, t.actions, returns_to_go(r, 0.99))
        for t, r in zip(ours.traces, by_time, strict=True)
    )
    assert ours.episodes.sums["score_return"].reshape(5, 2)[:, 1] == pytest.approx(
        gradient, rel=1e-9
    )


SUMS = {
    "score": np.array([2.0, -1.0]),
    "score_return": np.array([10.0, 4.0]),
    "score_square": np.array([4.0, 0.0]),
    "score_square_return": np.array([12.0, 0.0]),
    "entropy_gradient": np.array([0.5, 0.25]),
}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"baseline": "none"}, [10.0, 4.0]),
        ({"baseline": "batch_mean"}, [10.0 - 3 * 2, 4.0 + 3 * 1]),
        ({"baseline": "variance_optimal"}, [10.0 - 3 * 2, 4.0]),
        ({"baseline": "none", "standardize": True}, [(10.0 - 3 * 2) / 2, (4.0 + 3) / 2]),
        ({"baseline": "none", "entropy_bonus": 2.0}, [11.0, 4.5]),
    ],
)
def test_gradients_by_hand(settings, expected):
    """Mean return 3, standard deviation 2."""
    strategy = Reinforce(**{"standardize": False, **settings})
    assert strategy._gradient(SUMS, 3.0, 2.0) == pytest.approx(expected)


@pytest.mark.parametrize("baseline", ["none", "batch_mean", "per_time_step", "variance_optimal"])
def test_baselines_do_not_bias(baseline):
    """The expected step is the same with any of them: many generations of one policy."""
    policy = built(Softmax())
    parameters = np.zeros(policy.num_parameters)
    strategy = Reinforce(baseline=baseline, standardize=False, discount=1.0)
    by_time = np.linspace(22, 1, 30) if baseline == "per_time_step" else None
    probe = ScoreSums(
        by_time=by_time,
        squares=baseline == "variance_optimal",
    )
    sums = evaluated(policy, parameters, probe, size=1500).episodes.sums
    mean = sums["return_sum"][0] / sums["return_count"][0]
    found = strategy._gradient(sums, mean, 1.0) / 1500
    plain = evaluated(policy, parameters, ScoreSums(), size=1500).episodes.sums["score_return"]
    # Of the weight of the pole's speed: about -12, known to two tenths.
    assert found[6] == pytest.approx(plain[6] / 1500, abs=1.0)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"discount": 1.5}, "discount"),
        ({"baseline": "timely"}, "unknown baseline"),
        ({"optimiser": "adm"}, "did you mean 'adam'"),
        ({"entropy_bonus": -1.0}, "entropy_bonus"),
        ({"horizon": 0}, "horizon"),
    ],
)
def test_settings_outside_their_ranges(settings, sentence):
    with pytest.raises(UsageError, match=sentence):
        Reinforce(**settings)


@pytest.mark.parametrize(
    ("env", "policy", "sentence"),
    [
        ("CartPole-v0", Linear(), "always takes the same"),
        ("FrozenLake-v1", Tabular(), "have gradients"),
    ],
)
def test_policies_that_do_not_do(env, policy, sentence):
    with pytest.raises(UsageError, match=sentence):
        Search(env, policy=policy, strategy=Reinforce(), workers=0).check()


def test_all_episodes_failed_changes_nothing():
    strategy = Reinforce()
    search = Search("CartPole-v0", policy=Softmax(), strategy=strategy, workers=0)
    problem = search.check()
    state = strategy.init(problem)
    population = strategy.ask(problem, state)
    answer = evaluated(problem.policy, state.parameters, population.probes[0], size=3)
    failed = answer.episodes
    failed.episode_return[:] = np.nan
    after = strategy.tell(problem, state, population, failed)
    assert np.array_equal(after.parameters, state.parameters)
    assert after.generation == 1
