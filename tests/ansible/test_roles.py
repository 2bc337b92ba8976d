"""Every role says the same in its defaults and in its argument specs, and explains itself."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.ansible.conftest import load

ROLES = Path(__file__).parents[2] / "roles"
NAMES = sorted(path.name for path in ROLES.iterdir() if path.is_dir())
TYPES: dict[str, type | tuple[type, ...]] = {
    "str": str,
    "path": str,
    "int": int,
    "float": (int, float),
    "bool": bool,
    "list": list,
    "dict": dict,
}


def read(path: Path) -> Any:
    """The document of a YAML file; None when there is no file."""
    return yaml.safe_load(path.read_text()) if path.exists() else None


def defaults(role: str) -> dict[str, Any]:
    """Variables of defaults/main.yml."""
    return read(ROLES / role / "defaults" / "main.yml") or {}


def options(role: str) -> dict[str, Any]:
    """Options of the main entry point."""
    specs = read(ROLES / role / "meta" / "argument_specs.yml")
    return dict(specs["argument_specs"]["main"].get("options") or {})


def tasks(role: str) -> list[tuple[str, dict[str, Any]]]:
    """Every task and handler, those in blocks too, with its file's name."""
    found: list[tuple[str, dict[str, Any]]] = []

    def walk(file: str, entries: list[dict[str, Any]]) -> None:
        for entry in entries:
            found.append((file, entry))
            for part in ("block", "rescue", "always"):
                walk(file, entry.get(part) or [])

    for folder in ("tasks", "handlers"):
        for path in sorted((ROLES / role / folder).glob("*.yml")):
            walk(f"{folder}/{path.name}", read(path) or [])
    return found


def holds_a_secret(value: Any) -> bool:
    """Whether a default comes out of the vault, or is an address that may carry a token."""
    return re.search(r"\b(vault_|alert_url|alert_command)", str(value)) is not None


def is_template(value: Any) -> bool:
    """Whether the type is known only when the playbook runs."""
    return isinstance(value, str) and "{{" in value


def fits(value: Any, kind: str) -> bool:
    """Whether a literal default has the type that is declared (true is no number)."""
    if is_template(value) or kind == "raw":
        return True
    if isinstance(value, bool) and kind != "bool":
        return False
    return isinstance(value, TYPES[kind])


def test_the_page_of_variables_is_what_the_argument_specs_say() -> None:
    written = (ROLES.parent / "docs" / "variables.md").read_text(encoding="utf-8")

    assert written == load("variables.py").page(), "run: make variables"


def test_the_page_of_variables_has_each_once() -> None:
    written = (ROLES.parent / "docs" / "variables.md").read_text(encoding="utf-8")
    listed = read(ROLES.parent / "ansible" / "vars" / "inventory.yml")
    names = [name for role in NAMES for name in {**options(role), **defaults(role)}]
    names += [*listed["inventory_variables"], *listed["inventory_secrets"]]

    rows = re.findall(r"(?m)^\| `(\w+)` \|", written)

    assert sorted(rows) == sorted(names)


@pytest.mark.parametrize("part", ["inventory_variables", "inventory_secrets"])
def test_every_variable_of_an_inventory_can_be_understood_alone(part: str) -> None:
    listed = read(ROLES.parent / "ansible" / "vars" / "inventory.yml")[part]
    assert {name: text for name, text in listed.items() if not stands_alone(text)} == {}


def test_roles_are_found() -> None:
    assert {"preflight", "common", "firewall", "python"} <= set(NAMES)


@pytest.mark.parametrize("role", NAMES)
def test_defaults_and_argument_specs_name_the_same_variables(role: str) -> None:
    optional = {name for name, option in options(role).items() if not option.get("required")}
    assert set(defaults(role)) == optional


@pytest.mark.parametrize("role", NAMES)
def test_argument_specs_hold_no_secret(role: str) -> None:
    """Ansible prints a spec whole, its defaults filled in, when any value does not fit."""
    for name, option in options(role).items():
        assert not holds_a_secret(option.get("default")), name


