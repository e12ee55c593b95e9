"""What a search chooses where its user leaves it open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import environments
import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiBinary

from distes.cli import main
from distes.errors import UsageError
from distes.policies import MLP, Linear, Tabular
from distes.runs.reader import load
from distes.search.config_file import from_config, to_config
from distes.search.defaults import choose_method
from distes.search.search import Search
from distes.search.settings import Settings
from distes.strategies import ARS, CEM, CMAES, CREPS, PGPE, TabularCEM
from distes.tasks.environment import Task
from distes.tasks.function import FunctionTask

TABLE: dict[str, tuple[Any, Any, Any, int | None, bool, bool]] = {
    # environment: strategy, policy, population, common seeds, normalised observations
    "CartPole-v1": (CMAES(initial_std=0.3), Linear(), 32, True, False),
    "Acrobot-v1": (CMAES(initial_std=0.3), Linear(), 32, True, True),
    "Pendulum-v1": (
        CMAES(initial_std=0.3),
        MLP(hidden=(16, 16), rescale_actions=True),
        *(40, True, False),
    ),
    "MountainCar-v0": (CMAES(initial_std=0.3), MLP(hidden=(16, 16)), 40, True, True),
    "FrozenLake-v1": (TabularCEM(unvisited="kept"), Tabular(), None, False, False),
}


@pytest.mark.parametrize("env", TABLE)
def test_choices_follow_from_the_spaces(env: str) -> None:
    """If wrong: a run without a flag is not the one that the documentation promises."""
    search = Settings(env)
    found = (search.strategy, search.policy, search.population)
    found += (search.common_seeds, search.normalize_observations)
    assert found == TABLE[env]
    assert {"strategy", "policy"} <= search.chosen
    assert search.deploy == ("mean" if env == "FrozenLake-v1" else "best-heldout")


@pytest.mark.parametrize(("size", "normalises"), [(9, False), (10, True)])
def test_simulators_of_robots_have_random_search(size: int, normalises: bool) -> None:
    """If wrong: CMA-ES ends where a pendulum falls at once, and scales differ by thousands."""
    spaces = Box(-np.inf, np.inf, (size,)), Box(-1.0, 1.0, (2,))
    method = choose_method(Task("CartPole-v1"), spaces, Linear().build(*spaces))
    assert (method.strategy, method.population) == (ARS(), None)
    assert method.normalize_observations == normalises


@pytest.mark.parametrize(
    ("seen", "normalises"),
    [
        (Box(0, 10, (2,), np.int32), False),
        (Box(-128, 127, (2,), np.int8), True),
        (Box(0.0, 0.5, (3,)), True),
        (Box(0.0, 30.0, (3,)), True),
        (Box(-np.inf, 1.0, (3,)), True),
        (Box(-1.0, 1.0, (0,)), False),
        (MultiBinary(3), True),
    ],
)
def test_networks_have_what_is_alike_as_it_is(seen: gym.Space[Any], normalises: bool) -> None:
    """If wrong: an integer's range ends in a traceback, or a network sees one number alone."""
    spaces = seen, Discrete(2)
    method = choose_method(Task("CartPole-v1"), spaces, MLP(hidden=(4,)).build(*spaces))
    assert method.normalize_observations == normalises


def test_who_is_judged_otherwise_than_by_the_mean_deploys_no_mean() -> None:
    """If wrong: a search for the worst case deploys what is best on average."""
    assert Settings(Task("CartPole-v1", fitness="cvar:0.25")).deploy == "mean"
    assert Settings(FunctionTask(environments.sphere, 2)).deploy == "mean"


def test_what_begins_with_a_spread_takes_one() -> None:
    """If wrong: --start-from-spread is refused for what auto chose itself."""
    spaces = Box(-np.inf, np.inf, (4,)), Box(-1.0, 1.0, (2,))
    method = choose_method(Task("CartPole-v1"), spaces, Linear().build(*spaces), from_spread=True)
    assert method.strategy == CMAES(initial_std=0.3)


def test_a_large_policy_is_searched_without_a_matrix() -> None:
    """If wrong: a network without a strategy named asks for d² numbers."""
    search = Settings("CartPole-v1", policy=MLP(hidden=(64, 64)))
    assert search.strategy == PGPE()
    assert search.normalize_observations
    assert search.chosen == {"strategy", "normalize_observations", "deploy", "generations"}
    function = Settings(FunctionTask(environments.sphere, 1000))
    assert function.strategy == CMAES(covariance="separable")
    assert function.policy is None


