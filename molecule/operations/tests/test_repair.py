"""Every fault that repair.yml claims to find is made on the machine once: it is mended, or named."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from conftest import DOMAIN, MACHINE, NUMBER, answers, ctl, told, write
from machine import Run, made, on, playbook, typed, vendors, wait_for
from message import tell_vendor

from ansible.module_utils.horizon_checks import ANY_OF, CHECKS

WEB, WORKERS = "'horizonai-bots@*'", "'horizonai-bots-worker@*'"
REDIS_FILE = "/etc/redis/horizonai-bots.conf"
ENV_FILE = "/etc/horizonai-bots/env"
PROGRAMS = "/usr/local/bin"
BROKEN = "/run/systemd/system/horizonai-bots-backup.service.d"
DATABASE = "horizonai_bots"
SPOOL = "/var/lib/horizonai-bots/spool"
TLS = f"/etc/horizonai-bots/tls/{DOMAIN}.crt"
FULL = "/var/log/nginx"

UNITS = {
    "socket": "systemctl stop horizonai-bots.socket",
    "web": f"systemctl stop {WEB}",
    "workers": f"systemctl stop {WORKERS}",
    "Redis": "systemctl stop redis-server.service",
    "PostgreSQL": "systemctl kill --signal=KILL 'postgresql@*.service'",
    "nginx": "systemctl stop nginx.service",
    "firewall rules": "nft delete table inet horizonai_bots",
    "firewall unit": "systemctl stop horizonai-bots-firewall.service",
    "renewal": "systemctl stop certbot.timer",
    "start with the machine": "systemctl disable nginx.service",
}
FILES = {
    "permissions": f"chmod 0644 {ENV_FILE}",
    "owner of the data": "touch /var/lib/horizonai-bots/of-root",
    "folders": "rm -r /run/horizonai-bots/metrics",
}


def _in_env(name: str, value: str) -> tuple[str, str]:
    return (
        f"cp -p {ENV_FILE} {ENV_FILE}.{name} && sed -i 's|^{name}=.*|{name}={value}|' {ENV_FILE}",
        f"mv {ENV_FILE}.{name} {ENV_FILE}",
    )


def _sql(*statements: str, database: str = DATABASE) -> str:
    words = " ".join(f'-c "{statement}"' for statement in statements)
    return f"setpriv --reuid=postgres --clear-groups psql --quiet {database} {words}"


def _stand_in(program: str, script: str) -> tuple[str, str]:
    """What no container can be brought to do is said by a program in the place of the real one."""
    file = f"{PROGRAMS}/{program}"
    return f"printf '#!/bin/sh\\n{script}\\n' >{file} && chmod 755 {file}", f"rm {file}"


BESIDE = {
    "time synchronization": _stand_in("systemd-detect-virt", "exit 1"),
    "disk": (f"mount -t tmpfs -o size=1m tmpfs {FULL}", f"umount {FULL}"),
    "memory": (
        "sed 's/^MemAvailable:.*/MemAvailable: 20000 kB/' /proc/meminfo >/run/meminfo "
        "&& mount --bind /run/meminfo /proc/meminfo",
        "umount /proc/meminfo",
    ),
    "killed processes": _stand_in("journalctl", 'echo "Killed process 42 (gunicorn)"'),
    "private ports": (
        "systemd-run --quiet --unit=exposed python3 -m http.server 6379 --bind "
        "$(hostname --all-ip-addresses | cut -d' ' -f1)",
        "systemctl stop exposed.service",
    ),
    "certificate": (
        f"cp -P {TLS} {TLS}.kept && rm {TLS} && openssl req -x509 -newkey rsa:2048 -nodes -days 3 "
        f"-subj /CN={DOMAIN} -keyout /dev/null -out {TLS} 2>/dev/null",
        f"mv {TLS}.kept {TLS}",
    ),
    "failed units": (
        f"mkdir -p {BROKEN} && printf '[Service]\\nExecStart=\\nExecStart=false\\n' >{BROKEN}/broken.conf "
        "&& systemctl daemon-reload; systemctl start horizonai-bots-backup.service || true",
        f"rm -r {BROKEN} && systemctl daemon-reload && systemctl start horizonai-bots-backup.service",
    ),
    "Redis keeps messages": (
        f"sed -i.kept 's/^maxmemory-policy .*/maxmemory-policy volatile-ttl/' {REDIS_FILE} "
        "&& systemctl restart redis-server.service",
        f"mv {REDIS_FILE}.kept {REDIS_FILE} && systemctl restart redis-server.service",
    ),
}
OUTSIDE = {
    "names outside": (
        "cp /etc/resolv.conf /run/resolv.conf && echo nameserver 127.0.0.9 >/etc/resolv.conf",
        "cat /run/resolv.conf >/etc/resolv.conf",
    ),
    "public ports": (
        "mv /etc/nginx/sites-enabled /etc/nginx/kept && mkdir /etc/nginx/sites-enabled "
        "&& systemctl restart nginx.service",
        "rmdir /etc/nginx/sites-enabled && mv /etc/nginx/kept /etc/nginx/sites-enabled "
        "&& systemctl restart nginx.service",
    ),
    "release": (
        "mv $(readlink -f /opt/horizonai-bots/current)/service/app.py /opt/horizonai-bots/kept.py",
        "mv /opt/horizonai-bots/kept.py $(readlink -f /opt/horizonai-bots/current)/service/app.py",
    ),
    "schema": (
        _sql("UPDATE alembic_version SET version_num = 'x' || version_num"),
        _sql("UPDATE alembic_version SET version_num = substr(version_num, 2)"),
    ),
    "Twilio": _in_env("TWILIO_AUTH_TOKEN", "wrong"),
    "OpenAI": _in_env("OPENAI_BASE_URL", "http://127.0.0.1:9"),
}
STORES = {
    "database": (
        _sql(
            f"ALTER DATABASE {DATABASE} ALLOW_CONNECTIONS false",
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname <> current_database()",
            database="postgres",
        ),
        _sql(f"ALTER DATABASE {DATABASE} ALLOW_CONNECTIONS true", database="postgres"),
    ),
    "Redis answers": (
        "kill -STOP $(systemctl show -P MainPID redis-server.service)",
        "kill -CONT $(systemctl show -P MainPID redis-server.service)",
    ),
    "spool": (f"chmod 0500 {SPOOL}", f"chmod 0700 {SPOOL}"),
}


@contextmanager
def broken(faults: Mapping[str, tuple[str, str]]) -> Iterator[None]:
    """The machine while it has these faults."""
    with ExitStack() as mends:
        for breaks, mend in faults.values():
            mends.callback(on, MACHINE, mend)
            on(MACHINE, breaks)
        yield


def _is_named(run: Run, faults: Iterable[str]) -> None:
    left = told(run.output).partition("Left to do: ")[2]
    print(told(run.output.partition("Findings of every host")[2]))
    missing = [name for name in faults if f": {name}" not in left]
    assert run.code != 0
    assert not missing, (missing, left, run.output)


def _works_again() -> None:
    run = playbook("repair.yml")
    assert run.code == 0, run.output
    assert answers()


def test_a_healthy_machine_has_nothing_to_mend() -> None:
    run = playbook("repair.yml")

    assert (run.code, run.changed) == (0, 0), run.output
    print(run.output.partition("Findings of every host")[2].partition("TASK")[0])


@pytest.mark.parametrize("faults", [UNITS, FILES], ids=["units", "files"])
def test_what_is_safe_is_mended(faults: dict[str, str]) -> None:
    for breaks in faults.values():
        on(MACHINE, breaks)
    looked = playbook("repair.yml", mend=False)
    _is_named(looked, faults)

    mended = playbook("repair.yml")

    assert mended.code == 0, mended.output
    assert mended.output.count("Mended.") >= len(faults)
    assert answers()
    on(MACHINE, "rm -f /var/lib/horizonai-bots/of-root")


def test_what_is_wrong_beside_the_service_is_named(tmp_path: Path) -> None:
    """Two minutes between the clocks are made by the controller's."""
    (tmp_path / "date").write_text(f"#!/bin/sh\necho {int(time.time()) - 120}\n")
    (tmp_path / "date").chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    openai = vendors()["openai"]
    refusal = {"kind": "status", "status": 401, "times": None, "path": "*/responses"}
    tell_vendor(openai, "faults", refusal)
    write(NUMBER, "nadie contesta")
    wait_for(lambda: ctl("health")["queue"]["dead"] > 0, 120, "a dead turn")
    tell_vendor(openai, "faults", {}, "DELETE")
    try:
        with broken(BESIDE):
            run = playbook(
                "repair.yml",
                environment={"PATH": path},
                app_repair_disks=["/", FULL],
                app_repair_addresses=["192.0.2.1"],
                app_repair_from_outside=True,
            )
    finally:
        typed(MACHINE, "sudo horizonctl dead retry --all")

    # nginx goes on with what it has read: it is better than what is on the disk.
    told_beside = {"clock", "domain", "dead turns", "webhook from outside", "served certificate"}
    _is_named(run, {*BESIDE, *told_beside})
    wait_for(lambda: ctl("health")["queue"]["dead"] == 0, 120, "no dead turn")
    _works_again()


