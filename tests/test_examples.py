"""Every example runs, shortened."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from paths import EXAMPLES

from distes.cli import main

TOML = sorted(EXAMPLES.glob("*.toml"))
SCRIPTS = sorted(EXAMPLES.glob("*.py"))


def test_there_are_examples() -> None:
    assert len(TOML) >= 7
    assert len(SCRIPTS) >= 3


@pytest.mark.slow
@pytest.mark.parametrize("path", TOML, ids=lambda p: p.stem)
def test_configurations(path: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A renamed field or an unknown environment would leave an example behind."""
    shortened = ["--generations", "2", "--population", "30", "--episodes", "1"]
    shortened += [
        "--target",
        "1e9",
        "--heldout-episodes",
        "1",
        "--final-episodes",
        "2",
        "--max-episode-steps",
        "50",
    ]
    arguments = ["run", str(path), *shortened, "--workers", "0", "--out", str(tmp_path / "run")]
    assert main(arguments) == 0
    assert "2 generations" in capfd.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.stem)
def test_scripts(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    module: Any = __import__(path.stem)
    result = module.main(generations=2, workers=0, out=tmp_path / "run")
    assert len(result.run.generations) == 2
    del sys.modules[path.stem]
