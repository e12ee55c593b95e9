"""CREPS: reductions to REPS, the update of PyCREPS by hand, equivariance, reuse, bounds."""

import re
import warnings
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distes.errors import Notice, UsageError
from distes.population.features import build_features
from distes.strategies.creps import CREPS
from distes.strategies.numerics.reps import weigh_samples
from distes.strategies.parts.importance import PolicySamples, importance_weights
from distes.strategies.parts.relative_entropy import RelativeEntropyState
from distes.strategies.parts.upper_level import Samples
from distes.strategies.reps import REPS
from distes.testing.problems import FunctionProblem, search, sphere

START = np.array([-2.0, 0.5, 1.0])


@dataclass(eq=False)
class OneContext(FunctionProblem):
    """Every episode has the same context."""

    value: tuple[float, ...] = (0.7, -1.3)

    def evaluate(self, population, call=0):
        contexts = np.tile(self.value, (population.size, 1))
        return super().evaluate(replace(population, contexts=contexts), call)


SAME = {
    "default": {},
    "ml": {"update": "ml"},
    "regression": {"update": "ml", "normaliser": "regression"},
    "diagonal, floor": {"covariance": "diagonal", "min_std": 0.05},
    "entropy": {"entropy_loss": 0.1, "epsilon": 1.0},
    "frozen": {"initial_std": (1.0, 0.0, 0.5)},
    "reuse": {"reuse": 2},
}


@pytest.mark.parametrize("given_settings", SAME.values(), ids=SAME)
@pytest.mark.parametrize("dual_features", ["quadratic", "affine"])
@pytest.mark.parametrize("value", [(0.7, -1.3), (0.0, 0.0)])
def test_one_context_is_reps(given_settings, dual_features, value):
    """Same candidates, same policy in that context, over several generations."""
    contextual = OneContext(
        sphere, START, population_size=80, moved=np.zeros((2, 3)), value=value, seed=3
    )
    ours = search(CREPS(dual_features=dual_features, **given_settings), contextual, 6)
    plain = FunctionProblem(sphere, START, population_size=80, seed=3)
    theirs = search(REPS(**given_settings), plain, 6)
    for one, other in zip(ours, theirs, strict=True):
        assert np.array_equal(one.episodes.contexts, np.tile(value, (80, 1)))
        assert one.parameters == pytest.approx(other.parameters, abs=1e-10)
        mean = one.after.features(np.array([value])) @ one.after.weights
        assert mean == pytest.approx(other.after.weights, abs=1e-10)
        assert one.after.covariance == pytest.approx(other.after.covariance, abs=1e-10)
        for name in ("eta", "kl_weights", "kl_gaussian", "ess", "samples"):
            assert getattr(one.after.metrics, name) == pytest.approx(
                getattr(other.after.metrics, name), rel=1e-8, abs=1e-10
            )


@pytest.mark.parametrize("given_settings", SAME.values(), ids=SAME)
def test_without_contexts_it_is_reps(given_settings):
    """To the last bit; a notice says so."""
    problem = FunctionProblem(sphere, START, population_size=80)
    with pytest.warns(Notice, match="the task has no context, so that this is episodic REPS"):
        ours = search(CREPS(**given_settings), problem, 5)
    theirs = search(REPS(**given_settings), problem, 5)
    for one, other in zip(ours, theirs, strict=True):
        assert np.array_equal(one.parameters, other.parameters)
        assert np.array_equal(one.after.weights, other.after.weights)
        assert np.array_equal(one.after.covariance, other.after.covariance)


@pytest.mark.parametrize("update", ["constrained", "ml"])
def test_constant_features_of_contexts_are_reps(update):
    """Contexts that nothing looks at: the same update of the same samples."""
    state, told = case(0, policy="constant", dual="constant")
    one = CREPS(update=update, dual_features="constant", policy_features="constant")
    other = REPS(update=update).learn(state, Samples(told.parameters, told.contexts, told.returns))
    assert np.array_equal(one.learn(state, told).weights, other.weights)
    assert np.array_equal(one.learn(state, told).covariance, other.covariance)


