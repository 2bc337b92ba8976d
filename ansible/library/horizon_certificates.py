#!/usr/bin/python
"""Certificates from an ACME server, one for each host name, so that one's failure is its own."""

from __future__ import annotations

import json
import os
import re
import secrets
import ssl
import subprocess
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible.module_utils.horizon_surroundings import leave_login

DOCUMENTATION = r"""
module: horizon_certificates
short_description: Host names have certificates of an ACME server, and nginx serves them
description:
  - O(step=plan) says which names lack a certificate, which of them must wait after a failure, and
    puts a file under the challenge path of each that will be asked for. In check mode it writes nothing.
  - O(step=issue) runs certbot for each of them and then the deploy hook. It does not fail when a
    certificate does - it says so in RV(failures) and remembers it.
options:
  step:
    description: What to do.
    type: str
    choices: [plan, issue]
    required: true
  domains:
    description: Host names; for O(step=issue) RV(wanted) of the plan.
    type: list
    elements: raw
    required: true
  server:
    description: Address of the ACME directory.
    type: str
    required: true
  webroot:
    description: Folder that nginx serves challenges from.
    type: path
    required: true
  tls_directory:
    description: Folder of nginx's links.
    type: path
    required: true
  force:
    description: Ask again even within an hour after a failure.
    type: bool
    default: false
  email:
    description: Address of the account; empty for none.
    type: str
    default: ""
  hook:
    description: Deploy hook.
    type: path
  environment:
    description: Variables for certbot.
    type: dict
    default: {}
  seen:
    description: Results of M(horizon_acme_probe); a name that is not in it is asked for unseen.
    type: list
    elements: dict
    default: []
  state_directory:
    description: Folder of the failures that are remembered.
    type: path
    default: /var/lib/horizonai-bots-acme-state
  certificates:
    description: Certbot's folder.
    type: path
    default: /etc/letsencrypt
  certbot:
    description: Path of certbot.
    type: path
    default: /usr/bin/certbot
author:
  - Horizon WhatsApp Bots
"""

EXAMPLES = r"""
- name: Which names lack a certificate
  horizon_certificates:
    step: plan
    domains: [bots.example.com]
    server: https://acme-v02.api.letsencrypt.org/directory
    webroot: /var/lib/horizonai-bots-acme
    tls_directory: /etc/horizonai-bots/tls
"""

RETURN = r"""
wanted:
  description: What the plan is going to do; C(domain), C(ask) (else only the links are wrong), C(renew).
  type: list
  returned: step=plan
probes:
  description: Files under challenge paths, for M(horizon_acme_probe).
  type: list
  returned: step=plan
waiting:
  description: Failures less than an hour ago; C(domain), C(reason), C(remedy), C(next_try).
  type: list
  returned: step=plan
issued:
  description: Names that nginx now serves with their certificate.
  type: list
  returned: step=issue
failures:
  description: As RV(waiting); C(next_try) is empty when the server has not been asked.
  type: list
  returned: step=issue
"""

WAIT_S = 3600
CERTBOT_TIMEOUT_S = 180
CHALLENGES = ".well-known/acme-challenge"
PROBE = "horizonai-bots-probe-"
LOG = "/var/log/letsencrypt/letsencrypt.log"

# What certbot says, what that means, and what to do; {detail} is the authority's own sentence.
EXPLANATIONS = (
    (
        r"CERTIFICATE_VERIFY_FAILED|certificate verify failed",
        "the certificate of the ACME server {server} is not trusted",
        "Name the file with its authority, on the controller: certbot_ca_file: /path/to/ca.pem",
    ),
    (
        r"ValueError: Requesting |NewConnectionError|NameResolutionError|Max retries exceeded"
        r"|ReadTimeout|ConnectTimeout|Temporary failure in name resolution|Connection aborted|ProxyError",
        "the ACME server {server} cannot be reached",
        "Allow this server to connect to it (DNS, firewall, proxy), and check certbot_server.",
    ),
    (
        r"rateLimited|too many (certificates|failed|new|registrations|requests|currently)",
        "the authority's rate limit is reached: {detail}",
        "Wait until the time that it names; try things out with certbot_server: "
        "https://acme-staging-v02.api.letsencrypt.org/directory",
    ),
    (
        r"Type:\s*dns|NXDOMAIN|SERVFAIL|DNS problem",
        "the authority finds no address of {domain}: {detail}",
        "Create an A record that points {domain} to this server, and wait until it is known everywhere.",
    ),
    (
        r"Type:\s*caa|CAA record",
        "a CAA record of {domain} forbids this authority: {detail}",
        "Allow the authority in the CAA record, or remove the record.",
    ),
    (
        r"Type:\s*connection|Timeout during connect|Connection refused",
        "the authority cannot connect to port 80 of {domain}: {detail}",
        "Open port 80 to the internet (the provider's firewall too), and check that A and AAAA records "
        "of {domain} are this server's public addresses.",
    ),
    (
        r"Type:\s*unauthorized|Invalid response from|\b404\b",
        "the authority got another answer from {domain}: {detail}",
        "Point the A record of {domain} to this server, and remove A and AAAA records that lead elsewhere.",
    ),
    (
        r"invalidContact|invalidEmail|invalid email|not a valid e-?mail",
        "the authority does not take the address {email}: {detail}",
        "Correct certbot_email, or leave it empty.",
    ),
    (
        r"rejectedIdentifier|Policy forbids|does not end with a valid public suffix",
        "the authority does not issue certificates for {domain}: {detail}",
        "Use a public name in nginx_domains, or set certbot_enabled: false",
    ),
    (
        r"Another instance of Certbot is already running",
        "certbot is already at work on this server",
        "Wait until it has ended.",
    ),
)


