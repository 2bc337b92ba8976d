"""`inventory`: an inventory of one's own, on the machine from which servers are installed."""

from __future__ import annotations

import os
import re
import secrets
import shlex
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.failures import USAGE, CommandError
from service.cli.inventory_files import (
    Login,
    in_light,
    replaced,
    with_cluster,
    with_secrets,
    with_server,
)
from service.cli.output import print_line, print_note

if TYPE_CHECKING:
    from ansible.parsing.vault import VaultSecret

app = typer.Typer(help="Inventories of servers.", no_args_is_help=True)

_CHECKOUT = Path(__file__).parents[2]
_MAIN, _VAULT = Path("group_vars/all/main.yml"), Path("group_vars/all/vault.yml")
_VENDORS = {
    "OPENAI_API_KEY": "vault_openai_api_key",
    "TWILIO_ACCOUNT_SID": "vault_twilio_account_sid",
    "TWILIO_AUTH_TOKEN": "vault_twilio_auth_token",
    "HORIZON_API_KEY": "vault_horizon_api_key",
}
_NO_ANSIBLE = (
    "Ansible is not installed here. An inventory is made on the machine that you work from, not on a "
    "server: run `make setup` in the checkout, then .venv/bin/horizonctl."
)


@app.command()
def init(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Where it shall be, like inventories/mine.")
    ],
    domain: Annotated[str, typer.Option(help="The public host name, which Twilio calls.")],
    hosts: Annotated[
        list[str],
        typer.Option(
            "--host",
            help="Address or name that SSH reaches; with --cluster four times, as "
            "ADDRESS,PRIVATE_ADDRESS.",
        ),
    ],
    user: Annotated[str, typer.Option(help="Whom Ansible logs in as: root, or one with sudo.")] = (
        "root"
    ),
    port: Annotated[int, typer.Option(help="Port of SSH.", min=1, max=65_535)] = 22,
    light: Annotated[
        bool, typer.Option("--light", help="A server with less than 2 GB of memory: SQLite.")
    ] = False,
    cluster: Annotated[
        bool,
        typer.Option("--cluster", help="Several servers that share the work: docs/cluster.md."),
    ] = False,
    password_file: Annotated[
        Path | None,
        typer.Option(
            "--vault-password-file",
            envvar="ANSIBLE_VAULT_PASSWORD_FILE",
            help="File with the vault's password, made with a new one when it is missing; without "
            "it the password is asked for.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Make an inventory: a copy of the example with the server, the name and new secrets in it.

    Keys of OpenAI, Twilio and Horizon come from OPENAI_API_KEY, TWILIO_ACCOUNT_SID, TWILIO_AUTH_TOKEN
    and HORIZON_API_KEY in the environment, or are asked for; they may stay empty.
    """
    if light and cluster:
        raise CommandError("Give one of --light and --cluster.", USAGE)
    if os.path.lexists(folder):
        raise CommandError(f"{folder} is there already: nothing was touched. Name another folder.")
    example = _CHECKOUT / "inventories" / ("example-cluster" if cluster else "example")
    if not example.is_dir():
        raise CommandError(_NO_ANSIBLE)
    _check_domain(domain)
    login = Login(user, port)
    servers = _read(example / "hosts.yml")
    servers = with_cluster(servers, hosts, login) if cluster else with_server(servers, hosts, login)
    main = replaced(_read(example / _MAIN), "app_domain: bots.example.com", f"app_domain: {domain}")
    vault = with_secrets(_read(example / _VAULT), _vendors_keys())
    password = _password(password_file)
    files = {
        Path("hosts.yml"): in_light(servers) if light else servers,
        _MAIN: main,
        _VAULT: _sealed(vault, password),
    }
    _write(example, folder, files)
    _tell(folder, user, domain, password_file)


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def _check_domain(domain: str) -> None:
    """By the rules of the playbooks' own preflight."""
    rules = _preflight_rules()
    values = {"app_domain": domain}
    for finding in rules.setting_problems(values):
        if finding["problem"].startswith("app_domain"):
            remedy = finding["remedy"].rpartition("app_domain: ")[2]
            raise CommandError(f"--domain: {finding['problem']} Give it like --domain {remedy}.")
    for finding in rules.setting_warnings(values):
        print_note(f"{finding['problem']} Before you install, {finding['remedy']}")


def _preflight_rules() -> Any:
    from importlib.util import module_from_spec, spec_from_file_location

    file = _CHECKOUT / "ansible/filter_plugins/horizon_settings.py"
    spec = spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise CommandError(_NO_ANSIBLE)
    module = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ImportError:
        raise CommandError(_NO_ANSIBLE) from None
    return module


def _vendors_keys() -> dict[str, str]:
    """By the vault's names; empty where there is none."""
    keys, taken = {}, []
    for name, variable in _VENDORS.items():
        key = os.environ.get(name, "")
        if key:
            taken.append(name)
        elif _is_terminal():
            key = typer.prompt(
                f"{name} (Enter: none)", default="", show_default=False, hide_input=True, err=True
            )
        if not re.fullmatch(r"[!-~]*", key):
            raise CommandError(f"{name} may have only printable characters without spaces.")
        keys[variable] = key
    if taken:
        print_note(f"Taken from the environment: {', '.join(taken)}.")
    return keys


def _password(file: Path | None) -> VaultSecret:
    """The vault's password: out of its file, which is made when it is missing, or asked for."""
    try:
        from ansible.errors import AnsibleError
        from ansible.parsing.dataloader import DataLoader
        from ansible.parsing.vault import VaultSecret, get_file_vault_secret
    except ImportError:
        raise CommandError(_NO_ANSIBLE) from None

    if file is None:
        if not _is_terminal():
            raise CommandError(
                "There is no terminal to ask for the vault's password: give --vault-password-file.",
                USAGE,
            )
        typed = typer.prompt(
            "New password of the vault", hide_input=True, confirmation_prompt=True, err=True
        )
        return VaultSecret(typed.encode())
    try:
        if not file.exists():
            with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as made:
                made.write(secrets.token_urlsafe(32) + "\n")
            print_note(f"{file} is made: keep it, and keep it out of Git.")
        # As Ansible reads it: a file that may be run is a program that prints the password.
        secret = get_file_vault_secret(filename=str(file.absolute()), loader=DataLoader())
        secret.load()
    except (AnsibleError, OSError) as error:
        raise CommandError(f"{file}: the vault's password cannot be had: {error}") from None
    return secret


def _is_terminal() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def _sealed(text: str, secret: VaultSecret) -> str:
    from ansible.constants import DEFAULT_VAULT_ID_MATCH
    from ansible.parsing.vault import VaultLib

    sealed: bytes = VaultLib([(DEFAULT_VAULT_ID_MATCH, secret)]).encrypt(text, secret)
    return sealed.decode()


def _write(example: Path, folder: Path, files: dict[Path, str]) -> None:
    """All of it or nothing, and no secret in clear at any time."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as made:
        copy = Path(made) / folder.name
        shutil.copytree(example, copy)
        for name, text in files.items():
            (copy / name).write_text(text, encoding="utf-8")
        (copy / _VAULT).chmod(0o600)
        copy.rename(folder)


def _tell(folder: Path, user: str, domain: str, password_file: Path | None) -> None:
    asks = (
        f"--vault-password-file {shlex.quote(str(password_file))}"
        if password_file
        else "--ask-vault-pass"
    )
    inventory = f"-i {shlex.quote(str(folder))} {asks}"
    vault = shlex.quote(str(folder / _VAULT))
    print_line(f"{folder} is made; its secrets are new and encrypted.")
    print_line(f"See or change them: ansible-vault edit {vault}")
    print_line(
        "Keep vault_secret_key, vault_backup_password and the vault's password where no server is."
    )
    print_line(f"{domain} has to lead to the server. Then install it:")
    print_line(f"ansible-playbook site.yml {inventory}")
    if user != "root":
        print_line("Add --ask-become-pass when sudo asks for a password.")
