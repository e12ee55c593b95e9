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
from typing import Any, TypeVar

import gymnasium as gym
import tomli_w

from distes.errors import UsageError, unknown
from distes.registry import Setting, parse_setting, settings_of
from distes.search.settings import Settings
from distes.search.tables import (
    SECTIONS,
    Config,
    build_from_table,
    parse_table,
    read_fields,
    write_fields,
    write_table,
)
from distes.tasks.base import AnyTask
from distes.tasks.environment import Task
from distes.tasks.function import FunctionTask

S = TypeVar("S", bound=Settings)

_NOT_PLAIN = {"task", *SECTIONS}


def search_settings(cls: type[Settings] = Settings) -> dict[str, Setting]:
    """List the settings of the search itself, without task, strategy and policy."""
    return {k: v for k, v in settings_of(cls).items() if k not in _NOT_PLAIN}


def to_config(search: Settings) -> Config:
    """Write a search as plain data; `from_config` gives an equal search back.

    None is left out where it is the default and is ``"none"`` elsewhere. Functions are
    named as ``module:function``; those that have no such name are recorded in angle
    brackets, which `from_config` refuses.
    """
    task = search.task
    if not isinstance(task, Task | FunctionTask):
        return {"env": f"<{type(task).__name__}>", **write_fields(search, search_settings())}
    first = "env" if isinstance(task, Task) else "function"
    task_fields = write_fields(task, settings_of(type(task)))
    config = {first: task_fields[first], **task_fields, **write_fields(search, search_settings())}
    for table in SECTIONS:
        chosen = getattr(search, table)
        if chosen is not None:
            config[table] = write_table(table, chosen)
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
    task_values = read_fields(task_settings, given)
    if isinstance(given.get("env"), str):
        task_values["env"] = environment(given["env"])
    return cls(task=task_class(**task_values), **read_fields(own_settings, given), **chosen)


def read_settings(names: Sequence[str], config: Mapping[str, Any]) -> Config:
    """Read some settings of the search from what `to_config` gave, with their defaults.

    Raises:
        UsageError: a value is not what its setting accepts.
    """
    accepted = {name: search_settings()[name] for name in names}
    return {name: s.default for name, s in accepted.items()} | read_fields(accepted, config)


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
