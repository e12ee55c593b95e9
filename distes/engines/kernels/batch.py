"""Episodes that are run together by a compiled program, and what comes of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from distes.engines.kernels.kernel import Actor, Kernel
from distes.engines.kernels.random import ENVIRONMENT_WORDS
from distes.types import Array, FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Resets:
    """Episodes after their resets, which stay as they are.

    Attributes:
        states: (m, s).
        generators: (m, 4) words.
        observations: (m, k).
        contexts: (m, c) that the environment shows, c = 0 for none.
    """

    states: FloatArray
    generators: Array
    observations: FloatArray
    contexts: FloatArray

    def only(self, chosen: Array) -> Resets:
        """Some of them, by a mask (m,)."""
        parts = (self.states, self.generators, self.observations, self.contexts)
        return Resets(*(part[chosen] for part in parts))


@dataclass(frozen=True, eq=False)
class Conditions:
    """What all episodes of a batch share.

    Attributes:
        normal: (2, k) mean and deviation of observations, or (0, k).
        about: (1, k) centre of the observations' moments, or (0, k) for none.
        limit: steps, 0 for none.
    """

    normal: FloatArray
    about: FloatArray
    limit: int


@dataclass(frozen=True, eq=False)
class Outcomes:
    """How episodes went.

    Attributes:
        returns: (m,).
        lengths: (m,) steps.
        terminated: (m,) bool.
        info: (m, i) in the order of the kernel's names.
        moments: (m, 2k) sums and sums of squares about a centre, or (m, 0).
        raised: what the kernel raised, by the number of the episode; it has no results.
    """

    returns: FloatArray
    lengths: IntArray
    terminated: Array
    info: FloatArray
    moments: FloatArray
    raised: dict[int, Exception] = field(default_factory=dict)

    def only(self, chosen: Array) -> Outcomes:
        """Those of some episodes that did not raise, by a mask (m,)."""
        return Outcomes(
            self.returns[chosen],
            self.lengths[chosen],
            self.terminated[chosen],
            self.info[chosen],
            self.moments[chosen],
        )


@dataclass(frozen=True, eq=False)
class Records:
    """All that was seen and done, episodes end to end.

    Attributes:
        ends: (m,) where each episode ends.
        observations: (T, k).
        choices: (T, c) choices of policies that sample, else actions.
        rewards: (T,).
        last_observations: (m, k).
    """

    ends: IntArray
    observations: FloatArray
    choices: FloatArray
    rewards: FloatArray
    last_observations: FloatArray


class Batches:
    """Runs batches of episodes with one kernel and one actor.

    Args:
        program: from `distes.engines.kernels.program.load_program`.
        kernel: of the environment.
        actor: of the policy.
        width: of an observation, k.
    """

    def __init__(self, program: Any, kernel: Kernel, actor: Actor, width: int) -> None:
        self._program, self._kernel, self._actor = program, kernel, actor
        self._width = width
        self._constants, self._settings = _own(kernel.constants), _own(actor.settings)
        none = np.zeros((0, width))
        scaled = actor.center is not None and actor.factor is not None
        self._scaling = np.array([actor.center, actor.factor]) if scaled else none
        self._shape = np.array([actor.num_memory, actor.num_choices, actor.num_actions])

    def reset(self, seeds: IntArray, imposed: FloatArray | None) -> Resets:
        """Reset episodes, (m,) seeds, with contexts (m, c) if any are imposed."""
        kernel, count = self._kernel, len(seeds)
        states = np.zeros((count, kernel.num_states))
        generators = np.zeros((count, ENVIRONMENT_WORDS), np.uint64)
        observations = np.zeros((count, self._width))
        contexts = np.zeros((count, kernel.num_contexts))
        asked = np.zeros((count, 0)) if imposed is None else np.ascontiguousarray(imposed)
        given = (seeds, asked, self._constants)
        self._program.begin(*given, states, generators, observations, contexts)
        kernel.first(states, observations)
        return Resets(states, generators, observations, contexts)

    def run(
        self,
        resets: Resets,
        seeds: IntArray,
        parameters: FloatArray,
        rows: IntArray,
        conditions: Conditions,
    ) -> Outcomes:
        """Run episodes to their ends.

        Args:
            resets: of the episodes.
            seeds: (m,) from which policies sample.
            parameters: (p, d).
            rows: (m,) whose parameters each episode has.
            conditions: of all.
        """
        count, width = len(seeds), self._width
        moments = np.zeros((count, 2 * width if len(conditions.about) else 0))
        none = np.zeros((0, 0))
        records = Records(np.zeros(0, np.int64), none, none, np.zeros(0), resets.observations)
        lengths = np.zeros(count, np.int64)
        return self._run(resets, seeds, parameters, rows, conditions, lengths, moments, records)

    def record(
        self,
        resets: Resets,
        seeds: IntArray,
        parameters: FloatArray,
        rows: IntArray,
        conditions: Conditions,
        lengths: IntArray,
    ) -> Records:
        """Run episodes again, whose lengths are known, and keep all that is seen and done."""
        total = int(lengths.sum())
        records = Records(
            ends=np.cumsum(lengths),
            observations=np.zeros((total, self._width)),
            choices=np.zeros((total, self._wide)),
            rewards=np.zeros(total),
            last_observations=resets.observations.copy(),
        )
        moments = np.zeros((len(seeds), 0))
        plain = Conditions(conditions.normal, conditions.about[:0], conditions.limit)
        self._run(resets, seeds, parameters, rows, plain, lengths.copy(), moments, records)
        return records

    @property
    def _wide(self) -> int:
        """Numbers of what is recorded of a step's action."""
        return self._actor.num_choices if self._actor.samples else self._actor.num_actions

    def _run(
        self,
        resets: Resets,
        seeds: IntArray,
        parameters: FloatArray,
        rows: IntArray,
        conditions: Conditions,
        lengths: IntArray,
        moments: FloatArray,
        records: Records,
    ) -> Outcomes:
        count, recording = len(seeds), len(records.ends) > 0
        out = Outcomes(
            returns=np.zeros(count),
            lengths=lengths,
            terminated=np.zeros(count, bool),
            info=np.full((count, len(self._kernel.info_names)), np.nan),
            moments=moments,
        )
        seen = records.last_observations if recording else resets.observations.copy()
        states, generators = resets.states.copy(), resets.generators.copy()
        table, about = _own(parameters), _own(conditions.about)
        at = 0
        while at < count:
            try:
                self._program.run(
                    *(states[at:], generators[at:], seen[at:], seeds[at:]),
                    *(table, rows[at:]),
                    *(self._constants, self._settings, self._scaling),
                    *(conditions.normal, about, conditions.limit, self._shape),
                    *(out.returns[at:], out.lengths[at:], out.terminated[at:]),
                    *(out.info[at:], out.moments[at:]),
                    *(records.ends, records.observations, records.choices, records.rewards),
                )
                break
            except Exception as error:
                if recording:  # what went well the first time
                    raise
                # A length is written when its episode ends, and none is 0.
                at += int(np.argmin(out.lengths[at:]))
                out.raised[at] = error
                at += 1
        return out


def _own(values: FloatArray) -> FloatArray:
    """Let an array be of the one kind that is compiled for; Ray hands out some read-only."""
    return np.require(values, requirements=["C", "W"])
