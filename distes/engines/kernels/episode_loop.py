"""Whole episodes: two functions that are compiled with an environment and a policy.

Each pair has a program of its own, with the pair's functions in the place of the names that
are declared below: see `compile_program`.
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any, NamedTuple, TypeAlias

import numba
import numpy as np

from distes.engines.kernels.jit import jit
from distes.engines.kernels.kernel import Choose
from distes.engines.kernels.random import seed_environment, seed_policy
from distes.types import Array

Numbers: TypeAlias = Array
Integers: TypeAlias = Array
Flags: TypeAlias = Array
Table: TypeAlias = Array
Words: TypeAlias = Array

MACHINE_TYPES = {
    "Numbers": "float64[::1]",
    "Integers": "int64[::1]",
    "Flags": "boolean[::1]",
    "Table": "float64[:, ::1]",
    "Words": "uint64[:, ::1]",
    "int": "int64",
}
"""What numba compiles for, by the annotations of `begin` and `run`; it refuses other arrays."""

# The functions of the pair, and whether its actor samples.
reset: Callable[[Array, Array, Array, Array], None]
observe: Callable[[Array, Array, Array], None]
step: Callable[[Array, Array, Array, Array], tuple[float, bool]]
show: Callable[[Array, Array, Array], None]
inform: Callable[[Array, Array, Array], None]
choose: Choose
decode: Callable[[Array, Array, Array], None]
SAMPLES: bool


class Program(NamedTuple):
    """`begin` and `run`, compiled for a pair."""

    begin: Callable[..., None]
    run: Callable[..., None]


def compile_program(names: dict[str, Any], *, cache: bool) -> Program:
    """Compile `begin` and `run` for a pair, whose functions stand for the names declared above.

    With ``cache`` numba's own cache may be asked first, and keep what is compiled. It finds
    functions by their module and what they are called: not those in closures.
    """
    functions: tuple[Any, ...] = (begin, run)
    compiled = []
    for function in functions:
        *arguments, _ = function.__annotations__.values()
        signature = f"void({', '.join(MACHINE_TYPES[name] for name in arguments)})"
        compiler = numba.njit(signature, cache=cache, error_model="numpy", nogil=True)
        compiled.append(compiler(FunctionType(function.__code__, globals() | names)))
    return Program(*compiled)


def begin(
    seeds: Integers,
    imposed: Table,
    constants: Numbers,
    states: Table,
    generators: Words,
    observations: Table,
    contexts: Table,
) -> None:
    """Reset episodes.

    Args:
        seeds: (m,) int64.
        imposed: (m, c) contexts, c = 0 for none.
        constants: of the kernel.
        states: (m, s) zeros, written.
        generators: (m, 4) uint64, written.
        observations: (m, k) written.
        contexts: (m, c') written, if the environment shows any.
    """
    for i in range(len(seeds)):
        seed_environment(generators[i], seeds[i])
        reset(states[i], generators[i], imposed[i], constants)
        observe(states[i], constants, observations[i])
        if contexts.shape[1]:
            show(states[i], constants, contexts[i])


def run(
    states: Table,
    generators: Words,
    observations: Table,
    seeds: Integers,
    parameters: Table,
    rows: Integers,
    constants: Numbers,
    settings: Numbers,
    scaling: Table,
    normal: Table,
    about: Table,
    limit: int,
    shape: Integers,
    returns: Numbers,
    lengths: Integers,
    ended: Flags,
    info: Table,
    moments: Table,
    ends: Integers,
    record: Table,
    record_choices: Table,
    record_rewards: Numbers,
) -> None:
    """Run episodes from their resets to their ends.

    Args:
        states, generators, observations: as `begin` left them, used up.
        seeds: (m,) from which the policy's generators follow.
        parameters: (p, d).
        rows: (m,) which of them an episode has.
        constants: of the kernel.
        settings: of the actor.
        scaling: (2, k) centre and factor of observations, or (0, k).
        normal: (2, k) mean and deviation of observations, or (0, k).
        about: (1, k) centre of the moments, or (0, k) for none.
        limit: steps, 0 for none.
        shape: (3,) memory, choices, actions.
        returns: (m,) written.
        lengths: (m,) written; -1 - steps where the observation after so many is not finite: it
            is what observations hold, and the episode has no results.
        ended: (m,) bool, terminated, written.
        info: (m, i) written.
        moments: (m, 2k) sums and sums of squares, written.
        ends: (m,) where an episode's records end, or (0,) for none.
        record: (T, k) observations, written; record_choices: (T, c); record_rewards: (T,).
    """
    size = observations.shape[1]
    memory = np.zeros(shape[0])
    choice = np.zeros(shape[1])
    action = np.zeros(shape[2])
    features = np.zeros(size)
    policy_generator = np.zeros(8, np.uint64)
    records = len(ends) > 0
    for i in range(len(seeds)):
        state, generator, seen = states[i], generators[i], observations[i]
        theta = parameters[rows[i]]
        if len(scaling):
            _scale(seen, scaling)
        memory[:] = 0.0
        if SAMPLES:
            seed_policy(policy_generator, seeds[i])
        if not _is_finite(seen):
            lengths[i] = -1
            continue
        known = lengths[i] if records else 0  # so much room there is
        at = ends[i] - known if records else 0
        total = 0.0
        steps = 0
        over = False
        while True:
            if records:
                record[at + steps, :] = seen
            if len(about):
                _add_moments(seen, about[0], moments[i], steps == 0)
            shown = seen
            if len(normal):
                shown = features
                for j in range(size):
                    features[j] = (seen[j] - normal[0, j]) / normal[1, j]
            choose(theta, shown, settings, memory, policy_generator, choice)
            decode(choice, settings, action)
            reward, over = step(state, action, generator, constants)
            total += reward
            if records:
                record_choices[at + steps, :] = choice if SAMPLES else action
                record_rewards[at + steps] = reward
            steps += 1
            observe(state, constants, seen)
            if len(scaling):
                _scale(seen, scaling)
            if not _is_finite(seen):
                lengths[i] = -steps - 1
                break
            if over or steps in (limit, known):
                lengths[i] = steps
                break
        returns[i] = total
        ended[i] = over
        if info.shape[1]:
            inform(state, constants, info[i])


@jit
def _scale(seen: Array, scaling: Array) -> None:
    """Encode an observation: this is what is recorded, and what moments are of."""
    for j in range(len(seen)):
        seen[j] = (seen[j] - scaling[0, j]) * scaling[1, j]


@jit
def _is_finite(seen: Array) -> bool:
    total = 0.0
    for j in range(len(seen)):
        total += seen[j] - seen[j]
    return total == 0.0


@jit
def _add_moments(seen: Array, about: Array, moments: Array, first: bool) -> None:
    """Add an observation to the sums, in the order of the steps."""
    size = len(about)
    for j in range(size):
        value = seen[j] - about[j]
        if first:
            moments[j], moments[size + j] = value, value * value
        else:
            moments[j] += value
            moments[size + j] += value * value
