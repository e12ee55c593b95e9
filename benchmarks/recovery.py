"""What a lost worker, a lost node and a killed driver cost in seconds.

- Four workers on three nodes of this machine, episodes that sleep 50 ms. In every second
  generation a worker's process, or a node's raylet, is killed at a random moment of its
  first half: a raylet's end is noticed after some seconds, and is to cost them here. Cost:
  seconds of the generation beyond the median of those left in peace, and beyond the work
  that was lost: the time that had gone into the chunks that ran on what was killed.
- A driver is killed in the middle of its run and resumed on the cluster, which is up:
  seconds from joining Ray to the end of its first generation, one generation's own length
  included.

    python benchmarks/recovery.py [--repetitions N] [--out benchmarks/results]
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

# Before anything imports ray.
os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))

import numpy as np
import ray
from common import keep, options
from ray.cluster_utils import Cluster

import distes
from distes.evaluators.ray import RayEvaluator
from distes.population.distributions import Gaussian
from distes.population.records import Population, RunKey
from distes.runs.writer import RunLog
from distes.seeds import noise_key

WORKERS = 4
EPISODE_S = 0.05
EPISODES = 640
PATIENCE_S = 120


def sleep(parameters: Any) -> float:
    """An environment that waits for its simulator."""
    time.sleep(EPISODE_S)
    return float(parameters[0])


class Nodes:
    """A head without CPUs, and nodes of two CPUs with addresses of their own."""

    def __init__(self, directory: str) -> None:
        self.cluster = Cluster()
        self._hosts = 2
        self._add(num_cpus=0, include_dashboard=False, temp_dir=directory)

    def add(self) -> None:
        """Add a node, and wait until the cluster counts on it."""
        self._add(num_cpus=2)
        self.cluster.wait_for_nodes()

    def _add(self, **settings: Any) -> None:
        host = f"127.0.0.{self._hosts}"
        self._hosts += 1
        self.cluster.add_node(object_store_memory=100_000_000, node_ip_address=host, **settings)


@contextmanager
def nodes(count: int) -> Iterator[Nodes]:
    # Paths of sockets may have 107 bytes.
    directory = tempfile.mkdtemp(prefix="r", dir="/tmp")
    made = Nodes(directory)
    try:
        for _ in range(count):
            made.add()
        yield made
    finally:
        made.cluster.shutdown()
        shutil.rmtree(directory, ignore_errors=True)


class Bench:
    """Generations, one after the other, and what was told of them."""

    def __init__(self, evaluator: RayEvaluator) -> None:
        self.evaluator = evaluator
        self.pids: dict[int, tuple[int, str]] = {}
        self.lost: list[dict[str, Any]] = []
        self.ready_at: list[float] = []
        self._generation = 0
        pool = evaluator._workers
        joined = pool.join

        def timed(*arguments: Any) -> Any:
            hand = joined(*arguments)
            self.ready_at.append(time.perf_counter())
            return hand

        pool.join = timed  # type: ignore[method-assign]

    def run(self, size: int = EPISODES) -> float:
        """Run one generation; gives its seconds."""
        self._generation += 1
        key = noise_key(0, self._generation)
        population = Population(Gaussian(np.zeros(2), np.ones(2), key), size)
        began = time.perf_counter()
        answer = self.evaluator.submit(population, RunKey(0, self._generation)).result()
        took = time.perf_counter() - began
        for event in answer.events:
            if event["kind"] == "worker_joined":
                self.pids[event["worker"]] = event["pid"], event["node_id"]
            elif event["kind"] == "worker_lost":
                self.lost.append(dict(event))
                del self.pids[event["worker"]]
        return took

    def settle(self) -> None:
        """Go on until all workers are there, and what left has been told of."""
        deadline = time.monotonic() + PATIENCE_S
        while len(self.pids) != WORKERS:
            assert time.monotonic() < deadline, "workers are missing"
            self.run(2 * WORKERS)
        for _ in range(3):
            self.run(8 * WORKERS)


def losses(repetitions: int, *, node: bool) -> dict[str, Any]:
    generator = random.Random(1)
    with nodes(3) as cluster:
        ray.init(address=cluster.cluster.address, logging_level="error", log_to_driver=False)
        task = distes.FunctionTask(sleep, 2)
        bench = Bench(RayEvaluator(task, task.build_policy(None), "function", workers=WORKERS))
        bench.settle()
        quiet, struck, lost_s, workers, noticed = [], [], [], [], 0
        absent_s, replaced_s = [], []
        for _ in range(repetitions):
            quiet.append(bench.run())
            number, (pid, node_id) = generator.choice(sorted(bench.pids.items()))
            home = next(n for n in cluster.cluster.worker_nodes if n.node_id == node_id)
            raylet = home.all_processes["raylet"][0].process
            moment = generator.uniform(0.1, 0.5) * median(quiet)
            before = len(bench.lost)
            strike = partial(_end, raylet) if node else partial(os.kill, pid, signal.SIGKILL)
            timer = threading.Timer(moment, strike)
            at = time.perf_counter() + moment
            timer.start()
            struck.append(bench.run())
            ended = time.perf_counter()
            timer.join()
            noticed += len(bench.lost) > before
            if node:
                cluster.cluster.remove_node(home, allow_graceful=False)
                cluster.add()
            bench.settle()
            told = bench.lost[before:]
            assert number in {event["worker"] for event in told}, told
            workers.append(len(told))
            back = sorted(ready for ready in bench.ready_at if ready > at)[: len(told)]
            replaced_s.append(max(back) - at)
            absent_s.append(sum(min(ready, ended) - at for ready in back) / WORKERS)
            # A loss that is noticed late had no more work in it than its chunks' own length.
            lost_s.append(sum(min(e["lost_s"], EPISODE_S * _episodes(e)) for e in told))
        bench.evaluator.close()
        ray.shutdown()
    costs = [took - median(quiet) - lost for took, lost in zip(struck, lost_s, strict=True)]
    what = "raylet of one of three nodes" if node else "one of four workers"
    return {
        "measure": f"SIGKILL of {what}: seconds beyond the work lost",
        "median": median(costs),
        "largest": max(costs),
        "lost_s": median(lost_s),
        "absent_s": median(absent_s),
        "replaced_s": median(replaced_s),
        "generation_s": median(quiet),
        "spread_s": max(quiet) - min(quiet),
        "workers_lost": f"{min(workers)} to {max(workers)}",
        "noticed": noticed,
        "count": repetitions,
    }


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill and reap: while a raylet is a zombie, its workers believe that it lives."""
    process.kill()
    process.wait()


