"""Inputs that nobody would give on purpose, and what came of them.

Input ``i`` of a seed is always the same, whatever was tried before: `Stage.judge` of it is
how a finding is seen again.
"""

from __future__ import annotations

import dataclasses
import gc
import io
import json
import math
import os
import random
import re
import resource
import shutil
import signal
import string
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import misbehaving
import numpy as np
import tomli_w
from click import Option
from searches import StopAt, assert_same_run, cartpole

import distes
from distes.cli import main
from distes.cli.commands import distes as program
from distes.cli.options import flag_of
from distes.errors import StorageError, UsageError
from distes.registry import names, settings_of
from distes.search import config_file, tables
from distes.strategies.base import Strategy
from distes.tasks.environment import Task

HANG_S = 60.0
"""Far beyond what any input here needs."""

MEMORY_BYTES = 6 * 2**30
"""Of address space: what wants more gets a MemoryError instead of the machine."""

SMALL = [
    *("--workers", "0", "--engine", "loop", "--population", "10", "--generations", "1"),
    *("--final-episodes", "2", "--heldout-episodes", "2", "--reevaluate", "1"),
    *("--max-episode-steps", "5"),
]

TEXTS = [
    *("", " ", "\t", "-", "--", ".", "..", "/", "~", ",", ",,", "=", "#", "'", '"', "\\", "%", "*"),
    *("nan", "NaN", "inf", "-inf", "1e999", "-1e308", "1e-320", "0", "-0", "-1", "1", "2", "1.5"),
    *("7" * 20, "9" * 400, "1_000", "0x10", "١", "½", "1e3", "+1", "1.", "2**63"),
    *(str(2**63), str(2**63 - 1), str(-(2**63)), "true", "False", "none", "null", "auto", "off"),
    *("[]", "{}", "[1]", '{"a": 1}', '{"a": NaN}', '{"a":', "{'a': 1}", '{"a": {"b": null}}'),
    *("1,2", "1,,2", "a,b", "1,x", "nan,1", "1;2", ":", ":x", "x:", ".:x", "a.b:c", "a:b:c"),
    *("math:exp", "math:pi", "os.path:join", "no_such_module:x", "distes:Search", "json:"),
    *("\x1b[31mred", "a\nb", "a\rb", "\x7f", "\u202eabc", "ü", "𝔘", "\u200b", "\udcff", "\ud800"),
    *("a" * 300, "a/" * 200, "/proc/x", "/dev/null", "/dev/null/x", "../..", "a/../b", "x.toml"),
    *("zz://a/b", "s3:/a", "s3://", "file://elsewhere/x", "file:x", "memory://", "http://x/y"),
]

ENVIRONMENTS = ["CartPole-v1", "CartPole-v1", "Pendulum-v1", "FrozenLake-v1"]
ENVIRONMENTS += ["distes/PhysicalPendulum-v0", "distes/ContextualCartPole-v0"]

NOT_TRIED = ("env", "workers", "min_workers", "cpus_per_worker", "address", "episode_timeout_s")
"""Settings that choose the environment, or start or find a Ray."""

COMMANDS = ["run", "resume", "evaluate", "replay", "plot", "info", "check", "list", "warmup"]


