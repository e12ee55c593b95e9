"""Names to classes, and a class's fields to flags, TOML keys and help.

A file in a folder is the entry: ``cem`` is the class that `distes.strategies.cem` defines;
``package.module:Class`` is a user's own. Adding one needs no second edit. Strategies,
policies, tasks and the search itself are dataclasses; their fields are the flags and the
configuration.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import math
import pkgutil
import re
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import Enum
from pathlib import PurePath
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError

from distes.errors import UsageError, unknown

T = TypeVar("T")

NONE = "none"
"""How flags and TOML, which has no null, say None."""

_LOST = re.compile(r"<.*>", re.DOTALL)
"""How a value that can't be written down is recorded: never accepted when read."""


def names(folder: str, base: type) -> list[str]:
    """List the names that `find` accepts within ``distes.<folder>``."""
    package = importlib.import_module(f"distes.{folder}")
    return [
        module.name
        for module in pkgutil.iter_modules(package.__path__)
        if _defined(importlib.import_module(f"distes.{folder}.{module.name}"), base)
    ]


def find(folder: str, name: str, base: type[T]) -> type[T]:
    """Find a subclass of ``base`` by its file's name, or as ``package.module:Class``.

    Args:
        folder: the package below distes that is searched.
        name: as the user gave it.
        base: what the class must derive from.

    Raises:
        UsageError: there is no such name, or it names something else.
    """
    kind = base.__name__.lower().removesuffix("spec")
    if ":" in name:
        return _load(kind, name, base)
    module_name = name.replace("-", "_").lower()
    known = names(folder, base)
    if module_name not in known:
        raise unknown(kind, name, known, at_most=len(known))
    return _defined(importlib.import_module(f"distes.{folder}.{module_name}"), base)[0]


def name_of(folder: str, cls: type) -> str:
    """Give the name under which `find` returns the class."""
    prefix = f"distes.{folder}."
    if cls.__module__.startswith(prefix) and getattr(cls, "listed", True):
        return cls.__module__.removeprefix(prefix)
    return f"{cls.__module__}:{cls.__qualname__}"


def _load(kind: str, name: str, base: type[T]) -> type[T]:
    module_name, _, class_name = name.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), class_name, None)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name + ".").startswith(error.name + "."):
            raise  # the user's own module is there, but something it imports is not
        raise UsageError(f"{kind} '{name}': there is no module '{error.name}'") from None
    if not (inspect.isclass(found) and issubclass(found, base)):
        raise UsageError(
            f"{kind} '{name}': '{class_name}' in {module_name} is not a subclass of "
            f"{base.__module__}.{base.__name__}"
        )
    return found


def _defined(module: object, base: type[T]) -> list[type[T]]:
    """List the public concrete subclasses of ``base`` that a module defines itself.

    A class with ``listed = False`` is left out: an option of a run, not a choice by name.
    """
    return [
        member
        for name, member in vars(module).items()
        if inspect.isclass(member)
        and issubclass(member, base)
        and not inspect.isabstract(member)
        and getattr(member, "listed", True)
        and member.__module__ == module.__name__  # type: ignore[attr-defined]
        and not name.startswith("_")
    ]


@dataclass(frozen=True)
class Setting:
    """One field of a dataclass.

    Attributes:
        name: of the field.
        hint: its resolved type.
        default: MISSING where the field must be given.
        help: from the ``Attributes`` section of the class docstring.
    """

    name: str
    hint: Any
    default: Any
    help: str

    @property
    def required(self) -> bool:
        """Whether there is no default."""
        return self.default is MISSING

    @property
    def is_switch(self) -> bool:
        """Whether it is just true or false."""
        return self.hint is bool

    @property
    def accepted(self) -> str:
        """What may be given, in words."""
        return _words(self.hint)


def settings_of(cls: type) -> Mapping[str, Setting]:
    """List a dataclass's settings by name, in the order of its fields.

    >>> from distes.strategies.base import Strategy
    >>> dict(settings_of(Strategy))
    {}
    """
    return _settings_of(cls)


@functools.cache
def _settings_of(cls: Any) -> Mapping[str, Setting]:
    hints = get_type_hints(cls)
    texts = _attribute_texts(cls)
    found = {}
    for entry in fields(cls):
        if not entry.init or entry.name.startswith("_"):
            continue
        default = entry.default
        if entry.default_factory is not MISSING:
            default = entry.default_factory()
        found[entry.name] = Setting(
            entry.name, hints[entry.name], default, texts.get(entry.name, "")
        )
    return found


