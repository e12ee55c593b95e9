"""The machine's cache of compiled programs, warming it up, and a machine without numba."""

from __future__ import annotations

import ast
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from marks import slow
from paths import SUPPORT

pytest.importorskip("numba")

from distes.engines import choice
from distes.engines.kernels import cache as kernel_cache
from distes.engines.kernels import ingredients, jit, lookup
from distes.policies import Linear
from distes.population.distributions import Point
from distes.population.probes import ObservationMoments
from distes.population.records import RECORDS, Population, RunKey
from distes.tasks.environment import Task

KERNEL = """
import gymnasium as gym
import numpy as np
from distes.engines.kernels.kernel import Kernel
from distes.engines.kernels.jit import jit
from numbers_apart import GAIN
from functions_apart import worth

class SlideKernel(Kernel):
    num_states = 1

    @staticmethod
    def reset(state, generator, context, constants):
        state[0] = 1.0

    @staticmethod
    def observe(state, constants, observation):
        observation[0] = state[0]

    @staticmethod
    def step(state, action, generator, constants):
        state[0] += GAIN
        return worth(state[0]), False

class Slide(gym.Env):
    kernel = SlideKernel

    def __init__(self):
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float64)
        self.action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = 1.0
        return np.array([self.at]), {}

    def step(self, action):
        self.at += GAIN
        return np.array([self.at]), worth(self.at), False, False, {}
"""

NUMBERS = "GAIN = 0.5\n"
FUNCTIONS = """
from distes.engines.kernels.jit import jit
@jit
def worth(value):
    return 2.0 * value
"""

RUN = """
import sys
import numpy as np
from distes.engines import choice
from distes.population.distributions import Point
from distes.engines.kernels import lookup
from distes.policies import MLP, Linear
from distes.population.records import Population, RunKey
from distes.tasks.environment import Task

env, hidden = sys.argv[1], tuple(map(int, sys.argv[2].split(","))) if sys.argv[2] else ()
if env == "slide":
    import slide
    env = slide.Slide
task = Task(env, max_episode_steps=4)
policy = task.build_policy(MLP(hidden, activation="relu") if hidden else Linear())
returns = []
for name in ("compiled", "loop"):
    engine = choice.make(name, task, policy)
    population = Population(Point(np.ones(policy.num_parameters)), 3)
    if name == "compiled":
        before = lookup.ready(task, policy)
        program = engine._load_runner()._program
    returns.append(engine.run(population, RunKey(0, 0), 0, 3).rows["episode_return"])
assert (returns[0] == returns[1]).all(), returns
hits = sum(sum(f.stats.cache_hits.values()) for f in program)
misses = sum(sum(f.stats.cache_misses.values()) for f in program)
print(before, hits, misses, returns[0][0])
"""

WITHOUT_NUMBA = "import sys; sys.modules['numba'] = None\n"

MAIN = "from distes.cli import main; sys.exit(main(sys.argv[1:]))"


def python(text: str, *arguments: str, cache: Path, **environment: str) -> Any:
    """Run a program in a process of its own."""
    variables = {**os.environ, "XDG_CACHE_HOME": str(cache), "NUMBA_CACHE_DIR": "", **environment}
    return subprocess.run(
        [sys.executable, "-c", text, *arguments],
        capture_output=True,
        text=True,
        env=variables,
        cwd=environment.get("PWD"),
        timeout=300,
        check=False,
    )


def said(result: Any) -> list[str]:
    assert result.returncode == 0, result.stderr
    words: list[str] = result.stdout.split()
    return words


needs_numba = pytest.mark.skipif(not lookup.is_numba_installed(), reason="needs numba")


def kept(cache: Path) -> set[Path]:
    """Files of machine code."""
    return {path for path in cache.rglob("distes/kernels/*") if path.suffix != ".lock"}


def stamps(cache: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in kept(cache)}


@pytest.mark.slow
@needs_numba
def test_a_machine_compiles_once(tmp_path: Path) -> None:
    """The second process loads what the first compiled, and writes nothing."""
    assert said(python(RUN, "CartPole-v1", "", cache=tmp_path))[:3] == ["False", "0", "2"]
    before = stamps(tmp_path)
    assert len(before) == 1
    assert said(python(RUN, "CartPole-v1", "", cache=tmp_path))[:3] == ["True", "2", "0"]
    assert stamps(tmp_path) == before
    # A network of another shape is another program.
    assert said(python(RUN, "CartPole-v1", "3", cache=tmp_path))[:3] == ["False", "0", "2"]
    assert said(python(RUN, "CartPole-v1", "4", cache=tmp_path))[:3] == ["False", "0", "2"]
    assert len(kept(tmp_path)) == 3


