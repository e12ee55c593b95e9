"""Engines are found by their names, and say themselves what they fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import distes.engines
from distes.engines import choice
from distes.engines.compiled import CompiledEngine
from distes.engines.loop import LoopEngine
from distes.errors import UsageError
from distes.policies.linear import Linear
from distes.policies.mlp import MLP
from distes.population.distributions import Point
from distes.population.records import Population, RunKey
from distes.tasks.environment import Task
from distes.tasks.function import FunctionTask

POLES = '''
"""An engine for poles."""

from distes.engines.loop import LoopEngine


class PoleEngine(LoopEngine):
    preference = 9

    @classmethod
    def unfit(cls, task, policy):
        return None if task.name == "CartPole-v1" else "there is no pole"

    @classmethod
    def hint(cls, task, policy, *, timed):
        return "poles have no time" if timed and task.name == "CartPole-v1" else None
'''


def task_and_policy(env: str) -> tuple[Task, Any]:
    task = Task(env)
    return task, task.build_policy(Linear())


def test_a_file_among_the_engines_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Adding an engine would otherwise need a second edit somewhere."""
    (tmp_path / "poles.py").write_text(POLES)
    monkeypatch.setattr(distes.engines, "__path__", [*distes.engines.__path__, str(tmp_path)])
    pole, car = task_and_policy("CartPole-v1"), task_and_policy("MountainCar-v0")
    assert choice.resolve("auto", *pole) == choice.resolve("poles", *pole) == "poles"
    assert choice.hint("auto", *pole, timed=True) == "poles have no time"
    # Each episode's limit asks for an engine that runs one at a time.
    assert choice.resolve("auto", *pole, timed=True) == "loop"
    assert choice.resolve("auto", *car) != "poles"
    with pytest.raises(UsageError, match="'poles' can't run MountainCar-v0: there is no pole"):
        choice.resolve("poles", *car)
    with pytest.raises(UsageError, match=r"'pole'.* did you mean 'poles'"):
        choice.accept("pole", pole[0])
    with pytest.raises(UsageError, match="engine for sum 'poles': accepted are auto, function"):
        choice.accept("poles", FunctionTask(sum, 2))


def test_an_engine_of_ones_own_goes_by_module_and_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_engine.py").write_text(POLES)
    monkeypatch.syspath_prepend(tmp_path)
    name, (task, policy) = "own_engine:PoleEngine", task_and_policy("CartPole-v1")
    assert choice.resolve(name, task, policy) == name
    population = Population(Point(np.zeros(policy.num_parameters)), 1)
    chunks = [
        choice.make(each, task, policy).run(population, RunKey(0, 0), 0, 1)
        for each in (name, "loop")
    ]
    assert chunks[0].rows["episode_return"] == chunks[1].rows["episode_return"]
    with pytest.raises(UsageError, match="unknown engine for sum 'own_engine:PoleEngine'"):
        choice.accept(name, FunctionTask(sum, 2))


def test_the_first_chunk_of_machine_code_is_short() -> None:
    """A wide network or a long episode makes it smaller; other engines run step by step."""
    task = Task("CartPole-v1")
    small, wide = (task.build_policy(policy) for policy in (Linear(), MLP(hidden=(256, 256, 256))))
    population = Population(Point(np.zeros(small.num_parameters)), 1, episodes=4096)
    chunk = CompiledEngine.first_chunk
    assert 100 <= chunk(population, task, small) <= 400
    assert chunk(population, task, wide) == 1
    shorter = replace(population, max_steps=50)
    assert chunk(shorter, task, small) > 5 * chunk(population, task, small)
    assert LoopEngine.first_chunk(population, task, small) == 1
