"""What an operator says with -e and --limit: understood, or told before anything is touched."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.ansible.conftest import REPOSITORY, load

NAMES = {"nombre": "text", "numero": "text", "mend": "bool", "days": "days", "release": "word"}
PLAYBOOKS = sorted(path.name for path in REPOSITORY.glob("ansible/*.yml") if path.stem != "input")
ask = load("filter_plugins/horizon_input.py")
Say = Callable[..., None]


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch) -> Say:
    """Options as they stand after -e, once the shell has taken its quotes."""

    def options(*given: str) -> None:
        monkeypatch.setattr(ask.context, "CLIARGS", {"extra_vars": given})
        monkeypatch.setattr(ask.load_extra_vars, "extra_vars", None, raising=False)

    return options


def problems(names: dict[str, str] | None = None) -> list[str]:
    found: list[str] = ask.input_problems(NAMES if names is None else names, ["bots1"], ["bots1"])
    return found


@pytest.mark.parametrize(
    ("options", "texts"),
    [
        (["nombre=Restaurante La Cocina"], {"nombre": "Restaurante La Cocina"}),
        (["nombre='Restaurante La Cocina'"], {}),
        (["nombre=La Cocina numero=+1 555"], {"nombre": "La Cocina", "numero": "+1 555"}),
        (["nombre=La Cocina", "nombre=Andes"], {}),
        (["nombre=Andes", "nombre=La Cocina"], {"nombre": "La Cocina"}),
        (['{"nombre": "La Cocina"}'], {}),
    ],
)
def test_a_value_of_several_words_is_whole(
    say: Say, options: list[str], texts: dict[str, str]
) -> None:
    say(*options)

    assert ask.whole_texts(["nombre", "numero"]) == texts
    assert problems() == []


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("release=a b", "Not all of -e release…"),
        ("release", "Not all of -e release…"),
        ("nombre=La Cocina otro=x", "Not all of -e nombre…"),
        ("numeroo=+1", "There is no variable numeroo. Did you mean numero?"),
        ("numeroo=+1", "own: days, mend, nombre, numero, release."),
        ("app_cleanup_turn_day=9", "Did you mean app_cleanup_turn_days?"),
        ("app_cleanup_turn_days=viele", "app_cleanup_turn_days is 'viele', and a whole number"),
        ("app_allow_bad=maybe", "app_allow_bad is 'maybe', and true or false is needed"),
        ("mend=maybe", "mend is 'maybe', and true or false is needed: say -e mend=true."),
        ("days=0", "days is '0', and a whole number from 1 to 366 is needed"),
        ("release=", "release is '', and one word is needed"),
        ("vault_admin_key=x", "There is no variable vault_admin_key. Did you mean vault_admin_"),
        ("my_note=x", "There is no variable my_note."),
        (
            '{"app_settings": {"DEBOUCE_MS": 900}}',
            "app_settings has DEBOUCE_MS, and the service has no setting of that name. Remedy: write "
            "DEBOUNCE_MS instead",
        ),
        (
            '{"firewall_allow": [{"prot": "udp", "port": 1}]}',
            "firewall_allow has prot, which the role does not know. Remedy: write proto.",
        ),
    ],
)
def test_what_cannot_be_used_is_told(say: Say, option: str, sentence: str) -> None:
    say(option)

    assert sentence in " ".join(problems())


@pytest.mark.parametrize(
    "option",
    [
        "ansible_user=root",
        "vault_admin_api_key=y",
        "restore_answer_max_age=60",
        '{"app_settings": {"DEBOUNCE_MS": 900, "HTTPS_PROXY": "http://p"}}',
        "app_workers=3",
        "mend=no",
        "days=7",
        "app_workers={{ 2 }}",
        "own_proxy=x",
        "alert_url=x",
        "app_adopt_legacy=true",
    ],
)
def test_what_is_known_is_taken(say: Say, option: str) -> None:
    say(option)

    assert problems() == []


def test_a_variable_that_the_inventory_reads_is_taken(say: Say) -> None:
    say("secrets_of=mine")
    variables = {"vault_secret_key": "{{ lookup('file', secrets_of ~ '/key') }}"}

    assert "There is no variable secrets_of." in problems()[0]
    assert ask.input_problems({}, ["a"], ["a"], hostvars={"a": variables}) == []


def test_a_value_that_is_not_understood_is_not_repeated(say: Say) -> None:
    say("vault_x=a-secret other-secret")

    assert "secret" not in " ".join(problems())


@pytest.mark.parametrize(
    ("wanted", "hosts", "servidor", "sentence"),
    [
        ([], ["localhost"], "", "no host in the group horizon"),
        (["bots1"], ["web1"], "", "--limit leaves none of the hosts bots1."),
        ([], ["bots1"], "bots9", "has no host bots9"),
    ],
)
def test_without_a_host_it_is_said_how_to_name_one(
    say: Say, wanted: list[str], hosts: list[str], servidor: str, sentence: str
) -> None:
    say()

    assert sentence in ask.input_problems({}, wanted, hosts, servidor)[0]


def test_without_an_inventory_the_whole_command_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"inventory": ("/dev/null",), "args": ("deploy.yml",)}
    monkeypatch.setattr(ask.context, "CLIARGS", said)

    (problem,) = ask.input_problems({}, [], ["localhost"])

    assert "Add the one of yours to the command: ansible-playbook deploy.yml -i" in problem


def test_tags_that_no_role_has_are_told(say: Say) -> None:
    say()
    known = ["all", "backup", "app_release", "app_configure"]
    known += ["notest", "molecule-notest", "molecule-idempotence-notest"]

    assert ask.input_problems({}, ["bots1"], ["bots1"], "", known) == []
    for tag in ("backupp", "app_nope", "common_x", "app_"):
        (problem,) = ask.input_problems({}, ["bots1"], ["bots1"], "", [tag])
        assert f"There is no tag {tag}." in problem


@pytest.mark.parametrize("name", PLAYBOOKS)
def test_every_playbook_asks_first(name: str) -> None:
    plays = yaml.safe_load((REPOSITORY / "ansible" / name).read_text())

    assert plays[0]["ansible.builtin.import_playbook"] == "input.yml"


def test_every_variable_of_the_guides_is_known() -> None:
    shared = yaml.safe_load((REPOSITORY / "ansible/vars/clients.yml").read_text())
    of_clients = {*shared["client_names"], *shared["client_input"]}
    unknown = set()
    for page in [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md")]:
        for name, rest in re.findall(r"ansible-playbook (\S+)\.yml([^`\n]*)", page.read_text()):
            head = (REPOSITORY / "ansible" / f"{name}.yml").read_text().partition("hosts:")[0]
            known = {*re.findall(r"(\w+)'?:", head), *ask._known()}
            known |= of_clients if "client_input" in head else set()
            unknown |= {
                f"{page.name}: {name} {said}"
                for said in re.findall(r"-e '?(\w+)=", rest)
                if said not in known and not ask.OTHERS.fullmatch(said)
            }

    assert unknown == set()


def play(name: str, inventory: str, folder: Path, *options: str) -> tuple[int, str]:
    return ansible(
        name,
        folder,
        *(*options, "-i", inventory, "-c", "local", "-e", "ansible_become=false"),
        *("-e", f"ansible_python_interpreter={sys.executable}"),
    )


def ansible(name: str, folder: Path, *options: str) -> tuple[int, str]:
    done = subprocess.run(
        [str(Path(sys.executable).parent / "ansible-playbook"), f"{name}.yml", *options],
        cwd=REPOSITORY,
        env={**os.environ, "ANSIBLE_HOME": str(folder / "home"), "ANSIBLE_NOCOLOR": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def test_an_inventory_without_servers_fails_instead_of_doing_nothing(tmp_path: Path) -> None:
    code, text = play("cleanup", "web1,", tmp_path)

    assert code != 0
    assert "no host in the group horizon" in text
    assert "Disks are cleaned up" not in text


@pytest.mark.parametrize(
    "name", sorted(path.stem for path in REPOSITORY.glob("*.yml") if path.stem != "compose")
)
def test_without_an_inventory_nothing_is_done_and_the_option_is_named(
    tmp_path: Path, name: str
) -> None:
    code, text = ansible(name, tmp_path)

    assert code != 0
    assert f"ansible-playbook {name}.yml -i inventories/mine" in text
    assert "ok=0 changed=0 unreachable=0 failed=1" in text


@pytest.mark.parametrize(
    "options",
    [
        ["--tags", "certbot,nginx", "--tags", "nope"],
        ["--tags", "certbot, nginx,nope,"],
        ["--tags", "redis", "--skip-tags", "certbot, nope"],
        ["-t", "all", "--skip-tags", "app", "--skip-tags", "nope"],
    ],
)
def test_tags_are_taken_as_ansible_takes_them(tmp_path: Path, options: list[str]) -> None:
    hosts = tmp_path / "hosts.yml"
    hosts.write_text(json.dumps({"horizon": {"hosts": {"bots1": None}}}))

    code, text = play("site", str(hosts), tmp_path, *options)

    assert code != 0
    assert set(re.findall(r"There is no tag (.*?)\. The tags", text)) == {"nope"}
    assert "ok=0" in text


def test_a_playbook_with_wrong_variables_stops_before_its_first_task(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts.yml"
    hosts.write_text(json.dumps({"horizon": {"hosts": {"bots1": None}}}))
    wrong: dict[str, Any] = {"snapshoot": "latest", "confirmar": "bots1"}

    code, text = play("restore", str(hosts), tmp_path, "-e", json.dumps(wrong))

    assert code != 0
    assert "Did you mean snapshot?" in text
    assert "A backup is restored" not in text


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("deploy", [], "bots1 has no installation to deploy to"),
        (
            "monitor",
            ["-e", "monitor_program=/none"],
            "bots1: it could not be looked at: horizonctl",
        ),
    ],
)
def test_a_host_without_the_service_is_told_what_to_run(
    tmp_path: Path, name: str, options: list[str], sentence: str
) -> None:
    hosts = tmp_path / "hosts.yml"
    variables = {"app_domain": "bots.example.test"}
    hosts.write_text(json.dumps({"horizon": {"hosts": {"bots1": variables}}}))

    code, text = play(name, str(hosts), tmp_path, "-e", f"app_root={tmp_path / 'opt'}", *options)

    assert code != 0
    assert sentence in text
    assert "ansible-playbook site.yml" in text
    assert "changed=0" in text


@pytest.mark.parametrize(
    ("value", "is_understood"),
    [
        ("when-required", True),
        ("true", True),
        ("false", True),
        ("whenrequired", False),
        ("2", False),
    ],
)
def test_a_restart_is_asked_for_in_one_of_three_ways(
    say: Say, value: str, is_understood: bool
) -> None:
    say(f"reboot={value}")

    found = problems({"reboot": "reboot"})

    assert (found == []) is is_understood
    assert is_understood or "when-required is needed" in found[0]
