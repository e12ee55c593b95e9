"""Evaluation on clusters of real raylets that grow, shrink and break, on one machine."""

import dataclasses
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import ray
from evaluations import KEY, all_there, assert_equal, serially, settle, sphere
from ray.cluster_utils import Cluster

from distes.errors import Notice, RunFailed, UsageError
from distes.evaluators import cluster as view_of
from distes.evaluators.ray import RayEvaluator
from distes.population.distributions import Gaussian, Point, Table
from distes.population.records import Population, RunKey, Status
from distes.tasks.function import FunctionTask

pytestmark = pytest.mark.slow

RAY = str(Path(sys.executable).with_name("ray"))

PATIENCE_S = 120
"""Long enough for the slowest machine; nothing here waits for it unless it is broken."""


@pytest.fixture
def cluster(no_ray):
    """A head without CPUs that this process is connected to; add nodes to taste."""
    directory = tempfile.mkdtemp(prefix="r", dir="/tmp")
    made = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 0,
            "include_dashboard": False,
            "object_store_memory": 100_000_000,
            "temp_dir": directory,
            "node_ip_address": "127.0.0.2",
        },
    )
    ray.init(
        address=made.address,
        logging_level="error",
        log_to_driver=False,
        _node_ip_address="127.0.0.2",
    )
    yield made
    ray.shutdown()
    made.shutdown()
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def nodes(cluster):
    """Add nodes, and wait until the cluster counts on them."""

    def add(count, cpus=2):
        before = len(cluster.list_all_nodes())
        made = [
            cluster.add_node(
                num_cpus=cpus,
                object_store_memory=100_000_000,
                node_ip_address=f"127.0.0.{before + number + 2}",
            )
            for number in range(count)
        ]
        cluster.wait_for_nodes()
        assert len(cluster.list_all_nodes()) == before + count
        return made

    return add


@pytest.fixture
def on_cluster(cluster, evaluators):
    """Make evaluators on the cluster."""
    return evaluators


def slow_sphere(parameters):
    time.sleep(0.03)
    return sphere(parameters)


PARTS = settle(FunctionTask(slow_sphere, 2))
POPULATION = Population(Gaussian(np.zeros(2), np.ones(2), (3, 4)), 240)


def drive(evaluator, *events, population=POPULATION):
    """Evaluate, and do something when a share of the episodes is there."""
    pending = evaluator.submit(population, KEY)
    for share, act in events:
        while pending.missing > (1 - share) * population.num_episodes:
            evaluator._step()
        act()
    return pending.result()


def until(evaluator, condition, what):
    """Let an evaluator go on with small work until something is so; gives all events."""
    deadline = time.monotonic() + PATIENCE_S
    events = []
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen"
        events += evaluator.submit(Population(Point(np.zeros(2)), 4), RunKey(0, 0)).result().events
        time.sleep(0.1)
    return [*events, *evaluator._pool.events]


