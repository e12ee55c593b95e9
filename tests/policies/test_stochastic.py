"""Policies that sample: their laws, and the gradients of log-probabilities."""

import itertools

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from numpy.random import default_rng

from distes.errors import UsageError
from distes.policies.gaussian import GaussianNoise
from distes.policies.log_probs import StochasticPolicy
from distes.policies.sampled import Sampled
from distes.policies.sigmoid import Sigmoid
from distes.policies.softmax import Softmax
from distes.policies.tabular import Tabular
from distes.seeds import policy_generator

FOUR = Box(-np.inf, np.inf, (4,), np.float64)
X = np.array([[0.1, -0.2, 0.3, 0.4]])
# Features [1, x]: the first row is the bias, which lies last here.
W = np.array([[0.5, 0.3], [-0.4, 0.1], [0.0, 0.6], [0.3, -0.2], [0.2, -0.1]])
SHARES = [0.6082590307, 0.3917409693]


def softmax():
    return Softmax().build(FOUR, Discrete(2))


def sigmoid():
    return Sigmoid().build(FOUR, Discrete(2))


def test_golden_softmax():
    """Numbers from independent code: probabilities, and the gradient's row of the bias."""
    policy, one = softmax(), np.ones(1)
    logs = [policy.log_prob(W.ravel(), X, np.array([a]))[0] for a in (0, 1)]
    assert np.exp(logs) == pytest.approx(SHARES, abs=1e-9)
    gradient = policy.log_prob_grad(W.ravel(), X, np.array([1]), one).reshape(5, 2)
    assert gradient[4] == pytest.approx([-0.6082590307, 0.6082590307], abs=1e-9)
    assert gradient[:4] == pytest.approx(np.outer(X[0], gradient[4]), abs=1e-12)


def test_golden_sigmoid():
    policy = sigmoid()
    logit = W[:, 1] - W[:, 0]
    gradient = policy.log_prob_grad(logit, X, np.array([0]), np.ones(1))
    expected = [-0.0391740969, 0.0783481939, -0.1175222908, -0.1566963877, -0.3917409693]
    assert gradient == pytest.approx(expected, abs=1e-9)


def test_softmax_and_sigmoid_agree():
    """Under w = W[:, 1] - W[:, 0] they are one law, with one gradient by w."""
    generator = default_rng(0)
    observations = generator.normal(size=(50, 4))
    choices, weights = generator.integers(0, 2, 50), generator.normal(size=50)
    logit = W[:, 1] - W[:, 0]
    ours = softmax().log_prob_grad(W.ravel(), observations, choices, weights).reshape(5, 2)
    theirs = sigmoid().log_prob_grad(logit, observations, choices, weights)
    assert ours[:, 1] == pytest.approx(theirs, abs=1e-9)
    assert ours[:, 0] == pytest.approx(-theirs, abs=1e-9)
    assert softmax().log_prob(W.ravel(), observations, choices) == pytest.approx(
        sigmoid().log_prob(logit, observations, choices), abs=1e-12
    )


POLICIES = {
    "softmax": Softmax().build(FOUR, Discrete(3)),
    "softmax, layers": Softmax(hidden=(5, 4)).build(FOUR, Discrete(3, start=2)),
    "softmax, relu, no bias": Softmax(hidden=(6,), activation="relu", bias=False).build(
        FOUR, Discrete(3)
    ),
    "sigmoid": Sigmoid().build(FOUR, Discrete(2)),
    "sigmoid, layers": Sigmoid(hidden=(5,)).build(FOUR, Discrete(2)),
    "gaussian": GaussianNoise(std=0.7).build(FOUR, Box(-1, 1, (2,))),
    "gaussian, layers": GaussianNoise(hidden=(5,), std=0.3).build(FOUR, Box(-1, 1, (2,))),
}


