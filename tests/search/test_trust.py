"""Whose code is run when somebody's run is opened: nobody's, unless that is asked for."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paths import ROOT

import distes
from distes.cli import main
from distes.errors import Notice, UsageError
from distes.population.distributions import Point
from distes.population.records import Population
from distes.runs import codec
from distes.runs.inventory import encode_config
from distes.search import solution
from distes.search.search import Search
from distes.search.settings import Settings
from distes.search.trust import list_code, sign
from distes.strategies import CREPS
from distes.tasks.environment import Task
from distes.tasks.function import FunctionTask
from distes.views.notebook import render_html
from distes.views.report import describe_run

PLANTED = """
import gymnasium as gym
import numpy as np


def make(tilt=0.0):
    return gym.make("CartPole-v1")


def bowl(parameters, context):
    return -float(np.sum((parameters - context) ** 2))


def bumps(contexts):
    return np.column_stack([np.ones(len(contexts)), contexts])
"""

SMALL: dict[str, Any] = {"population": 10, "generations": 1, "workers": 0, "seed": 3}
SMALL |= {"heldout_episodes": 2, "final_episodes": 2, "reevaluate": 0}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that names no code; to be copied."""
    out = tmp_path_factory.mktemp("runs") / "finished"
    Search("CartPole-v1", engine="loop", max_env_steps=1, out=out, **SMALL).run()
    return out


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module ``planted`` that can be imported, and was not."""
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "planted.py").write_text(PLANTED)
    monkeypatch.syspath_prepend(folder)
    yield folder / "planted.py"
    sys.modules.pop("planted", None)


@pytest.fixture
def own_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this user's key is, or will be: another user's than in other tests."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "distes" / "key"


def forge(finished: Path, out: Path, **changes: Any) -> Path:
    """Hand over a run whose config.json says something else."""
    shutil.copytree(finished, out)
    file = out / "config.json"
    config = json.loads(file.read_text())
    config["engine"] = changes.pop("ran_on", config["engine"])
    config["search"] |= changes
    file.write_bytes(encode_config(config))
    return out


NAMING: dict[str, dict[str, Any]] = {
    "environment": {"env": "planted:make"},
    "id": {"env": "planted:Thing-v0"},
    "odd id": {"env": "planted:1"},
    "argument": {"env_kwargs": {"inner": [{"id": "planted:Thing-v0"}]}},
    "arguments as text": {"env_kwargs": '{"id": "planted:Thing-v0"}'},
    "fitness": {"fitness": "planted:bowl"},
    "context": {"context": "planted:make"},
    "policy": {"policy": {"name": "planted:Steep"}},
    "strategy": {"strategy": {"name": "planted:Still"}},
    "factory": {"strategy": {"name": "external", "factory": "planted:make"}},
    "features": {"strategy": {"name": "creps", "policy_features": "planted:bumps"}},
    "engine": {"engine": "planted:Counting"},
    "engine that it ran on": {"ran_on": "planted:Counting"},
}

ACTING: dict[str, Callable[..., Any]] = {
    "evaluate": distes.evaluate,
    "contexts": lambda run, **trust: distes.evaluate_contexts(run, [1.0], **trust),
    "policy": distes.load_policy,
    "replay": lambda run, **trust: distes.replay(run, out=run.parent / "a.gif", **trust),
    "resume": Search.resume,
}


def test_to_look_at_a_run_imports_nothing(finished: Path, planted: Path, tmp_path: Path) -> None:
    """If wrong: a notebook that shows somebody's run runs whatever it names."""
    everything = {key: value for named in NAMING.values() for key, value in named.items()}
    run = forge(finished, tmp_path / "handed", **everything)
    shown = distes.load(run)
    assert str(run) in repr(shown)
    assert len(shown.episodes) == 10
    describe_run(run)
    html = render_html(shown)
    assert "would be imported for it" in html
    distes.plot(run, tmp_path / "a.png")
    assert distes.load_parameters(run).ndim == 1
    Search("CartPole-v1", start_from=run, **SMALL).check()
    assert "planted" not in sys.modules


@pytest.mark.parametrize("naming", NAMING)
def test_what_acts_on_a_run_asks_first(
    naming: str, finished: Path, planted: Path, tmp_path: Path
) -> None:
    """If wrong: to score somebody's run, or to go on with it, runs whatever it names."""
    run = forge(finished, tmp_path / "handed", **NAMING[naming])
    for act in ACTING.values():
        with pytest.raises(UsageError, match=r"not known to be a run of yours") as refusal:
            act(run)
        assert "planted" in str(refusal.value)
        assert "trust=True (--trust)" in str(refusal.value)
        assert "\n" not in str(refusal.value)
    assert "planted" not in sys.modules


