import json
import math
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distes import registry
from distes.errors import UsageError
from distes.policies.linear import Linear
from distes.policies.mlp import MLP
from distes.registry import parse_setting, settings_of, to_plain
from distes.search import config_file
from distes.search.config_file import from_config, merge, to_config, to_toml
from distes.search.search import Search
from distes.strategies.cem import CEM
from distes.strategies.cmaes import CMAES
from distes.strategies.icem import ICEM
from distes.strategies.normalized import Normalized
from distes.tasks.environment import Task
from distes.tasks.function import FunctionTask


def short_cart_pole(limit: int = 20) -> gym.Env[Any, Any]:
    return gym.make("CartPole-v1", max_episode_steps=limit)


def worst_of(table: np.ndarray) -> np.ndarray:
    return table.min(axis=1)


def sphere(parameters: np.ndarray) -> float:
    return -float(parameters @ parameters)


@dataclass(frozen=True)
class Example:
    """Settings of every kind.

    Attributes:
        count: how many.
        share: how much
            of it.
        limit: at most, or none.
        sizes: of layers.
        kind: which.
        rule: a name or a function.
        table: more.
        switch: on or off.
        mixed: a number or a word.
    """

    count: int = 1
    share: float = 0.5
    limit: int | None = None
    sizes: tuple[int, ...] = (32,)
    kind: Literal["tanh", "relu"] = "tanh"
    rule: str | Callable[..., Any] = "mean"
    table: dict[str, Any] | None = None
    switch: bool = False
    mixed: float | str = "auto"


