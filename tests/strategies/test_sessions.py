"""Strategies that imitate the best sessions: which they pick, what they learn, same runs."""

import numpy as np
import pytest

from distes import Search, Task
from distes.errors import Notice, UsageError
from distes.numerics.optimisers import AdamState
from distes.policies import MLP, Linear
from distes.policies.gaussian import Gaussian
from distes.policies.sampled import Sampled
from distes.policies.softmax import Softmax
from distes.policies.tabular import Tabular
from distes.population import Again
from distes.randomness import strategy_generator
from distes.strategies.deep_cem import _SHUFFLE, DeepCEM
from distes.strategies.sessions import elite_sessions
from distes.strategies.tabular_cem import TabularCEM


def tables_of(run):
    """What must be equal: all columns but those of timing and placement."""
    untimed = ["attempt", "worker", "node", "started_at", "duration_s"]
    return run.episodes.drop(columns=untimed)


def test_elites_from_the_percentile_on():
    fitness = np.array([1.0, 5.0, 3.0, np.nan, 5.0, 2.0])
    assert elite_sessions(fitness, 50, "at_least").tolist() == [1, 4, 2]
    assert elite_sessions(fitness, 60, "above").tolist() == [1, 4]
    tied = np.full(4, 200.0)
    assert elite_sessions(tied, 70, "at_least").tolist() == [0, 1, 2, 3]
    assert elite_sessions(tied, 70, "above").tolist() == []
    assert elite_sessions(np.full(3, np.nan), 70, "at_least").tolist() == []


def ready(strategy, policy, env="CartPole-v0", **settings):
    search = Search(env, policy=policy, strategy=strategy, workers=0, population=12, **settings)
    problem = search.check()
    from distes.search import make_evaluator

    problem.evaluator = make_evaluator(search, 0)
    return problem


def turn(strategy, problem, state):
    problem.begin(state.generation)
    population = strategy.ask(problem, state)
    from distes.population import RunKey

    key = RunKey(problem.seed, state.generation)
    episodes = problem.evaluator.submit(population, key).result().episodes
    return population, episodes, strategy.tell(problem, state, population, episodes)


def test_one_epoch_by_hand():
    """The elites' pairs in original order, shuffled, in batches of 64, by Adam."""
    strategy = DeepCEM(batch_size=64, l2=0.01)
    problem = ready(strategy, Softmax(hidden=(5,)))
    state = strategy.init(problem)
    population, episodes, after = turn(strategy, problem, state)
    chosen = np.sort(elite_sessions(episodes.fitness, 70, "at_least"))
    traces = problem.trajectories(population, episodes, chosen)
    observations = np.concatenate([t.observations for t in traces])
    choices = np.concatenate([t.actions for t in traces])
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
    problem = ready(strategy, Gaussian(std=0.5), "MountainCarContinuous-v0")
    state = strategy.init(problem)
    population, episodes, after = turn(strategy, problem, state)
    rows = np.sort(elite_sessions(episodes.fitness, 70, "at_least"))
    traces = problem.trajectories(population, episodes, rows)
    observations = np.concatenate([t.observations for t in traces])
    choices = np.concatenate([t.actions for t in traces])
    # The choices are kept as they were sampled, beyond the bounds of the actions, too.
    assert np.abs(choices).max() > 1
    policy = problem.policy
    before, now = (
        policy.log_prob(each.parameters, observations, choices).mean() for each in (state, after)
    )
    assert now > before


def test_table_by_hand():
    strategy = TabularCEM(learning_rate=0.25)
    problem = ready(strategy, Tabular(), "FrozenLake-v1")
    state = strategy.init(problem)
    population, episodes, after = turn(strategy, problem, state)
    chosen = np.sort(elite_sessions(episodes.fitness, 50, "at_least"))
    counts = np.zeros((16, 4))
    for trace in problem.trajectories(population, episodes, chosen):
        for row, action in zip(trace.observations[:, 0], trace.actions, strict=True):
            counts[int(row), int(action)] += 1
    new = np.full((16, 4), 0.25)
    seen = counts.sum(axis=1) > 0
    new[seen] = counts[seen] / counts[seen].sum(axis=1, keepdims=True)
    assert after.table == pytest.approx(0.75 * state.table + 0.25 * new)
    assert after.table.sum(axis=1) == pytest.approx(np.ones(16))
    assert after.visited == pytest.approx(seen.mean())


def test_nothing_is_learnt_of_no_elites():
    strategy = DeepCEM(elites_are="above")
    problem = ready(strategy, Softmax(), Task("CartPole-v0", max_episode_steps=5))
    state = strategy.init(problem)
    with pytest.warns(Notice, match="none of 12 sessions is above the 70th percentile, 5"):
        _, episodes, after = turn(strategy, problem, state)
    assert set(episodes.episode_return) == {5.0}
    assert np.array_equal(after.parameters, state.parameters)
    assert strategy.metrics(after)["elites"] == 0


def test_sessions_from_one_start_are_judged_together():
    strategy = DeepCEM(same_start=True)
    problem = ready(strategy, Softmax(), episodes=3)
    population, episodes, _ = turn(strategy, problem, strategy.init(problem))
    again = Again.of(population, episodes, np.arange(36))
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

    def search(out, generations):
        return Search(
            "CartPole-v0",
            strategy=DeepCEM(reuse=1),
            population=10,
            generations=generations,
            normalize_observations=normalised,
            workers=0,
            out=out,
            target=1e9,
            final_episodes=3,
        )

    whole = search(tmp_path / "whole", 6).run()
    from distes.runs.reader import load

    class Stopped(Exception):
        pass

    from distes import Observer

    class Stop(Observer):
        def generation(self, row):
            if row["generation"] == 2:
                raise Stopped

    broken = search(tmp_path / "broken", 6)
    broken.observers = (Stop(),)
    with pytest.raises(Stopped):
        broken.run()
    Search.resume(tmp_path / "broken")
    one, other = (tables_of(load(path)) for path in (whole.path, tmp_path / "broken"))
    assert one.equals(other)
