"""Names to classes, and a class's fields to flags, TOML keys and help.

A file in a folder is the entry: ``cem`` is the class that `distes.strategies.cem` defines;
``package.module:Class`` is a user's own, and an installed package announces names by entry
points. Adding one needs no second edit. Strategies, policies, tasks and the search itself
are dataclasses; their fields are the flags and the configuration.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import json
import math
import pkgutil
import re
import sys
import types
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import Enum
from importlib.machinery import PathFinder
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from pathlib import PurePath
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError

from distes.errors import Notice, UsageError, unknown
from distes.signals import contain_exits

T = TypeVar("T")

NONE = "none"
"""How flags and TOML, which has no null, say None."""

AUTO = "auto"
"""The name that leaves a choice to distes."""

_LOST = re.compile(r"<.*>", re.DOTALL)
"""How a value that can't be written down is recorded: never accepted when read."""

_PATH = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
_REFERENCE = re.compile(f"{_PATH}:{_PATH}")
"""How ``package.module:name`` looks: nothing else is ever imported by `load`."""

_BESIDE: list[str] = []
"""Folders behind `sys.path` in which modules that a user names are found, too."""


def names(folder: str, base: type) -> list[str]:
    """List the names that `find` accepts within ``distes.<folder>``.

    What installed packages announce is listed unseen: nothing of theirs is imported.
    """
    return [*find_own(folder, base), *_announced(folder)]


def find(folder: str, name: str, base: type[T]) -> type[T]:
    """Find a subclass of ``base`` by name.

    Args:
        folder: the package below distes that is searched, ``strategies`` or
            ``views.observers``.
        name: as the user gave it: that of a file in the folder, one that an installed
            package announces as an entry point of the group ``distes.strategies`` (or
            ``distes.observers``: the folder's last part), or ``package.module:Class``.
        base: what the class must derive from.

    Raises:
        UsageError: there is no such name, or it names something else.
    """
    kind = base.__name__.lower().removesuffix("spec")
    if ":" in name:
        return _load_class(kind, name, base)
    spelled = name.replace("-", "_").lower()
    if spelled in _files(folder) and (own := _own_class(folder, spelled, base)):
        return own
    if entry := _announced(folder).get(spelled):
        return _load_class(kind, entry.value, base)
    known = names(folder, base)
    raise unknown(kind, name, known, at_most=len(known))


def find_own(folder: str, base: type) -> dict[str, type]:
    """Find the classes of distes' own files, by name: nobody else's code is imported."""
    found: dict[str, type | None] = {n: _own_class(folder, n, base) for n in _files(folder)}
    return {name: cls for name, cls in found.items() if cls is not None}


def find_all(folder: str, base: type) -> dict[str, type]:
    """Find every class that has a name, in the order of `names`.

    An announced class that can't be imported is named in a `Notice`, and left out.
    """
    found = find_own(folder, base)
    for name, entry in _announced(folder).items():
        try:
            found[name] = find(folder, name, base)
        except Exception as error:  # noqa: BLE001 - whatever others' code does
            reason = str(error) if isinstance(error, UsageError) else repr(error)
            said = f"'{name}', announced as {entry.value}, can't be used: {reason}"
            warnings.warn(Notice(said), stacklevel=2)
    return found


def name_of(folder: str, cls: type) -> str:
    """Give the name under which `find` returns the class."""
    prefix = f"distes.{folder}."
    if cls.__module__.startswith(prefix) and getattr(cls, "listed", True):
        return cls.__module__.removeprefix(prefix)
    for name, entry in _announced(folder).items():
        # Only what is imported already can be the class.
        if getattr(sys.modules.get(entry.module), entry.attr, None) is cls:
            return name
    return f"{cls.__module__}:{cls.__qualname__}"


def load(what: str, reference: str) -> Any:
    """Import what ``package.module:name`` refers to.

    Args:
        what: it is meant to be; begins the refusal.
        reference: as the user gave it.

    Raises:
        UsageError: it is no reference, or there is no such module, or name in it.
        ModuleNotFoundError: the module is there, but something it imports is not.
    """
    module_name, _, path = reference.partition(":")
    if not _REFERENCE.fullmatch(reference):
        raise UsageError(f"{what} '{reference}' is not of the form package.module:name")
    found: Any = import_named(f"{what} '{reference}'", module_name)
    for part in path.split("."):
        found = getattr(found, part, None)
    if found is None:
        raise UsageError(f"{what} '{reference}': {module_name} has no '{path}'")
    return found


def import_named(what: str, module_name: str) -> types.ModuleType:
    """Import a module that a user named.

    Args:
        what: it was named for; begins the refusal.
        module_name: with all its packages.

    Raises:
        UsageError: there is no such module.
        ModuleNotFoundError: it is there, but something it imports is not.
        RuntimeError: it would end the process, as a script does with sys.exit().
    """
    missing = module_name
    if "" not in sys.path:
        sys.path += [folder for folder in _BESIDE if folder not in sys.path]
    if all(part.isidentifier() for part in module_name.split(".")):
        try:
            with contain_exits():
                return importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is None or not (module_name + ".").startswith(error.name + "."):
                raise
            missing = error.name
    raise UsageError(f"{what}: there is no module '{missing}'")


