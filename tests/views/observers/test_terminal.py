"""What a terminal shows of a run, and what it shows elsewhere."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from searches import StopAt, cartpole

import distes
from distes import signals
from distes.cli import main
from distes.search.observer import Observer
from distes.search.search import Search
from distes.views.forecast import forecast_seconds
from distes.views.observers.terminal import Display
from distes.views.scores import score_heldout
from distes.views.text import format_return


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal of 60 columns."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    return Terminal()


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


class Panels(Observer):
    """Keeps the panel as it is after each generation, and while the next is asked for."""

    def __init__(self, display: Display) -> None:
        self.display, self.seen = display, list[str]()
        self.share: Any = None

    def asked(self, generation: int, share: Any) -> None:
        self.share = share
        self._look()

    def generation(self, row: Any) -> None:
        assert self.share() == 1.0
        self._look()

    def _look(self) -> None:
        paper = Console(file=io.StringIO(), width=60)
        with paper.capture() as caught:
            paper.print(self.display._panel())
        self.seen.append(caught.get())


def test_lines_fit_and_say_how_far_it_is(tmp_path: Path, narrow: Terminal) -> None:
    """If wrong: wrapped lines scroll the screen full, or nobody knows how long it will take."""
    display = Display(narrow)
    panels = Panels(display)
    cartpole(tmp_path / "run", target=1e9, observers=[display, panels]).run()
    lines = [line for panel in panels.seen for line in panel.splitlines()]
    assert max(map(len, lines)) <= 60
    assert panels.seen[0].strip() == "generation 0   0%"
    running, done = panels.seen[4], panels.seen[5]
    assert running.startswith("generation 1, 2 of 4 done, next 0%   at most 0:0")
    assert done.startswith("generation 2, 3 of 4 done   at most 0:0")
    (last,) = [line for line in plain(narrow.getvalue()).splitlines() if "generation    3" in line]
    assert len(last) <= 60
    assert "elite" in last


def test_a_resumed_run_says_which_generation_it_waits_for(tmp_path: Path, narrow: Terminal) -> None:
    """If wrong: a run of a day that goes on looks as if it began anew."""
    with pytest.raises(KeyboardInterrupt):
        cartpole(tmp_path / "run", observers=[StopAt(2)]).run()
    display = Display(narrow)
    panels = Panels(display)
    Search.resume(tmp_path / "run", observers=[display, panels])
    assert panels.seen[0].strip() == "generation 3   0%"


def test_a_score_is_shown_with_the_generation_it_has_in_the_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """If wrong: the line of generation 3 shows as its own what all else says of generation 2."""
    cartpole(tmp_path / "run", heldout_every=2, observers=[Display()]).run()
    logged = score_heldout(distes.load(tmp_path / "run"))
    shown = re.findall(r"generation +(\d+) .*held-out +(\S+) after +(\d+)", capsys.readouterr().out)
    assert [(line, after) for line, _, after in shown] == [("2", "1"), ("3", "1")]
    assert {score for _, score, _ in shown} == {format_return(logged[1].mean)}


def test_a_signal_is_spoken_of_within_the_panel(
    tmp_path: Path, narrow: Terminal, capfd: pytest.CaptureFixture[str]
) -> None:
    """If wrong: what is written below the panel leaves lines of it behind when it is redrawn."""
    display = Display(narrow)

    class Asked(Observer):
        def generation(self, row: Any) -> None:
            signals.say("SIGINT: saving the run")
            assert "SIGINT" not in capfd.readouterr().err
            panels._look()
            raise KeyboardInterrupt

    panels = Panels(display)
    with pytest.raises(KeyboardInterrupt):
        cartpole(tmp_path / "run", observers=[display, Asked(), panels]).run()
    assert panels.seen[-1].rstrip().endswith("SIGINT: saving the run")
    display.close()
    assert capfd.readouterr().err == "distes: SIGINT: saving the run\n"
    signals.say("later")
    assert capfd.readouterr().err == "distes: later\n"


@pytest.mark.parametrize(
    ("budgets", "expected"),
    [
        ({"generations": 10}, 14.0),
        ({"max_episodes": 100}, 16.0),
        ({"max_env_steps": 500}, 8.0),
        ({"max_seconds": 15.0}, 5.0),
        ({"generations": 10, "max_seconds": 15.0, "max_env_steps": 500}, 5.0),
        ({"max_episodes": 10}, 0.0),
        ({}, None),
    ],
)
def test_the_first_budget_to_end_is_forecast(
    budgets: dict[str, Any], expected: float | None
) -> None:
    """If wrong: a run is said to last hours whose seconds are nearly used up."""
    search = Search("CartPole-v1", **({"generations": None} | budgets))
    rows = [
        {"generation": i, "episodes": 10, "env_steps": 50, "elapsed_s": 6.0 + 2 * i}
        for i in range(3)
    ]
    assert forecast_seconds(search, rows, episodes=20, env_steps=300) == expected
    assert forecast_seconds(search, rows[:1], episodes=10, env_steps=50) is None


SMALL = "run CartPole-v1 --workers 0 --population 20 --generations 2 --target 1e9 --quiet"


def test_quiet_says_the_result_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """If wrong: a script that wants one line gets a page, or misses why something was refused."""
    monkeypatch.chdir(tmp_path)
    assert main([*SMALL.split(), "--out", "r", "--log-info", "foo", "--engine", "loop"]) == 0
    out, err = capfd.readouterr()
    assert re.fullmatch(r"r: [\d.]+, 95% confidence interval .* 100 unseen episodes\n", out)
    assert err.startswith("distes: log_info 'foo': no episode of the first generation has it")
    assert err.count("\n") == 1
    assert main([*SMALL.split(), "--out", "r"]) == 2
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)


def test_more_workers_than_fit_are_refused(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """If wrong: a digit too many takes all the memory of the machine, for minutes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("distes.search.evaluator.is_ray_connected", lambda: False)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    for line in (
        "run CartPole-v1 --workers 2000000",
        "run CartPole-v1 --workers 2000000 --dry-run",
    ):
        assert main(line.split()) == 2
        out, err = capfd.readouterr()
        assert re.search(r"workers 2,000,000 need 120,000 GB, and this machine has .* 2 cores", err)
        assert (out, err.count("\n")) == ("", 1)
    assert list(tmp_path.iterdir()) == []
    assert main(["run", "CartPole-v1", "--workers", "3", "--dry-run"]) == 0
    assert "workers 3 share 2 cores" in capfd.readouterr().err
    assert main(["run", "CartPole-v1", "--workers", "2", "--dry-run"]) == 0
    assert "share" not in capfd.readouterr().err