def write_project(folder: Path) -> dict[str, str]:
    """Write the modules of a user's kernel; the environment for processes that use it."""
    folder.mkdir(exist_ok=True)
    texts = {"slide": KERNEL, "numbers_apart": NUMBERS, "functions_apart": FUNCTIONS}
    for name, text in texts.items():
        (folder / f"{name}.py").write_text(text)
    places = os.pathsep.join([str(folder), str(SUPPORT.parent)])
    return {"PWD": str(folder), "PYTHONPATH": places, "PYTHONDONTWRITEBYTECODE": "1"}


def install_project(site: Path) -> dict[str, str]:
    """Write the same as an installed package."""
    package = site / "sliding"
    site.mkdir()
    there = write_project(package)
    (package / "__init__.py").touch()
    kernel = package / "slide.py"
    kernel.write_text(
        KERNEL.replace("from numbers_", "from .numbers_").replace("from func", "from .func")
    )
    (site / "slide.py").write_text("from sliding.slide import Slide")
    return {
        **there,
        "PWD": str(site),
        "PYTHONPATH": os.pathsep.join([str(site), str(SUPPORT.parent)]),
    }


CHANGES = [
    ("slide.py", "+= GAIN", "+= 2 * GAIN"),
    ("numbers_apart.py", "0.5", "0.75"),
    ("functions_apart.py", "2.0", "3.0"),
]


@pytest.mark.slow
@needs_numba
def test_changed_sources_of_an_installed_package(tmp_path: Path) -> None:
    """Its own text, a number from elsewhere, a function from elsewhere: all are in the code."""
    cache, site = tmp_path / "cache", tmp_path / "site-packages"
    there = install_project(site)
    found = said(python(RUN, "slide", "", cache=cache, **there))
    assert found[:3] == ["False", "0", "2"]
    assert said(python(RUN, "slide", "", cache=cache, **there)) == ["True", "2", "0", found[3]]
    returns = [found[3]]
    for file, old, new in CHANGES:
        source = site / "sliding" / file
        source.write_text(source.read_text().replace(old, new))
        found = said(python(RUN, "slide", "", cache=cache, **there))
        assert found[:3] == ["False", "0", "2"]
        returns.append(found[3])
    assert len(set(returns)) == 4


@pytest.mark.slow
@needs_numba
def test_other_versions_and_options_are_other_machine_code(tmp_path: Path) -> None:
    """Of numba's settings, and of the packages that a kernel's may be made of."""
    cache, site = tmp_path / "cache", tmp_path / "site-packages"
    there = install_project(site)
    for _ in range(2):
        said(python(RUN, "slide", "", cache=cache, **there))
    assert len(kept(cache)) == 1
    for change in ({"NUMBA_OPT": "1"}, {"NUMBA_CPU_NAME": "generic"}):
        assert said(python(RUN, "slide", "", cache=cache, **there, **change))[:2] == ["False", "0"]
    (site / "helpers-2.0.dist-info").mkdir()
    assert said(python(RUN, "slide", "", cache=cache, **there))[:2] == ["False", "0"]
    assert len(kept(cache)) == 4


@needs_numba
@pytest.mark.parametrize(("file", "old", "new"), [CHANGES[0], *(slow(*c) for c in CHANGES[1:])])
def test_a_kernel_that_may_be_edited_is_not_kept(
    tmp_path: Path, file: str, old: str, new: str
) -> None:
    """Each process compiles it as it is by then."""
    cache, folder = tmp_path / "cache", tmp_path / "project"
    there = write_project(folder)
    first = said(python(RUN, "slide", "", cache=cache, **there))
    (folder / file).write_text((folder / file).read_text().replace(old, new))
    edited = said(python(RUN, "slide", "", cache=cache, **there))
    assert edited[0] == "False"
    assert edited[3] != first[3]
    assert kept(cache) == set()


LATER = """
import pathlib, sliding.slide
text = pathlib.Path("sliding/slide.py").read_text()
pathlib.Path("sliding/slide.py").write_text(text.replace("+= GAIN", "+= 2 * GAIN"))
"""


