"""Strategies that imitate the best episodes: which they pick, what they learn, same runs."""

import warnings
from dataclasses import replace

import environments
import numpy as np
import pytest
from searches import StopAt, assert_same_run, cartpole

from distes import Search, Task
from distes.errors import Notice, UsageError
from distes.policies import MLP, Linear
from distes.policies.gaussian import GaussianNoise
from distes.policies.sampled import Sampled
from distes.policies.softmax import Softmax
from distes.policies.tabular import Tabular
from distes.population.records import Rerun, RunKey
from distes.search.evaluator import make_evaluator
from distes.seeds import strategy_generator
from distes.strategies.deep_cem import _SHUFFLE, DeepCEM, Pairs
from distes.strategies.numerics.optimisers import AdamState
from distes.strategies.parts.elite_episodes import pick_by_percentile
from distes.strategies.tabular_cem import TabularCEM


def test_elites_from_the_percentile_on():
    fitness = np.array([1.0, 5.0, 3.0, np.nan, 5.0, 2.0])
    assert pick_by_percentile(fitness, 50, "at_least").tolist() == [1, 4, 2]
    assert pick_by_percentile(fitness, 60, "above").tolist() == [1, 4]
    tied = np.full(4, 200.0)
    assert pick_by_percentile(tied, 70, "at_least").tolist() == [0, 1, 2, 3]
    assert pick_by_percentile(tied, 70, "above").tolist() == []
    # More than half are the best there is: these, then.
    assert pick_by_percentile(np.array([0.0, 1, 1, 0, 1]), 50, "above").tolist() == [1, 2, 4]
    assert pick_by_percentile(np.full(3, np.nan), 70, "at_least").tolist() == []


def ready(strategy, policy, env="CartPole-v0", **settings):
    """A problem whose dozen episodes are not worth compiling for."""
    settings = {"workers": 0, "population": 12, "engine": "loop", **settings}
    search = Search(env, policy=policy, strategy=strategy, **settings)
    problem = search.check()
    problem.evaluator = make_evaluator(search, 0)
    return problem


def turn(strategy, problem, state):
    problem.begin(state.generation)
    population = strategy.ask(problem, state)
    key = RunKey(problem.seed, state.generation)
    episodes = problem.evaluator.submit(population, key).result().episodes
    return population, episodes, strategy.tell(problem, state, population, episodes)


def test_one_epoch_by_hand():
    """The elites' pairs in original order, shuffled, in batches of 64, by Adam."""
    strategy = DeepCEM(batch_size=64, l2=0.01)
    problem = ready(strategy, Softmax(hidden=(5,)))
    state = strategy.init(problem)
    population, episodes, after = turn(strategy, problem, state)
    chosen = np.sort(pick_by_percentile(episodes.fitness, 70, "at_least"))
    trajectories = problem.trajectories(population, episodes, chosen)
    observations = np.concatenate([t.observations for t in trajectories])
    choices = np.concatenate([t.actions for t in trajectories])
    order = strategy_generator(problem.seed, _SHUFFLE, 1).permutation(len(choices))
    parameters, adam = state.parameters, AdamState.begin(problem.num_parameters)
    for start in range(0, len(order), 64):
        batch = order[start : start + 64]
        each = [
            problem.policy.log_prob_grad(
                parameters, observations[i : i + 1], choices[i : i + 1], np.ones(1)
            )
            for i in batch
        ]
        gradient = np.mean(each, axis=0) - 0.01 * parameters / len(batch)
        change, adam = adam.step(gradient, 1e-3)
        parameters = parameters + change
    assert after.parameters == pytest.approx(parameters, abs=1e-9)
    assert after.pairs == len(choices)


def imitated(strategy, policy, frozen, pairs, batch, learning_rate, rounds, seed):
    """The method by hand: Adam on the mean log-likelihood, in shuffled batches."""
    parameters, adam = np.array(policy[1]), AdamState.begin(len(policy[1]))
    shuffle = strategy_generator(seed, _SHUFFLE, 1)
    observations, choices = pairs
    seen = (observations - frozen["observation_mean"]) / frozen["observation_std"]
    for _ in range(rounds):
        order = shuffle.permutation(len(choices))
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            share = np.full(len(rows), 1 / len(rows))
            gradient = policy[0].log_prob_grad(parameters, seen[rows], choices[rows], share)
            change, adam = adam.step(gradient, learning_rate)
            parameters = parameters + change
    return parameters


