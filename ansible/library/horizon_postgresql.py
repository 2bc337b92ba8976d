#!/usr/bin/python
"""Ansible module: the service's user and database in a PostgreSQL cluster, and its settings loaded."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import re
import secrets
import subprocess
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible.module_utils.horizon_surroundings import leave_login

DOCUMENTATION = r"""
module: horizon_postgresql
short_description: The service's user and database in a PostgreSQL cluster, and its settings loaded
description:
  - Loads what the cluster's files say when they are newer than what the server has read, after the
    server's own check of them. Returns in C(restart) what only a restart brings.
  - The password reaches the server as a SCRAM verifier, so neither its log nor a process list can
    show it.
  - In the service's database an error's statement and details are not logged, as they hold what
    contacts write.
options:
  version:
    description: Major version of the cluster C(main).
    type: str
    required: true
  database:
    description: Database, in UTF-8.
    type: str
    required: true
  user:
    description: Its owner.
    type: str
    required: true
  password:
    description: Password of the owner, in ASCII.
    type: str
  state:
    description: With C(absent) both are dropped.
    type: str
    choices: [present, absent]
    default: present
author:
  - Horizon
"""

EXAMPLES = r"""
- name: PostgreSQL has the service's user and database
  horizon_postgresql:
    version: "17"
    database: horizonai_bots
    user: horizonai_bots
    password: "{{ postgresql_password }}"
"""

RETURN = r"""
changes:
  description: What was changed, one sentence each.
  type: list
  returned: always
restart:
  description: Settings that a restart has to bring.
  type: list
  returned: always
"""

ITERATIONS = 4096
LOAD_TIMEOUT_S = 10
LOCALE = "C.UTF-8"
AS_JSON = "SELECT coalesce(json_agg(r), '[]') FROM (%s) r;"
QUIET = {
    "log_error_verbosity": "terse",
    "log_min_duration_statement": "-1",
    "log_min_error_statement": "panic",
    "log_statement": "none",
}
"""What keeps the statements of the service, and so what contacts write, out of the log."""


class PostgresError(Exception):
    """What failed, for the operator."""


def scram_verifier(password: str, salt: bytes, iterations: int = ITERATIONS) -> str:
    """What PostgreSQL keeps of a password (RFC 5803)."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    stored = hashlib.sha256(client_key).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    return f"SCRAM-SHA-256${iterations}:{_text(salt)}${_text(stored)}:{_text(server)}"


def opens(password: str, verifier: str | None) -> bool:
    """Whether this password belongs to what PostgreSQL keeps."""
    found = re.fullmatch(r"SCRAM-SHA-256\$(\d+):([^$]+)\$.+", verifier or "")
    if not found:
        return False
    expected = scram_verifier(password, base64.b64decode(found[2]), int(found[1]))
    return hmac.compare_digest(expected, verifier or "")


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


class Cluster:
    """The running cluster `main` of one version, reached as its superuser over its socket."""

    def __init__(self, version: str, database: str, user: str) -> None:
        self.version = version
        self._names = [f"--set=database={database}", f"--set=user={user}"]
        self.settings = Path(f"/etc/postgresql/{version}/main")
        self._data = Path(f"/var/lib/postgresql/{version}/main")
        try:
            # https://www.postgresql.org/docs/current/storage-file-layout.html
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except OSError:
            raise PostgresError(
                f"PostgreSQL {version} does not run: see journalctl -u postgresql@{version}-main"
            ) from None
        # It may still listen on another port than its files say.
        self._port, self._socket = lines[3], lines[4]

    def run(self, sql: str) -> str:
        """What the statements print; `:"user"` and `:"database"` are names. Raises PostgresError."""
        quiet = "".join(f"SET {name} = '{value}';\n" for name, value in QUIET.items())
        arguments = ["psql", "--no-psqlrc", "--no-align", "--tuples-only", "--quiet"]
        arguments += ["--set=ON_ERROR_STOP=1", "--set=VERBOSITY=terse", *self._names]
        arguments += ["--dbname=postgres", f"--host={self._socket}", f"--port={self._port}"]
        return self._as_postgres(arguments, quiet + sql)

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """The rows of a query. Raises PostgresError."""
        found: list[dict[str, Any]] = json.loads(self.run(AS_JSON % sql))
        return found

    def needs_load(self) -> bool:
        """Whether a file is newer than what the server has read."""
        (loaded,) = self.rows("SELECT extract(epoch FROM pg_conf_load_time()) AS at")
        files = [self.settings / "pg_hba.conf", self.settings / "postgresql.conf"]
        files += (self.settings / "conf.d").glob("*.conf")
        return any(file.stat().st_mtime > loaded["at"] for file in files)

    def load(self) -> None:
        """Let the server check its files, and read them. Raises PostgresError."""
        server = f"/usr/lib/postgresql/{self.version}/bin/postgres"
        arguments = [server, "-C", "listen_addresses", "-D", str(self._data)]
        try:
            self._as_postgres([*arguments, "-c", f"config_file={self.settings}/postgresql.conf"])
        except PostgresError as error:
            raise PostgresError(
                f"it runs on with its old settings, mend the file. {error}"
            ) from None
        wrong = self.rows("SELECT line_number, error FROM pg_hba_file_rules WHERE error <> ''")
        if wrong:
            told = "; ".join(f"line {row['line_number']}: {row['error']}" for row in wrong)
            raise PostgresError(f"{self.settings}/pg_hba.conf, {told}")
        self.run("SELECT pg_reload_conf();")
        deadline = time.monotonic() + LOAD_TIMEOUT_S
        while self.needs_load():
            if time.monotonic() > deadline:
                raise PostgresError(f"PostgreSQL did not read its files in {LOAD_TIMEOUT_S} s")
            time.sleep(0.05)

    def pending(self) -> list[str]:
        """Settings that wait for a restart."""
        rows = self.rows("SELECT name FROM pg_settings WHERE pending_restart ORDER BY name")
        return [row["name"] for row in rows]

    def _as_postgres(self, arguments: list[str], text: str = "") -> str:
        command = ["runuser", "--user", "postgres", "--", *arguments]
        done = subprocess.run(
            command,
            input=text,
            capture_output=True,
            text=True,
            cwd="/",
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
        )
        if done.returncode:
            raise PostgresError(done.stderr.strip() or f"{arguments[0]}: {done.returncode}")
        return done.stdout


