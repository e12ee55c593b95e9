"""Ray for tests: on the loopback interface, one a process, ended by its own handle."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

# Before anything imports ray. Its servers are reached by tests alone, for minutes.
os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ.pop("RAY_ADDRESS", None)


class SharedRay:
    """A Ray with 5 CPUs, started when a test first asks for it and kept for the next ones."""

    def __init__(self) -> None:
        self._directory: Path | None = None
        self._address = ""

    def connect(self) -> str:
        """Connect this process to it; gives its address."""
        import ray

        if self._directory is None or not ray.is_initialized():
            self.stop()
            # Paths of sockets may have 107 bytes: pytest's own directories can be too deep.
            self._directory = Path(tempfile.mkdtemp(prefix="r", dir="/tmp"))
            context = ray.init(
                address="local",
                num_cpus=5,
                include_dashboard=False,
                logging_level="error",
                log_to_driver=False,
                object_store_memory=200_000_000,
                _node_ip_address="127.0.0.2" if sys.platform == "linux" else None,
                _temp_dir=str(self._directory),
            )
            self._address = context.address_info["address"]
        return self._address

    def stop(self) -> None:
        """End it, if it runs, so that a test may start or join another."""
        if self._directory is not None:
            import ray

            ray.shutdown()
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None


@pytest.fixture(scope="session", autouse=True)
def own_state(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the key that runs are signed with out of the home of whoever tests."""
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="session")
def shared_ray():
    shared = SharedRay()
    yield shared
    shared.stop()


@pytest.fixture(scope="session", autouse=True)
def compiled_at_once():
    """Have machine code from the first episode on: tests of it are not to test the loop.

    Nor do they leave a process that compiles. Those of a cold cache patch this again.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distes.engines.compiled.start_compiler", lambda *_: None)
        patch.setattr("distes.engines.compiled.STAND_IN_S", 0.0)
        yield


@pytest.fixture
def ray_local(shared_ray: SharedRay) -> str:
    """The address of a Ray with 5 CPUs that this process is connected to."""
    return shared_ray.connect()


@pytest.fixture
def no_ray(shared_ray: SharedRay) -> None:
    """For tests that start or join a Ray of their own in this process."""
    shared_ray.stop()


@pytest.fixture
def evaluators():
    """Make evaluators that are closed at the end, whatever happens."""
    from distes.evaluators.ray import RayEvaluator

    started: list[Any] = []

    def make(parts: Any, **settings: Any) -> RayEvaluator:
        started.append(RayEvaluator(*parts, **settings))
        return started[-1]

    yield make
    for evaluator in started:
        evaluator.close()


@pytest.fixture
def on_ray(ray_local, evaluators):
    """Make evaluators on the shared Ray."""
    return evaluators