@pytest.mark.parametrize("name", POLICIES)
def test_gradients_against_finite_differences(name):
    """Log-probabilities and entropies, weighted, by every parameter."""
    policy = POLICIES[name]
    assert isinstance(policy, StochasticPolicy)
    generator = default_rng(1)
    parameters = generator.normal(size=policy.num_parameters)
    observations = generator.normal(size=(20, 4))
    choose = policy.choose(parameters)
    choices = np.array([choose(each, generator) for each in observations])
    weights = generator.normal(size=20)

    def value(at):
        entropies = policy.entropies(policy.forward(at, observations)[0])[0]
        return weights @ policy.log_prob(at, observations, choices) + entropies.sum()

    totals = policy.sum_log_prob_grads(
        parameters, observations, choices, np.stack([np.ones(20), weights]), entropy=True
    )
    found = totals.gradients[1] + totals.entropy
    assert np.array_equal(
        totals.gradients[1], policy.log_prob_grad(parameters, observations, choices, weights)
    )
    for j in range(policy.num_parameters):
        step = np.zeros(policy.num_parameters)
        step[j] = 1e-6
        slope = (value(parameters + step) - value(parameters - step)) / 2e-6
        assert found[j] == pytest.approx(slope, abs=1e-6)


@pytest.mark.parametrize("name", POLICIES)
def test_squares_are_those_of_each_steps_gradient(name):
    """And the other sums do not change with what else is asked for."""
    policy, generator = POLICIES[name], default_rng(1)
    parameters = generator.normal(size=policy.num_parameters)
    observations = generator.normal(size=(20, 4))
    choose = policy.choose(parameters)
    choices = np.array([choose(each, generator) for each in observations])
    weights = generator.normal(size=(3, 20))
    totals = policy.sum_log_prob_grads(
        parameters, observations, choices, weights, squares=True, entropy=True
    )
    each = np.array(
        [
            policy.log_prob_grad(
                parameters, observations[t : t + 1], choices[t : t + 1], np.ones(1)
            )
            for t in range(20)
        ]
    )
    assert totals.gradients == pytest.approx(weights @ each, abs=1e-9)
    assert totals.squares == pytest.approx(weights @ each**2, abs=1e-9)
    plain = policy.sum_log_prob_grads(parameters, observations, choices, weights)
    assert np.array_equal(plain.gradients, totals.gradients)
    assert plain.squares is None
    assert plain.entropy is None


def test_the_entropy_varies_where_its_gradient_does():
    generator = default_rng(4)
    for policy in POLICIES.values():
        parameters = generator.normal(size=policy.num_parameters)
        choose, seen = policy.choose(parameters), generator.normal(size=(5, 4))
        choices = np.array([choose(each, generator) for each in seen])
        totals = policy.sum_log_prob_grads(parameters, seen, choices, np.ones((1, 5)), entropy=True)
        assert totals.entropy.any() == policy.entropy_varies


@pytest.mark.parametrize("name", ["softmax", "softmax, layers", "sigmoid, layers"])
def test_choices_come_as_often_as_they_should(name):
    policy = POLICIES[name]
    parameters = default_rng(2).normal(size=policy.num_parameters)
    choose, generator = policy.choose(parameters), policy_generator(5)
    drawn = [choose(X[0], generator) for _ in range(20_000)]
    observed = np.bincount(drawn, minlength=3)[: max(drawn) + 1] / 20_000
    choices = np.arange(len(observed))
    expected = np.exp(policy.log_prob(parameters, np.repeat(X, len(choices), axis=0), choices))
    assert expected.sum() == pytest.approx(1.0)
    assert (np.abs(observed - expected) < 4 * np.sqrt(expected * (1 - expected) / 20_000)).all()


def test_normal_noise_has_its_width():
    policy = GaussianNoise(std=0.7).build(FOUR, Box(-10, 10, (2,)))
    choose, generator = policy.choose(np.zeros(policy.num_parameters)), policy_generator(5)
    drawn = np.array([choose(X[0], generator) for _ in range(5000)])
    assert np.abs(drawn.std(axis=0) - 0.7).max() < 0.03
    assert np.abs(drawn.mean(axis=0)).max() < 0.05


