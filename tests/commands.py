"""Command lines that pages show: why their program would refuse them, found without running them."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import typer.main
import yaml
from ansible.cli import CLI
from ansible.cli.playbook import PlaybookCLI
from ansible.cli.vault import VaultCLI

from service.cli.main import app

ROOT = Path(__file__).parents[1]
OWN_INVENTORY = "inventories/mine"
"""The operator's: it stands for the example that it is a copy of."""
OTHER_UNITS = ("nginx.service", "postgresql.service", "redis-server.service")
"""Units of Debian's packages."""

_PLACEHOLDER = re.compile(r"<[^<>]*>")
_EXPRESSION = re.compile(r"\{[{%](.*?)[%}]\}", re.DOTALL)
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
_NAME = re.compile(r"(?<![\w.])[a-z_]\w*")
_CONDITIONS = ("when", "that", "changed_when", "failed_when", "until")
_INCLUDES = ("import_tasks", "include_tasks", "import_playbook", "vars_files")


def fault(line: str, *, mention: bool = False) -> str:
    """Why its program would refuse it; empty when it would not. A mention may leave arguments out."""
    words = shlex.split(_PLACEHOLDER.sub("x", line), comments=True)
    if words[:1] == ["sudo"]:
        words = words[1:]
    program, *arguments = words
    check = _CHECKS.get(program.removeprefix(".venv/bin/"))
    if check is None:
        return f"{program} is no program that this check knows"
    return "" if mention and not arguments else check(arguments, mention)


def playbook_of(line: str) -> str | None:
    """The playbook that a line runs."""
    words = line.split()
    return words[1] if words[:1] == ["ansible-playbook"] and len(words) > 1 else None


@cache
def variables(playbook: str) -> frozenset[str]:
    """Variables that a playbook, its tasks and its roles' defaults and expressions name."""
    found: set[str] = set()
    for path in _files(ROOT / playbook):
        document = _read(path)
        found |= set(_names(document))
        # A checkout may be in a folder of that name, and a playbook is a list.
        if path.parent.name in ("defaults", "vars") and isinstance(document, dict):
            found |= set(document)
    return frozenset(found)


@cache
def _read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _files(path: Path) -> Iterator[Path]:
    """A file of a playbook or role, and those that it includes."""
    yield path
    for task in _mappings(_read(path)):
        for key, value in task.items():
            action = key.rpartition(".")[2]
            if action in _INCLUDES:
                for each in value if isinstance(value, list) else [value]:
                    name = each["file"] if isinstance(each, dict) else each
                    if "{{" not in name:
                        yield from _files(path.parent / name)
            elif action in ("import_role", "include_role"):
                if "{{" in value["name"]:
                    continue
                yield from _role(value["name"], value.get("tasks_from", "main"))
            elif action == "roles":
                for role in value:
                    yield from _role(role["role"], "main")


def _role(name: str, tasks: str) -> Iterator[Path]:
    folder = ROOT / "roles" / name
    yield folder / "defaults" / "main.yml"
    yield from _files(folder / "tasks" / f"{tasks.removesuffix('.yml')}.yml")


def _mappings(document: Any) -> Iterator[dict[str, Any]]:
    if isinstance(document, dict):
        yield document
    for inner in _inner(document):
        yield from _mappings(inner)


def _inner(document: Any) -> list[Any]:
    if isinstance(document, dict):
        return list(document.values())
    return document if isinstance(document, list) else []


def _names(document: Any, *, condition: bool = False) -> Iterator[str]:
    """Names in expressions, in conditions, and texts that are nothing but a name."""
    if isinstance(document, str):
        if condition or re.fullmatch(_NAME, document):
            yield from _NAME.findall(_QUOTED.sub("", document))
        for expression in _EXPRESSION.findall(document):
            yield from _NAME.findall(_QUOTED.sub("", expression))
    elif isinstance(document, dict):
        for key, value in document.items():
            yield from _names(value, condition=key in _CONDITIONS)
    else:
        for inner in _inner(document):
            yield from _names(inner, condition=condition)


def _parsed(cli: CLI, arguments: list[str]) -> Any:
    """What Ansible's own parser makes of it; its complaint, as a text, when it refuses."""
    cli.init_parser()
    with contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            return cli.parser.parse_args(arguments)
        except SystemExit:
            return said.getvalue().strip().splitlines()[-1]