def step_until(evaluator, condition):
    """Drive what is under way until something is so."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        evaluator._step()


def ready(evaluator):
    return len(evaluator._pool.handles)


def kinds(answer):
    return [event["kind"] for event in answer.events]


@pytest.mark.parametrize("graceful", [False, True], ids=["raylet killed", "removed"])
def test_a_lost_node_changes_nothing(cluster, nodes, on_cluster, graceful):
    """Its chunks run again elsewhere with the same seeds, and nobody suspects them."""
    first, _, _ = nodes(3)
    (expected,) = serially(settle(FunctionTask(sphere, 2)), POPULATION)
    evaluator = all_there(on_cluster(PARTS), 6, 2)
    answer = drive(evaluator, (0.3, lambda: cluster.remove_node(first, allow_graceful=graceful)))
    assert_equal(answer.episodes, expected.episodes)
    later = until(
        evaluator, lambda: ready(evaluator) == 4 and not evaluator._pool.starting, "shrinking"
    )
    lost = [event for event in (*answer.events, *later) if event["kind"] == "worker_lost"]
    assert {event["node_id"] for event in lost} == {first.node_id}
    assert len(lost) == 2
    assert {event["reason"] for event in lost} <= {"node lost", "node preempted"}
    # Either the loss was seen in time, or idle workers had run the late chunks already.
    summary = answer.telemetry.summary
    assert summary["retries"] + summary["duplicates"] > 0
    assert not [event for event in later if event["kind"] == "episode_crashed"]


def test_workers_follow_the_cluster(cluster, nodes, on_cluster):
    """A node that joins is used within the generation; one that goes leaves no demand."""
    nodes(1)
    evaluator = all_there(on_cluster(PARTS), 2, 2)
    added = []
    answer = drive(evaluator, (0.2, lambda: added.extend(nodes(1))))
    until(evaluator, lambda: ready(evaluator) == 4, "growing")
    second = drive(evaluator)
    assert set(second.telemetry.worker) == {0, 1, 2, 3}
    np.testing.assert_array_equal(second.episodes.fitness, answer.episodes.fitness)
    cluster.remove_node(added[0], allow_graceful=True)
    until(evaluator, lambda: ready(evaluator) == 2 and not evaluator._pool.starting, "shrinking")


def test_a_number_of_workers_is_asked_for_and_kept(cluster, nodes, on_cluster):
    """With ``workers=4`` two start at once; the others wait for room, visible as a demand."""
    (first,) = nodes(1)
    evaluator = on_cluster(PARTS, workers=4, min_workers=2)
    answer = drive(evaluator)
    assert answer.telemetry.summary["workers"] == 2
    assert len(evaluator._pool.starting) == 2
    nodes(1)
    until(evaluator, lambda: ready(evaluator) == 4, "growing")
    cluster.remove_node(first, allow_graceful=True)
    until(evaluator, lambda: ready(evaluator) == 2, "shrinking")
    assert len(evaluator._pool.starting) == 2
    nodes(1)
    until(evaluator, lambda: ready(evaluator) == 4, "growing again")


def test_min_workers_are_waited_for(nodes, on_cluster):
    """A run that must not crawl on one worker starts when enough are there, not before."""
    nodes(1)
    evaluator = on_cluster(PARTS, workers=4, min_workers=3)
    pending = evaluator.submit(POPULATION, KEY)
    step_until(evaluator, lambda: ready(evaluator) == 2)
    for _ in range(5):
        evaluator._step()
    assert pending.missing == 240
    assert not evaluator._running
    nodes(1)
    answer = pending.result()
    assert answer.telemetry.summary["workers"] >= 3


def drain(node):
    """Announce that a node will go, as a cloud does with a spot machine."""
    command = [RAY, "drain-node", "--address", ray.get_runtime_context().gcs_address]
    command += ["--node-id", node.node_id, "--reason", "DRAIN_NODE_REASON_PREEMPTION"]
    command += ["--reason-message", "spot", "--deadline-remaining-seconds", "600"]
    subprocess.run(command, check=True, timeout=PATIENCE_S, capture_output=True)
    deadline = time.monotonic() + PATIENCE_S
    while node.node_id not in view_of.read_state().draining:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("workers", ["auto", 4])
def test_a_draining_node_gets_no_new_chunk(nodes, on_cluster, workers):
    """What runs there may end; the rest goes elsewhere, and nothing has to run again."""
    first, _ = nodes(2)
    (expected,) = serially(settle(FunctionTask(sphere, 2)), POPULATION)
    evaluator = all_there(on_cluster(PARTS, workers=workers), 4, 2)
    going = {h.number for h in evaluator._pool.handles.values() if h.node_id == first.node_id}
    marks = []

    def announce():
        drain(first)
        evaluator._pool._headcount._looked_at = -np.inf  # look now
        evaluator._step()
        marks.append(time.time())

    answer = drive(evaluator, (0.2, announce))
    assert_equal(answer.episodes, expected.episodes)
    assert answer.telemetry.attempt.max() == 1
    there = np.isin(answer.telemetry.worker, list(going))
    assert there.any()
    # A chunk that had begun may still have had several episodes to run.
    late = answer.telemetry.started_at[there] > marks[0] + 1.0
    assert not late.any()
    until(evaluator, lambda: ready(evaluator) == 2, "leaving")
    events = [*answer.events, *evaluator._pool.events]
    left = {event["worker"] for event in events if event["kind"] == "worker_left"}
    assert left == going
    # A fixed number stays asked for; a number that follows asks for nothing.
    assert len(evaluator._pool.starting) == (0 if workers == "auto" else 2)


def test_nothing_to_run_on_is_refused_at_once(cluster, on_cluster):
    """A head without CPUs and no autoscaler: waiting would be for ever."""
    with pytest.raises(UsageError, match="the cluster has 0 CPUs, room for 0 such workers"):
        on_cluster(PARTS)


def test_a_cluster_may_lose_all_its_nodes(cluster, nodes, on_cluster, monkeypatch):
    """A reboot of the only machine must not end a run that had workers; but an unattended
    run must not wait on an empty cluster for ever."""
    from distes.evaluators import headcount

    (only,) = nodes(1)
    (expected,) = serially(settle(FunctionTask(sphere, 2)), POPULATION)
    evaluator = all_there(on_cluster(PARTS), 2, 2)
    # On a busy machine the start itself may have been late enough to be spoken of.
    step_until(evaluator, lambda: not evaluator._pool._headcount._told)
    monkeypatch.setattr(headcount, "PLACED_WITHIN_S", 0.5)
    pending = evaluator.submit(POPULATION, KEY)
    step_until(evaluator, lambda: pending.missing <= 200)
    cluster.remove_node(only, allow_graceful=True)
    with pytest.warns(Notice, match="room for 0 such workers"):
        step_until(evaluator, lambda: evaluator._pool._headcount._told)
    (second,) = nodes(1)
    assert_equal(pending.result().episodes, expected.episodes)
    monkeypatch.setattr(headcount, "DESERTED_S", 1.0)
    cluster.remove_node(second, allow_graceful=True)
    with pytest.raises(RunFailed, match=r"all nodes are gone.*can be resumed"):
        evaluator.submit(POPULATION, KEY).result()


@dataclasses.dataclass(frozen=True)
class Greedy:
    """Takes memory without end for candidates above a limit."""

    __name__ = "greedy"

    def __call__(self, parameters):
        hoard = []
        while parameters[0] > 0.5:
            hoard.append(np.ones(25_000_000))  # 200 MB
            time.sleep(0.02)
            if len(hoard) > 60:
                raise MemoryError("nobody ended this process")
        return sphere(parameters)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_candidate_that_takes_all_memory_is_given_up(no_ray):
    """Ray ends the process before the machine runs out; that is the candidate's doing."""
    import psutil

    memory = psutil.virtual_memory()
    if memory.available < 8e9:
        pytest.skip("needs 8 GB of free memory")
    threshold = (memory.total - memory.available + 2.5e9) / memory.total
    directory = tempfile.mkdtemp(prefix="r", dir="/tmp")
    ray.init(
        address="local", num_cpus=2, include_dashboard=False, log_to_driver=False,
        logging_level="error", object_store_memory=100_000_000, _temp_dir=directory,
        _node_ip_address="127.0.0.2",
        _system_config={"memory_usage_threshold": threshold, "memory_monitor_refresh_ms": 50},
    )  # fmt: skip
    table = np.zeros((12, 2))
    table[5, 0] = 1.0
    population = Population(Table(table), 12)
    try:
        evaluator = RayEvaluator(*settle(FunctionTask(Greedy(), 2)), workers=2)
        try:
            answer = evaluator.submit(population, KEY).result()
        finally:
            evaluator.close()
    finally:
        ray.shutdown()
        shutil.rmtree(directory, ignore_errors=True)
    expected = np.full(12, Status.OK)
    expected[5] = Status.CRASHED
    np.testing.assert_array_equal(answer.episodes.status, expected)
    reasons = [e["reason"] for e in answer.events if e["kind"] == "worker_lost"]
    assert "out of memory" in reasons


