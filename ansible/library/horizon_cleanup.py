#!/usr/bin/python
"""Ansible module: what nobody needs any more leaves a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: horizon_cleanup
short_description: Removes old releases, caches, logs and leftovers, and tells what each freed
description:
  - Never touches the release that runs and the one before it, waiting messages or backups.
  - In check mode, and with O(dry_run), it only tells what would go.
options:
  root: {description: Folder of the installation., type: path, default: /opt/horizonai-bots}
  release:
    description: Whether releases run on this host.
    type: bool
    default: true
  spool: {description: Folder of the spool., type: path, required: true}
  keep_releases: {description: Releases that stay installed., type: int, default: 5}
  turn_days:
    description: Age in days of ended turns that go with their texts; 0 keeps all.
    type: int
    default: 365
  journal_days:
    description: Age in days of the archived system journal that goes; 0 keeps all.
    type: int
    default: 30
  log_days: {description: Age in days of rotated logs that go; 0 keeps all., type: int, default: 30}
  log_folders: {description: Where rotated logs lie., type: list, elements: path, default: []}
  caches: {description: Folders whose content goes., type: list, elements: path, default: []}
  package_cache: {description: Empty the cache of downloaded packages too., type: bool, default: true}
  dry_run: {description: Only tell., type: bool, default: false}
"""

EXAMPLES = r"""
- name: What would go
  horizon_cleanup:
    spool: /var/lib/horizonai-bots/spool
    dry_run: true
"""

RETURN = r"""
steps:
  description: For each kind its name, how many were removed and the bytes that this freed.
  type: list
  elements: dict
  returned: always
lines: {description: The same as sentences., type: list, elements: str, returned: always}
"""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from ansible.module_utils.basic import AnsibleModule

from ansible.module_utils.horizon_lock import BusyError, alone
from ansible.module_utils.horizon_releases import Journal, ReleaseError, to_remove
from ansible.module_utils.horizon_surroundings import leave_login

HORIZONCTL = "/usr/local/bin/horizonctl"
JOURNAL = Path("/var/log/journal")
PACKAGES = Path("/var/cache/apt/archives")
ROTATED = re.compile(r".+\.(gz|xz|\d+)$|.+\.log\.\d+.*$")
GOING = ".going-"
LEFTOVER_S = 3600
MODULES = "/tmp"  # noqa: S108  # where Ansible unpacks them
DAY_S = 86_400
LEAST_TURN_DAYS = 7  # as `horizonctl cleanup`
TIMEOUT_S = 1_800
ARGUMENTS: dict[str, Any] = {
    "root": {"type": "path", "default": "/opt/horizonai-bots"},
    "release": {"type": "bool", "default": True},
    "spool": {"type": "path", "required": True},
    "keep_releases": {"type": "int", "default": 5},
    "turn_days": {"type": "int", "default": 365},
    "journal_days": {"type": "int", "default": 30},
    "log_days": {"type": "int", "default": 30},
    "log_folders": {"type": "list", "elements": "path", "default": []},
    "caches": {"type": "list", "elements": "path", "default": []},
    "package_cache": {"type": "bool", "default": True},
    "dry_run": {"type": "bool", "default": False},
}


class CleanupError(Exception):
    """Something could not be removed; the text says what, and what to do."""


class Step(NamedTuple):
    """What became of one kind of thing."""

    name: str
    count: int
    freed: int

    def line(self, dry_run: bool) -> str:
        if not self.count:
            return f"{self.name}: nothing to remove"
        verb = "would go" if dry_run else "removed"
        size = f", {self.freed / 1e6:.1f} MB" if self.freed else ""
        return f"{self.name}: {self.count} {verb}{size}"


def size_of(path: Path) -> int:
    """Bytes on disk of a file, or of a folder with all in it."""
    if path.is_symlink() or not path.is_dir():
        return path.lstat().st_blocks * 512
    return sum(entry.lstat().st_blocks * 512 for entry in [path, *path.rglob("*")])


def remove(name: str, paths: Iterable[Path], dry_run: bool, aside: Path | None = None) -> Step:
    """Files and whole folders. With `aside` each is moved there first: half of it is never in its place."""
    count = freed = 0
    for path in paths:
        try:
            freed += size_of(path)
            if not dry_run:
                if aside:
                    aside.mkdir(mode=0o755, exist_ok=True)
                    path = path.rename(aside / f"{GOING}{path.name}")
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()
        except FileNotFoundError:
            # Whoever made it has removed it meanwhile.
            continue
        count += 1
    return Step(name, count, freed)


def older(paths: Iterable[Path], seconds: float) -> list[Path]:
    """Those that nobody has changed for so long."""
    limit = time.time() - seconds
    found = []
    for path in paths:
        try:
            if path.lstat().st_mtime < limit:
                found.append(path)
        except FileNotFoundError:
            continue
    return sorted(found)


def old_releases(root: Path, keep: int) -> list[Path]:
    """All but the `keep` that were tried last; the running one and the one before it stay anyway."""
    journal = Journal.read(root / "state" / "activations.json")
    releases = root / "releases"
    names = [path.name for path in releases.iterdir() if (path / "release.json").exists()]
    running = (root / "current").resolve().name
    return [releases / name for name in to_remove(journal, names, keep) if name != running]


def unused_venvs(root: Path, without: Iterable[Path]) -> list[Path]:
    """Environments of no release besides those `without`."""
    gone = set(without)
    used = {
        (release / "venv").resolve()
        for release in (root / "releases").iterdir()
        if release not in gone
    }
    return [venv for venv in (root / "venvs").iterdir() if venv.resolve() not in used]


