"""``distes run``: flags that depend on the strategy and the policy that were chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from distes.cli.options import SettingOption, flag_of, options_for, read_flags
from distes.errors import UsageError, unknown

_STATE, _WORDS = "distes.run", "distes.words"
_PATHS = ("--out", "--start-from", "--storage", "--name", "--job-id")
"""Flags whose value may be called anything, NAME.toml too."""

TABLES = ("strategy", "policy")
"""What else has flags of its own."""

USUAL = ("cmaes", "cem", "mlp")
"""Whom advice names first."""


class RunCommand(click.Command):
    """A command whose flags are the settings of what it is about to run."""

    def __init__(self, *given: Any, without: str = "", **settings: Any) -> None:
        """Take what any command takes, and a setting of the search that it decides itself."""
        super().__init__(*given, **settings)
        self.without = without

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Find out which strategy and policy are meant, then read the flags."""
        if not ctx.resilient_parsing:
            ctx.meta[_STATE] = self._choose(args)
            return super().parse_args(ctx, args)
        # A shell completes: the settings, slow to find, are needed for flags alone.
        ctx.meta[_STATE], ctx.meta[_WORDS] = ({}, {}), list(args)
        ctx.ignore_unknown_options = True
        if args and args[-1].startswith("--"):
            self._choose_known(ctx)
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete flags, those of the chosen strategy and policy among them."""
        if incomplete.startswith("-"):
            self._choose_known(ctx)
        return super().shell_complete(ctx, incomplete)

    def _choose_known(self, ctx: click.Context) -> None:
        """Choose among the installed alone: a word or a file that names code imports none yet."""
        with suppress(UsageError):
            ctx.meta[_STATE] = self._choose(ctx.meta[_WORDS], installed_only=True)

    def _choose(
        self, args: Sequence[str], *, installed_only: bool = False
    ) -> tuple[dict[str, Any], dict[str, list[SettingOption]]]:
        """Read the file among the arguments, and find the flags of what is chosen."""
        from distes.search import config_file

        file = None if installed_only else _find_config_file(args)
        config = config_file.read_toml(Path(file)) if file else {}
        named: dict[str, str] = {}
        for table in TABLES:
            asked = _find_last_value(args, flag_of(table))
            if installed_only and ":" in (asked or ""):
                asked = None
            named[table] = asked or _choose_name(config, table, named.get("strategy", ""))
        return config, _make_options(named, self.without)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """List the flags of the command itself and of all that was chosen."""
        options = [o for group in _option_groups(ctx).values() for o in group]
        return [*super().get_params(ctx), *options]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the flags in groups."""
        own = [p for p in super().get_params(ctx) if isinstance(p, click.Option)]
        groups: dict[str, Sequence[click.Option]] = {"Choices": own, **_option_groups(ctx)}
        for title, options in groups.items():
            records = [option.get_help_record(ctx) for option in options]
            if rows := [record for record in records if record is not None]:
                with formatter.section(title):
                    formatter.write_dl(rows, col_max=34)

    def explain_unknown(self, ctx: click.Context, flag: str, flags: Sequence[str]) -> str | None:
        """Say which flag is meant, or which other strategy or policy has it."""
        spelled = flag.replace("_", "-").removeprefix("--").removeprefix("no-")
        table, dot, name = spelled.partition(".")
        if not dot:
            if meant := [f for f in flags if f.partition(".")[2] == spelled]:
                return f"unknown flag '{flag}': did you mean '{meant[0]}'?"
            elsewhere = [f"--{t}.{spelled}" for t in TABLES if _find_owners(t, spelled)]
            accepted = [f for f in flags if "." not in f]
            return str(unknown("flag", flag, [*elsewhere, *accepted] if elsewhere else accepted))
        if table not in TABLES:
            return None
        from distes.registry import AUTO

        titles = [title for title in _option_groups(ctx) if title.lower().startswith(table)]
        chosen = titles[0].partition(":")[0].split()[1] if titles else AUTO
        if owners := _find_owners(table, name):
            named = " and ".join(filter(None, [", ".join(owners[:-1]), owners[-1]]))
            if not titles:
                usual = next((each for each in USUAL if each in owners), owners[0])
                return (
                    f"'{flag}' belongs to {table} {named}, and no {table} is named: say which, "
                    f"for example --{table} {usual}"
                )
            return f"'{flag}' belongs to {table} {named}, and this run's is {chosen}"
        own = [f for f in flags if f.startswith(f"--{table}.")]
        if not titles:
            own = [flag_of(f"{table}.{field}") for field in _find_owners(table)]
        return str(unknown(f"flag of {table} {chosen}", flag, own))


