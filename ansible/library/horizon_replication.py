#!/usr/bin/python
"""Ansible module: which Redis follows which, and the Sentinel that watches them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: horizon_replication
short_description: Redis follows the primary, and a Sentinel knows how many votes it takes
description:
  - O(step=look) says what this host's Redis is and what the Sentinels tell; it changes nothing.
  - O(step=follow) makes a Redis follow the primary when it follows nobody and has no data. One that has
    is left to the Sentinels, and when they leave it alone too, the module fails. It never demotes a
    primary that the Sentinels know, and never promotes.
  - O(step=sentinel) sets the quorum of this host's Sentinel, and has it forget those that are no longer
    among O(sentinels): they would count as votes. To be run on one host after another.
  - O(step=leave) has the Sentinels choose another primary when this host's Redis is it.
  - O(step=forget) has this host's Sentinel find its replicas and the other Sentinels anew.
options:
  step:
    description: What to do.
    type: str
    choices: [look, follow, sentinel, leave, forget]
    required: true
  host: {description: Address at which Redis is asked., type: str, default: 127.0.0.1}
  port: {description: Redis's port., type: int, default: 6379}
  admin_file:
    description: File with the password of Redis's user C(admin).
    type: path
    default: /etc/redis/horizonai-bots.admin
  address: {description: This host's own address among the others., type: str}
  primary: {description: The primary as C(host:port)., type: str}
  replication_password: {description: Password of Redis's user C(replication)., type: str}
  sentinels: {description: All Sentinels as C(host:port)., type: list, elements: str, default: []}
  name: {description: Name of the primary at the Sentinels., type: str, default: horizon}
  sentinel_password: {description: Password of the Sentinels' user C(sentinel)., type: str}
  info_period_ms: {description: How often Sentinel asks each Redis whom it follows., type: int}
  others: {description: Other Sentinels that it has to find again., type: int}
  gone: {description: Addresses of hosts that were taken away., type: list, elements: str, default: []}
  quorum: {description: Sentinels that have to agree that the primary is gone., type: int}
author:
  - Horizon
"""

EXAMPLES = r"""
- name: Redis follows the primary
  horizon_replication:
    step: follow
    address: 10.0.0.2
    primary: 10.0.0.1:6379
    replication_password: "{{ redis_replication_password }}"
"""

RETURN = r"""
role: {description: master, slave, or absent where no Redis runs., type: str, returned: for look}
keys: {description: How many keys it has., type: int, returned: for look}
follows: {description: Whom it follows as host:port; empty for nobody., type: str, returned: for look}
told:
  description: The newest that a Sentinel says, as epoch, host and port; empty when none says anything.
  type: list
  returned: for look
changes: {description: What was changed., type: list, returned: always}
"""

import time
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible.module_utils.horizon_redis_client import Redis, RedisError
from ansible.module_utils.horizon_sentinels import Told, ask, parse, url
from ansible.module_utils.horizon_surroundings import leave_login

LINK_WITHIN_S = 120
TAKEN_OVER_WITHIN_S = 25
ANSWER_WITHIN_S = 15
CHOSEN_WITHIN_S = 60
FOUND_WITHIN_S = 60
ARGUMENTS: dict[str, Any] = {
    "step": {
        "type": "str",
        "choices": ["look", "follow", "sentinel", "leave", "forget"],
        "required": True,
    },
    "host": {"type": "str", "default": "127.0.0.1"},
    "port": {"type": "int", "default": 6379},
    "admin_file": {"type": "path", "default": "/etc/redis/horizonai-bots.admin", "no_log": False},
    "address": {"type": "str"},
    "primary": {"type": "str"},
    "replication_password": {"type": "str", "no_log": True},
    "sentinels": {"type": "list", "elements": "str", "default": []},
    "name": {"type": "str", "default": "horizon"},
    "sentinel_password": {"type": "str", "no_log": True},
    "info_period_ms": {"type": "int"},
    "quorum": {"type": "int"},
    "others": {"type": "int"},
    "gone": {"type": "list", "elements": "str", "default": []},
}
LOGIN = {"masteruser": "replication"}


class ReplicationError(Exception):
    """It does not work out; the message says why, and what to do."""


def replication(redis: Redis) -> dict[str, str]:
    lines = redis.text("INFO", "replication").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def look(redis: Redis) -> dict[str, Any]:
    """What a Redis is."""
    told = replication(redis)
    follows = f"{told['master_host']}:{told['master_port']}" if told["role"] == "slave" else ""
    return {"role": told["role"], "keys": int(redis.text("DBSIZE")), "follows": follows}


