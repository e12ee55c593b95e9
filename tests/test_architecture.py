"""The house's rules, read off the source: who may import whom, and what is documented."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import distes
from distes.policies.base import PolicySpec
from distes.registry import find, names, settings_of
from distes.strategies.base import Strategy

ROOT = Path(distes.__file__).parent

LOOSE = ["errors", "types", "seeds", "registry", "signals"]
ROOMS = ["policies", "tasks", "population", "strategies", "engines", "evaluators", "runs"]
ROOMS += ["search", "views", "cli", "testing"]
FLOOR = dict.fromkeys(LOOSE, 0) | {name: floor for floor, name in enumerate(ROOMS, 1)}
"""From the bottom up: a room stands above what it uses."""

ONLY_IN = {
    "ray": ("evaluators.", "views.observers.prometheus", "cli.job_server"),
    "pyarrow": ("runs.",),
    "pandas": ("runs.", "search.", "views."),
    "gymnasium": (
        *("policies.", "tasks.", "engines.", "evaluators.worker", "search.", "testing.", "views."),
    ),
    "matplotlib": ("views.",),
    "PIL": ("views.",),
    "imageio_ffmpeg": ("views.",),
    "IPython": ("views.",),
    "numba": ("engines.kernels.",),
    "llvmlite": ("engines.kernels.",),
}
"""Library -> the modules that may see it."""


@dataclass(frozen=True)
class Module:
    """A file of the package.

    Attributes:
        tree: parsed.
        imports: all modules that it names in an import, wherever that stands.
    """

    tree: ast.Module
    imports: frozenset[str]


def imports_of(tree: ast.AST) -> Iterator[str]:
    """Every import: at module level, in functions, for type checking, by a literal name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide what is imported"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and node.args:
            called = ast.unparse(node.func).rpartition(".")[2]
            name = node.args[0]
            if called in ("import_module", "__import__") and isinstance(name, ast.Constant):
                yield str(name.value)


def read_modules(root: Path) -> dict[str, Module]:
    """Read a package: name below it -> module; ``__init__`` files by their folder's name."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        name = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix("__init__")
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found[name.rstrip(".")] = Module(tree, frozenset(imports_of(tree)))
    return found


def arrows(modules: Mapping[str, Module]) -> dict[str, set[str]]:
    """Who imports whom among modules, by their names below the package."""

    def module_of(imported: str) -> str:
        """The module that holds what is imported, or is it."""
        name = imported.removeprefix("distes.")
        return name if name in modules else name.rpartition(".")[0]

    graph = {
        name: {module_of(each) for each in module.imports if each.split(".")[0] == "distes"}
        for name, module in modules.items()
    }
    return {name: (others & modules.keys()) - {name} for name, others in graph.items()}


MODULES = read_modules(ROOT)
ARROWS = arrows(MODULES)


def room_of(module: str) -> str:
    return module.partition(".")[0]


def upward(graph: Mapping[str, set[str]]) -> list[str]:
    """Imports that run back up, and those of what has no floor."""
    return [
        f"{module} imports {other}"
        for module, others in graph.items()
        if module not in ("", "__main__")
        for other in others
        if FLOOR.get(room_of(other), 99) > FLOOR.get(room_of(module), -1)
    ]


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """One circle of imports, if there is any, within a room or between rooms."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_the_house_has_its_rooms_and_nothing_loose() -> None:
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert folders == set(ROOMS)
    files = {path.stem for path in ROOT.glob("*.py")} - {"__init__", "__main__"}
    assert files == set(LOOSE)


def test_imports_go_downwards_only() -> None:
    assert upward(ARROWS) == []


def test_there_is_no_circle_of_imports() -> None:
    assert circle(ARROWS) == []


@pytest.mark.parametrize(
    "text",
    [
        "import distes.cli.b",
        "from distes.cli import b",
        "from distes.cli.b import c",
        "def f():\n    from distes.cli import b",
        "if TYPE_CHECKING:\n    from distes.cli.b import C",
        "import importlib\nimportlib.import_module('distes.cli.b')",
    ],
)
def test_an_import_is_seen_wherever_it_stands(tmp_path: Path, text: str) -> None:
    """If wrong: the rules above hold on paper only."""
    for name, content in {"policies/a": text, "cli/b": "import distes.policies.a"}.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / f"{name}.py").write_text(content)
    graph = arrows(read_modules(tmp_path))
    assert upward(graph) == ["policies.a imports cli.b"]
    assert set(circle(graph)) == {"policies.a", "cli.b"}


@pytest.mark.parametrize("module", MODULES)
def test_heavy_libraries_stay_in_their_rooms(module: str) -> None:
    libraries = {name.split(".")[0] for name in MODULES[module].imports}
    for library, places in ONLY_IN.items():
        assert library not in libraries or module.startswith(places), f"{module}: {library}"


@pytest.mark.parametrize("module", MODULES)
def test_every_module_says_what_it_is_for(module: str) -> None:
    assert ast.get_docstring(MODULES[module].tree), f"{module} has no docstring"


LINUX_ONLY = re.compile(
    r"os\.(sched_|eventfd|memfd_|posix_fadvise|pidfd_)|select\.epoll|signal\.(SIGRT|SIGPWR)|/proc/"
)


def test_nothing_needs_linux() -> None:
    """If wrong: on macOS a command ends with an AttributeError or a missing file.

    A lock's name of a process is read from /proc, and does without where there is none.
    """
    found = [name for name in ROOT.rglob("*.py") if LINUX_ONLY.search(name.read_text("utf-8"))]
    assert [path.name for path in found] == ["locks.py"]


OUR_OWN = {"external", "random_search"}
"""Strategies without a paper: an adapter and the baseline."""


@pytest.mark.parametrize("name", sorted(set(names("strategies", Strategy)) - OUR_OWN))
def test_every_strategy_names_its_source(name: str) -> None:
    text = ast.get_docstring(MODULES[f"strategies.{name}"].tree) or ""
    assert re.search(r"\b(19|20)\d\d\b", text), f"{name} cites no paper with its year"


@pytest.mark.parametrize(
    ("package", "base"), [("strategies", Strategy), ("policies", PolicySpec)], ids=str
)
def test_every_setting_has_help(package: str, base: type) -> None:
    """A field without a line under Attributes is a flag without help."""
    for name in names(package, base):
        for setting in settings_of(find(package, name, base)).values():
            assert setting.help, f"{package}/{name}: {setting.name} is not in the docstring"
