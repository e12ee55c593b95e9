"""A search as plain data, and back: what TOML files, flags and run directories hold.

One flat table of the task's and the search's settings, and one table each for the
strategy and the policy, named by ``name``::

    env = "CartPole-v1"
    generations = 50

    [strategy]
    name = "cem"
    elite_fraction = 0.2
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_origin

import gymnasium as gym
import tomli_w

from distes.errors import UsageError, unknown
from distes.policies.base import PolicySpec
from distes.registry import NONE, Setting, find, name_of, parse_setting, settings_of, to_plain
from distes.search.defaults import AUTO
from distes.search.settings import Settings
from distes.strategies.base import Strategy
from distes.tasks.base import AnyTask
from distes.tasks.environment import Task
from distes.tasks.function import FunctionTask

Config = dict[str, Any]
S = TypeVar("S", bound=Settings)

SECTIONS: Mapping[str, tuple[str, type]] = {
    "strategy": ("strategies", Strategy),
    "policy": ("policies", PolicySpec),
}
"""Table -> (the package whose files are its names, what a class must derive from)."""

_NOT_PLAIN = {"task", *SECTIONS}


def search_settings(cls: type[Settings] = Settings) -> dict[str, Setting]:
    """List the settings of the search itself, without task, strategy and policy."""
    return {k: v for k, v in settings_of(cls).items() if k not in _NOT_PLAIN}


def choose(table: str, name: str) -> type:
    """Find the class behind ``strategy.name`` or ``policy.name``.

    Raises:
        UsageError: there is none of that name.
    """
    package, base = SECTIONS[table]
    return find(package, name, base)


def to_config(search: Settings) -> Config:
    """Write a search as plain data; `from_config` gives an equal search back.

    None is left out where it is the default and is ``"none"`` elsewhere. Functions are
    named as ``module:function``; those that have no such name are recorded in angle
    brackets, which `from_config` refuses.
    """
    task = search.task
    if not isinstance(task, Task | FunctionTask):
        return {"env": f"<{type(task).__name__}>", **_write_fields(search, search_settings())}
    first = "env" if isinstance(task, Task) else "function"
    task_fields = _write_fields(task, settings_of(type(task)))
    config = {first: task_fields[first], **task_fields, **_write_fields(search, search_settings())}
    for table in SECTIONS:
        chosen = getattr(search, table)
        if chosen is not None:
            config[table] = _write_table(table, chosen)
    return config


def from_config(config: Mapping[str, Any], cls: type[S]) -> S:
    """Make the search, or the settings of one, that plain data describes.

    Args:
        config: as `to_config` gives; ``strategy = "cem"`` is short for a table with a name
            alone.
        cls: what to make: `Settings`, or a search that can run.

    Raises:
        UsageError: a key is unknown, or a value is not what its setting accepts.
    """
    given = dict(config)
    chosen = {
        table: build_from_table(table, given.pop(table)) for table in SECTIONS if table in given
    }
    task_class: type[AnyTask] = FunctionTask if "function" in given else Task
    task_settings, own_settings = settings_of(task_class), search_settings(cls)
    for key in given:
        if key not in task_settings and key not in own_settings:
            raise unknown("key", key, [*task_settings, *own_settings, *SECTIONS])
    if task_class is Task and "env" not in given:
        raise UsageError("env is not given: name an environment, for example 'CartPole-v1'")
    task_values = _read_fields(task_settings, given)
    if isinstance(given.get("env"), str):
        task_values["env"] = environment(given["env"])
    return cls(task=task_class(**task_values), **_read_fields(own_settings, given), **chosen)


def read_settings(names: Sequence[str], config: Mapping[str, Any]) -> Config:
    """Read some settings of the search from what `to_config` gave, with their defaults.

    Raises:
        UsageError: a value is not what its setting accepts.
    """
    accepted = {name: search_settings()[name] for name in names}
    return {name: s.default for name, s in accepted.items()} | _read_fields(accepted, config)


def environment(given: str) -> Any:
    """Find what ``module:name`` means: an id that the module registers, or a function.

    Returns:
        The id as given (also where there is nothing behind it), or the function.
    """
    if given.rpartition(":")[2] in gym.registry:
        return given
    found = parse_setting(settings_of(Task)["env"], given, "env")
    return given if given.rpartition(":")[2] in gym.registry else found


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> Config:
    """Lay one configuration over another, setting by setting.

    Where both name a strategy (or policy) and the names differ, the fields given with the
    lower one are about something else and go.
    """
    merged = dict(below)
    for key, value in above.items():
        if key not in SECTIONS:
            merged[key] = value
            continue
        old, new = parse_table(merged.get(key, {})), parse_table(value)
        renamed = "name" in new and "name" in old and new["name"] != old["name"]
        merged[key] = new if renamed else {**old, **new}
    return merged


def parse_table(given: Any) -> Config:
    """Read ``strategy = "cem"`` as a table with that name."""
    return {"name": given} if isinstance(given, str) else dict(given)


def read_toml(path: Path) -> Config:
    """Read a configuration file.

    Raises:
        UsageError: there is no such file, or it is not TOML.
    """
    try:
        config = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"there is no configuration file {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} can't be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not TOML: {error}") from None
    for table in SECTIONS:
        if not isinstance(config.get(table, {}), str | dict):
            raise UsageError(f"{table} in {path} is neither a name nor a table")
    return config


def to_toml(config: Mapping[str, Any]) -> str:
    """Write a configuration as TOML, one setting a line."""
    lines = []
    for name, value in config.items():
        if name in SECTIONS:
            continue
        # TOML has no null: a table that holds one is written as JSON, which is read, too.
        as_json = isinstance(value, Mapping) and "null" in json.dumps(value)
        lines.append(_line(name, json.dumps(value) if as_json else value))
    for table in SECTIONS:
        if table in config:
            lines += ["", f"[{table}]", *(_line(k, v) for k, v in config[table].items())]
    return "\n".join(lines) + "\n"


def nested_table(setting: Setting) -> str | None:
    """Say which table a setting holds itself: a strategy that wraps another, say."""
    cls = get_origin(setting.hint) or setting.hint
    for table, (_, base) in SECTIONS.items():
        if isinstance(cls, type) and issubclass(cls, base):
            return table
    return None


def _write_table(table: str, chosen: Any) -> Config:
    cls = type(chosen)
    return {"name": name_of(SECTIONS[table][0], cls), **_write_fields(chosen, settings_of(cls))}


def build_from_table(table: str, given: Any) -> Any:
    """Make the strategy or policy that a table (or a bare name) describes.

    Args:
        table: ``strategy`` or ``policy``.
        given: what is in it.

    Returns:
        None where it leaves the choice to the task.

    Raises:
        UsageError: it describes none.
    """
    if not isinstance(given, str | Mapping):
        raise UsageError(f"{table} {given!r} is neither a name nor a table")
    values = parse_table(given)
    if not isinstance(values.get("name"), str):
        raise UsageError(f'{table} has no name: say which, for example name = "..."')
    name = values.pop("name")
    if name == AUTO:
        if values:
            raise UsageError(
                f"{table}.{next(iter(values))} is given, and {table} auto follows from the task: "
                f"name the {table} that it is meant for"
            )
        return None
    cls = choose(table, name)
    accepted = settings_of(cls)
    for key in values:
        if key not in accepted:
            raise unknown(f"key of {table} {name}", key, accepted)
    for key, setting in accepted.items():
        if setting.required and key not in values:
            raise UsageError(f"{table} {name} needs {key}: {setting.help or setting.accepted}")
    return cls(**_read_fields(accepted, values, f"{table}."))


def _line(name: str, value: Any) -> str:
    return f"{name} = {_toml_value(value)}"


def _toml_value(value: Any) -> str:
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_toml_key(k)} = {_toml_value(v)}" for k, v in value.items())
        return f"{{{inner}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml_value, value))}]"
    return tomli_w.dumps({"x": value}).removeprefix("x = ").strip()


def _toml_key(key: str) -> str:
    return tomli_w.dumps({key: 0}).removesuffix(" = 0\n")


def _read_fields(
    settings: Mapping[str, Setting], given: Mapping[str, Any], prefix: str = ""
) -> Config:
    values = {}
    for key, setting in settings.items():
        if key in given:
            table = nested_table(setting)
            values[key] = (
                build_from_table(table, given[key])
                if table is not None
                else parse_setting(setting, given[key], prefix + key)
            )
    return values


def _write_fields(owner: Any, settings: Mapping[str, Setting]) -> Config:
    config = {}
    for name, setting in settings.items():
        held = getattr(owner, name)
        table = nested_table(setting)
        value = to_plain(held) if table is None else _write_table(table, held)
        if value is not None:
            config[name] = value
        elif setting.default is not None:
            config[name] = NONE
    return config
