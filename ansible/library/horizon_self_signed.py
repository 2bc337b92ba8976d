#!/usr/bin/python
"""Self-signed certificates for a start, and the links that nginx reads."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible.module_utils.horizon_surroundings import leave_login

DOCUMENTATION = r"""
module: horizon_self_signed
short_description: Each host name has a certificate, a self-signed one where there is no other
description:
  - Keeps C(<domain>.crt) and C(<domain>.key) in O(directory) as links to files that exist.
  - Links that lead elsewhere (to Let's Encrypt, to a certificate of your own) are left alone while
    both files exist; else they lead to a self-signed pair in C(self-signed/), made with openssl.
options:
  domains:
    description: Host names.
    type: list
    elements: str
    required: true
  directory:
    description: Folder of the links.
    type: path
    required: true
  days:
    description: Days that a self-signed certificate is valid.
    type: int
    default: 825
  renew_before_days:
    description: A self-signed certificate with fewer days left is made anew.
    type: int
    default: 30
  openssl:
    description: Path of openssl.
    type: path
    default: /usr/bin/openssl
author:
  - Horizon WhatsApp Bots
"""

EXAMPLES = r"""
- name: Each host name has a certificate
  horizon_self_signed:
    domains: [bots.example.com]
    directory: /etc/horizonai-bots/tls
"""

RETURN = r"""
made:
  description: Host names whose self-signed pair was made.
  type: list
  returned: always
linked:
  description: Host names whose links were set.
  type: list
  returned: always
"""

KEY_MODE = 0o640
CERTIFICATE_MODE = 0o644


class OpensslError(Exception):
    """openssl could not do it; the message is its own."""


class Pair:
    """The certificate and the key of one host name."""

    def __init__(self, directory: Path, domain: str, openssl: str) -> None:
        self.domain = domain
        self.links = (directory / f"{domain}.crt", directory / f"{domain}.key")
        self.own = tuple(directory / "self-signed" / link.name for link in self.links)
        self._openssl = openssl

    def leads_elsewhere(self) -> bool:
        """Both files exist and neither is the self-signed one."""
        return all(
            link.exists() and link.resolve() != own.resolve()
            for link, own in zip(self.links, self.own, strict=True)
        )

    def is_linked(self) -> bool:
        return all(
            link.is_symlink() and os.readlink(link) == f"self-signed/{own.name}"
            for link, own in zip(self.links, self.own, strict=True)
        )

    def is_good(self, renew_before_days: int) -> bool:
        if not all(path.is_file() for path in self.own):
            return False
        seconds = str(renew_before_days * 86_400)
        arguments = ["x509", "-noout", "-checkend", seconds, "-in", str(self.own[0])]
        return subprocess.run([self._openssl, *arguments], capture_output=True).returncode == 0

    def has_modes(self) -> bool:
        modes = (CERTIFICATE_MODE, KEY_MODE)
        return all(
            path.stat().st_mode & 0o777 == mode
            for path, mode in zip(self.own, modes, strict=True)
            if path.exists()
        )

    def make(self, days: int) -> None:
        folder = self.own[0].parent
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as new:
            files = (Path(new, "crt"), Path(new, "key"))
            # openssl takes 64 characters for the name of the subject; browsers read only the SAN.
            arguments = [
                *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
                *("-nodes", "-sha256", "-days", str(days), "-subj", f"/CN={self.domain[:64]}"),
                *("-addext", f"subjectAltName=DNS:{self.domain}"),
                *("-out", str(files[0]), "-keyout", str(files[1])),
            ]
            done = subprocess.run([self._openssl, *arguments], capture_output=True, text=True)
            if done.returncode:
                raise OpensslError(done.stderr.strip())
            for file, own in zip(files, self.own, strict=True):
                file.replace(own)
        self.set_modes()

    def set_modes(self) -> None:
        self.own[0].chmod(CERTIFICATE_MODE)
        self.own[1].chmod(KEY_MODE)

    def link(self) -> None:
        for link, own in zip(self.links, self.own, strict=True):
            new = link.with_name(f".{link.name}.new")
            new.unlink(missing_ok=True)
            new.symlink_to(f"self-signed/{own.name}")
            new.replace(link)


def main() -> None:
    leave_login()
    module = AnsibleModule(
        argument_spec={
            "domains": {"type": "list", "elements": "str", "required": True},
            "directory": {"type": "path", "required": True},
            "days": {"type": "int", "default": 825},
            "renew_before_days": {"type": "int", "default": 30},
            "openssl": {"type": "path", "default": "/usr/bin/openssl"},
        },
        supports_check_mode=True,
    )
    made, linked, secured = [], [], []
    try:
        for domain in module.params["domains"]:
            pair = Pair(Path(module.params["directory"]), domain, module.params["openssl"])
            if pair.leads_elsewhere():
                continue
            if not pair.is_good(module.params["renew_before_days"]):
                made.append(domain)
                if not module.check_mode:
                    pair.make(module.params["days"])
            elif not pair.has_modes():
                secured.append(domain)
                if not module.check_mode:
                    pair.set_modes()
            if not pair.is_linked():
                linked.append(domain)
                if not module.check_mode:
                    pair.link()
    except (OSError, OpensslError) as error:
        module.fail_json(msg=f"No self-signed certificate for {domain}: {error}")
    module.exit_json(changed=bool(made or linked or secured), made=made, linked=linked)


if __name__ == "__main__":
    main()
