"""Filters: what an operator says with -e, whether a playbook knows it and can use it.

The shell takes the quotes of `-e nombre="La Cocina"`: Ansible reads the first word for nombre and leaves
the others over. Here they are put together again, or told.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.splitter import parse_kv
from ansible.utils.vars import load_extra_vars

from ansible import context

ROLES = Path(__file__).parents[2] / "roles"
LEFT_OVER = "_raw_params"
NO_INVENTORY = "/dev/null"
"""What ansible.cfg names where the command names none."""
# Of Ansible, the operator, the playbooks' vars and the inventory of this machine.
OTHERS = re.compile(r"(ansible|own|client|monitor|input|local)_\w+")

ANSIBLE_TAGS = {"all", "always", "never", "tagged", "untagged"}
# Each playbook that Molecule starts is told to skip these.
MOLECULE_TAGS = {"molecule-notest", "molecule-idempotence-notest", "notest"}

_TAGS = re.compile(r"\btags: \[([^]]*)\]")


def _beside(name: str) -> ModuleType:
    """Another file of this folder: Ansible loads each by itself, under a name of its own."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    if spec is None or spec.loader is None:
        raise AnsibleFilterError(f"{name} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


written = _beside("horizon_names")


def _is_whole(value: Any) -> bool:
    return not isinstance(value, bool) and re.fullmatch(r"-?[0-9]{1,9}", str(value)) is not None


def _is_true_or_false(value: Any) -> bool:
    # What Ansible's own filter takes for a boolean; a module takes more.
    return str(value).lower() in ("true", "false", "yes", "no", "on", "off", "1", "0")


def _is_word(value: Any) -> bool:
    return re.fullmatch(r"\S+", str(value)) is not None


KINDS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "word": (_is_word, "one word is needed"),
    "bool": (_is_true_or_false, "true or false is needed"),
    "int": (_is_whole, "a whole number is needed"),
    "state": (lambda value: value in ("present", "absent"), "present or absent is needed"),
    "reboot": (
        lambda value: _is_true_or_false(value) or value == "when-required",
        "true, false or when-required is needed",
    ),
    "part": (lambda value: value in ("redis", "balancer"), "redis or balancer is needed"),
    "days": (
        lambda value: _is_whole(value) and 1 <= int(value) <= 366,
        "a whole number from 1 to 366 is needed",
    ),
}
"""Kinds that are checked; values of any other are whatever the playbook makes of them."""


def input_problems(
    names: Mapping[str, str],
    wanted: Sequence[str],
    hosts: Sequence[str],
    servidor: str = "",
    tags: Sequence[str] = (),
    hostvars: Mapping[str, Any] | None = None,
) -> list[str]:
    """Sentences about what was said with -e, --limit and --tags; none when the playbook can go on.

    `names` are the playbook's own variables with their kinds, `wanted` the hosts that it is for,
    `hosts` those that --limit leaves, whose inventory may read further variables.
    """
    problems = _host_problems(wanted, hosts, servidor) + _tag_problems(tags)
    for option in _options():
        if not _is_understood(option, names):
            # Without the value, which may be a secret.
            name = re.split(r"[=\s]", option)[0]
            problems.append(
                f"Not all of -e {name}… belongs to a variable: write name=value, and a value with "
                "spaces in two kinds of quotes, like -e 'name=\"two words\"'."
            )
    given = load_extra_vars(DataLoader())
    inventories = [written.variables_of(hostvars, host) for host in hosts] if hostvars else []
    for name, value in given.items():
        if name != LEFT_OVER:
            problems += _variable_problems(name, value, names, inventories)
    return problems


def whole_texts(names: Iterable[str]) -> dict[str, str]:
    """Values of more than one word that Ansible has read the first word of, by their names."""
    known = list(names)
    found: dict[str, str] = {}
    for option in _options():
        plain = parse_kv(option)
        for name in plain:
            found.pop(name, None)
        if LEFT_OVER in plain:
            found.update(_split(option, known) or {})
    return found


def _options() -> list[str]:
    """What stands after each -e, besides files and JSON."""
    given = [str(option) for option in context.CLIARGS.get("extra_vars") or ()]
    return [option for option in given if option and option[0] not in "@[{"]


def _inventories() -> list[str]:
    return [str(source) for source in context.CLIARGS.get("inventory") or ()]


