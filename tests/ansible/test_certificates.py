"""What is asked of an authority, when it is not asked again, and what its answers mean."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.ansible.modules import load, run

certificates = load("horizon_certificates")

DOMAIN = "bots.example.com"
SERVER = "https://acme.example.com/dir"
LET_FAIL = "#!/bin/sh\necho asked >>{folder}/asked\necho 'Type:   connection' >&2\nexit 1\n"
LET_ISSUE = """#!/bin/sh
echo "$@" >>{folder}/asked
mkdir -p {folder}/le/live/{domain} {folder}/le/renewal
cp {folder}/crt {folder}/le/live/{domain}/fullchain.pem
cp {folder}/key {folder}/le/live/{domain}/privkey.pem
printf 'server = {server}\\n' >{folder}/le/renewal/{domain}.conf
"""
HOOK = """#!/bin/sh
ln -sfn $RENEWED_LINEAGE/fullchain.pem {folder}/tls/{domain}.crt
ln -sfn $RENEWED_LINEAGE/privkey.pem {folder}/tls/{domain}.key
"""


class Machine:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "tls").mkdir()
        self.program("hook", HOOK)
        self.program("certbot", LET_ISSUE)
        self.make_pair(90)

    def make_pair(self, days: int) -> None:
        command = [
            *("/usr/bin/openssl", "req", "-x509", "-newkey", "ec", "-nodes", "-subj", "/CN=x"),
            *("-pkeyopt", "ec_paramgen_curve:prime256v1", "-days", str(days)),
            *("-out", str(self.folder / "crt"), "-keyout", str(self.folder / "key")),
        ]
        subprocess.run(command, check=True, capture_output=True)

    def program(self, name: str, text: str) -> None:
        text = text.format(folder=self.folder, domain=DOMAIN, server=SERVER)
        (self.folder / name).write_text(text)
        (self.folder / name).chmod(0o755)

    def do(self, step: str, domains: list[Any], *, check: bool = False, **more: Any) -> Any:
        params = {
            "webroot": str(self.folder / "acme"),
            "tls_directory": str(self.folder / "tls"),
            "state_directory": str(self.folder / "state"),
            "certificates": str(self.folder / "le"),
            "certbot": str(self.folder / "certbot"),
            "hook": str(self.folder / "hook"),
            "server": SERVER,
            **more,
        }
        return run("horizon_certificates", check=check, step=step, domains=domains, **params)

    def converge(self, **more: Any) -> tuple[Any, Any]:
        plan = self.do("plan", [DOMAIN], **more)
        return plan, self.do("issue", plan["wanted"], **more)

    @property
    def asked(self) -> list[str]:
        path = self.folder / "asked"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def record(self) -> Path:
        return self.folder / "state" / f"{DOMAIN}.json"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_certificate_is_asked_for_once(machine: Machine) -> None:
    _, issue = machine.converge()
    assert issue["issued"] == [DOMAIN]
    assert "--key-type ecdsa" in machine.asked[0]
    assert "--register-unsafely-without-email" in machine.asked[0]
    plan, issue = machine.converge()
    assert plan["wanted"] == []
    assert issue["changed"] is False
    assert len(machine.asked) == 1


def test_check_mode_names_the_names_and_asks_nobody(machine: Machine) -> None:
    plan = machine.do("plan", [DOMAIN], check=True)
    assert plan["changed"] is True
    assert DOMAIN in plan["msg"]
    assert plan["probes"] == []
    assert not (machine.folder / "acme").exists()


def test_links_that_were_lost_are_set_without_the_authority(machine: Machine) -> None:
    machine.converge()
    (machine.folder / "tls" / f"{DOMAIN}.crt").unlink()
    _, issue = machine.converge()
    assert issue["issued"] == [DOMAIN]
    assert len(machine.asked) == 1


def test_another_server_means_another_certificate(machine: Machine) -> None:
    machine.converge()
    machine.converge(server="https://other.example.com/dir")
    assert "--force-renewal" in machine.asked[1]


def test_renewals_that_failed_are_made_up_for(machine: Machine) -> None:
    machine.converge()
    pem = machine.folder / "le/live" / DOMAIN / "fullchain.pem"
    pem.write_text("no certificate at all")
    plan, _ = machine.converge()
    assert plan["wanted"] == [{"domain": DOMAIN, "ask": True, "renew": False}]


def test_a_failure_is_not_repeated_within_the_hour(machine: Machine) -> None:
    machine.program("certbot", LET_FAIL)
    _, issue = machine.converge()
    failure = issue["failures"][0]
    assert f"port 80 of {DOMAIN}" in failure["reason"]
    assert failure["next_try"]
    plan, _ = machine.converge()
    assert plan["waiting"] == [failure]
    assert plan["wanted"] == []
    assert machine.asked == ["asked"]


def test_it_is_repeated_after_the_hour_and_forgotten_when_it_works(machine: Machine) -> None:
    machine.program("certbot", LET_FAIL)
    machine.converge()
    record = json.loads(machine.record.read_text())
    machine.record.write_text(json.dumps(record | {"time": time.time() - 3601}))
    machine.program("certbot", LET_ISSUE)
    _, issue = machine.converge()
    assert issue["issued"] == [DOMAIN]
    assert not machine.record.exists()


def test_it_is_repeated_at_once_by_force(machine: Machine) -> None:
    machine.program("certbot", LET_FAIL)
    machine.converge()
    machine.converge(force=True)
    assert machine.asked == ["asked", "asked"]


def test_what_we_saw_ourselves_is_no_attempt(machine: Machine) -> None:
    seen = [{"domain": DOMAIN, "outcome": "wrong", "reason": "another", "remedy": "point it here"}]
    _, issue = machine.converge(seen=seen)
    assert issue["failures"] == [
        {"domain": DOMAIN, "reason": "another", "remedy": "point it here", "next_try": ""}
    ]
    plan, _ = machine.converge()
    assert plan["waiting"] == []
    assert len(machine.asked) == 1


def test_one_names_failure_is_its_own(machine: Machine) -> None:
    plan = machine.do("plan", ["bad.example.com", DOMAIN])
    seen = [{"domain": "bad.example.com", "outcome": "unreachable", "reason": "r", "remedy": "m"}]
    issue = machine.do("issue", plan["wanted"], seen=seen)
    assert issue["issued"] == [DOMAIN]
    assert [failure["domain"] for failure in issue["failures"]] == ["bad.example.com"]


def test_probes_can_be_fetched_and_are_removed(machine: Machine) -> None:
    plan = machine.do("plan", [DOMAIN])
    probe = plan["probes"][0]
    file = machine.folder / "acme" / probe["path"].lstrip("/")
    assert file.read_text().strip() == probe["content"]
    machine.do("issue", plan["wanted"])
    assert not file.exists()


def test_a_hook_that_fails_is_told_and_tried_again(machine: Machine) -> None:
    machine.program("hook", "#!/bin/sh\necho nginx refuses it >&2\nexit 1\n")
    _, issue = machine.converge()
    assert "nginx refuses it" in issue["failures"][0]["reason"]
    machine.program("hook", HOOK)
    _, issue = machine.converge()
    assert issue["issued"] == [DOMAIN]
    assert len(machine.asked) == 1


# As certbot 2.1 and 4.0 print them.
OUTPUTS = {
    "connection": (
        "Certbot failed to authenticate some domains (authenticator: webroot). The Certificate "
        "Authority reported these problems:\n  Domain: bots.example.com\n  Type:   connection\n"
        "  Detail: 192.0.2.1: Fetching http://bots.example.com/.well-known/acme-challenge/x: "
        "Timeout during connect (likely firewall problem)\n\nHint: The Certificate Authority ...",
        "cannot connect to port 80 of bots.example.com: 192.0.2.1: Fetching",
        "Open port 80",
    ),
    "nxdomain": (
        "  Domain: bots.example.com\n  Type:   dns\n  Detail: DNS problem: NXDOMAIN looking up A "
        "for bots.example.com - check that a DNS record exists for this domain\n\nHint: x",
        "finds no address of bots.example.com",
        "Create an A record",
    ),
    "unauthorized": (
        "  Domain: bots.example.com\n  Type:   unauthorized\n  Detail: 192.0.2.1: Invalid response "
        "from http://bots.example.com/.well-known/acme-challenge/x: 404\n\nHint: x",
        "got another answer from bots.example.com",
        "Point the A record",
    ),
    "rate limit": (
        "An unexpected error occurred:\ntoo many certificates (5) already issued for this exact set "
        "of identifiers in the last 168h0m0s, retry after 2026-11-26 10:00:00 UTC\nAsk for help or",
        "retry after 2026-11-26 10:00:00 UTC",
        "acme-staging",
    ),
    "unreachable": (
        "An unexpected error occurred:\nrequests.exceptions.ConnectionError: HTTPSConnectionPool("
        "host='acme.example.com', port=443): Max retries exceeded with url: /dir (Caused by "
        "NewConnectionError('...: [Errno 111] Connection refused'))",
        f"{SERVER} cannot be reached",
        "certbot_server",
    ),
    "refused": (
        "An unexpected error occurred:\nValueError: Requesting 192.0.2.1/dir: Connection refused\n"
        "Ask for help or search for solutions at https://community.letsencrypt.org.",
        f"{SERVER} cannot be reached",
        "certbot_server",
    ),
    "untrusted": (
        "requests.exceptions.SSLError: HTTPSConnectionPool(host='acme.example.com', port=443): Max "
        "retries exceeded with url: /dir (Caused by SSLError(SSLCertVerificationError(1, '[SSL: "
        "CERTIFICATE_VERIFY_FAILED] certificate verify failed: unable to get local issuer')))",
        f"{SERVER} is not trusted",
        "certbot_ca_file",
    ),
    "unknown": (
        "Saving debug log to /var/log/letsencrypt/letsencrypt.log\nSomething new\nAsk for help or",
        "certbot failed: Something new",
        "letsencrypt.log",
    ),
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_what_certbot_prints_becomes_a_reason_and_a_remedy(name: str) -> None:
    output, reason, remedy = OUTPUTS[name]
    found = certificates.explain(output, DOMAIN, SERVER)
    assert reason in found[0]
    assert remedy in found[1]
