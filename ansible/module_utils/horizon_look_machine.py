"""Files, disks, memory and the clock."""

from __future__ import annotations

from pathlib import Path

from ansible.module_utils.horizon_check import Host, UncheckedError, last

MIN_FREE_SHARE = 0.10
MIN_FREE_MB = 200
MIN_MEMORY_MB = 64
MOST_CLOCK_S = 5


def permissions(host: Host) -> str | None:
    wrong = []
    for file in host.params["files"]:
        found = host.owner(file["path"])
        wanted = (file["owner"], file["group"], int(file["mode"], 8))
        if found is not None and found != wanted:
            wrong.append(f"{file['path']} is {found[0]}:{found[1]} {found[2]:04o}")
    return "; ".join(wrong) or None


def set_permissions(host: Host) -> None:
    for file in host.params["files"]:
        if host.owner(file["path"]) is not None:
            host.run("chown", f"{file['owner']}:{file['group']}", file["path"])
            host.run("chmod", file["mode"], file["path"])


def missing(host: Host) -> str | None:
    gone = [file["path"] for file in host.params["files"] if host.owner(file["path"]) is None]
    return f"{', '.join(gone)} is gone" if gone else None


def make_folders(host: Host) -> None:
    host.run("systemd-tmpfiles", "--create", "horizonai-bots.conf")


def foreign_files(host: Host) -> str | None:
    home, user = host.params["home"], host.params["user"]
    code, output = host.run("find", home, "-xdev", "!", "-user", user, "-print", "-quit")
    if code:
        raise UncheckedError(f"{home} cannot be searched")
    return f"{output.strip()} does not belong to {user}" if output.strip() else None


def own_files(host: Host) -> None:
    home, user = host.params["home"], host.params["user"]
    host.run("chown", "--recursive", "--no-dereference", f"{user}:{user}", home)


def release_broken(host: Host) -> str | None:
    current = Path(host.params["root"], "current")
    if not current.exists():
        return f"{current} leads nowhere"
    python = current / "venv" / "bin" / "python"
    code, output = host.run(
        str(python),
        "-B",
        "-P",
        "-c",
        f"import sys; sys.path.insert(0, '{current}'); import service.app",
    )
    return f"the release cannot be loaded: {last(output)}" if code else None


def full(host: Host) -> str | None:
    for path in host.params["disks"]:
        free_mb, share, inodes = host.free(path)
        if free_mb < MIN_FREE_MB or share < MIN_FREE_SHARE:
            return f"{path} has {free_mb:.0f} MB left ({share:.0%})"
        if inodes < MIN_FREE_SHARE:
            return f"{path} has {inodes:.0%} of its inodes left"
    return None


def memory_short(host: Host) -> str | None:
    left = host.memory_mb()
    return f"{left:.0f} MB of memory are left" if left < MIN_MEMORY_MB else None


def killed(host: Host) -> str | None:
    names = host.killed()
    return f"killed for lack of memory: {', '.join(names)}" if names else None


def clock_off(host: Host) -> str | None:
    off = host.params["clock_off_s"]
    return f"the clock is {off:+.0f} s from the controller's" if abs(off) > MOST_CLOCK_S else None


def unsynchronized(host: Host) -> str | None:
    if host.run("systemd-detect-virt", "--container", "--quiet")[0] == 0:
        # The clock is the machine's below.
        return None
    _, output = host.run("timedatectl", "show", "--property", "NTPSynchronized", "--value")
    return None if output.strip() == "yes" else "the clock is synchronized with nothing"
