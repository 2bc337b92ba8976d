"""What can be wrong on a host, how it is told, and what is safe to mend.

A check looks and says what is wrong, or None. Its mend, where there is one, is safe to run twice and
loses nothing. Standard library only: this runs on the hosts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ansible.module_utils.horizon_releases import WORKER

MIN_FREE_SHARE = 0.10
MIN_FREE_MB = 200
MIN_MEMORY_MB = 64
MOST_CLOCK_S = 5
LEAST_CERTIFICATE_DAYS = 15
MOST_QUEUE_S = 300
RENEWAL = "certbot.service"
LOOPBACK = ("127.", "[::1]", "::1")


class UncheckedError(Exception):
    """It could not be looked at; the text says why."""


class Host(Protocol):
    """What the checks need of the machine."""

    params: dict[str, Any]

    def unit(self, name: str) -> dict[str, str]:
        """LoadState, ActiveState, UnitFileState and Result of a systemd unit."""

    def failed_units(self) -> list[str]:
        """Our units that have failed, the releases' and the timers' included."""

    def running(self) -> list[str]:
        """Units of the release that `current` names, web first, then its workers."""

    def name(self) -> str:
        """The machine's own name."""

    def listeners(self) -> list[tuple[str, int]]:
        """Address and port of every listening TCP socket."""

    def owner(self, path: str) -> tuple[str, str, int] | None:
        """Owner, group and permission bits; None when it is not there."""

    def free(self, path: str) -> tuple[float, float, float]:
        """Free MB, free share of the space and of the inodes."""

    def health(self) -> dict[str, Any]:
        """What /health says. Raises UncheckedError."""

    def horizonctl(self, *words: str) -> Any:
        """The JSON of a command, whatever its exit code. Raises UncheckedError."""

    def run(self, *command: str) -> tuple[int, str]:
        """Exit code and output."""

    def certificate(self, domain: str) -> tuple[float, str] | None:
        """Days that the certificate which nginx reads holds yet, and its issuer; None without one."""

    def serves(self, domain: str) -> bool | None:
        """Whether nginx hands out that very certificate; None when nothing answers, or it has none."""

    def resolve(self, name: str) -> set[str]: ...
    def memory_mb(self) -> float:
        """Memory that is free or can be freed."""

    def killed(self) -> list[str]:
        """Processes that the kernel killed for lack of memory since the day before."""


class Check(NamedTuple):
    """`remedy` is what a person does when there is no mend, or when it did not help."""

    name: str
    look: Callable[[Host], str | None]
    remedy: str
    mend: Callable[[Host], object] | None = None


class Finding(NamedTuple):
    """`state` is ok, mended, would mend, wrong or unchecked."""

    check: str
    state: str
    found: str
    remedy: str

    @property
    def is_left(self) -> bool:
        return self.state in ("wrong", "would mend", "unchecked")


def examine(
    host: Host, checks: list[Check], *, mend: bool, look_only: bool = False
) -> list[Finding]:
    """Every check in its order: what is mended early may be what a later one looks at.

    What an earlier one saw may have been mended by a later one: what is left is looked at again.
    """
    found = [_examine(host, check, mend=mend, look_only=look_only) for check in checks]
    if not any(finding.state == "mended" for finding in found):
        return found
    return [
        _look_again(host, check, finding) if finding.is_left else finding
        for check, finding in zip(checks, found, strict=True)
    ]


def _look_again(host: Host, check: Check, before: Finding) -> Finding:
    try:
        left = check.look(host)
    except UncheckedError as error:
        return before._replace(state="unchecked", found=str(error))
    if left is None:
        return Finding(check.name, "mended", before.found, "")
    return before._replace(state="wrong", found=left)


def _examine(host: Host, check: Check, *, mend: bool, look_only: bool) -> Finding:
    try:
        found = check.look(host)
        if found is None:
            return Finding(check.name, "ok", "", "")
        if check.mend is None or not mend:
            return Finding(check.name, "wrong", found, check.remedy)
        if look_only:
            return Finding(check.name, "would mend", found, "run repair.yml without --check")
        check.mend(host)
        left = check.look(host)
        if left is None:
            return Finding(check.name, "mended", found, "")
        return Finding(check.name, "wrong", left, check.remedy)
    except UncheckedError as error:
        return Finding(check.name, "unchecked", str(error), check.remedy)


