"""Names that an inventory or -e writes and that nothing here reads, each with the nearest that is read."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleError

Finding = dict[str, str]

ANSIBLE = Path(__file__).parents[1]
ROLES = ANSIBLE.parent / "roles"
SETTINGS = ANSIBLE.parent / "service" / "settings.py"
READERS = ("defaults", "handlers", "meta", "tasks", "templates", "vars")
OURS = ("alert", "cluster", "horizon", "vault")
"""Beginnings of names besides the roles' that are judged even where no known name is near."""
OTHERS = re.compile(r"ansible_.*|.*_exporter(_.*)?")
"""Ansible's own, and those of Prometheus' roles, whose names begin like ours."""
OF_PROCESSES = re.compile(
    r"(HTTPS?|NO|ALL|FTP)_PROXY|(SSL|REQUESTS|CURL)_\w+|TZ|LANG|LANGUAGE|LC_\w+|(PYTHON|MALLOC|PG)\w+"
)
"""Environment variables of Python and of libraries, which app_settings may hold too."""
NEAR = 0.85
NEAR_SETTING = 0.6


def name_problems(
    hosts: Sequence[str], hostvars: Mapping[str, Any], others: Sequence[str] = ()
) -> list[Finding]:
    """What is written for these hosts and has no effect. `others` are patterns of the operator's names."""
    written = {host: variables_of(hostvars, host) for host in hosts}
    unread: dict[str, list[str]] = {}
    for host, variables in written.items():
        for name in unread_names(variables, others):
            unread.setdefault(name, []).append(host)
    found = [_finding(name, members) for name, members in sorted(unread.items())]
    wrong: dict[tuple[str, str, str], list[str]] = {}
    for host in hosts:
        for name in option_names():
            for what, remedy in key_problems(name, _value(hostvars[host], name)):
                wrong.setdefault((name, what, remedy), []).append(host)
    return found + [
        {"problem": f"{name} of {', '.join(members)} {what}.", "remedy": f"{remedy}."}
        for (name, what, remedy), members in wrong.items()
    ]


def unread_names(variables: Mapping[str, Any], others: Sequence[str] = ()) -> list[str]:
    """Names among these that are judged, and that nothing reads."""
    return [
        name
        for name in variables
        if _is_judged(name)
        and (name not in words() or name in fixed_names())
        and not any(fnmatch(name, pattern) for pattern in others)
        and not is_referenced(name, variables)
    ]


def is_referenced(name: str, variables: Mapping[str, Any]) -> bool:
    """Whether a template of another variable reads it."""
    whole = re.compile(rf"\b{re.escape(name)}\b")
    return any(
        "{{" in text or "{%" in text
        for other, value in variables.items()
        if other != name
        for text in _texts(value)
        if whole.search(text)
    )


def nearest(name: str, more: Iterable[str] = ()) -> str:
    """The known name that is most like it; empty when none is."""
    known = [*option_names(), *inventory_names(), *more]
    longer = [each for each in known if each.startswith(name) and len(name) > 7]
    close = get_close_matches(name, longer, 1, 0) or get_close_matches(name, known, 1, 0.7)
    return close[0] if close else ""


def key_problems(name: str, value: Any) -> list[tuple[str, str]]:
    """What is wrong with the keys of a variable's value, each with its remedy."""
    if name == "app_settings":
        keys = value if isinstance(value, Mapping) else {}
        return [_setting(str(key)) for key in keys if not _is_setting(str(key))]
    known = option_names().get(name, {}).get("options")
    if not known:
        return []
    entries = value if isinstance(value, list) else [value]
    return [
        (f"has {key}, which the role does not know", f"write {_one_of(str(key), known)}")
        for entry in entries
        if isinstance(entry, Mapping)
        for key in entry
        if key not in known
    ]


@cache
def option_names() -> dict[str, dict[str, Any]]:
    """Every variable that roles let an inventory write, with what its argument spec says of it."""
    found: dict[str, dict[str, Any]] = {}
    for file in sorted(ROLES.glob("*/meta/argument_specs.yml")):
        for entry in _read(file).get("argument_specs", {}).values():
            found |= entry.get("options") or {}
    return found