@pytest.mark.slow
@needs_numba
def test_a_file_that_is_edited_after_its_import(tmp_path: Path) -> None:
    """What was compiled is not what the file says by then, so it is not kept."""
    there, cache = install_project(tmp_path / "site-packages"), tmp_path / "cache"
    first = said(python(LATER + RUN, "slide", "", cache=cache, **there))
    assert kept(cache) == set()
    edited = said(python(RUN, "slide", "", cache=cache, **there))
    assert edited[:3] == ["False", "0", "2"]
    assert edited[3] != first[3]


def test_numbers_of_kernels_come_from_hashed_sources() -> None:
    """If wrong: an edited constant elsewhere in distes leaves machine code as it was."""
    hashed = tuple("distes." + each.replace("/", ".") for each in kernel_cache.OWN_SOURCES)
    root = Path(kernel_cache.__file__).parent
    for file in [*root.glob("actors/*.py"), *root.glob("environments/*.py")]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("distes."):
                numbers = [each.name for each in node.names if each.name.isupper()]
                assert not numbers or str(node.module).startswith(hashed), (file, numbers)


@pytest.mark.slow
@needs_numba
def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    """Then each process compiles for itself."""
    blocked = tmp_path / "file"
    blocked.touch()
    for _ in range(2):
        assert said(python(RUN, "CartPole-v1", "", cache=blocked))[0] == "False"
    assert blocked.read_text() == ""


@pytest.mark.slow
@needs_numba
@pytest.mark.skipif(os.geteuid() == 0, reason="everything can be written by root")
def test_a_cache_without_permission(tmp_path: Path) -> None:
    """As above, where it is a matter of permissions."""
    tmp_path.chmod(0o500)
    try:
        assert said(python(RUN, "CartPole-v1", "", cache=tmp_path))[0] == "False"
    finally:
        tmp_path.chmod(0o700)


READ_ONLY = """
import os
asked = os.access
os.access = lambda path, mode: not mode & os.W_OK and asked(path, mode)
"""


@pytest.mark.slow
@needs_numba
def test_a_cache_that_can_only_be_read(tmp_path: Path) -> None:
    """What it has is used, as an image's is by who did not build it; nothing is added to it."""
    said(python(RUN, "CartPole-v1", "", cache=tmp_path))
    before = stamps(tmp_path)
    there = said(python(READ_ONLY + RUN, "CartPole-v1", "", cache=tmp_path))
    assert there[:3] == ["True", "2", "0"]
    missing = said(python(READ_ONLY + RUN, "CartPole-v1", "3", cache=tmp_path))
    assert missing[:2] == ["False", "0"]
    assert stamps(tmp_path) == before


