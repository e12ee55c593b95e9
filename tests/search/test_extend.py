"""Runs that go on with other limits, as if these had been asked for at first."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import environments
import numpy as np
import pandas as pd
import pytest
from searches import StopAt, cartpole, tables

import distes
from distes.cli import main
from distes.errors import UsageError
from distes.runs.inventory import encode_config
from distes.runs.schema import CONFIG
from distes.runs.storage.folder import open_folder
from distes.runs.writer import RunLog
from distes.search.result import Result
from distes.search.search import Search
from distes.strategies import CEM
from distes.tasks.function import FunctionTask
from distes.views.report import describe_run

OFF: Any = {"target": "off"}


def assert_as_at_first(extended: Result, asked: Result) -> None:
    """Searched the same, found the same, scored the same."""
    one, other = tables(extended.path), tables(asked.path)  # type: ignore[arg-type]
    for name in ("generations", "episodes"):
        pd.testing.assert_frame_equal(one[name], other[name], check_exact=True, obj=name)
    np.testing.assert_array_equal(extended.parameters, asked.parameters)
    assert (extended.score, extended.stopped) == (asked.score, asked.stopped)
    assert extended.deployed == asked.deployed
    keys = ["purpose", "generation", "call", "candidate", "episode"]
    rows = one["evaluations"].set_index(keys)
    again = other["evaluations"].set_index(keys)
    pd.testing.assert_frame_equal(rows.loc[again.index], again, check_exact=True)
    earlier = rows.drop(again.index).reset_index()
    assert set(earlier["generation"]) <= {3}, "what is more is of the earlier end alone"


@pytest.mark.parametrize("strategy", ["cem", "icem", "random_search"])
@pytest.mark.parametrize("stop_after", [None, 2])
def test_four_generations_and_three_more_are_seven(
    tmp_path: Path, strategy: str, stop_after: int | None
) -> None:
    """If wrong: a run that was extended is another one than that which was wanted."""
    settings: Any = {"strategy": strategy, **OFF}
    asked = cartpole(tmp_path / "asked", generations=7, **settings).run()
    path = tmp_path / "extended"
    begun = cartpole(path, **settings)
    if stop_after is None:
        begun.run()
    else:
        begun.observers = (StopAt(stop_after),)
        with pytest.raises(KeyboardInterrupt):
            begun.run()
    extended = Search.resume(path, workers=0, generations=7)
    assert_as_at_first(extended, asked)
    one, other = (distes.load(each.path).config["search"] for each in (extended, asked))
    assert one["generations"] == 7
    assert {**one, "out": None} == {**other, "out": None}


def test_a_target_that_was_reached_is_taken_away(tmp_path: Path) -> None:
    """If wrong: whoever wants more than the environment's threshold has to begin anew."""
    asked = cartpole(tmp_path / "asked", generations=7, **OFF).run()
    path = tmp_path / "extended"
    first = cartpole(path, generations=7, target=20.0).run()
    assert first.stopped.endswith("confirmed")
    reached = len(first.run.generations)
    assert reached < 7
    with pytest.raises(UsageError, match=r"target 19 is given, below the run's 20"):
        Search.resume(path, workers=0, target=19.0)
    extended = Search.resume(path, workers=0, target="off")
    one, other = tables(path), tables(tmp_path / "asked")
    for name in ("generations", "episodes"):
        pd.testing.assert_frame_equal(one[name], other[name], check_exact=True)
    assert extended.score == asked.score
    info = describe_run(path)
    assert "finished: 7 generations" in info
    assert f"{extended.score.episodes} unseen episodes" in info
    with pytest.raises(UsageError, match="and the run has none"):
        cartpole(path, generations=9, target=475.0).proceed()


