"""Jobs on real heads: submitted, followed, stopped, gone on with; tokens off and on."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from heads import BIN, Head, head, variables
from paths import ROOT
from searches import assert_same_run

from distes.cli.job_server import JobServer

pytestmark = pytest.mark.slow

PAUSE = threading.Event()

MODULE = '''
import time
from pathlib import Path

import gymnasium as gym
import numpy as np


class Now(gym.Env):
    """While a file says so, about one episode in 200 does not end: always the same ones."""

    observation_space = gym.spaces.Box(-1, 1, (2,))
    action_space = gym.spaces.Discrete(2)

    def __init__(self, folder):
        self.folder = Path(folder)

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.place = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return self.place, {}

    def step(self, action):
        if self.place[0] > 0.99 and (self.folder / "episodes_hang").exists():
            (self.folder / "one_hangs").touch()
            time.sleep(3600)
        return np.zeros(2, np.float32), action + self.np_random.normal(), True, False, {}
'''

CONFIG = """
env = "my_env:Now"
env_kwargs = {{ folder = "{folder}" }}
max_episode_steps = 5
population = 8
generations = 120
target = 99.0
heldout_every = 2
heldout_episodes = 2
final_episodes = 4

[strategy]
name = "cem"
min_std = 0.1
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Head]:
    with head() as started:
        yield started


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose configuration is ignored by git, as some are."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "my_env.py").write_text(MODULE)
    (project / "walk.toml").write_text(CONFIG.format(folder=tmp_path))
    (project / ".gitignore").write_text("*.toml\n")
    return project