@needs_numba
def test_a_damaged_file_is_not_unpacked(tmp_path: Path) -> None:
    """What it had would end the process, or give other numbers."""
    before, file, folder = (tmp_path / name for name in ("before", "file", "folder"))
    before.mkdir()
    (before / "code").write_bytes(bytes(range(256)) * 64)
    kernel_cache._pack(before, file)
    whole = file.read_bytes()
    flipped, zeros = bytearray(whole), bytearray(whole)
    flipped[len(whole) // 2] ^= 8
    zeros[8192 : 8192 + 4096] = bytes(4096)  # as a lost power supply leaves a page
    for damaged in (b"", whole[:-1], zeros, flipped):
        file.write_bytes(damaged)
        kernel_cache._unpack(file, folder)
        assert not folder.exists()
    file.write_bytes(whole)
    kernel_cache._unpack(file, folder)
    assert (folder / "code").read_bytes() == (before / "code").read_bytes()


@pytest.mark.slow
@needs_numba
def test_a_damaged_file_is_compiled_again(tmp_path: Path) -> None:
    """Once, and kept anew."""
    cache = tmp_path / "cache"
    assert said(python(RUN, "CartPole-v1", "", cache=cache)) == ["False", "0", "2", "4.0"]
    (file,) = kept(cache)
    file.write_bytes(file.read_bytes()[:-1])
    assert said(python(RUN, "CartPole-v1", "", cache=cache))[1:] == ["0", "2", "4.0"]
    assert said(python(RUN, "CartPole-v1", "", cache=cache))[1:] == ["2", "0", "4.0"]


@pytest.mark.slow
@needs_numba
def test_arrays_that_ray_hands_out_are_no_others(tmp_path: Path, monkeypatch: Any) -> None:
    """Machine code is made for arrays that can be written, and takes no read-only ones."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    task = Task("Pendulum-v1", max_episode_steps=5)
    policy = task.build_policy(Linear())
    engine = choice.make("compiled", task, policy)
    center, parameters = np.zeros(3), np.zeros(policy.num_parameters)
    frozen = {"observation_mean": np.zeros(3), "observation_std": np.ones(3)}
    for array in (center, parameters, *frozen.values(), engine._kernel.constants):
        array.setflags(write=False)
    population = Population(
        Point(parameters), 9, probes=(ObservationMoments(center),), frozen=frozen, records=RECORDS
    )
    for asked in (population, replace(population, records=())):
        assert engine.run(asked, RunKey(0, 0), 0, 9).stop == 9
    assert len(kept(tmp_path)) == 1


@pytest.mark.slow
@needs_numba
def test_numbas_own_cache_is_left_alone(tmp_path: Path) -> None:
    """Wherever it was told to keep things: also where there is no such place."""
    (tmp_path / "file").touch()
    nowhere = str(tmp_path / "file" / "numba")
    for found in (["False", "0", "2"], ["True", "2", "0"]):
        given = {"NUMBA_CACHE_DIR": nowhere}
        assert said(python(RUN, "CartPole-v1", "", cache=tmp_path, **given))[:3] == found


def add_one(number):
    return number + 1.0


def add_two(number):
    return number + 2.0


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@needs_numba
@pytest.mark.parametrize("locator", ["", "UserWideCacheLocator"])
def test_what_lies_in_numbas_own_cache_is_not_run(
    locator: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If wrong: who can write numba's cache folder runs code in others' searches."""
    import numba

    def compile_two(names: Any = None, *, cache: bool = True) -> Any:
        return tuple(numba.njit("f8(f8)", cache=cache)(each) for each in (add_one, add_two))

    # After numba was imported, as a user's module does it.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("NUMBA_CACHE_LOCATOR_CLASSES", locator)
    if not locator:
        monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "numba"))
    numba.config.reload_config()
    compile_two()
    planted = list(tmp_path.rglob("*.nbi"))
    assert len(planted) == 2
    for file in planted:
        file.write_bytes(pickle.dumps(Trap(tmp_path / "trapped")))
    monkeypatch.setenv("NUMBA_COLOR_SCHEME", "no_color")  # makes numba read them all again
    monkeypatch.setattr(kernel_cache, "compile_program", compile_two)
    (tmp_path / "ours").mkdir()
    program = kernel_cache.load_kept({}, tmp_path / "ours" / "program")
    assert not (tmp_path / "trapped").exists()
    assert [function(1.0) for function in program] == [2.0, 3.0]


@pytest.mark.slow
@needs_numba
def test_two_processes_at_once(tmp_path: Path) -> None:
    """One compiles, the other waits and loads."""
    variables = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "NUMBA_CACHE_DIR": ""}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", RUN, "CartPole-v1", ""],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=variables,
        )
        for _ in range(2)
    ]
    answers = [process.communicate(timeout=300) for process in started]
    assert [process.returncode for process in started] == [0, 0], answers
    misses = sorted(out.split()[2] for out, _ in answers)
    assert misses == ["0", "2"]
    assert len(kept(tmp_path)) == 1


ALIKE = """
import os, sys
import numpy as np
from distes.engines import choice
from distes.population.distributions import Point
from distes.policies import MLP
from distes.population.records import Population, RunKey
from distes.tasks.environment import Task

task = Task("CartPole-v1")

def run(name, hidden):
    policy = task.build_policy(MLP((hidden,), activation="relu"))
    parameters = np.random.default_rng(0).normal(size=policy.num_parameters)
    return choice.make(name, task, policy).run(
        Population(Point(parameters), 20), RunKey(0, 0), 0, 20
    ).rows["episode_return"]

if sys.argv[1] == "fork":
    for hidden in (3, 4, 5):
        if not (child := os.fork()):
            run("compiled", hidden)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
elif sys.argv[1] == "compile":
    run("compiled", int(sys.argv[2]))
else:
    for hidden in (3, 4, 5):
        assert (run("compiled", hidden) == run("loop", hidden)).all(), hidden
"""