def test_observations_are_normalised_and_settings_are_those_given():
    """Statistics of the generation; its learning rate, batches and epochs."""
    strategy = DeepCEM(batch_size=32, learning_rate=0.02, epochs=2, l2=0.0)
    problem = ready(strategy, Softmax())
    state = strategy.init(problem)
    frozen = {"observation_mean": np.full(4, 0.3), "observation_std": np.full(4, 0.05)}
    population = replace(strategy.ask(problem, state), frozen=frozen)
    episodes = problem.evaluator.submit(population, RunKey(0, 0)).result().episodes
    after = strategy.tell(problem, state, population, episodes)
    chosen = np.sort(pick_by_percentile(episodes.fitness, 70, "at_least"))
    trajectories = problem.trajectories(population, episodes, chosen)
    pairs = [
        np.concatenate([getattr(t, name) for t in trajectories])
        for name in ("observations", "actions")
    ]
    policy = (problem.policy, state.parameters)
    expected = imitated(strategy, policy, frozen, pairs, 32, 0.02, 2, problem.seed)
    assert after.parameters == pytest.approx(expected, abs=1e-9)


def test_remembered_elites_are_normalised_as_the_generation_is():
    """Otherwise two normalisations are mixed in one fit."""
    strategy = DeepCEM(reuse=1, l2=0.0)
    problem = ready(strategy, Softmax())
    generator = np.random.default_rng(0)
    old = Pairs(generator.normal(size=(40, 4)), generator.integers(2, size=40))
    state = replace(strategy.init(problem), memory=(old,))
    frozen = {"observation_mean": np.full(4, 0.3), "observation_std": np.full(4, 0.05)}
    population = replace(strategy.ask(problem, state), frozen=frozen)
    episodes = problem.evaluator.submit(population, RunKey(0, 0)).result().episodes
    after = strategy.tell(problem, state, population, episodes)
    new = after.memory[0]
    pairs = (
        np.concatenate([new.observations, old.observations]),
        np.concatenate([new.choices, old.choices]),
    )
    policy = (problem.policy, state.parameters)
    expected = imitated(strategy, policy, frozen, pairs, 200, 1e-3, 1, problem.seed)
    assert after.parameters == pytest.approx(expected, abs=1e-9)
    assert after.pairs == len(pairs[1])


def test_elites_with_a_failed_episode_or_infinities_are_left_out():
    """With Box actions, too, of which an empty trajectory has no columns."""
    strategy = DeepCEM(percentile=0.0, reuse=1)
    problem = ready(strategy, GaussianNoise(), Task(environments.Walk))
    give = problem.trajectories

    def blink(*asked):
        found = give(*asked)
        for each in found[1:4]:
            each.observations[5:6] = np.inf
        return found

    problem.trajectories = blink
    state = strategy.init(problem)
    with pytest.warns(Notice, match="of 12 elite episodes saw or chose numbers that are not"):
        population, episodes, after = turn(strategy, problem, state)
    memory = after.memory[0]
    assert np.isfinite(memory.observations).all()
    assert 0 < after.pairs < 12 * 10
    assert after.pairs == len(memory.choices)
    assert not np.array_equal(after.parameters, state.parameters)
    lost = episodes.status.copy()
    lost[::2] = 1
    part = strategy.tell(problem, state, population, replace(episodes, status=lost))
    assert 0 < part.pairs < after.pairs
    none = strategy.tell(problem, after, population, replace(episodes, status=np.ones_like(lost)))
    assert np.array_equal(none.parameters, after.parameters)
    assert none.memory == after.memory
    assert np.isnan(strategy.metrics(none)["loss"])
    assert strategy.metrics(none)["pairs"] == 0


def test_a_fit_that_ends_in_infinity_is_not_remembered():
    strategy = DeepCEM(reuse=2, l2=1e308, epochs=2)
    problem = ready(strategy, GaussianNoise(), Task(environments.Walk))
    state = strategy.init(problem)
    state = replace(state, parameters=np.full_like(state.parameters, 1e10))
    with (
        pytest.warns(Notice, match="ended in numbers that are not finite"),
        np.errstate(all="ignore"),
    ):
        _, _, after = turn(strategy, problem, state)
    assert np.array_equal(after.parameters, state.parameters)
    assert after.memory == ()
    assert np.isnan(strategy.metrics(after)["loss"])


def test_elites_are_used_again():
    strategy = DeepCEM(reuse=2)
    problem = ready(strategy, Softmax())
    state, pairs = strategy.init(problem), []
    for _ in range(4):
        _, _, state = turn(strategy, problem, state)
        pairs.append(state.pairs)
        assert len(state.memory) <= 2
    new = [len(each.choices) for each in state.memory]
    assert pairs[3] >= sum(new)


