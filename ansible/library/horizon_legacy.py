#!/usr/bin/python
"""An older installation (the Flask service) ends here, and nothing of it is lost."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible.module_utils import horizon_legacy_registry
from ansible.module_utils.horizon_foreign import FOLDER_MARKER, SITE_FOLDERS, UNIT_FOLDERS
from ansible.module_utils.horizon_host import MARKER
from ansible.module_utils.horizon_surroundings import leave_login

DOCUMENTATION = r"""
module: horizon_legacy
short_description: An older installation has made room, and is kept aside
description:
  - Saves its bots (the hash C(bots:registry) of its Redis), stops and disables its units, and moves
    units, nginx sites and folder aside. What carries our marker is never touched.
  - Each step looks by itself whether it is done, so that a run that was interrupted is finished by
    the next. Supports check mode.
options:
  units:
    description: Names of its units.
    type: list
    elements: str
    required: true
  folder:
    description: Folder of its program.
    type: path
    required: true
  sites:
    description: File names of its nginx sites.
    type: list
    elements: str
    required: true
  env_file:
    description: Its settings; empty means C(.env) in its folder.
    type: str
    default: ""
  aside:
    description: Where units, sites, settings and the saved bots go, for root only.
    type: path
    required: true
  save_registry:
    description: Save the bots first, and touch nothing where they cannot be read.
    type: bool
    default: true
  root:
    description: Where the machine's files are.
    type: path
    default: /
author:
  - Horizon
"""

EXAMPLES = r"""
- name: The older installation has made room
  horizon_legacy:
    units: [horizonai-bots.service]
    folder: /opt/horizonai-bots
    sites: [horizonai-bots]
    aside: /var/backups/horizonai-bots-legacy
"""

RETURN = r"""
steps:
  description: What was done (would be done, in check mode).
  type: list
  elements: str
  returned: always
bots:
  description: How many bots were saved; -1 when none had to be.
  type: int
  returned: always