def test_what_is_clipped_counts_as_it_was_chosen():
    policy = GaussianNoise(std=5.0).build(FOUR, Box(-1, 1, (1,)))
    choice = policy.choose(np.zeros(5))(X[0], policy_generator(1))
    assert abs(choice[0]) > 1
    assert np.abs(policy.decode(choice)) == pytest.approx(1)


@pytest.mark.parametrize("name", POLICIES)
def test_the_likeliest_action_needs_no_generator(name):
    policy = POLICIES[name]
    parameters = default_rng(3).normal(size=policy.num_parameters)
    first = policy.bind(parameters)(X[0], None)
    assert np.array_equal(first, policy.bind(parameters)(X[0], None))


def test_the_expected_gradient_of_a_two_step_bandit():
    """Σ over all outcomes of p·R·∇log p is the gradient of the expected return."""
    policy = Softmax().build(Box(-1, 1, (1,)), Discrete(2))
    rewards = {(0, 0): 1.0, (0, 1): -2.0, (1, 0): 0.5, (1, 1): 3.0}
    parameters = np.array([0.3, -0.2, 0.1, 0.4])

    def outcomes(at):
        for first, second in itertools.product((0, 1), repeat=2):
            # The second observation tells what was done first.
            observations = np.array([[0.5], [1.0 if first else -1.0]])
            choices = np.array([first, second])
            probability = np.exp(policy.log_prob(at, observations, choices).sum())
            yield probability, rewards[first, second], observations, choices

    gradient = sum(
        probability * policy.log_prob_grad(parameters, observations, choices, np.full(2, reward))
        for probability, reward, observations, choices in outcomes(parameters)
    )

    def expected(at):
        return sum(probability * reward for probability, reward, *_ in outcomes(at))

    for j in range(4):
        step = np.zeros(4)
        step[j] = 1e-6
        slope = (expected(parameters + step) - expected(parameters - step)) / 2e-6
        assert gradient[j] == pytest.approx(slope, abs=1e-8)


def test_a_table_samples_its_rows():
    policy = Tabular().build(Discrete(3, start=1), Discrete(2, start=5))
    table = np.array([[0.2, 0.8], [1.0, 0.0], [0.5, 0.5]])
    act, generator = policy.bind(table.ravel()), policy_generator(0)
    drawn = [act(policy.encode(1), generator) for _ in range(5000)]
    assert set(drawn) == {5, 6}
    assert np.mean(np.array(drawn) == 6) == pytest.approx(0.8, abs=0.03)
    assert {act(policy.encode(2), generator) for _ in range(200)} == {5}
    assert policy.bind(table.ravel())(policy.encode(1), None) == 6
    assert not isinstance(policy, StochasticPolicy)


@pytest.mark.parametrize(
    ("spec", "spaces", "sentence"),
    [
        (Softmax(), (FOUR, Box(-1, 1, (1,))), "gaussian takes Box$"),
        (Softmax(), (FOUR, MultiDiscrete([2, 2])), "no policy here samples other actions"),
        (GaussianNoise(), (FOUR, MultiDiscrete([2, 2])), "no policy here samples other actions"),
        (Sampled(), (FOUR, MultiDiscrete([2, 2])), "^sampled needs a Discrete or Box .*MultiDisc"),
        (Sigmoid(), (FOUR, Discrete(3)), "Discrete action space of 2"),
        (GaussianNoise(), (FOUR, Discrete(3)), "softmax takes Discrete$"),
        (Tabular(), (FOUR, Discrete(3)), "Discrete observation space"),
        (Tabular(), (Discrete(10**6), Discrete(100)), "100,000,000 entries"),
    ],
)
def test_what_is_refused(spec, spaces, sentence):
    with pytest.raises(UsageError, match=sentence):
        spec.build(*spaces)


@pytest.mark.parametrize("std", [0.0, -1.0, float("nan")])
def test_noise_has_a_width(std):
    with pytest.raises(UsageError, match="std"):
        GaussianNoise(std=std)
