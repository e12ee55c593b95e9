"""What the examples of learning from trajectories are said to reach."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from paths import EXAMPLES

from distes.search.config_file import from_config, read_toml
from distes.search.search import Search

pytestmark = pytest.mark.slow


def run(name: str, out: Path, seed: int, **changes: Any) -> Any:
    """Run an example, in this process if nothing else is said: results are the same."""
    config = read_toml(EXAMPLES / f"{name}.toml")
    where = {"seed": seed, "workers": 0, "out": str(out / f"{name}-{seed}")}
    return from_config(config | where | changes, Search).run()


def test_deep_cem_solves_cartpole(tmp_path):
    """A generation of 100 episodes returns more than 190 within 100 of them."""
    best = [
        run("cartpole_deep_cem", tmp_path, seed).run.generations["episode_return_mean"].max()
        for seed in range(10)
    ]
    assert sum(mean > 190 for mean in best) >= 9


@pytest.mark.parametrize("name", ["cartpole_reinforce", "cartpole_reinforce_sigmoid"])
def test_reinforce_solves_cartpole(tmp_path, name):
    """195 on unseen episodes, confirmed on others, within 5,000 episodes."""
    results = [run(name, tmp_path, seed) for seed in range(10)]
    assert all(result.run.generations["episodes"].sum() <= 5000 for result in results)
    assert sum("confirmed" in result.stopped for result in results) >= 9


@pytest.mark.parametrize("seed", range(3))
def test_a_table_earns_with_taxi(tmp_path, seed):
    generations = run("taxi_tabular_cem", tmp_path, seed, workers=2).run.generations
    assert len(generations) <= 100
    assert generations["episodes"].max() == 250
    assert generations["episode_return_mean"].iloc[-1] > 0


def test_deep_cem_lands(tmp_path):
    assert run("lunar_lander_deep_cem", tmp_path, 0, workers=2).score.mean >= 50


def test_deep_cem_climbs(tmp_path):
    assert run("mountain_car_deep_cem", tmp_path, 0, workers=2).score.mean >= -150


def test_deep_cem_climbs_by_regression(tmp_path):
    assert run("mountain_car_continuous_deep_cem", tmp_path, 0, workers=2).score.mean >= 80