@cache
def inventory_names() -> dict[str, str]:
    """Variables that belong to no role, the vault's too, with what they are."""
    listed = _read(ANSIBLE / "vars" / "inventory.yml")
    return {**listed["inventory_variables"], **listed["inventory_secrets"]}


@cache
def fixed_names() -> set[str]:
    """Variables that roles have of their own: what an inventory says of them has no effect."""
    found = {name for file in ROLES.glob("*/vars/main.yml") for name in _read(file)}
    return found - option_names().keys()


@cache
def words() -> set[str]:
    """Every word of the roles and playbooks: a name that is none of them is read nowhere."""
    files = [file for kind in READERS for file in ROLES.glob(f"*/{kind}/*") if file.is_file()]
    files += [*ANSIBLE.glob("*.yml"), *ANSIBLE.glob("tasks/*.yml"), *ANSIBLE.glob("vars/*.yml")]
    found: set[str] = set()
    for file in files:
        for line in file.read_text(encoding="utf-8").splitlines():
            if not line.lstrip().startswith("#"):
                found |= set(re.findall(r"\b[a-z]\w+\b", line))
    return found


@cache
def setting_names() -> set[str]:
    """The service's settings, as the checkout has them."""
    tree = ast.parse(SETTINGS.read_text(encoding="utf-8"))
    (settings,) = (
        node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Settings"
    )
    return {
        node.target.id.upper()
        for node in settings.body
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and node.target.id != "model_config"
    }


@cache
def _prefixes() -> re.Pattern[str]:
    roles = (path.name for path in ROLES.iterdir())
    return re.compile(rf"({'|'.join([*roles, *OURS])})_\w+")


@cache
def _is_judged(name: str) -> bool:
    if OTHERS.fullmatch(name):
        return False
    known = [*option_names(), *inventory_names()]
    return bool(_prefixes().fullmatch(name) or get_close_matches(name, known, 1, NEAR))


def _finding(name: str, hosts: Sequence[str]) -> Finding:
    where = ", ".join(hosts)
    if name in fixed_names():
        return {
            "problem": f"{name} of {where} has no effect: it is the same on every server.",
            "remedy": f"take {name} out.",
        }
    near = nearest(name)
    hint = f": did you mean {near}?" if near else "."
    instead = f"write {near} instead, or take {name} out." if near else f"take {name} out."
    return {
        "problem": f"There is no variable {name}, which is written for {where}{hint}",
        "remedy": f"{instead} If it is for something of your own, write: "
        f"preflight_other_variables: [{name}]",
    }


def _is_setting(key: str) -> bool:
    return key.upper() in setting_names() or OF_PROCESSES.fullmatch(key.upper()) is not None


def _setting(key: str) -> tuple[str, str]:
    near = get_close_matches(key.upper(), setting_names(), 1, NEAR_SETTING)
    instead = f"write {near[0]} instead, or take it out" if near else "take it out"
    return (
        f"has {key}, and the service has no setting of that name",
        f"{instead}: docs/settings.md has them all",
    )


def _one_of(key: str, known: Iterable[str]) -> str:
    listed = list(known)
    near = get_close_matches(key, listed, 1)
    return near[0] if near else f"one of {', '.join(listed)}"


def variables_of(hostvars: Mapping[str, Any], host: str) -> Mapping[str, Any]:
    """What is written for a host, its templates as they are."""
    raw: Any = getattr(hostvars, "raw_get", hostvars.__getitem__)(host)
    return raw if isinstance(raw, Mapping) else {}


def _value(variables: Mapping[str, Any], name: str) -> Any:
    """What a variable is; None for a template that only its role can fill in."""
    try:
        return variables.get(name)
    except AnsibleError:
        return None


def _texts(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [text for each in (*value.keys(), *value.values()) for text in _texts(each)]
    if isinstance(value, list | tuple):
        return [text for each in value for text in _texts(each)]
    return [value] if isinstance(value, str) else []


def _read(path: Path) -> dict[str, Any]:
    return (yaml.safe_load(path.read_text(encoding="utf-8")) or {}) if path.exists() else {}


class FilterModule:
    """What playbooks use."""

    def filters(self) -> dict[str, Any]:
        return {"horizon_name_problems": name_problems}
