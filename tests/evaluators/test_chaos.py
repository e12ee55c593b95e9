"""A run while its cluster comes apart, and its driver with it: the result of a quiet one."""

import random

import disturbances
import environments
import pandas as pd
import pytest

import distes


@pytest.mark.slow
def test_a_run_that_is_struck_from_all_sides_is_the_same(tmp_path):
    """Any episode lost, run with other seeds or counted twice would change a table."""
    settings = {"population": 20, "episodes": 3, "generations": 120, "seed": 9}
    settings |= {"normalize_observations": True, "heldout_every": 4, "heldout_episodes": 10}
    settings |= {"final_episodes": 30, "target": 1e9}
    generator = random.Random(12)  # noqa: S311 - moments and victims
    kinds = ["worker killed", "node added", "node killed", "driver killed", "node drained"]
    kinds += ["driver stopped", "node removed", "worker killed"]
    with disturbances.Stage(tmp_path / "struck", settings, generator) as stage:
        stage.undisturbed(tmp_path / "quiet")
        disturbances.storm(stage, kinds, generator, pace=0.03, gap=(1, 2), certain=True)
    assert not disturbances.differences(tmp_path / "struck", tmp_path / "quiet")

    run = distes.load(tmp_path / "struck")
    assert [fault["kind"] for fault in stage.faults] == kinds
    assert max(fault["generation"] for fault in stage.faults) < 110  # none struck a finished run
    assert [event["kind"] for event in run.events].count("resumed") == 2
    assert run.episodes["attempt"].max() > 1
    assert run.generations["retries"].sum() > 0


def test_differences_are_found(tmp_path):
    """A comparison that sees nothing would let any run pass."""
    one, same, other = (tmp_path / name for name in ("one", "same", "other"))
    for out, seed in ((one, 3), (same, 3), (other, 4)):
        distes.Search(
            environments.walk, population=12, generations=3, heldout_every=2, seed=seed,
            heldout_episodes=2, final_episodes=2, workers=0, out=out,
        ).run()  # fmt: skip
    assert not disturbances.differences(same, one)
    found = disturbances.differences(other, one)
    assert found["episodes: episode_return"] == 36
    assert found["evaluations: seed"] > 0
    assert found["populations"] == 3
    assert found["result"] == 1
    (part, *others) = sorted((same / "episodes").iterdir())
    twice = part.with_name("part-000077.parquet")
    twice.write_bytes(part.read_bytes())
    assert disturbances.differences(same, one) == {"episodes: doubled": len(pd.read_parquet(part))}
    for each in (part, twice, *others):
        each.unlink()
    assert disturbances.differences(same, one)["episodes: lost"] == 36