def test_a_higher_target_that_was_reached_too_ends_the_run_where_it_ended(tmp_path: Path) -> None:
    """If wrong: the run goes on where the one that was wanted would have stopped."""
    path = tmp_path / "run"
    first = cartpole(path, generations=50, target=20.0).run()
    lesser = first.run.snapshot().confirmed.mean  # type: ignore[union-attr]
    with pytest.raises(UsageError, match="nothing to resume"):
        Search.resume(path, workers=0, target=lesser)
    higher = Search.resume(path, workers=0, target=lesser + 1)
    assert higher.stopped == f"held-out return reached the target {lesser + 1:g}, confirmed"
    assert len(higher.run.generations) > len(first.run.generations) - 1


def test_a_candidate_that_was_deployed_is_not_gone_on_with(tmp_path: Path) -> None:
    """If wrong: a held-out score is that of a candidate, and stops a search that goes on."""

    def search(name: str, generations: int) -> Search:
        return Search(
            FunctionTask(environments.sphere, 2),
            strategy=CEM(mean_smoothing=0.99, extra_std=0.0), population=400, workers=0,
            generations=generations, heldout_every=1, heldout_episodes=3, final_episodes=3,
            out=tmp_path / name,
        )  # fmt: skip

    asked = search("asked", 3).run()
    first = search("extended", 1).run()
    assert first.deployed.startswith("candidate ")
    search("extended", 3).proceed()
    keys = ["purpose", "generation", "call", "candidate", "episode"]
    one, other = (
        tables(tmp_path / name)["evaluations"].set_index(keys) for name in ("extended", "asked")
    )
    pd.testing.assert_frame_equal(one.loc[other.index], other, check_exact=True)
    assert len(asked.run.generations) == 3


def test_a_run_that_is_to_end_where_its_target_was_reached(tmp_path: Path) -> None:
    """If wrong: a target that was taken away still decides what is deployed."""
    reached = len(cartpole(tmp_path / "first", target=20.0, generations=50).run().run.generations)
    asked = cartpole(tmp_path / "asked", generations=reached, **OFF).run()
    path = tmp_path / "cut"
    begun = cartpole(path, target=20.0, generations=50, observers=(StopAt(reached - 1),))
    with pytest.raises(KeyboardInterrupt):
        begun.run()
    extended = cartpole(path, generations=reached, **OFF).proceed()
    assert (extended.deployed, extended.score) == (asked.deployed, asked.score)


def test_earlier_ends_stay_apart(tmp_path: Path) -> None:
    """If wrong: scores of two solutions are averaged, or the final score is the earlier one."""
    path = tmp_path / "run"
    settings: Any = {"heldout_every": 4, **OFF}
    earlier = cartpole(path, **settings).run()
    later = Search.resume(path, workers=0, generations=7)
    rows = distes.load(path).evaluations
    keys = ["purpose", "generation", "call", "candidate", "episode"]
    assert not rows.duplicated(keys).any()
    tests = rows[rows["purpose"] == "test"].groupby("generation")["episode_return"].mean()
    assert tests.to_dict() == pytest.approx({3: earlier.score.mean, 6: later.score.mean})
    heldout = rows[rows["purpose"] == "heldout"].groupby(["generation", "call"]).size()
    assert list(heldout.index) == [(3, -1), (3, 0), (6, -1)]
    assert not set(rows.loc[rows["purpose"] != "heldout", "seed"]) & set(
        rows.loc[rows["purpose"] == "heldout", "seed"]
    )


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ({"generations": 3}, "generations 3 is less than the 4 generations"),
        ({"max_episodes": 100}, "max_episodes 100 is less than the 192 episodes"),
        ({"max_env_steps": 9}, "max_env_steps 9 is less than the"),
        ({"generations": 9, "target": 400.0}, "target 400 is given, below the run's 475"),
        ({"generations": -1}, "generations -1 is not"),
        ({"target": "of"}, "target of is not a number or off"),
    ],
)
def test_limits_that_would_have_ended_it_before(tmp_path: Path, limits: Any, says: str) -> None:
    """If wrong: the run is said to be one that it is not."""
    path = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        cartpole(path, generations=9, observers=(StopAt(3),)).run()
    before = (path / CONFIG).read_bytes()
    with pytest.raises(UsageError, match=says) as refusal:
        Search.resume(path, workers=0, **limits)
    assert "\n" not in str(refusal.value)
    assert (path / CONFIG).read_bytes() == before


