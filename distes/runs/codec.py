"""Plain records to files and back, exactly, without pickle.

A value becomes a JSON tree and named arrays, together one ``.npz``. Dataclasses are
recorded by name: a class of distes by its own, wherever it is defined, so that it may move;
any other as ``module:Class``. Reading looks names up and fills in the fields without calling
anything. It imports modules of distes only, so that a file can make nothing else run.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import io
import json
import math
import pkgutil
import re
import sys
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from itertools import chain
from types import MappingProxyType, ModuleType
from typing import Any

import numpy as np

from distes.errors import UsageError
from distes.population.records import Population
from distes.types import Array

TREE = "tree"  # name of the array that holds the JSON tree, as UTF-8 bytes

ROOMS = ("distes.seeds", "distes.population", "distes.strategies", "distes.runs")
"""Where saved records of distes are defined: a name means one class in all four."""

Json = Any


def dumps(value: Any, name: str = "state") -> bytes:
    """Encode a value as the bytes of an ``.npz`` file.

    Args:
        value: dataclasses, named tuples, numpy arrays and numbers, int, float, bool,
            str, None, enum members, tuples, lists and dicts with str keys, nested.
        name: what the value is; arrays are named by their path below it.

    Raises:
        UsageError: a part of the value is something else, a function, say.
    """
    encoder = Encoder()
    return pack(encoder.encode(value, name), encoder.arrays)


def loads(data: bytes) -> Any:
    """Decode what `dumps` encoded: same types, dtypes, shapes and bits.

    A `Population`'s task is not saved and comes back as None.

    Raises:
        UsageError: the bytes are something else, or name a class that cannot be found.
    """
    tree, arrays = unpack(data)
    return decode(tree, arrays)


def pack(tree: Json, arrays: Mapping[str, Array]) -> bytes:
    """Put an encoded tree and its arrays into the bytes of one ``.npz`` file."""
    text = json.dumps(tree, separators=(",", ":"), allow_nan=False).encode()
    members = {TREE: np.frombuffer(text, dtype=np.uint8), **arrays}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in members.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    return buffer.getvalue()


def unpack(data: bytes) -> tuple[Json, Mapping[str, Array]]:
    """Open what `pack` made, or refuse it; an array is read when it is looked up."""
    try:
        arrays = np.load(io.BytesIO(data), allow_pickle=False)
        return json.loads(bytes(arrays[TREE])), arrays
    except (ValueError, KeyError, IndexError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(f"not a file that distes wrote, or a damaged one: {error}") from error


@dataclass(eq=False)
class Encoder:
    """Encodes values into trees that share one set of arrays."""

    arrays: dict[str, Array] = field(default_factory=dict)  # by name

    def encode(self, value: Any, path: str) -> Json:
        """Encode a value; ``path`` names its arrays and places it in error messages.

        Raises:
            UsageError: a part of the value cannot be saved.
        """
        kind = type(value)
        if value is None or kind in (bool, int, str):
            return value
        if kind is float:
            return value if math.isfinite(value) else {"float": repr(value)}
        if kind is np.ndarray:
            return {"array": self._keep_array(value, path, "biufcSUMmV")}
        if isinstance(value, np.generic):
            return {"scalar": self._keep_array(np.asarray(value), path, "biufcMm")}
        if isinstance(value, Enum):
            if value.name not in kind.__members__:
                raise UsageError(f"{path} is {value!r}: combined flags cannot be saved")
            return {"enum": [_name_class(kind, path), value.name]}
        if dataclasses.is_dataclass(kind):
            if isinstance(value, Population):
                # A task may be a user's function: whoever reads has a task of their own.
                value = dataclasses.replace(value, task=None)
            return {
                "class": _name_class(kind, path),
                "fields": {
                    f.name: self.encode(getattr(value, f.name), f"{path}.{f.name}")
                    for f in dataclasses.fields(value)
                },
            }
        if kind is list:
            return self._encode_items(value, path)
        if kind is tuple:
            return {"tuple": self._encode_items(value, path)}
        if isinstance(value, tuple) and hasattr(kind, "_fields"):
            return {"namedtuple": _name_class(kind, path), "items": self._encode_items(value, path)}
        if kind in (dict, MappingProxyType):
            for key in value:
                if type(key) is not str:
                    raise UsageError(f"{path} has the key {key!r}: only str keys can be saved")
            return {"dict": {k: self.encode(v, f"{path}.{k}") for k, v in value.items()}}
        what = "a function" if callable(value) else f"of type {kind.__qualname__}"
        raise UsageError(
            f"{path} is {what}: only dataclasses, arrays, numbers, text, enum members, "
            "tuples, lists and dicts can be saved"
        )

    def _encode_items(self, values: Any, path: str) -> list[Json]:
        return [self.encode(value, f"{path}.{index}") for index, value in enumerate(values)]

    def _keep_array(self, array: Array, path: str, kinds: str) -> str:
        if array.dtype.kind not in kinds or array.dtype.hasobject:
            raise UsageError(f"{path} has dtype {array.dtype}: such arrays cannot be saved")
        plain = re.sub(r"[^A-Za-z0-9_.-]", "_", path)[:200]
        name, number = plain, 1
        while name in self.arrays or name == TREE:
            number += 1
            name = f"{plain}~{number}"
        self.arrays[name] = array
        return name


def decode(tree: Json, arrays: Mapping[str, Array]) -> Any:
    """Decode one tree of `Encoder.encode`, which refers to arrays by name.

    Raises:
        UsageError: the tree is damaged, or names a class that cannot be found.
    """
    try:
        return _decode(tree, arrays)
    except UsageError:
        raise
    except (
        *(AttributeError, EOFError, KeyError, OSError, RecursionError, TypeError, ValueError),
        zipfile.BadZipFile,
    ) as error:
        raise UsageError(f"not a record that distes wrote, or a damaged one: {error!r}") from error


def _decode(tree: Json, arrays: Mapping[str, Array]) -> Any:
    if isinstance(tree, list):
        return [_decode(item, arrays) for item in tree]
    if not isinstance(tree, dict):
        return tree
    nothing: tuple[str, Any] = ("", None)
    tag, content = next(iter(tree.items()), nothing)
    match tag:
        case "array":
            return arrays[content]
        case "scalar":
            return arrays[content][()]
        case "float":
            return {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[content]
        case "tuple":
            return tuple(_decode(item, arrays) for item in content)
        case "dict":
            return {key: _decode(item, arrays) for key, item in content.items()}
        case "enum":
            return _find_class(content[0], "an enum").__members__[content[1]]
        case "namedtuple":
            cls = _find_class(content, "a named tuple")
            return tuple.__new__(cls, [_decode(item, arrays) for item in tree["items"]])
        case "class":
            return _restore(_find_class(content, "a dataclass"), tree["fields"], arrays)
    raise UsageError(f"not a record that distes wrote: it holds an unknown tag '{tag}'")


def _restore(cls: type, saved: Mapping[str, Json], arrays: Mapping[str, Array]) -> Any:
    """Make an instance as it was: neither ``__init__`` nor ``__post_init__`` runs."""
    names = [f.name for f in dataclasses.fields(cls)]
    if set(names) != set(saved):
        raise UsageError(
            f"{cls.__module__}.{cls.__qualname__} has the fields {', '.join(names)}, but the "
            f"file has {', '.join(saved)}: another version wrote it"
        )
    if cls is Population and saved["task"] is not None:
        # It would be run, and may name any module.
        raise UsageError("the file holds a population with a task, which distes never saves")
    instance: Any = object.__new__(cls)
    for name in names:
        object.__setattr__(instance, name, _decode(saved[name], arrays))
    return instance


_KINDS = {
    "a dataclass": dataclasses.is_dataclass,
    "an enum": lambda cls: issubclass(cls, Enum),
    "a named tuple": lambda cls: issubclass(cls, tuple) and "_fields" in vars(cls),
}


def _find_class(name: str, kind: str) -> Any:
    """Look a saved class up, without importing any module but those of distes."""
    module_name, colon, qualname = name.rpartition(":")
    found = _look_up_member(module_name, qualname) if colon else _find_own(qualname)
    if found is None:
        missing = (
            f"is not among the imported modules: import {module_name} first"
            if colon
            else "this distes does not have: another version wrote it"
        )
        raise UsageError(f"the file holds a {name}, which {missing}")
    if not (isinstance(found, type) and _KINDS[kind](found)):
        raise UsageError(f"the file asks for {name} as {kind}, which it is not")
    return found


def _look_up_member(module_name: str, qualname: str) -> Any:
    """Find what a module holds under a name; None where it holds nothing."""
    module = sys.modules.get(module_name)
    if not isinstance(module, ModuleType):
        return None
    # Not getattr: a module's own __getattr__ may import, or do anything.
    found: Any = object.__getattribute__(module, "__dict__").get(qualname.partition(".")[0])
    for part in qualname.split(".")[1:]:
        found = vars(found).get(part) if isinstance(found, type) else None
    return found


@functools.cache
def _find_own(qualname: str) -> type | None:
    """Find the class that one of `ROOMS` defines under a name; None where none does."""
    # Most are imported when they are asked for, and importing all takes a moment.
    for module_name in filter(_is_own, chain(list(sys.modules), _import_rooms())):
        found = _look_up_member(module_name, qualname)
        # Where it is defined, not where it is imported.
        if isinstance(found, type) and found.__module__ == module_name:
            return found
    return None


def _import_rooms() -> Iterator[str]:
    """Import all modules of `ROOMS`, one after the other, and name them."""
    for room in map(importlib.import_module, ROOMS):
        yield room.__name__
        for each in pkgutil.walk_packages(getattr(room, "__path__", ()), f"{room.__name__}."):
            yield importlib.import_module(each.name).__name__


def _is_own(module_name: str) -> bool:
    return f"{module_name}.".startswith(tuple(f"{room}." for room in ROOMS))


def _name_class(cls: type, path: str) -> str:
    """Record a class by its name, by which it must be found again."""
    if _is_own(cls.__module__):
        name, found = cls.__qualname__, _find_own(cls.__qualname__)
    else:
        name = f"{cls.__module__}:{cls.__qualname__}"
        found = _look_up_member(cls.__module__, cls.__qualname__)
    if found is not cls:
        raise UsageError(
            f"{path} is a {name}, which cannot be found by that name: "
            "define the class at the top level of a module"
        )
    return name
