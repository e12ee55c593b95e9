"""Does an episode's result depend on anything but its seed and its actions?

distes relies on that: results are the same on any number of workers only if an
environment carries nothing from one episode into the next, from one instance to
another, or from its process. `check` tries it and says what it found.
"""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import zip_longest
from typing import Any

import gymnasium as gym
import numpy as np

from distes.errors import UsageError, require_at_least
from distes.policies.base import PolicySpec
from distes.seeds import policy_generator
from distes.signals import contain_exits, is_request_to_stop
from distes.tasks.base import AnyTask
from distes.tasks.environment import Task
from distes.types import FloatArray

MAX_STEPS = 1000  # episodes are cut here at the latest: some environments never end
PROBES_PER_HISTORY = 2

MUJOCO_STATE = (
    *("qacc_warmstart", "act", "ctrl", "qfrc_applied", "xfrc_applied", "eq_active"),
    *("mocap_pos", "mocap_quat", "userdata", "plugin_state"),
)
"""What of MuJoCo's data a reset may forget, besides positions and velocities."""


@dataclass(frozen=True)
class Finding:
    """How the probe episodes of one comparison differed from the reference.

    Attributes:
        way: what was compared: ``reuse``, ``new instance`` or ``other process``.
        episodes: compared.
        differing: seeds of those that differed, sorted, each once.
        count: how many of the episodes differed.
        return_difference: the largest, in absolute value; NaN where an episode raised.
        first_step: the earliest step at which one differed; 0 is the reset.
        carried: MuJoCo's arrays that differed after the resets of those.
        note: why nothing could be compared, "" otherwise.
    """

    way: str
    episodes: int
    differing: tuple[int, ...] = ()
    count: int = 0
    return_difference: float = 0.0
    first_step: int | None = None
    carried: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class PurityReport:
    """What `check` found; ``str`` gives it in plain sentences.

    Attributes:
        name: of the environment.
        histories: different histories that the reused instance went through.
        reuse: episodes on an instance that has run others before.
        new_instance: the same episodes again, each in a new instance.
        other_process: in new instances in another process; None if not asked for.
        reuses_env: whether distes keeps instances of it as the task stands.
        other_context: in new instances with another context, which is to change them; None
            where contexts are not sampled.
    """

    name: str
    histories: int
    reuse: Finding
    new_instance: Finding
    other_process: Finding | None
    reuses_env: bool
    other_context: Finding | None = None

    @property
    def reproducible(self) -> bool:
        """Whether runs of the task as it stands give the same results again."""
        elsewhere = self.other_process.count if self.other_process else 0
        in_use = self.reuse.count if self.reuses_env else 0
        return not (self.new_instance.count or elsewhere or in_use)

    @property
    def pure(self) -> bool:
        """Whether nothing differed anywhere."""
        return self.reproducible and not self.reuse.count

    def __str__(self) -> str:
        """Say what was found and what follows from it."""
        findings = [self.reuse, self.new_instance]
        if self.other_process is not None:
            findings.append(self.other_process)
        partly = any(finding.note for finding in findings)
        verdict = "pure, as far as compared" if partly else "pure"
        lines = [f"{self.name}: {verdict if self.pure else 'not pure'}"]
        for finding in findings:
            over = f" over {self.histories} histories" if finding is self.reuse else ""
            lines += [f"  {line}" for line in _describe(finding, over)]
        if self.other_context is not None:
            count, episodes = self.other_context.count, self.other_context.episodes
            lines.append(
                f"  other context: changes {count} of {episodes} episodes, as it should"
                if count
                else f"  other context: changes none of {episodes} episodes: does the environment "
                'take up reset(options={"context": ...})?'
            )
        return "\n".join([*lines, self._consequences()])

    def _consequences(self) -> str:
        carried = ""
        if self.reuse.carried:
            carried = (
                f" MuJoCo's data keep {', '.join(self.reuse.carried)} from the episode before: "
                "call mujoco.mj_resetData(model, data) in reset, before positions are set."
            )
        return self._describe_consequences() + carried

    def _describe_consequences(self) -> str:
        if self.new_instance.count:
            return (
                "Results will not be reproducible: the seed does not decide what happens. Call "
                "super().reset(seed=seed) first and draw all randomness from self.np_random; "
                "what is drawn when an instance is made has no seed at all."
            )
        if self.other_process and self.other_process.count:
            return (
                "Results will not be reproducible across processes, so not on several workers: "
                "something of the process enters (the order of a set, the clock, a global "
                "variable). Draw all randomness from self.np_random."
            )
        if self.reuse.count and self.reuses_env:
            return (
                "Results will not be reproducible: an episode depends on those before it, and "
                "distes keeps this environment's instances. With reuse_env=False it builds a new "
                "one for every episode."
            )
        if self.reuse.count:
            return (
                "An episode depends on those before it, so distes builds a new instance for "
                "every episode: results are reproducible."
            )
        if self.reuses_env:
            return "distes reuses its instances."
        return (
            "distes builds a new instance for every episode; by this check reuse_env=True would "
            "give the same results faster."
        )