@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1"])
def test_contexts_are_searched_for_a_rule(env: str) -> None:
    """If wrong: a contextual task is searched for one vector, or for a network's weights."""
    search = Settings(Task(env, context="observation:0"))
    assert (search.strategy, search.policy) == (CREPS(), Linear())


def test_contexts_go_before_tables() -> None:
    """If wrong: contexts are asked for and passed over."""
    task = Task("FrozenLake-v1", context="uniform", context_low=(0.0,), context_high=(1.0,))
    assert Settings(task).strategy == CREPS()


def test_noisy_functions_have_the_population_for_noise() -> None:
    """If wrong: the number that is meant for returns without noise meets noise."""
    noisy = FunctionTask(environments.noisy_sphere, 2, noisy=True)
    assert Settings(noisy).population == 32
    assert Settings(FunctionTask(environments.sphere, 2)).population is None


def test_what_is_given_stands() -> None:
    """If wrong: auto overrules its user."""
    search = Settings(
        "Pendulum-v1",
        policy="linear",
        population=10,
        common_seeds=False,
        normalize_observations=False,
        generation_env_steps=1,
        deploy="mean",
    )
    assert (search.policy, search.population) == (Linear(), 10)
    assert search.common_seeds is search.normalize_observations is False
    assert search.chosen == {"strategy", "generations"}
    sized = Settings("CartPole-v1", population=10)
    assert sized.generation_env_steps is None, "a generation has the candidates that were given"
    named = Settings("Pendulum-v1", strategy="cem")
    assert named.policy == MLP(hidden=(16, 16), rescale_actions=True)
    assert (named.population, named.common_seeds, named.normalize_observations) == (
        *(None, False),
        False,
    )
    assert named.chosen == {"policy", "generations"}
    assert Settings("Pendulum-v1", strategy="creps").policy == Linear()


def test_choices_are_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """If wrong: a resumed run follows another version's choices, or info calls them given."""
    search = Search("CartPole-v1", generations=1, target="off", workers=0, out=tmp_path / "run")
    search.run()
    config = load(tmp_path / "run").config
    assert config["search"]["strategy"]["name"] == "cmaes"
    assert config["search"]["population"] == 32
    assert config["chosen"] == [
        *("common_seeds", "deploy", "generation_env_steps", "policy", "population", "strategy"),
    ]
    assert config["search"]["generation_env_steps"] == 5000
    again = from_config(config["search"], Settings)
    assert again.chosen == frozenset()
    assert to_config(again) == config["search"]
    assert main(["info", str(tmp_path / "run")]) == 0
    info = capsys.readouterr().out
    assert "cmaes, initial_std 0.3 (auto)" in info
    assert "32 candidates (auto) x 1 episode, again until 5,000 env steps" in info


