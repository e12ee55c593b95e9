"""What the shell completes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from distes.cli import main

Complete = Callable[[str], list[str]]


@pytest.fixture
def complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Complete:
    """Complete the last word of a command line, in a folder with two runs and a trap."""
    monkeypatch.chdir(tmp_path)
    for run in ("begun", "runs/old"):
        (tmp_path / run).mkdir(parents=True)
        (tmp_path / run / "config.json").touch()
    (tmp_path / "runs" / "notes").mkdir()
    (tmp_path / "trap.py").write_text("raise SystemExit('imported')")
    (tmp_path / "trap.toml").write_text('env = "trap:make"\nstrategy = "trap:X"\n')

    def completed(line: str) -> list[str]:
        words = line.split(" ")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
        monkeypatch.setenv("_DISTES_COMPLETE", "bash_complete")
        with pytest.raises(SystemExit) as left:
            main([])
        assert left.value.code == 0
        out, err = capfd.readouterr()
        assert err == ""
        return [item.partition(",")[2] for item in out.splitlines() if item]

    return completed


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("distes res", ["resume"]),
        ("distes run CartPole-v", ["CartPole-v0", "CartPole-v1"]),
        ("distes check distes/Wall", ["distes/WallFollow-v0"]),
        ("distes run tr", ["trap.toml"]),
        ("distes run CartPole-v1 --strategy ice", ["icem"]),
        ("distes submit CartPole-v1 --policy li", ["linear"]),
        ("distes run CartPole-v1 --engine ", ["compiled", "function", "loop"]),
        ("distes run CartPole-v1 --seed ", []),
        ("distes run CartPole-v1 --deploy ", ["mean", "best-heldout"]),
        ("distes list p", ["policies"]),
        ("distes run CartPole-v1 --pop", ["--population"]),
        ("distes run A --strategy icem --strategy.keep", ["--strategy.keep-fraction"]),
        ("distes run trap.toml --strategy cem --strategy.elite-f", ["--strategy.elite-fraction"]),
        ("distes run A --strategy trap:X --policy nix --seed 1 --pop", []),
        ("distes run A --policy trap:X --pop", ["--population"]),
        ("distes info ", ["begun", "runs/old"]),
        ("distes plot begun ru", ["runs/old"]),
        ("distes replay runs/n", ["runs/n"]),
    ],
)
def test_words_are_completed(complete: Complete, line: str, found: list[str]) -> None:
    """If wrong: TAB offers what is refused, imports what a word names, or prints an error."""
    assert complete(line) == found
