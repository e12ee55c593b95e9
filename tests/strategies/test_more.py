"""MORE, with and without contexts: bounds, equivariance, frozen parameters, convergence."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distes.errors import UsageError
from distes.population.distributions import Table
from distes.population.records import Population
from distes.strategies.more import MORE
from distes.strategies.numerics import gaussians
from distes.testing.problems import FunctionProblem, episodes_of, search


def negative_norm(parameters, _seeds):
    return -np.sum(parameters**2, axis=1)


def problem(d=4, k=2, n=40, objective=negative_norm, **changes):
    moved = np.random.default_rng(5).normal(size=(k, d)) if k else None
    return FunctionProblem(objective, np.ones(d), population_size=n, moved=moved, **changes)


def example(k=2, d=4, n=40, **settings):
    """A state in mid-course, candidates, contexts and returns without any symmetry."""
    generator = np.random.default_rng(3)
    where, strategy = problem(d, k, n), MORE(**settings)
    factor = generator.normal(size=(d, d)) + 2 * np.eye(d)
    state = strategy.init(where)
    state = replace(
        state,
        generation=7,
        weights=generator.normal(size=state.weights.shape),
        covariance=factor @ factor.T,
    )
    contexts = generator.uniform(-1, 1, (n, k))
    mean = state.features(contexts) @ state.weights
    drawn = mean + generator.normal(size=(n, d)) @ factor.T
    returns = np.sin(drawn).sum(axis=1) - (drawn**2).sum(axis=1)
    return strategy, where, state, drawn, contexts, returns


def tell_returns(strategy, where, state, drawn, contexts, returns):
    episodes = replace(episodes_of(returns), contexts=contexts if contexts.shape[1] else None)
    return strategy.tell(where, state, Population(Table(drawn), len(drawn)), episodes)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**31),
    st.integers(0, 2),
    st.floats(0.01, 3.0),
    st.floats(0.0, 1.0),
    st.floats(-6, 6),
)
def test_bounds_hold_for_the_policy_itself(seed, k, epsilon, rate, magnitude):
    """KL(new ‖ old) <= ε over the generation's contexts, entropy >= γ(H − H0) + H0."""
    strategy, where, state, drawn, contexts, _ = example(k, epsilon=epsilon, entropy_rate=rate)
    generator = np.random.default_rng(seed)
    returns = 10.0**magnitude * (drawn @ generator.normal(size=4) - generator.random(40))
    returns -= 10.0 ** generator.uniform(-3, 3) * (drawn**2).sum(axis=1)
    after = tell_returns(strategy, where, state, drawn, contexts, returns)
    rows = state.features(contexts)
    moved = gaussians.kl(
        rows @ after.weights, after.covariance, rows @ state.weights, state.covariance
    )
    assert moved <= epsilon * (1 + 1e-7) + 1e-9
    assert after.metrics.kl_gaussian == pytest.approx(moved, abs=1e-7)
    entropy = gaussians.entropy(state.covariance)
    least = rate * (entropy - state.min_entropy) + state.min_entropy
    assert gaussians.entropy(after.covariance) >= least - 1e-7
    assert np.linalg.eigvalsh(after.covariance).min() > 0


@pytest.mark.parametrize("k", [0, 2])
def test_translation_and_scale(k):
    """Candidates 5x + shift: the policy moves along."""
    strategy, where, state, drawn, contexts, returns = example(k)
    plain = tell_returns(strategy, where, state, drawn, contexts, returns)
    shift = np.array([1.0, -2.0, 300.0, 0.5])
    weights = 5 * state.weights
    weights[0] += shift
    scaled = replace(
        state,
        weights=weights,
        covariance=25 * state.covariance,
        min_entropy=state.min_entropy + 4 * np.log(5),
    )
    after = tell_returns(strategy, where, scaled, 5 * drawn + shift, contexts, returns)
    expected = 5 * plain.weights
    expected[0] += shift
    assert after.weights == pytest.approx(expected, abs=1e-7)
    assert after.covariance == pytest.approx(25 * plain.covariance)