def case(seed, *, policy="affine", dual="quadratic", size=3, contexts=2, count=80, units=None):
    """A state, and samples of it; contexts in units (k,)."""
    generator = np.random.default_rng(seed)
    units = np.ones(contexts) if units is None else np.asarray(units)
    features, dual_features = build_features(policy, contexts), build_features(dual, contexts)
    seen = generator.uniform(-1, 1, (count, contexts))
    # Coefficients in units in which features are of size one.
    weights = generator.normal(size=(features.num_features, size))
    weights = weights / np.abs(features(units[None])).T
    factor = np.tril(generator.normal(size=(size, size))) / size**0.5 + 2 * np.eye(size)
    means = features(seen * units) @ weights
    parameters = means + generator.normal(size=(count, size)) @ factor.T
    target = seen @ generator.normal(size=(contexts, size))
    returns = -((parameters - target) ** 2).sum(axis=1) + 10 * seen[:, 0]
    state = RelativeEntropyState(
        generation=0,
        weights=weights,
        covariance=factor @ factor.T,
        features=features,
        value_features=dual_features,
    )
    return state, Samples(parameters, seen * units, returns)


# The update of PyCREPS, by hand.

COMPAT = {"pycreps_compat": True, "update": "ml", "dual_features": "linear"}


def pycreps_weights(returns, contexts, epsilon):
    """Minimise the dual as PyCREPS writes it, over its own contexts, by Newton's method."""
    mean = contexts.mean(axis=0)

    def dual(at):
        """Value, gradient, Hessian, weights."""
        scaled = (returns - contexts @ at[1:]) / at[0]
        exponential = np.exp(scaled - scaled.max())
        log_mean = scaled.max() + np.log(exponential.mean())
        p = exponential / exponential.sum()
        value = at[0] * (epsilon + log_mean) + mean @ at[1:]
        slope = np.concatenate([[epsilon + log_mean - p @ scaled], mean - p @ contexts])
        columns = np.column_stack([scaled, contexts])
        apart = columns - p @ columns
        return value, slope, (apart.T * p) @ apart / at[0], p

    at = np.concatenate([[returns.std()], np.zeros(contexts.shape[1])])
    for _ in range(200):
        value, slope, curvature, _ = dual(at)
        step = -np.linalg.lstsq(curvature, slope, rcond=None)[0]
        share = 1.0
        while share > 1e-12 and (
            at[0] + share * step[0] <= 0
            or dual(at + share * step)[0] > value + 1e-4 * share * slope @ step
        ):
            share /= 2
        at = at + (share if share > 1e-12 else 0.0) * step
    assert np.abs(dual(at)[1]).max() < 1e-6
    return dual(at)[3]


def pycreps_update(told, epsilon):
    """What PyCREPS makes of weighted samples: a, A and Σ, as it writes them."""
    p = pycreps_weights(told.returns, told.contexts, epsilon)
    rows = np.column_stack([np.ones(len(p)), told.contexts])
    diagonal = np.diag(p)
    coefficients = np.linalg.pinv(rows.T @ diagonal @ rows) @ rows.T @ diagonal @ told.parameters
    apart = told.parameters - coefficients[0]
    return coefficients, (p * apart.T) @ apart


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("epsilon", [0.3, 1.0])
def test_compatible_with_pycreps(seed, epsilon):
    state, told = case(seed, dual="linear")
    after = CREPS(epsilon=epsilon, **COMPAT).learn(state, told)
    coefficients, covariance = pycreps_update(told, epsilon)
    assert after.weights == pytest.approx(coefficients, abs=1e-5)
    assert after.covariance == pytest.approx(covariance, rel=1e-5, abs=1e-5)