OUTCOMES = ("well", "refused", "said", "traceback", "silent", "hang", "wordless", "lost")


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What came of one input.

    Attributes:
        kind: of input.
        given: the input in words.
        outcome: one of `OUTCOMES`: ``refused`` is in a sentence, ``said`` a resume that ended
            well, differs, and says why. Findings: ``silent`` (a resume that does not say so),
            ``wordless`` (failed without a sentence), ``lost`` (ended well and left no run),
            ``traceback`` and ``hang``.
        detail: of a finding.
    """

    kind: str
    given: str
    outcome: str
    detail: str = ""

    @property
    def is_finding(self) -> bool:
        return self.outcome not in ("well", "refused", "said")


@dataclasses.dataclass
class Said:
    """How a command ended: its exit code, or what escaped from it."""

    code: int | None = None
    escaped: BaseException | None = None
    hung: bool = False
    out: str = ""
    err: str = ""


class Hung(BaseException):
    """A command took longer than `HANG_S`."""


def call(work: Callable[[], Any]) -> Said:
    """Do something as a process of its own would, as far as that goes within this one."""
    said = Said()
    streams = [
        io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors=errors, write_through=True)
        for errors in ("strict", "backslashreplace")
    ]

    def hang(*_: object) -> None:
        said.hung = True
        raise Hung

    with _keep_process():
        sys.stdout, sys.stderr = streams
        signal.signal(signal.SIGALRM, hang)
        signal.setitimer(signal.ITIMER_REAL, HANG_S, 5.0)
        try:
            code = work()
            said.code = code if isinstance(code, int) else 0
        except SystemExit as left:
            said.code, said.escaped = None, left
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is the finding
            said.escaped = error
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    said.out, said.err = (each.buffer.getvalue().decode("utf-8", "replace") for each in streams)  # type: ignore[attr-defined]
    return said


@contextmanager
def _keep_process() -> Iterator[None]:
    """Put back what an environment, or a command, may change of the whole process."""
    folder, variables, limit = Path.cwd(), dict(os.environ), sys.getrecursionlimit()
    streams, path, errors = (sys.stdout, sys.stderr), list(sys.path), np.geterr()
    handlers = {
        each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
    }
    memory = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, memory[1]))
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)
        resource.setrlimit(resource.RLIMIT_AS, memory)
        sys.stdout, sys.stderr = streams
        sys.path[:] = path
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(variables)
        np.seterr(**errors)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def assess(said: Said) -> tuple[str, str]:
    """Tell a sentence from a traceback: outcome and detail."""
    if said.hung:
        return "hang", ""
    if said.escaped is not None:
        return "traceback", describe(said.escaped)
    if "Traceback (most recent call last)" in said.err:
        return "traceback", said.err[-2000:]
    if said.code == 0:
        return "well", ""
    lines = said.err.strip("\n").split("\n")
    if said.code not in (1, 2, 130) or not lines[-1].startswith("distes: ") or not lines[-1][8:]:
        return "wordless", f"exit code {said.code}: {said.err[-500:]!r}"
    return "refused", lines[-1]


def describe(error: BaseException) -> str:
    """Give an error's type, its text and the innermost frames."""
    frames = traceback.extract_tb(error.__traceback__)[-6:]
    where = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames))
    try:
        text = str(error)[:200]
    except Exception:  # noqa: BLE001 - it may be made to fail
        text = "?"
    return f"{type(error).__name__}: {text!r} at {where}"


