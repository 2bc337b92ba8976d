#!/usr/bin/python
"""Ansible module: the users and settings of a Redis server, changed while it runs where possible."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import shlex
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible.module_utils.horizon_surroundings import leave_login

DOCUMENTATION = r"""
module: horizon_redis
short_description: Users and settings of a Redis server, changed while it runs where possible
description:
  - Keeps the users in the file that the directive C(aclfile) names, with hashes of their passwords,
    and loads it into the running server. Users that are not named here are left alone.
  - Compares what users may do, not how a file says it, so what C(ACL SAVE) writes is not undone.
  - Sets what the settings file says and the running server does not have. What cannot be changed
    while it runs, or cannot be reached, is returned in C(restart).
  - When the server still takes anybody and keeps no append-only file, makes it write one first, so
    that its data outlive the restart.
options:
  config_file:
    description: Our settings, one directive a line; it names the port, the addresses and the ACL file.
    type: path
    required: true
  admin_file:
    description: File with the password of the user C(admin), made when it is missing. For root alone.
    type: path
    required: true
  users:
    description: Users as C(ACL SETUSER) takes them.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name.
        type: str
        required: true
      password:
        description: Password; a user without one cannot log in.
        type: str
      rules:
        description: What it may do.
        type: str
        required: true
  owner:
    description: Owner and group of the ACL file.
    type: str
    default: redis
author:
  - Horizon
"""

EXAMPLES = r"""
- name: Redis has the users and settings
  horizon_redis:
    config_file: /etc/redis/horizonai-bots.conf
    admin_file: /etc/redis/horizonai-bots.admin
    users:
      - name: horizon
        password: "{{ redis_app_password }}"
        rules: on ~hb:* &hb:* +@all -@dangerous
"""

RETURN = r"""
changes:
  description: What was changed, one sentence each, without secrets.
  type: list
  returned: always
restart:
  description: Why the server has to be restarted; empty when it need not be.
  type: list
  returned: always
overcommit:
  description: The kernel's vm.overcommit_memory.
  type: str
  returned: always
"""

ADMIN = "admin"
TIMEOUT_S = 5
REWRITE_TIMEOUT_S = 300
UNITS = {"k": 1000, "kb": 1024, "m": 1000**2, "mb": 1024**2, "g": 1000**3, "gb": 1024**3}
SPOKEN_OTHERWISE = {"sanitize-payload", "resetchannels"}
"""What some versions say of every user and others leave out."""


class RedisError(Exception):
    """The server's own words for a refusal."""


class Redis:
    """One connection, with the few lines of protocol that are needed."""

    def __init__(self, family: socket.AddressFamily, address: Any) -> None:
        self._socket = socket.socket(family)
        self._socket.settimeout(TIMEOUT_S)
        self._socket.connect(address)
        self._answers = self._socket.makefile("rb")

    def __call__(self, *words: str) -> Any:
        """Send one command. Raises RedisError, OSError."""
        parts = [f"*{len(words)}\r\n".encode()]
        for word in words:
            raw = word.encode()
            parts.append(b"$%d\r\n%s\r\n" % (len(raw), raw))
        self._socket.sendall(b"".join(parts))
        return self._answer()

    def _answer(self) -> Any:
        line = self._answers.readline()
        if not line:
            raise ConnectionError("the connection was closed")
        kind, rest = line[:1], line[1:].rstrip(b"\r\n").decode()
        if kind == b"-":
            raise RedisError(rest)
        if kind == b"$":
            return None if rest == "-1" else self._answers.read(int(rest) + 2)[:-2].decode()
        if kind == b"*":
            return [self._answer() for _ in range(int(rest))]
        return rest

    def close(self) -> None:
        self._answers.close()
        self._socket.close()


def read_config(text: str) -> dict[str, str]:
    """Directives and their values, as CONFIG SET takes them."""
    config = {}
    for line in text.splitlines():
        words = shlex.split(line, comments=line.lstrip().startswith("#"))
        if words:
            config[words[0].lower()] = " ".join(words[1:])
    return config


def same_value(wanted: str, held: str) -> bool:
    """Whether two values of a setting mean the same: 64mb is 67108864."""
    return _bytes(wanted) == _bytes(held)


def _bytes(value: str) -> str:
    found = re.fullmatch(r"(\d+)([kmg]b?)", value.lower())
    return str(int(found[1]) * UNITS[found[2]]) if found else value