# Units


POSTGRESQL_UNIT = "postgresql.service"


def _is_down(unit: str) -> Callable[[Host], str | None]:
    def look(host: Host) -> str | None:
        state = host.unit(unit)
        if state.get("LoadState") == "not-found":
            return f"{unit} is not installed"
        if state.get("ActiveState") != "active":
            return f"{unit} is {state.get('ActiveState', 'unknown')}"
        return None

    return look


def _start(unit: str) -> Callable[[Host], object]:
    def mend(host: Host) -> None:
        host.run("systemctl", "reset-failed", unit)
        host.run("systemctl", "start", unit)

    return mend


def _clusters(host: Host) -> dict[str, str]:
    """PostgreSQL's servers and their states: Debian's postgresql.service itself runs nothing."""
    words = ("list-units", "--all", "--plain", "--no-legend", "postgresql@*.service")
    _, told = host.run("systemctl", *words)
    rows = [line.split() for line in told.splitlines()]
    return {row[0]: row[2] for row in rows if len(row) > 3}


def _postgresql_down(host: Host) -> str | None:
    down = [f"{unit} is {state}" for unit, state in _clusters(host).items() if state != "active"]
    return _is_down(POSTGRESQL_UNIT)(host) or ", ".join(down) or None


def _start_postgresql(host: Host) -> None:
    for unit in (POSTGRESQL_UNIT, *_clusters(host)):
        _start(unit)(host)


def _not_enabled(host: Host) -> str | None:
    asleep = [
        unit
        for unit in [*host.params["boot_units"], *host.running()]
        if host.unit(unit).get("UnitFileState") not in ("enabled", "enabled-runtime", "static")
    ]
    return f"{', '.join(asleep)} would not start with the machine" if asleep else None


def _enable(host: Host) -> None:
    host.run("systemctl", "enable", *host.params["boot_units"], *host.running())


def _web_down(host: Host) -> str | None:
    units = [unit for unit in host.running() if not WORKER.match(unit)]
    if not units:
        return "no release was ever activated"
    state = host.unit(units[0]).get("ActiveState")
    return None if state == "active" else f"{units[0]} is {state}"


def _workers(host: Host) -> list[str]:
    return [unit for unit in host.running() if WORKER.match(unit)]


def _workers_down(host: Host) -> str | None:
    workers = _workers(host)
    down = [unit for unit in workers if host.unit(unit).get("ActiveState") != "active"]
    if not workers:
        return "there is no worker"
    return f"{', '.join(down)} {'is' if len(down) == 1 else 'are'} not running" if down else None


def _start_release(host: Host) -> None:
    for unit in host.running():
        if host.unit(unit).get("ActiveState") != "active":
            host.run("systemctl", "reset-failed", unit)
            host.run("systemctl", "start", unit)
    units = host.running()
    _wait(lambda: all(host.unit(unit).get("ActiveState") == "active" for unit in units))


def _failed(host: Host) -> str | None:
    units = host.failed_units()
    return f"failed: {', '.join(units)}" if units else None


def _mend_failed(host: Host) -> None:
    """Releases that have a successor are forgotten: those of the running one have been started before.

    A renewal is tried again: it asks for nothing that is not due.
    """
    for unit in host.failed_units():
        if unit == RENEWAL:
            _renew(host)
        if unit.startswith(("horizonai-bots@", "horizonai-bots-worker@")):
            host.run("systemctl", "reset-failed", unit)


def _beats(host: Host) -> str | None:
    wanted = len(_workers(host))
    release = Path(host.params["root"], "current").resolve().name
    found = [
        beat
        for beat in host.horizonctl("workers", "--json")["workers"]
        if str(beat.get("release", "")).startswith(release)
        and str(beat["id"]).rpartition(":")[0] == host.name()
    ]
    if len(found) < wanted:
        return f"{len(found)} of {wanted} workers of {release} say that they can work"
    return None


def _wait_beats(host: Host) -> None:
    _wait(lambda: _beats(host) is None)


# nginx and the network


def _nginx_wrong(host: Host) -> str | None:
    code, output = host.run("nginx", "-t", "-q")
    return f"nginx refuses its settings: {_last(output)}" if code else None


