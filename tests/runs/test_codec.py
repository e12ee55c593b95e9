"""The codec must give back exactly what it was given, and must never run code from a file."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import pickle
import sys
import zipfile
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from distes.errors import UsageError
from distes.population.distributions import Concat, Gaussian, Point
from distes.population.records import Population, Purpose
from distes.runs import codec
from distes.seeds import RunKey, noise_key
from distes.tasks.function import FunctionTask


class Color(Enum):
    RED = "r"
    BLUE = "b"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Pair(NamedTuple):
    first: Any
    second: Any


@dataclass(frozen=True)
class Node:
    value: Any
    other: Any = None
    derived: int = field(default=7, init=False)


@dataclass(slots=True)
class Slotted:
    value: Any


@dataclass
class Loud:
    """Its construction is noticed."""

    value: int
    heard = []  # noqa: RUF012

    def __post_init__(self):
        self.heard.append(self.value)

    @dataclass
    class Inner:
        value: int


NUMERIC = hnp.scalar_dtypes().filter(lambda dtype: dtype.kind in "biufcMm")
DTYPES = st.one_of(
    NUMERIC,
    hnp.byte_string_dtypes(endianness="="),
    hnp.unicode_string_dtypes(),
    hnp.array_dtypes(NUMERIC, max_size=3),
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(st.characters(exclude_categories=())),  # lone surrogates, too
    st.sampled_from([*Color, *Level, *Purpose]),
    hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)),
    hnp.arrays(NUMERIC, ()).map(lambda array: array[()]),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.text(), inner, max_size=4),
        st.builds(Pair, inner, inner),
        st.builds(Node, inner, inner),
        st.builds(Slotted, inner),
        st.builds(Loud.Inner, inner),
    ),
    max_leaves=12,
)


def same(a: Any, b: Any) -> bool:
    """Equal in type and in every bit."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray | np.generic):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or a.hex() == b.hex()
    if dataclasses.is_dataclass(a):
        return all(same(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.mark.filterwarnings("ignore:Stored array in format 3.0")  # field names beyond ASCII
@given(VALUES)
@example([math.inf, -math.inf, -0.0, math.nan])
def test_what_comes_back_is_what_went_in(value):
    """Otherwise a resumed run differs from an uninterrupted one."""
    assert same(codec.loads(codec.dumps(value)), value)


def test_memory_order_is_kept():
    """A sum over a transposed copy may differ in its last bit after a resume."""
    array = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    assert codec.loads(codec.dumps(array)).flags.f_contiguous


def test_populations_come_back_without_their_task():
    """A task may hold a function, which no file may carry; the rest must draw the same."""
    population = Population(
        Concat((Gaussian(np.zeros(3), np.ones(3), noise_key(2**62, 5)), Point(np.ones(3))), (4, 1)),
        5,
        episodes=np.array([1, 2, 1, 1, 3]),
        frozen={"observation_mean": np.array([np.nan, 1.0])},
        task=FunctionTask(lambda parameters: 0.0, 3),
        purpose=Purpose.HELDOUT,
    )
    back = codec.loads(codec.dumps({"held": [population], "key": RunKey(2**63, 1)}))
    assert back["key"] == RunKey(2**63, 1)
    assert isinstance(back["key"], RunKey)
    (found,) = back["held"]
    assert found.task is None
    assert same(found, dataclasses.replace(population, task=None))
    every = np.arange(5)
    np.testing.assert_array_equal(
        found.distribution.draw(every), population.distribution.draw(every)
    )


def test_colliding_array_names_stay_apart():
    """Keys that look alike as file names must not share one array."""
    value = {"a/b": np.zeros(1), "a_b": np.ones(1), "a": {"b": np.full(1, 2.0)}, "": np.ones(2)}
    assert same(codec.loads(codec.dumps(value)), value)
    assert same(codec.loads(codec.dumps(np.ones(3), codec.TREE)), np.ones(3))


def test_arrays_are_named_by_their_place():
    """Without that a checkpoint could not be looked into with numpy alone."""
    data = codec.dumps({"strategy": Node(np.arange(3.0))})
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        np.testing.assert_array_equal(archive["state.strategy.value"], np.arange(3.0))


@dataclass
class Holder:
    rule: Any


def local_class():
    @dataclass
    class Local:
        value: int

    return Local(1)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (Holder(lambda x: x), "state.rule is a function"),
        ({"f": [len]}, "state.f.0 is a function"),
        ({1: 2}, "the key 1: only str keys"),
        ({1, 2}, "of type set"),
        (Holder, "is a function"),
        (b"bytes", "of type bytes"),
        (np.array([object()]), "dtype object"),
        (np.array([(1, None)], dtype=[("a", "i4"), ("b", "O")]), "cannot be saved"),
        (local_class(), "cannot be found by that name"),
    ],
)
def test_what_cannot_come_back_is_refused_at_once(value, says):
    """Otherwise the run is found to be lost only when it is resumed."""
    with pytest.raises(UsageError, match=says):
        codec.dumps(value)