def test_regression_moves_the_mean_towards_what_was_chosen():
    strategy = DeepCEM(epochs=30, learning_rate=0.01)
    problem = ready(strategy, GaussianNoise(std=0.5), "MountainCarContinuous-v0")
    state = strategy.init(problem)
    population, episodes, after = turn(strategy, problem, state)
    rows = np.sort(pick_by_percentile(episodes.fitness, 70, "at_least"))
    trajectories = problem.trajectories(population, episodes, rows)
    observations = np.concatenate([t.observations for t in trajectories])
    choices = np.concatenate([t.actions for t in trajectories])
    # The choices are kept as they were sampled, beyond the bounds of the actions, too.
    assert np.abs(choices).max() > 1
    policy = problem.policy
    before, now = (
        policy.log_prob(each.parameters, observations, choices).mean() for each in (state, after)
    )
    assert now > before


@pytest.mark.parametrize("pseudo_count", [0.0, 0.7])
def test_table_by_hand(pseudo_count):
    """Half of the episodes are elite unless it is said otherwise; their returns differ."""
    strategy = TabularCEM(learning_rate=0.25, pseudo_count=pseudo_count)
    problem = ready(strategy, Tabular(), Task("Taxi-v4", max_episode_steps=20))
    state = strategy.init(problem)
    population, episodes, after = turn(strategy, problem, state)
    assert len(np.unique(episodes.fitness)) > 4
    chosen = np.flatnonzero(episodes.fitness >= np.median(episodes.fitness))
    counts = np.zeros((500, 6))
    for trajectory in problem.trajectories(population, episodes, chosen):
        for row, action in zip(trajectory.observations[:, 0], trajectory.actions, strict=True):
            counts[int(row), int(action)] += 1
    new = np.full((500, 6), 1 / 6)
    seen = counts.sum(axis=1) > 0
    counts[seen] += pseudo_count
    new[seen] = counts[seen] / counts[seen].sum(axis=1, keepdims=True)
    assert after.table == pytest.approx(0.75 * state.table + 0.25 * new)
    assert after.table.sum(axis=1) == pytest.approx(np.ones(500))
    assert after.visited == pytest.approx(seen.mean())


def test_tables_to_start_from_are_made_probabilities():
    """Otherwise a start of scale 100 outweighs what is learnt, and one below 0 spoils it."""
    strategy = TabularCEM()
    problem = ready(strategy, Tabular(), "FrozenLake-v1")
    problem.start = np.tile([30.0, 10.0, -5.0, 0.0], 16)
    problem.start[:4] = [-1.0, 0.0, -2.0, 0.0]
    table = strategy.init(problem).table
    assert table[0].tolist() == [0.25] * 4
    assert table[1].tolist() == [0.75, 0.25, 0.0, 0.0]


def test_rows_without_anything_positive_are_uniform():
    policy = ready(TabularCEM(), Tabular(), "FrozenLake-v1").policy
    table = np.full((16, 4), -3.0)
    table[:, 1] = -1.0
    table[1] = [0.0, 2.0, -7.0, 2.0]
    generator = np.random.default_rng(0)
    for act in (policy.choose(table.ravel()), policy.bind(table.ravel())):
        drawn = [act(np.array([0.0]), generator) for _ in range(400)]
        assert np.bincount(drawn, minlength=4).min() > 60
        assert {act(np.array([1.0]), generator) for _ in range(100)} == {1, 3}
    assert policy.bind(table.ravel())(np.array([0.0]), None) == 0
    assert policy.bind(table.ravel())(np.array([1.0]), None) == 1


def test_tables_learn_nothing_of_episodes_without_steps():
    strategy = TabularCEM()
    problem = ready(strategy, Tabular(), "FrozenLake-v1")
    state = strategy.init(problem)
    state = replace(state, table=np.tile([0.7, 0.1, 0.1, 0.1], (16, 1)))
    population, episodes, _ = turn(strategy, problem, state)
    failed = replace(episodes, status=np.ones_like(episodes.status))
    after = strategy.tell(problem, state, population, failed)
    assert np.array_equal(after.table, state.table)
    assert np.isnan(after.visited)