def test_trust_imports_and_says_from_where(
    finished: Path, planted: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """If wrong: a run that a colleague hands over can't be scored, or is in silence."""
    run = forge(finished, tmp_path / "handed", env="planted:make")
    assert main(["evaluate", str(run), "--episodes", "1"]) == 2
    assert f"'planted:make' ({planted})" in capfd.readouterr().err
    assert "planted" not in sys.modules
    assert main(["evaluate", str(run), "--episodes", "1", "--trust"]) == 0
    assert f"imports 'planted:make' ({planted})" in capfd.readouterr().err
    assert distes.load_policy(run, trust=True)(np.zeros(4)) in (0, 1)
    with pytest.raises(UsageError, match="has no contexts"):
        distes.evaluate_contexts(run, [1.0], trust=True)
    with pytest.raises(UsageError, match="is finished"):
        Search.resume(run, trust=True)


HARMLESS: list[dict[str, Any]] = [
    *({}, {"fitness": "cvar:0.25"}, {"context": "observation:0"}, {"out": "s3://runs/x"}),
    *({"address": "head:x"}, {"policy": {"name": "linear"}}, {"strategy": "icem"}),
    *({"env_kwargs": {"model": "https://host/a.xml"}}, {"env": "<function a:b>"}),
]


@pytest.mark.parametrize("settings", HARMLESS)
def test_what_is_installed_needs_no_trust(settings: dict[str, Any]) -> None:
    """If wrong: a run of CartPole asks to be trusted."""
    config = {"search": {"env": "CartPole-v1", **settings}, "engine": "loop"}
    assert list_code(config) == []


def test_a_run_of_ones_own_is_trusted(
    planted: Path, own_key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If wrong: users are asked about their own runs, or a forger is not found out."""
    from planted import make  # type: ignore[import-not-found]

    out = tmp_path / "own"
    task = Task(make, env_kwargs={"tilt": 0.0})
    Search(task, max_env_steps=1, out=out, **SMALL).run()
    assert own_key.stat().st_mode & 0o777 == 0o600
    moved = out.rename(tmp_path / "moved")

    def refused() -> bool:
        try:
            distes.evaluate(moved, episodes=1)
        except UsageError as refusal:
            return "not known to be a run of yours" in str(refusal)
        return False

    with warnings.catch_warnings(action="error", category=Notice):
        assert not refused()
    own_key.chmod(0o644)
    assert refused(), "others may have read the key"
    own_key.chmod(0o600)
    assert not refused()
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("XDG_STATE_HOME", str(tmp_path / "another"))
        assert refused(), "another user, or another machine"
    config = json.loads((moved / "config.json").read_text())
    for changes in ({"env_kwargs": {"tilt": 1.0}}, {"env": "planted:bowl"}):
        forged = {**config, "search": {**config["search"], **changes}}
        (moved / "config.json").write_text(json.dumps(forged))
        assert refused(), f"signed for other settings than {changes}"
    (moved / "config.json").write_text(json.dumps(config))
    assert not refused()
    # A file of the same name that came with a run is not the code that was signed.
    del sys.modules["planted"]
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(planted, other)
    monkeypatch.syspath_prepend(other)
    assert refused()
    assert "planted" not in sys.modules


def test_without_a_key_settings_that_the_user_gives_go_on(
    planted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If wrong: a job in a container without a home stops at its own run."""
    from planted import make

    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    search = Search(make, max_env_steps=1, out=tmp_path / "run", **SMALL)
    first = search.run()
    assert "signature" not in first.run.config
    assert search.run(resume_if_exists=True).score == first.score
    with pytest.raises(UsageError, match="not known to be a run of yours"):
        distes.evaluate(tmp_path / "run")


def test_a_search_that_goes_on_imports_what_its_own_settings_name(
    finished: Path, planted: Path, tmp_path: Path
) -> None:
    """If wrong: a run put where a job writes brings an engine with it."""
    run = forge(finished, tmp_path / "handed", ran_on="planted:Counting")
    for checkpoint in (run / "checkpoints").iterdir():
        shutil.rmtree(checkpoint)
    search = Search("CartPole-v1", engine="loop", max_env_steps=1, out=run, **SMALL)
    with pytest.raises(UsageError, match="names 'planted:Counting', which its settings do not"):
        search.run(resume_if_exists=True)
    assert "planted" not in sys.modules


def test_a_saved_population_brings_no_task() -> None:
    """If wrong: a checkpoint names an environment, and scoring its solution imports it."""
    encoder = codec.Encoder()
    tree = encoder.encode(Population(Point(np.zeros(2)), 1), "population")
    task = encoder.encode(Task("CartPole-v1"), "task")
    task["fields"]["env"] = "planted:Thing-v0"
    tree["fields"]["task"] = task
    with pytest.raises(UsageError, match="a population with a task"):
        codec.loads(codec.pack(tree, encoder.arrays))


def test_features_of_the_users_are_the_ones_that_parameters_need(
    planted: Path, own_key: Path, tmp_path: Path
) -> None:
    """If wrong: parameters for a context are not to be had, or the task is imported for them."""
    from planted import bowl, bumps

    task = FunctionTask(bowl, 1, context="uniform", context_low=(0.0,), context_high=(1.0,))
    settings = {**SMALL, "population": 20, "out": tmp_path / "run"}
    result = Search(task, strategy=CREPS(policy_features=bumps), **settings).run()
    found = distes.load_parameters(result.path, context=[0.5])
    np.testing.assert_array_equal(found, result.parameters_for([0.5]))
    own_key.unlink()
    with pytest.raises(UsageError, match="it would import 'planted:bumps'"):
        distes.load_parameters(result.path, context=[0.5])
    with pytest.warns(Notice, match=r"imports 'planted:bumps' \([^)]*\)$"):
        again = distes.load_parameters(result.path, context=[0.5], trust=True)
    np.testing.assert_array_equal(again, found)


@pytest.mark.parametrize("command", ["info", "evaluate"])
def test_a_folder_is_no_program(finished: Path, tmp_path: Path, command: str) -> None:
    """If wrong: what lies beside a downloaded run is run; pandas looks for bottleneck."""
    folder = tmp_path / "downloaded"
    shutil.copytree(finished, folder / "run")
    (folder / "bottleneck.py").write_text("open('taken', 'w')\n__version__ = '9'\n")
    # As the console script: Python itself puts the folder first for `python -m`, without -P.
    done = subprocess.run(
        [sys.executable, "-P", "-m", "distes", command, "run"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not (folder / "taken").exists()


def test_a_module_beside_the_user_can_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """If wrong: ``distes run my_module:make`` needs an installation first."""
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.chdir(tmp_path)
    Path("beside_the_user.py").write_text(PLANTED)
    assert main(["run", "CartPole-v1", "--dry-run"]) == 0
    assert str(tmp_path) not in sys.path
    assert main(["run", "beside_the_user:make", "--dry-run"]) == 0
    assert 'env = "beside_the_user:make"' in capfd.readouterr().out


@pytest.mark.parametrize("signature", ["ä", "\ud800", 7, None, ""])
def test_a_signature_that_is_none_is_not_ones_own(
    finished: Path, own_key: Path, planted: Path, tmp_path: Path, signature: Any
) -> None:
    """If wrong: a signature that nobody could have made ends in a traceback."""
    sign({"search": {"env": "planted:make"}})
    run = forge(finished, tmp_path / "handed", env="planted:make")
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"signature": signature}))
    with pytest.raises(UsageError, match="not known to be a run of yours"):
        distes.evaluate(run)


@pytest.mark.parametrize("whose", ["theirs", "trusted", "own"])
def test_somebody_elses_run_chooses_no_cluster(
    finished: Path, own_key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whose: str
) -> None:
    """If wrong: a run that names no code joins its author's Ray, which runs code on drivers."""
    joined: list[str | None] = []

    def join(settings: Settings, *_: Any) -> None:
        joined.append(settings.address)
        raise UsageError("no cluster here")

    monkeypatch.setattr(solution, "make_evaluator", join)
    run = forge(finished, tmp_path / "handed", address="10.0.0.1:6379")
    if whose == "own":
        file = run / "config.json"
        config = json.loads(file.read_text())
        file.write_bytes(encode_config(config | {"signature": sign(config)}))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", Notice)
        with pytest.raises(UsageError, match="no cluster here"):
            distes.evaluate(run, workers=2, trust=whose == "trusted")
    said = [str(each.message) for each in told]
    if whose == "theirs":
        assert joined == [None]
        assert "'10.0.0.1:6379', is joined with trust=True (--trust) alone" in said[0]
    else:
        assert joined == ["10.0.0.1:6379"]
        assert not said