def test_a_killed_worker_process_is_replaced(nodes, on_cluster):
    """SIGKILL from outside, again and again: the run goes on, and nothing is marked."""
    nodes(2)
    (expected,) = serially(settle(FunctionTask(sphere, 2)), POPULATION)
    evaluator = all_there(on_cluster(PARTS, workers=4), 4, 2)
    pids = [
        ray.get(hand.actor.__ray_call__.remote(lambda _: os.getpid()))
        for hand in evaluator._pool.handles.values()
    ]
    murder = [(share, lambda: os.kill(pids.pop(), signal.SIGKILL)) for share in (0.1, 0.3, 0.5)]
    answer = drive(evaluator, *murder)
    assert_equal(answer.episodes, expected.episodes)
    assert kinds(answer).count("worker_lost") == 3
    until(evaluator, lambda: ready(evaluator) == 4, "replacing")


HEAD_ID = "f" * 51 + "00000"
"""How Ray's fake provider calls the head."""

FAKE_PROVIDER = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"


def cloud(address):
    """Ray's fake cloud: up to three nodes of two CPUs, taken away after some idle seconds."""
    commands = ("initialization", "setup", "head_setup", "worker_setup")
    commands += ("head_start_ray", "worker_start_ray")
    return {
        "cluster_name": "fake",
        "max_workers": 4,
        "upscaling_speed": 10.0,
        "idle_timeout_minutes": 0.05,
        "provider": {
            "type": "external",
            "module": FAKE_PROVIDER,
            "gcs_address": address,
            "head_node_id": HEAD_ID,
            "launch_multiple": True,
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
        },
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "spot": {
                "resources": {"CPU": 2, "object_store_memory": 100_000_000},
                "node_config": {},
                "min_workers": 0,
                "max_workers": 3,
            },
        },
        "head_node_type": "ray.head.default",
        **{name: {} for name in ("docker", "auth", "file_mounts")},
        **{name: [] for name in ("cluster_synced_files", "rsync_exclude", "rsync_filter")},
        **{f"{name}_commands": [] for name in commands},
        "file_mounts_sync_continuously": False,
    }