def _ports_closed(host: Host) -> str | None:
    held = {port for _, port in host.listeners()}
    closed = [str(port) for port in host.params["public_ports"] if port not in held]
    return f"nothing listens on port {' and '.join(closed)}" if closed else None


def _restart_nginx(host: Host) -> None:
    if _nginx_wrong(host) is None:
        host.run("systemctl", "restart", "nginx.service")


def _exposed(host: Host) -> str | None:
    wide = sorted(
        {
            f"{address}:{port}"
            for address, port in host.listeners()
            if port in host.params["private_ports"]
            and not address.startswith(LOOPBACK)
            and address not in host.params["private_addresses"]
        }
    )
    return f"reachable from other machines: {', '.join(wide)}" if wide else None


def _firewall_gone(host: Host) -> str | None:
    code, _ = host.run("nft", "list", "table", "inet", "horizonai_bots")
    return "the firewall's rules are not loaded" if code else None


def _unresolved(host: Host) -> str | None:
    lost = [name for name in host.params["outside_names"] if not host.resolve(name)]
    return f"{', '.join(lost)} cannot be resolved" if lost else None


def _domain_elsewhere(host: Host) -> str | None:
    wanted = set(host.params["addresses"])
    for domain in host.params["domains"]:
        found = host.resolve(domain)
        if not found:
            return f"{domain} has no address"
        if wanted and not found & wanted:
            return f"{domain} leads to {', '.join(sorted(found))}, not to this host"
    return None


def _certificate_wrong(host: Host) -> str | None:
    for domain in host.params["domains"]:
        found = host.certificate(domain)
        if found is None:
            return f"{domain} has no certificate that can be read"
        days, issuer = found
        if days < LEAST_CERTIFICATE_DAYS:
            return f"the certificate of {domain} ({issuer}) ends in {days:.0f} days"
    return None


def _not_served(host: Host) -> str | None:
    """A renewal that was broken off has told nginx nothing, which goes on with what it has read."""
    for domain in host.params["domains"]:
        if host.serves(domain) is False:
            return f"nginx serves another certificate of {domain} than the one on the disk"
    return None


def _reload_nginx(host: Host) -> None:
    # What nginx has read may be better than what is on the disk.
    if _certificate_wrong(host) is None and _nginx_wrong(host) is None:
        host.run("systemctl", "reload", "nginx.service")
        _wait(lambda: _not_served(host) is None)


def _renew(host: Host) -> None:
    # What its timer starts: it knows the proxy and the authority's root.
    host.run("systemctl", "start", RENEWAL)


# Files


def _permissions(host: Host) -> str | None:
    wrong = []
    for file in host.params["files"]:
        found = host.owner(file["path"])
        wanted = (file["owner"], file["group"], int(file["mode"], 8))
        if found is not None and found != wanted:
            wrong.append(f"{file['path']} is {found[0]}:{found[1]} {found[2]:04o}")
    return "; ".join(wrong) or None


def _set_permissions(host: Host) -> None:
    for file in host.params["files"]:
        if host.owner(file["path"]) is not None:
            host.run("chown", f"{file['owner']}:{file['group']}", file["path"])
            host.run("chmod", file["mode"], file["path"])


def _missing(host: Host) -> str | None:
    gone = [file["path"] for file in host.params["files"] if host.owner(file["path"]) is None]
    return f"{', '.join(gone)} is gone" if gone else None


def _make_folders(host: Host) -> None:
    host.run("systemd-tmpfiles", "--create", "horizonai-bots.conf")


def _foreign_files(host: Host) -> str | None:
    home, user = host.params["home"], host.params["user"]
    code, output = host.run("find", home, "-xdev", "!", "-user", user, "-print", "-quit")
    if code:
        raise UncheckedError(f"{home} cannot be searched")
    return f"{output.strip()} does not belong to {user}" if output.strip() else None


def _own_files(host: Host) -> None:
    home, user = host.params["home"], host.params["user"]
    host.run("chown", "--recursive", "--no-dereference", f"{user}:{user}", home)


def _release_broken(host: Host) -> str | None:
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
    return f"the release cannot be loaded: {_last(output)}" if code else None