def call(line: str, where: Path, **environment: str | None) -> subprocess.CompletedProcess[str]:
    """Run a command line to its end."""
    program, *words = shlex.split(line)
    command = [sys.executable, "-m", "distes"] if program == "distes" else [str(BIN / program)]
    return subprocess.run(
        [*command, *words],
        cwd=where,
        env=variables(**environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def start_submit(line: str, where: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "distes", *shlex.split(line)],
        cwd=where,
        env=variables(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for_file(appears: Path, child: subprocess.Popen[str] | None = None) -> None:
    """Wait for a file, for as long as pytest lets a test run."""
    while not appears.exists():
        assert child is None or child.poll() is None, child.communicate()[0]
        PAUSE.wait(0.1)


def wait_for_end(server: JobServer, job_id: str) -> Any:
    while not (info := server._client.get_job_info(job_id)).status.is_terminal():
        PAUSE.wait(0.2)
    return info


def run_undisturbed(project: Path) -> Path:
    done = call("distes run walk.toml --workers 0 --out ../whole", project)
    assert done.returncode == 0, done.stderr
    return project.parent / "whole"


def test_ray_job_submit_runs_an_example_unchanged(cluster: Head, tmp_path: Path) -> None:
    """If wrong: the plainest way to a cluster does not work, or its log is unreadable."""
    out, whole = tmp_path / "run", tmp_path / "whole"
    example = "distes run examples/cartpole_cem.toml --generations 3 --out"
    done = call(
        f"ray job submit --address {cluster.address} --submission-id plain --working-dir . "
        f"-- {example} {out}",
        ROOT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    server = JobServer(cluster.address)
    assert server._client.get_job_info("plain").driver_exit_code == 0
    log = server._client.get_job_logs("plain")
    assert "\x1b" not in log
    assert "\r" not in log
    shown = [line for line in log.splitlines() if line.startswith("generation ")]
    assert [line.split()[1] for line in shown] == ["0", "1", "2"]
    assert f"run: {out}" in log

    assert call(f"{example} {whole} --workers 0", ROOT).returncode == 0
    assert_same_run(out, whole)
    # It ran on this cluster, not on a Ray of its own.
    [node] = {json.loads(line)["node"] for line in _joined(out)}
    assert node


def _joined(run: Path) -> list[str]:
    return [line for line in (run / "events.jsonl").read_text().splitlines() if "_joined" in line]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--populaton 3 --out /tmp/never", "did you mean '--population'?"),
        ("--out runs/x", "out runs/x is relative, and the working directory of a Ray job is"),
        ("", "is relative, and the working directory of a Ray job is"),
        ("--resume-if-exists", "--resume-if-exists needs --out"),
    ],
)
def test_a_mistake_in_a_job_is_one_sentence_and_exit_code_2(
    cluster: Head, tmp_path: Path, flags: str, said: str
) -> None:
    """If wrong: a job fails with a traceback, or its run vanishes with a temporary copy."""
    (tmp_path / "note.txt").touch()
    server = JobServer(cluster.address)
    job_id = server._client.submit_job(
        entrypoint=f"distes run CartPole-v1 --generations 1 --workers 0 {flags}",
        runtime_env={"working_dir": str(tmp_path)},
    )
    info = wait_for_end(server, job_id)
    assert info.driver_exit_code == 2
    log = server._client.get_job_logs(job_id)
    assert said in log
    assert "Traceback" not in log


def test_a_stopped_job_is_gone_on_with_by_another(
    cluster: Head, project: Path, tmp_path: Path
) -> None:
    """If wrong: `ray job stop` loses what was computed, or the next job computes otherwise."""
    whole = run_undisturbed(project)
    (tmp_path / "episodes_hang").touch()
    line = f"submit walk.toml --address {cluster.address} --storage {tmp_path}/store"
    started = call(f"distes {line} --name r --job-id first --no-wait", project)
    assert started.returncode == 0, started.stderr
    wait_for_file(tmp_path / "one_hangs")
    stopped = call(f"ray job stop first --address {cluster.address}", project)
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    server = JobServer(cluster.address)
    assert wait_for_end(server, "first").status == "STOPPED"
    log = server._client.get_job_logs("first")
    assert "distes: stopped by SIGTERM" in log
    assert "Traceback" not in log

    (tmp_path / "episodes_hang").unlink()
    done = call(f"distes {line} --name r --workers 1", project)
    assert done.returncode == 0, done.stdout + done.stderr
    last = log.rpartition("\ngeneration ")[2].split()[0]
    assert f"resumes at generation {int(last) + 1}\n" in done.stdout
    assert_same_run(tmp_path / "store" / "r", whole)

    finished = call(f"distes {line} --name r", project)
    assert finished.returncode == 0
    assert "is finished already" in finished.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_ctrl_c_stops_the_job_and_the_same_command_goes_on(
    cluster: Head, project: Path, tmp_path: Path, number: int
) -> None:
    """If wrong: a job that nobody watches burns on, or Ctrl-C throws its work away."""
    whole = run_undisturbed(project)
    (tmp_path / "episodes_hang").touch()
    line = f"submit walk.toml --address {cluster.address} --storage {tmp_path}"
    child = start_submit(line, project)
    try:
        wait_for_file(tmp_path / "one_hangs", child)
        child.send_signal(number)
        out, _ = child.communicate(timeout=300)
    finally:
        child.kill()
    assert child.returncode == 128 + number, out
    assert "Traceback" not in out
    assert "distes: stopped by SIGTERM" in out, "the job's own last words are followed, too"
    assert "to go on, submit the same command again" in out

    (tmp_path / "episodes_hang").unlink()
    done = call(f"distes {line}", project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "resumes at generation" in done.stdout
    assert_same_run(tmp_path / "walk-0", whole)


def test_with_a_token_and_without_distes(project: Path, tmp_path: Path) -> None:
    """If wrong: shipped cluster files (token mode) are of no use, or a bare image explains
    nothing; and a run that was sent with its distes computes something else."""
    whole = run_undisturbed(project)
    home, programs = tmp_path / "home", tmp_path / "bin"
    home.mkdir()
    programs.mkdir()
    (tmp_path / "token").write_text("t0ken" * 12)
    for name in ("python", "ray"):
        wrapper = programs / name
        wrapper.write_text(f'#!/bin/sh\nexec {shlex.quote(str(BIN / name))} "$@"\n')
        wrapper.chmod(0o755)
    secret = {
        "HOME": str(home),
        "RAY_AUTH_MODE": None,
        "RAY_AUTH_TOKEN": None,
        "RAY_AUTH_TOKEN_PATH": str(tmp_path / "token"),
    }
    path = f"{programs}:/usr/bin:/bin"
    with head(**{**secret, "RAY_AUTH_MODE": "token", "PATH": path}) as cluster:
        line = f"distes submit walk.toml --address {cluster.address} --storage {tmp_path}"
        without = call(line, project, **{**secret, "RAY_AUTH_TOKEN_PATH": None})
        assert without.returncode == 2
        assert "wants a token" in without.stderr
        missing = call(line, project, **secret)
        assert missing.returncode == 127
        assert "distes is not installed on the cluster's head" in missing.stderr
        shipped = call(f"{line} --ship-distes", project, **secret)
        assert shipped.returncode == 0, shipped.stdout + shipped.stderr
        assert_same_run(tmp_path / "walk-0", whole)
        plain = call(
            f"ray job submit --address {cluster.address} --working-dir {ROOT} -- python -m distes "
            f"run examples/cartpole_cem.toml --generations 1 --out {tmp_path}/plain",
            project,
            **{**secret, "RAY_AUTH_MODE": "token"},
        )
        assert plain.returncode == 0, plain.stdout + plain.stderr
        assert f"run: {tmp_path}/plain" in plain.stdout
