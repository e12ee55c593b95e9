"""What can be seen of a Ray cluster: its nodes, its room, what is about to go or to come.

The one place that reads what Ray does not show in its public interface.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import ray
from ray._private import ray_constants, state
from ray.autoscaler.v2.utils import is_autoscaler_v2
from ray.experimental import internal_kv


@dataclass(frozen=True)
class ClusterState:
    """A cluster at one moment."""

    cpus: Mapping[str, float]  # of each node that is alive and stays, by node id
    free: Mapping[str, float]  # CPUs of each of these nodes that nobody uses
    draining: frozenset[str]  # ids of nodes that are about to go

    def room(self, cpus_per_worker: float) -> int:
        """How many workers the nodes could hold if they were empty."""
        return sum(_count_fitting(cpus, cpus_per_worker) for cpus in self.cpus.values())

    def vacant(self, cpus_per_worker: float) -> int:
        """How many more workers fit now."""
        return sum(_count_fitting(cpus, cpus_per_worker) for cpus in self.free.values())


def read_state() -> ClusterState:
    """Look at the cluster that this process is connected to."""
    draining = frozenset(state.state.get_draining_nodes())
    cpus = {
        str(node["NodeID"]): float(node["Resources"].get("CPU", 0))
        for node in ray.nodes()
        if node["Alive"] and node["NodeID"] not in draining
    }
    available = state.available_resources_per_node()
    free = {node: float(available.get(node, {}).get("CPU", 0)) for node in cpus}
    return ClusterState(cpus, free, draining)


def count_nodes() -> int:
    """Count the nodes that are alive."""
    return sum(bool(node["Alive"]) for node in ray.nodes())


def is_node_alive(node_id: str) -> bool:
    """Whether the cluster still counts on a node."""
    return any(node["NodeID"] == node_id and node["Alive"] for node in ray.nodes())


def find_death_time(actor_id: str) -> float | None:
    """Find when an actor died, in seconds since the epoch; None where it lives or is unknown."""
    ended = (state.actors(actor_id) or {}).get("EndTime")
    return float(ended) / 1e3 if ended else None


def can_grow() -> bool:
    """Whether an autoscaler may bring further nodes.

    Where there is none, Ray runs one that only looks on, and names each node after itself.
    The second version does not say what it could bring; it is on where somebody set it up.
    """
    if is_autoscaler_v2(fetch_from_server=True):
        return True
    status = internal_kv._internal_kv_get(ray_constants.DEBUG_AUTOSCALING_STATUS)
    report = (json.loads(status).get("autoscaler_report") or {}) if status else {}
    kinds = [*report.get("active_nodes", {}), *report.get("pending_launches", {})]
    return any(not kind.startswith("node_") for kind in kinds)


def _count_fitting(cpus: float, cpus_per_worker: float) -> int:
    return int(cpus / cpus_per_worker + 1e-9)
