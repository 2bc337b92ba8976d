#!/usr/bin/python
"""Ansible module: clients through `horizonctl clients` of the host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: horizon_clients
short_description: Clients are as declared
description:
  - Hands a declaration to C(horizonctl clients apply), once for any number of clients, and shows before and
    after of each field. Secrets go through standard input, never through the list of processes.
  - Supports check mode and diff.
options:
  clients:
    description: The clients, each with the fields of a bot (docs/bots.md), without secrets.
    type: list
    elements: dict
    required: true
  secrets:
    description: Secret fields of the clients, by number.
    type: dict
    default: {}
  variables:
    description: What the service's fields are called where the clients were declared; faults name these.
    type: dict
    default: {}
  horizonctl:
    description: The command.
    type: list
    elements: str
    default: [horizonctl]
author:
  - Horizon
"""

EXAMPLES = r"""
- name: Client is there
  horizon_clients:
    clients:
      - name: Restaurante La Cocina
        twilio_phone_number: "+15551234567"
        instructions: Eres la asistente de La Cocina.
    secrets:
      "+15551234567": {twilio_auth_token: "{{ vault_twilio_token }}"}
"""

RETURN = r"""
clients:
  description: What became (would become, in check mode) of each client.
  type: list
  elements: dict
  returned: success
undeclared:
  description: Numbers of bots that are not among the clients; they stay.
  type: list
  elements: str
  returned: success
"""

import json
import re
import shutil
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible.module_utils.horizon_surroundings import leave_login

ARGUMENTS: dict[str, Any] = {
    "clients": {"type": "list", "elements": "dict", "required": True},
    "secrets": {"type": "dict", "default": {}, "no_log": True},
    "variables": {"type": "dict", "default": {}},
    "horizonctl": {"type": "list", "elements": "str", "default": ["horizonctl"]},
}


def document(clients: list[dict[str, Any]], secrets: dict[str, Any]) -> str:
    """The declaration with its secrets."""
    whole = [
        {**client, **(secrets.get(str(client.get("twilio_phone_number"))) or {})}
        for client in clients
    ]
    return json.dumps({"clients": whole})


def diff(clients: list[dict[str, Any]]) -> dict[str, str]:
    """What --diff shows: every field that differs, by number."""
    before: list[str] = []
    after: list[str] = []
    for client in clients:
        rows = [(each["field"], each["before"], each["after"]) for each in client["changes"]]
        sender = client["sender"]
        rows += [
            (f"twilio.{name}", sender["before"][name] or None, sender["after"][name])
            for name in sender["after"]
        ]
        for name, old, new in rows:
            if client["action"] != "create" or old is not None:
                before.append(_line(client, name, old))
            after.append(_line(client, name, new))
    return {"before": "".join(before), "after": "".join(after)}


def _line(client: dict[str, Any], name: str, value: Any) -> str:
    return f"{client['number']} {name}: {json.dumps(value, ensure_ascii=False)}\n"


def in_words(told: str, variables: dict[str, str]) -> str:
    """The faults by the names that stand in the operator's file.

    A field stands behind the client, as in `+15551234567, name: …`; elsewhere in a sentence only what
    cannot be a word of English is one.
    """

    def field(found: re.Match[str]) -> str:
        return f"{found[1]}, {variables.get(found[2], found[2])}"

    told = re.sub(r"(?m)^([^:\n]*), (\w+)(?=[.\[:])", field, told)
    for name in (name for name in variables if "_" in name):
        told = re.sub(rf"\b{name}\b", variables[name], told)
    return told


def main() -> None:
    leave_login()
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    params = module.params
    command = [*params["horizonctl"], "clients", "apply", "-", "--json"]
    if module.check_mode:
        command.append("--check")
    if shutil.which(command[0]) is None:
        module.fail_json(
            msg="Nothing was changed. horizonctl is not on this host: "
            "ansible-playbook site.yml -i <inventory> installs it."
        )
    code, out, err = module.run_command(
        command, data=document(params["clients"], params["secrets"]), binary_data=False
    )
    try:
        result = json.loads(out) if out.strip() else {}
    except ValueError:
        module.fail_json(msg=f"horizonctl clients apply answered what is no JSON: {err.strip()}")
    if code or "clients" not in result:
        module.fail_json(
            msg=in_words(err.strip(), params["variables"])
            or f"horizonctl clients apply ended with code {code}.",
            clients=result.get("clients", []),
            changed=bool(result.get("changed")),
        )
    module.exit_json(
        changed=result["changed"],
        clients=result["clients"],
        undeclared=result["undeclared"],
        diff=diff(result["clients"]),
    )


if __name__ == "__main__":
    main()