def test_the_first_line_spells_the_choices_out(capsys: pytest.CaptureFixture[str]) -> None:
    """If wrong: a newcomer does not learn what runs."""
    assert main(["run", "Pendulum-v1", "--dry-run"]) == 0
    said = capsys.readouterr().out.splitlines()[0]
    assert "cmaes (auto: initial std 0.3), mlp (auto: hidden 16,16, rescale actions on)" in said
    assert "normalised observations" not in said
    assert "40 candidates (auto) x 1 episode, again until 5,000 env steps" in said
    assert "common seeds (auto)" in said
    assert "deploys its best held-out solution (auto)" in said


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            ["--strategy.elite-fraction", "0.1"],
            "belongs to strategy cem and icem, and no strategy is named: say which",
        ),
        (["--policy.hidden", "8"], "belongs to policy gaussian, mlp"),
        (["--strategy.bogus", "8"], "unknown flag of strategy auto '--strategy.bogus'"),
    ],
)
def test_flags_of_what_is_not_named_are_refused(
    flags: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """If wrong: a setting of one strategy is lost on another."""
    assert main(["run", "CartPole-v1", *flags]) == 2
    assert said in capsys.readouterr().err


def test_auto_is_a_name_like_others(capsys: pytest.CaptureFixture[str]) -> None:
    """If wrong: --strategy auto is unknown, or a table of it keeps settings that do nothing."""
    chosen = Settings("CartPole-v1", strategy="auto", policy="auto")
    assert (chosen.strategy, chosen.policy) == (CMAES(initial_std=0.3), Linear())
    config = {"env": "CartPole-v1", "strategy": "auto", "policy": {"name": "auto"}}
    assert from_config(config, Settings).strategy == CMAES(initial_std=0.3)
    config["strategy"] = {"name": "auto", "elite_fraction": 0.1}  # type: ignore[assignment]
    with pytest.raises(UsageError, match=r"strategy\.elite_fraction is given, and strategy auto"):
        from_config(config, Settings)
    assert main(["run", "CartPole-v1", "--strategy", "auto", "--policy", "auto", "--dry-run"]) == 0
    assert "cmaes (auto: initial std 0.3), linear (auto)" in capsys.readouterr().out


def test_a_start_keeps_what_its_parameters_mean(tmp_path: Path) -> None:
    """If wrong: parameters are taken over, and what they act on or through is another."""
    settings: dict[str, Any] = {"generations": 1, "target": "off", "workers": 0}
    for normalises in (True, False):
        out = tmp_path / str(normalises)
        settings["normalize_observations"] = normalises
        Search("Pendulum-v1", strategy=CEM(), policy=MLP(hidden=(16,)), out=out, **settings).run()
        for strategy in (None, CEM()):
            follower = Settings("Pendulum-v1", strategy=strategy, start_from=out)
            assert follower.normalize_observations is normalises
            assert follower.policy == MLP(hidden=(16,)), "not rescaled as auto would have it"
    np.save(tmp_path / "start.npy", np.zeros(81))
    assert not Settings("Pendulum-v1", start_from=tmp_path / "start.npy").normalize_observations


def brief(out: Path, **given: Any) -> Search:
    """A run whose generation is quick, without a strategy unless one is given."""
    settings = {"generations": 2, "target": "off", "workers": 0, "engine": "loop", **given}
    return Search(Task("CartPole-v1", max_episode_steps=5), out=out, **settings)


def test_a_run_goes_on_as_it_began_whatever_is_chosen_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If wrong: a retried job is refused, or searches otherwise, after an update of distes."""
    began = brief(tmp_path / "run").run()
    monkeypatch.setattr("distes.search.defaults.POPULATION", 12)
    monkeypatch.setattr("distes.search.defaults.GENERATION_ENV_STEPS", None)
    again = brief(tmp_path / "run")
    assert (again.population, again.generation_env_steps) == (12, None)
    assert again.run(resume_if_exists=True).score == began.score
    assert (again.population, again.generation_env_steps) == (32, 5000)
    assert {"population", "strategy", "policy"} <= again.chosen
    longer = brief(tmp_path / "run", generations=3).proceed()
    assert longer.run.generations["episodes"].nunique() == 1
    with pytest.raises(UsageError, match="population 32, not 12"):
        brief(tmp_path / "run", generations=3, population=12).run(resume_if_exists=True)


def test_a_run_from_before_a_choice_keeps_what_it_had(tmp_path: Path) -> None:
    """If wrong: runs of versions that chose less are refused by the command that began them."""
    brief(tmp_path / "run", deploy="mean").run()
    again = brief(tmp_path / "run")
    assert again.deploy == "best-heldout"
    again.run(resume_if_exists=True)
    assert again.deploy == "mean"


def test_a_run_with_a_strategy_of_its_own_is_not_gone_on_with_without_one(tmp_path: Path) -> None:
    """If wrong: a traceback from one strategy that reads another's state, or a riddle."""
    brief(tmp_path / "run", strategy="cem", population=8).run()
    with pytest.raises(UsageError, match="started with strategy cem, and no strategy is named now"):
        brief(tmp_path / "run", generations=3).proceed()
    with pytest.raises(UsageError, match="started with strategy cem, and no strategy is named now"):
        brief(tmp_path / "run").run(resume_if_exists=True)


def test_a_later_budget_stands_in_for_the_generations_too(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If wrong: an extended run is not what it had been if that was asked for at first."""
    monkeypatch.setattr("distes.search.settings.GENERATIONS", 2)
    run = tmp_path / "run"
    brief(run, generations="auto", population=8).run()
    result = Search.resume(run, max_episodes=40)
    assert "40 episodes" in result.stopped
    assert load(run).config["search"]["generations"] == "none"
    assert main(["info", str(run)]) == 0
    assert "8 candidates (given)" in capfd.readouterr().out


def test_another_budget_stands_in_for_the_generations() -> None:
    """If wrong: two million steps end after a hundred small generations."""
    assert Settings("CartPole-v1").resolved_generations == 100
    assert Settings("CartPole-v1", max_env_steps=10**6).resolved_generations is None
    both = Settings("CartPole-v1", max_env_steps=10**6, generations=7)
    assert both.resolved_generations == 7
    assert Settings("CartPole-v1", generations=None).resolved_generations is None


def test_an_observation_that_no_policy_takes_is_refused() -> None:
    """If wrong: the choice of a policy is a traceback."""

    class Words(gym.Env[str, int]):
        observation_space = gym.spaces.Text(5)
        action_space = gym.spaces.Discrete(2)

    with pytest.raises(UsageError, match="not supported"):
        Settings(Words)