def test_compatible_covariance_is_wide_where_the_mean_moves():
    """Samples on a line of the context have no spread about the mean, and some about a."""
    contexts = np.linspace(-1, 1, 60)[:, None]
    generator = np.random.default_rng(0)
    told = Samples(2 + 3 * contexts, contexts, generator.normal(size=60))
    state, _ = case(0, size=1, contexts=1, dual="linear")
    after = CREPS(**COMPAT).learn(state, told)
    p = pycreps_weights(told.returns, contexts, 0.5)
    assert after.weights[:, 0] == pytest.approx([2.0, 3.0], abs=1e-6)
    assert after.covariance[0, 0] == pytest.approx(9 * p @ contexts[:, 0] ** 2, rel=1e-5)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"update": "constrained"}, "pycreps_compat needs update 'ml', not 'constrained'"),
        (
            {"dual_features": "quadratic"},
            "pycreps_compat needs dual_features 'linear', not 'quadratic'",
        ),
        (
            {"policy_features": "quadratic"},
            "pycreps_compat needs policy_features 'affine', not 'quadratic'",
        ),
    ],
)
def test_what_pycreps_does_not_do_is_refused(changed, said):
    CREPS(**COMPAT)
    with pytest.raises(UsageError, match=re.escape(said)):
        CREPS(**{**COMPAT, **changed})


@pytest.mark.parametrize("changed", [{"covariance": "diagonal"}, {"normaliser": "regression"}])
def test_what_pycreps_would_pass_over_is_refused(changed):
    """Its covariance is full and has no normaliser: another setting would have no effect."""
    with pytest.raises(UsageError, match=f"pycreps_compat needs {next(iter(changed))}"):
        CREPS(**{**COMPAT, **changed})


# Equivariance.

SETTINGS = [
    CREPS(update="ml"),
    CREPS(update="ml", normaliser="regression"),
    CREPS(),
    CREPS(entropy_loss=0.1, epsilon=1.0),
    CREPS(update="ml", covariance="diagonal"),
    CREPS(covariance="diagonal"),
]


def label(strategy):
    return f"{strategy.update} {strategy.normaliser} {strategy.covariance} {strategy.entropy_loss}"


def diagonal(state):
    return replace(state, covariance=np.diag(np.diag(state.covariance)))


@pytest.mark.parametrize("strategy", SETTINGS, ids=label)
@pytest.mark.parametrize("seed", range(3))
def test_affine_maps_of_the_parameters(strategy, seed):
    """What is learnt in other coordinates is what is learnt in these, mapped."""
    state, told = case(seed)
    generator = np.random.default_rng(seed + 50)
    turn = generator.normal(size=(3, 3)) + 2 * np.eye(3)
    if strategy.covariance == "diagonal":  # then coordinates can be scaled, not mixed
        state, turn = diagonal(state), np.diag([0.1, -3.0, 10.0])
    shift = np.zeros_like(state.weights)
    shift[0] = [5.0, -3.0, 100.0]
    here = strategy.learn(state, told)
    there = strategy.learn(
        replace(
            state,
            weights=state.weights @ turn + shift,
            covariance=turn.T @ state.covariance @ turn,
        ),
        replace(told, parameters=told.parameters @ turn + shift[0]),
    )
    assert there.weights == pytest.approx(here.weights @ turn + shift, abs=1e-7)
    assert there.covariance == pytest.approx(turn.T @ here.covariance @ turn, rel=1e-7, abs=1e-7)
    assert there.metrics.kl_gaussian == pytest.approx(here.metrics.kl_gaussian, abs=1e-8)


@pytest.mark.parametrize("strategy", SETTINGS, ids=label)
@pytest.mark.parametrize(("scale", "shift"), [(1e12, 0.0), (1e-9, 0.0), (3.0, -1e5)])
def test_returns_have_no_unit(strategy, scale, shift):
    state, told = case(1)
    here = strategy.learn(state, told)
    there = strategy.learn(state, replace(told, returns=scale * told.returns + shift))
    assert there.weights == pytest.approx(here.weights, abs=1e-6)
    assert there.covariance == pytest.approx(here.covariance, abs=1e-6)
    assert there.metrics.eta == pytest.approx(scale * here.metrics.eta, rel=1e-6)


@pytest.mark.parametrize("strategy", SETTINGS, ids=label)
def test_what_the_context_explains_of_the_returns_does_not_matter(strategy):
    """A quadratic function of the context makes good contexts, not good parameters."""
    state, told = case(2)
    first, second = told.contexts.T
    lucky = 100 + 30 * first - 50 * second**2 + 20 * first * second
    here = strategy.learn(state, told)
    there = strategy.learn(state, replace(told, returns=told.returns + lucky))
    assert there.weights == pytest.approx(here.weights, abs=1e-7)
    assert there.covariance == pytest.approx(here.covariance, abs=1e-7)