def look_beside(folder: PurePath) -> None:
    """Find modules that a user names in a folder, too, where nothing installed has their name.

    It is put on `sys.path` when the first is imported and not before: a command that imports
    none runs nothing that lies there.
    """
    _BESIDE[:] = [str(folder)]


def find_origin(reference: str) -> str | None:
    """Say which file ``package.module:name`` is imported from; nothing is imported for it.

    Returns:
        That of the outermost package, or its folder where it has no file; None where there
        is no such module.
    """
    top = reference.partition(":")[0].partition(".")[0]
    loaded = getattr(sys.modules.get(top), "__file__", None)
    if loaded is not None:
        return str(loaded)
    try:
        spec = importlib.util.find_spec(top) or PathFinder.find_spec(top, _BESIDE)
    except ValueError:  # no name at all, or a module that does not say where it is from
        return None
    if spec is None:
        return None
    return spec.origin or next(iter(spec.submodule_search_locations or ()), None)


def list_references(value: Any) -> list[str]:
    """List texts, at any depth, that name something to import, or hold what does."""
    texts = (leaf for leaf in _list_leaves(value) if isinstance(leaf, str))
    return [text for text in texts if _REFERENCE.search(text) and not _LOST.fullmatch(text)]


def _load_class(kind: str, reference: str, base: type[T]) -> type[T]:
    found = load(kind, reference)
    if not (inspect.isclass(found) and issubclass(found, base)):
        module_name, _, name = reference.partition(":")
        raise UsageError(
            f"{kind} '{reference}': '{name}' in {module_name} is not a subclass of "
            f"{base.__module__}.{base.__name__}"
        )
    return found


def _files(folder: str) -> list[str]:
    package = importlib.import_module(f"distes.{folder}")
    return [module.name for module in pkgutil.iter_modules(package.__path__)]


def _own_class(folder: str, file: str, base: type[T]) -> type[T] | None:
    """Find the public concrete subclass of ``base`` that a file defines itself.

    A class with ``listed = False`` is left out: an option of a run, not a choice by name.
    """
    module = importlib.import_module(f"distes.{folder}.{file}")
    for name, member in vars(module).items():
        if inspect.isclass(member) and issubclass(member, base) and not name.startswith("_"):
            listed = getattr(member, "listed", True) and not inspect.isabstract(member)
            if listed and member.__module__ == module.__name__:
                return member
    return None


def _announced(folder: str) -> dict[str, EntryPoint]:
    """List the entry points of a folder's group; a file of the same name hides one."""
    group = f"distes.{folder.rpartition('.')[2]}"
    own = _files(folder)
    found: dict[str, EntryPoint] = {}
    for entry in _entry_points(group, tuple(sys.path)):
        name = entry.name.replace("-", "_").lower()
        if name not in own:
            found.setdefault(name, entry)  # the first on sys.path, as for imports
    return found


@functools.cache
def _entry_points(group: str, _path: tuple[str, ...]) -> EntryPoints:
    return entry_points(group=group)


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
    def accepted(self) -> str:
        """What may be given, in words."""
        return _describe(self.hint)


def settings_of(cls: type) -> Mapping[str, Setting]:
    """List a dataclass's settings by name, in the order of its fields."""
    return _settings_of(cls)


@functools.cache
def _settings_of(cls: Any) -> Mapping[str, Setting]:
    hints = get_type_hints(cls)
    texts = _read_attributes(cls)
    found = {}
    for entry in fields(cls):
        name, make = entry.name, entry.default_factory
        if entry.init and not name.startswith("_"):
            default = entry.default if make is MISSING else make()
            found[name] = Setting(name, hints[name], default, texts.get(name, ""))
    return found


def parse_setting(setting: Setting, given: Any, label: str) -> Any:
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
    lost = [v for v in _list_leaves(given) if isinstance(v, str) and _LOST.fullmatch(v)]
    if lost:
        raise UsageError(
            f"{label} was set in Python to {lost[0]}, which can't be found again by name: define "
            "it in a module that can be imported, or go on in the script that made the run"
        )
    members = _members(setting.hint)
    if isinstance(given, str) and given.lower() == NONE and type(None) in members:
        return None
    choices = _only_choices(setting)
    if isinstance(given, str) and choices and given not in choices:
        raise unknown(label, given, map(str, choices))
    value = _parse_text(given, members, label)
    refused = UsageError(f"{label} {_quote(given)} is not {setting.accepted}")
    if isinstance(value, bool) and not {bool, Any} & {*members}:
        raise refused
    try:
        result = _adapter(setting.hint).validate_python(value)
    except ValidationError:
        raise refused from None
    if _has_infinite(result):
        raise UsageError(f"{label} {_quote(given)} is not finite")
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
        truth = isinstance(value, bool) and not {bool, Any} & {*members}
        whole = isinstance(value, float) and value.is_integer()
        if isinstance(value, float) and not whole and int in members and float not in members:
            raise _refusal(setting, given, "")
        try:
            value = _adapter(hint).validate_python(value)
        except ValidationError:
            raise _refusal(setting, given, _range(hint)) from None
        if truth or _has_infinite(value):
            raise _refusal(setting, given, _range(hint))
        object.__setattr__(settings, name, value)