@pytest.mark.slow
@needs_numba
@pytest.mark.parametrize("way", ["of their own", "forked"])
def test_what_several_processes_compiled_goes_together(tmp_path: Path, way: str) -> None:
    """numba names functions by a count that each process begins at one.

    Layers of one network then had the names of another's, and machine code called whichever
    was loaded first.
    """
    if way == "forked":
        said(python(ALIKE, "fork", cache=tmp_path))
    else:
        for hidden in ("3", "4", "5"):
            said(python(ALIKE, "compile", hidden, cache=tmp_path))
    before = stamps(tmp_path)
    said(python(ALIKE, "compare", cache=tmp_path))
    assert stamps(tmp_path) == before
    assert len(kept(tmp_path)) == 3


@pytest.mark.slow
@needs_numba
def test_a_numba_whose_names_cannot_be_told_apart(tmp_path: Path, monkeypatch: Any) -> None:
    """Nothing is kept, and each process compiles."""
    unknown = "from distes.engines.kernels import jit; jit.NAMED_APART = False\n"
    found = said(python(unknown + RUN, "CartPole-v1", "3", cache=tmp_path))
    assert found[0] == "False"
    assert not (tmp_path / "distes").exists()
    monkeypatch.setattr("numba.core.bytecode.FunctionIdentity", object)
    assert not jit._count_apart()


def distes(*arguments: str, cache: Path, first: str = "import sys\n", **there: str) -> Any:
    return python(first + MAIN, *arguments, cache=cache, **there)


