"""The README and the pages of docs/: what they point to exists, and both languages say the same."""

from __future__ import annotations

import importlib.util
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
import typer.main

from service.cli.bot_request import SECRET_VARIABLES
from service.cli.import_bots import REDIS_VARIABLE
from service.cli.main import app
from service.settings import ENV_FILE, Settings
from service.web.openapi import document

ROOT = Path(__file__).parents[2]
ENGLISH, SPANISH = ROOT / "README.md", ROOT / "README.es.md"
PAGES = [ENGLISH, SPANISH, *sorted((ROOT / "docs").rglob("*.md"))]

FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
FIGURE = re.compile(r"\d(?:[\d.,]*\d)?|\bFIGURE\b")
VARIABLE = re.compile(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b")
ASSIGNED = re.compile(r"^([A-Z_]+)=", re.MULTILINE)
EXPANDED = re.compile(r"\$\{?([A-Z_]+)")
MACHINE_PATH = re.compile(r"(?<![\w.}])/(?:home|root(?!/\.\w+/)|work|tmp|Users|mnt|private)/")
"""What root has in a hidden folder is on a server: caches, keys of SSH."""
COPIED = re.compile(r"cp -r (inventories/[\w-]+) (inventories/[\w-]+)")
FILE_SUFFIXES = (".md", ".py", ".txt", ".in", ".toml", ".cfg", ".example")

ELSEWHERE = {
    *("REDIS_SERVER", "POSTGRES_BIN"),
    *SECRET_VARIABLES.values(),
    ENV_FILE,
    REDIS_VARIABLE,
    *re.findall(r"(?m)^([A-Z_]+) =", (ROOT / "Makefile").read_text(encoding="utf-8")),
}
"""Variables that are not settings of the service, each read in `tests/servers.py`, `service/settings.py`,
`service/cli/bot_request.py`, `service/cli/import_bots.py` or the Makefile."""

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def prose(page: Path) -> str:
    """The page without its code blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def words(page: Path) -> list[str]:
    """What stands in backticks."""
    return CODE.findall(prose(page))


def commands(page: Path) -> list[str]:
    """What stands in backticks, and the lines of the code blocks."""
    blocks = FENCE.findall(page.read_text(encoding="utf-8"))
    return [*words(page), *(line.strip() for _, block in blocks for line in block.splitlines())]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings."""
    return {
        re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        for _, title in HEADING.findall(prose(page))
    }


def subcommands() -> set[str]:
    """Every command of horizonctl, like `bots list`."""
    root = typer.main.get_command(app)
    found: set[str] = set()
    for name, command in getattr(root, "commands", {}).items():
        found.add(name)
        found |= {f"{name} {inner}" for inner in getattr(command, "commands", {})}
    return found


def normal(address: str) -> str:
    """An address without the names of its parameters and its trailing slash."""
    return re.sub(r"\{\w+\}", "{}", address).rstrip("/")


@every_page
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    def is_broken(link: str) -> bool:
        path, _, anchor = unquote(link).partition("#")
        target = (page.parent / path).resolve() if path else page
        return not target.exists() or bool(anchor and anchor not in anchors(target))

    links = [link for link in LINK.findall(prose(page)) if not link.startswith("https://")]

    assert [link for link in links if is_broken(link)] == []


def test_no_inventory_is_copied_to_where_another_is() -> None:
    """`cp -r` would put it inside the folder that is there, and Ansible would merge both."""
    files = [*PAGES, *(ROOT / "inventories").rglob("*.yml")]
    copied = {found for file in files for found in COPIED.findall(file.read_text(encoding="utf-8"))}

    assert copied == {
        ("inventories/example-cluster", "inventories/cluster"),
    }


def test_an_example_names_no_folder_but_its_own_copy() -> None:
    own = {"example": "inventories/mine", "example-cluster": "inventories/cluster"}
    named = {
        name: set(re.findall(r"inventories/(?!example)[\w-]+", text))
        for name in own
        for text in [
            "".join(f.read_text("utf-8") for f in (ROOT / "inventories" / name).rglob("*.yml"))
        ]
    }

    assert named == {name: {copy} for name, copy in own.items()}


def test_every_page_is_linked_from_another() -> None:
    linked = {
        (page.parent / link.partition("#")[0]).resolve()
        for page in PAGES
        for link in LINK.findall(prose(page))
    }

    assert [page for page in PAGES if page.resolve() not in linked] == []


@every_page
def test_files_that_are_named_exist(page: Path) -> None:
    top = {entry.name for entry in ROOT.iterdir()} | {"ansible", "inventories", "molecule", "roles"}
    named = [
        word
        for word in words(page)
        if re.fullmatch(r"[\w./-]+", word)
        and (word.endswith(FILE_SUFFIXES) or ("/" in word and word.split("/")[0] in top))
    ]
    # What a running service makes, and the operator's own inventories.
    made = ("var/", "inventories/mine", "inventories/cluster", "agencia/")

    missing = [word for word in named if not word.startswith(made) and not (ROOT / word).exists()]

    assert missing == []


@every_page
def test_commands_of_horizonctl_exist(page: Path) -> None:
    known = subcommands()
    groups = {name.split()[0] for name in known if " " in name}

    def named() -> Iterator[str]:
        for line in commands(page):
            found = re.match(r"(?:\.venv/bin/)?horizonctl ([a-z-]+)(?: ([a-z]+))?", line)
            if found:
                first, second = found.groups()
                yield f"{first} {second}" if first in groups and second else first

    assert [command for command in named() if command not in known] == []


@every_page
def test_targets_of_make_exist(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    known = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))

    named = [line.split()[1] for line in commands(page) if re.match(r"make [a-z-]+", line)]

    assert [target for target in named if target not in known] == []


