"""``distes submit`` without a cluster: refusals, and a job server that fails now and then."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from distes.cli import job_server, main
from distes.cli.job_server import JobServer
from distes.errors import RunFailed, UsageError

NOWHERE = "http://127.0.0.1:9"

Command = Callable[[str], tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _no_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS", "RAY_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Command:
    """Run a command line in a project of its own."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "walk.toml").write_text('env = "CartPole-v1"\npopulation = 20\ngenerations = 2\n')
    monkeypatch.chdir(project)

    def run(line: str) -> tuple[int, str, str]:
        code = main(shlex.split(line))
        out, err = capfd.readouterr()
        return code, out, err

    return run


class Server(ThreadingHTTPServer):
    """Speaks as much of a job server's language as following needs.

    Attributes:
        script: what each question about the job's log is answered with: a status and the
            log so far, or None for a connection that breaks.
        token: asked for, if any.
        posted: what was submitted.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.script: list[tuple[str, str, int | None] | None] = []
        self.token = ""
        self.posted: list[dict[str, Any]] = []
        self.stops: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answers(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        given = self.headers.get("Authorization")
        if self.server.token and given != f"Bearer {self.server.token}":
            self.send_error(401 if given is None else 403)
        elif self.path == "/api/version":
            self.say({"version": "4", "ray_version": "2.60.0", "ray_commit": "x"})
        elif self.path.startswith("/api/packages/"):
            self.say({})
        elif self.path.endswith("/logs"):
            scene = self.server.script[0]
            if len(self.server.script) > 1:
                self.server.script.pop(0)
            assert scene is not None
            self.say({"logs": scene[1]})
        else:
            scene = self.server.script[0]
            if scene is None:
                self.server.script.pop(0)
                self.connection.close()
                return
            status, _, code = scene
            job = {"type": "SUBMISSION", "submission_id": "j", "entrypoint": "x"}
            self.say({**job, "status": status, "message": "m", "driver_exit_code": code})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path.endswith("/stop"):
            self.server.stops.append(self.path)
            self.say({"stopped": True})
        else:
            self.server.posted.append(json.loads(body))
            self.say({"job_id": "j", "submission_id": "j"})

    def say(self, answer: Any) -> None:
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(job_server, "LOOK_S", 0.01)
    monkeypatch.setattr(job_server, "LOOK_SHARE", 0)
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def follow(server: Server) -> tuple[str, job_server.Outcome]:
    told: list[str] = []
    wake, bell = socket.socketpair()
    with wake, bell:
        outcome = JobServer(server.address).follow("j", told.append, wake, lambda: None)
    return "".join(told), outcome


REFUSED = [
    ("submit walk.toml", "storage is not given"),
    ("submit walk.toml --out runs/x", "out runs/x is relative"),
    ("submit walk.toml --storage runs", "--storage runs is neither an absolute path nor a URI"),
    ("submit walk.toml --storage /s --out /s/x", "give one"),
    ("submit walk.toml --storage /s", "--address http://127.0.0.1:8265"),
    (f"submit walk.toml --storage /s --address {NOWHERE}", "no Ray job server answers at"),
    ("submit walk.toml --storage /s --address ray://h:1", "is not a job server's"),
    ("submit walk.toml --storage /s --address http://h:port", "is not a job server's"),
    ("submit walk.toml --storage /s --name ../x", "--name '../x' has other signs"),
    ("submit walk.toml --storage /s --job-id a/b", "--job-id 'a/b' has other signs"),
    ("submit wlak.toml --storage /s", "there is no configuration file wlak.toml"),
    ("submit CartPloe-v1 --storage /s", "did you mean 'CartPole-v1'?"),
    ("submit walk.toml --storage /s --adress x", "did you mean '--address'?"),
    ("submit walk.toml --storage /s --population -1", "population -1"),
    ("submit walk.toml --storage /s --strategy.rho 1", "--strategy.rho"),
    ("submit ../other.toml --storage /s", "configuration ../other.toml is not below"),
    ("submit walk.toml --storage /s --start-from ../x.npy", "start_from ../x.npy is not below"),
]


@pytest.mark.parametrize(("line", "said"), REFUSED, ids=[line for line, _ in REFUSED])
def test_mistakes_are_told_before_anything_is_sent(
    command: Command, tmp_path: Path, line: str, said: str
) -> None:
    """If wrong: the cluster starts, and fails minutes later, over a slip of the keyboard."""
    import numpy as np

    (tmp_path / "other.toml").write_text('env = "CartPole-v1"\n')
    np.save(tmp_path / "x.npy", np.zeros(10))
    code, out, err = command(line)
    assert code == 2, err
    assert said in err
    assert err.count("\n") == 1
    assert out == ""


def test_a_dry_run_lists_and_sends_nothing(command: Command, server: Server) -> None:
    """If wrong: nobody can know what leaves this machine before it has left."""
    Path(".env").write_text("TOKEN=x")
    Path("runs").mkdir()
    Path("data.csv").symlink_to("/etc/hostname")
    code, out, err = command(f"submit walk.toml --dry-run --address {server.address}")
    assert (code, err) == (0, "")
    size = Path("walk.toml").stat().st_size
    assert [line.strip() for line in out.splitlines()] == [
        f"{size} bytes  walk.toml",
        "left out: .env (may hold keys, by its name)",
        "left out: data.csv (leads out of the project)",
        "left out: runs (place of runs)",
        f"1 files, {size} bytes unpacked",
    ]
    assert server.posted == []
    server.script = [("SUCCEEDED", "", 0)]
    code, out, err = command(f"submit walk.toml --storage /s --address {server.address}")
    assert code == 0
    assert "sending 1 files" in out
    assert "2 that may hold keys or lead out of the project stay here" in err


def test_what_is_submitted(command: Command, server: Server) -> None:
    """If wrong: the job runs something else than what was asked for here."""
    server.script = [("SUCCEEDED", "log\n", 0)]
    line = (
        "submit walk.toml --seed 3 --env-kwargs '{\"sutton_barto_reward\": true}' --common-seeds "
        "--strategy cem --strategy.min-std -0 --observer prometheus "
        "--storage 's3://b/runs/?region=x' --no-wait "
        f"--address {server.address}"
    )
    code, out, err = command(line)
    assert code == 0, err
    [job] = server.posted
    words = shlex.split(job["entrypoint"])
    assert words[:3] == ["distes", "run", "walk.toml"]
    assert sorted(words[3:-2]) == [
        "--common-seeds",
        '--env-kwargs={"sutton_barto_reward": true}',
        "--observer=prometheus",
        "--seed=3",
        "--strategy.min-std=-0",
        "--strategy=cem",
    ]
    assert words[-2:] == ["--out=s3://b/runs/walk-3?region=x", "--resume-if-exists"]
    assert job["runtime_env"]["env_vars"] == {"RAY_JOB_STOP_WAIT_TIME_S": "30"}
    assert job["runtime_env"]["working_dir"].startswith("gcs://")
    assert job["metadata"]["run"] == "walk-3"
    assert job["metadata"]["out"] == "s3://b/runs/walk-3?region=x"
    assert job["submission_id"].startswith("walk-3-")
    for verb in ("stop", "logs"):
        assert f"ray job {verb} {job['submission_id']} --address {server.address}" in out


def test_an_out_that_stays_needs_no_storage(command: Command, server: Server) -> None:
    """If wrong: a configuration that names its place cannot be submitted as it is."""
    server.script = [("SUCCEEDED", "", 0)]
    Path("walk.toml").write_text(
        'env = "CartPole-v1"\nout = "/shared/w"\naddress = "localhost:6379"\n'
    )
    code, _, err = command(f"submit walk.toml --ship-distes --address {server.address}")
    assert code == 0, err
    words = shlex.split(server.posted[0]["entrypoint"])
    assert words[:5] == ["python", "-m", "distes", "run", "walk.toml"]
    assert "--out=/shared/w" in words
    # The file's cluster is that of a laptop; the job's is the one it runs on.
    assert "--address=none" in words


def test_the_environment_can_name_the_server(
    command: Command, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If wrong: variables that `ray job` obeys do nothing, or beat an address that was given."""
    server.script = [("SUCCEEDED", "", 0)]
    monkeypatch.setenv("RAY_ADDRESS", server.address)
    assert command("submit walk.toml --storage /s")[0] == 0
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", NOWHERE)
    assert command("submit walk.toml --storage /s")[0] == 2
    assert command(f"submit walk.toml --storage /s --address {server.address}")[0] == 0
    assert len(server.posted) == 2