@pytest.mark.parametrize("k", [0, 2])
def test_any_linear_map_of_the_parameters(k):
    """Candidates mapped by any M, rotations among them: the policy is mapped along."""
    strategy, where, state, drawn, contexts, returns = example(k)
    plain = tell_returns(strategy, where, state, drawn, contexts, returns)
    change = np.random.default_rng(4).normal(size=(4, 4))
    mapped = replace(
        state,
        weights=state.weights @ change.T,
        covariance=change @ state.covariance @ change.T,
        min_entropy=state.min_entropy + np.linalg.slogdet(change)[1],
    )
    after = tell_returns(strategy, where, mapped, drawn @ change.T, contexts, returns)
    assert after.weights == pytest.approx(plain.weights @ change.T)
    assert after.covariance == pytest.approx(change @ plain.covariance @ change.T)


def same(one, other, rel=1e-7):
    for name in ("weights", "covariance"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), rel=rel), name


def test_scale_and_shift_of_the_return():
    strategy, where, state, drawn, contexts, returns = example()
    plain = tell_returns(strategy, where, state, drawn, contexts, returns)
    after = tell_returns(strategy, where, state, drawn, contexts, 1e5 * returns - 3e6)
    same(after, plain)
    assert after.metrics.eta == pytest.approx(1e5 * plain.metrics.eta)


def test_what_the_context_explains_does_not_count():
    """The model's own function of the context takes it up."""
    strategy, where, state, drawn, contexts, returns = example()
    value = 1e3 * (contexts[:, 0] - contexts[:, 1] ** 2 + contexts[:, 0] * contexts[:, 1])
    plain = tell_returns(strategy, where, state, drawn, contexts, returns)
    same(tell_returns(strategy, where, state, drawn, contexts, returns + value), plain)


def test_a_context_that_is_constant_is_none():
    """Reduction: the same update as without contexts."""
    strategy, where, state, drawn, _, returns = example()
    alike = np.tile([[0.3, -0.7]], (40, 1))
    mean = state.features(alike[:1]) @ state.weights
    with_context = tell_returns(strategy, where, state, drawn, alike, returns)
    plain, _, other, *_ = example(0)
    without = replace(other, weights=mean, covariance=state.covariance)
    after = tell_returns(plain, problem(k=0), without, drawn, np.empty((40, 0)), returns)
    found = with_context.features(alike[:1]) @ with_context.weights
    assert found == pytest.approx(after.weights)
    assert with_context.covariance == pytest.approx(after.covariance)


def test_failed_candidates_count_as_never_drawn():
    strategy, where, state, drawn, contexts, returns = example()
    failed = np.arange(40) % 4 == 1
    after = tell_returns(strategy, where, state, drawn, contexts, np.where(failed, np.nan, returns))
    fewer = tell_returns(
        strategy, where, state, drawn[~failed], contexts[~failed], returns[~failed]
    )
    same(after, fewer)


@pytest.mark.parametrize("k", [0, 2])
def test_returns_that_say_nothing_change_nothing(k):
    strategy, where, state, drawn, contexts, _ = example(k)
    for returns in (np.full(40, 200.0), 5.0 + contexts.sum(axis=1)):
        after = tell_returns(strategy, where, state, drawn, contexts, returns)
        assert np.array_equal(after.weights, state.weights)
        assert np.array_equal(after.covariance, state.covariance)
        assert after.metrics.kl_gaussian == 0


def test_a_model_that_predicts_nothing_is_not_followed():
    """Returns without any relation to parameters: about half of 30 generations stay put."""
    strategy, where, state, drawn, contexts, _ = example()
    stayed = 0
    for seed in range(30):
        noise = np.random.default_rng(seed).normal(size=40)
        after = tell_returns(strategy, where, state, drawn, contexts, noise)
        unmoved = np.array_equal(after.weights, state.weights)
        assert unmoved == (after.metrics.surrogate_r2 <= 0)
        stayed += unmoved
    assert stayed >= 15


def test_frozen_parameters_stay():
    strategy = MORE(initial_std=(1.0, 0.0, 0.5, 0.0))
    done = search(strategy, problem(), 15)
    assert np.array_equal(done[-1].after.weights[:, [1, 3]], done[0].before.weights[:, [1, 3]])
    assert not done[-1].after.covariance[[1, 3]].any()
    assert (done[-1].parameters[:, [1, 3]] == 1.0).all()


