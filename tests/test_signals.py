"""Signals, sent to real processes: what is finished is saved, and a second one is obeyed."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from marks import slow
from searches import assert_same_run

from distes.search.search import Search
from distes.signals import interruptible

PAUSE = threading.Event()
"""Never set: something to wait for while another process works."""

SETTINGS = shlex.split(
    "--strategy cem --population 8 --generations 200 --target 99 --heldout-every 2 "
    "--heldout-episodes 2 --final-episodes 4 --max-episode-steps 5 --strategy.min-std 0.1"
)


MODULE = '''
import os
import time
from pathlib import Path

import gymnasium as gym
import numpy as np

HERE = Path(__file__).parent
fsync = os.fsync


def slow_fsync(descriptor):
    while (HERE / "disk_hangs").exists():
        time.sleep(0.02)
    fsync(descriptor)


os.fsync = slow_fsync


class Slow(gym.Env):
    """While a file says so, about one episode in 200 does not end: always the same ones."""

    observation_space = gym.spaces.Box(-1, 1, (2,))
    action_space = gym.spaces.Discrete(2)

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.place = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return self.place, {}

    def step(self, action):
        if self.place[0] > 0.99 and (HERE / "episodes_hang").exists():
            (HERE / "one_hangs").touch()
            time.sleep(3600)
        return np.zeros(2, np.float32), action + self.np_random.normal(), True, False, {}
'''


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "stop_things.py").write_text(MODULE)
    return tmp_path


@contextmanager
def start_command(here: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A command line in a process of its own, stderr in stdout, killed if it does not end."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(here)])}
    child = subprocess.Popen(
        [sys.executable, "-m", "distes", *arguments],
        cwd=here,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    watch = threading.Timer(240, child.kill)
    watch.start()
    try:
        yield child
    finally:
        watch.cancel()
        if child.poll() is None:
            child.kill()
        child.wait()
        child.stdout.close()  # type: ignore[union-attr]


def read_until(child: subprocess.Popen[str], start: str) -> list[str]:
    """Read lines up to one with that start."""
    assert child.stdout is not None
    lines = []
    for line in child.stdout:
        lines.append(line)
        if line.startswith(start):
            return lines
    raise AssertionError("".join(lines))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same search, left alone."""
    here = tmp_path_factory.mktemp("undisturbed")
    (here / "stop_things.py").write_text(MODULE)
    with start_command(
        here, "run", "stop_things:Slow", *SETTINGS, "--workers", "0", "--out", "whole"
    ) as (child):
        out, _ = child.communicate()
    assert child.returncode == 0, out
    return here / "whole"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_signal_while_ray_starts_ends_the_run_before_it_began(here: Path, number: int) -> None:
    """If wrong: a traceback, Ray's own exit code, or a half-made run directory."""
    with start_command(
        here, "run", "stop_things:Slow", *SETTINGS, "--workers", "1", "--out", "r"
    ) as (child):
        read_until(child, "starting Ray")
        child.send_signal(number)
        out, _ = child.communicate()
    assert child.returncode == 128 + number, out
    assert "Traceback" not in out
    assert not (here / "r").exists()


@pytest.mark.parametrize("number", [slow(signal.SIGINT), signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_signal_does_not_wait_for_episodes_that_run(
    here: Path, undisturbed: Path, ray_local: str, number: int
) -> None:
    """If wrong: the driver waits for workers that sleep for an hour, or loses generations."""
    (here / "episodes_hang").touch()
    on_ray = ("--workers", "1", "--address", ray_local)
    with start_command(here, "run", "stop_things:Slow", *SETTINGS, *on_ray, "--out", "r") as child:
        while not (here / "one_hangs").exists() and child.poll() is None:
            PAUSE.wait(0.1)
        child.send_signal(number)
        out, _ = child.communicate()
    assert child.returncode == 128 + number, out
    assert "Traceback" not in out
    assert "distes resume r" in out
    (here / "episodes_hang").unlink()
    with start_command(here, "resume", "r", "--workers", "0") as child:
        out, _ = child.communicate()
    assert child.returncode == 0, out
    assert "resumes at generation" in out
    assert_same_run(here / "r", undisturbed)


@pytest.mark.parametrize("number", [slow(signal.SIGINT), signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_second_signal_does_not_wait_for_the_disk(
    here: Path, undisturbed: Path, number: int
) -> None:
    """If wrong: a run whose disk hangs can be ended by SIGKILL alone, or is unreadable then."""
    with start_command(
        here, "run", "stop_things:Slow", *SETTINGS, "--workers", "0", "--out", "r"
    ) as (child):
        read_until(child, "generation    1")
        (here / "disk_hangs").touch()
        child.send_signal(number)
        read_until(child, "distes: SIG")
        while child.poll() is None:  # the first ones are taken for echoes of the signal
            child.send_signal(number)
            PAUSE.wait(0.1)
        out, _ = child.communicate()
    assert child.returncode == 128 + number, out
    assert "Traceback" not in out
    (here / "disk_hangs").unlink()
    with start_command(here, "resume", "r") as child:
        out, _ = child.communicate()
    assert child.returncode == 0, out
    assert_same_run(here / "r", undisturbed)


def test_a_first_signal_lets_the_log_be_written(here: Path, undisturbed: Path) -> None:
    """If wrong: a signal that comes while the disk is slow loses what was finished."""
    with start_command(
        here, "run", "stop_things:Slow", *SETTINGS, "--workers", "0", "--out", "r"
    ) as (child):
        read_until(child, "generation    2")
        (here / "disk_hangs").touch()
        child.send_signal(signal.SIGTERM)
        read_until(child, "distes: SIG")
        child.send_signal(signal.SIGTERM)  # an echo, as `timeout` makes one
        (here / "disk_hangs").unlink()
        out, _ = child.communicate()
    assert child.returncode == 143, out
    with start_command(here, "resume", "r") as child:
        out, _ = child.communicate()
    assert child.returncode == 0, out
    begun = int(out.partition("resumes at generation ")[2].split()[0])
    assert begun >= 2, "two generations were finished"
    assert_same_run(here / "r", undisturbed)


def test_signals_do_what_they_did_before_once_a_run_is_over(tmp_path: Path) -> None:
    """If wrong: a program that calls `main` cannot be interrupted afterwards."""
    before = signal.getsignal(signal.SIGINT)
    with interruptible():
        Search("CartPole-v1", population=8, generations=1, workers=0, out=tmp_path / "run").run()
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before