def test_what_is_wrong_with_the_release_and_its_surroundings_is_named() -> None:
    with broken(OUTSIDE):
        run = playbook(
            "repair.yml", app_repair_without=[], app_repair_outside_names=[DOMAIN, "nobody.invalid"]
        )

    _is_named(run, OUTSIDE)
    _works_again()


def test_settings_that_nginx_refuses_are_named_and_it_goes_on() -> None:
    file = "/etc/nginx/conf.d/nonsense.conf"
    with broken({"": (f"echo 'nonsense;' >{file}", f"rm {file}")}):
        run = playbook("repair.yml")
        assert answers()

    _is_named(run, ("nginx's settings",))


def test_workers_that_hang_are_named_with_what_waits_for_them() -> None:
    hang = (f"systemctl kill --signal=STOP {WORKERS}", f"systemctl kill --signal=CONT {WORKERS}")
    user = "horizon"
    redis = f"REDISCLI_AUTH={made()['vault_redis_app_password']} redis-cli --user {user}"
    with broken({"heartbeats": hang}):
        write(NUMBER, "nadie mira")
        long_ago = int((time.time() - 3600) * 1000)
        on(MACHINE, f"{redis} ZADD hb:clients XX {long_ago} la-cocina")
        time.sleep(21)  # A sign of life counts for 20 s.
        run = playbook("repair.yml")

    _is_named(run, ("heartbeats", "queue"))
    _works_again()


