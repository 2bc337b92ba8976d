"""Commands that people copy name their servers: without -i, Ansible knows none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.ansible.conftest import REPOSITORY, load

COMMAND = re.compile(r"ansible-playbook[ \w-]* [\w-]+\.yml(?P<rest>[^\n]{0,80}(\n[^\n]{0,80})?)")
# Directly behind the playbook; a text in Python may go on in its next literal.
NAMED = re.compile(
    r"( ['\"]?\s*\"?)?"
    r"( ?-i (inventories/\w+|<inventory>)| {inventory}[ \"]| ?(\{\{|' ~|'\s+~) ?ansible_inventory_sources)"
)
PAGES = [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md")]
CODE = [
    path
    for folder in ("ansible", "roles", "service", "inventories")
    for path in (REPOSITORY / folder).rglob("*")
    if path.is_file() and path.suffix != ".pyc"
]
commands = load("filter_plugins/horizon_commands.py")


def bare(text: str) -> list[str]:
    """Commands without an inventory."""
    return [match[0] for match in COMMAND.finditer(text) if not NAMED.match(match["rest"])]


@pytest.mark.parametrize(
    ("text", "is_bare"),
    [
        ("`ansible-playbook site.yml`", True),
        ("run ansible-playbook site.yml --tags app", True),
        ("ansible-playbook site.yml -i inventories/mine --tags app", False),
        ('"ansible-playbook site.yml "\n    "-i <inventory> -e state=absent"', False),
        ("ansible-playbook site.yml {{ ansible_inventory_sources | x }}", False),
        ('"ansible-playbook site.yml "\n    "-e state=absent"', True),
    ],
)
def test_a_bare_command_is_recognised(text: str, is_bare: bool) -> None:
    assert bool(bare(text)) is is_bare


def test_every_command_of_the_pages_names_an_inventory() -> None:
    assert {path.name: found for path in PAGES if (found := bare(path.read_text()))} == {}


def test_every_command_that_is_printed_names_an_inventory() -> None:
    texts = {path: path.read_text(encoding="utf-8") for path in CODE}
    found = {str(path.relative_to(REPOSITORY)): bare(text) for path, text in texts.items()}

    assert {name: lines for name, lines in found.items() if lines} == {}


def test_printed_commands_carry_every_inventory_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "our servers").mkdir()
    monkeypatch.setenv("PWD", str(tmp_path))
    monkeypatch.setattr(commands.context, "CLIARGS", {"ask_vault_pass": True})
    sources = [str(tmp_path / "our servers"), "bots2,", "/srv/elsewhere"]

    assert (
        commands.inventory_option(sources)
        == "-i 'our servers' -i bots2, -i /srv/elsewhere --ask-vault-pass"
    )
    assert commands.with_inventory(["run site.yml -i <inventory> again"], sources) == [
        "run site.yml -i 'our servers' -i bots2, -i /srv/elsewhere --ask-vault-pass again"
    ]
