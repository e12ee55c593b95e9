"""What runs save by name, wherever it is defined: names that stay, so that runs stay readable."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, make_dataclass
from enum import Enum
from types import ModuleType
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest

from distes.errors import UsageError
from distes.population.distributions import Gaussian
from distes.population.records import Population
from distes.runs import codec
from distes.runs.snapshot import Snapshot
from distes.seeds import noise_key
from distes.strategies.base import Strategy
from distes.strategies.parts.incumbents import Incumbents

SAVED = """
AdamState CCMAESState Concat DeepCEMState EliteFigures ExternalState Gaussian GaussianProcess
GaussianState ICEMState Incumbents LinearGaussian MOREState Mixture ModelBasedState ModelMetrics
NormalizedState ObservationMoments OptionsMetrics OptionsState Pairs PathMetrics Point
PolicyGradientSums PolicySamples Polynomial Population Purpose RadialBasis RandomSearchState
ReinforceState RelativeEntropyMetrics RelativeEntropyState Rerun Samples Selected Snapshot
SurrogateMetrics Table TabularCEMState Transitions
"""
"""Classes of distes that runs hold. Renaming one makes these runs unreadable: raise
`SCHEMA_VERSION` then, and change this list with it. New ones need no entry here."""


@dataclass
class Samples:
    """A user's, named as one of ours."""

    value: int


def own_classes() -> Iterator[type]:
    """All classes that the rooms with saved records define."""
    for name in codec._import_rooms():
        for member in vars(sys.modules[name]).values():
            if isinstance(member, type) and member.__module__ == name:
                yield member


def can_be_saved(cls: Any) -> bool:
    return isinstance(cls, type) and any(accepts(cls) for accepts in codec._KINDS.values())


def held_by(hint: Any) -> Iterator[type]:
    """What a field with some annotation can hold: for a protocol, all that do what it asks."""
    for argument in get_args(hint):
        yield from held_by(argument)
    if can_be_saved(hint):
        yield hint
    if getattr(hint, "_is_protocol", False):
        methods = {name for name in vars(hint) if not name.startswith("_")}
        yield from (
            cls
            for cls in own_classes()
            if can_be_saved(cls)
            and cls.__module__.startswith("distes.population")
            and methods <= {name for base in cls.__mro__ for name in vars(base)}
        )


def all_saved() -> set[type]:
    """Everything that a snapshot, a population or a strategy's state can hold."""
    states = [
        argument
        for strategy in own_classes()
        if issubclass(strategy, Strategy)
        for base in getattr(strategy, "__orig_bases__", ())
        for argument in get_args(base)
    ]
    waiting = [Snapshot, Population, *filter(can_be_saved, states)]
    found: set[type] = set()
    while waiting:
        cls = waiting.pop()
        if cls in found:
            continue
        found.add(cls)
        if not issubclass(cls, Enum):
            hints = get_type_hints(cls, localns={"AnyTask": object})  # a task is not saved
            waiting += [held for hint in hints.values() for held in held_by(hint)]
    return found


def test_a_name_means_one_class():
    """Of two of one name a file could not say which it holds."""
    names = Counter(cls.__qualname__ for cls in own_classes())
    assert [name for name, count in names.items() if count > 1] == []


def test_saved_names_stay():
    """Whoever renames one must know that it makes runs unreadable."""
    found = all_saved()
    assert set(SAVED.split()) <= {cls.__qualname__ for cls in found}
    for cls in found:
        (kind,) = [kind for kind, accepts in codec._KINDS.items() if accepts(cls)]
        assert codec._name_class(cls, "it") == cls.__qualname__
        assert codec._find_class(cls.__qualname__, kind) is cls


def define_mover(monkeypatch: pytest.MonkeyPatch, module_name: str) -> type:
    """Define a record in a new module of distes."""
    module = ModuleType(module_name)
    module.Mover = make_dataclass("Mover", ["at"], namespace={"__module__": module_name})
    monkeypatch.setitem(sys.modules, module_name, module)
    codec._find_own.cache_clear()
    return module.Mover


def test_a_class_that_moved_is_found(monkeypatch):
    """The next tidying up must not cost anybody a run."""
    with monkeypatch.context() as before:
        data = codec.dumps(define_mover(before, "distes.population.old_place")(7))
    new = define_mover(monkeypatch, "distes.strategies.parts.new_place")
    found = codec.loads(data)
    assert type(found) is new
    assert found.at == 7
    codec._find_own.cache_clear()


def test_a_class_that_is_gone_is_told(monkeypatch):
    """What to import is no help where there is nothing to import."""
    with monkeypatch.context() as before:
        data = codec.dumps(define_mover(before, "distes.population.old_place")(7))
    codec._find_own.cache_clear()
    with pytest.raises(UsageError, match="a Mover, which this distes does not have"):
        codec.loads(data)


def test_a_users_class_keeps_its_module():
    """It may have the name of one of ours, which must not be taken for it."""
    data = codec.dumps(Samples(1))
    assert b'"class":"test_saved_names:Samples"' in data
    assert type(codec.loads(data)) is Samples


READ = """
import sys
from pathlib import Path
from distes.runs import codec
assert "distes.strategies.parts.incumbents" not in sys.modules
for value in codec.loads(Path(sys.argv[1]).read_bytes()):
    print(type(value).__name__)
"""


def test_a_fresh_process_reads_every_record(tmp_path):
    """Whoever reads a run has imported next to nothing of distes."""
    values = [Gaussian(np.zeros(2), np.ones(2), noise_key(0, 1)), Incumbents.empty(2)]
    (tmp_path / "x.npz").write_bytes(codec.dumps(values))
    read = subprocess.run(
        [sys.executable, "-c", READ, str(tmp_path / "x.npz")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert read.stdout.split() == ["Gaussian", "Incumbents"]
