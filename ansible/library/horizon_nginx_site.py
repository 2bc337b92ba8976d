#!/usr/bin/python
"""The site of nginx: written, tested, and taken back when nginx refuses it."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible.module_utils.horizon_surroundings import leave_login

DOCUMENTATION = r"""
module: horizon_nginx_site
short_description: nginx has this site, and its whole configuration passes nginx's own test
description:
  - Writes the site, links it, sets the workers in C(nginx.conf) and disables Debian's default site
    where that is still Debian's own, unchanged.
  - Then C(nginx -t) reads the real configuration. If it fails, every file is as it was before.
options:
  content:
    description: The site's configuration.
    type: str
    required: true
  name:
    description: File name of the site.
    type: str
    default: horizonai-bots.conf
  worker_processes:
    description: C(auto) or a number.
    type: str
    default: auto
  worker_connections:
    description: Connections of one worker process.
    type: int
    default: 1024
  root:
    description: Folder of nginx's configuration.
    type: path
    default: /etc/nginx
  nginx:
    description: Path of nginx.
    type: path
    default: /usr/sbin/nginx
author:
  - Horizon WhatsApp Bots
"""

EXAMPLES = r"""
- name: Nginx knows the site
  horizon_nginx_site:
    content: "{{ lookup('ansible.builtin.template', 'site.conf.j2') }}"
"""

RETURN = r"""
default_site:
  description: C(disabled), C(absent), or C(kept) where it is not Debian's unchanged one.
  type: str
  returned: always
"""

MARKER = "# Managed by Ansible: horizonai-bots"


class State:
    """A file's bytes, a link's target, or nothing: what stands at a path, to be put back."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.target = os.readlink(path) if path.is_symlink() else None
        self.data = path.read_bytes() if self.target is None and path.is_file() else None

    @property
    def text(self) -> str:
        return (self.data or b"").decode("utf-8", "replace")

    def put_back(self) -> None:
        if self.target is not None:
            make_link(self.path, self.target)
        elif self.data is not None:
            write(self.path, self.data)
        else:
            self.path.unlink(missing_ok=True)


def write(path: Path, data: bytes) -> None:
    new = path.with_name(f".{path.name}.new")
    new.write_bytes(data)
    new.chmod(0o644)
    new.replace(path)


def make_link(path: Path, target: str) -> None:
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    new.symlink_to(target)
    new.replace(path)


def with_workers(main: str, processes: str, connections: int) -> str:
    """nginx.conf with these workers; directives that it does not have are not added."""
    main = re.sub(r"(?m)^(\s*worker_processes\s+)[^;]*;", rf"\g<1>{processes};", main)
    return re.sub(r"(?m)^(\s*worker_connections\s+)[^;]*;", rf"\g<1>{connections};", main)


def default_site(root: Path, packaged: str) -> str:
    """`packaged` is dpkg's list of configuration files with their sums."""
    enabled = root / "sites-enabled/default"
    available = root / "sites-available/default"
    if not os.path.lexists(enabled):
        return "absent"
    if not enabled.is_symlink() or not available.is_file():
        return "kept"
    data = available.read_bytes()
    found = hashlib.md5(data, usedforsecurity=False).hexdigest()
    is_debians = enabled.resolve() == available.resolve() and found in packaged.split()
    return "disabled" if is_debians else "kept"


def packaged_files() -> str:
    query = ["/usr/bin/dpkg-query", "--showformat=${Conffiles}", "--show", "nginx-common"]
    try:
        return subprocess.run(query, capture_output=True, text=True).stdout
    except OSError:
        return ""


def main() -> None:
    leave_login()
    module = AnsibleModule(
        argument_spec={
            "content": {"type": "str", "required": True},
            "name": {"type": "str", "default": "horizonai-bots.conf"},
            "worker_processes": {"type": "str", "default": "auto"},
            "worker_connections": {"type": "int", "default": 1024},
            "root": {"type": "path", "default": "/etc/nginx"},
            "nginx": {"type": "path", "default": "/usr/sbin/nginx"},
        },
        supports_check_mode=True,
    )
    root, name, nginx = (
        Path(module.params["root"]),
        module.params["name"],
        module.params["nginx"],
    )
    site = State(root / "sites-available" / name)
    link = State(root / "sites-enabled" / name)
    conf = State(root / "nginx.conf")
    default = State(root / "sites-enabled/default")
    if site.data is not None and MARKER not in site.text:
        module.fail_json(
            msg=f"{site.path} is not ours: its first line is not '{MARKER}'. "
            f"Move it away, then run this again: mv {site.path} {site.path}.foreign"
        )
    content = module.params["content"]
    processes, connections = module.params["worker_processes"], module.params["worker_connections"]
    wanted = with_workers(conf.text, processes, connections)
    fate = default_site(root, packaged_files())
    changes = []
    if site.text != content:
        changes.append(site)
    if link.target != f"../sites-available/{name}":
        changes.append(link)
    if conf.data is not None and conf.text != wanted:
        changes.append(conf)
    if fate == "disabled":
        changes.append(default)
    result = {
        "changed": bool(changes),
        "default_site": fate,
        "diff": [
            _diff(site, content),
            *([_diff(conf, wanted)] if conf in changes else []),
        ],
    }
    if module.check_mode or not changes:
        module.exit_json(**result)

    write(site.path, content.encode())
    make_link(link.path, f"../sites-available/{name}")
    if conf in changes:
        write(conf.path, wanted.encode())
    if default in changes:
        default.path.unlink()
    fault = _test(nginx)
    if fault is None:
        module.exit_json(**result)
    for state in (site, link, conf, default):
        state.put_back()
    before = _test(nginx)
    module.fail_json(
        msg="nginx refuses the new configuration; the previous one is back and still serves. "
        + (
            "That one is refused as well, so the fault lies in another file of /etc/nginx "
            "(sudo nginx -t shows it). "
            if before and site.data is not None
            else "Correct the variable of the role nginx that the line comes from, "
            "or the other site that it names (nginx_default_server: false if that is the default). "
        )
        + f"nginx says: {fault}",
    )


def _test(nginx: str) -> str | None:
    """What nginx says against its configuration; None when it is good."""
    done = subprocess.run([nginx, "-t", "-q"], capture_output=True, text=True)
    return None if done.returncode == 0 else done.stderr.strip()


def _diff(state: State, after: str) -> dict[str, str]:
    path = str(state.path)
    return {"before": state.text, "after": after, "before_header": path, "after_header": path}


if __name__ == "__main__":
    main()