def checked(setting: Setting, given: Any, label: str) -> Any:
    """Turn what was given on a command line or in a file into the field's type.

    Text is read as numbers, ``true``/``false``, ``none``, values separated by commas
    (``none``: no value at all) or (for tables) JSON, as the type asks; ``module:function``
    as a function where the type has one.

    Args:
        setting: which setting.
        given: a plain value, often text.
        label: how the user spelled the setting.

    Raises:
        UsageError: the value is not of the type; one sentence says what is.
    """
    lost = next((v for v in _leaves(given) if isinstance(v, str) and _LOST.fullmatch(v)), None)
    if lost is not None:
        raise UsageError(
            f"{label} was set in Python to {lost}, which can't be found again by name: define it "
            "in a module that can be imported, or go on in the script that made the run"
        )
    members = _members(setting.hint)
    if isinstance(given, str) and given.lower() == NONE and type(None) in members:
        return None
    choices = [c for m in members if get_origin(m) is Literal for c in get_args(m)]
    if isinstance(given, str) and len(members) == 1 and choices and given not in choices:
        raise unknown(label, given, map(str, choices))
    value = _parsed(given, members, label)
    refused = UsageError(f"{label} {_shown(given)} is not {setting.accepted}")
    if isinstance(value, bool) and not _allows(members, bool):
        raise refused
    try:
        result = _adapter(setting.hint).validate_python(value)
    except ValidationError:
        raise refused from None
    if any(isinstance(leaf, float) and not math.isfinite(leaf) for leaf in _leaves(result)):
        raise UsageError(f"{label} {_shown(given)} is not finite")
    return result


def check_fields(settings: Any) -> None:
    """Refuse fields outside their annotations, and bring the others to the annotated type.

    Ranges stand beside the type, ``epochs: PositiveInt`` (see `distes.types`), and are
    checked by pydantic. Fields of other kinds than numbers, text and sequences of them are
    left alone, and so are defaults.

    Args:
        settings: a dataclass instance, frozen or not; usually called by ``__post_init__``.

    Raises:
        UsageError: one sentence with the first field that does not fit.
    """
    hints = get_type_hints(type(settings), include_extras=True)
    for name, setting in settings_of(type(settings)).items():
        given = getattr(settings, name)
        hint = hints[name]
        if given is setting.default or not _is_simple(hint):
            continue
        value = given.tolist() if isinstance(given, np.generic | np.ndarray) else given
        members = _members(setting.hint)
        truth = isinstance(value, bool) and not _allows(members, bool)
        if isinstance(value, float) and int in members and float not in members:
            raise _refusal(setting, given, {})
        try:
            value = _adapter(hint).validate_python(value)
        except ValidationError:
            raise _refusal(setting, given, _bounds(hint)) from None
        infinite = any(isinstance(v, float) and not math.isfinite(v) for v in _leaves(value))
        if truth or infinite:
            raise _refusal(setting, given, _bounds(hint))
        object.__setattr__(settings, name, value)


def plain(value: Any) -> Any:
    """Write a value as TOML and JSON can hold it; `checked` reads it back.

    A function becomes ``module:function`` where that finds it again. What cannot be
    written becomes text in angle brackets, which `checked` refuses.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, AbstractSet):
        return [plain(item) for item in sorted(value)]
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [plain(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {name: plain(getattr(value, name)) for name in settings_of(type(value))}
    if callable(value):
        return _reference(value)
    return f"<{type(value).__name__}>"


def lookup(reference: str) -> Any:
    """Find what ``module:name`` refers to; None where there is no such module or name."""
    module_name, _, path = reference.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name + ".").startswith(error.name + "."):
            raise  # the module is there, but something it imports is not
        return None
    except (ValueError, TypeError):  # not the name of a module at all
        return None
    for part in path.split("."):
        found = getattr(found, part, None)
    return found


def _refusal(setting: Setting, given: Any, bounds: Mapping[str, float]) -> UsageError:
    """Say why a field's value is none, as its annotation has it."""
    members = _members(setting.hint)
    shown = given if isinstance(given, str) else repr(given)
    if len(members) == 1 and get_origin(members[0]) is Literal:
        return unknown(setting.name, str(given), map(str, get_args(members[0])))
    if not bounds:
        whole = int in members and isinstance(given, float)
        infinite = any(isinstance(v, float) and not math.isfinite(v) for v in _leaves(given))
        finite = "a finite number" if float in members else "finite"
        what = finite if infinite else setting.accepted.removesuffix(" or none")
        what = "a whole number" if whole else what
    elif {"gt", "ge"} & bounds.keys() and {"lt", "le"} & bounds.keys():
        low, high = bounds.get("ge", bounds.get("gt")), bounds.get("le", bounds.get("lt"))
        opening, closing = "[" if "ge" in bounds else "(", "]" if "le" in bounds else ")"
        what = f"in {opening}{low}, {high}{closing}"
    elif int in members and float not in members:
        what = f"at least {bounds['ge']}"
    else:
        (name, bound) = next(iter(bounds.items()))
        what = f"a finite number {'>=' if name == 'ge' else '>'} {bound}"
    return UsageError(f"{setting.name} {shown} is not {what}")


