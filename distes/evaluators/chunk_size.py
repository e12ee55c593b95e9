"""How many episodes a chunk may have, for its answer to travel inline."""

from __future__ import annotations

from distes.engines.base import empty_trajectory
from distes.engines.wire import ROW
from distes.policies.base import Policy
from distes.population.probes import report
from distes.population.records import Population
from distes.tasks.base import AnyTask
from distes.tasks.environment import Task

EPISODES_PER_CHUNK = 2048
INLINE_BYTES = 80_000  # answers below 100 KB travel with the reply and outlive their node


def find_largest_size(population: Population, task: AnyTask, policy: Policy) -> int:
    """Find how many episodes an answer that travels inline may hold."""
    room, sums = INLINE_BYTES, 0
    info: tuple[str, ...] = ()
    if isinstance(task, Task):
        nothing = report(population.probes, empty_trajectory(policy), policy, population.frozen)
        # A chunk, being aligned, ships one node of sums.
        sums = sum(value.nbytes for value in nothing.values())
        info = task.log_info
    if sums < INLINE_BYTES:  # larger sums never travel inline; the fewer chunks the better
        room -= sums
    imposed = 0 if population.contexts is None else int(population.contexts.shape[1])
    each = int(ROW.itemsize) + 8 * (max(imposed, task.num_contexts) + len(info))
    return min(EPISODES_PER_CHUNK, max(1, room // each))
