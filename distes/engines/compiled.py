"""The engine for environments with a kernel: whole episodes in machine code.

It agrees with the loop engine episode by episode: to the last bit where kernel and actor say
that they are exact, else to rounding. Where they are, it may begin with the loop.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from gymnasium.spaces import Discrete

from distes.engines.base import Engine, draw_contexts, empty_trajectory, write_fault
from distes.engines.kernels import lookup
from distes.engines.kernels.batch import Batch, BatchRunner, Conditions, Outcomes, Records
from distes.engines.kernels.compiler import start_compiler
from distes.engines.loop import LoopEngine
from distes.engines.wire import MAX_FAULTS, ROW, Chunk, PackedTrajectories
from distes.errors import UsageError
from distes.policies import products
from distes.policies.base import Policy, Sampler
from distes.population.folding import Node, fold_chunk, fold_rows
from distes.population.probes import ObservationMoments, report
from distes.population.records import Population, RunKey, Status, Trajectory
from distes.signals import is_request_to_stop
from distes.tasks.environment import Task
from distes.tasks.mujoco_warnings import hear_warnings, take_warnings
from distes.types import Array, FloatArray, IntArray

if TYPE_CHECKING:
    from subprocess import Popen

    from distes.engines.kernels.kernel import Actor, Kernel

SLICE = 1024
"""Most episodes of one call: a signal waits for its end."""

SLICE_WORK = 1_000_000_000
"""Most work of one call that has several episodes, in the products of `Kernel.step_work`."""

FIRST_WORK = 50_000_000
"""Products that machine code does in less time than a chunk of episodes aims at (see
`distes.evaluators.scheduling`)."""


STAND_IN_S = 0.25
"""Seconds of episodes for which machine code is not loaded at first: loading takes longer."""


class CompiledEngine(Engine):
    """Runs a policy's kernel in an environment's; machine code is loaded when it is needed.

    After `begin` the loop engine stands in while another process compiles what no cache has.

    Args:
        task: what is to be solved.
        policy: built for the task.
        kernel: of the environment; None for the one that it has.
    """

    def __init__(self, task: Task, policy: Policy, kernel: Kernel | None = None) -> None:
        super().__init__(task, policy)
        self._limit = task.step_limit()
        self._kernel: Kernel = lookup.kernel_of(task) if kernel is None else kernel
        self._actor: Actor = lookup.actor_of(policy)
        self._runner: BatchRunner | None = None
        self._compiler: Popen[bytes] | None = None
        self._stand_in_s = 0.0  # seconds of episodes left for the loop
        self._loop = LoopEngine(task, policy)

    @classmethod
    def unfit(cls, task: Task, policy: Policy) -> str | None:
        """Say why a task cannot be compiled with a policy."""
        reason = lookup.misfit(task, policy)
        if reason is None and not lookup.is_numba_installed():
            return f"numba is not installed: {lookup.INSTALL}"
        return reason

    @classmethod
    def hint(cls, task: Task, policy: Policy, *, timed: bool) -> str | None:
        """Say why an environment's kernel is left aside, or that numba would run it."""
        if not lookup.covers(task):
            return None
        reason = lookup.misfit(task, policy)
        if reason is None and timed:
            reason = "episode_timeout_s watches each episode alone"
        if reason is not None:
            return f"{task.name} has a kernel, yet runs step by step: {reason}"
        if lookup.is_numba_installed():
            return None
        return f"{task.name} can run as machine code, far faster: {lookup.INSTALL}"

    @classmethod
    def first_chunk(cls, population: Population, task: Task, policy: Policy) -> int:
        """Say how many episodes machine code is sure to run within a chunk's time."""
        limits = [population.max_steps, task.step_limit()]
        steps = min((n for n in limits if n is not None), default=FIRST_WORK)
        step_work: int = lookup.kernel_class_of(task).step_work
        return max(1, FIRST_WORK // (steps * (step_work + policy.num_parameters)))

    @property
    def is_exact(self) -> bool:
        """Whether its episodes are the loop engine's in every bit, as kernel and actor say."""
        return bool(vars(type(self._kernel)).get("exact")) and self._actor.exact

    def prepare(self) -> None:
        """Load the machine code, or compile it."""
        self._load_runner()

    def begin(self) -> None:
        """Load the machine code, or let the loop stand in.

        It does so for what is quicker run than loaded, and while another process compiles.
        """
        if self._runner is None and self.is_exact:
            self._compiler = start_compiler(type(self._kernel), self._actor)
            self._stand_in_s = STAND_IN_S
        if not self.waits:
            self.prepare()

    @property
    def waits(self) -> bool:
        """Whether machine code is still being compiled, or not loaded yet."""
        stands_in = self._compiler is not None or self._stand_in_s > 0
        return stands_in and self._runner is None

    def close(self) -> None:
        """Release the loop's environment."""
        self._loop.close()

    def _load_runner(self) -> BatchRunner:
        if self._runner is None:
            from distes.engines.kernels.program import load_program

            try:
                compiled = load_program(type(self._kernel), self._actor)
            except Exception as error:
                if not type(error).__module__.startswith("numba."):
                    raise
                said = " ".join(str(error).split())
                raise UsageError(
                    f"the kernel of {self._task.name} does not compile: {said[:300]}; "
                    "distes.testing.assert_kernel_matches says more"
                ) from error
            width = self._policy.observation_size
            self._runner = BatchRunner(compiled, self._kernel, self._actor, width)
        return self._runner

    def run(self, population: Population, key: RunKey, start: int, stop: int) -> Chunk:
        """Run the flat episodes ``start .. stop``."""
        # Of one that failed this process tells why, when it compiles.
        compiles = self._compiler is not None and self._compiler.poll() is None
        if self._runner is None and (compiles or self._stand_in_s > 0):
            began = time.perf_counter()
            try:
                return self._loop.run(population, key, start, stop)
            finally:
                self._stand_in_s -= time.perf_counter() - began
        builder = _ChunkBuilder(self._task, self._policy, population, key, start, stop)
        self._load_runner()
        conditions = self._conditions(population, builder.about)
        if builder.known is not None and self._kernel.num_contexts:
            self._kernel.check_contexts(builder.known[builder.sound])
        sound = np.flatnonzero(builder.sound)
        work = max(conditions.limit, 1) * self._kernel.step_work
        size = max(1, min(SLICE, SLICE_WORK // work))
        with hear_warnings():
            for at in range(0, len(sound), size):
                self._run_slice(builder, sound[at : at + size], conditions)
        return builder.to_chunk()

    def _run_slice(
        self, builder: _ChunkBuilder, episodes: IntArray, conditions: Conditions
    ) -> None:
        """Run episodes in one call; where a reset raises, by halves: one alone is lost."""
        todo = [episodes]
        while todo:
            part = todo.pop()
            try:
                self._run_batch(builder, part, conditions)
                continue
            except UsageError:
                raise
            except BaseException as error:
                if is_request_to_stop(error):
                    raise
                raised = error  # what a kernel raises is its own
            if len(part) == 1:
                builder.lost[int(part[0])] = raised
            else:
                todo += reversed(np.array_split(part, 2))

    def _run_batch(
        self, builder: _ChunkBuilder, episodes: IntArray, conditions: Conditions
    ) -> None:
        runner = self._load_runner()
        began_at, began = time.time(), time.perf_counter()
        given = None if builder.known is None else builder.known[episodes]
        resets = runner.reset(
            builder.starts[episodes], given if self._kernel.num_contexts else None
        )
        settled = builder.settle(episodes, resets.observations, resets.contexts)
        chosen = episodes[settled]
        if not len(chosen):
            return
        if len(chosen) < len(episodes):
            resets = resets.select(settled)
        parameters, rows = builder.draw_parameters(chosen)
        if parameters.shape[1] != self._policy.num_parameters:  # machine code reads on regardless
            raise UsageError(
                f"parameters have shape ({parameters.shape[1]},), "
                f"the policy has {self._policy.num_parameters}"
            )
        batch = Batch(resets, builder.seeds[chosen], parameters, rows, conditions)
        outcomes = runner.run(batch)
        if outcomes.raised:
            for number, error in outcomes.raised.items():
                builder.lost[int(chosen[number])] = error
            sound = np.ones(len(chosen), bool)
            sound[list(outcomes.raised)] = False
            if not sound.any():
                return
            chosen, batch, outcomes = chosen[sound], batch.select(sound), outcomes.select(sound)
        if builder.records:
            records = runner.record(batch, outcomes.lengths)
            trajectories = self._make_trajectories(records, parameters, batch.rows)
            builder.trajectories.update(zip(chosen.tolist(), trajectories, strict=True))
        builder.take_outcomes(chosen, outcomes, self._kernel.info_names)
        # The batch's time is shared out step by step.
        share = outcomes.lengths / max(int(outcomes.lengths.sum()), 1)
        share *= time.perf_counter() - began
        builder.rows["started_at"][chosen] = began_at + np.cumsum(share) - share
        builder.rows["duration_s"][chosen] = share

    def _conditions(self, population: Population, about: FloatArray | None) -> Conditions:
        none = np.zeros((0, self._policy.observation_size))
        mean = population.frozen.get("observation_mean")
        std = population.frozen.get("observation_std")
        for name, given in (("observation_mean", mean), ("observation_std", std)):
            if given is not None and given.shape != (self._policy.observation_size,):
                raise UsageError(
                    f"{name} has shape {given.shape}, "
                    f"observations have ({self._policy.observation_size},)"
                )
        limits = [n for n in (self._limit, population.max_steps) if n is not None]
        return Conditions(
            normal=none if mean is None or std is None else np.array([mean, std]),
            about=none if about is None else about[None],
            limit=min(limits, default=0),
        )

    def _make_trajectories(
        self, records: Records, parameters: FloatArray, rows: IntArray
    ) -> list[Trajectory]:
        """Take records apart, with the types that the loop engine gives them."""
        choices: Array = records.choices
        discrete = self._actor.num_choices == 1 and isinstance(self._policy, Sampler)
        head = getattr(self._policy, "head", None)
        space = getattr(head, "space", None)
        if discrete or isinstance(space, Discrete) or space is None:
            choices = choices[:, 0].astype(np.int64)
        else:
            choices = choices.astype(space.dtype).reshape(-1, *space.shape)
        starts = np.concatenate([[0], records.ends[:-1]])
        found = []
        for row, first, end, last in zip(
            rows, starts, records.ends, records.last_observations, strict=True
        ):
            seen, rewards = records.observations[first:end], records.rewards[first:end]
            found.append(Trajectory(parameters[row], seen, choices[first:end], rewards, last))
        return found


class _ChunkBuilder:
    """Gathers a chunk: what is asked of its episodes, and what is known of them so far.

    Episodes go by their place in the chunk, from 0.
    """

    def __init__(
        self, task: Task, policy: Policy, population: Population, key: RunKey, start: int, stop: int
    ) -> None:
        self._task, self._policy, self._population = task, policy, population
        self._start, self._stop = start, stop
        self._candidate, _ = population.locate(start, stop)
        self.seeds = population.seeds(key, start, stop)
        self.starts = population.start_seeds(key, start, stop)
        size = stop - start
        self.known, lost = draw_contexts(population, task, self._candidate, self.starts)
        self.lost = dict(lost)
        # What is shown goes beside what was asked for: a batch may be reset a second time.
        self._contexts = None if self.known is None else self.known.copy()
        if self.known is None and task.num_contexts:
            self._contexts = np.full((size, task.num_contexts), np.nan)
        self.sound = np.ones(size, bool)
        self.sound[list(self.lost)] = False
        self.rows = np.zeros(size, ROW)
        self._info = {name: np.full(size, np.nan) for name in task.log_info}
        moments = [p for p in population.probes if isinstance(p, ObservationMoments)]
        # Moments alone are summed by the kernel itself; other probes need all that happened.
        self.about = moments[0].center if len(moments) == len(population.probes) == 1 else None
        self.records = bool(population.records) or (self.about is None and bool(population.probes))
        self._moments: FloatArray = np.zeros((size, 0))
        self.trajectories: dict[int, Trajectory] = {}
        distribution = population.distribution
        self._parameters: FloatArray | None = None
        if not distribution.uses_context:
            first = int(self._candidate[0])
            numbers = np.arange(first, int(self._candidate[-1]) + 1)
            self._parameters = distribution.draw(numbers)

    def settle(self, chosen: IntArray, observations: FloatArray, shown: FloatArray) -> Array:
        """Note the contexts that resets show; returns which episodes can go on, (m,) bool."""
        good = np.ones(len(chosen), bool)
        if self._contexts is None:
            return good
        asked = None if self.known is None else self.known[chosen]
        self._contexts[chosen], lost = self._task.contexts.settle_all(
            self._task.name, observations, shown, asked
        )
        self.lost.update({int(chosen[i]): error for i, error in lost.items()})
        good[list(lost)] = False
        return good

    def draw_parameters(self, chosen: IntArray) -> tuple[FloatArray, IntArray]:
        """Draw parameters (p, d); returns them and which of them each episode has, (m,)."""
        candidate = self._candidate[chosen]
        if self._parameters is not None:
            if self._parameters.strides[0] == 0:  # all alike: none is copied
                return self._parameters[:1], np.zeros(len(chosen), np.int64)
            return self._parameters, candidate - self._candidate[0]
        contexts = None if self._contexts is None else self._contexts[chosen]
        parameters = self._population.distribution.draw(candidate, contexts)
        return parameters, np.arange(len(chosen))

    def take_outcomes(self, chosen: IntArray, outcomes: Outcomes, names: tuple[str, ...]) -> None:
        """Note how episodes went."""
        rows = self.rows
        rows["episode_return"][chosen] = outcomes.returns
        rows["episode_length"][chosen] = outcomes.lengths
        rows["terminated"][chosen] = outcomes.terminated
        rows["truncated"][chosen] = ~outcomes.terminated
        finite = np.isfinite(outcomes.returns)
        rows["status"][chosen[~finite]] = Status.NAN
        for name, column in self._info.items():
            if name in names:
                column[chosen] = outcomes.info[:, names.index(name)]
        if self.about is not None:
            if not self._moments.shape[1]:
                self._moments = np.zeros((len(rows), outcomes.moments.shape[1]))
            self._moments[chosen[finite]] = outcomes.moments[finite]

    def to_chunk(self) -> Chunk:
        """The whole builder."""
        lost = list(self.lost)
        self.rows["episode_return"][lost] = np.nan
        self.rows["status"][lost] = Status.ERROR
        self.rows["started_at"][lost] = time.time()
        faults = [(self._start + i, write_fault(self.lost[i])) for i in sorted(lost)[:MAX_FAULTS]]
        size = self._stop - self._start
        nothing = empty_trajectory(self._policy)
        whole = self.rows["status"] == Status.OK
        trajectories = (
            [self.trajectories[i] if whole[i] else nothing for i in range(size)]
            if self.records
            else []
        )
        asked = self._population.records
        return Chunk(
            start=self._start,
            stop=self._stop,
            rows=self.rows,
            nodes=self._fold_reports(trajectories),
            contexts=self._contexts,
            info=self._info,
            faults=faults,
            trajectories=PackedTrajectories.pack(trajectories, asked),
            warnings=take_warnings(),
        )

    def _fold_reports(self, trajectories: Sequence[Trajectory]) -> list[Node]:
        """Fold what the probes report of the episodes."""
        probes = self._population.probes
        if self.about is not None:
            width = len(self.about)
            whole = self.rows["status"] == Status.OK
            moments = self._moments if self._moments.shape[1] else np.zeros((len(whole), 2 * width))
            counts = np.where(whole, self.rows["episode_length"], 0).astype(np.float64)
            return fold_rows(
                self._start,
                {
                    "observation_count": counts[:, None],
                    "observation_sum": moments[:, :width],
                    "observation_square_sum": moments[:, width:],
                },
            )
        with products.one_blas_thread():
            frozen = self._population.frozen
            reports = [
                report(probes, trajectory, self._policy, frozen)
                for trajectory in trajectories
                if probes
            ]
        return fold_chunk(self._start, reports)