def _bounds(hint: Any) -> dict[str, float]:
    """Collect the bounds that are written beside a type, at any depth."""
    found: dict[str, float] = {}
    if get_origin(hint) is Annotated:
        for each in hint.__metadata__:
            bounds = {name: getattr(each, name, None) for name in ("gt", "ge", "lt", "le")}
            found |= {name: bound for name, bound in bounds.items() if bound is not None}
    for inner in get_args(hint):
        found |= _bounds(inner)
    return found


def _is_simple(hint: Any) -> bool:
    """Whether a hint is of numbers, text and sequences of them."""
    if get_origin(hint) is Annotated:
        return _is_simple(get_args(hint)[0])
    if hint in (int, float, bool, str, type(None), Ellipsis) or get_origin(hint) is Literal:
        return True
    nests = get_origin(hint) in (Union, types.UnionType, tuple)
    return nests and all(map(_is_simple, get_args(hint)))


def _reference(function: Any) -> str:
    module = getattr(function, "__module__", None)
    path = getattr(function, "__qualname__", None)
    if module in (None, "__main__") or path is None or "<" in path:
        return f"<function {module}:{path}>"
    found: Any = sys.modules.get(module)
    for part in path.split("."):
        found = getattr(found, part, None)
    return f"{module}:{path}" if found is function else f"<function {module}:{path}>"


def _parsed(given: Any, members: tuple[Any, ...], label: str) -> Any:
    """Read text as the types ask, as far as pydantic would not."""
    if not isinstance(given, str):
        return given
    if ":" in given and any(_is_callable_type(member) for member in members):
        found = lookup(given)
        return found if callable(found) else given
    if any(_is_kind(member, Mapping) for member in members):
        try:
            return json.loads(given)
        except json.JSONDecodeError as error:
            raise UsageError(
                f"{label} {_shown(given)} is not JSON ({error.msg} at character {error.pos}); "
                """write for example '{"gravity": 3.7}'"""
            ) from None
    if any(_is_kind(member, Sequence) for member in members):
        empty = given.strip().lower() in ("", NONE)
        return [] if empty else [part.strip() for part in given.split(",")]
    if str in members and (int in members or float in members):
        try:
            return float(given) if float in members else int(given)
        except ValueError:
            return given
    return given


@functools.cache
def _adapter(hint: Any) -> TypeAdapter[Any]:
    if is_dataclass(hint):  # pydantic takes no configuration from outside for these
        return TypeAdapter(hint)
    return TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))


def _members(hint: Any) -> tuple[Any, ...]:
    if get_origin(hint) in (Union, types.UnionType):
        return tuple(m for member in get_args(hint) for m in _members(member))
    return (hint,)


def _is_kind(hint: Any, kind: type) -> bool:
    origin = get_origin(hint) or hint
    return inspect.isclass(origin) and origin not in (str, bytes) and issubclass(origin, kind)


def _is_callable_type(hint: Any) -> bool:
    return get_origin(hint) is Callable or hint is Callable


def _allows(members: tuple[Any, ...], cls: type) -> bool:
    return cls in members or Any in members


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def _shown(value: Any) -> str:
    return repr(value) if isinstance(value, str) else json.dumps(value, default=repr)


_SCALARS = {
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    bool: ("true or false", "true or false"),
    str: ("text", "words"),
}


def _words(hint: Any) -> str:
    said: list[str] = []
    for member in _members(hint):
        if member in _SCALARS:
            said.append(_SCALARS[member][0])
        elif get_origin(member) is Literal:
            choices = [str(choice) for choice in get_args(member)]
            said.append(f"one of {', '.join(choices)}" if len(choices) > 1 else choices[0])
        elif _is_callable_type(member):
            said.append("module:function")
        elif _is_kind(member, Mapping):
            said.append("a table")
        elif _is_kind(member, Sequence):
            inner = [a for a in get_args(member) if a is not Ellipsis]
            what = _SCALARS.get(inner[0], ("", "values"))[1] if inner else "values"
            said.append(f"{what} separated by commas")
        elif _is_kind(member, PurePath):
            said.append("a path")
        elif member is type(None):
            said.append(NONE)
        else:
            said.append(getattr(member, "__name__", str(member)))
    return " or ".join(dict.fromkeys(said))


def _attribute_texts(cls: type) -> dict[str, str]:
    """Read the ``Attributes`` sections of a class and its bases.

    Args:
        cls: with Google-style docstrings.
    """
    texts: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        lines = inspect.cleandoc(base.__dict__.get("__doc__") or "").splitlines()
        if "Attributes:" not in lines:
            continue
        name = ""
        for line in lines[lines.index("Attributes:") + 1 :]:
            if line and not line.startswith(" "):
                break
            start = re.match(r" {4}(\w+):\s*(.*)", line)
            if start:
                name = start[1]
                texts[name] = start[2]
            elif name and line.strip():
                texts[name] += " " + line.strip()
    return {name: text.replace("``", "").replace("`", "") for name, text in texts.items()}