def test_value_that_does_not_fit_prints_no_secret(tmp_path: Path) -> None:
    names = ("secret_key", "admin_api_key", "redis_app_password", "twilio_auth_token")
    secrets = {f"vault_{name}": f"canary-of-{name}" for name in names}
    play = {
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": False,
        "vars": {"app_keep_releases": "five", **secrets},
        "roles": ["app"],
    }
    file = tmp_path / "play.yml"
    file.write_text(yaml.safe_dump([play]))

    ended = subprocess.run(
        [sys.executable, "-m", "ansible", "playbook", str(file), "-i", "localhost,"],
        cwd=ROLES.parent,
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 2
    assert "app_keep_releases" in ended.stdout + ended.stderr
    assert "canary-of" not in ended.stdout + ended.stderr


@pytest.mark.parametrize("role", NAMES)
def test_defaults_and_argument_specs_have_the_same_values(role: str) -> None:
    declared = {name: option.get("default") for name, option in options(role).items()}
    for name, value in defaults(role).items():
        if holds_a_secret(value):
            assert declared[name] is None
            continue
        assert (name, type(value), value) == (name, type(declared[name]), declared[name])


@pytest.mark.parametrize("role", NAMES)
def test_defaults_have_the_declared_types(role: str) -> None:
    for name, option in options(role).items():
        assert option.get("description"), f"{name} has no description"
        assert option["type"] in {*TYPES, "raw"}, f"{name} has the type {option['type']}"
        if option["type"] == "list":
            assert "elements" in option, f"{name} does not say what it lists"
        if "default" not in option:
            continue
        value = option["default"]
        assert fits(value, option["type"]), f"{name} is {value!r}, no {option['type']}"
        if isinstance(value, list):
            for element in value:
                assert fits(element, option["elements"]), f"{name} holds {element!r}"
        if "choices" in option and not is_template(value):
            assert value in option["choices"], f"{name} is {value!r}, no choice of its own"


@pytest.mark.parametrize("role", NAMES)
def test_variables_begin_with_the_role(role: str) -> None:
    variables = {*defaults(role), *(read(ROLES / role / "vars" / "main.yml") or {})}
    assert [name for name in variables if not name.startswith(f"{role}_")] == []


def comments(role: str) -> dict[str, str]:
    """The comment above each variable of defaults/main.yml, as one line."""
    found: dict[str, str] = {}
    above: list[str] = []
    for line in (ROLES / role / "defaults" / "main.yml").read_text().splitlines():
        if line.startswith("# "):
            above.append(line[2:])
            continue
        if variable := re.match(r"[a-z]\w*(?=:)", line):
            found[variable.group()] = " ".join(above)
        above = []
    return found


@pytest.mark.parametrize("role", NAMES)
def test_every_default_has_the_description_of_its_argument_spec_above_it(role: str) -> None:
    described = {
        name: " ".join(str(option["description"]).split())
        for name, option in options(role).items()
        if not option.get("required")
    }
    assert comments(role) == described


NOT_ALONE = (
    # It has no subject, or one that stands elsewhere.
    r"(Its|It|That|This|Those|These|They|When|Where|Likewise|The same|As many|After this)\b",
    r".*\b(likewise|of (that|it)\.|the sizes below|stands above)",
    # A word and a colon where a sentence should be.
    r".*[;.:,] ?(empty|none|off|true|false|0): ",
)
"""What a description cannot be understood alone with."""


@pytest.mark.parametrize(
    "bare",
    [
        *(
            "Port of that.",
            "Its units.",
            "When, as systemd's OnCalendar.",
            "port",
            "Web processes.",
        ),
        *("Where web listens besides; empty: nowhere.", "Options of restic, like x", "a b c d."),
    ],
)
def test_a_description_that_needs_another_is_none(bare: str) -> None:
    assert not stands_alone(bare)


def stands_alone(text: str) -> bool:
    """Whether a description is a sentence, or a noun with what it is of, that needs no other."""
    return (
        re.match(r"[A-Z].*[.]$", text) is not None
        and len(text.split()) > 3
        and not any(re.match(pattern, text) for pattern in NOT_ALONE)
    )


@pytest.mark.parametrize("role", NAMES)
def test_every_description_can_be_understood_alone(role: str) -> None:
    specs = read(ROLES / role / "meta" / "argument_specs.yml")["argument_specs"]
    texts = {
        name: " ".join(str(option["description"]).split())
        for entry in specs.values()
        for name, option in (entry.get("options") or {}).items()
    }
    assert {name: text for name, text in texts.items() if not stands_alone(text)} == {}


@pytest.mark.parametrize("role", NAMES)
def test_every_task_says_what_becomes_true(role: str) -> None:
    unnamed = [
        (file, sorted(task)) for file, task in tasks(role) if not str(task.get("name", "")).strip()
    ]
    assert unnamed == []
    assert tasks(role), "the role does nothing"


@pytest.mark.parametrize("role", NAMES)
def test_handlers_that_are_notified_exist(role: str) -> None:
    everywhere = {
        name
        for other in NAMES
        for file, task in tasks(other)
        if file.startswith("handlers/")
        for name in [task["name"], *_listed(task.get("listen"))]
    }
    notified = {name for _, task in tasks(role) for name in _listed(task.get("notify"))}
    assert notified - everywhere == set()


@pytest.mark.parametrize("role", NAMES)
def test_every_file_of_ours_on_a_server_carries_the_marker(role: str) -> None:
    marker = "# Managed by Ansible: horizonai-bots"
    unmarked = [
        str(path.relative_to(ROLES))
        for path in sorted((ROLES / role / "templates").rglob("*"))
        if path.is_file() and marker not in path.read_text()
    ]
    assert unmarked == []


def _listed(value: Any) -> list[str]:
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value)