def _full(host: Host) -> str | None:
    for path in host.params["disks"]:
        free_mb, share, inodes = host.free(path)
        if free_mb < MIN_FREE_MB or share < MIN_FREE_SHARE:
            return f"{path} has {free_mb:.0f} MB left ({share:.0%})"
        if inodes < MIN_FREE_SHARE:
            return f"{path} has {inodes:.0%} of its inodes left"
    return None


def _memory_short(host: Host) -> str | None:
    left = host.memory_mb()
    return f"{left:.0f} MB of memory are left" if left < MIN_MEMORY_MB else None


def _killed(host: Host) -> str | None:
    names = host.killed()
    return f"killed for lack of memory: {', '.join(names)}" if names else None


# The service


def _health(field: str, good: str, word: str) -> Callable[[Host], str | None]:
    def look(host: Host) -> str | None:
        value = host.health().get(field)
        return None if value == good else f"the service says: {word} {value}"

    return look


def _schema(host: Host) -> str | None:
    state = host.horizonctl("db", "current", "--json")
    return None if state.get("runs") else f"the database's schema is {state.get('state')}"


def _spooled(host: Host) -> str | None:
    health = host.health()
    waiting = health.get("spooled") or 0
    if waiting and health.get("redis") == "up":
        return f"{waiting} messages wait in the spool though Redis is there"
    return None


def _queue_old(host: Host) -> str | None:
    oldest = (host.health().get("queue") or {}).get("oldest_due_s") or 0
    return f"the oldest message has waited {oldest:.0f} s" if oldest > MOST_QUEUE_S else None


def _dead(host: Host) -> str | None:
    dead = (host.health().get("queue") or {}).get("dead") or 0
    return f"{dead} turns are dead" if dead else None


def _checked(*what: str) -> Callable[[Host], str | None]:
    def look(host: Host) -> str | None:
        wrong = [
            f"{each['whose']}: {each['message']}"
            for each in host.horizonctl("check", "--json")
            if each["what"] in what and not each["ok"]
        ]
        return "; ".join(wrong) or None

    return look


# Time


def _clock_off(host: Host) -> str | None:
    off = host.params["clock_off_s"]
    return f"the clock is {off:+.0f} s from the controller's" if abs(off) > MOST_CLOCK_S else None


def _unsynchronized(host: Host) -> str | None:
    if host.run("systemd-detect-virt", "--container", "--quiet")[0] == 0:
        # The clock is the machine's below.
        return None
    _, output = host.run("timedatectl", "show", "--property", "NTPSynchronized", "--value")
    return None if output.strip() == "yes" else "the clock is synchronized with nothing"


def _wait(condition: Callable[[], bool], within_s: float = 40) -> None:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except UncheckedError:
            pass
        time.sleep(1)


def _last(output: str) -> str:
    lines = output.strip().splitlines()
    return lines[-1] if lines else "it says nothing"


SITE = "ansible-playbook site.yml"
LOGS = "journalctl -u 'horizonai-bots@*', then ansible-playbook rollback.yml"
WORKER_LOGS = "journalctl -u 'horizonai-bots-worker@*', then ansible-playbook rollback.yml"


def _unit(name: str, unit: str, remedy: str) -> Check:
    return Check(name, _is_down(unit), remedy, _start(unit))