def leftovers(incoming: Path) -> list[Path]:
    """What deploys and cleanups that were broken off have left."""
    found = [*(incoming.iterdir() if incoming.is_dir() else ())]
    going = [path for path in found if path.name.startswith(GOING)]
    return going + older((path for path in found if path not in going), LEFTOVER_S)


def rotated_logs(folders: Iterable[str], days: int) -> list[Path]:
    """Old logs that nothing writes into any more."""
    files = (file for folder in folders for file in Path(folder).rglob("*") if file.is_file())
    return older((file for file in files if ROTATED.match(file.name)), days * DAY_S)


def in_root(params: dict[str, Any], dry_run: bool) -> list[Step]:
    """Releases, environments and what deploys that were broken off have left. Raises CleanupError."""
    root = Path(params["root"])
    if not (root / "state").is_dir():
        raise CleanupError(
            "This host is not installed. Remedy: ansible-playbook site.yml -i <inventory>."
        )
    with alone(root / "state", "A cleanup"):
        incoming = root / "incoming"
        # First: what a cleanup was killed at has the name that the same thing would get again.
        left = remove("leftovers of broken deploys", leftovers(incoming), dry_run)
        releases = old_releases(root, params["keep_releases"])
        venvs = unused_venvs(root, releases)
        return [
            remove("old releases", releases, dry_run, incoming),
            remove("environments of no release", venvs, dry_run, incoming),
            left,
        ]


def system_journal(days: int, dry_run: bool, run: Callable[..., str]) -> Step:
    """What the system's journal has archived."""
    archived = older(JOURNAL.rglob("*@*.journal*"), days * DAY_S) if JOURNAL.is_dir() else []
    freed = sum(size_of(path) for path in archived)
    if archived and not dry_run:
        run("journalctl", "--quiet", f"--vacuum-time={days}d")
    return Step("files of the system journal", len(archived), freed)


def packages(dry_run: bool, run: Callable[..., str]) -> Step:
    """Downloaded packages."""
    found = list(PACKAGES.glob("*.deb"))
    freed = sum(size_of(path) for path in found)
    if found and not dry_run:
        run("apt-get", "clean")
    return Step("downloaded packages", len(found), freed)


def of_the_service(days: int, dry_run: bool, run: Callable[..., str]) -> list[Step]:
    """Ended turns and what Redis holds for nobody."""
    words = [HORIZONCTL, "cleanup", "--json", "--days", str(days)]
    found = json.loads(run(*words, *(["--dry-run"] if dry_run else [])))
    return [Step(name, count, 0) for name, count in found.items() if name != "dry_run"]


def check(params: dict[str, Any]) -> None:
    """Before anything goes. Raises CleanupError."""
    days = params["turn_days"]
    too_small = {
        "app_keep_releases": params["keep_releases"] < 0,
        "app_cleanup_turn_days": days < 0 or 0 < days < LEAST_TURN_DAYS,
        "app_cleanup_journal_days": params["journal_days"] < 0,
        "app_cleanup_log_days": params["log_days"] < 0,
    }
    if any(too_small.values()):
        names = ", ".join(name for name, is_small in too_small.items() if is_small)
        raise CleanupError(
            f"Nothing was removed: too small is {names}. Remedy: say no less than 0 (of days it "
            f"keeps all), and for turns 0 or at least {LEAST_TURN_DAYS}."
        )


def clean(params: dict[str, Any], dry_run: bool) -> list[Step]:
    """Everything. Raises CleanupError, ReleaseError and OSError."""
    check(params)
    steps = in_root(params, dry_run) if params["release"] else []
    contents = (entry for folder in params["caches"] for entry in _entries(Path(folder)))
    steps.append(remove("entries of caches", contents, dry_run))
    if params["package_cache"]:
        steps.append(packages(dry_run, run_command))
    if params["journal_days"]:
        steps.append(system_journal(params["journal_days"], dry_run, run_command))
    if params["log_days"]:
        logs = rotated_logs(params["log_folders"], params["log_days"])
        steps.append(remove("rotated logs", logs, dry_run))
    # One that works may be older than an hour.
    modules = older(Path(MODULES).glob("ansible_*_payload_*"), DAY_S)
    steps.append(remove("leftovers of killed playbooks", modules, dry_run))
    # Messages are never touched, not even those that cannot be read.
    half_written = older(Path(params["spool"]).glob(".tmp-*"), LEFTOVER_S)
    steps.append(remove("half-written files of the spool", half_written, dry_run))
    if params["release"] and params["turn_days"]:
        steps += of_the_service(params["turn_days"], dry_run, run_command)
    return steps


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def run_command(*command: str) -> str:
    """What it printed. Raises CleanupError."""
    result = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if result.returncode:
        words = (result.stderr or result.stdout).strip().splitlines()
        last = words[-1] if words else f"exit code {result.returncode}"
        raise CleanupError(f"`{' '.join(command[:2])}` failed: {last}")
    return result.stdout


def main() -> None:
    """Ansible's entry."""
    leave_login()
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    dry_run = module.params["dry_run"] or module.check_mode
    try:
        steps = clean(module.params, dry_run)
    except (CleanupError, ReleaseError, BusyError) as error:
        module.fail_json(msg=str(error), steps=[], lines=[])
    except (OSError, subprocess.SubprocessError) as error:
        module.fail_json(
            msg=f"Not everything was removed: {error}. Remedy: mend that, then run this again.",
            steps=[],
            lines=[],
        )
    freed = sum(step.freed for step in steps)
    total = f"{freed / 1e6:.1f} MB {'would be' if dry_run else 'were'} freed in all"
    module.exit_json(
        changed=any(step.count for step in steps) and not module.params["dry_run"],
        steps=[step._asdict() for step in steps],
        lines=[*(step.line(dry_run) for step in steps), total],
    )


if __name__ == "__main__":
    main()