@pytest.mark.parametrize("role", NAMES)
def test_only_what_every_profile_needs_is_taken_from_the_vault_without_a_default(role: str) -> None:
    """Argument specs are resolved whole, also where the role is switched off."""
    needed_always = {"vault_secret_key", "vault_admin_api_key"}

    found = set(re.findall(r"\b(vault_\w+)\b(?! *\| *default)", str(defaults(role))))

    assert found <= needed_always


@pytest.mark.parametrize(
    "file", sorted((ROLES.parent / "ansible").glob("*.yml")), ids=lambda file: file.name
)
def test_no_play_has_a_role_twice(file: Path) -> None:
    """Of two handlers with one name the last counts, with the condition of its role: none may run."""
    for play in yaml.safe_load(file.read_text(encoding="utf-8")) or []:
        roles = [each["role"] for each in play.get("roles", [])]
        assert len(roles) == len(set(roles)), play["name"]


def test_switch_given_as_text_is_read_as_one() -> None:
    """`-e name=false` is a text, which is true by itself."""
    switches = {n for role in NAMES for n, o in options(role).items() if o["type"] == "bool"}
    bare = re.compile(rf"\b({'|'.join(sorted(switches, key=len, reverse=True))})\b(?!\s*\|)(?!:)")
    condition = re.compile(r"^\s*(when|that|until|changed_when|failed_when):|\b(if|and|or|not) ")
    files = [file for file in ROLES.glob("*/*/*") if file.parent.name not in ("meta", "files")]
    found = [
        f"{file}: {line.strip()}"
        for file in [*files, *(ROLES.parent / "ansible").rglob("*.yml")]
        for line in file.read_text(encoding="utf-8").splitlines()
        if not line.lstrip().startswith("#") and condition.search(line) and bare.search(line)
    ]
    assert [row for row in found if "Correct them in group_vars" not in row] == []