@pytest.mark.slow
@needs_numba
def test_warmup(tmp_path: Path) -> None:
    """What it compiles, a run finds: with its policy's shape and environment's arguments."""
    settings = ["Pendulum-v1", "--policy", "mlp", "--policy.hidden", "5,4", "--max-episode-steps=3"]
    cold = distes("warmup", *settings, cache=tmp_path)
    assert cold.returncode == 0, cold.stderr
    assert cold.stdout.startswith("Pendulum-v1: compiled in ")
    assert "compiling Pendulum-v1" in cold.stderr
    warm = distes("warmup", *settings, cache=tmp_path)
    assert (warm.stdout, warm.stderr) == ("Pendulum-v1: compiled before\n", "")
    run = ["--workers=0", "--generations=1", "--population=20", "--out", str(tmp_path / "run")]
    ran = distes("run", *settings, *run, cache=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert "compiling" not in ran.stderr
    assert len(kept(tmp_path)) == 1


@needs_numba
@pytest.mark.slow
def test_warmup_without_a_target(tmp_path: Path) -> None:
    """All that have a kernel of ours; CartPole's two versions differ in their limit alone."""
    from distes.engines.kernels import lookup

    result = distes("warmup", cache=tmp_path)
    assert result.returncode == 0, result.stderr
    told = dict(line.split(": ") for line in result.stdout.splitlines())
    assert list(told) == lookup.covered_environments()
    again = [name for name, words in told.items() if words == "compiled before"]
    assert again == ["CartPole-v1"]
    assert len(kept(tmp_path)) == len(told) - 1


@needs_numba
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["FrozenLake-v1"], "FrozenLake-v1 has no kernel"),
        slow(["CartPole-v1", "--engine", "loop"], "loop"),
        slow(["Acrobot-v1", "--env-kwargs", '{"book_or_nips": "nips"}'], "book_or_nips"),
        (["CartPol-v1"], "CartPole-v1"),
        slow(["no.toml"], "no.toml"),
        slow(["CartPole-v1", "CartPole-v0"], "CartPole-v0"),
        slow(["--policy", "mlp"], "environment"),
    ],
)
def test_wrong_uses_of_warmup(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    """One sentence, and nothing compiled."""
    result = distes("warmup", *arguments, cache=tmp_path)
    assert result.returncode == 2, (result.stdout, result.stderr)
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert sentence in result.stderr
    assert not (tmp_path / "distes").exists()


def short(out: Path, *more: str) -> list[str]:
    start = ["run", "CartPole-v1", "--workers=0", "--generations=2", "--population=20"]
    return [*start, "--final-episodes=2", "--max-episode-steps=9", "--out", str(out), *more]


@pytest.mark.parametrize("missing", ["absent", slow("too old for this numpy")])
def test_without_numba(tmp_path: Path, missing: str) -> None:
    """The loop engine runs, and one line says what the extra would bring."""
    blocked, there = WITHOUT_NUMBA, {}
    if missing != "absent":
        (tmp_path / "numba.py").write_text("raise ImportError('numba needs an older numpy')\n")
        there["PYTHONPATH"] = os.pathsep.join([str(tmp_path), str(SUPPORT.parent)])
        blocked = "import sys\n"
    cache = tmp_path / "cache"
    run = distes(*short(tmp_path / "run"), cache=cache, first=blocked, **there)
    assert run.returncode == 0, run.stderr
    lines = [line for line in (run.stdout + run.stderr).splitlines() if "distes[compiled]" in line]
    assert len(lines) == 1
    assert "Traceback" not in run.stderr
    assert not cache.exists()
    for arguments in (short(tmp_path / "no", "--engine=compiled"), ["warmup", "CartPole-v1"]):
        refused = distes(*arguments, cache=cache, first=blocked, **there)
        assert refused.returncode == 2
        assert "numba" in refused.stderr
        assert "pip install 'distes[compiled]'" in " ".join(refused.stderr.split())
        assert "Traceback" not in refused.stderr
    assert not (tmp_path / "no").exists()
    # There is nothing to say of an environment that has no kernel anyway.
    other = [*short(tmp_path / "other"), "--max-episode-steps=3"]
    other[1] = "CliffWalking-v1"
    assert "distes[compiled]" not in distes(*other, cache=cache, first=blocked, **there).stderr


@pytest.mark.slow
@needs_numba
def test_a_compiled_run_does_not_go_on_without_numba(tmp_path: Path) -> None:
    """On another engine it would be another run."""
    out = tmp_path / "run"
    search = (
        "import sys; sys.path[:0] = sys.argv[2:]\n"
        "from searches import StopAt\n"
        "from distes import Search, Task\n"
        "Search(Task('CartPole-v1', max_episode_steps=9), out=sys.argv[1], workers=0,\n"
        "    generations=3, population=20, observers=(StopAt(1),)).run()\n"
    )
    begun = python(search, str(out), str(SUPPORT), cache=tmp_path)
    assert "KeyboardInterrupt" in begun.stderr
    refused = distes("resume", str(out), "--workers=0", cache=tmp_path, first=WITHOUT_NUMBA)
    assert refused.returncode == 2, refused.stderr
    assert "numba" in refused.stderr
    assert "Traceback" not in refused.stderr
    went_on = distes("resume", str(out), "--workers=0", cache=tmp_path)
    assert went_on.returncode == 0, went_on.stderr


def find_file(kernel: Any, actor: Any) -> Path | None:
    return kernel_cache.find_file(ingredients.read_ingredients(kernel, actor))


@needs_numba
def test_a_folder_that_others_may_write_is_not_used(tmp_path: Path, monkeypatch: Any) -> None:
    """What lies in it would be run."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    task = Task("CartPole-v1")
    kernel, actor = type(lookup.kernel_of(task)), lookup.actor_of(task.build_policy(Linear()))
    file = find_file(kernel, actor)
    assert file is not None
    assert file.is_relative_to(tmp_path)
    for folder in (file.parent, file.parent.parent):
        folder.chmod(0o777)
        assert find_file(kernel, actor) is None
        folder.chmod(0o755)
        assert find_file(kernel, actor) == file
    # To anybody else it is another's, who is trusted if that is root.
    owner = file.parent.stat().st_uid
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    assert (find_file(kernel, actor) is not None) == (owner == 0)
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    other = find_file(kernel, actor)
    assert other is not None
    assert other.is_relative_to(tmp_path / "home" / ".cache")


@needs_numba
def test_what_helpers_know_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If wrong: a helper that changed, or a number that it reads, finds old machine code."""
    from distes.engines.kernels.environments import acrobot

    @jit.jit
    def wrap(angle: float) -> float:
        return angle

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    task = Task("Acrobot-v1")
    pair = type(lookup.kernel_of(task)), lookup.actor_of(task.build_policy(Linear()))
    before = find_file(*pair)
    assert before is not None
    monkeypatch.setattr(acrobot, "GRAVITY", 20.0)  # only a helper of a helper reads it
    assert find_file(*pair) not in (before, None)
    monkeypatch.setattr(acrobot, "_wrap_angle", wrap)  # of a module that may be edited
    assert find_file(*pair) is None
