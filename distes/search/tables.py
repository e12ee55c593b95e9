"""A strategy or a policy as a table of plain data, and fields as what a table holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_origin

from distes.errors import UsageError, unknown
from distes.policies.base import PolicySpec
from distes.registry import (
    AUTO,
    NONE,
    Setting,
    find,
    name_of,
    parse_setting,
    settings_of,
    to_plain,
)
from distes.strategies.base import Strategy

Config = dict[str, Any]

SECTIONS: Mapping[str, tuple[str, type]] = {
    "strategy": ("strategies", Strategy),
    "policy": ("policies", PolicySpec),
}
"""Table -> (the package whose files are its names, what a class must derive from)."""


def choose(table: str, name: str) -> type:
    """Find the class behind ``strategy.name`` or ``policy.name``.

    Raises:
        UsageError: there is none of that name.
    """
    package, base = SECTIONS[table]
    return find(package, name, base)


def parse_table(given: Any) -> Config:
    """Read ``strategy = "cem"`` as a table with that name."""
    return {"name": given} if isinstance(given, str) else dict(given)


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
    return cls(**read_fields(accepted, values, f"{table}."))


def nested_table(setting: Setting) -> str | None:
    """Say which table a setting holds itself: a strategy that wraps another, say."""
    cls = get_origin(setting.hint) or setting.hint
    for table, (_, base) in SECTIONS.items():
        if isinstance(cls, type) and issubclass(cls, base):
            return table
    return None


def write_table(table: str, chosen: Any) -> Config:
    """Write a strategy or a policy as `build_from_table` reads it."""
    cls = type(chosen)
    return {"name": name_of(SECTIONS[table][0], cls), **write_fields(chosen, settings_of(cls))}


def read_fields(
    settings: Mapping[str, Setting], given: Mapping[str, Any], prefix: str = ""
) -> Config:
    """Read the settings that are given, by name.

    Raises:
        UsageError: a value is not what its setting accepts.
    """
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


def write_fields(owner: Any, settings: Mapping[str, Setting]) -> Config:
    """Write settings as `read_fields` reads them; None, where it is the default, not at all."""
    config = {}
    for name, setting in settings.items():
        held = getattr(owner, name)
        table = nested_table(setting)
        value = to_plain(held) if table is None else write_table(table, held)
        if value is not None:
            config[name] = value
        elif setting.default is not None:
            config[name] = NONE
    return config