"""

SUFFIX = ".before-horizonai-bots"


class Legacy:
    """The older installation on one machine. `steps` tells what is done."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        given = module.params
        self.root = Path(given["root"])
        self.folder = self.at(given["folder"])
        self.aside = self.at(given["aside"])
        self.steps: list[str] = []
        self.bots = -1

    def at(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def shown(self, path: Path) -> str:
        return "/" + str(path.relative_to(self.root))

    def units(self) -> list[Path]:
        """Its unit files, drop-ins included, that are not ours."""
        found = {}
        for folder in UNIT_FOLDERS:
            for name in self.module.params["units"]:
                for path in (self.root / folder / name, self.root / folder / f"{name}.d"):
                    if os.path.lexists(path) and not is_ours(path):
                        found.setdefault((path.parent.resolve(), path.name), path)
        return list(found.values())

    def sites(self) -> list[Path]:
        """Its sites that are not ours; links first, so that none ever leads nowhere."""
        paths = [
            self.root / folder / name
            for folder in SITE_FOLDERS
            for name in self.module.params["sites"]
        ]
        return [path for path in paths if os.path.lexists(path) and not is_ours(path)]

    def has_folder(self) -> bool:
        if not self.folder.is_dir() or (self.folder / FOLDER_MARKER).exists():
            return False
        return any(self.folder.iterdir())

    def kept_folder(self) -> Path:
        return self.folder.with_name(self.folder.name + SUFFIX)

    def env_file(self) -> Path:
        given = self.module.params["env_file"]
        return self.at(given) if given else self.folder / ".env"

    def check(self) -> None:
        """Everything that could stop it half-way, before anything is touched."""
        if self.has_folder() and os.path.lexists(self.kept_folder()):
            self.fail(
                f"{self.shown(self.folder)} cannot be kept as {self.shown(self.kept_folder())}, which "
                "is there already. Move that one away, then run this again."
            )
        for path in [*self.units(), *self.sites()]:
            if os.path.lexists(self.aside / kept_name(path)):
                self.fail(
                    f"{self.shown(path)} cannot be kept: {self.shown(self.aside / kept_name(path))} is "
                    "there already. Move that one away, then run this again."
                )

    def save(self) -> None:
        """Its bots and its settings, before anything stops."""
        target = self.aside / "registry.json"
        env = self.env_file()
        if env.is_file() and not (self.aside / "env").exists():
            self.step(f"its settings are kept as {self.shown(self.aside / 'env')}")
            if not self.module.check_mode:
                self.write(self.aside / "env", env.read_bytes())
        if not self.module.params["save_registry"] or target.exists():
            return
        if not env.is_file():
            self.fail(
                f"There is no {self.shown(env)}, so nobody knows which Redis holds its bots. Name it: "
                "-e legacy_folder=… when it lies elsewhere, or -e legacy_env_file=…; or go on without "
                "them: -e legacy_save_bots=false. Nothing was touched."
            )
        try:
            registry = horizon_legacy_registry.read(env.read_text(errors="replace"))
        except horizon_legacy_registry.RegistryError as error:
            self.fail(
                f"Its bots cannot be read: {error}. Mend that, or go on without them: "
                "-e legacy_save_bots=false. Nothing was touched."
            )
        self.bots = len(registry)
        self.step(f"{self.bots} bots are saved in {self.shown(target)}")
        if not self.module.check_mode:
            self.write(target, json.dumps(registry, indent=1).encode())

    def stop(self) -> None:
        for path in self.units():
            if path.name.endswith(".d"):
                continue
            self.step(f"{path.name} is stopped and disabled")
            if not self.module.check_mode:
                self.run("systemctl", "disable", "--now", path.name)

    def move(self) -> None:
        sites = self.sites()
        for path in [*self.units(), *sites]:
            kept = self.aside / kept_name(path)
            self.step(f"{self.shown(path)} is kept as {self.shown(kept)}")
            if not self.module.check_mode:
                self.make_aside()
                self.run("mv", "--no-target-directory", str(path), str(kept))
        if self.steps and not self.module.check_mode:
            self.run("systemctl", "daemon-reload")
        if sites:
            self.step("nginx serves it no more")
            if not self.module.check_mode:
                self.reload_nginx()
        if self.has_folder():
            self.step(f"{self.shown(self.folder)} is kept as {self.shown(self.kept_folder())}")
            if not self.module.check_mode:
                self.folder.rename(self.kept_folder())

    def reload_nginx(self) -> None:
        # One that does not run takes what it finds when it starts.
        if self.run("systemctl", "is-active", "--quiet", "nginx.service", may_fail=True) == 0:
            self.run("systemctl", "reload", "nginx.service")

    def step(self, sentence: str) -> None:
        self.steps.append(sentence)

    def make_aside(self) -> None:
        self.aside.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.aside.chmod(0o700)

    def write(self, path: Path, data: bytes) -> None:
        self.make_aside()
        new = path.with_name(f".{path.name}.new")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)

    def run(self, *words: str, may_fail: bool = False) -> int:
        try:
            done = subprocess.run(words, capture_output=True, text=True)
        except OSError as error:
            self.fail(f"`{words[0]}` cannot be run: {error.strerror}.")
        if done.returncode != 0 and not may_fail:
            self.fail(
                f"`{' '.join(words)}` failed: {done.stderr.strip()}. Mend that, then run this again: it "
                "goes on where it stopped."
            )
        return done.returncode

    def fail(self, sentence: str) -> None:
        self.module.fail_json(msg=sentence, steps=self.steps)


def is_ours(path: Path) -> bool:
    """A file with our marker, a drop-in folder of such files; a link is what it leads to."""
    if path.is_dir():
        files = [inner for inner in path.iterdir() if inner.is_file()]
        return bool(files) and all(is_ours(inner) for inner in files)
    try:
        return MARKER in path.read_text(errors="replace")
    except OSError:
        return False


def kept_name(path: Path) -> str:
    return f"{path.parent.name}.{path.name}"


def main() -> None:
    """Ansible's entry."""
    leave_login()
    module = AnsibleModule(
        argument_spec={
            "units": {"type": "list", "elements": "str", "required": True},
            "folder": {"type": "path", "required": True},
            "sites": {"type": "list", "elements": "str", "required": True},
            "env_file": {"type": "str", "default": ""},
            "aside": {"type": "path", "required": True},
            "save_registry": {"type": "bool", "default": True},
            "root": {"type": "path", "default": "/"},
        },
        supports_check_mode=True,
    )
    legacy = Legacy(module)
    if legacy.units() or legacy.sites() or legacy.has_folder():
        legacy.check()
        # Its units without its folder: the folder is another one, and so is what knows the bots.
        if legacy.has_folder() or legacy.units():
            legacy.save()
        legacy.stop()
        legacy.move()
    module.exit_json(changed=bool(legacy.steps), steps=legacy.steps, bots=legacy.bots)


if __name__ == "__main__":
    main()
