"""A Ray that a run starts for itself."""

from __future__ import annotations

import subprocess
import sys

import pytest

LISTEN = """
from ipaddress import ip_address
import ray
from psutil import AccessDenied, NoSuchProcess, Process
from ray._private import ray_constants
from distes.evaluators.connection import Connection, connect, disconnect

kept = ray_constants.ENABLE_RAY_CLUSTER
assert connect(None, 1) is Connection.STARTED
assert kept == ray_constants.ENABLE_RAY_CLUSTER

@ray.remote
class Worker:
    def work(self):
        return 1

worker = Worker.remote()
assert ray.get(worker.work.remote()) == 1
for process in [Process(), *Process().children(recursive=True)]:
    try:
        found = process.net_connections("inet")
    except (AccessDenied, NoSuchProcess):
        continue
    for each in found:
        if each.status == "LISTEN":
            address = ip_address(each.laddr.ip)
            address = getattr(address, "ipv4_mapped", None) or address
            print(process.name(), address, address.is_loopback)
disconnect()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_private_ray_listens_on_loopback_alone() -> None:
    """If wrong: the network can talk to a laptop's Ray, which runs what it is told."""
    ended = subprocess.run(
        [sys.executable, "-c", LISTEN], capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr
    ports = ended.stdout.splitlines()
    assert len(ports) >= 6, ports
    assert [port for port in ports if not port.endswith(" True")] == []