def follow(
    connect: Callable[[], Redis], own: str, primary: str, password: str, *, check: bool
) -> list[str]:
    """Returns what was changed. Raises ReplicationError, RedisError, OSError."""
    changes = []
    with connect() as redis:
        found = look(redis)
        for name, value in {**LOGIN, "masterauth": password}.items():
            if redis.texts("CONFIG", "GET", name)[1] != value:
                changes.append(f"{name} is set")
                if not check:
                    redis.text("CONFIG", "SET", name, value)
        if primary != own and found["role"] == "master" and not found["keys"]:
            changes.append(f"Redis follows {primary}")
            if not check:
                host, port = parse(primary)
                redis.text("REPLICAOF", host, str(port))
        if changes and not check:
            redis.text("CONFIG", "REWRITE")
    if primary == own or check:
        return changes
    if found["role"] == "master" and found["keys"]:
        _wait(
            lambda: _asked(connect, look)["role"] == "slave",
            TAKEN_OVER_WITHIN_S,
            f"This Redis has {found['keys']} keys, the primary is {primary}, and no Sentinel makes one "
            "follow the other. Remedy: when these keys are not needed, empty it: sudo sh -c "
            "'REDISCLI_AUTH=$(cat /etc/redis/horizonai-bots.admin) redis-cli --user admin FLUSHALL'",
        )
    _wait(
        lambda: _asked(connect, replication).get("master_link_status") == "up",
        LINK_WITHIN_S,
        f"Redis does not reach {primary}, which it follows. Remedy: look at its log (journalctl -u "
        "redis-server) and at the firewall there (ansible-playbook site.yml -i <inventory> --tags firewall).",
    )
    return changes


def _asked(connect: Callable[[], Redis], question: Callable[[Redis], Any]) -> Any:
    """On a connection of its own: Sentinels end those of a Redis whose part they change."""
    with connect() as redis:
        return question(redis)


def set_quorum(sentinel: Redis, name: str, quorum: int, *, check: bool) -> list[str]:
    """Returns what was changed."""
    if sentinel.pairs("SENTINEL", "MASTER", name)["quorum"] == str(quorum):
        return []
    if not check:
        sentinel.text("SENTINEL", "SET", name, "quorum", str(quorum))
    return [f"{quorum} Sentinels have to agree"]


def set_info_period(sentinel: Redis, wanted_ms: int, *, check: bool) -> list[str]:
    """How often it asks who follows whom. No file keeps it; the unit says it at each start."""
    if sentinel.pairs("SENTINEL", "DEBUG")["INFO-PERIOD"] == str(wanted_ms):
        return []
    if not check:
        sentinel.text("SENTINEL", "DEBUG", "INFO-PERIOD", str(wanted_ms))
    return [f"Sentinel asks every {wanted_ms} ms who follows whom"]


def forget_gone(params: dict[str, Any], sentinel: Redis, *, check: bool) -> list[str]:
    """Returns what was changed. Raises ReplicationError.

    A machine that is gone for good counts as one more Sentinel until it is forgotten, and the rest may be
    too few to choose a primary. While one is being chosen nothing is forgotten.
    """
    # By their addresses: as many as there should be may hold a lost one while a new one is not heard of yet.
    ours = {_plain(*parse(each)) for each in params["sentinels"]}
    known = sentinel.records("SENTINEL", "SENTINELS", params["name"])
    gone = {_plain(each["ip"], each["port"]) for each in known} - ours
    if not gone or sentinel.pairs("SENTINEL", "MASTER", params["name"])["flags"] != "master":
        return []
    others, hosts = len(ours) - 1, [host for host, _ in gone]
    return forget({**params, "others": others, "gone": hosts}, check=check)


def leave(params: dict[str, Any], *, check: bool) -> list[str]:
    """Returns what was changed. Raises ReplicationError."""
    told = _told(params)
    if told is None:
        raise ReplicationError(
            "No Sentinel tells which Redis is the primary, and it may be this one. Remedy: when "
            "vault_redis_sentinel_password was changed, run ansible-playbook site.yml -i <inventory> first; "
            "else journalctl -u redis-sentinel on the hosts of redis."
        )
    if told.address[0] != params["address"]:
        return []
    if not check:
        _wait(
            lambda: _has_left(params),
            CHOSEN_WITHIN_S,
            "The Sentinels choose no other primary. Remedy: `horizonctl check` on a host of web names those "
            "that do not answer; run this again when all do, and when the other hosts of redis follow.",
        )
    return ["another Redis is the primary"]


def _has_left(params: dict[str, Any]) -> bool:
    """Whether all Sentinels name another one; as long as the newest answer is this host, they are asked."""
    # All: one that had not heard of it, made to forget its replicas, could choose none.
    answers = _answers(params)
    if answers and max(answers).address[0] == params["address"]:
        _begin_fail_over(params)
        return False
    return params["address"] not in ({each.address[0] for each in answers} or {params["address"]})