class Stage:
    """A folder with runs to damage, and the inputs that are tried on it.

    Attributes:
        seed: of all inputs.
        kinds: of input, with what tries one.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.seed = seed
        self._folder = folder
        self._whole, self._cut = folder / "whole", folder / "cut"
        cartpole(self._whole, engine="loop", generations=3, population=10).run()
        with suppress(KeyboardInterrupt):
            observers = [StopAt(1)]
            cut = cartpole(self._cut, engine="loop", generations=3, population=10)
            cut.observers = observers
            cut.run()
        self._strategies = names("strategies", Strategy)
        self.kinds: dict[str, Callable[[random.Random], Verdict]] = {
            "flags": self._try_flags,
            "TOML": self._try_toml,
            "damage": self._try_damage,
            "environment": self._try_environment,
        }

    def judge(self, index: int, kind: str = "") -> Verdict:
        """Try one input, of a kind or of any, in a new folder."""
        draw = random.Random(f"{self.seed}:{index}")  # noqa: S311 - no secret
        kind = kind or draw.choices(list(self.kinds), [35, 25, 25, 15])[0]
        before = Path.cwd()
        place = Path(tempfile.mkdtemp(prefix="f", dir=self._folder))
        os.chdir(place)
        try:
            return self.kinds[kind](draw)
        finally:
            os.chdir(before)
            gc.collect()  # closes what a refused command left open
            shutil.rmtree(place, ignore_errors=True)

    def _try_flags(self, draw: random.Random) -> Verdict:
        command = draw.choices(COMMANDS, [12, 1, 1, 1, 1, 1, 1, 1, 1])[0]
        words, gentle = [command], draw.random() < 0.5
        if command == "run":
            env = draw.choices([draw.choice(ENVIRONMENTS), draw.choice(TEXTS)], [9, 1])[0]
            words += [env] if env.endswith(".toml") else [env, *SMALL]
            if draw.random() < 0.8:
                words.append("--dry-run")
            strategy = "cem" if gentle and env == "CartPole-v1" else draw.choice(self._strategies)
            named = {"strategy": strategy, "policy": "linear"}
            flags = dict.fromkeys(["--policy", "--observer", "--strategy", "--nix"], "text")
            flags |= _list_flags(named)
            words += ["--strategy", strategy]
        else:
            options = [
                each for each in program.commands[command].params if isinstance(each, Option)
            ]
            flags = {each.opts[0]: each.metavar or "whole number" for each in options}
            flags = {k: what for k, what in flags.items() if k not in map(flag_of, NOT_TRIED)}
            flags |= {"--seed": "whole number", "--out": "text"}
            words += draw.choices([str(self._whole), draw.choice(TEXTS)], [3, 1])
        for _ in range(draw.choice([1, 1, 2, 3, 4])):
            flag, accepted = draw.choice(list(flags.items()))
            if draw.random() < 0.05:
                flag = _mistype(draw, flag)
            fitting = gentle or draw.random() < 0.3
            text = _draw_fitting(draw, accepted) if fitting else draw.choice(TEXTS)
            words += draw.choices([[flag, text], [f"{flag}={text}"], [flag]], [9, 9, 1])[0]
        words = [word.replace("\0", "") for word in words]  # no command line holds one
        said = call(lambda: main(words))
        return Verdict("flags", f"distes {_spell(words)}", *_assess_command(command, said))

    def _try_toml(self, draw: random.Random) -> Verdict:
        file = Path("given.toml")
        text = _write_toml(draw)
        file.write_bytes(text)
        words = ["run", "given.toml", *SMALL[2 * (draw.random() < 0.5) :]]
        words += ["--dry-run"] * (draw.random() < 0.8)
        said = call(lambda: main(words))
        return Verdict("TOML", f"{_spell(words)} with {text!r}", *assess(said))

    def _try_damage(self, draw: random.Random) -> Verdict:
        whole = draw.random() < 0.4
        run = Path("run")
        shutil.copytree(self._whole if whole else self._cut, run)
        done = [_damage(draw, run) for _ in range(draw.choice([1, 1, 2]))]
        act = draw.choice(["info", "load", "resume", "resume", "evaluate"])
        given = f"{act} of a {'finished' if whole else 'cut'} run: {'; '.join(done)}"
        if act == "load":
            outcome, detail = _assess_load(call(_read_all))
            return Verdict("damage", given, outcome, detail)
        more = {"evaluate": ["--episodes", "2"], "resume": ["--workers", "0"]}.get(act, [])
        said = call(lambda: main([act, "run", *more]))
        outcome, detail = assess(said)
        if act == "resume" and outcome == "well":
            try:
                assert_same_run(run, self._whole)
            except AssertionError as error:
                outcome = "said" if "distes: " in said.err else "silent"
                detail = str(error)[:300]
            except Exception as error:  # noqa: BLE001 - a run that can't be read differs, too
                outcome = "said" if "distes: " in said.err else "silent"
                detail = describe(error)
        return Verdict("damage", given, outcome, detail)

    def _try_environment(self, draw: random.Random) -> Verdict:
        fault = misbehaving.choose_fault(draw)
        check = draw.random() < 0.1
        words = ["check", "--histories", "2", "--episodes", "2"] if check else ["run", *SMALL]
        words.insert(1, "misbehaving:Misbehaving")
        words += ["--env-kwargs", json.dumps(fault)]
        if not check:
            words += ["--out", "out"]
        said = call(lambda: main(words))
        outcome, detail = _assess_environment(said, check=check)
        if outcome == "well" and not check and not Path("out/config.json").exists():
            outcome = "lost"
        return Verdict("environment", f"distes {_spell(words)}", outcome, detail)


def _assess_command(command: str, said: Said) -> tuple[str, str]:
    if said.code == 1 and command in ("check", "replay") and said.out and not said.err:
        return "well", ""  # the exit code is the answer
    if said.code == 2 and said.err.startswith("Usage: "):
        return "refused", "help"
    return assess(said)


def _assess_load(said: Said) -> tuple[str, str]:
    if isinstance(said.escaped, UsageError | StorageError) and "\n" not in str(said.escaped):
        return "refused", str(said.escaped)
    return assess(said)


def _assess_environment(said: Said, *, check: bool) -> tuple[str, str]:
    """A fault of the user's code is shown with its own traceback, and is nobody else's."""
    if isinstance(said.escaped, Exception) and not said.hung:
        # What would have ended the process is shown as the cause of an error.
        fault = said.escaped.__cause__ or said.escaped
        frames = traceback.extract_tb(fault.__traceback__)
        if Path(frames[-1].filename).name == "misbehaving.py":
            return "refused", "its own traceback"
    if said.code == 1 and check and said.out and "Traceback" not in said.err:
        return "well", ""
    if said.code == 1 and "distes: " in said.err and not said.hung:
        shown = said.err.partition("distes: ")[2]
        if "Traceback" not in shown or "misbehaving.py" in shown:
            return "refused", "its own traceback"
    return assess(said)


def _read_all() -> None:
    run = distes.load("run")
    for table in (run.generations, run.episodes, run.evaluations):
        len(table)
    list(run.events)
    run.population(0)
    repr(run)


def _list_flags(named: Mapping[str, str]) -> dict[str, str]:
    """List the flags of a run and what each accepts, but those that start or find a Ray."""
    plain = {**config_file.search_settings(), **settings_of(Task)}
    flags = {flag_of(k): each.accepted for k, each in plain.items() if k not in NOT_TRIED}
    for table, name in named.items():
        settings = settings_of(tables.choose(table, name))
        flags |= {flag_of(k, table): each.accepted for k, each in settings.items()}
    return flags


def _draw_fitting(draw: random.Random, accepted: str) -> str:
    """Draw a value that may be accepted, so that what comes after the first check is reached."""
    if accepted.startswith("one of "):
        return draw.choice(accepted.removeprefix("one of ").split(", "))
    numbers = ["0", "1", "2", "3", "7", "20"]
    if "number" in accepted and "whole" not in accepted:
        numbers += ["0.1", "0.5", "-1", "1e-9", "1e9", "none"]
    if "separated by commas" in accepted:
        return ",".join(draw.choices(numbers, k=draw.choice([1, 2, 3])))
    if "number" in accepted:
        return draw.choice(numbers)
    return draw.choice(["true", "none", "t", "episode_return", "observation", "0", "x"])


def _mistype(draw: random.Random, word: str) -> str:
    at = draw.randrange(2, len(word)) if len(word) > 2 else 0
    return draw.choice(
        [
            word[:at] + word[at + 1 :],
            word[:at] + draw.choice(string.ascii_letters + "._-é") + word[at:],
            word.upper(),
            word.replace("-", "_"),
            "--no-" + word.removeprefix("--"),
            word[:at],
        ]
    )


def _spell(words: Sequence[str]) -> str:
    return " ".join(w if re.fullmatch(r"[\w./:,=-]+", w, re.ASCII) else ascii(w) for w in words)


def _write_toml(draw: random.Random) -> bytes:
    """Write a configuration with something wrong: a key, a value, or the file itself."""
    plain = {**config_file.search_settings(), **settings_of(Task)}
    accepted = {name: each.accepted for name, each in plain.items() if name not in NOT_TRIED}
    accepted |= dict.fromkeys(("strategy", "policy", "function"), "text")
    config: dict[str, Any] = {"env": draw.choice(ENVIRONMENTS), "engine": "loop", "workers": 0}
    for _ in range(draw.choice([1, 1, 2, 3])):
        name = draw.choice(list(accepted))
        value = draw.choice([_draw_fitting(draw, accepted[name]), _draw_value(draw, 2)])
        config[_mistype(draw, name) if draw.random() < 0.1 else name] = value
    if draw.random() < 0.3:
        table = draw.choice(["strategy", "policy"])
        name = draw.choice(["elite_fraction", "extra_std", "bias", "name", "x"])
        config[table] = {"name": "cem" if table == "strategy" else "linear"}
        config[table][name] = _draw_value(draw, 2)
    try:
        text = tomli_w.dumps(config).encode()
    except UnicodeEncodeError:  # TOML is UTF-8: this is a file that is not
        text = tomli_w.dumps(config).encode(errors="surrogatepass")
    if draw.random() < 0.2:
        at = draw.randrange(len(text) + 1)
        text = text[:at] + draw.choice([b"", b"\0", b"\xff", b"[", b"=", b"\n"]) + text[at + 1 :]
    return text


def _draw_value(draw: random.Random, depth: int) -> Any:
    import datetime

    simple: list[Any] = [draw.choice(TEXTS), draw.choice(TEXTS), True, False, 0, 1, -1, 3, 10**30]
    simple += [2**63, -(2**63), 0.5, -0.5, math.nan, math.inf, 1e308, datetime.date(2026, 1, 1)]
    kind = draw.random()
    if depth and kind < 0.15:
        return [_draw_value(draw, depth - 1) for _ in range(draw.choice([0, 1, 2, 3]))]
    if depth and kind < 0.25:
        keys = ["a", "name", draw.choice(TEXTS)]
        return {key: _draw_value(draw, depth - 1) for key in keys[: draw.choice([0, 1, 2, 3])]}
    return draw.choice(simple)


def _damage(draw: random.Random, run: Path) -> str:
    """Damage one file of a run; says how."""
    files = sorted(path for path in run.rglob("*") if path.is_file())
    if not files:
        return "nothing is left"
    # First the folder, then the file: the few small ones as often as the many.
    folder = draw.choice(sorted({path.parent for path in files}))
    file = draw.choice([path for path in files if path.parent == folder])
    name = file.relative_to(run)
    data = file.read_bytes()
    how = draw.choice(["cut", "bit", "bit", "bytes", "gone", "empty", "other", "value"])
    if how == "gone":
        file.unlink()
        return f"{name} deleted"
    if how == "empty" or not data:
        file.write_bytes(b"")
        return f"{name} emptied"
    if how == "cut":
        at = draw.randrange(len(data))
        file.write_bytes(data[:at])
        return f"{name} cut at {at}"
    if how == "bit":
        at, bit = draw.randrange(len(data)), draw.randrange(8)
        file.write_bytes(data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :])
        return f"{name} bit {bit} of byte {at} flipped"
    if how == "bytes":
        at = draw.randrange(len(data))
        noise = draw.randbytes(16)
        file.write_bytes(data[:at] + noise + data[at + 16 :])
        return f"{name} 16 bytes at {at} replaced by {noise.hex()}"
    if how == "value" and file.suffix == ".json":
        try:
            return f"{name} {_change_value(draw, file, json.loads(data))}"
        except (ValueError, TypeError):  # damaged before
            pass
    other = draw.choice([b"null", b"[]", b"{}", b"\0" * 64, b"PAR1", b"0", b'"x"', b"\xff\xfe"])
    file.write_bytes(other)
    return f"{name} replaced by {other!r}"


def _change_value(draw: random.Random, file: Path, content: Any) -> str:
    """Put a value of another kind into a JSON file, at any depth, or take one away."""
    place, steps = content, []
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            raise ValueError("nothing to change")
        steps.append(draw.choice(keys))
        inner = place[steps[-1]]
        if not isinstance(inner, dict | list) or not inner or draw.random() < 0.3:
            break
        place = inner
    value = draw.choice([None, True, -1, 1.5, "x", "\ud800", [], {}, 10**30, "none", [1, "a"]])
    place[steps[-1]] = value
    file.write_text(json.dumps(content))
    return f"value of {'.'.join(map(str, steps))} is {value!r}"