def _find_owners(table: str, flag: str | None = None) -> list[str]:
    """Find who has a setting of this name; without one, the names of all settings there are."""
    from distes.registry import find_all, settings_of
    from distes.search import tables

    classes = find_all(*tables.SECTIONS[table])
    if flag is None:
        return sorted({name for cls in classes.values() for name in settings_of(cls)})
    field = flag.replace("-", "_")
    return [owner for owner, cls in classes.items() if field in settings_of(cls)]


def _choose_name(config: Mapping[str, Any], table: str, strategy: str) -> str:
    """Name what a file chooses, or what runs where it chooses nothing: a strategy's own policy."""
    from distes.registry import AUTO
    from distes.search import tables

    found = tables.parse_table(config.get(table, {})).get("name")
    if found is not None:
        return str(found)
    if table == "strategy" or strategy == AUTO:
        return AUTO
    chosen: str = tables.choose("strategy", strategy).default_policy  # type: ignore[attr-defined]
    return chosen


def build_config(ctx: click.Context, target: str) -> dict[str, Any]:
    """Lay the flags of a parsed `RunCommand` over its file, if the target is one."""
    from distes.search import config_file

    config, _ = ctx.meta[_STATE]
    above = read_flags(ctx.command.get_params(ctx), ctx.params)
    if not target.endswith(".toml"):
        above["env"] = target
    if ctx.params["observers"]:
        above["observers"] = list(ctx.params["observers"])
    strategy = ctx.params["strategy"] or _choose_name(config, "strategy", "")
    for table in TABLES:
        if ctx.params[table] is not None:
            above[table] = {"name": ctx.params[table], **above.get(table, {})}
        elif table in above:
            above[table] = {"name": _choose_name(config, table, strategy), **above[table]}
    return config_file.merge(config, above)


def spell_flags(ctx: click.Context) -> list[str]:
    """Spell the settings that were given to a `RunCommand`, for another command line."""
    flags = [f"--observer={name}" for name in ctx.params["observers"]]
    for option in ctx.command.get_params(ctx):
        value = ctx.params.get(option.name or "")
        if value is None or not (isinstance(option, SettingOption) or option.name in TABLES):
            continue
        if isinstance(value, bool):
            flags.append(option.opts[0] if value else option.secondary_opts[0])
        else:
            flags.append(f"{option.opts[0]}={value}")
    return flags


def _option_groups(ctx: click.Context) -> dict[str, list[SettingOption]]:
    groups: dict[str, list[SettingOption]] = ctx.meta[_STATE][1]
    return groups


def _make_options(named: dict[str, str], without: str) -> dict[str, list[SettingOption]]:
    from distes.registry import AUTO, settings_of
    from distes.search import config_file, tables
    from distes.tasks.environment import Task

    task = {k: setting for k, setting in settings_of(Task).items() if k != "env"}
    search = {k: s for k, s in config_file.search_settings().items() if k != without}
    groups = {"Search": options_for(search), "Task": options_for(task)}
    for table, name in named.items():
        if name == AUTO:
            continue
        cls = tables.choose(table, name)
        about = (cls.__doc__ or "").partition("\n")[0].rstrip(".")
        groups[f"{table.capitalize()} {name}: {about}"] = options_for(settings_of(cls), table)
    return groups


def _find_config_file(args: Sequence[str]) -> str | None:
    """Find the configuration file among the arguments, before the flags are known."""
    for before, argument in pairwise(["", *args]):
        if argument.endswith(".toml") and not argument.startswith("-") and before not in _PATHS:
            return argument
    return None


def _find_last_value(args: Sequence[str], flag: str) -> str | None:
    """Find the value that the last occurrence of a flag has among raw arguments."""
    found = None
    for index, argument in enumerate(args):
        if argument == flag and index + 1 < len(args):
            found = args[index + 1]
        elif argument.startswith(flag + "="):
            found = argument.partition("=")[2]
    return found