def test_elites_that_are_all_are_told_of():
    """With ties, more than the share above the percentile are elite: perhaps all."""
    tied = np.array([0.0] * 8 + [1.0] * 2)
    with pytest.warns(Notice, match="all 10 candidates are at least at the 70th percentile, 0"):
        assert len(pick_by_percentile(tied, 70, "at_least")) == 10
    with warnings.catch_warnings():
        warnings.simplefilter("error", Notice)
        assert len(pick_by_percentile(tied, 0, "at_least")) == 10
        assert len(pick_by_percentile(tied, 85, "at_least")) == 2
        assert len(pick_by_percentile(tied, 70, "above")) == 2
        assert len(pick_by_percentile(np.ones(1), 70, "at_least")) == 1


@pytest.mark.parametrize("strategy", [DeepCEM(), TabularCEM()])
def test_common_seeds_and_one_start_of_one_episode_are_refused(strategy):
    env = "FrozenLake-v1" if isinstance(strategy, TabularCEM) else "CartPole-v0"
    with pytest.raises(UsageError, match=r"common_seeds gives all .*_cem tries one policy"):
        Search(env, strategy=strategy, common_seeds=True, workers=0).check()
    same = replace(strategy, same_start=True)
    with pytest.raises(UsageError, match="episodes is 1"):
        Search(env, strategy=same, workers=0).check()
    Search(env, strategy=same, episodes=2, workers=0).check()


def test_nothing_is_learnt_of_no_elites():
    strategy = DeepCEM(elites_are="above")
    problem = ready(strategy, Softmax(), Task("CartPole-v0", max_episode_steps=5))
    state = strategy.init(problem)
    with pytest.warns(Notice, match="none of 12 candidates is above the 70th percentile, 5"):
        _, episodes, after = turn(strategy, problem, state)
    assert set(episodes.episode_return) == {5.0}
    assert np.array_equal(after.parameters, state.parameters)
    assert strategy.metrics(after)["elites"] == 0


def test_sessions_from_one_start_are_judged_together():
    strategy = DeepCEM(same_start=True)
    problem = ready(strategy, Softmax(), episodes=3)
    population, episodes, _ = turn(strategy, problem, strategy.init(problem))
    again = Rerun.of(population, episodes, np.arange(36))
    assert len(np.unique(again.start_seed)) == 12
    assert len(np.unique(again.seed)) == 36


@pytest.mark.parametrize(
    ("strategy", "policy", "env", "sentence"),
    [
        (DeepCEM(), Linear(), "CartPole-v0", "always takes the same"),
        (DeepCEM(), MLP(), "CartPole-v0", "always takes the same"),
        (DeepCEM(), Tabular(), "FrozenLake-v1", "have gradients"),
        (TabularCEM(), Softmax(), "FrozenLake-v1", "use policy tabular"),
        (TabularCEM(), None, "CartPole-v0", "Discrete observation space"),
        (DeepCEM(), Softmax(), "Pendulum-v1", "gaussian takes Box"),
    ],
)
def test_policies_that_do_not_do(strategy, policy, env, sentence):
    with pytest.raises(UsageError, match=sentence):
        Search(env, policy=policy, strategy=strategy, workers=0).check()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"percentile": 100.0}, "percentile"),
        ({"elites_are": "abov"}, "did you mean 'above'"),
        ({"epochs": 0}, "epochs"),
        ({"batch_size": 0}, "batch_size"),
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"l2": -1.0}, "l2"),
        ({"reuse": -1}, "reuse"),
        ({"epochs": 1.5}, "epochs 1.5 is not a whole number"),
        ({"reuse": 0.5}, "reuse 0.5 is not a whole number"),
    ],
)
def test_settings_outside_their_ranges(settings, sentence):
    with pytest.raises(UsageError, match=sentence):
        DeepCEM(**settings)


def test_strategies_choose_their_own_policy():
    assert isinstance(Search("CartPole-v0", strategy=DeepCEM()).policy, Sampled)
    assert isinstance(Search("FrozenLake-v1", strategy=TabularCEM()).policy, Tabular)
    assert isinstance(Search(Task("CartPole-v0")).policy, Linear)


@pytest.mark.parametrize("normalised", [False, True])
def test_resumed_runs_are_the_same(tmp_path, normalised):
    """A state with memory and an optimiser goes on exactly."""

    settings = {
        "strategy": DeepCEM(reuse=1),
        "population": 10,
        "generations": 6,
        "normalize_observations": normalised,
        "target": 1e9,
        "final_episodes": 3,
        "engine": "loop",
    }
    cartpole(tmp_path / "whole", **settings).run()
    with pytest.raises(KeyboardInterrupt):
        cartpole(tmp_path / "broken", observers=(StopAt(2),), **settings).run()
    Search.resume(tmp_path / "broken")
    assert_same_run(tmp_path / "broken", tmp_path / "whole")