class Run:
    """One run of the module."""

    def __init__(self, module: AnsibleModule) -> None:
        self.user: str = module.params["user"]
        self.database: str = module.params["database"]
        self.cluster = Cluster(module.params["version"], self.database, self.user)
        self.check_mode: bool = module.check_mode
        self.password: str = module.params["password"] or ""
        self.changes: list[str] = []

    def present(self) -> list[str]:
        if self.cluster.needs_load():
            self.changes.append("PostgreSQL has read its settings")
            if not self.check_mode:
                self.cluster.load()
        self._have_user()
        self._have_database()
        return self.cluster.pending()

    def absent(self) -> None:
        if self._held_database():
            self._do("the database is gone", 'DROP DATABASE :"database" WITH (FORCE);')
        if self._held_user():
            self._do("the user is gone", 'DROP ROLE :"user";')

    def _held_user(self) -> list[dict[str, Any]]:
        return self.cluster.rows(
            "SELECT rolpassword, rolcanlogin AND NOT rolsuper AND NOT rolcreatedb AND NOT "
            "rolcreaterole AND NOT rolreplication AS plain FROM pg_authid WHERE rolname = :'user'"
        )

    def _held_database(self) -> list[dict[str, Any]]:
        return self.cluster.rows(
            "SELECT pg_encoding_to_char(encoding) AS encoding, pg_get_userbyid(datdba) AS owner, "
            "coalesce((SELECT setconfig FROM pg_db_role_setting WHERE setdatabase = d.oid AND "
            "setrole = 0), '{}') AS settings, has_database_privilege('public', oid, 'CONNECT') AS open "
            "FROM pg_database d WHERE datname = :'database'"
        )

    def _have_user(self) -> None:
        held = self._held_user()
        if held and held[0]["plain"] and opens(self.password, held[0]["rolpassword"]):
            return
        verifier = scram_verifier(self.password, secrets.token_bytes(16))
        self._do(
            f"the user {self.user} has its password",
            f'{"ALTER" if held else "CREATE"} ROLE :"user" LOGIN NOSUPERUSER NOCREATEDB '
            f"NOCREATEROLE NOREPLICATION PASSWORD '{verifier}';",
        )

    def _have_database(self) -> None:
        held = self._held_database()
        if not held:
            self._do(
                f"there is the database {self.database}",
                'CREATE DATABASE :"database" OWNER :"user" TEMPLATE template0 '
                f"ENCODING 'UTF8' LC_COLLATE '{LOCALE}' LC_CTYPE '{LOCALE}';",
            )
            held = self._held_database()
            if not held:
                return
        (found,) = held
        if found["encoding"] != "UTF8":
            raise PostgresError(
                f"the database {self.database} is in {found['encoding']}, which cannot keep every "
                f"text: save it with pg_dump, drop it with `runuser -u postgres -- dropdb "
                f"{self.database}`, run this again and restore it"
            )
        if found["owner"] != self.user:
            self._do(
                f"{self.database} belongs to {self.user}",
                'ALTER DATABASE :"database" OWNER TO :"user";',
            )
        if found["open"]:
            self._do(
                f"only {self.user} may use {self.database}",
                'REVOKE ALL ON DATABASE :"database" FROM PUBLIC;',
            )
        missing = [
            name for name, value in QUIET.items() if f"{name}={value}" not in found["settings"]
        ]
        if missing:
            self._do(
                f"the log leaves out what {self.database} is told",
                "".join(
                    f"ALTER DATABASE :\"database\" SET {name} = '{QUIET[name]}';"
                    for name in missing
                ),
            )

    def _do(self, change: str, sql: str) -> None:
        self.changes.append(change)
        if not self.check_mode:
            self.cluster.run(sql)


def main() -> None:
    leave_login()
    module = AnsibleModule(
        argument_spec={
            "version": {"type": "str", "required": True},
            "database": {"type": "str", "required": True},
            "user": {"type": "str", "required": True},
            "password": {"type": "str", "no_log": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        required_if=[("state", "present", ["password"])],
        supports_check_mode=True,
    )
    if not Path(f"/etc/postgresql/{module.params['version']}/main").exists():
        is_wanted = module.params["state"] == "present"
        if is_wanted and not module.check_mode:
            module.fail_json(msg="there is no cluster main: pg_createcluster makes one")
        changes = ["PostgreSQL gets its database once it is installed"] if is_wanted else []
        module.exit_json(changed=is_wanted, changes=changes, restart=[])
    restart: list[str] = []
    try:
        run = Run(module)
        if module.params["state"] == "present":
            restart = run.present()
        else:
            run.absent()
    except PostgresError as error:
        module.fail_json(msg=f"PostgreSQL could not be set up: {error}")
    module.exit_json(changed=bool(run.changes), changes=run.changes, restart=restart)


if __name__ == "__main__":
    main()
