"""The page of the command line, from the commands themselves."""

from collections.abc import Iterator
from typing import Any

import typer

from sightline.cli._main import app


def command_line_page() -> str:
    """Every command with its arguments and options."""
    lines = [
        "# Command line",
        "",
        "Written by `docs/check.py --write` from the commands. `sightline COMMAND --help` prints the same.",
        "",
        "Exit codes: 0 success; 1 a verdict or a file that `--fail-on` or `--strict` asks about; 2 input that cannot",
        "be used; 3 a refusal (what could be made is kept); 4 nothing was decided (`--fail-on`); 130 interrupted.",
    ]
    for name, command in _commands(typer.main.get_command(app), "sightline"):
        lines += ["", f"## {name}", "", _plain(command.help or "")]
        arguments = [one for one in command.params if one.param_type_name == "argument"]
        options = [one for one in command.params if one.param_type_name == "option" and "--help" not in one.opts]
        usage = " ".join(
            [name, *(f"[{one.name.upper()}]" if not one.required else one.name.upper() for one in arguments)]
        )
        lines += ["", "```", usage + (" [OPTIONS]" if options else ""), "```"]
        if arguments or options:
            lines += ["", "| | default | |", "|---|---|---|"]
        lines += [f"| `{one.name.upper()}` | {_default(one)} | {_plain(one.help or '')} |" for one in arguments]
        for one in options:
            names = " / ".join(f"`{word}`" for word in [*one.opts, *one.secondary_opts])
            lines.append(f"| {names} | {_default(one)} | {_plain(one.help or '')} |")
    return "\n".join(lines) + "\n"


def _commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    for own, one in getattr(command, "commands", {}).items():
        if hasattr(one, "commands"):
            yield from _commands(one, f"{name} {own}")
        else:
            yield f"{name} {own}", one


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    value = parameter.default
    if value in (None, (), "", False) or callable(value):
        return ""
    return f"`{'yes' if value is True else value}`".replace(",", ", ")


def _plain(text: str) -> str:
    """On one line, and harmless in a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