def test_the_entropy_falls_no_further_than_its_least():
    least = gaussians.entropy(0.01**2 * np.eye(4))
    done = search(MORE(min_entropy=least, entropy_rate=0.5), problem(), 60)
    reached = gaussians.entropy(done[-1].after.covariance)
    assert least - 1e-6 <= reached <= least + 0.1


def test_least_standard_deviation():
    done = search(MORE(min_std=0.2, entropy_rate=0.5), problem(), 40)
    assert np.linalg.eigvalsh(done[-1].after.covariance).min() >= 0.2**2 * (1 - 1e-9)


def test_a_quadratic_is_solved_once_it_is_known():
    """No noise, more samples than terms: the best mean of each context to many digits."""
    where = problem(d=3, n=60)
    done = search(MORE(), where, 30)
    weights = done[-1].after.weights
    assert weights[0] == pytest.approx(np.zeros(3), abs=1e-7)
    assert weights[1:] == pytest.approx(where.moved, abs=1e-7)
    assert MORE().metrics(done[-1].after)["surrogate_r2"] > 0.99


def test_earlier_samples_are_kept_as_long_as_asked():
    done = search(MORE(reuse=2), problem(n=30), 5)
    assert [len(each.after.memory) for each in done] == [1, 2, 2, 2, 2]
    assert done[-1].after.metrics.samples == 90
    assert search(MORE(reuse=0), problem(n=30), 2)[-1].after.memory == ()


def test_mistakes():
    for settings_, said in (
        ({"epsilon": 0.0}, "epsilon 0.0"),
        ({"entropy_rate": 1.5}, "entropy_rate"),
        ({"min_entropy": float("inf")}, "min_entropy"),
        ({"min_std": -1.0}, "min_std"),
        ({"reuse": -1}, "reuse"),
        ({"initial_std": 0.0}, "initial_std"),
    ):
        with pytest.raises(UsageError, match=said):
            MORE(**settings_)
    with pytest.raises(UsageError, match="at least 10"):
        MORE().check(problem(n=9))
    with pytest.raises(UsageError, match="baseline_features"):
        MORE(baseline_features="quadratc").check(problem())


def regret(strategy, where, state):
    """Mean over fresh contexts of how far the deployed mean is from the best."""
    contexts = np.random.default_rng(99).uniform(-1, 1, (1000, where.num_contexts))
    solution = strategy.solution(where, state).distribution
    drawn = solution.draw(np.zeros(1000, dtype=np.int64), contexts)
    return -float(where.objective(drawn - contexts @ where.moved, np.arange(1000)).mean())


@pytest.mark.slow
@pytest.mark.parametrize(("reuse", "generations"), [(4, 60), (0, 200)])
def test_contextual_sphere(reuse, generations):
    """20 parameters, 2 contexts, generations of 50: regret below 1e-4 on 10 of 10 seeds."""
    reached = []
    for seed in range(10):
        generator = np.random.default_rng(1000 + seed)
        where = FunctionProblem(
            negative_norm,
            generator.normal(size=20),
            seed=seed,
            population_size=50,
            moved=generator.normal(size=(2, 20)),
        )
        strategy = MORE(reuse=reuse)
        done = search(strategy, where, generations)
        reached.append(regret(strategy, where, done[-1].after))
    assert max(reached) < 1e-4, sorted(reached)


@pytest.mark.slow
def test_noisy_returns():
    """Noise of standard deviation 1 on a sphere in 5 dimensions: within 0.1 on 18 of 20 seeds."""

    def noisy(parameters, seeds):
        noise = [np.random.default_rng(int(seed)).standard_normal() for seed in seeds]
        return -np.sum(parameters**2, axis=1) + np.array(noise)

    errors = []
    for seed in range(20):
        where = problem(d=5, k=0, n=50, objective=noisy, seed=seed)
        done = search(MORE(), where, 60)
        errors.append(float((done[-1].after.weights ** 2).sum()))
    assert np.sum(np.array(errors) < 0.1) >= 18, sorted(errors)