def user_line(user: Mapping[str, Any]) -> str:
    """The rules of a user with the hash of the password, as an ACL file has them."""
    hashed = (
        f" #{hashlib.sha256(user['password'].encode()).hexdigest()}" if user.get("password") else ""
    )
    return f"reset{hashed} {user['rules']}"


def read_users(text: str) -> dict[str, str]:
    """Names and rules of an ACL file, or of ACL LIST."""
    users = {}
    for line in text.splitlines():
        words = line.split(maxsplit=2)
        if len(words) > 1 and words[0] == "user":
            users[words[1]] = words[2] if len(words) > 2 else ""
    return users


def plain(rules: str) -> str:
    """Rules to compare: sorted, as Redis 7.0 lists them in a new order each time it is started."""
    return " ".join(sorted(word for word in rules.split() if word not in SPOKEN_OTHERWISE))


@contextlib.contextmanager
def scratch_server() -> Iterator[Redis]:
    """A Redis without data, network or users, to ask what rules mean. Raises OSError."""
    with tempfile.TemporaryDirectory(prefix="horizon-redis-") as folder:
        path = f"{folder}/socket"
        arguments = ["redis-server", "--port", "0", "--unixsocket", path, "--dir", folder]
        arguments += ["--save", "", "--logfile", f"{folder}/log"]
        server = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
        )
        try:
            connection = _connect_when_ready(server, path, f"{folder}/log")
            try:
                yield connection
            finally:
                connection.close()
        finally:
            server.kill()
            server.wait()


def _connect_when_ready(server: subprocess.Popen[bytes], path: str, log: str) -> Redis:
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        try:
            return Redis(socket.AF_UNIX, path)
        except OSError:
            if server.poll() is not None or time.monotonic() > deadline:
                told = Path(log).read_text(errors="replace")[-500:] if Path(log).exists() else ""
                raise OSError(f"a scratch redis-server does not start: {told}") from None
            time.sleep(0.01)


def canonical(users: Mapping[str, str]) -> dict[str, str]:
    """The rules as this version of Redis says them. Raises RedisError, OSError."""
    with scratch_server() as redis:
        for name, rules in users.items():
            try:
                redis("ACL", "SETUSER", f"u:{name}", "reset", *rules.split())
            except RedisError as error:
                raise RedisError(f"user {name}: {error}") from None
        listed = read_users("\n".join(redis("ACL", "LIST")))
    return {name.removeprefix("u:"): listed[name] for name in listed if name.startswith("u:")}


