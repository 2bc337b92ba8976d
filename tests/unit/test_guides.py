"""The guides: both languages have the same commands, and every program would take them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml

from tests.commands import PROGRAMS, fault, playbook_of
from tests.unit.test_docs import (
    ENGLISH,
    FENCE,
    FIGURE,
    HEADING,
    LINK,
    ROOT,
    SPANISH,
    prose,
    words,
)

SYNTAX_S = 120
PAIRS = {
    "README.md": "README.md",
    "new-client.md": "nuevo-cliente.md",
    "many-clients.md": "muchos-clientes.md",
    "deployment.md": "despliegue.md",
    "disaster-recovery.md": "recuperacion.md",
    "troubleshooting.md": "problemas.md",
    "git-workflow.md": "git.md",
}
FOLDERS = (ROOT / "docs" / "guides", ROOT / "docs" / "es")
GUIDES = [FOLDERS[0] / name for name in PAIRS] + [FOLDERS[1] / name for name in PAIRS.values()]

every_pair = pytest.mark.parametrize(
    ("english", "spanish"),
    [(FOLDERS[0] / one, FOLDERS[1] / other) for one, other in PAIRS.items()],
    ids=list(PAIRS),
)
every_guide = pytest.mark.parametrize(
    "page", GUIDES, ids=lambda page: f"{page.parent.name}/{page.name}"
)


def blocks(page: Path, language: str) -> list[str]:
    """The blocks of one language, without the indentation of a list."""
    found = FENCE.findall(page.read_text(encoding="utf-8"))
    return [re.sub(r"(?m)^ {3}", "", block) for name, block in found if name == language]


def lines(page: Path) -> list[str]:
    """The command lines for servers."""
    return [line for block in blocks(page, "text") for line in block.splitlines()]


def mentions(page: Path) -> list[str]:
    """What stands in backticks and begins like a command, with its arguments."""
    begins = re.compile(rf"(sudo )?(\.venv/bin/)?({'|'.join(PROGRAMS)}) ")
    return [word for word in words(page) if begins.match(word)]


def test_every_guide_has_its_like_in_the_other_language() -> None:
    names = [{path.name for path in folder.iterdir()} for folder in FOLDERS]

    assert names == [set(PAIRS), set(PAIRS.values())]


@every_pair
def test_both_languages_have_the_same_commands(english: Path, spanish: Path) -> None:
    for language in ("bash", "text", "yaml"):
        assert blocks(english, language) == blocks(spanish, language)


@every_pair
def test_both_languages_have_the_same_parts(english: Path, spanish: Path) -> None:
    def headings(page: Path) -> list[int]:
        return [len(marks) for marks, _ in HEADING.findall(prose(page))]

    def figures(page: Path) -> Counter[str]:
        text = LINK.sub("", prose(page))
        return Counter(re.sub(r"[.,]", "", figure) for figure in FIGURE.findall(text))

    def references(page: Path) -> Counter[str]:
        links = LINK.findall(prose(page))
        return Counter(link if re.match(r"\.\./[a-z]+\.md", link) else "" for link in links)

    assert headings(english) == headings(spanish)
    assert figures(english) == figures(spanish)
    assert Counter(words(english)) == Counter(words(spanish))
    assert references(english) == references(spanish)


@every_guide
def test_every_block_says_how_it_is_checked(page: Path) -> None:
    found = FENCE.findall(page.read_text(encoding="utf-8"))

    assert {language for language, _ in found} <= {"bash", "text", "yaml", ""}
    # One without a language is a drawing.
    drawn = [line for language, block in found if not language for line in block.splitlines()]
    assert [line for line in drawn if line.split()[:1] and line.split()[0] in PROGRAMS] == []


@every_guide
def test_every_command_for_servers_would_be_taken(page: Path) -> None:
    refused = {line: why for line in lines(page) if (why := fault(line))}
    refused |= {word: why for word in mentions(page) if (why := fault(word, mention=True))}

    assert refused == {}


@pytest.mark.parametrize("page", [ENGLISH, SPANISH], ids=["README.md", "README.es.md"])
def test_every_command_that_the_readme_mentions_would_be_taken(page: Path) -> None:
    refused = {word: why for word in mentions(page) if (why := fault(word, mention=True))}

    assert len(mentions(page)) > 30
    assert refused == {}


@pytest.mark.parametrize("page", [ENGLISH, SPANISH], ids=["README.md", "README.es.md"])
def test_the_readme_has_a_command_for_every_view_of_the_old_menu(page: Path) -> None:
    views = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
    table = page.read_text(encoding="utf-8")

    now = re.findall(r"^\| .+ \| [1-8] \| `(\w+ [\w-]+)", views, re.MULTILINE)
    shown = re.findall(r"^\| men[uú]: .+ \| .*`(?:sudo )?(\w+ [\w-]+)", table, re.MULTILINE)
    assert len(shown) == 8
    assert len(now) == 8
    assert set(now) <= set(shown)


def test_every_playbook_that_is_named_passes_ansibles_own_check() -> None:
    said = [line for page in (*GUIDES, ENGLISH) for line in (*lines(page), *mentions(page))]
    playbooks = sorted({name for line in said if (name := playbook_of(line))})

    checked = subprocess.run(
        [
            *(Path(sys.prefix) / "bin" / "ansible-playbook", "--syntax-check"),
            *("-i", "inventories/example", *playbooks),
        ],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_LOCALHOST_WARNING": "False"},
        capture_output=True,
        text=True,
        timeout=SYNTAX_S,
        check=False,
    )

    assert playbooks == sorted({path.name for path in ROOT.glob("*.yml")} - {"compose.yml"})
    assert checked.returncode == 0, checked.stderr


@every_guide
def test_every_declaration_has_fields_of_a_client(page: Path) -> None:
    known = yaml.safe_load((ROOT / "ansible/vars/clients.yml").read_text(encoding="utf-8"))

    declared = [name for block in blocks(page, "yaml") for name in yaml.safe_load(block)]

    assert [name for name in declared if name not in known["client_names"]] == []


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("ansible-playbook despliegue.yml", "no playbook despliegue.yml"),
        ("ansible-playbook deploy.yml -e versoin=v1", "no variable versoin"),
        ("ansible-playbook rollback.yml -e version=v1", "no variable version"),
        ("ansible-playbook backup.yml -e snapshot=latest", "no variable snapshot"),
        ("ansible-playbook site.yml --tags certificates", "no tag certificates"),
        ("ansible-playbook site.yml --ask-valut-pass", "unrecognized arguments"),
        ("ansible-playbook site.yml -i inventories/our", "no inventory inventories/our"),
        ("ansible-vault change inventories/mine/hosts.yml", "invalid choice"),
        ("ansible-vault edit inventories/mine/vault.yml", "no file"),
        ("sudo horizonctl statistics", "no command statistics"),
        ("sudo horizonctl bots", "no command"),
        ("sudo horizonctl stats --customer la-cocina", "--customer"),
        ("sudo horizonctl stats --days many", "valid integer"),
        ("sudo horizonctl bots show", "Missing argument"),
        ("sudo horizonai-backup list", "no command list"),
        ("sudo systemctl status horizon-bots", "no unit horizon-bots"),
        ("sudo systemctl mend nginx", "mend"),
        ("sudo journalctl -u redis -n 50", "no unit redis"),
        ("sudo journalctl -t horizonai-bots-workers", "no unit writes as"),
        ("make tests", "no target tests"),
        ("git swich main", "no command swich"),
        ("rm -r /", "no program"),
    ],
)
def test_a_command_that_would_be_refused_is_found(line: str, why: str) -> None:
    assert why in fault(line)


@pytest.mark.parametrize(
    "line",
    [
        "ansible-playbook deploy.yml -i inventories/mine --ask-vault-pass -e version=v1.4.0",
        "ansible-playbook nuevo-cliente.yml -e @cliente.yml --check --diff",
        "sudo horizonctl dead retry --all  # all of them",
        ".venv/bin/horizonctl key secret",
    ],
)
def test_a_command_that_would_be_taken_is_left_alone(line: str) -> None:
    assert fault(line) == ""


def test_a_mention_may_leave_its_arguments_out() -> None:
    assert fault("horizonctl bots show", mention=True) == ""
    assert "no command lst" in fault("horizonctl bots lst", mention=True)
