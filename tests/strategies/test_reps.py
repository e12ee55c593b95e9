"""REPS: golden numbers, equivariance, reuse, bounds, what is refused."""

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distes.errors import UsageError
from distes.population.features import build_features
from distes.strategies.numerics.reps import weigh_samples
from distes.strategies.parts.importance import PolicySamples, importance_weights
from distes.strategies.parts.relative_entropy import RelativeEntropyState
from distes.strategies.parts.upper_level import Samples
from distes.strategies.reps import REPS
from distes.testing.problems import FunctionProblem, search, sphere

GOLDEN = np.array([[-1.0], [0.5], [0.0], [1.5], [2.0]])
"""Parameters of golden A."""


def samples(parameters, returns):
    return Samples(parameters, np.empty((len(returns), 0)), np.asarray(returns, dtype=float))


def state_of(mean, covariance, **changes):
    constant = build_features("constant", 0)
    kept = {"generation": 0, "features": constant, "value_features": constant, **changes}
    return RelativeEntropyState(weights=np.array([mean]), covariance=covariance, **kept)


def case(seed, size=3, count=60):
    """A state and samples of it."""
    generator = np.random.default_rng(seed)
    mean = generator.normal(size=size)
    factor = np.tril(generator.normal(size=(size, size))) / size**0.5 + 2 * np.eye(size)
    parameters = mean + generator.normal(size=(count, size)) @ factor.T
    returns = -((parameters - 1) ** 2).sum(axis=1) + generator.normal(size=count)
    return state_of(mean, factor @ factor.T), parameters, returns


def divergence(old, new):
    """KL(old ‖ new) of two states without contexts, by its formula."""
    apart = (new.weights - old.weights)[0]
    inverse = np.linalg.inv(new.covariance)
    logs = [np.linalg.slogdet(state.covariance)[1] for state in (old, new)]
    spread = np.trace(inverse @ old.covariance)
    return 0.5 * (spread + apart @ inverse @ apart - len(apart) + logs[1] - logs[0])


@pytest.mark.parametrize("normaliser", ["standard", "regression"])
def test_golden_a(normaliser):
    """One update of golden A: mean and variance by independent code."""
    strategy = REPS(update="ml", epsilon=0.5, normaliser=normaliser)
    told = strategy.learn(state_of([0.0], np.eye(1)), samples(GOLDEN, [1.0, 2, 3, 4, 5]))
    assert told.weights[0, 0] == pytest.approx(1.5431539541, abs=1e-9)
    assert told.covariance[0, 0] == pytest.approx(0.9287892720, abs=1e-9)
    assert told.metrics.eta == pytest.approx(1.164779516, abs=1e-8)
    assert told.metrics.kl_weights == pytest.approx(0.5, abs=1e-10)
    weights = [0.0188425805, 0.0444627078, 0.1049183462, 0.2475751008, 0.5842012648]
    assert told.metrics.ess == pytest.approx(1 / np.sum(np.square(weights)), abs=1e-7)
    assert told.metrics.samples == 5
    assert told.generation == 1


def test_golden_a_within_a_wide_trust_region():
    """The constrained fit has no normaliser: with room enough it is maximum likelihood."""
    # KL(N(0, 1) ‖ N(1.543, 0.542)) is 2.3: a prior this near the fit is within the bound.
    near = state_of([1.5], np.array([[0.55]]))
    told = REPS(epsilon=0.5).learn(near, samples(GOLDEN, [1.0, 2, 3, 4, 5]))
    assert told.weights[0, 0] == pytest.approx(1.5431539541, abs=1e-9)
    assert told.covariance[0, 0] == pytest.approx(0.5424831672, abs=1e-9)


def test_with_too_few_effective_samples_the_rest_is_the_old_covariance():
    """Of four unknowns three effective samples give three quarters of the covariance."""
    generator = np.random.default_rng(0)
    parameters, old = generator.normal(size=(3, 3)), 5 * np.eye(3)
    told = REPS(update="ml").learn(state_of([0.0] * 3, old), samples(parameters, [7.0] * 3))
    # Equal returns: weights of 1/3, and the unbiased covariance.
    assert told.weights[0] == pytest.approx(parameters.mean(axis=0))
    expected = 0.75 * np.cov(parameters.T) + 0.25 * old
    assert told.covariance == pytest.approx(expected, abs=1e-12)