@every_page
def test_modules_that_are_run_exist(page: Path) -> None:
    named = re.findall(r"python -m ([\w.]+)", page.read_text(encoding="utf-8"))

    assert [module for module in named if importlib.util.find_spec(module) is None] == []


@every_page
def test_addresses_of_the_service_exist(page: Path) -> None:
    known = {normal(path) for path in document("https://bots.example.com")["paths"]}
    methods = r"(?:(?:GET|POST|PUT|DELETE) )?"
    named = [
        found[1]
        for word in words(page)
        if (found := re.fullmatch(rf"{methods}(/[a-z][\w{{}}./-]*)", word))
    ]

    # Those below /api/ are Horizon's, the others are folders of a server.
    elsewhere = ("/api/", "/etc/", "/opt/", "/run/", "/var/")
    own = [address for address in named if not address.startswith(elsewhere)]

    assert [address for address in own if normal(address) not in known] == []


@every_page
def test_environment_variables_exist(page: Path) -> None:
    settings = {name.upper() for name in Settings.model_fields}
    text = page.read_text(encoding="utf-8")
    shell = "".join(block for language, block in FENCE.findall(text) if language == "bash")
    named = {name for word in words(page) for name in VARIABLE.findall(word)}

    assert named - settings - ELSEWHERE == set()
    assert set(EXPANDED.findall(shell)) - settings - set(ASSIGNED.findall(shell)) == set()


@every_page
def test_no_page_names_a_path_of_a_machine(page: Path) -> None:
    assert MACHINE_PATH.findall(page.read_text(encoding="utf-8")) == []


def test_both_readmes_begin_with_the_two_commands() -> None:
    first = [FENCE.findall(readme.read_text(encoding="utf-8"))[0] for readme in (ENGLISH, SPANISH)]

    assert first == [("bash", "make demo ONCE=1\nmake test\n")] * 2


def test_both_readmes_have_the_same_headings() -> None:
    levels = [
        [len(marks) for marks, _ in HEADING.findall(prose(page))] for page in (ENGLISH, SPANISH)
    ]

    assert levels[0] == levels[1]


def test_both_readmes_have_the_same_code_blocks() -> None:
    blocks = [FENCE.findall(page.read_text(encoding="utf-8")) for page in (ENGLISH, SPANISH)]
    # The other blocks are commands with an explanation beside them.
    bash = [[block for language, block in found if language == "bash"] for found in blocks]

    assert bash[0] == bash[1]
    assert [language for language, _ in blocks[0]] == [language for language, _ in blocks[1]]


def test_both_readmes_have_the_same_figures_and_the_same_links() -> None:
    def figures(page: Path) -> Counter[str]:
        return Counter(re.sub(r"[.,]", "", figure) for figure in FIGURE.findall(prose(page)))

    def links(page: Path) -> Counter[str]:
        return Counter(link for link in LINK.findall(prose(page)) if "README" not in link)

    assert figures(ENGLISH) == figures(SPANISH)
    assert links(ENGLISH) == links(SPANISH)


def test_both_readmes_name_the_same_things() -> None:
    assert Counter(words(ENGLISH)) == Counter(words(SPANISH))
