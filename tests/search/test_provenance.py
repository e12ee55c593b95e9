"""Where a run came from, without what nobody else may know."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from distes.cli import main


def test_a_recorded_command_line_holds_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If wrong: a key that was typed once is in every copy of the run."""
    out = tmp_path / "x"
    kwargs = '{"sutton_barto_reward": true}'
    monkeypatch.setattr(sys, "argv", ["distes", "--env.api_key", "abc", "HF_TOKEN=abc", "run"])
    sys.argv += [f"--env-kwargs={kwargs}", "--env-kwargs", '{"a": [{"password": "abc"}]}']
    sys.argv += ["--seed=3", "--strategy.max-tokens", "5", "--env-kwargs={'token': 'abc'}"]
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
    ]