def _episodes(event: dict[str, Any]) -> int:
    """Size of the chunk that ran, the largest to be run again; 0 if another has answered."""
    return max((stop - start for start, stop in event["retried"]), default=0)


def resumes(repetitions: int) -> list[dict[str, Any]]:
    """Kill and resume a driver, again and again."""
    from_command, from_join, generation = [], [], []
    with nodes(2) as cluster, tempfile.TemporaryDirectory() as folder:
        out, address = str(Path(folder) / "run"), cluster.cluster.address
        for turn in range(repetitions + 1):
            launched = time.time()
            process = subprocess.Popen(
                [sys.executable, __file__, "resume" if turn else "begin", out, address],
                stdout=subprocess.PIPE,
                text=True,
            )
            joined, done = 0.0, []
            for stamp in _stamps(process):
                if stamp["what"] == "joined":
                    joined = stamp["time"]
                else:
                    done.append(stamp["time"])
                if len(done) == 20:  # the first seconds are on disk by then
                    break
            process.kill()
            process.wait()
            if turn:
                from_command.append(done[0] - launched)
                from_join.append(done[0] - joined)
                generation.append(float(np.median(np.diff(done[5:]))))
    common = {
        "lost_s": float("nan"),
        "absent_s": float("nan"),
        "replaced_s": float("nan"),
        "generation_s": median(generation),
        "spread_s": float("nan"),
        "workers_lost": "",
        "noticed": "",
        "count": repetitions,
    }
    return [
        {
            "measure": f"driver killed and resumed: seconds from {what} to a generation's end",
            "median": median(values),
            "largest": max(values),
            **common,
        }
        for what, values in (("joining Ray", from_join), ("the command", from_command))
    ]


def _stamps(process: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("{"):
            yield json.loads(line)
    raise RuntimeError(f"the driver ended by itself, with {process.wait()}")


def drive(command: str, out: str, address: str) -> None:
    """Be a driver that tells the time: when it has joined Ray, and after each generation."""
    from distes.cli import main as distes_main
    from distes.evaluators import ray as evaluator

    def told(what: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            print(json.dumps({"what": what, "time": time.time()}), flush=True)
            return result

        return wrapped

    evaluator.connect = told("joined", evaluator.connect)
    RunLog.add_generation = told("generation", RunLog.add_generation)  # type: ignore[method-assign]
    if command == "resume":
        distes_main(["resume", out, "--address", address])
        return
    pace = Path(out).with_name("pace")
    pace.write_text(str(EPISODE_S))
    kwargs = json.dumps({"pace": str(pace)})
    # A floor under the width: the search must not end while it is killed and resumed.
    arguments = ["environments:paced", "--env-kwargs", kwargs, "--population", "16"]
    arguments += ["--strategy", "cem", "--strategy.min-std", "0.1"]
    distes_main(["run", *arguments, "--generations", "none", "--address", address, "--out", out])


def main() -> None:
    if sys.argv[1:2] in (["begin"], ["resume"]):  # a driver that this benchmark started, to kill
        drive(*sys.argv[1:])
        return
    parser = options(__doc__)
    parser.add_argument("--repetitions", type=int, default=12)
    given = parser.parse_args()
    repetitions = given.repetitions
    rows = [losses(repetitions, node=node) for node in (False, True)]
    keep("recovery", [*rows, *resumes(repetitions)], given.out)


if __name__ == "__main__":
    main()