def _is_understood(option: str, names: Mapping[str, str]) -> bool:
    if LEFT_OVER not in parse_kv(option):
        return True
    return _split(option, [name for name, kind in names.items() if kind == "text"]) is not None


def _split(option: str, names: Sequence[str]) -> dict[str, str] | None:
    """Name and value of each; None when there is something else in it."""
    if not names:
        return None
    first, *rest = re.split(rf"(?:^|(?<=\s))({'|'.join(names)})=", option.strip())
    if first or not rest:
        return None
    found = {name: value.strip() for name, value in zip(rest[::2], rest[1::2], strict=True)}
    # Another assignment would vanish in a text.
    return None if any(re.search(r"\s[a-z]\w*=", value) for value in found.values()) else found


def _host_problems(wanted: Sequence[str], hosts: Sequence[str], servidor: str) -> list[str]:
    if set(wanted) & set(hosts):
        return []
    if _inventories() == [NO_INVENTORY]:
        playbook = " ".join(str(name) for name in context.CLIARGS.get("args") or ["site.yml"])
        return [
            "No inventory is named, so no server is known. Add the one of yours to the command: "
            f"ansible-playbook {playbook} -i inventories/mine. README.md tells how it is made from "
            "inventories/example. To try this out on this very machine, a Debian that may be thrown away: "
            "-i inventories/local."
        ]
    if servidor and not wanted:
        return [
            f"The inventory has no host {servidor}: name one that it has with -e servidor=…, or another "
            "inventory with -i inventories/mine."
        ]
    if wanted:
        return [f"--limit leaves none of the hosts {', '.join(wanted)}."]
    return [
        "The inventory has no host in the group horizon, or in a cluster none in web and workers: name "
        "yours, like -i inventories/mine, and put the servers there (inventories/example and "
        "inventories/example-cluster show how)."
    ]


def _tag_problems(tags: Sequence[str]) -> list[str]:
    """A role's tags are its name, and parts of it that its tasks name."""
    roles = {path.name for path in ROLES.iterdir()}
    known = roles | _tags_of_tasks() | ANSIBLE_TAGS | MOLECULE_TAGS
    return [
        f"There is no tag {tag}. The tags, separated by commas, are {', '.join(sorted(roles))}."
        for tag in tags
        if tag and tag not in known
    ]


@cache
def _tags_of_tasks() -> set[str]:
    files = (*ROLES.glob("*/tasks/*.yml"), *Path(__file__).parents[1].glob("*.yml"))
    lists = (found for file in files for found in _TAGS.findall(file.read_text("utf-8")))
    return {tag.strip() for found in lists for tag in found.split(",")}


def _variable_problems(
    name: str,
    value: Any,
    names: Mapping[str, str],
    inventories: Sequence[Mapping[str, Any]] = (),
) -> list[str]:
    if name in names:
        kind = names[name]
    elif OTHERS.fullmatch(name):
        return []
    else:
        options = _known()
        if name not in options:
            if any(written.is_referenced(name, variables) for variables in inventories):
                return []
            near = written.nearest(name, names)
            hint = f" Did you mean {near}?" if near else ""
            own = f" This playbook's own: {', '.join(sorted(names))}." if names else ""
            return [f"There is no variable {name}.{hint}{own}"]
        kind = options[name]
        if wrong := written.key_problems(name, value):
            return [f"{name} {what}. Remedy: {remedy}." for what, remedy in wrong]
    # A template is known only later.
    if kind not in KINDS or "{{" in str(value) or KINDS[kind][0](value):
        return []
    return [f"{name} is {value!r}, and {KINDS[kind][1]}: say -e {name}={_EXAMPLES[kind]}."]


_EXAMPLES = {
    "reboot": "when-required",
    "word": "…",
    "state": "absent",
    "part": "redis",
    "bool": "true",
    "int": "7",
    "days": "7",
}


@cache
def _known() -> dict[str, str]:
    """Every variable of every role and of an inventory, with its type where one is declared."""
    found = dict.fromkeys([*written.inventory_names(), *written.fixed_names()], "any")
    return found | {name: option["type"] for name, option in written.option_names().items()}


class FilterModule:
    """What playbooks use."""

    def filters(self) -> dict[str, Any]:
        return {"horizon_input_problems": input_problems, "horizon_whole_texts": whole_texts}