KNOWN = settings_of(Example)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("count", "7", 7),
        ("share", "1e-3", 1e-3),
        ("share", "2", 2.0),
        ("limit", "none", None),
        ("limit", "4", 4),
        ("sizes", "8, 16", (8, 16)),
        ("sizes", "8", (8,)),
        ("sizes", "", ()),
        ("kind", "relu", "relu"),
        ("rule", "cvar:0.25", "cvar:0.25"),
        ("rule", "math:hypot", math.hypot),
        ("table", '{"a": [1, null]}', {"a": [1, None]}),
        ("switch", "true", True),
        ("mixed", "0.25", 0.25),
        ("mixed", "half", "half"),
    ],
)
def test_text_becomes_the_fields_type(name: str, text: str, value: Any) -> None:
    read = parse_setting(KNOWN[name], text, name)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("name", "given_value", "said"),
    [
        ("count", "many", "'many' is not a whole number"),
        ("count", 1.5, "1.5 is not a whole number"),
        ("count", True, "true is not a whole number"),
        ("share", "nan", "'nan' is not finite"),
        ("share", float("inf"), "is not finite"),
        ("limit", "no", "a whole number or none"),
        ("sizes", "8,x", "whole numbers separated by commas"),
        ("kind", "tahn", "did you mean 'tanh'"),
        ("table", "{a: 1}", "is not JSON"),
        ("table", '{"a": NaN}', "is not finite"),
        ("switch", "maybe", "true or false"),
        ("rule", "<function __main__:rule>", "can't be found again"),
    ],
)
def test_wrong_values_are_one_sentence(name: str, given_value: Any, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_setting(KNOWN[name], given_value, f"--{name}")
    assert said in str(caught.value)
    assert f"--{name}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_help_comes_from_the_docstring() -> None:
    assert KNOWN["share"].help == "how much of it."
    assert KNOWN["mixed"].help == "a number or a word."


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_no_bit_of_a_number_is_lost_in_toml_or_flags(number: float) -> None:
    """Otherwise a resumed run would not be the run that was started."""
    written = to_toml({"reward_shift": number, "strategy": {"name": "x", "a": [number]}})
    read = tomllib.loads(written)
    for value in (read["reward_shift"], read["strategy"]["a"][0]):
        assert math.copysign(1, value) == math.copysign(1, number)
        assert value == number
    assert parse_setting(KNOWN["share"], repr(number), "share") == number


@given(st.dictionaries(st.text(), st.none() | st.booleans() | st.integers(-9, 9) | st.text()))
def test_any_table_of_plain_values_survives_toml(table: dict[str, Any]) -> None:
    written = to_toml({"env_kwargs": table, "strategy": {"name": "cem"}})
    read = tomllib.loads(written)["env_kwargs"]
    assert parse_setting(settings_of(Task)["env_kwargs"], read, "env_kwargs") == table


SEARCHES = {
    "defaults": lambda: Search("CartPole-v1"),
    "everything else": lambda: Search(
        Task(
            "Pendulum-v1",
            env_kwargs={"g": 9.81, "render_mode": None},
            max_episode_steps=50,
            log_info=("a", "b"),
            reuse_env=False,
            fitness="cvar:0.5",
            reward_shift=-1.5,
        ),
        policy=MLP(hidden=(4, 5)),
        strategy=ICEM(elite_fraction=0.3),
        population=40,
        episodes=2,
        generations=None,
        max_seconds=1.5,
        target=-200.0,
        out=Path("some/where"),
        workers=0,
    ),
    "functions": lambda: Search(Task(short_cart_pole, env_kwargs={"limit": 9}, fitness=worst_of)),
    "a free function": lambda: Search(
        FunctionTask(sphere, 3, start=(1.0, 2.0, 3.0), threshold=-0.1)
    ),
    "a strategy around another": lambda: Search(
        "CartPole-v1", strategy=Normalized(CEM(elite_fraction=0.4))
    ),
}


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_survives_json_and_toml(name: str) -> None:
    """What a run directory and --dry-run hold is the search itself."""
    search = SEARCHES[name]()
    config = to_config(search)
    for read in (json.loads(json.dumps(config)), tomllib.loads(to_toml(config))):
        again = from_config(read, Search)
        assert again.task == search.task
        assert again.strategy == search.strategy
        assert again.policy == search.policy
        for setting in config_file.search_settings():
            before = getattr(search, setting)
            before = str(before) if isinstance(before, Path) else before
            assert getattr(again, setting) == before, setting
        assert to_config(again) == config


@pytest.mark.parametrize(
    "task",
    [Task(lambda: gym.make("CartPole-v1")), FunctionTask(lambda p: 0.0, 2)],
    ids=["env", "free"],
)
def test_a_function_without_a_name_is_recorded_but_refused(task: Any) -> None:
    config = json.loads(json.dumps(to_config(Search(task))))
    with pytest.raises(UsageError, match="can't be found again"):
        from_config(config, Search)


def test_a_name_that_means_another_function_by_now_is_not_recorded() -> None:
    def shadowed(limit: int = 20) -> Any:
        return None

    shadowed.__qualname__ = "short_cart_pole"
    assert to_plain(shadowed).startswith("<")
    assert to_plain(short_cart_pole) == f"{__name__}:short_cart_pole"


def test_an_id_that_a_module_registers_comes_before_its_attributes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The function behind the id would lack the id's step limit."""
    (tmp_path / "registering.py").write_text(
        "import gymnasium as gym\n"
        "def Both(): return gym.make('CartPole-v1')\n"
        "gym.register('Both', entry_point=Both, max_episode_steps=7)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    task = from_config({"env": "registering:Both"}, Search).task
    assert isinstance(task, Task)
    assert task.env == "registering:Both"
    assert task.step_limit() == 7
    del gym.registry["Both"]


def test_upper_settings_win_and_another_strategy_drops_the_lower_ones_fields() -> None:
    below = {"seed": 1, "episodes": 2, "strategy": {"name": "cem", "elite_fraction": 0.1}}
    assert merge(below, {"seed": 3})["seed"] == 3
    assert merge(below, {"seed": 3})["episodes"] == 2
    kept = merge(below, {"strategy": {"name": "cem", "ddof": 1}})["strategy"]
    assert kept == {"name": "cem", "elite_fraction": 0.1, "ddof": 1}
    assert merge(below, {"strategy": "icem"})["strategy"] == {"name": "icem"}
    assert below["strategy"] == {"name": "cem", "elite_fraction": 0.1}


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({}, "env is not given"),
        ({"env": "CartPole-v1", "sede": 1}, "unknown key 'sede': did you mean 'seed'?"),
        ({"env": "CartPole-v1", "strategy": 3}, "strategy 3 is neither a name nor a table"),
        ({"env": "CartPole-v1", "strategy": {"elite_fraction": 0.1}}, "strategy has no name"),
        (
            {"env": "CartPole-v1", "strategy": {"name": "cem", "elite_fractoin": 0.1}},
            "did you mean 'elite_fraction'?",
        ),
        ({"env": "CartPole-v1", "strategy": "external"}, "strategy external needs"),
        (
            {"env": "CartPole-v1", "policy": {"name": "mlp", "hidden": "a,b"}},
            "policy.hidden 'a,b' is not whole numbers separated by commas",
        ),
    ],
)
def test_wrong_configurations_are_one_sentence(config: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        from_config(config, Search)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_import_error_inside_a_users_module_is_theirs_to_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "needs_more.py").write_text("import not_there_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="not_there_at_all"):
        registry.load("factory", "needs_more:make")
    with pytest.raises(UsageError, match="factory 'nowhere:make': there is no module 'nowhere'"):
        registry.load("factory", "nowhere:make")


def test_default_strategy_and_policy_are_those_of_the_search() -> None:
    search = from_config({"env": "CartPole-v1"}, Search)
    assert search.strategy == CMAES(initial_std=0.3)
    assert search.policy == Linear()
