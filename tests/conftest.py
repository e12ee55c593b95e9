"""Ray for tests: on the loopback interface, one a module, ended by its own handle."""

import os
import shutil
import sys
import tempfile

import pytest

# Before anything imports ray. Its servers are reached by tests alone, for minutes.
os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ.pop("RAY_ADDRESS", None)


@pytest.fixture(scope="module")
def ray_local():
    """A Ray with 5 CPUs that this process is connected to; gives its address."""
    import ray

    # Paths of sockets may have 107 bytes: pytest's own directories can be too deep.
    directory = tempfile.mkdtemp(prefix="r", dir="/tmp")
    context = ray.init(
        address="local",
        num_cpus=5,
        include_dashboard=False,
        logging_level="error",
        log_to_driver=False,
        object_store_memory=200_000_000,
        _node_ip_address="127.0.0.2" if sys.platform == "linux" else None,
        _temp_dir=directory,
    )
    yield context.address_info["address"]
    ray.shutdown()
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def evaluators():
    """Make evaluators that are closed at the end, whatever happens."""
    from distes.evaluators.ray import RayEvaluator

    made = []

    def make(parts, **settings):
        made.append(RayEvaluator(*parts, **settings))
        return made[-1]

    yield make
    for evaluator in made:
        evaluator.close()


@pytest.fixture
def on_ray(ray_local, evaluators):
    """Make evaluators on the module's Ray."""
    return evaluators