class Run:
    """One run of the module."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.changes: list[str] = []
        self.restart: list[str] = []
        self.config = read_config(Path(module.params["config_file"]).read_text())
        self.acl_file = Path(self.config["aclfile"])
        self.wanted: dict[str, str] = {}
        self._earlier: str | None = None

    def run(self) -> None:
        password = self._admin_password()
        users = [
            *self.module.params["users"],
            {"name": ADMIN, "password": password, "rules": "on ~* &* +@all"},
        ]
        wanted = {user["name"]: user_line(user) for user in users}
        held = read_users(self.acl_file.read_text() if self.acl_file.exists() else "")
        known = canonical({**wanted, **{f"held:{name}": rules for name, rules in held.items()}})
        self.wanted = {name: plain(known[name]) for name in wanted}
        self._write_users(held, known)
        self._change_live(password)

    def _admin_password(self) -> str:
        path = Path(self.module.params["admin_file"])
        if path.exists():
            return path.read_text().strip()
        password = secrets.token_urlsafe(32)
        self.changes.append(f"{path} holds the password of {ADMIN}")
        if not self.module.check_mode:
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(password + "\n")
        return password

    def _write_users(self, held: Mapping[str, str], known: Mapping[str, str]) -> None:
        differ = [
            name
            for name, rules in self.wanted.items()
            if name not in held or plain(known[f"held:{name}"]) != rules
        ]
        if differ:
            self.changes.append(f"{self.acl_file} has the users {', '.join(differ)}")
            if not self.module.check_mode:
                merged = {**held, **{name: known[name] for name in self.wanted}}
                text = "".join(f"user {name} {merged[name]}\n" for name in sorted(merged))
                self._earlier = self.acl_file.read_text() if self.acl_file.exists() else None
                self._replace(text)
        if self.acl_file.exists() and self._own():
            self.changes.append(f"{self.acl_file} belongs to {self.module.params['owner']} alone")

    def _replace(self, text: str) -> None:
        folder = self.acl_file.parent
        with tempfile.NamedTemporaryFile("w", dir=folder, delete=False) as file:
            file.write(text)
        self.module.set_owner_if_different(file.name, self.module.params["owner"], False)
        self.module.set_group_if_different(file.name, self.module.params["owner"], False)
        self.module.set_mode_if_different(file.name, "0640", False)
        self.module.atomic_move(file.name, str(self.acl_file))

    def _own(self) -> bool:
        path, owner = str(self.acl_file), self.module.params["owner"]
        changed = self.module.set_owner_if_different(path, owner, False)
        changed = self.module.set_group_if_different(path, owner, changed)
        return bool(self.module.set_mode_if_different(path, "0640", changed))

    def _change_live(self, password: str) -> None:
        address = self.config.get("bind", "127.0.0.1").split()[0].lstrip("-")
        address = {"*": "127.0.0.1", "0.0.0.0": "127.0.0.1"}.get(address, address)  # noqa: S104
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            redis = Redis(family, (address, int(self.config.get("port", 6379))))
        except OSError as error:
            self.restart.append(f"Redis does not listen there yet ({error.strerror or error})")
            return
        with contextlib.closing(redis):
            try:
                redis("AUTH", ADMIN, password)
            except RedisError:
                self.restart.append("Redis does not know its users yet")
                self._keep_data(redis)
                return
            self._set_live(redis)
            self._load_users(redis)

    def _keep_data(self, redis: Redis) -> None:
        """A server as the distribution starts it: its data must be in an append-only file first."""
        try:
            if self.module.check_mode or redis("CONFIG", "GET", "appendonly")[1] == "yes":
                return
            redis("CONFIG", "SET", "appendonly", "yes")
            deadline = time.monotonic() + REWRITE_TIMEOUT_S
            while re.search(r"aof_rewrite_(in_progress|scheduled):1", redis("INFO", "persistence")):
                if time.monotonic() > deadline:
                    raise RedisError(f"no append-only file was made in {REWRITE_TIMEOUT_S} s")
                time.sleep(0.05)
            if "aof_last_bgrewrite_status:ok" not in redis("INFO", "persistence"):
                raise RedisError("the append-only file could not be written: see Redis's log")
        except RedisError as error:
            if str(error).startswith(("NOAUTH", "NOPERM")):
                return
            raise
        self.changes.append("Redis keeps its data in an append-only file")

    def _set_live(self, redis: Redis) -> None:
        for name, value in self.config.items():
            held = redis("CONFIG", "GET", name)
            if len(held) != 2:
                self.restart.append(f"{name} is not known to the running server")
            elif not same_value(value, held[1]):
                self._set(redis, name, value, held[1])

    def _set(self, redis: Redis, name: str, value: str, held: str) -> None:
        if not self.module.check_mode:
            try:
                redis("CONFIG", "SET", name, value)
            except RedisError:
                self.restart.append(f"{name} cannot be changed while Redis runs")
                return
            # Limits of one class of clients are shown together with the others.
            if redis("CONFIG", "GET", name)[1] == held:
                return
        self.changes.append(f"{name} is {value}")

    def _load_users(self, redis: Redis) -> None:
        live = read_users("\n".join(redis("ACL", "LIST")))
        differ = [name for name, rules in self.wanted.items() if plain(live.get(name, "")) != rules]
        if not differ:
            return
        self.changes.append(f"Redis knows the users {', '.join(differ)}")
        if self.module.check_mode:
            return
        try:
            redis("ACL", "LOAD")
        except RedisError:
            if self._earlier is not None:
                self._replace(self._earlier)
            raise


def main() -> None:
    leave_login()
    module = AnsibleModule(
        argument_spec={
            "config_file": {"type": "path", "required": True},
            "admin_file": {"type": "path", "required": True, "no_log": False},
            "users": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "password": {"type": "str", "no_log": True},
                    "rules": {"type": "str", "required": True},
                },
            },
            "owner": {"type": "str", "default": "redis"},
        },
        supports_check_mode=True,
    )
    overcommit = Path("/proc/sys/vm/overcommit_memory").read_text().strip()
    bare: Sequence[str] = ()
    if module.check_mode and not (
        shutil.which("redis-server") and Path(module.params["config_file"]).exists()
    ):
        bare = ["Redis gets its users and settings once it is installed"]
        module.exit_json(changed=True, changes=bare, restart=[], overcommit=overcommit)
    try:
        run = Run(module)
        run.run()
    except (RedisError, OSError) as error:
        module.fail_json(msg=f"Redis could not be set up: {error}")
    module.exit_json(
        changed=bool(run.changes), changes=run.changes, restart=run.restart, overcommit=overcommit
    )


if __name__ == "__main__":
    main()