@contain_exits()
def check(
    task: AnyTask | str | Callable[..., gym.Env[Any, Any]],
    *,
    policy: PolicySpec | None = None,
    histories: int = 20,
    episodes: int = 10,
    seed: int = 0,
    processes: bool = True,
) -> PurityReport:
    """Compare episodes bit for bit under different circumstances.

    Probe episodes, given by their seeds, run each in a new instance: the reference. Then
    they run on one instance that keeps running other episodes in between (whole, broken
    off, and reset only), again each in a new instance, and in another process.
    Observations, rewards, flags and logged info of every step are compared, and the context
    of the reset. Where contexts are sampled, each episode is told its own.

    Args:
        task: a task, a Gymnasium id, or a function that makes an environment.
        policy: acts with seeded random parameters; None draws seeded random actions.
        histories: different histories of the reused instance.
        episodes: probe episodes; two follow each history, by turns.
        seed: of the probe episodes, the actions and the histories.
        processes: whether to compare with another process, too.

    Raises:
        UsageError: there is no environment, or every episode raises in it.
    """
    if isinstance(task, AnyTask) and not isinstance(task, Task):
        raise UsageError(f"{task.name} is no environment: there is nothing to check")
    task = task if isinstance(task, Task) else Task(task)
    require_at_least("histories", histories, 1)
    require_at_least("episodes", episodes, 1)
    generator = np.random.default_rng(np.random.SeedSequence(seed))
    seeds = [int(value) for value in generator.integers(2**62, size=episodes)]

    reference = dict(_run_in_new_instances(task, policy, seeds))
    errors = [record.error for record in reference.values()]
    if all(errors):
        raise UsageError(f"every episode of {task.name} raises, the first {errors[0]}")

    runner = _Runner(task, policy)
    reused = []
    for history in range(histories):
        probes = [
            seeds[(PROBES_PER_HISTORY * history + j) % episodes] for j in range(PROBES_PER_HISTORY)
        ]
        for past, steps in _choose_history(history, probes[0], generator):
            runner.episode(past, steps)
        reused += [(probe, runner.episode(probe)) for probe in probes]
    runner.close()

    # In another order, so that what instances share (a class attribute) shows.
    again = _run_in_new_instances(task, policy, seeds[::-1])
    other_context = None
    if task.contexts.sampled:
        changed = _run_in_new_instances(task, policy, seeds, other_context=True)
        other_context = _compare("other context", reference, changed)
    return PurityReport(
        name=task.name,
        histories=histories,
        reuse=_compare("reuse", reference, reused),
        new_instance=_compare("new instance", reference, again),
        other_process=_run_in_other_process(task, policy, reference) if processes else None,
        reuses_env=task.reuses_env,
        other_context=other_context,
    )


def assert_pure(env: AnyTask | str | Callable[..., gym.Env[Any, Any]], histories: int = 20) -> None:
    """Assert that an environment's episodes depend on their seeds and actions alone.

    For your environment's tests: one that passes may be used with ``reuse_env=True``.

    Args:
        env: a task, a Gymnasium id, or a function that makes an environment.
        histories: different histories of the reused instance.

    Raises:
        AssertionError: they do not; the message says how they differed.
    """
    report = check(env, histories=histories)
    if not report.pure:
        raise AssertionError(str(report))