def explain(output: str, domain: str, server: str, email: str = "") -> tuple[str, str]:
    """The reason and the remedy for what certbot printed."""
    found = re.search(r"Detail:\s*(.+?)(?:\n\s*\n|\nHint:|\Z)", output, re.DOTALL)
    lines = [line for line in output.splitlines() if line.strip() and not line.startswith("Ask ")]
    sentences = [
        line for line in lines if not re.match(r"(See the logfile|Saving debug log)", line)
    ]
    detail = " ".join((found.group(1) if found else " ".join(sentences[-1:])).split())[:400]
    values = {"domain": domain, "server": server, "email": email, "detail": detail}
    for pattern, reason, remedy in EXPLANATIONS:
        if re.search(pattern, output, re.IGNORECASE):
            return reason.format(**values).rstrip(": "), remedy.format(**values)
    return f"certbot failed: {detail}", f"Read {LOG} on this server."


def moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


class Failures:
    """What failed and when, a file for each host name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def last(self, domain: str) -> dict[str, Any] | None:
        try:
            record = json.loads((self._folder / f"{domain}.json").read_text())
        except (OSError, ValueError):
            return None
        return record if isinstance(record, dict) and "time" in record else None

    def remember(self, domain: str, reason: str, remedy: str, asked: bool) -> dict[str, Any]:
        now = time.time()
        record = {"domain": domain, "reason": reason, "remedy": remedy, "time": now, "asked": asked}
        self._folder.mkdir(parents=True, exist_ok=True)
        new = self._folder / f".{domain}.new"
        new.write_text(json.dumps(record, indent=2) + "\n")
        new.replace(self._folder / f"{domain}.json")
        return self.shown(record)

    def forget(self, domain: str) -> None:
        (self._folder / f"{domain}.json").unlink(missing_ok=True)

    @staticmethod
    def must_wait(record: dict[str, Any]) -> bool:
        return bool(record["asked"]) and 0 <= time.time() - record["time"] < WAIT_S

    @staticmethod
    def shown(record: dict[str, Any]) -> dict[str, Any]:
        next_try = moment(record["time"] + WAIT_S) if record["asked"] else ""
        return {key: record[key] for key in ("domain", "reason", "remedy")} | {"next_try": next_try}


class Lineage:
    """certbot's certificate of one host name, and nginx's links."""

    def __init__(self, certificates: Path, tls_directory: Path, domain: str) -> None:
        self.folder = certificates / "live" / domain
        self._renewal = certificates / "renewal" / f"{domain}.conf"
        self._links = (tls_directory / f"{domain}.crt", tls_directory / f"{domain}.key")
        self._files = (self.folder / "fullchain.pem", self.folder / "privkey.pem")

    def exists(self) -> bool:
        return all(file.is_file() for file in self._files) and self._renewal.is_file()

    def is_from(self, server: str) -> bool:
        return f"server = {server}" in self._renewal.read_text().splitlines()

    def is_fresh(self) -> bool:
        """certbot renews when a third of the life is left: below a quarter, renewals have failed."""
        command = ["/usr/bin/openssl", "x509", "-noout", "-dates", "-in", str(self._files[0])]
        done = subprocess.run(command, capture_output=True, text=True)
        dates = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
        if {"notBefore", "notAfter"} - set(dates):
            return False
        start, end = (ssl.cert_time_to_seconds(dates[name]) for name in ("notBefore", "notAfter"))
        return end - time.time() > (end - start) / 4

    def is_linked(self) -> bool:
        return all(
            link.is_symlink() and os.readlink(link) == str(file)
            for link, file in zip(self._links, self._files, strict=True)
        )


def plan(params: dict[str, Any], write: bool) -> dict[str, Any]:
    failures = Failures(Path(params["state_directory"]))
    wanted, waiting = [], []
    for domain in params["domains"]:
        lineage = Lineage(Path(params["certificates"]), Path(params["tls_directory"]), domain)
        known = lineage.exists()
        is_ours = known and lineage.is_from(params["server"])
        if is_ours and lineage.is_fresh():
            if not lineage.is_linked():
                wanted.append({"domain": domain, "ask": False, "renew": False})
            elif write:
                failures.forget(domain)
            continue
        record = failures.last(domain)
        if record and failures.must_wait(record) and not params["force"]:
            waiting.append(failures.shown(record))
            continue
        wanted.append({"domain": domain, "ask": True, "renew": known and not is_ours})
    asked = [each["domain"] for each in wanted if each["ask"]]
    probes = lay_probes(Path(params["webroot"]), asked) if write and asked else []
    return {"wanted": wanted, "waiting": waiting, "probes": probes}


def lay_probes(webroot: Path, domains: list[str]) -> list[dict[str, str]]:
    remove_probes(webroot)
    folder = webroot / CHALLENGES
    folder.mkdir(parents=True, exist_ok=True)
    probes = []
    for domain in domains:
        name, content = PROBE + secrets.token_hex(16), secrets.token_hex(16)
        (folder / name).write_text(content + "\n")
        (folder / name).chmod(0o644)
        probes.append({"domain": domain, "path": f"/{CHALLENGES}/{name}", "content": content})
    return probes


def remove_probes(webroot: Path) -> None:
    for old in (webroot / CHALLENGES).glob(f"{PROBE}*"):
        old.unlink()


def issue(params: dict[str, Any]) -> dict[str, Any]:
    remembered = Failures(Path(params["state_directory"]))
    seen = {result["domain"]: result for result in params["seen"]}
    issued, failures = [], []
    for each in params["domains"]:
        domain = each["domain"]
        look = seen.get(domain)
        if each["ask"] and look and look["outcome"] != "ok":
            failures.append(remembered.remember(domain, look["reason"], look["remedy"], False))
            continue
        if each["ask"]:
            output = ask(params, domain, each["renew"])
            if output is not None:
                cause = explain(output, domain, params["server"], params["email"])
                failures.append(remembered.remember(domain, *cause, True))
                continue
        fault = run_hook(params, domain)
        if fault is not None:
            reason = f"its certificate is there and not served: {fault}"
            remedy = "Run on this server, and mend what it names: nginx -t"
            failures.append(remembered.remember(domain, reason, remedy, False))
            continue
        remembered.forget(domain)
        issued.append(domain)
    remove_probes(Path(params["webroot"]))
    return {"issued": issued, "failures": failures}


def ask(params: dict[str, Any], domain: str, renew: bool) -> str | None:
    """None when the certificate is there, else what certbot printed."""
    email = params["email"]
    account = (
        ["--email", email, "--no-eff-email"] if email else ["--register-unsafely-without-email"]
    )
    command = [
        *(
            params["certbot"],
            "certonly",
            "--non-interactive",
            "--agree-tos",
            "--no-directory-hooks",
        ),
        *("--webroot", "--webroot-path", params["webroot"], "--key-type", "ecdsa"),
        *("--cert-name", domain, "--domain", domain, "--server", params["server"], *account),
        "--force-renewal" if renew else "--keep-until-expiring",
    ]
    return run(command, {name: str(value) for name, value in params["environment"].items()})


def run_hook(params: dict[str, Any], domain: str) -> str | None:
    folder = Path(params["certificates"]) / "live" / domain
    return run([params["hook"]], {"RENEWED_LINEAGE": str(folder)})


def run(command: list[str], variables: dict[str, str]) -> str | None:
    environment = os.environ | {"LC_ALL": "C.UTF-8"} | variables
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=CERTBOT_TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        return f"{command[0]} did not end within {CERTBOT_TIMEOUT_S} s"
    except OSError as error:
        return f"{command[0]}: {error.strerror}"
    return None if done.returncode == 0 else (done.stdout + done.stderr).strip()


def main() -> None:
    leave_login()
    module = AnsibleModule(
        argument_spec={
            "step": {"type": "str", "choices": ["plan", "issue"], "required": True},
            "domains": {"type": "list", "elements": "raw", "required": True},
            "server": {"type": "str", "required": True},
            "webroot": {"type": "path", "required": True},
            "tls_directory": {"type": "path", "required": True},
            "force": {"type": "bool", "default": False},
            "email": {"type": "str", "default": ""},
            "hook": {"type": "path"},
            "environment": {"type": "dict", "default": {}},
            "seen": {"type": "list", "elements": "dict", "default": []},
            "state_directory": {"type": "path", "default": "/var/lib/horizonai-bots-acme-state"},
            "certificates": {"type": "path", "default": "/etc/letsencrypt"},
            "certbot": {"type": "path", "default": "/usr/bin/certbot"},
        },
        required_if=[("step", "issue", ["hook"])],
        supports_check_mode=True,
    )
    if module.params["step"] == "plan":
        result = plan(module.params, not module.check_mode)
        names = ", ".join(each["domain"] for each in result["wanted"])
        message = (
            f"Would ask {module.params['server']} for: {names}" if names else "Nothing to ask for"
        )
        changed = module.check_mode and bool(result["wanted"])
        module.exit_json(changed=changed, msg=message, **result)
    if module.check_mode:
        module.exit_json(changed=True, issued=[], failures=[])
    result = issue(module.params)
    module.exit_json(changed=bool(result["issued"]), **result)


if __name__ == "__main__":
    main()