SETTINGS = [
    REPS(update="ml"),
    REPS(),
    REPS(entropy_loss=0.1, epsilon=1.0),
    REPS(update="ml", covariance="diagonal"),
    REPS(covariance="diagonal"),
]


def label(strategy):
    return f"{strategy.update} {strategy.covariance} {strategy.entropy_loss}"


@pytest.mark.parametrize("strategy", SETTINGS, ids=label)
@pytest.mark.parametrize("seed", range(3))
def test_affine_maps_of_the_parameters(strategy, seed):
    """What is learnt in other coordinates is what is learnt in these, mapped."""
    state, parameters, returns = case(seed)
    generator = np.random.default_rng(seed + 50)
    turn = generator.normal(size=(3, 3)) + 2 * np.eye(3)
    if strategy.covariance == "diagonal":  # then coordinates can be scaled, not mixed
        state = state_of(state.weights[0], np.diag(np.diag(state.covariance)))
        turn = np.diag([0.01, -3.0, 100.0])
    shift = np.array([5.0, -3.0, 100.0])
    here = strategy.learn(state, samples(parameters, returns))
    there = strategy.learn(
        state_of(state.weights[0] @ turn + shift, turn.T @ state.covariance @ turn),
        samples(parameters @ turn + shift, returns),
    )
    unit = np.sqrt(np.diag(turn.T @ here.covariance @ turn))
    assert there.weights / unit == pytest.approx((here.weights @ turn + shift) / unit, abs=1e-7)
    expected = turn.T @ here.covariance @ turn / np.outer(unit, unit)
    assert there.covariance / np.outer(unit, unit) == pytest.approx(expected, abs=1e-7)
    assert there.metrics.kl_gaussian == pytest.approx(here.metrics.kl_gaussian, abs=1e-7)


@pytest.mark.parametrize("strategy", SETTINGS, ids=label)
@pytest.mark.parametrize(("scale", "shift"), [(1e12, 0.0), (1e-9, 0.0), (3.0, -1e5)])
def test_returns_have_no_unit(strategy, scale, shift):
    state, parameters, returns = case(1)
    here = strategy.learn(state, samples(parameters, returns))
    there = strategy.learn(state, samples(parameters, scale * returns + shift))
    assert there.weights == pytest.approx(here.weights, abs=1e-7)
    assert there.covariance == pytest.approx(here.covariance, abs=1e-7)
    assert there.metrics.eta == pytest.approx(scale * here.metrics.eta, rel=1e-6)


