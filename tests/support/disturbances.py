"""A run on several nodes of this machine, and all that may happen to it.

Shared by the test and the benchmark. Everything runs on the loopback interface, and ends
by its own handle.
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from paths import SUPPORT

import distes
from distes.runs import codec
from distes.search.search import Search

LEAVING = ("node killed", "node removed", "node drained")

PATIENCE_S = 180
"""Long enough for the slowest machine; nothing waits for it unless something is broken."""

TIMING = ["attempt", "worker", "node", "started_at", "duration_s"]
ABOUT_THE_SESSION = ["workers", "chunks", "retries", "duplicates", "utilisation"]
"""Columns that tell how a run went, and not what came out; with all that end in ``_s``."""


def schedule(counts: dict[str, int], generator: random.Random, nodes: int) -> list[str]:
    """Order faults at random, so that one to five nodes are there at any time."""
    kinds = [kind for kind, count in counts.items() for _ in range(count)]
    while True:
        generator.shuffle(kinds)
        here, all_fine = nodes, True
        for kind in kinds:
            here += (kind == "node added") - (kind in LEAVING)
            all_fine &= 1 <= here <= 5
        if all_fine:
            return kinds


class Stage:
    """A head without CPUs, nodes of two CPUs, and a driver: a process of its own.

    Use it in a ``with`` statement, on the main thread.

    Args:
        out: run directory.
        settings: as in a configuration file; the environment is `environments.paced`.
        generator: chooses whom a fault strikes.
        nodes: besides the head, at the beginning.

    Attributes:
        faults: what was done: seconds since the beginning, generation, kind, to whom.
    """

    def __init__(
        self, out: Path, settings: dict[str, Any], generator: random.Random, nodes: int = 3
    ) -> None:
        self.out = out
        self.faults: list[dict[str, Any]] = []
        self._generator = generator
        self._first_nodes = nodes
        # Paths of sockets may have 107 bytes.
        self._directory = Path(tempfile.mkdtemp(prefix="r", dir="/tmp"))
        self._pace = self._directory / "pace"
        self._log = self._directory / "driver.log"
        self.settings = {
            "env": "environments:paced",
            "env_kwargs": {"pace": str(self._pace)},
            **settings,
        }
        self._driver: subprocess.Popen[bytes] | None = None
        self._hosts = 2
        self._committed = 0
        self._began = time.monotonic()

    def __enter__(self) -> Stage:
        from ray.cluster_utils import Cluster

        self._cluster = Cluster()
        try:
            self._add_node(cpus=0, include_dashboard=False, temp_dir=str(self._directory))
            for _ in range(self._first_nodes):
                self._add_node()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._driver is not None and self._driver.poll() is None:
            self._driver.kill()
            self._driver.wait()
        self._cluster.shutdown()
        shutil.rmtree(self._directory, ignore_errors=True)

    def undisturbed(self, out: Path) -> None:
        """Run the same in this process, in as little time as it takes."""
        from distes.search.config_file import from_config

        assert not self._pace.exists()
        search = from_config(self.settings, Search)
        search.workers, search.out = 0, out
        search.run()

    def pace(self, pace: float | str) -> None:
        """Say how long episodes take on average, in seconds, or ``hold``."""
        beside = self._pace.with_suffix(".new")
        beside.write_text(str(pace))
        beside.replace(self._pace)

    def begin(self) -> None:
        """Start the driver."""
        import tomli_w

        config = self._directory / "search.toml"
        config.write_text(tomli_w.dumps(self.settings))
        self._began = time.monotonic()
        self._start("run", str(config), "--out", str(self.out))

    def end(self) -> float:
        """Wait for the run to finish; gives the seconds since it began."""
        assert self._driver is not None
        generations = -1
        while self._driver.poll() is None:
            generations = self._progress(generations + 1, until_done=True)
        if self._driver.returncode:
            raise RuntimeError(f"the driver ended with an error:\n{self._tail()}")
        return time.monotonic() - self._began

    def wait_for(self, generation: int) -> None:
        """Wait until so many generations are on disk."""
        while self.committed() < generation:
            self._progress(self.committed() + 1)

    def disturb(self, kind: str, pace: float, *, hold: bool = False) -> None:
        """Do something to the run.

        Args:
            kind: ``worker killed``, ``node killed``, ``node removed``, ``node drained``,
                ``node added``, ``driver killed``, ``driver killed while it resumes`` or
                ``driver stopped``.
            pace: of the episodes.
            hold: let no episode end meanwhile: it happens in the middle of all that run.
        """
        if hold:
            self.pace("hold")
        fault = {
            "at_s": round(time.monotonic() - self._began, 2),
            "generation": self.committed(),
            "kind": kind,
            "events": len(distes.load(self.out).events),
        }
        fault["whom"] = self._act(kind, pace)
        fault["took_s"] = round(time.monotonic() - self._began - fault["at_s"], 2)
        self.faults.append(fault)
        self.pace(pace)

    def traced(self, fault: dict[str, Any]) -> bool:
        """Whether the run's events show that a fault has struck it."""
        whom = fault["whom"]
        for event in distes.load(self.out).events[fault["events"] :]:
            match event["kind"]:
                case "worker_lost" if fault["kind"] == "worker killed":
                    traced = event["reason"] == "process died"
                case "worker_lost" | "worker_left" if fault["kind"] in LEAVING:
                    traced = event["node_id"] == whom
                case "worker_joined" if fault["kind"] == "node added":
                    traced = event["node_id"] == whom
                case "resumed":
                    traced = fault["kind"].startswith("driver")
                case _:
                    traced = False
            if traced:
                return True
        return False

    def wait_for_trace(self) -> None:
        """Wait until the last fault shows."""
        self._until(lambda: self.traced(self.faults[-1]), f"a trajectory of {self.faults[-1]}")

    def _act(self, kind: str, pace: float) -> str:
        if kind == "worker killed":
            worker = self._generator.choice(self._running())
            worker.kill()
            return f"process {worker.pid}"
        if kind == "node added":
            return str(self._add_node().node_id)
        if kind in LEAVING:
            node = self._generator.choice(self._nodes())
            if kind == "node drained":
                self._drain(node.node_id)
                self.pace(pace)
                self._until(lambda: not self._workers(node), "workers leaving a draining node")
            self._cluster.remove_node(node, allow_graceful=kind == "node removed")
            return str(node.node_id)
        assert self._driver is not None
        struck = f"process {self._driver.pid}"
        self._driver.send_signal(signal.SIGTERM if kind == "driver stopped" else signal.SIGKILL)
        code = self._driver.wait(PATIENCE_S)
        if code != (143 if kind == "driver stopped" else -signal.SIGKILL):
            raise RuntimeError(f"the driver left with {code}:\n{self._tail()}")
        self._resume()
        if kind == "driver killed while it resumes":
            time.sleep(self._generator.uniform(0.5, 4.0))
            self._driver.kill()
            self._driver.wait()
            self._resume()
        return struck

    def _resume(self) -> None:
        self._start("resume", str(self.out))

    def _start(self, *arguments: str) -> None:
        path = [str(Path(distes.__file__).parents[1]), str(SUPPORT)]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path)}
        command = [sys.executable, "-m", "distes", *arguments]
        command += ["--address", self._cluster.address]
        with self._log.open("ab") as log:
            self._driver = subprocess.Popen(
                command, env=environment, cwd=self._directory, stdout=log, stderr=log
            )

    def _add_node(self, cpus: int = 2, **settings: Any) -> Any:
        host = f"127.0.0.{self._hosts}"
        self._hosts += 1
        return self._cluster.add_node(
            num_cpus=cpus, object_store_memory=100_000_000, node_ip_address=host, **settings
        )

    def _drain(self, node_id: str) -> None:
        command = [sys.executable, "-m", "ray.scripts.scripts", "drain-node"]
        command += ["--address", self._cluster.address, "--node-id", node_id]
        command += ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot"]
        command += ["--deadline-remaining-seconds", "600"]
        subprocess.run(command, check=True, timeout=PATIENCE_S, capture_output=True)

    def _workers(self, node: Any, doing: str = "") -> list[Any]:
        """The run's worker processes on a node; those that run a method just now."""
        import ray  # noqa: F401 - it brings psutil
        from psutil import NoSuchProcess, Process

        def title(process: Any) -> str:
            try:
                return "".join(process.cmdline()[:1])
            except NoSuchProcess:  # it has just ended
                return ""

        try:
            children = Process(node.all_processes["raylet"][0].process.pid).children()
        except NoSuchProcess:
            return []
        return [each for each in children if title(each).startswith(f"ray::DistesWorker{doing}")]

    def _running(self) -> list[Any]:
        """Worker processes that run a chunk just now; waits for one."""
        found: list[Any] = []

        def look() -> bool:
            for node in self._nodes():
                found.extend(self._workers(node, ".run"))
            return bool(found)

        self._until(look, "a worker running a chunk")
        return found

    def _nodes(self) -> list[Any]:
        return sorted(self._cluster.worker_nodes, key=lambda each: str(each.node_id))

    def _until(self, condition: Any, what: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            ended = self._driver is not None and self._driver.poll() is not None
            if ended or time.monotonic() > deadline:
                raise TimeoutError(f"{what} did not happen:\n{self._tail()}")
            time.sleep(0.02)

    def _progress(self, generation: int, *, until_done: bool = False) -> int:
        """Wait until so many generations are on disk, or the driver is done."""
        driver = self._driver
        assert driver is not None
        deadline = time.monotonic() + PATIENCE_S
        while (committed := self.committed()) < generation:
            if driver.poll() is not None:
                if until_done:
                    return committed
                raise RuntimeError(f"the driver ended too early:\n{self._tail()}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"no generation in {PATIENCE_S} s:\n{self._tail()}")
            time.sleep(0.1)
        return committed

    def committed(self) -> int:
        """How many generations are on disk."""
        try:
            snapshot = distes.load(self.out).snapshot()
        except (distes.UsageError, OSError):  # not begun, or replaced by the next just now
            snapshot = None
        if snapshot is not None:
            self._committed = snapshot.generation
        return self._committed

    def _tail(self) -> str:
        return self._log.read_text()[-3000:]


def differences(one: Path, other: Path) -> dict[str, int]:
    """Count the values in which two finished runs differ, where they must not.

    Args:
        one: run directory.
        other: of the run that it should equal.

    Returns:
        By table and column; ``lost`` and ``doubled`` rows; empty if there is nothing.
    """
    left, right = distes.load(one), distes.load(other)
    counts: Counter[str] = Counter()
    for name in ("generations", "episodes", "evaluations"):
        a, b = getattr(left, name), getattr(right, name)
        keys = ["purpose", "generation", "call", "candidate", "episode"]
        keys = [key for key in keys if key in b]
        doubled = a.duplicated(keys)
        counts[f"{name}: doubled"] = int(doubled.sum())
        a, b = (table.set_index(keys).sort_index() for table in (a[~doubled], b))
        counts[f"{name}: lost"] = len(b.index.difference(a.index))
        counts[f"{name}: too many"] = len(a.index.difference(b.index))
        both = a.index.intersection(b.index)
        counts[f"{name}: columns"] = len(a.columns.symmetric_difference(b.columns))
        for column in b.columns.intersection(a.columns):
            if not (column.endswith("_s") or column in (*TIMING, *ABOUT_THE_SESSION)):
                unequal = _written(a.loc[both, column]) != _written(b.loc[both, column])
                counts[f"{name}: {column}"] = int(unequal.sum())
    for generation in right.generations["generation"]:
        a, b = (codec.dumps(run.population(int(generation))) for run in (left, right))
        counts["populations"] += a != b
    counts["result"] = int(_result(left) != _result(right))
    return {name: count for name, count in counts.items() if count}


def _written(column: pd.Series[Any]) -> pd.Series[Any]:
    """Values as bytes or text, to the last bit."""
    return column.map(lambda value: value.tobytes() if hasattr(value, "tobytes") else repr(value))


def _result(run: distes.Run) -> tuple[bytes, set[str]]:
    """What a run ended with: its last state, and what it said of its result."""
    snapshot = dataclasses.replace(run.snapshot(), elapsed_s=0.0)
    finished = [event for event in run.events if event["kind"] == "finished"]
    said = {json.dumps(event | {"time": None}, sort_keys=True) for event in finished}
    return codec.dumps(snapshot), said


def storm(
    stage: Stage,
    kinds: Sequence[str],
    generator: random.Random,
    *,
    pace: float,
    gap: tuple[int, int],
    certain: bool = False,
) -> float:
    """Run through all that is to happen, to the end.

    Args:
        stage: whose run has not begun.
        kinds: of faults, in this order.
        generator: of the moments.
        pace: seconds that an episode takes on average.
        gap: fewest and most generations between faults.
        certain: hold the episodes while a fault is on its way, so that it cannot come too
            late, and wait for its trajectory before the next.

    Returns:
        Seconds that the run took.
    """
    stage.pace(pace)
    stage.begin()
    stage.wait_for(1)
    for kind in kinds:
        stage.wait_for(stage.committed() + generator.randint(*gap))
        time.sleep(generator.uniform(0.0, 1.0))
        stage.disturb(kind, pace, hold=certain)
        if certain:
            stage.wait_for_trace()
    if certain:
        stage.pace(0)
    return stage.end()