def _ansible_playbook(arguments: list[str], _mention: bool) -> str:
    options = _parsed(PlaybookCLI(["ansible-playbook"]), arguments)
    if isinstance(options, str):
        return options
    for playbook in options.args:
        if not (ROOT / playbook).is_file():
            return f"there is no playbook {playbook}"
        given = [word.partition("=")[0] for word in options.extra_vars if word[0] != "@"]
        for name in given:
            if name not in variables(playbook):
                return f"{playbook} has no variable {name}"
        for tag in ",".join(options.tags).split(","):
            if tag and tag not in _tags(playbook):
                return f"{playbook} has no tag {tag}"
    for inventory in options.inventory or ():
        if inventory != OWN_INVENTORY and not (ROOT / inventory).is_dir():
            return f"there is no inventory {inventory}"
    return ""


def _tags(playbook: str) -> set[str]:
    lists = (
        task.get("tags", [])
        for path in _files(ROOT / playbook)
        if path.parent.name != "defaults"
        for task in _mappings(_read(path))
    )
    return {tag for tags in lists for tag in (tags if isinstance(tags, list) else [tags])}


def _ansible_vault(arguments: list[str], _mention: bool) -> str:
    options = _parsed(VaultCLI(["ansible-vault"]), arguments)
    if isinstance(options, str):
        return options
    files = [name.replace(OWN_INVENTORY, "inventories/example") for name in options.args]
    missing = [name for name in files if not (ROOT / name).is_file()]
    return f"there is no file {missing[0]}" if missing else ""


def _horizonctl(arguments: list[str], mention: bool) -> str:
    command: Any = typer.main.get_command(app)
    name = "horizonctl"
    while inner := getattr(command, "commands", None):
        name, *arguments = arguments or [""]
        if name not in inner:
            return f"horizonctl has no command {name}"
        command = inner[name]
    if mention and not arguments:
        return ""
    try:
        command.make_context(name, arguments)
    except typer.TyperException as error:
        return error.format_message()
    return ""


def _horizonai_backup(arguments: list[str], _mention: bool) -> str:
    program = ROOT / "roles/backup/files/horizon_backup/__main__.py"
    choices = re.search(r"choices=\[(.*?)\]", program.read_text(encoding="utf-8"))
    assert choices is not None
    known = re.findall(r'"(\w+)"', choices[1])
    return "" if arguments[0] in known else f"horizonai-backup has no command {arguments[0]}"


def _templates(pattern: str) -> list[Path]:
    return list((ROOT / "roles").glob(f"*/templates/{pattern}"))


def _unknown_unit(name: str) -> str:
    unit = name if "." in name else f"{name}.service"
    known = unit in OTHER_UNITS or _templates(f"{unit}.j2")
    return "" if known else f"there is no unit {name}"


def _systemctl(arguments: list[str], _mention: bool) -> str:
    if arguments == ["--failed"]:
        return ""
    verb, *units = arguments
    if verb not in ("start", "stop", "status", "restart"):
        return f"systemctl is not known to do {verb}"
    return next(filter(None, map(_unknown_unit, units)), "")


def _journalctl(arguments: list[str], _mention: bool) -> str:
    words = iter(arguments)
    for option in words:
        if option == "-u" and (missing := _unknown_unit(next(words))):
            return missing
        if option == "-t":
            name = next(words)
            texts = (path.read_text(encoding="utf-8") for path in _templates("*.service.j2"))
            if not any(f"SyslogIdentifier={name}\n" in text for text in texts):
                return f"no unit writes as {name}"
        elif option == "-n":
            next(words)
        elif option not in ("-u", "-f"):
            return f"journalctl is not known to take {option}"
    return ""


def _make(arguments: list[str], _mention: bool) -> str:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    known = re.findall(r"^([a-z-]+):|^([A-Z_]+) =", makefile, re.MULTILINE)
    names = {target or variable for target, variable in known}
    unknown = [word for word in arguments if word.partition("=")[0] not in names]
    return f"make has no target {unknown[0]}" if unknown else ""


def _git(arguments: list[str], _mention: bool) -> str:
    listed = subprocess.run(
        ["/usr/bin/env", "git", "--list-cmds=main"], capture_output=True, text=True, check=True
    )
    known = arguments[0] in listed.stdout.split()
    return "" if known else f"git has no command {arguments[0]}"


_CHECKS: dict[str, Callable[[list[str], bool], str]] = {
    "ansible-playbook": _ansible_playbook,
    "ansible-vault": _ansible_vault,
    "git": _git,
    "horizonai-backup": _horizonai_backup,
    "horizonctl": _horizonctl,
    "journalctl": _journalctl,
    "make": _make,
    "systemctl": _systemctl,
}
PROGRAMS = tuple(_CHECKS)