def to_plain(value: Any) -> Any:
    """Write a value as TOML and JSON can hold it; `parse_setting` reads it back.

    A function becomes ``module:function`` where that finds it again. What cannot be
    written becomes text in angle brackets, which `parse_setting` refuses.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Enum):
        return to_plain(value.value)
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, AbstractSet):
        return [to_plain(item) for item in sorted(value)]
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [to_plain(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {name: to_plain(getattr(value, name)) for name in settings_of(type(value))}
    if callable(value):
        return _refer_to(value)
    return f"<{type(value).__name__}>"


def _refusal(setting: Setting, given: Any, accepted: str) -> UsageError:
    """Say why a field's value is none: outside its range, if that is said, or of another type."""
    if choices := _only_choices(setting):
        return unknown(setting.name, str(given), map(str, choices))
    members = _members(setting.hint)
    if not accepted or (isinstance(given, str | bool) and {int, float} & {*members}):
        accepted = setting.accepted.removesuffix(f" or {NONE}")
        if int in members and isinstance(given, float):
            accepted = "a whole number"
        elif _has_infinite(given):
            accepted = "a finite number" if float in members else "finite"
    shown = given if isinstance(given, str) else repr(given)
    return UsageError(f"{setting.name} {shown} is not {accepted}")


def _only_choices(setting: Setting) -> tuple[Any, ...]:
    """List the values of a field that takes nothing else, besides none at most."""
    kinds = [member for member in _members(setting.hint) if member is not type(None)]
    return get_args(kinds[0]) if len(kinds) == 1 and get_origin(kinds[0]) is Literal else ()


def _range(hint: Any) -> str:
    """Find the words that stand beside a range (`distes.types`), at any depth of a type."""
    said = getattr(hint, "__metadata__", ())
    inner = map(_range, get_args(hint)[: 1 if said else None])
    return next((text for text in (*said, *inner) if text and isinstance(text, str)), "")


def _is_simple(hint: Any) -> bool:
    """Whether a hint is of numbers, text and sequences of them."""
    if get_origin(hint) is Annotated:
        return _is_simple(get_args(hint)[0])
    if hint in (int, float, bool, str, type(None), Ellipsis) or get_origin(hint) is Literal:
        return True
    nests = get_origin(hint) in (Union, types.UnionType, tuple)
    return nests and all(map(_is_simple, get_args(hint)))


def _refer_to(function: Any) -> str:
    module = getattr(function, "__module__", None)
    path = getattr(function, "__qualname__", None)
    if module in (None, "__main__") or path is None or "<" in path:
        return f"<function {module}:{path}>"
    found: Any = sys.modules.get(module)
    for part in path.split("."):
        found = getattr(found, part, None)
    return f"{module}:{path}" if found is function else f"<function {module}:{path}>"


def _parse_text(given: Any, members: tuple[Any, ...], label: str) -> Any:
    """Read text as the types ask, as far as pydantic would not."""
    if not isinstance(given, str):
        return given
    if _REFERENCE.fullmatch(given) and any(map(_is_callable_type, members)):
        with suppress(UsageError):
            found = load(label, given)
            return found if callable(found) else given
        return given
    if any(_is_kind(member, Mapping) for member in members):
        try:
            return json.loads(given)
        except json.JSONDecodeError as error:
            raise UsageError(
                f"{label} {_quote(given)} is not JSON ({error.msg} at character {error.pos}); "
                """write for example '{"gravity": 3.7}'"""
            ) from None
    if any(_is_kind(member, Sequence) for member in members):
        empty = given.strip().lower() in ("", NONE)
        return [] if empty else [part.strip() for part in given.split(",")]
    if str in members and (int in members or float in members):
        with suppress(ValueError):
            return float(given) if float in members else int(given)
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


def _has_infinite(value: Any) -> bool:
    return any(isinstance(leaf, float) and not math.isfinite(leaf) for leaf in _list_leaves(value))


def _list_leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping | list | tuple):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _list_leaves(item)
    else:
        yield value


def _quote(value: Any) -> str:
    return repr(value) if isinstance(value, str) else json.dumps(value, default=repr)


_SCALARS = {
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    bool: ("true or false", "true or false"),
    str: ("text", "words"),
}


def _describe(hint: Any) -> str:
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


def _read_attributes(cls: type) -> dict[str, str]:
    """Read the ``Attributes`` sections of a class and its bases, in Google style."""
    texts: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        text = inspect.cleandoc(base.__dict__.get("__doc__") or "")
        section = re.search(r"^Attributes:\n((?: .*\n?|\n)*)", text, re.MULTILINE)
        parts = re.split(r"^ {4}(?=\w+:)", section[1], flags=re.MULTILINE) if section else []
        for part in parts[1:]:
            name, _, about = part.partition(":")
            texts[name] = " ".join(about.replace("`", "").split())
    return texts