@dataclass(frozen=True)
class _Record:
    """One episode: a digest per step (the first is the reset's), and the return."""

    steps: tuple[bytes, ...]
    total: float
    error: str = ""
    carried: Mapping[str, bytes] = field(default_factory=dict)  # MuJoCo's state after the reset


class _Runner:
    """Runs episodes on one instance, made when first needed."""

    def __init__(self, task: Task, policy: PolicySpec | None) -> None:
        self._task = task
        self._spec = policy
        self._limit = min(task.step_limit() or MAX_STEPS, MAX_STEPS)
        self._env: gym.Env[Any, Any] | None = None
        self._carried: dict[str, bytes] = {}

    def close(self) -> None:
        """Close the instance; the next episode gets another."""
        env, self._env = self._env, None
        if env is not None:
            env.close()

    def episode(
        self, seed: int, max_steps: int | None = None, context_of: int | None = None
    ) -> _Record:
        """Run the episode of a seed, or break it off after some steps.

        Its context may be sampled as another seed's, ``context_of``.
        """
        if self._env is None:
            self._env = self._task.make_env()
        limit = self._limit if max_steps is None else min(max_steps, self._limit)
        steps: list[bytes] = []
        total = 0.0
        try:
            # The context that the engines would ask for.
            contexts = self._task.contexts
            seeds = np.array([seed if context_of is None else context_of])
            context = contexts.sample(seeds)[0] if contexts.sampled else None
            for digest, reward in self._play(self._env, seed, context, limit):
                steps.append(digest)
                total += reward
        except UsageError:
            raise
        except BaseException as error:
            if is_request_to_stop(error):
                raise
            self._env = None  # like the engines: its state is unknown
            said = f"{type(error).__name__}: {error}"
            return _Record((*steps, type(error).__name__.encode()), np.nan, said)
        return _Record(tuple(steps), total, carried=self._carried)

    def _play(
        self, env: gym.Env[Any, Any], seed: int, asked: FloatArray | None, limit: int
    ) -> Iterator[tuple[bytes, float]]:
        act = self._actions(env, seed)
        options = None if asked is None else {"context": asked.copy()}
        observation, info = env.reset(seed=seed, options=options)
        self._carried = _read_mujoco_state(env)
        shown = None
        contexts = self._task.contexts
        if contexts.choice is not None:
            see = contexts.encoder(env.observation_space)
            name, size = self._task.name, self._task.num_contexts
            shown = contexts.settle(name, see, (observation, info), asked, size)
        yield self._digest(observation if asked is not None else (observation, shown), info), 0.0
        for _ in range(limit):
            observation, reward, terminated, truncated, info = env.step(act(observation))
            flags = (bool(terminated), bool(truncated))
            yield self._digest((observation, reward, flags), info), float(reward)
            if any(flags):
                return

    def _actions(self, env: gym.Env[Any, Any], seed: int) -> Callable[[Any], Any]:
        """Make the acting function of one episode, a function of the seed."""
        if self._spec is None:
            # A copy: the environment's own space keeps its generator.
            space = copy.deepcopy(env.action_space)
            space.seed(seed % 2**32)
            return lambda _: space.sample()
        policy = self._spec.build(env.observation_space, env.action_space)
        generator = policy_generator(seed)
        act = policy.bind(generator.standard_normal(policy.num_parameters))
        return lambda observation: act(policy.encode(observation), generator)

    def _digest(self, value: Any, info: dict[str, Any]) -> bytes:
        digest = blake2b(digest_size=16)
        _feed(digest, (value, [info.get(name) for name in self._task.log_info]))
        return digest.digest()


def _read_mujoco_state(env: gym.Env[Any, Any]) -> dict[str, bytes]:
    """Read what `MUJOCO_STATE` names, of an environment that has MuJoCo's data."""
    data = getattr(env.unwrapped, "data", None)
    if not type(data).__module__.startswith("mujoco"):
        return {}
    found = {name: getattr(data, name, None) for name in MUJOCO_STATE}
    return {name: np.asarray(each).tobytes() for name, each in found.items() if each is not None}


