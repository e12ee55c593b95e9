"""Flags made from settings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import click

from distes.cli.completion import complete_names, complete_words
from distes.registry import NONE, Setting, parse_setting, to_plain


class SettingOption(click.Option):
    """A flag for one setting; its value stays text until `parse_setting` reads it.

    Attributes:
        setting: which.
        table: ``strategy`` or ``policy``; "" for the search and its task.
    """

    def __init__(self, setting: Setting, table: str = "") -> None:
        """Make ``--name``, ``--table.name`` or, for true and false, ``--name/--no-name``."""
        self.setting = setting
        self.table = table
        flag = flag_of(setting.name, table)
        switch = setting.hint in (bool, bool | None)
        off = f"/--no-{flag.removeprefix('--')}" if switch else ""
        kind: dict[str, Any] = (
            {"type": bool} if switch else {"type": str, "metavar": metavar(setting)}
        )
        names = [flag + off, f"{table}_{setting.name}"]
        if flag == "--engine":
            kind["shell_complete"] = complete_names("engines", "distes.engines.base:Engine")
        elif choices := list_choices(setting):
            kind["shell_complete"] = complete_words(choices)
        super().__init__(names, default=None, help=_help(setting), **kind)

    def read(self, given: Any) -> Any:
        """Read a value of this flag.

        Raises:
            UsageError: it is not what the setting accepts.
        """
        from distes.search.tables import nested_table

        if nested_table(self.setting) is not None:
            return given  # a name, read with the table it is in
        return parse_setting(self.setting, given, flag_of(self.setting.name, self.table))


def flag_of(name: str, table: str = "") -> str:
    """Spell a setting as a flag; its unit, if seconds, is in the help.

    >>> flag_of("episode_timeout_s"), flag_of("rho", "strategy")
    ('--episode-timeout', '--strategy.rho')
    """
    spelled = name.removesuffix("_s").replace("_", "-")
    return "--" + ".".join(filter(None, [table, spelled]))


def options_for(settings: Mapping[str, Setting], table: str = "") -> list[SettingOption]:
    """Make the flags of several settings."""
    return [SettingOption(setting, table) for setting in settings.values()]


def read_values(settings: Mapping[str, Setting], values: Mapping[str, Any]) -> dict[str, Any]:
    """Read the flags of some settings that were given; None was not."""
    return {
        name: SettingOption(settings[name]).read(value)
        for name, value in values.items()
        if value is not None
    }


def read_flags(options: Iterable[click.Parameter], values: Mapping[str, Any]) -> dict[str, Any]:
    """Read the flags that were given into a configuration.

    Args:
        options: those of a command; others than `SettingOption` are passed over.
        values: click's, by parameter name.
    """
    config: dict[str, Any] = {}
    for option in options:
        if isinstance(option, SettingOption) and values.get(option.name or "") is not None:
            where = config.setdefault(option.table, {}) if option.table else config
            value = to_plain(option.read(values[option.name or ""]))
            where[option.setting.name] = NONE if value is None else value
    return config


def list_choices(setting: Setting) -> list[str]:
    """List the words that a setting takes, where it takes only some."""
    words = setting.accepted.removesuffix(f" or {NONE}")
    return words.removeprefix("one of ").split(", ") if words.startswith("one of ") else []


def metavar(setting: Setting) -> str:
    """Say in capitals what a flag takes."""
    words = setting.accepted.removesuffix(f" or {NONE}")
    short = {
        "a whole number": "N",
        "a whole number or auto": "N|auto",
        "a number": "X",
        "a number or off": "X|off",
        "a path": "PATH",
        "text or a path": "PATH",
        "text or module:function": "TEXT",
        "true or false": "true|false",
        "text": "TEXT",
        "a table": "JSON",
        "whole numbers separated by commas": "N,N,...",
        "numbers separated by commas": "X,X,...",
        "words separated by commas": "A,B,...",
    }
    if choices := list_choices(setting):
        return "|".join(choices)
    return short.get(words, "VALUE")


def _help(setting: Setting) -> str:
    text = re.sub(r"\bNone\b", NONE, setting.help.rstrip("."))
    if setting.required:
        return f"{text} (required)"
    default = to_plain(setting.default)
    if default is None or default in ({}, []):
        return text
    if isinstance(default, list):
        default = ",".join(map(str, default))
    elif isinstance(default, bool):
        default = str(default).lower()
    return f"{text} ({default})"
