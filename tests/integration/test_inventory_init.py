"""`horizonctl inventory init`: one command makes an inventory that `site.yml` takes as it is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.constants import DEFAULT_VAULT_ID_MATCH
from ansible.parsing.vault import VaultLib, VaultSecret

from service.cli import inventory
from service.cli.main import main
from tests.ansible.conftest import load

ROOT = Path(__file__).parents[2]
PASSWORD = "a password of the vault"
VENDORS = ("OPENAI_API_KEY", "TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN", "HORIZON_API_KEY")
ONE = ("--domain", "bots.agency.test", "--host", "192.0.2.10")
FOUR = (
    *("--cluster", "--domain", "bots.agency.test"),
    *("--host", "192.0.2.11,10.1.0.1", "--host", "192.0.2.12,10.1.0.2"),
    *("--host", "192.0.2.13,10.1.0.3", "--host", "bots4.agency.test,10.1.0.4"),
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the inventory shall be; the password's file is beside it."""
    for name in (*VENDORS, "ANSIBLE_VAULT_PASSWORD_FILE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "password").write_text(PASSWORD + "\n")
    return tmp_path / "mine"


def init(folder: Path, *words: str) -> int:
    file = str(folder.parent / "password")
    return main(["inventory", "init", str(folder), *words, "--vault-password-file", file])


def vault(folder: Path, password: str = PASSWORD) -> tuple[str, dict[str, Any]]:
    """The secrets' text, and what it says."""
    secret = VaultSecret(password.encode())
    sealed = (folder / "group_vars/all/vault.yml").read_text()
    assert sealed.startswith("$ANSIBLE_VAULT;1.1;AES256\n")
    text = VaultLib([(DEFAULT_VAULT_ID_MATCH, secret)]).decrypt(sealed).decode()
    return text, yaml.safe_load(text)


def read_by_ansible(folder: Path) -> dict[str, Any]:
    """What `ansible-inventory` reads of it."""
    ended = subprocess.run(
        [
            *(str(Path(sys.executable).parent / "ansible-inventory"), "-i", str(folder), "--list"),
            *("--vault-password-file", str(folder.parent / "password")),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return dict(json.loads(ended.stdout))


@pytest.mark.parametrize("profile", ["full", "light"])
def test_one_command_makes_an_inventory_that_site_yml_takes(folder: Path, profile: str) -> None:
    words = ("--light",) if profile == "light" else ()

    assert init(folder, *ONE, "--user", "deploy", "--port", "2222", *words) == 0

    _, secrets = vault(folder)
    found = read_by_ansible(folder)
    host = found["_meta"]["hostvars"]["bots1"]
    assert found[profile]["hosts"] == ["bots1"]
    assert "hosts" not in found.get("light" if profile == "full" else "full", {})
    assert (host["ansible_host"], host["ansible_user"]) == ("192.0.2.10", "deploy")
    assert host["ansible_port"] == 2222
    assert host["app_domain"] == "bots.agency.test"
    assert host["postgresql_enabled"] is (profile == "full")
    assert load("filter_plugins/horizon_settings.py").setting_problems(host) == []
    assert host["vault_secret_key"] == secrets["vault_secret_key"]
    # The key is Fernet's; every other secret is one of its own.
    made = [value for value in secrets.values() if value]
    assert len(set(made)) == len(made) == 7


def test_no_placeholder_and_no_secret_in_clear_stays(folder: Path) -> None:
    assert init(folder, *ONE) == 0

    text, secrets = vault(folder)
    clear = "".join(path.read_text() for path in folder.rglob("*.yml"))
    assert "CHANGE_ME" not in text + clear
    assert not any(value in clear for value in secrets.values() if value)
    assert (folder / "group_vars/all/vault.yml").stat().st_mode & 0o777 == 0o600


def test_comments_of_the_example_stay(folder: Path) -> None:
    assert init(folder, *ONE) == 0

    example = ROOT / "inventories/example"
    for path in sorted(example.rglob("*.yml")):
        name = path.relative_to(example)
        text = vault(folder)[0] if path.name == "vault.yml" else (folder / name).read_text()
        comments = [line for line in path.read_text().splitlines() if line.strip()[:1] == "#"]
        assert [line for line in text.splitlines() if line.strip()[:1] == "#"] == comments


def test_cluster_gets_its_addresses_and_its_secrets(folder: Path) -> None:
    assert init(folder, *FOUR, "--user", "deploy") == 0

    hosts = read_by_ansible(folder)["_meta"]["hostvars"]
    assert [hosts[f"bots{n}"]["cluster_address"] for n in range(1, 5)] == [
        *("10.1.0.1", "10.1.0.2", "10.1.0.3", "10.1.0.4")
    ]
    assert hosts["bots4"]["ansible_host"] == "bots4.agency.test"
    assert {host["ansible_user"] for host in hosts.values()} == {"deploy"}
    assert len(vault(folder)[1]["vault_redis_sentinel_password"]) == 64


def test_vendors_keys_come_from_the_environment(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", 'sk-"quoted"#:')
    monkeypatch.setenv("TWILIO_ACCOUNT_SID", "AC" + "0" * 32)

    assert init(folder, *ONE) == 0

    _, secrets = vault(folder)
    printed = capsys.readouterr()
    assert secrets["vault_openai_api_key"] == 'sk-"quoted"#:'
    assert secrets["vault_twilio_account_sid"] == "AC" + "0" * 32
    assert secrets["vault_twilio_auth_token"] == ""
    assert "OPENAI_API_KEY, TWILIO_ACCOUNT_SID" in printed.out + printed.err
    assert "quoted" not in printed.out + printed.err


def test_the_next_command_is_printed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert init(folder, *ONE) == 0

    file = folder.parent / "password"
    line = f"ansible-playbook site.yml -i {folder} --vault-password-file {file}"
    assert line in capsys.readouterr().out.splitlines()


def test_password_is_asked_twice_where_no_file_has_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[dict[str, Any]] = []

    def prompt(_: str, **options: Any) -> str:
        asked.append(options)
        return "typed twice" if options.get("confirmation_prompt") else ""

    monkeypatch.setattr(inventory, "_is_terminal", lambda: True)
    monkeypatch.setattr("typer.prompt", prompt)

    assert main(["inventory", "init", str(folder), *ONE]) == 0

    assert vault(folder, "typed twice")[1]["vault_secret_key"]
    assert all(options["hide_input"] for options in asked)
    assert f"ansible-playbook site.yml -i {folder} --ask-vault-pass" in capsys.readouterr().out


def test_password_file_that_is_missing_is_made(folder: Path) -> None:
    file = folder.parent / "new-password"

    assert main(["inventory", "init", str(folder), *ONE, "--vault-password-file", str(file)]) == 0

    assert file.stat().st_mode & 0o777 == 0o600
    assert vault(folder, file.read_text().strip())[1]["vault_secret_key"]


def test_name_that_is_reserved_for_examples_is_a_warning(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert init(folder, "--domain", "bots.example.com", "--host", "192.0.2.10") == 0

    assert "reserved for examples" in capsys.readouterr().err


def test_second_run_touches_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert init(folder, *ONE) == 0
    before = {path: path.read_bytes() for path in folder.rglob("*.yml")}

    assert init(folder, *ONE) != 0

    assert "is there already" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in folder.rglob("*.yml")} == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--domain", "https://bots.agency.test/", "--host", "192.0.2.10"), "app_domain"),
        (("--domain", "192.0.2.10", "--host", "192.0.2.10"), "certificates need a name"),
        (("--domain", "bots.agency.test", "--host", "root@192.0.2.10"), "--user"),
        (("--domain", "bots.agency.test", "--host", "192.0.2.10:2222"), "--port"),
        (("--domain", "bots.agency.test", "--host", "192.0.2.300"), "is neither an address"),
        (("--domain", "bots.agency.test", "--host", "two words"), "is neither an address"),
        (
            ("--domain", "bots.agency.test", "--host", "192.0.2.1", "--host", "192.0.2.2"),
            "--cluster",
        ),
        ((*ONE, "--light", "--cluster"), "--light"),
        ((*ONE, "--cluster"), "four"),
        ((*FOUR[:-1], "192.0.2.14"), "ADDRESS,PRIVATE_ADDRESS"),
        ((*FOUR[:-1], "192.0.2.14,10.1.0.1"), "10.1.0.1"),
        ((*ONE, "--user", "two words"), "--user"),
        ((*ONE, "--port", "70000"), "--port"),
    ],
)
def test_wrong_words_are_told_and_nothing_is_left(
    folder: Path, words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert init(folder, *words) != 0

    assert said in " ".join(capsys.readouterr().err.split())
    assert [path.name for path in folder.parent.iterdir()] == ["password"]


def test_key_of_a_vendor_that_cannot_be_one_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", "hidden token")

    assert init(folder, *ONE) != 0

    said = capsys.readouterr().err
    assert "TWILIO_AUTH_TOKEN" in said
    assert "hidden" not in said
    assert not folder.exists()


def test_without_a_terminal_a_file_is_asked_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(inventory, "_is_terminal", lambda: False)

    assert main(["inventory", "init", str(folder), *ONE]) != 0

    assert "--vault-password-file" in capsys.readouterr().err
    assert not folder.exists()


def test_empty_password_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder.parent / "password").write_text("\n")

    assert init(folder, *ONE) != 0

    assert "password" in capsys.readouterr().err
    assert not folder.exists()


def test_machine_without_ansible_is_told_where_to_run_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ansible.parsing.vault", None)

    assert init(folder, *ONE) != 0

    assert "make setup" in capsys.readouterr().err
    assert not folder.exists()


def test_other_commands_do_not_load_ansible() -> None:
    code = (
        "import sys; from service.cli.main import main; main(['key', 'secret']); "
        "sys.exit('ansible' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