@pytest.mark.parametrize("strategy", SETTINGS, ids=label)
@pytest.mark.parametrize("dual", ["linear", "affine", "quadratic"])
def test_affine_maps_of_the_contexts(strategy, dual):
    """With affine features contexts can be turned, stretched and moved: A s is what it was."""
    state, told = case(3, dual=dual)
    if strategy.covariance == "diagonal":
        state = diagonal(state)
    turn = np.array([[3.0, 0.5], [-1.0, 0.02]])
    shift = np.array([4.0, -1.0])

    def map_weights(weights):
        slope = np.linalg.solve(turn, weights[1:])
        return np.vstack([weights[0] - shift @ slope, slope])

    here = strategy.learn(state, told)
    there = strategy.learn(
        replace(state, weights=map_weights(state.weights)),
        replace(told, contexts=told.contexts @ turn + shift),
    )
    assert there.weights == pytest.approx(map_weights(here.weights), rel=1e-6, abs=1e-6)
    assert there.covariance == pytest.approx(here.covariance, abs=1e-7)
    assert there.metrics.kl_gaussian == pytest.approx(here.metrics.kl_gaussian, abs=1e-8)


# Bounds.


def divergence(old, new, contexts):
    """Mean over contexts of KL(old ‖ new), by its formula."""
    apart = new.features(contexts) @ new.weights - old.features(contexts) @ old.weights
    inverse = np.linalg.inv(new.covariance)
    logs = [np.linalg.slogdet(state.covariance)[1] for state in (old, new)]
    moved = np.einsum("ni,ij,nj->n", apart, inverse, apart).mean()
    spread = np.trace(inverse @ old.covariance)
    return 0.5 * (spread + moved - len(inverse) + logs[1] - logs[0])


UNITS = st.sampled_from([1e-6, 1.0, 1e6])


