"""The checks of a host: what can be wrong, how it is told, and what is safe to mend.

A check looks and says what is wrong, or None. Its mend, where there is one, is safe to run twice and
loses nothing. Standard library only: this runs on the hosts.
"""

from __future__ import annotations

from typing import Any

from ansible.module_utils import horizon_look_machine as machine
from ansible.module_utils import horizon_look_network as network
from ansible.module_utils import horizon_look_service as service
from ansible.module_utils import horizon_look_units as units
from ansible.module_utils.horizon_check import Check

SITE = "ansible-playbook site.yml -i <inventory>"
LOGS = "journalctl -u 'horizonai-bots@*', then ansible-playbook rollback.yml -i <inventory>"
WORKER_LOGS = (
    "journalctl -u 'horizonai-bots-worker@*', then ansible-playbook rollback.yml -i <inventory>"
)


def _unit(name: str, unit: str, remedy: str) -> Check:
    return Check(name, units.is_down(unit), remedy, units.start(unit))


CHECKS = [
    Check(
        "clock", machine.clock_off, "set the clock (timedatectl set-ntp true), or the controller's"
    ),
    Check(
        "time synchronization",
        machine.unsynchronized,
        "timedatectl set-ntp true, and let UDP port 123 out",
        lambda host: host.run("timedatectl", "set-ntp", "true"),
    ),
    Check("disk", machine.full, "ansible-playbook cleanup.yml -i <inventory>, or a larger disk"),
    Check("memory", machine.memory_short, "stop what else runs here, or take a larger machine"),
    Check(
        "killed processes",
        machine.killed,
        "more memory, or fewer app_workers and app_worker_threads",
    ),
    Check("names outside", network.unresolved, "mend /etc/resolv.conf, or let port 53 out"),
    Check("domain", network.domain_elsewhere, "point the domain's A and AAAA records to this host"),
    Check("folders", machine.missing, SITE, machine.make_folders),
    Check("permissions", machine.permissions, SITE, machine.set_permissions),
    Check("owner of the data", machine.foreign_files, SITE, machine.own_files),
    Check("release", machine.release_broken, "ansible-playbook deploy.yml -i <inventory>"),
    _unit("firewall unit", "horizonai-bots-firewall.service", f"{SITE} --tags firewall"),
    Check(
        "firewall rules",
        network.firewall_gone,
        f"{SITE} --tags firewall",
        lambda host: host.run("systemctl", "restart", "horizonai-bots-firewall.service"),
    ),
    _unit("Redis", "redis-server.service", "journalctl -u redis-server"),
    _unit("Sentinel", "redis-sentinel.service", "journalctl -u redis-sentinel"),
    Check(
        "PostgreSQL", units.postgresql_down, "journalctl -u 'postgresql*'", units.start_postgresql
    ),
    Check("start with the machine", units.not_enabled, SITE, units.enable),
    _unit("socket", "horizonai-bots.socket", f"{SITE} --tags app"),
    Check("web", units.web_down, LOGS, units.start_release),
    Check("workers", units.workers_down, WORKER_LOGS, units.start_release),
    Check("heartbeats", units.beats, WORKER_LOGS, units.wait_beats),
    Check(
        "failed units",
        units.failed,
        "systemctl status, then systemctl reset-failed",
        units.mend_failed,
    ),
    Check("nginx's settings", network.nginx_wrong, f"nginx -t, then {SITE} --tags nginx"),
    Check("nginx", units.is_down("nginx.service"), "journalctl -u nginx", network.restart_nginx),
    _unit("keepalived", "keepalived.service", "journalctl -u keepalived"),
    Check("public ports", network.ports_closed, f"{SITE} --tags nginx", network.restart_nginx),
    Check(
        "private ports", network.exposed, f"bind them to loopback: {SITE} --tags redis,postgresql"
    ),
    Check("certificate", network.certificate_wrong, f"{SITE} --tags certbot", network.renew),
    Check("served certificate", network.not_served, "systemctl reload nginx", network.reload_nginx),
    _unit("renewal", "certbot.timer", f"{SITE} --tags certbot"),
    Check(
        "database",
        service.health("db", "up", "the database is"),
        "see PostgreSQL, or app_database_url",
    ),
    Check(
        "Redis answers",
        service.health("redis", "up", "Redis is"),
        "see Redis; vault_redis_app_password",
    ),
    Check("Redis keeps messages", service.checked("redis", "sentinel"), f"{SITE} --tags redis"),
    Check(
        "spool",
        service.health("spool", "writable", "the spool is"),
        "free the disk; see permissions",
    ),
    Check(
        "schema",
        service.schema,
        "ansible-playbook deploy.yml -i <inventory>; when it is empty, ansible-playbook restore.yml "
        "-i <inventory>",
    ),
    Check(
        "spooled messages",
        service.spooled,
        "journalctl -u 'horizonai-bots-worker@*' names what is stuck",
    ),
    Check("queue", service.queue_old, "horizonctl workers; more app_workers"),
    Check("dead turns", service.dead, "horizonctl dead list, then horizonctl dead retry"),
    Check("Twilio", service.checked("twilio"), "the auth token in the vault, or the bot's own"),
    Check(
        "OpenAI", service.checked("openai"), "the key in the vault, or the bot's own; its billing"
    ),
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
