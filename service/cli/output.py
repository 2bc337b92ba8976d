"""How commands show things: a table for people, JSON for programs."""

from __future__ import annotations

import codecs
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, TextIO

import orjson
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]

_PIPED_WIDTH = 200


def console() -> Console:
    """Standard output; wide when it is no terminal, so that lines can be searched."""
    return Console(
        width=None if sys.stdout.isatty() else _PIPED_WIDTH, highlight=False, soft_wrap=False
    )


def print_json(value: Any) -> None:
    """The only thing on standard output when `--json` is given."""
    text = orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS).decode()
    if not is_utf8(sys.stdout):
        text = json.dumps(json.loads(text), indent=2)
    sys.stdout.write(text + "\n")


def is_utf8(stream: TextIO) -> bool:
    """Whether every text can be written to it as it is."""
    return codecs.lookup(stream.encoding or "ascii").name == "utf-8"


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], nothing: str) -> None:
    """Rows under their columns; the sentence `nothing` when there are none."""
    found = list(rows)
    if not found:
        console().print(Text(nothing))
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in found:
        table.add_row(*(Text(shown(cell)) for cell in row))
    console().print(table)


def print_fields(fields: Mapping[str, object]) -> None:
    """One thing, a line for each of its fields."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in fields.items():
        table.add_row(Text(name), Text(shown(value)))
    console().print(table)


def print_line(sentence: str, *, flush: bool = False) -> None:
    """A sentence on standard output, as it is; `flush` when the next one may take its time."""
    sys.stdout.write(sentence + "\n")
    if flush:
        sys.stdout.flush()


def print_note(sentence: str) -> None:
    """A sentence beside the result, on standard error."""
    sys.stderr.write(sentence + "\n")


def shown(value: object) -> str:
    """A value as a person reads it."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, dict | list):
        return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()
    return str(value)
