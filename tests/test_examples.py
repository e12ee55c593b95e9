"""Every example runs: configurations shortened, scripts as they are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from paths import EXAMPLES

from distes.cli import main
from distes.runs.reader import load

TOML = sorted(EXAMPLES.glob("*.toml"))
SCRIPTS = sorted(EXAMPLES.glob("*.py"))


def test_there_are_examples() -> None:
    assert len(TOML) >= 7
    assert len(SCRIPTS) >= 3


@pytest.mark.slow
@pytest.mark.parametrize("path", TOML, ids=lambda p: p.stem)
def test_configurations(path: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A renamed field or an unknown environment would leave an example behind."""
    shortened = ["--generations", "2", "--population", "60", "--episodes", "1"]
    shortened += [
        "--target",
        "1e9",
        "--heldout-episodes",
        "1",
        "--final-episodes",
        "2",
        "--max-episode-steps",
        "50",
        "--generation-env-steps",
        "none",
    ]
    arguments = ["run", str(path), *shortened, "--workers", "0", "--out", str(tmp_path / "run")]
    assert main(arguments) == 0
    assert "2 generations" in capfd.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.stem)
def test_scripts(path: Path, tmp_path: Path) -> None:
    """Whole, as their page says: ``python examples/own_function.py``."""
    done = subprocess.run(
        [sys.executable, str(path)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
    (run,) = (tmp_path / "runs").iterdir()
    assert load(run).evaluations["purpose"].eq("test").any()
