"""`settings`: every environment variable, as a table, as `.env.example` and as `docs/settings.md`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Annotated

import typer
from pydantic.fields import FieldInfo

from service.cli.failures import USAGE, CommandError
from service.cli.output import JsonFlag, print_json, print_table
from service.settings import ENV_FILE, Settings

_WIDTH = 98


@dataclass(frozen=True, slots=True)
class Variable:
    """One environment variable. `default` is empty when there is none."""

    name: str
    required: bool
    default: str
    example: str
    meaning: str


def variables() -> Iterator[Variable]:
    """Every variable in the order of the settings, the required ones first."""
    for name, field in Settings.model_fields.items():
        yield Variable(
            name=name.upper(),
            required=field.is_required(),
            default=_default(field),
            example=str(field.examples[0]) if field.examples else "",
            meaning=field.description or "",
        )


def env_example() -> str:
    """The text of `.env.example`: what is required to be filled in, the rest commented out."""
    lines = [
        "# Settings of the service: copy to .env beside this file and fill in what is required.",
        f"# A file in another place is read when {ENV_FILE} names it in the environment.",
        "# Written by `horizonctl settings --env-example`; docs/settings.md is the same as a table.",
    ]
    for variable in variables():
        lines.append("")
        lines += [f"# {line}" for line in wrap(variable.meaning, _WIDTH)]
        if variable.example:
            lines.append(f"# Example: {variable.example}")
        if variable.required:
            lines.append(f"{variable.name}=")
        else:
            lines.append(f"# {variable.name}={_quoted(variable.default)}")
    return "\n".join(lines) + "\n"


def markdown() -> str:
    """The text of `docs/settings.md`."""
    lines = [
        "# Settings",
        "",
        "Every setting is an environment variable. It is read from the environment first, then from the "
        f"file that `{ENV_FILE}` names. Without that variable the file is `.env` in the checkout, the "
        "folder that holds `service/`, if it is there; an empty value means no file. The working folder "
        "does not matter.",
        "This page is written by `horizonctl settings --markdown`, from `service/settings.py`.",
        "",
        "| Variable | Default | Meaning |",
        "|---|---|---|",
    ]
    for variable in variables():
        default = "**required**" if variable.required else _code(variable.default)
        example = f" Example: {_code(variable.example)}." if variable.example else ""
        lines.append(f"| `{variable.name}` | {default} | {_cell(variable.meaning)}{example} |")
    return "\n".join(lines) + "\n"


def settings(
    as_env: Annotated[bool, typer.Option("--env-example", help="Print .env.example.")] = False,
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="Print docs/settings.md.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show every environment variable, its default and its meaning. Needs no settings."""
    if as_env + as_markdown + as_json > 1:
        raise CommandError("Give one of --env-example, --markdown and --json.", USAGE)
    if as_env:
        typer.echo(env_example(), nl=False)
    elif as_markdown:
        typer.echo(markdown(), nl=False)
    elif as_json:
        print_json([_as_json(variable) for variable in variables()])
    else:
        print_table(
            ("variable", "default", "meaning"),
            (
                (
                    variable.name,
                    "(required)" if variable.required else variable.default or None,
                    variable.meaning,
                )
                for variable in variables()
            ),
            "",
        )


def _as_json(variable: Variable) -> dict[str, object]:
    return {
        "name": variable.name,
        "required": variable.required,
        "default": variable.default or None,
        "example": variable.example or None,
        "meaning": variable.meaning,
    }


def _default(field: FieldInfo) -> str:
    if field.is_required() or field.default in (None, ()):
        return ""
    if isinstance(field.default, bool):
        return str(field.default).lower()
    return field.default.as_posix() if isinstance(field.default, Path) else str(field.default)


def _quoted(value: str) -> str:
    return f'"{value}"' if " " in value else value


def _code(value: str) -> str:
    return f"`{_cell(value)}`" if value else "–"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