def test_what_else_differs_is_refused(tmp_path: Path) -> None:
    """If wrong: an extended run is half one search, half another."""
    cartpole(tmp_path / "run").run()
    with pytest.raises(UsageError, match="started with seed 5, not 6"):
        cartpole(tmp_path / "run", generations=7, seed=6).proceed()
    with pytest.raises(UsageError, match="started with generations 4, not 7"):
        cartpole(tmp_path / "run", generations=7).run(resume_if_exists=True)


def test_killed_before_its_first_new_generation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If wrong: an extension that is interrupted early is forgotten, or gives the old result."""
    asked = cartpole(tmp_path / "asked", generations=7, **OFF).run()
    path = tmp_path / "run"
    cartpole(path, **OFF).run()

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunLog, "add_event", killed)
        with pytest.raises(KeyboardInterrupt):
            Search.resume(path, workers=0, generations=7)
    assert_as_at_first(cartpole(path, generations=7, **OFF).run(resume_if_exists=True), asked)


def test_from_the_command_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """If wrong: only a program can extend a run."""
    path = tmp_path / "run"
    cartpole(path).run()
    line = ["resume", str(path), "--workers", "0", "--generations", "6", "--target", "off"]
    assert main(line) == 0
    said = capfd.readouterr().out
    assert "resumes at generation 4" in said
    assert "stopped: 6 generations" in said
    settings = distes.load(path).config["search"]
    assert (settings["generations"], settings["target"]) == (6, "off")
    assert main([*line, "--generations", "many"]) == 2
    assert "generations" in capfd.readouterr().err
    assert main(["resume", str(path), "--generations", "2"]) == 2
    assert capfd.readouterr().err.count("\n") == 1


def test_off_is_a_target_everywhere(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """If wrong: a registered environment's threshold can't be switched off."""
    assert cartpole(tmp_path / "a", **OFF).resolved_target is None
    (tmp_path / "a.toml").write_text('env = "CartPole-v1"\ntarget = "off"\n')
    for given in (["CartPole-v1", "--target", "off"], [str(tmp_path / "a.toml")]):
        assert main(["run", *given, "--dry-run"]) == 0
        said = capfd.readouterr().out
        assert 'target = "off"' in said
        first = said.splitlines()[0]
        assert first.startswith("# CartPole-v1, cmaes (auto: initial std 0.3), ")
        assert "32 candidates (auto) x 1 episode" in first
        assert "target" not in first


def test_the_new_configuration_is_locked_private_and_signed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If wrong: a second writer gets in, secrets are shown, or the run is no longer one's own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    path = tmp_path / "run"
    task = distes.Task(environments.walk)
    some: Any = {"population": 10, "heldout_episodes": 2, "final_episodes": 2, "workers": 0}
    Search(task, generations=1, out=path, **some).run()
    (path / CONFIG).chmod(0o640)
    seen: list[Any] = []

    class Look(distes.Observer):
        def generation(self, row: Any) -> None:
            seen.append(open_folder(path).is_locked(CONFIG))
            with pytest.raises(UsageError, match="is being written"):
                RunLog.resume(path)

    Search.resume(path, generations=2, observers=(Look(),))  # trusted: its signature holds
    assert seen == [True]
    assert stat.S_IMODE((path / CONFIG).stat().st_mode) == 0o640
    Search.resume(path, generations=3, observers=())
    config = json.loads((path / CONFIG).read_text())
    (path / CONFIG).write_bytes(encode_config({**config, "signature": "0" * 64}))
    with pytest.raises(UsageError, match="not known to be a run of yours"):
        Search.resume(path, generations=4)
    Search.resume(path, generations=4, trust=True, observers=())
    with pytest.raises(UsageError, match="not known to be a run of yours"):
        Search.resume(path, generations=5)