def _begin_fail_over(params: dict[str, Any]) -> None:
    """By any Sentinel that names this host as the primary: its own may not run."""
    for each in params["sentinels"]:
        told = ask(parse(each), params["name"], "sentinel", params["sentinel_password"])
        if told is None or told.address[0] != params["address"]:
            continue
        try:
            with Redis(url(parse(each), "sentinel", params["sentinel_password"])) as sentinel:
                sentinel.text("SENTINEL", "FAILOVER", params["name"])
        except RedisError as error:
            # One runs, or it has not heard for three periods of a replica that could lead.
            if str(error).split(maxsplit=1)[0] not in {"NOGOODSLAVE", "INPROG"}:
                raise
        except OSError:
            continue
        return


def forget(params: dict[str, Any], *, check: bool) -> list[str]:
    """Returns what was changed. Raises ReplicationError.

    For some seconds a Sentinel that was reset knows no replica. It could elect none, and who asks it alone
    would take one that follows for one that does not.
    """
    if not check:
        gone = {str(ip_address(host)) for host in params["gone"]}
        with _sentinel(params) as sentinel:
            before = {each for each in _alive(sentinel, params["name"]) if each[0] not in gone}
            sentinel.text("SENTINEL", "RESET", params["name"])
            _wait(
                lambda: (
                    sentinel.pairs("SENTINEL", "MASTER", params["name"])["num-other-sentinels"]
                    == str(params["others"])
                    and before <= _alive(sentinel, params["name"])
                ),
                FOUND_WITHIN_S,
                "A Sentinel does not find the others again. Remedy: journalctl -u redis-sentinel there.",
            )
    return ["a Sentinel has forgotten what is gone"]


def _alive(sentinel: Redis, name: str) -> set[tuple[str, int]]:
    """The replicas that it knows and takes for alive."""
    found = sentinel.records("SENTINEL", "REPLICAS", name)
    return {_plain(each["ip"], each["port"]) for each in found if "down" not in each["flags"]}


def _plain(host: str, port: int | str) -> tuple[str, int]:
    """In one spelling."""
    return str(ip_address(host)), int(port)


def _told(params: dict[str, Any]) -> Told | None:
    return max(_answers(params), default=None)


def _answers(params: dict[str, Any]) -> list[Told]:
    answers = (
        ask(parse(each), params["name"], "sentinel", params["sentinel_password"])
        for each in params["sentinels"]
    )
    return [answer for answer in answers if answer is not None]


def _wait(condition: Callable[[], bool], within_s: float, else_: str) -> None:
    deadline = time.monotonic() + within_s
    while not _holds(condition):
        if time.monotonic() > deadline:
            raise ReplicationError(else_)
        time.sleep(0.5)


def _holds(condition: Callable[[], bool]) -> bool:
    try:
        return condition()
    except OSError:
        return False


def _admin(params: dict[str, Any]) -> Redis:
    password = Path(params["admin_file"]).read_text().strip()
    return Redis(url((params["host"], params["port"]), "admin", password))


def _looked(params: dict[str, Any]) -> dict[str, Any]:
    found = {"role": "absent", "keys": 0, "follows": ""}
    if Path(params["admin_file"]).exists():
        with _admin(params) as redis:
            found = look(redis)
    told = _told(params)
    return {**found, "told": [told.epoch, *told.address] if told else [], "changes": []}


def _sentinel(params: dict[str, Any]) -> Redis:
    """This host's own, which may have been started a moment ago."""
    own = next(each for each in params["sentinels"] if parse(each)[0] == params["address"])
    deadline = time.monotonic() + ANSWER_WITHIN_S
    while True:
        try:
            return Redis(url(parse(own), "sentinel", params["sentinel_password"]))
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def run(params: dict[str, Any], *, check: bool) -> dict[str, Any]:
    """Raises ReplicationError, RedisError, OSError."""
    if params["step"] == "look":
        return _looked(params)
    if params["step"] == "leave":
        return {"changes": leave(params, check=check)}
    if params["step"] == "forget":
        return {"changes": forget(params, check=check)}
    if params["step"] == "sentinel":
        with _sentinel(params) as sentinel:
            changes = set_quorum(sentinel, params["name"], params["quorum"], check=check)
            changes += set_info_period(sentinel, params["info_period_ms"], check=check)
            return {"changes": changes + forget_gone(params, sentinel, check=check)}
    if check and not Path(params["admin_file"]).exists():
        return {"changes": [f"Redis follows {params['primary']}"]}
    own = f"[{params['address']}]" if ":" in params["address"] else params["address"]
    changes = follow(
        lambda: _admin(params),
        f"{own}:{params['port']}",
        params["primary"],
        params["replication_password"],
        check=check,
    )
    return {"changes": changes}


def main() -> None:
    """Ansible's entry."""
    leave_login()
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    try:
        told = run(module.params, check=module.check_mode)
    except (ReplicationError, RedisError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(told["changes"]), **told)


if __name__ == "__main__":
    main()
