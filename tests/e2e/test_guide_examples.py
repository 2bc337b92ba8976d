"""The guides' examples, run as they are written: on a demonstration, and with Git between folders."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.test_demo import Demo
from tests.e2e.test_readme import Shell
from tests.server_process import free_port
from tests.unit.test_guides import blocks

ROOT = Path(__file__).parents[2]
GUIDES = ROOT / "docs" / "guides"
GIT_GUIDE = "git-workflow.md"
# A block starts up to six processes one after another, on a machine that may be busy.
BLOCK_S = 120.0

EXPECTED = {
    "new-client.md": (
        r"^$",
        r"would create.*console\.twilio\.com.* create ",
        r"shown here only:.*name +Ferretería El Clavo",
        r"messages +2.*is removed",
    ),
    "many-clients.md": (
        r"Restaurante La Cocina.*Inmobiliaria Andes.*Restaurante La Cocina(?!.*Andes)",
        r'"client_id":"la-cocina"(?!.*inmobiliaria-andes)',
        r"client +la-cocina.*state +ok",
    ),
    "deployment.md": (r"state +at head.*works here.*status +ok.*threads.*shown here only:",),
    "disaster-recovery.md": (
        r"has the database.*state +at head.*answered_in_s",
        r"held since .*The workers claim again\..*The workers are not held\.",
    ),
    "troubleshooting.md": (
        r"status +ok.*Today is .*threads.*no dead turn.*redis \(service\): ok",
        r"shown here only:.*menú.*replied.*¿Qué tienen de menú\?",
        r"Filesystem.*Inodes",
    ),
    GIT_GUIDE: (
        r"branch 'main' set up to track 'origin/main'",
        r"\n1\n\[main ",
        r"\[new branch\] +la-cocina-horario",
        r"Merge made by",
        r"\[new tag\] +agencia-2026\.11\.27",
        r"\[new branch\] +deshacer-horario",
        r"Merge made by.*\[new branch\] +actualizar",
        r"^$",
    ),
}
"""What each block prints, in their order. The Spanish guides have the same blocks."""


def bash_blocks(guide: str) -> list[str]:
    return blocks(GUIDES / guide, "bash")


def assert_printed(guide: str, printed: list[str]) -> None:
    assert len(printed) == len(EXPECTED[guide])
    for output, expected in zip(printed, EXPECTED[guide], strict=True):
        assert re.search(expected, output, re.DOTALL), output


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """The folder of a running demonstration, with `.venv` as in the checkout, and its address."""
    folder = tmp_path_factory.mktemp("guides")
    (folder / ".venv").symlink_to(sys.prefix)
    port = str(free_port())
    demo = Demo(folder, "--port", port)
    try:
        demo.wait_for("source .demo/env")
        yield folder, f"http://127.0.0.1:{port}"
        demo.end_of_input()
    finally:
        demo.process.kill()
        demo.process.wait()


def test_every_guide_with_examples_is_run() -> None:
    with_examples = {path.name for path in GUIDES.iterdir() if bash_blocks(path.name)}

    assert with_examples == set(EXPECTED)


@pytest.mark.parametrize("guide", sorted(set(EXPECTED) - {GIT_GUIDE}))
def test_every_example_of_a_guide_runs_as_it_is_written(guide: str, demo: tuple[Path, str]) -> None:
    folder, url = demo
    with Shell(folder, BLOCK_S) as shell:
        # The demonstration of a reader has the port that `horizonctl` takes for granted.
        shell.run(f"export HORIZONCTL_URL={url}")
        printed = [shell.run(block) for block in bash_blocks(guide)]

    assert_printed(guide, printed)


def test_an_example_that_fails_is_found(demo: tuple[Path, str]) -> None:
    folder, _ = demo
    with Shell(folder, BLOCK_S) as shell:
        shell.run("source .demo/env\nsource .venv/bin/activate")
        with pytest.raises(AssertionError, match="No such command"):
            shell.run("horizonctl bots lst")


class Repositories:
    """What the Git guide names by its addresses, as folders of this machine."""

    def __init__(self, folder: Path) -> None:
        self.upstream, self.origin = folder / "upstream.git", folder / "origin.git"
        (folder / "password").write_text("a password of the vault\n", encoding="utf-8")
        (folder / "gitconfig").write_text(
            "[user]\nname = Ana\nemail = ana@example.com\n"
            f'[url "{self.upstream}"]\n'
            "insteadOf = https://git.example.com/horizon/whatsapp-bots.git\n"
            f'[url "{self.origin}"]\ninsteadOf = git@git.example.com:agencia/bots.git\n',
            encoding="utf-8",
        )
        self.variables = {
            "GIT_CONFIG_GLOBAL": str(folder / "gitconfig"),
            "GIT_CONFIG_NOSYSTEM": "1",
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_VAULT_PASSWORD_FILE": str(folder / "password"),
            "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}",
        }
        self._work = folder / "project"
        shutil.copytree(ROOT / "inventories" / "example", self._work / "inventories" / "example")
        shutil.copy(ROOT / ".gitignore", self._work)
        self.git(self._work, "init", "--quiet", "--initial-branch=main")
        for bare in (self.upstream, self.origin):
            self.git(folder, "init", "--quiet", "--bare", "--initial-branch=main", str(bare))
        self.publish("first version")

    def git(self, folder: Path, *words: str) -> str:
        result = subprocess.run(
            ["/usr/bin/env", "git", *words],
            cwd=folder,
            env={**os.environ, **self.variables},
            capture_output=True,
            text=True,
            check=True,
        )
        return result.stdout

    def publish(self, what: str) -> None:
        """A new commit of the project at `upstream`."""
        (self._work / "CHANGES").write_text(f"{what}\n", encoding="utf-8")
        self.git(self._work, "add", "--all")
        self.git(self._work, "commit", "--quiet", "--message", what)
        self.git(self._work, "push", "--quiet", str(self.upstream), "main")

    def shown(self, what: str) -> str:
        """A file of a branch or tag at `origin`, like `main:CHANGES`."""
        return self.git(self.origin, "show", what)

    def exports(self) -> str:
        return "\n".join(f"export {name}='{value}'" for name, value in self.variables.items())


def test_every_example_of_the_git_guide_runs_as_it_is_written(tmp_path: Path) -> None:
    repositories = Repositories(tmp_path)
    prompt = "agencia/prompts/la-cocina.txt"

    with Shell(tmp_path, BLOCK_S) as shell:
        shell.run(repositories.exports())
        printed = []
        for block in bash_blocks(GIT_GUIDE):
            if "git fetch" in block:
                repositories.publish("second version")
            printed.append(shell.run(block))

    assert_printed(GIT_GUIDE, printed)
    vault = repositories.shown("main:inventories/mine/group_vars/all/vault.yml")
    assert vault.startswith("$ANSIBLE_VAULT;")
    assert "La Cocina" in repositories.shown(f"agencia-2026.11.27:{prompt}")
    undone = repositories.git(repositories.origin, "ls-tree", "-r", "deshacer-horario")
    assert "inventories/mine" in undone
    assert prompt not in undone
    assert repositories.shown("actualizar:CHANGES") == "second version\n"
    assert repositories.shown("main:CHANGES") == "first version\n"


def test_a_vault_in_clear_does_not_get_past_the_guide(tmp_path: Path) -> None:
    repositories = Repositories(tmp_path)
    clone, commit, *_ = bash_blocks(GIT_GUIDE)
    by_hand = "cp -r inventories/example inventories/mine\n"
    forgotten = re.sub(r"horizonctl inventory init .*\n", by_hand, commit)

    with Shell(tmp_path, BLOCK_S) as shell:
        shell.run(repositories.exports())
        shell.run(clone)
        with pytest.raises(AssertionError, match="it failed"):
            shell.run(forgotten)

    assert forgotten != commit
    assert "inventories/mine" not in repositories.git(repositories.origin, "ls-tree", "-r", "main")