def test_no_line_is_lost_or_told_twice_over_broken_connections(server: Server) -> None:
    """If wrong: a proxy's time-out ends the following, or repeats the log from its start."""
    lines = [f"generation {n}\n" for n in range(6)]
    so_far = ["".join(lines[: n + 1]) for n in range(6)]
    server.script = [
        ("PENDING", "", None),
        ("RUNNING", so_far[0], None),
        None,
        ("RUNNING", so_far[2][:-4], None),
        ("RUNNING", so_far[3], None),
        None,
        None,
        ("SUCCEEDED", so_far[5], 0),
    ]
    told, outcome = follow(server)
    assert told == so_far[5]
    assert outcome == job_server.Outcome(stopped=False, exit_code=0, message="m")


def test_following_ends_where_the_server_is_gone_for_good(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If wrong: a script waits for ever for a cluster that was taken down."""
    monkeypatch.setattr(job_server, "LOST_AFTER_S", 0.0)
    server.script = [None, None, None, ("RUNNING", "", None)]
    with pytest.raises(RunFailed, match="has not answered for 0 s"):
        follow(server)


ENDS = [
    ("SUCCEEDED", 0, 0, ""),
    ("FAILED", 7, 7, "failed with exit code 7; to go on, submit the same command again"),
    ("FAILED", 2, 2, "was refused"),
    ("FAILED", 127, 127, "distes is not installed on the cluster's head"),
    ("FAILED", -9, 137, "exit code 137"),
    ("FAILED", None, 1, "without its driver: m"),
    ("STOPPED", None, 143, "was stopped; to go on, submit the same command again"),
]


@pytest.mark.parametrize(("status", "driver", "code", "said"), ENDS)
def test_the_exit_code_is_the_drivers(
    command: Command, server: Server, status: str, driver: int | None, code: int, said: str
) -> None:
    """If wrong: a script that submits cannot tell success from failure."""
    server.script = [("RUNNING", "a\n", None), (status, "a\nb\n", driver)]
    got, out, err = command(f"submit walk.toml --storage /s --address {server.address}")
    assert got == code
    assert out.endswith("a\nb\n")
    assert said in err
    assert bool(said) == bool(err)


def test_tokens(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If wrong: a cluster with a token is reached by nobody, or the refusal explains nothing."""
    server.token = "s" * 64
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    with pytest.raises(UsageError, match="wants a token, and there is none in RAY_AUTH_TOKEN"):
        JobServer(server.address)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "wrong")
    with pytest.raises(UsageError, match="refuses the token"):
        JobServer(server.address)
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text(server.token + "\n")
    server.script = [("SUCCEEDED", "done\n", 0)]
    assert follow(server)[0] == "done\n"