@pytest.mark.parametrize("strategy", SETTINGS, ids=label)
def test_the_order_of_samples_does_not_matter(strategy):
    state, parameters, returns = case(2)
    order = np.random.default_rng(0).permutation(len(returns))
    here = strategy.learn(state, samples(parameters, returns))
    there = strategy.learn(state, samples(parameters[order], returns[order]))
    assert there.weights == pytest.approx(here.weights, abs=1e-9)
    assert there.covariance == pytest.approx(here.covariance, abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 2**31),
    st.integers(1, 8),
    st.integers(2, 60),
    st.floats(0.01, 3.0),
    st.sampled_from([1e-12, 1.0, 1e12]),
    st.sampled_from(["full", "diagonal"]),
)
def test_the_new_policy_is_within_the_bound(seed, size, count, epsilon, unit, covariance):
    """KL(old ‖ new) by its formula, with any number of samples, is what the metrics say."""
    state, parameters, returns = case(seed, size, count)
    if covariance == "diagonal":
        state = state_of(state.weights[0], np.diag(np.diag(state.covariance)))
    strategy = REPS(epsilon=epsilon, covariance=covariance)
    told = strategy.learn(state, samples(parameters, unit * returns))
    assert np.linalg.eigvalsh(told.covariance).min() > 0
    moved = divergence(state, told)
    assert moved <= epsilon * (1 + 1e-6) + 1e-9
    assert told.metrics.kl_gaussian == pytest.approx(moved, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("update", ["constrained", "ml"])
@pytest.mark.parametrize("covariance", ["full", "diagonal"])
def test_more_parameters_than_samples(update, covariance):
    """40 parameters, 20 samples: every update moves, and can be drawn from."""
    strategy = REPS(update=update, covariance=covariance)
    for seed in range(3):
        generator = np.random.default_rng(seed)
        state = state_of(np.zeros(40), 0.25 * np.eye(40))
        for _ in range(3):
            factor = np.linalg.cholesky(state.covariance)
            parameters = state.weights + generator.normal(size=(20, 40)) @ factor.T
            told = strategy.learn(state, samples(parameters, sphere(parameters, np.arange(20))))
            assert np.abs(told.weights - state.weights).max() > 1e-3, f"seed {seed} stands still"
            assert np.linalg.eigvalsh(told.covariance).min() > 0
            assert covariance == "full" or np.count_nonzero(told.covariance) == 40
            if update == "constrained":
                # Samples in a subspace pull without limit: the bound is used up.
                assert divergence(state, told) <= strategy.epsilon * (1 + 1e-6)
                if covariance == "full":
                    assert divergence(state, told) == pytest.approx(strategy.epsilon, rel=1e-4)
            state = told


@pytest.mark.parametrize("update", ["constrained", "ml"])
@pytest.mark.parametrize("covariance", ["full", "diagonal"])
def test_frozen_parameters_stay(update, covariance):
    strategy = REPS(
        update=update, covariance=covariance, initial_std=(1.0, 0.0, 0.5, 0.0), min_std=0.1
    )
    problem = FunctionProblem(sphere, np.array([-2.0, 0.1, 3.0, -0.7]), population_size=80)
    for generation in search(strategy, problem, 6):
        assert (generation.parameters[:, [1, 3]] == [0.1, -0.7]).all()
        after = generation.after
        assert np.array_equal(after.weights[0, [1, 3]], [0.1, -0.7])
        assert not after.covariance[[1, 3]].any()
        assert not after.covariance[:, [1, 3]].any()
        assert (np.diag(after.covariance)[[0, 2]] > 0).all()


@pytest.mark.parametrize("update", ["constrained", "ml"])
def test_frozen_parameters_do_not_change_what_the_others_learn(update):
    """The update of what is free is that of a problem without the rest."""
    state, parameters, returns = case(3)
    strategy = REPS(update=update)
    alone = strategy.learn(state, samples(parameters, returns))
    wide, covariance = np.full((60, 5), 7.0), np.zeros((5, 5))
    free = np.array([0, 2, 4])
    wide[:, free], covariance[np.ix_(free, free)] = parameters, state.covariance
    mean = np.full(5, 7.0)
    mean[free] = state.weights[0]
    told = strategy.learn(state_of(mean, covariance), samples(wide, returns))
    assert told.weights[:, free] == pytest.approx(alone.weights, abs=1e-12)
    assert told.covariance[np.ix_(free, free)] == pytest.approx(alone.covariance, abs=1e-12)
    assert told.metrics.kl_gaussian == pytest.approx(alone.metrics.kl_gaussian)


@pytest.mark.parametrize("update", ["constrained", "ml"])
def test_no_direction_is_narrower_than_the_floor(update):
    strategy = REPS(update=update, min_std=0.2)
    problem = FunctionProblem(sphere, np.full(3, -2.0), population_size=100)
    done = search(strategy, problem, 15)
    least = [np.linalg.eigvalsh(each.after.covariance).min() for each in done]
    assert min(least) >= 0.04 * (1 - 1e-12)
    assert least[-1] == pytest.approx(0.04), "the floor is never reached"


def test_the_divergence_is_of_the_policy_with_its_floor():
    """The figure is of what is drawn from; the floor goes before the bound."""
    state, parameters, returns = case(5)
    told = REPS(min_std=3.0, initial_std=3.0).learn(state, samples(parameters, returns))
    assert np.linalg.eigvalsh(told.covariance).min() == pytest.approx(9.0)
    assert told.metrics.kl_gaussian == pytest.approx(divergence(state, told), rel=1e-9)


@pytest.mark.parametrize("update", ["constrained", "ml"])
def test_diagonal_stays_diagonal(update):
    strategy = REPS(update=update, covariance="diagonal", min_std=0.01)
    problem = FunctionProblem(sphere, np.full(4, -2.0), population_size=60)
    for each in search(strategy, problem, 6):
        off = each.after.covariance[~np.eye(4, dtype=bool)]
        assert not off.any()


def test_entropy_falls_by_at_most_what_is_allowed():
    problem = FunctionProblem(sphere, np.full(3, -2.0), population_size=60)
    for each in search(REPS(entropy_loss=0.05, epsilon=1.0), problem, 8):
        before, after = (
            0.5 * np.linalg.slogdet(state.covariance)[1] for state in (each.before, each.after)
        )
        assert before - after <= 0.05 + 1e-9


@pytest.mark.parametrize("update", ["constrained", "ml"])
def test_one_sample_teaches_nothing(update):
    state = state_of([1.0, 2.0], np.eye(2))
    told = REPS(update=update).learn(state, samples(np.zeros((1, 2)), [5.0]))
    assert np.array_equal(told.weights, state.weights)
    assert np.array_equal(told.covariance, state.covariance)
    assert told.generation == 1


@pytest.mark.parametrize("update", ["constrained", "ml"])
def test_samples_in_one_point_leave_a_policy_to_draw_from(update):
    state = state_of([1.0, 2.0], np.eye(2))
    told = REPS(update=update).learn(state, samples(np.full((20, 2), 3.0), np.arange(20)))
    assert np.isfinite(told.weights).all()
    assert np.linalg.eigvalsh(told.covariance).min() > 0


def draw_generation(generator, mean, covariance, count):
    """A generation of a policy without contexts."""
    parameters = generator.multivariate_normal(mean, covariance, count)
    told = samples(parameters, sphere(parameters, np.arange(count)))
    return PolicySamples(told, np.array([mean]), covariance, build_features("constant", 0))


def normal(value, mean, covariance):
    """Density of a Gaussian, as it is written."""
    apart = value - mean
    scale = np.sqrt((2 * np.pi) ** len(mean) * np.linalg.det(covariance))
    return np.exp(-0.5 * apart @ np.linalg.inv(covariance) @ apart) / scale


def mixture_weights(used):
    """Importance weights of the samples of several policies, one by one."""
    count = sum(len(each.samples) for each in used)
    out = []
    for source in used:
        for value in source.samples.parameters:
            each = [normal(value, one.weights[0], one.covariance) for one in used]
            shares = [len(one.samples) / count for one in used]
            out.append(each[0] / np.dot(shares, each))
    return np.array(out)


def test_importance_weights_by_their_formula():
    generator = np.random.default_rng(0)
    used = (
        draw_generation(generator, [0.0, 1.0], np.array([[1.0, 0.3], [0.3, 0.5]]), 30),
        draw_generation(generator, [0.5, 0.5], np.array([[2.0, -0.4], [-0.4, 1.0]]), 50),
    )
    found = importance_weights(used)
    assert found == pytest.approx(mixture_weights(used), rel=1e-10)
    assert found.max() <= 80 / 30  # bounded by the share of the policy they stand for


def test_importance_weights_stand_for_the_newest_policy():
    """Means under the newest policy from samples that were mostly drawn by another."""
    generator = np.random.default_rng(1)
    used = (
        draw_generation(generator, [0.0, 1.0], np.diag([1.0, 0.5]), 2_000),
        draw_generation(generator, [0.7, 0.3], np.diag([2.0, 1.0]), 50_000),
    )
    weights = importance_weights(used)
    parameters = np.concatenate([each.samples.parameters for each in used])
    assert weights.mean() == pytest.approx(1.0, abs=0.02)
    mean = weights @ parameters / weights.sum()
    assert mean == pytest.approx([0.0, 1.0], abs=0.03)
    assert weights @ (parameters - mean) ** 2 / weights.sum() == pytest.approx([1, 0.5], rel=0.04)


def test_samples_of_the_same_policy_count_fully():
    generator = np.random.default_rng(2)
    covariance = np.array([[1.0, 0.3], [0.3, 0.5]])
    used = tuple(draw_generation(generator, [0.0, 1.0], covariance, count) for count in (20, 35, 7))
    assert importance_weights(used) == pytest.approx(np.ones(62), abs=1e-12)
    assert importance_weights(used[:1]) == pytest.approx(np.ones(20), abs=0)


def test_frozen_parameters_do_not_enter_importance_weights():
    generator = np.random.default_rng(3)
    free = (
        draw_generation(generator, [0.0], np.eye(1), 20),
        draw_generation(generator, [1.0], 2 * np.eye(1), 20),
    )
    frozen = tuple(
        PolicySamples(
            samples(
                np.column_stack([each.samples.parameters, np.full(20, 4.0)]), each.samples.returns
            ),
            np.column_stack([each.weights, [4.0]]),
            np.diag([each.covariance[0, 0], 0.0]),
            each.features,
        )
        for each in free
    )
    assert importance_weights(frozen) == pytest.approx(importance_weights(free), rel=1e-14)


def test_reuse_is_an_update_on_all_samples_with_those_weights():
    """Maximum likelihood on the union, as it is written."""
    generator = np.random.default_rng(4)
    newest = draw_generation(generator, [0.0, 1.0], np.array([[1.0, 0.3], [0.3, 0.5]]), 40)
    earlier = draw_generation(generator, [0.4, 0.6], np.diag([1.5, 1.0]), 60)
    state = state_of(newest.weights[0], newest.covariance, generation=1, memory=(earlier,))
    told = REPS(update="ml", reuse=1).learn(state, newest.samples)
    parameters = np.concatenate([newest.samples.parameters, earlier.samples.parameters])
    returns = np.concatenate([newest.samples.returns, earlier.samples.returns])
    weights = weigh_samples(returns, 0.5, base=mixture_weights((newest, earlier))).weights
    mean = weights @ parameters
    apart = parameters - mean
    covariance = (apart.T * weights) @ apart / (1 - weights @ weights)
    assert told.weights[0] == pytest.approx(mean, abs=1e-10)
    assert told.covariance == pytest.approx(covariance, abs=1e-10)
    assert told.metrics.samples == 100
    assert told.metrics.ess == pytest.approx(1 / (weights @ weights))


@pytest.mark.parametrize("update", ["constrained", "ml"])
def test_reuse_of_the_same_policy_is_one_large_generation(update):
    generator = np.random.default_rng(5)
    covariance = np.array([[1.0, 0.3], [0.3, 0.5]])
    newest, earlier = (
        draw_generation(generator, [0.0, 1.0], covariance, count) for count in (40, 60)
    )
    state = state_of([0.0, 1.0], covariance, generation=1)
    union = samples(
        np.concatenate([newest.samples.parameters, earlier.samples.parameters]),
        np.concatenate([newest.samples.returns, earlier.samples.returns]),
    )
    one = REPS(update=update).learn(state, union)
    remembered = state_of([0.0, 1.0], covariance, generation=1, memory=(earlier,))
    other = REPS(update=update, reuse=1).learn(remembered, newest.samples)
    assert other.weights == pytest.approx(one.weights, abs=1e-9)
    assert other.covariance == pytest.approx(one.covariance, abs=1e-9)


@pytest.mark.parametrize("reuse", [0, 1, 3])
def test_as_many_generations_are_kept_as_are_reused(reuse):
    problem = FunctionProblem(sphere, np.full(2, -2.0), population_size=30)
    done = search(REPS(reuse=reuse), problem, 6)
    used = [each.after.metrics.samples for each in done]
    assert used == [30 * min(generation + 1, reuse + 1) for generation in range(6)]
    # The newest first, with the policy that drew them.
    for back, kept in enumerate(done[-1].after.memory, start=1):
        assert np.array_equal(kept.samples.parameters, done[-back].parameters)
        assert np.array_equal(kept.weights, done[-back].before.weights)
        assert np.array_equal(kept.covariance, done[-back].before.covariance)
    assert len(done[-1].after.memory) == reuse


REFUSED = [
    # Strategy, parameters, fewest effective samples.
    (REPS(epsilon=3.0), 4, 2),
    (REPS(epsilon=1.0, update="ml"), 20, 21),
    (REPS(epsilon=1.0, update="ml", reuse=2), 20, 21),
    (REPS(epsilon=2.0, update="ml", covariance="diagonal"), 20, 2),
    (REPS(epsilon=1.0, update="ml", initial_std=(1.0, 0.0, 1.0, 0.0)), 4, 3),
]


@pytest.mark.parametrize(("strategy", "size", "needed"), REFUSED)
def test_populations_too_small_to_learn_from(strategy, size, needed):
    """The sentence gives a population that works, and the next smaller one does not."""
    start = np.zeros(size)
    strategy.check(FunctionProblem(sphere, start, population_size=10_000))
    with pytest.raises(UsageError) as refusal:
        strategy.check(FunctionProblem(sphere, start, population_size=2))
    said = str(refusal.value)
    effective = 2 * (1 + strategy.reuse) * math.exp(-strategy.epsilon)
    assert said.startswith(
        f"a population of 2 gives at most {effective:.1f} effective samples with epsilon "
        f"{strategy.epsilon:g}, and the update needs {needed}: "
    )
    suggested = int(re.search(r"give a population of (\d+)", said)[1])
    strategy.check(FunctionProblem(sphere, start, population_size=suggested))
    with pytest.raises(UsageError, match=f"give a population of {suggested},"):
        strategy.check(FunctionProblem(sphere, start, population_size=suggested - 1))


@settings(max_examples=100, deadline=None)
@given(st.floats(0.1, 6.0), st.integers(1, 40), st.integers(0, 3), st.sampled_from([2, 7, 30]))
def test_what_is_suggested_is_accepted(epsilon, size, reuse, population):
    strategy = REPS(epsilon=epsilon, reuse=reuse, update="ml")
    problem = FunctionProblem(sphere, np.zeros(size), population_size=population)
    try:
        strategy.check(problem)
    except UsageError as refusal:
        problem.population_size = int(re.search(r"give a population of (\d+)", str(refusal))[1])
        strategy.check(problem)


@pytest.mark.parametrize("epsilon", [0.1, 0.5, 1.0, 2.0, 2.5, 3.0, 4.0, 5.0])
@pytest.mark.parametrize("update", ["constrained", "ml"])
@pytest.mark.parametrize("size", [1, 100])
def test_the_own_population_is_large_enough(epsilon, update, size):
    problem = FunctionProblem(sphere, np.zeros(size), population_size=None)
    REPS(epsilon=epsilon, update=update).check(problem)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"epsilon": 0.0}, "epsilon 0.0 is not a finite number > 0"),
        ({"epsilon": math.inf}, "epsilon inf is not a finite number > 0"),
        ({"epsilon": math.nan}, "epsilon nan is not a finite number > 0"),
        ({"entropy_loss": -0.1}, "entropy_loss -0.1 is not a finite number >= 0"),
        ({"entropy_loss": 0.1, "update": "ml"}, "entropy_loss is kept by update 'constrained'"),
        ({"min_std": -1.0}, "min_std -1.0 is not a finite number >= 0"),
        ({"reuse": -1}, "reuse -1 is not at least 0"),
        ({"update": "mle"}, "mle"),
        ({"normaliser": "regresion"}, "regression"),
        ({"covariance": "diag"}, "diagonal"),
        ({"initial_std": 0.0}, "initial_std"),
        ({"initial_std": (1.0, -1.0)}, "initial_std"),
    ],
)
def test_settings_that_are_refused(setting, said):
    with pytest.raises(UsageError, match=re.escape(said)):
        REPS(**setting)
