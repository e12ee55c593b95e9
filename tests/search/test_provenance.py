"""Where a run came from, without what nobody else may know."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

from distes.cli import main
from distes.errors import UsageError
from distes.search.search import Search
from distes.tasks.environment import Task


def test_a_recorded_command_line_holds_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If wrong: a key that was typed once is in every copy of the run."""
    out = tmp_path / "x"
    kwargs = '{"sutton_barto_reward": true}'
    monkeypatch.setattr(sys, "argv", ["distes", "--env.api_key", "abc", "HF_TOKEN=abc", "run"])
    sys.argv += [f"--env-kwargs={kwargs}", "--env-kwargs", '{"a": [{"password": "abc"}]}']
    sys.argv += ["--seed=3", "--strategy.max-tokens", "5", "--env-kwargs={'token': 'abc'}"]
    sys.argv += [' {"token": "abc"}', '--env-kwargs= {"url": "ftp://me:abc@h"}', "x=s3://a:abc@b"]
    line = ["run", "CartPole-v1", "--env-kwargs", kwargs, "--workers=0", "--generations=1"]
    assert (
        main([*line, "--population=20", "--engine=loop", "--final-episodes=5", f"--out={out}"]) == 0
    )
    config = json.loads((out / "config.json").read_text())
    assert config["search"]["env_kwargs"] == {"sutton_barto_reward": True}
    assert config["command_line"] == [
        *("distes", "--env.api_key", "***", "HF_TOKEN=***", "run"),
        *(f"--env-kwargs={kwargs}", "--env-kwargs", '{"a": [{"password": "***"}]}'),
        *("--seed=3", "--strategy.max-tokens", "5", "--env-kwargs=***"),
        *('{"token": "***"}', '--env-kwargs={"url": "ftp://me:***@h"}', "x=s3://a:***@b"),
    ]


def make(**_: Any) -> gym.Env[Any, Any]:
    return gym.make("CartPole-v1")


def test_a_refusal_says_no_secret(tmp_path: Path) -> None:
    """If wrong: a job that is retried with another key writes both into its log."""
    settings: dict[str, Any] = {"population": 10, "generations": 1, "workers": 0}
    settings |= {"final_episodes": 2, "heldout_episodes": 2, "out": tmp_path / "run"}
    Search(Task(make, env_kwargs={"token": "abc"}), **settings).run()
    other = Search(Task(make, env_kwargs={"token": "xyz", "size": 1}), **settings)
    with pytest.raises(UsageError, match=r"env_kwargs {'token': '\*\*\*'}, not") as refused:
        other.run(resume_if_exists=True)
    assert "abc" not in str(refused.value)
    assert "xyz" not in str(refused.value)