def test_what_is_no_job_server_is_told_apart(server: Server) -> None:
    """If wrong: a wrong port ends in a traceback of an HTTP library."""
    server.script = [("RUNNING", "", None)]
    with pytest.raises(UsageError, match=r"is no Ray job server \(status 200\)"):
        JobServer(server.address + "/another/service")
    with socket.create_server(("127.0.0.1", 0)) as other:

        def speak() -> None:
            connection, _ = other.accept()
            with connection:
                connection.sendall(b"220 mail.example ESMTP\r\n")

        thread = threading.Thread(target=speak)
        thread.start()
        with pytest.raises(UsageError, match="what listens there does not speak HTTP"):
            JobServer(f"127.0.0.1:{other.getsockname()[1]}")
        thread.join()


def test_a_server_that_keeps_silent_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """If wrong: a firewall that swallows packets holds the command up for minutes."""
    monkeypatch.setattr(job_server, "ANSWERS_WITHIN_S", 0.2)
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(UsageError, match=r"no Ray job server answers at .*timed out"),
    ):
        JobServer(f"http://127.0.0.1:{silent.getsockname()[1]}")


def test_a_second_ctrl_c_leaves_the_job_to_its_stopping(server: Server, tmp_path: Path) -> None:
    """If wrong: a cluster that does not react holds the terminal, or is not asked to stop."""
    server.script = [("RUNNING", "generation 1\n", None)]
    (tmp_path / "walk.toml").write_text('env = "CartPole-v1"\n')
    child = subprocess.Popen(
        [
            *(sys.executable, "-m", "distes", "submit", "walk.toml"),
            *("--storage", "/s", "--job-id", "j", "--address", server.address),
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    pause = threading.Event()
    try:
        assert child.stdout is not None
        said = ""
        while "generation 1" not in said:
            said += child.stdout.readline()
            assert child.poll() is None, said
        child.send_signal(signal.SIGINT)
        while "stopping job j" not in said:
            said += child.stdout.readline()
            assert child.poll() is None, said
        while child.poll() is None:  # the first ones are taken for echoes
            child.send_signal(signal.SIGINT)
            pause.wait(0.1)
        said += child.stdout.read()
    finally:
        child.kill()
        child.wait()
        child.stdout.close()  # type: ignore[union-attr]
    assert child.returncode == 130, said
    assert "the job goes on stopping; see ray job status j" in said
    assert server.stops == ["/api/jobs/j/stop"]
