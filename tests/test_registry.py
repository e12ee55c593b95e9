"""Names to classes: files of a folder, modules of users, announcements of installed packages."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from distes import registry
from distes.cli import main
from distes.errors import Notice, UsageError
from distes.search.config_file import from_config, to_config
from distes.search.observer import Observer
from distes.search.settings import Settings
from distes.strategies.base import Strategy
from distes.strategies.cem import CEM

STRATEGY = '''
from dataclasses import dataclass

from distes.strategies.cem import CEM
from distes.types import PositiveInt


@dataclass(frozen=True)
class Patient(CEM):
    """Waits.

    Attributes:
        patience: generations to wait.
    """

    patience: PositiveInt = 3


def function():
    pass
'''

OBSERVER = '''
from distes.search.observer import Observer


class Counting(Observer):
    """Counts generations."""
'''

ENTRY_POINTS = """
[distes.strategies]
Patient-One = plugged.patient:Patient
cem = plugged.patient:Patient
broken = plugged.needs_more:Thing
gone = plugged.gone:Thing
misfit = plugged.patient:function

[distes.engines]
gone = plugged.gone:Engine

[distes.observers]
counting = plugged:Counting
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package that is installed, as far as Python can see."""
    put = {
        "plugged/__init__.py": OBSERVER,
        "plugged/patient.py": STRATEGY,
        "plugged/needs_more.py": "import not_there_at_all\n",
        "plugged-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: plugged\nVersion: 1\n",
        "plugged-1.dist-info/entry_points.txt": ENTRY_POINTS,
    }
    for name, text in put.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "plugged"]:
        del sys.modules[name]


@pytest.mark.usefixtures("installed")
def test_what_an_installed_package_announces_is_found_by_name() -> None:
    """If wrong: a package on its own needs an edit here, or `module:Class` in every command."""
    assert "patient_one" in registry.names("strategies", Strategy)
    assert "plugged" not in sys.modules, "listing names runs nothing of others"
    for spelled in ("patient-one", "patient_one", "plugged.patient:Patient"):
        found = registry.find("strategies", spelled, Strategy)
        assert found.__qualname__ == "Patient"
        assert registry.name_of("strategies", found) == "patient_one"
    search = from_config(
        {"env": "CartPole-v1", "strategy": {"name": "patient-one", "patience": 5}}, Settings
    )
    assert to_config(search)["strategy"]["name"] == "patient_one"
    assert registry.find("views.observers", "counting", Observer).__module__ == "plugged"


@pytest.mark.usefixtures("installed")
def test_a_file_of_ours_is_not_replaced_by_an_installed_package() -> None:
    """If wrong: installing something changes what `cem` computes."""
    assert registry.find("strategies", "cem", Strategy) is CEM
    assert registry.names("strategies", Strategy).count("cem") == 1


@pytest.mark.usefixtures("installed")
def test_a_broken_package_hides_no_other() -> None:
    """If wrong: one faulty plug-in takes `distes list` along."""
    with pytest.warns(Notice) as told:
        found = registry.find_all("strategies", Strategy)
    assert {"cem", "patient_one"} <= set(found)
    assert not {"broken", "gone", "misfit"} & set(found)
    said = sorted(str(notice.message) for notice in told)
    assert len(said) == 3
    assert said[0].startswith(
        "'broken', announced as plugged.needs_more:Thing, can't be used: ModuleNotFoundError"
    )
    assert said[1].endswith("there is no module 'plugged.gone'")
    assert "is not a subclass of distes.strategies.base.Strategy" in said[2]


@pytest.mark.usefixtures("installed")
def test_the_command_line_knows_them(capsys: pytest.CaptureFixture[str]) -> None:
    """If wrong: a name that Python finds is none for `--strategy`, or its flags are missing."""
    assert main(["list", "strategies"]) == 0
    listed, said = capsys.readouterr()
    assert "patient_one" in listed
    assert "Waits." in listed
    assert "'gone', announced as plugged.gone:Thing, can't be used" in said
    flags = ["--strategy", "patient-one", "--strategy.patience", "7"]
    assert main(["run", "CartPole-v1", *flags, "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert 'name = "patient_one"\n' in told
    assert "patience = 7\n" in told
    assert main(["list", "engines"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [
        *("compiled", "function", "loop")
    ]
    assert main(["run", "CartPole-v1", "--strategy", "patient-two", "--dry-run"]) == 2
    assert "did you mean 'patient_one'?" in capsys.readouterr().err


def test_a_file_in_the_folder_is_all_that_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If wrong: adding a strategy means editing a list somewhere."""
    import distes.strategies

    (tmp_path / "patient.py").write_text(STRATEGY)
    monkeypatch.setattr(distes.strategies, "__path__", [*distes.strategies.__path__, str(tmp_path)])
    try:
        assert "patient" in registry.names("strategies", Strategy)
        found = registry.find("strategies", "patient", Strategy)
        assert registry.name_of("strategies", found) == "patient"
    finally:
        sys.modules.pop("distes.strategies.patient", None)


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("nowhere.at_all:Thing", "strategy 'nowhere.at_all:Thing': there is no module 'nowhere'"),
        (":Thing", "strategy ':Thing' is not of the form package.module:name"),
        ("..relative:Thing", "strategy '..relative:Thing' is not of the form"),
        ("distes.seeds:Nothing", "distes.seeds has no 'Nothing'"),
        ("distes.seeds:strategy_generator", "'strategy_generator' in distes.seeds is not a sub"),
        ("no_such_strategy", "unknown strategy 'no_such_strategy'"),
    ],
)
def test_a_wrong_reference_is_one_sentence(reference: str, said: str) -> None:
    """If wrong: a slip in a name ends in a traceback of the import system."""
    with pytest.raises(UsageError) as refusal:
        registry.find("strategies", reference, Strategy)
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("fault", ["raise ValueError('mine')", "1 + 'a'"])
def test_a_fault_in_the_users_module_is_the_users_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """If wrong: whoever has a bug in a module is told that there is no such module."""
    (tmp_path / "faulty_module.py").write_text(fault)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises((ValueError, TypeError)) as raised:
        registry.find("strategies", "faulty_module:Mine", Strategy)
    assert not isinstance(raised.value, UsageError)


def test_a_whole_float_is_a_whole_number() -> None:
    """`1e6` steps are a million, in Python as in a file."""
    assert Settings("CartPole-v1", max_env_steps=1e6).max_env_steps == 1_000_000  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"max_env_steps 1.5 is not a whole number"):
        Settings("CartPole-v1", max_env_steps=1.5)  # type: ignore[arg-type]


def test_a_module_that_leaves_as_a_script_does_shows_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If wrong: distes ends with the module's own exit code, 0 perhaps, and says nothing."""
    (tmp_path / "leaving_module.py").write_text("raise SystemExit(0)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RuntimeError, match=r"SystemExit\(0\) was raised") as fault:
        registry.load("env", "leaving_module:make")
    assert isinstance(fault.value.__cause__, SystemExit)