@settings(max_examples=120, deadline=None)
@given(
    st.integers(0, 2**31),
    st.integers(1, 6),
    st.sampled_from([4, 12, 40, 90]),
    st.tuples(UNITS, UNITS),
    st.sampled_from([1e-12, 1.0, 1e12]),
    st.floats(0.01, 3.0),
    st.sampled_from(["affine", "linear", "quadratic"]),
    st.booleans(),
)
def test_the_new_policy_is_within_the_bound(seed, size, count, units, unit, epsilon, policy, only):
    """KL(old ‖ new) by its formula, in any units, with any number of samples."""
    state, told = case(seed, policy=policy, size=size, count=count, units=units)
    # More features than contexts of a first generation are not what this is about.
    state = replace(diagonal(state) if only else state, generation=1)
    strategy = CREPS(
        epsilon=epsilon, policy_features=policy, covariance="diagonal" if only else "full"
    )
    after = strategy.learn(state, replace(told, returns=unit * told.returns))
    assert np.isfinite(after.weights).all()
    assert np.linalg.eigvalsh(after.covariance).min() > 0
    moved = divergence(state, after, told.contexts)
    assert moved <= epsilon * (1 + 1e-6) + 1e-8
    assert after.metrics.kl_gaussian == pytest.approx(moved, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("units", [(1e6, 1e-6), (1e-6, 1e-6), (1e6, 1e6)])
@pytest.mark.parametrize("strategy", SETTINGS, ids=label)
def test_contexts_have_no_unit(strategy, units):
    """The means are those that are learnt where contexts are of size one."""
    (state, told), (scaled, other) = case(4), case(4, units=units)
    if strategy.covariance == "diagonal":
        state, scaled = diagonal(state), diagonal(scaled)
    here, there = strategy.learn(state, told), strategy.learn(scaled, other)
    means = here.features(told.contexts) @ here.weights
    assert there.features(other.contexts) @ there.weights == pytest.approx(means, abs=1e-7)
    assert there.covariance == pytest.approx(here.covariance, abs=1e-7)


@pytest.mark.parametrize("update", ["constrained", "ml"])
def test_more_parameters_than_samples(update):
    """40 parameters, 20 samples: every update moves, and can be drawn from."""
    strategy = CREPS(update=update)
    for seed in range(3):
        state, told = case(seed, size=40, count=20)
        after = strategy.learn(state, told)
        assert np.abs(after.weights - state.weights).max() > 1e-3, f"seed {seed} stands still"
        assert np.linalg.eigvalsh(after.covariance).min() > 0
        if update == "constrained":
            # Samples in a subspace pull without limit: the bound is used up.
            moved = divergence(state, after, told.contexts)
            assert moved == pytest.approx(strategy.epsilon, rel=1e-4)


@pytest.mark.parametrize("update", ["constrained", "ml"])
@pytest.mark.parametrize("policy_features", ["affine", "rbf:4"])
def test_frozen_parameters_stay(update, policy_features):
    """In every context: they have no slope, either."""
    strategy = CREPS(
        update=update,
        policy_features=policy_features,
        initial_std=(1.0, 0.0, 0.5),
        min_std=0.1,
    )
    problem = FunctionProblem(sphere, START, population_size=80, moved=np.full((2, 3), 0.5))
    for generation in search(strategy, problem, 6):
        after = generation.after
        assert (generation.parameters[:, 1] == 0.5).all()
        assert after.weights[0, 1] == 0.5
        assert not after.weights[1:, 1].any()
        assert after.weights[1:, 0].any()
        assert not after.covariance[1].any()
        assert not after.covariance[:, 1].any()
        free = np.ix_([0, 2], [0, 2])
        assert np.linalg.eigvalsh(after.covariance[free]).min() >= 0.01 * (1 - 1e-12)


@pytest.mark.parametrize("update", ["constrained", "ml"])
def test_diagonal_stays_diagonal(update):
    strategy = CREPS(update=update, covariance="diagonal", min_std=0.01)
    problem = FunctionProblem(sphere, START, population_size=60, moved=np.full((2, 3), 0.5))
    for each in search(strategy, problem, 6):
        assert not each.after.covariance[~np.eye(3, dtype=bool)].any()


@pytest.mark.parametrize("update", ["constrained", "ml"])
def test_the_policy_comes_to_follow_the_context(update):
    """Means at the ends of the contexts are near the best parameters there."""
    moved = np.array([[0.5, -0.3, 0.2], [0.0, 0.4, 0.1]])
    problem = FunctionProblem(sphere, START, population_size=100, moved=moved)
    state = search(CREPS(update=update), problem, 25)[-1].after
    ends = np.array([[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]])
    assert state.features(ends) @ state.weights == pytest.approx(1 + ends @ moved, abs=0.02)


# The updates by their formulas.


def weights_of(told, epsilon=0.5):
    return weigh_samples(
        told.returns, epsilon, build_features("quadratic", 2)(told.contexts)
    ).weights


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("normaliser", ["standard", "regression"])
def test_maximum_likelihood_by_its_formula(seed, normaliser):
    state, told = case(seed)
    after = CREPS(update="ml", normaliser=normaliser).learn(state, told)
    p, rows = weights_of(told), np.column_stack([np.ones(80), told.contexts])
    gram = (rows.T * p) @ rows
    coefficients = np.linalg.solve(gram, (rows.T * p) @ told.parameters)
    apart = told.parameters - rows @ coefficients
    lost = np.trace(np.linalg.solve(gram, (rows.T * p**2) @ rows))
    divisor = 1 - (lost if normaliser == "regression" else p @ p)
    assert after.weights == pytest.approx(coefficients, abs=1e-9)
    assert after.covariance == pytest.approx((apart.T * p) @ apart / divisor, abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_the_constrained_update_by_its_formula(seed):
    """The pull η to the old policy, found by halving until the bound is used up."""
    state, told = case(seed)
    # Narrower than what drew the samples, so that they pull beyond the bound.
    state, epsilon = replace(state, covariance=state.covariance / 4), 0.1
    after = CREPS(epsilon=epsilon).learn(state, told)
    p, rows = weights_of(told, epsilon), np.column_stack([np.ones(80), told.contexts])

    def pull(eta):
        both = (rows.T * (p + eta / 80)) @ rows
        target = (rows.T * p) @ told.parameters + eta / 80 * rows.T @ rows @ state.weights
        coefficients = np.linalg.solve(both, target)
        apart = told.parameters - rows @ coefficients
        moved = rows @ (coefficients - state.weights)
        spread = (apart.T * p) @ apart + eta * (state.covariance + moved.T @ moved / 80)
        return replace(state, weights=coefficients, covariance=spread / (1 + eta))

    low, high = 1e-6, 1e6
    for _ in range(100):
        middle = np.sqrt(low * high)
        beyond = divergence(state, pull(middle), told.contexts) > epsilon
        low, high = (middle, high) if beyond else (low, middle)
    assert 1e-5 < high < 1e5, "the bound is not what decides"
    assert after.weights == pytest.approx(pull(high).weights, abs=1e-6)
    assert after.covariance == pytest.approx(pull(high).covariance, abs=1e-6)


# Reuse.


def draw_generation(seed, policy="affine", count=40):
    """A generation of some policy."""
    state, told = case(seed, policy=policy, count=count, size=2)
    return PolicySamples(told, state.weights, state.covariance, state.features)


def mixture_weights(used):
    """Importance weights of samples and contexts of several policies, one by one."""
    count = sum(len(each.samples) for each in used)
    out = []
    for source in used:
        for value, context in zip(source.samples.parameters, source.samples.contexts, strict=True):
            densities = []
            for one in used:
                apart = value - one.features(context[None])[0] @ one.weights
                volume = np.sqrt(np.linalg.det(2 * np.pi * one.covariance))
                distance = apart @ np.linalg.inv(one.covariance) @ apart
                densities.append(np.exp(-0.5 * distance) / volume)
            shares = [len(one.samples) / count for one in used]
            out.append(densities[0] / np.dot(shares, densities))
    return np.array(out)


def test_importance_weights_by_their_formula():
    """Policies that differ in coefficients, covariance and features."""
    used = (
        draw_generation(0),
        draw_generation(1, count=60),
        draw_generation(2, "quadratic", count=30),
    )
    assert importance_weights(used) == pytest.approx(mixture_weights(used), rel=1e-9, abs=1e-300)


def test_samples_of_the_same_policy_count_fully():
    one = draw_generation(0)
    other = replace(one, samples=draw_generation(5, count=70).samples)
    assert importance_weights((one, other)) == pytest.approx(np.ones(110), abs=1e-12)


def near(one, seed):
    """A policy not far from another, and samples of it."""
    generator = np.random.default_rng(seed)
    weights = one.weights + 0.3 * generator.normal(size=one.weights.shape)
    contexts = generator.uniform(-1, 1, (60, 2))
    factor = 1.2 * np.linalg.cholesky(one.covariance)
    means = one.features(contexts) @ weights
    parameters = means + generator.normal(size=(60, 2)) @ factor.T
    told = Samples(parameters, contexts, sphere(parameters - contexts, np.arange(60)))
    return PolicySamples(told, weights, factor @ factor.T, one.features)


@pytest.mark.parametrize("seed", range(3))
def test_reuse_is_an_update_on_all_samples_with_those_weights(seed):
    """Maximum likelihood on the union, as it is written."""
    newest = draw_generation(seed)
    earlier = near(newest, seed)
    state = RelativeEntropyState(
        generation=1,
        weights=newest.weights,
        covariance=newest.covariance,
        features=newest.features,
        value_features=build_features("quadratic", 2),
        memory=(earlier,),
    )
    after = CREPS(update="ml", reuse=1).learn(state, newest.samples)
    parameters, contexts, returns = (
        np.concatenate([getattr(each.samples, name) for each in (newest, earlier)])
        for name in ("parameters", "contexts", "returns")
    )
    base = mixture_weights((newest, earlier))
    p = weigh_samples(returns, 0.5, build_features("quadratic", 2)(contexts), base).weights
    rows = np.column_stack([np.ones(100), contexts])
    coefficients = np.linalg.solve((rows.T * p) @ rows, (rows.T * p) @ parameters)
    apart = parameters - rows @ coefficients
    covariance = (apart.T * p) @ apart / (1 - p @ p)
    assert after.weights == pytest.approx(coefficients, abs=1e-9)
    assert after.covariance == pytest.approx(covariance, abs=1e-9)
    assert after.metrics.samples == 100


@pytest.mark.parametrize("update", ["constrained", "ml"])
def test_reuse_of_the_same_policy_is_one_large_generation(update):
    state, told = case(6, count=100)
    halves = [
        Samples(told.parameters[rows], told.contexts[rows], told.returns[rows])
        for rows in (slice(0, 40), slice(40, 100))
    ]
    earlier = PolicySamples(halves[1], state.weights, state.covariance, state.features)
    one = CREPS(update=update).learn(state, told)
    other = CREPS(update=update, reuse=1).learn(replace(state, memory=(earlier,)), halves[0])
    assert other.weights == pytest.approx(one.weights, abs=1e-9)
    assert other.covariance == pytest.approx(one.covariance, abs=1e-9)


# What is refused.

REFUSED = [
    # Settings, fewest effective samples for 4 parameters and 2 contexts.
    ({"epsilon": 1.0}, 4),
    ({"epsilon": 1.0, "policy_features": "quadratic"}, 7),
    ({"epsilon": 1.0, "policy_features": "rbf:9"}, 11),
    ({"epsilon": 1.0, "update": "ml"}, 7),
    ({"epsilon": 1.0, "update": "ml", "covariance": "diagonal"}, 4),
    ({"epsilon": 1.0, "update": "ml", "initial_std": (1.0, 0.0, 0.0, 1.0)}, 5),
    ({"epsilon": 1.5, "reuse": 1}, 4),
]


def contextual(population_size, size=4, **changes):
    return FunctionProblem(
        sphere,
        np.zeros(size),
        population_size=population_size,
        moved=np.zeros((2, size)),
        **changes,
    )


@pytest.mark.parametrize(("given_settings", "needed"), REFUSED)
def test_populations_too_small_to_learn_from(given_settings, needed):
    """The sentence gives a population that works, and the next smaller one does not."""
    strategy = CREPS(**given_settings)
    with pytest.raises(UsageError) as refusal:
        strategy.check(contextual(2))
    said = str(refusal.value)
    assert said.startswith("a population of 2 gives at most ")
    assert f"and the update needs {needed}: " in said
    assert "a smaller epsilon" in said
    assert "fewer policy_features" in said
    suggested = int(re.search(r"give a population of (\d+)", said)[1])
    strategy.check(contextual(suggested))
    with pytest.raises(UsageError, match=f"give a population of {suggested},"):
        strategy.check(contextual(suggested - 1))


@pytest.mark.parametrize("epsilon", [0.1, 0.5, 1.0, 2.0, 2.5, 3.0, 4.0, 5.0])
@pytest.mark.parametrize(
    "given_settings",
    [
        {},
        {"update": "ml"},
        {"policy_features": "quadratic"},
        {"policy_features": "rbf:20"},
        {"reuse": 2},
    ],
    ids=str,
)
def test_the_own_population_is_large_enough(epsilon, given_settings):
    CREPS(epsilon=epsilon, **given_settings).check(contextual(None, 12))


def test_several_episodes_are_refused():
    with pytest.raises(UsageError, match="episodes 3: parameters are drawn for each episode's"):
        CREPS().check(contextual(200, episodes=3))


def test_dependent_policy_features_are_said_once():
    """Two components that are the same: A is not determined, and stays as near as it can."""
    state, told = case(7)
    twice = replace(told, contexts=told.contexts[:, [0, 0]])
    with pytest.warns(Notice, match=r"policy_features are linearly dependent .* \(rank 2 of 3\)"):
        after = CREPS().learn(state, twice)
    assert divergence(state, after, twice.contexts) == pytest.approx(0.5, rel=1e-6)
    # Only the sum of the two slopes matters: both change alike.
    change = after.weights - state.weights
    assert change[1] == pytest.approx(change[2], abs=1e-10)
    assert np.abs(change[1]).max() > 1e-3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CREPS().learn(after, twice)


def test_a_start_that_linear_features_cannot_give_is_refused():
    problem = FunctionProblem(sphere, START, population_size=200, moved=np.zeros((2, 3)))
    with pytest.raises(UsageError, match="policy_features without a constant cannot start at"):
        CREPS(policy_features="linear").check(problem)
    CREPS(policy_features="linear").check(contextual(200))
