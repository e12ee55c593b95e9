"""Generations by their environment steps, and episodes whose limit grows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from searches import StopAt, assert_same_run, cartpole, tables

import distes
from distes.errors import UsageError
from distes.search import rounds
from distes.tasks.function import FunctionTask

ROUNDS: Any = {"strategy": "snes", "engine": "loop", "target": "off", "generations": 3}
GROWING: Any = {**ROUNDS, "generation_env_steps": 900, "first_episode_steps": 12}


def search_episodes(path: Path, generation: int) -> pd.DataFrame:
    rows = tables(path)["episodes"]
    return rows[rows["generation"] == generation].reset_index(drop=True)


@pytest.mark.parametrize(
    ("strategy", "common_seeds", "seeds"),
    [("snes", False, 2), ("snes", True, 0), ("ars", False, 1)],
)
def test_rounds_are_one_larger_population(
    tmp_path: Path, strategy: str, common_seeds: bool, seeds: int
) -> None:
    """If wrong: what is learnt depends on how a generation came to its size."""
    given = {**ROUNDS, "generations": 1, "common_seeds": common_seeds, "population": 8}
    given["strategy"] = strategy
    cartpole(tmp_path / "rounds", **given, generation_env_steps=800).run()
    grown = search_episodes(tmp_path / "rounds", 0)
    size = grown["candidate"].max() + 1
    assert size % 8 == 0
    assert 8 < size <= 8 * rounds.MAX_ROUNDS
    steps = grown["episode_length"]
    assert steps[grown["candidate"] < size - 8].sum() < 800 <= steps.sum()
    cartpole(tmp_path / "whole", **{**given, "population": int(size)}).run()
    pd.testing.assert_frame_equal(search_episodes(tmp_path / "whole", 0), grown, check_exact=True)
    one, other = (distes.load(tmp_path / each).generations for each in ("rounds", "whole"))
    assert one["fitness_mean"].tolist() == other["fitness_mean"].tolist()
    assert one["mean_norm"].tolist() == other["mean_norm"].tolist()
    assert grown["seed"].nunique() == (2 if common_seeds else seeds * size)


@pytest.mark.parametrize("normalize", [False, True])
def test_they_go_on_as_they_would_have(tmp_path: Path, normalize: bool) -> None:
    """If wrong: a resumed run has forgotten how long its episodes had become."""
    given = {**GROWING, "normalize_observations": normalize}
    cartpole(tmp_path / "whole", **given).run()
    broken = cartpole(tmp_path / "cut", **given)
    broken.observers = [StopAt(1)]
    with pytest.raises(KeyboardInterrupt):
        broken.run()
    distes.Search.resume(tmp_path / "cut")
    assert_same_run(tmp_path / "cut", tmp_path / "whole")


def test_workers_change_nothing(tmp_path: Path, ray_local: str) -> None:
    """If wrong: rounds depend on who is done first."""
    cartpole(tmp_path / "here", **GROWING).run()
    cartpole(tmp_path / "there", **GROWING, workers=2, address=ray_local).run()
    assert_same_run(tmp_path / "here", tmp_path / "there")


def test_the_limit_doubles_where_most_reach_it(tmp_path: Path) -> None:
    """If wrong: policies are never seen beyond their first steps, or at once in full."""
    cartpole(tmp_path / "run", **GROWING).run()
    limit = 12
    for generation in range(3):
        lengths = search_episodes(tmp_path / "run", generation)["episode_length"]
        assert lengths.max() == limit
        limit *= 1 + (lengths.eq(limit).mean() > 0.5)
    assert limit > 12
    assert distes.load(tmp_path / "run").evaluations["episode_length"].max() > limit


def test_what_cannot_grow_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="strategy cem has as many candidates as it asks for"):
        cartpole(tmp_path / "run", generation_env_steps=100)
    with pytest.raises(UsageError, match="first_episode_steps 10 is given, and an episode of"):
        distes.Search(FunctionTask(lambda x: 0.0, 2), strategy="snes", first_episode_steps=10)
    assert not (tmp_path / "run").exists()
