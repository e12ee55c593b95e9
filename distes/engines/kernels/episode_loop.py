"""Whole episodes: two functions that are compiled with an environment and a policy.

`distes.engines.kernels.program` compiles them once for each pair, with the pair's functions
in the place of the names that are declared below.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from distes.engines.kernels.jit import jit
from distes.engines.kernels.kernel import Choose
from distes.engines.kernels.random import seed_environment, seed_policy
from distes.types import Array

reset: Callable[[Array, Array, Array, Array], None]
observe: Callable[[Array, Array, Array], None]
step: Callable[[Array, Array, Array, Array], tuple[float, bool]]
show: Callable[[Array, Array, Array], None]
inform: Callable[[Array, Array, Array], None]
choose: Choose
decode: Callable[[Array, Array, Array], None]
SAMPLES: bool


def begin(
    seeds: Array,
    imposed: Array,
    constants: Array,
    states: Array,
    generators: Array,
    observations: Array,
    contexts: Array,
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
    states: Array,
    generators: Array,
    observations: Array,
    seeds: Array,
    parameters: Array,
    rows: Array,
    constants: Array,
    settings: Array,
    scaling: Array,
    normal: Array,
    about: Array,
    limit: int,
    shape: Array,
    returns: Array,
    lengths: Array,
    ended: Array,
    info: Array,
    moments: Array,
    ends: Array,
    record: Array,
    record_choices: Array,
    record_rewards: Array,
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
        lengths: (m,) written.
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
        at = ends[i] - lengths[i] if records else 0
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
            if over or steps == limit:
                break
        returns[i] = total
        lengths[i] = steps
        ended[i] = over
        if info.shape[1]:
            inform(state, constants, info[i])


@jit
def _scale(seen: Array, scaling: Array) -> None:
    """Encode an observation: this is what is recorded, and what moments are of."""
    for j in range(len(seen)):
        seen[j] = (seen[j] - scaling[0, j]) * scaling[1, j]


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