def forged(tree: Any) -> bytes:
    return codec.pack(tree, {"x": np.arange(3)})


@pytest.mark.parametrize(
    "name",
    [
        "os:system",
        "subprocess:Popen",
        "builtins:eval",
        "test_codec:same",
        "test_codec:Level",
        "test_codec:Loud.heard",
        "test_codec:Loud.__init__",
        "test_codec:codec.Encoder",
        "test_codec:",
        ":",
        "os",
    ],
)
def test_only_dataclasses_are_found(name):
    """A file that names anything else could have it called."""
    for tag in ({"class": name, "fields": {}}, {"namedtuple": name, "items": []}):
        with pytest.raises(UsageError):
            codec.loads(forged(tag))


def test_reading_never_imports():
    """Importing a module runs it: a file must not choose which."""
    assert "this" not in sys.modules
    for name in ("this:Zen", "encodings.rot_13:Codec", "no_such_module:Thing"):
        module = name.partition(":")[0]
        sys.modules.pop(module, None)
        with pytest.raises(UsageError, match=f"import {module} first"):
            codec.loads(forged({"class": name, "fields": {}}))
        assert module not in sys.modules


def test_a_modules_getattr_is_not_asked(monkeypatch):
    """Lazy modules import on attribute access; a file must not set that off."""
    asked = []
    monkeypatch.setattr(sys.modules[__name__], "__getattr__", asked.append, raising=False)
    with pytest.raises(UsageError):
        codec.loads(forged({"class": f"{__name__}:Missing", "fields": {}}))
    assert asked == []


def test_reading_does_not_construct():
    """``__post_init__`` is code, and may import: restoring must only fill in fields."""
    value = Loud(3)
    assert Loud.heard.pop() == 3
    assert codec.loads(codec.dumps(value)).value == 3
    assert Loud.heard == []


class Explosive:
    went_off = []  # noqa: RUF012

    def __reduce__(self):
        return (self.went_off.append, (1,))


def test_pickles_are_not_read():
    """A pickle inside the archive would run whatever it likes."""
    plain = io.BytesIO()
    tree = np.frombuffer(json.dumps({"array": "x"}).encode(), np.uint8)
    np.savez(plain, tree=tree, x=np.array([Explosive()], dtype=object))
    for data in (plain.getvalue(), pickle.dumps(Explosive())):
        with pytest.raises(UsageError):
            codec.loads(data)
    assert Explosive.went_off == []


def array_file() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.arange(3))
    return buffer.getvalue()


def archive_without_tree() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("readme", "nothing here")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a zip",
        array_file(),
        archive_without_tree(),
        codec.dumps(Node(np.arange(100)))[:-40],
        forged({"array": "y"}),
        forged({"array": 3}),
        forged({"array": ["x"]}),
        forged({}),
        forged({"tuple": 5}),
        forged({"other": 5}),
        forged({"float": "1e400"}),
        forged({"enum": ["test_codec:Level", "NONE"]}),
        forged({"enum": ["test_codec:Node", "LOW"]}),
        forged({"class": "test_codec:Node", "fields": {"value": 1}}),
        forged({"class": "test_codec:Node", "fields": {"value": 1, "other": 2, "more": 3}}),
        forged({"class": ["test_codec:Node"], "fields": {}}),
        forged({"class": "test_codec:Node"}),
    ],
)
def test_damage_is_told_in_a_sentence(data):
    """A traceback from deep inside would tell the user nothing."""
    with pytest.raises(UsageError):
        codec.loads(data)