def test_messages_that_stay_in_the_spool_are_named() -> None:
    full = (
        f"sed -i.kept 's/^maxmemory .*/maxmemory 1/' {REDIS_FILE} && systemctl restart redis-server.service",
        f"mv {REDIS_FILE}.kept {REDIS_FILE} && systemctl restart redis-server.service",
    )
    with broken({"spooled messages": full}):
        write(NUMBER, "en espera")
        run = playbook("repair.yml")

    _is_named(run, ("spooled messages",))
    _works_again()


def test_stores_that_do_not_answer_are_named() -> None:
    with broken(STORES):
        run = playbook("repair.yml", mend=False)

    _is_named(run, STORES)
    _works_again()


def test_a_check_run_mends_nothing() -> None:
    on(MACHINE, "systemctl stop nginx.service")

    run = playbook("repair.yml", "--check")

    assert "to mend" in run.output
    assert on(MACHINE, "systemctl is-active nginx.service || true").strip() == "inactive"
    _works_again()


def test_no_check_is_left_out_here() -> None:
    made_here = {*UNITS, *FILES, *BESIDE, *OUTSIDE, *STORES} | {
        "clock",
        "domain",
        "dead turns",
        "served certificate",
        "nginx's settings",
        "heartbeats",
        "queue",
        "spooled messages",
    }
    # One server has neither a Sentinel nor an address that floats.
    several = {"sentinel", "floating"}
    asked = {check.name for check in CHECKS if not several & ANY_OF.get(check.name, set())}
    assert asked == made_here