CHECKS = [
    Check("clock", _clock_off, "set the clock (timedatectl set-ntp true), or the controller's"),
    Check(
        "time synchronization",
        _unsynchronized,
        "timedatectl set-ntp true, and let UDP port 123 out",
        lambda host: host.run("timedatectl", "set-ntp", "true"),
    ),
    Check("disk", _full, "ansible-playbook cleanup.yml, or a larger disk"),
    Check("memory", _memory_short, "stop what else runs here, or take a larger machine"),
    Check("killed processes", _killed, "more memory, or fewer app_workers and app_worker_threads"),
    Check("names outside", _unresolved, "mend /etc/resolv.conf, or let port 53 out"),
    Check("domain", _domain_elsewhere, "point the domain's A and AAAA records to this host"),
    Check("folders", _missing, SITE, _make_folders),
    Check("permissions", _permissions, SITE, _set_permissions),
    Check("owner of the data", _foreign_files, SITE, _own_files),
    Check("release", _release_broken, "ansible-playbook deploy.yml"),
    _unit("firewall unit", "horizonai-bots-firewall.service", f"{SITE} --tags firewall"),
    Check(
        "firewall rules",
        _firewall_gone,
        f"{SITE} --tags firewall",
        lambda host: host.run("systemctl", "restart", "horizonai-bots-firewall.service"),
    ),
    _unit("Redis", "redis-server.service", "journalctl -u redis-server"),
    _unit("Sentinel", "redis-sentinel.service", "journalctl -u redis-sentinel"),
    Check("PostgreSQL", _postgresql_down, "journalctl -u 'postgresql*'", _start_postgresql),
    Check("start with the machine", _not_enabled, SITE, _enable),
    _unit("socket", "horizonai-bots.socket", f"{SITE} --tags app"),
    Check("web", _web_down, LOGS, _start_release),
    Check("workers", _workers_down, WORKER_LOGS, _start_release),
    Check("heartbeats", _beats, WORKER_LOGS, _wait_beats),
    Check("failed units", _failed, "systemctl status, then systemctl reset-failed", _mend_failed),
    Check("nginx's settings", _nginx_wrong, f"nginx -t, then {SITE} --tags nginx"),
    Check("nginx", _is_down("nginx.service"), "journalctl -u nginx", _restart_nginx),
    _unit("keepalived", "keepalived.service", "journalctl -u keepalived"),
    Check("public ports", _ports_closed, f"{SITE} --tags nginx", _restart_nginx),
    Check("private ports", _exposed, f"bind them to loopback: {SITE} --tags redis,postgresql"),
    Check("certificate", _certificate_wrong, f"{SITE} --tags certbot", _renew),
    Check("served certificate", _not_served, "systemctl reload nginx", _reload_nginx),
    _unit("renewal", "certbot.timer", f"{SITE} --tags certbot"),
    Check(
        "database", _health("db", "up", "the database is"), "see PostgreSQL, or app_database_url"
    ),
    Check(
        "Redis answers", _health("redis", "up", "Redis is"), "see Redis; vault_redis_app_password"
    ),
    Check("Redis keeps messages", _checked("redis", "sentinel"), f"{SITE} --tags redis"),
    Check("spool", _health("spool", "writable", "the spool is"), "free the disk; see permissions"),
    Check(
        "schema",
        _schema,
        "ansible-playbook deploy.yml; when it is empty, ansible-playbook restore.yml",
    ),
    Check(
        "spooled messages", _spooled, "journalctl -u 'horizonai-bots-worker@*' names what is stuck"
    ),
    Check("queue", _queue_old, "horizonctl workers; more app_workers"),
    Check("dead turns", _dead, "horizonctl dead list, then horizonctl dead retry"),
    Check("Twilio", _checked("twilio"), "the auth token in the vault, or the bot's own"),
    Check("OpenAI", _checked("openai"), "the key in the vault, or the bot's own; its billing"),
]


OF_PARTS = [
    (
        {"balancer"},
        (
            "domain",
            "nginx's settings",
            "nginx",
            "public ports",
            "certificate",
            "served certificate",
            "renewal",
        ),
    ),
    (
        {"web"},
        (
            "socket",
            "web",
            "database",
            "Redis answers",
            "spool",
            "spooled messages",
            "queue",
            "dead turns",
        ),
    ),
    ({"workers"}, ("workers", "heartbeats")),
    (
        {"web", "workers"},
        ("release", "owner of the data", "Redis keeps messages", "schema", "Twilio", "OpenAI"),
    ),
    ({"floating"}, ("keepalived",)),
    ({"redis"}, ("Redis",)),
    ({"sentinel"}, ("Sentinel",)),
    ({"database"}, ("PostgreSQL",)),
]
ANY_OF = {name: parts for parts, names in OF_PARTS for name in names}
"""Parts of which a host needs one for the check to make sense."""


def checks_of(params: dict[str, Any]) -> list[Check]:
    """Those that make sense for this host: for its parts, and without what is left out by name."""
    carried, without = set(params["parts"]), set(params["without"])
    return [
        check
        for check in CHECKS
        if check.name not in without and (check.name not in ANY_OF or ANY_OF[check.name] & carried)
    ]
