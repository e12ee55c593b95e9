"""The house's rules, read off the source: who may import whom, and what is documented."""

import ast
import re
from pathlib import Path

import pytest

import distes
from distes.policies.base import PolicySpec
from distes.registry import find, names, settings_of
from distes.strategies.base import Strategy

ROOT = Path(distes.__file__).parent

LAYERS = [
    {"types", "errors", "registry", "population", "randomness", "numerics", "statistics", "shield"}
    | {"settings", "provenance", "project", "imports", "inline"},
    {
        "distributions",
        "contextual",
        "context",
        "probes",
        "score_sums",
        "policies",
        "task",
        "envs",
        "kernels",
    },
    {"strategies", "rollouts"},
    {"evaluators", "runs"},
    {"problem", "search", "session", "results", "deployment", "configuration"}
    | {"metrics", "jobs"},
    {"cli", "analysis", "display", "testing", "__main__"},
]
LAYER = {room: number for number, rooms in enumerate(LAYERS) for room in rooms}

STRANGERS = {frozenset({"strategies", "rollouts"}), frozenset({"evaluators", "runs"})}
"""Rooms of one layer that must not know each other."""

ONLY_IN = {
    "ray": {"evaluators", "metrics", "jobs"},
    "pyarrow": {"runs"},
    "matplotlib": {"analysis"},
    "PIL": {"analysis"},
    "imageio_ffmpeg": {"analysis"},
    "IPython": {"analysis"},
    "numba": {"kernels"},
    "llvmlite": {"kernels"},
    "filelock": {"kernels"},
}
NEVER_IN_STRATEGIES = {"ray", "gymnasium", "pyarrow", "pandas"}

MODULES = {
    str(path.relative_to(ROOT)): ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted(ROOT.rglob("*.py"))
}


def room_of(module: str) -> str:
    return Path(module).parts[0].removesuffix(".py")


def imports(tree: ast.Module) -> set[str]:
    """All modules a file imports at any time, except for type checking alone."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide what is imported"
            module = node.module or ""
            whole = module == "distes"
            found.update(f"distes.{a.name}" for a in node.names if whole)
            found.update([] if whole else [module])
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(tree)
    return found


def rooms_imported(tree: ast.Module) -> set[str]:
    return {name.split(".")[1] for name in imports(tree) if name.startswith("distes.")}


@pytest.mark.parametrize("module", [m for m in MODULES if room_of(m) != "__init__"])
def test_imports_go_downwards_only(module: str) -> None:
    room = room_of(module)
    assert room in LAYER, f"{room} has no layer yet: give it one"
    for other in rooms_imported(MODULES[module]) & set(LAYER):
        assert LAYER[other] <= LAYER[room], f"{module} imports {other} from above"
        assert frozenset({room, other}) not in STRANGERS, f"{room} must not know {other}"


@pytest.mark.parametrize("module", MODULES)
def test_heavy_libraries_stay_in_their_rooms(module: str) -> None:
    room = room_of(module)
    libraries = {name.split(".")[0] for name in imports(MODULES[module])}
    for library, rooms in ONLY_IN.items():
        assert library not in libraries or room in rooms, f"{module} imports {library}"
    if room == "strategies":
        assert not libraries & NEVER_IN_STRATEGIES


@pytest.mark.parametrize("module", MODULES)
def test_every_module_says_what_it_is_for(module: str) -> None:
    assert ast.get_docstring(MODULES[module]), f"{module} has no docstring"


OUR_OWN = {"external", "random_search"}
"""Strategies without a paper: an adapter and the baseline."""


@pytest.mark.parametrize("name", sorted(set(names("strategies", Strategy)) - OUR_OWN))
def test_every_strategy_names_its_source(name: str) -> None:
    text = ast.get_docstring(MODULES[f"strategies/{name}.py"]) or ""
    assert re.search(r"\b(19|20)\d\d\b", text), f"{name} cites no paper with its year"


@pytest.mark.parametrize(
    ("package", "base"), [("strategies", Strategy), ("policies", PolicySpec)], ids=str
)
def test_every_setting_has_help(package: str, base: type) -> None:
    """A field without a line under Attributes is a flag without help."""
    for name in names(package, base):
        for setting in settings_of(find(package, name, base)).values():
            assert setting.help, f"{package}/{name}: {setting.name} is not in the docstring"