@pytest.fixture(params=["v1", "v2"])
def autoscaling(request, no_ray):
    """A head without CPUs whose autoscaler starts raylets here; connected to."""
    directory = Path(tempfile.mkdtemp(prefix="r", dir="/tmp"))
    host = "127.0.0.2"
    with socket.socket() as probe:
        probe.bind((host, 0))
        port = probe.getsockname()[1]
    config = directory / "cloud.json"
    config.write_text(json.dumps(cloud(f"{host}:{port}")))
    environment = os.environ | {"AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_FAKE_CLUSTER": "1"}
    if request.param == "v2":
        environment |= {
            "RAY_enable_autoscaler_v2": "1",
            "RAY_CLOUD_INSTANCE_ID": HEAD_ID,
            "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID,
        }
    command = [RAY, "start", "--head", "--block", "--port", str(port), "--num-cpus", "0"]
    command += ["--node-ip-address", host, "--include-dashboard", "false"]
    command += ["--object-store-memory", "100000000", "--temp-dir", str(directory)]
    command += ["--autoscaling-config", str(config)]
    with (directory / "head.log").open("w") as log:
        # The nodes are the autoscaler's children: a session of their own ends them all.
        head = subprocess.Popen(
            command, env=environment, start_new_session=True, stdout=log, stderr=log
        )
    try:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                socket.create_connection((host, port), 1).close()
                ray.init(address=f"{host}:{port}", logging_level="error", log_to_driver=False)
                break
            except (OSError, RuntimeError):
                assert time.monotonic() < deadline, (directory / "head.log").read_text()
                time.sleep(0.2)
        yield
    finally:
        ray.shutdown()
        os.killpg(head.pid, signal.SIGKILL)  # a friendlier signal is answered after 30 s
        head.wait(PATIENCE_S)
        shutil.rmtree(directory, ignore_errors=True)


def test_the_autoscaler_is_asked_for_workers_and_released(autoscaling):
    """From a cluster without any room to the number asked for, and back when the run ends."""
    evaluator = RayEvaluator(*PARTS, workers=3)
    try:
        (expected,) = serially(settle(FunctionTask(sphere, 2)), POPULATION)
        answer = evaluator.submit(POPULATION, KEY).result()  # no refusal: nodes will come
        assert_equal(answer.episodes, expected.episodes)
        until(evaluator, lambda: ready(evaluator) == 3, "scaling up")
        assert len([cpus for cpus in view_of.read_state().cpus.values() if cpus]) >= 2
    finally:
        evaluator.close()
    deadline = time.monotonic() + PATIENCE_S
    while any(view_of.read_state().cpus.values()):
        assert time.monotonic() < deadline, "nodes stay although nobody needs them"
        time.sleep(0.5)
