"""Heads of clusters for tests: started by ``ray start --head``, ended by their own handle."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HOST = "127.0.0.2" if sys.platform == "linux" else "127.0.0.1"
"""Ray replaces 127.0.0.1 itself by an address that can be reached from outside."""
STARTS_WITHIN_S = 180
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Head:
    """A running head.

    Attributes:
        address: ``http://host:port`` of its job server.
        gcs: ``host:port`` that drivers join.
        process: ``ray start``.
    """

    address: str
    gcs: str
    process: subprocess.Popen[bytes]


@contextmanager
def head(*, num_cpus: int = 2, **environment: str | None) -> Iterator[Head]:
    """Start a head on the loopback interface.

    Args:
        num_cpus: of its node.
        environment: variables on top of this process's own; None takes one away.
    """
    directory = tempfile.mkdtemp(prefix="h", dir="/tmp")  # short: sockets' paths are limited
    gcs, dashboard, *others = _free_ports(6)
    flags = {
        "port": gcs,
        "node-ip-address": HOST,
        "dashboard-host": HOST,
        "dashboard-port": dashboard,
        "dashboard-agent-listen-port": others[0],
        "dashboard-agent-grpc-port": others[1],
        "ray-client-server-port": others[2],
        "metrics-export-port": others[3],
        "num-cpus": num_cpus,
        "object-store-memory": 100_000_000,
        "temp-dir": directory,
    }
    with Path(directory, "ray-start.log").open("wb") as log:
        process = subprocess.Popen(
            [
                str(BIN / "ray"),
                "start",
                "--head",
                "--block",
                "--disable-usage-stats",
                *(f"--{name}={value}" for name, value in flags.items()),
            ],
            cwd=directory,
            env=variables(**{"RAY_AUTH_MODE": "disabled", **environment}),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        address = f"http://{HOST}:{dashboard}"
        _wait_for(address, process, Path(directory, "ray-start.log"))
        yield Head(address, f"{HOST}:{gcs}", process)
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(directory, ignore_errors=True)


def variables(**changes: str | None) -> dict[str, str]:
    """This process's environment with what a Ray or a command line of ours needs."""
    found: dict[str, str | None] = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
        "PATH": os.pathsep.join([str(BIN), os.environ["PATH"]]),
        "RAY_ADDRESS": None,
        **changes,
    }
    return {name: value for name, value in found.items() if value is not None}


def _wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/api/version", timeout=10):  # noqa: S310
                return
        except urllib.error.HTTPError as error:
            if error.code in (401, 403):  # it is there, and wants a token
                return
        except OSError:
            pass
        threading.Event().wait(0.2)
    raise AssertionError(f"ray start did not come up:\n{log.read_text()}")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind((HOST, 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