def _run_in_new_instances(
    task: Task, policy: PolicySpec | None, seeds: Sequence[int], other_context: bool = False
) -> list[tuple[int, _Record]]:
    """Run each episode in an instance of its own, perhaps with the context of another seed."""
    runner = _Runner(task, policy)
    records = []
    for seed in seeds:
        records.append((seed, runner.episode(seed, context_of=seed ^ other_context)))
        runner.close()
    return records


def _choose_history(
    number: int, probe: int, generator: np.random.Generator
) -> list[tuple[int, int | None]]:
    """Choose one to three episodes, as (seed, steps), to run before a probe episode.

    By turns they end by themselves, are broken off, or are only reset; in every fourth
    history the last one has the probe's own seed, which a cache by seed would notice.
    """
    past: list[tuple[int, int | None]] = []
    for j in range(1 + number % 3):
        ending = (number // 3 + j) % 3
        steps = [None, int(generator.integers(1, 60)), 0][ending]
        past.append((int(generator.integers(2**62)), steps))
    if number % 4 == 3:
        past[-1] = (probe, past[-1][1])
    return past


def _feed(digest: blake2b, value: Any) -> None:
    """Enter a value into a digest, bit for bit, with its type and shape."""
    if isinstance(value, dict):
        for key in sorted(value, key=str):
            _feed(digest, (str(key), value[key]))
    elif isinstance(value, tuple | list):
        digest.update(f"[{len(value)}".encode())
        for item in value:
            _feed(digest, item)
    else:
        array = np.asarray(value)
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(repr(value).encode() if array.dtype.hasobject else array.tobytes())


def _compare(
    way: str, reference: dict[int, _Record], found: Sequence[tuple[int, _Record]]
) -> Finding:
    differing, largest, first = [], 0.0, None
    carried: dict[str, None] = {}  # in order
    for seed, record in found:
        expected = reference[seed]
        pairs = zip_longest(expected.steps, record.steps)
        step = next((i for i, (one, other) in enumerate(pairs) if one != other), None)
        if step is None:
            continue
        differing.append(seed)
        first = step if first is None else min(first, step)
        largest = float(np.maximum(largest, abs(record.total - expected.total)))
        state = record.carried.items()
        carried |= {name: None for name, each in state if each != expected.carried.get(name)}
    return Finding(
        way=way,
        episodes=len(found),
        differing=tuple(sorted(set(differing))),
        count=len(differing),
        return_difference=largest,
        first_step=first,
        carried=tuple(carried),
    )


def _run_in_other_process(
    task: Task, policy: PolicySpec | None, reference: dict[int, _Record]
) -> Finding:
    way, seeds = "other process", list(reference)
    try:
        pickle.dumps((task, policy))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        return Finding(way, 0, note=f"it cannot be sent to one ({error}); give a module's function")
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as executor:
        try:
            records = executor.submit(_run_in_new_instances, task, policy, seeds).result()
        except Exception as error:  # noqa: BLE001 - the other process may fail in any way
            said = f"{type(error).__name__}: {error}"
            return Finding(way, 0, note=f"the environment could not be made there ({said})")
    return _compare(way, reference, records)


def _describe(finding: Finding, over: str) -> list[str]:
    if finding.note:
        return [f"{finding.way}: not compared: {finding.note}"]
    first = f"{finding.way}: {finding.count} of {finding.episodes} episodes differ{over}"
    if not finding.count:
        return [first]
    shown = ", ".join(map(str, finding.differing[:3]))
    more = f" and {len(finding.differing) - 3} more" if len(finding.differing) > 3 else ""
    where = "at the reset" if finding.first_step == 0 else f"at step {finding.first_step}"
    if np.isnan(finding.return_difference):
        by = "some raise an exception"
    elif finding.return_difference:
        by = f"returns by up to {finding.return_difference:.6g}"
    else:
        by = "returns are the same"
    return [first, f"  first {where}, {by}; seeds {shown}{more}"]
