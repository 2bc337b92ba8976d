"""A host for the backup tool: a real Redis behind a stand-in of systemctl, and one of horizonctl."""

from __future__ import annotations

import getpass
import json
import os
import stat
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

import redis

from tests.server_process import free_port

TOOL = Path(__file__).parents[2] / "roles" / "backup" / "files"
ADMIN_PASSWORD = "password-of-the-admin"
BACKUP_PASSWORD = "password-of-backup"
REPOSITORY_PASSWORD = "password-of-the-repository"

SYSTEMCTL = """
    #!{python}
    import os, pathlib, re, shlex, signal, subprocess, sys, time
    folder, words = pathlib.Path({folder!r}), sys.argv[1:]
    with open(folder / "systemctl.log", "a") as log:
        print(" ".join(words), file=log)
    if words == ["daemon-reload"] or not words[1:] or words[1] != "redis-server.service":
        sys.exit(0)
    pid_file = folder / "redis.pid"
    if words[0] in ("stop", "restart") and pid_file.exists():
        pid = int(pid_file.read_text())
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + 60
        while pathlib.Path(f"/proc/{{pid}}/cmdline").exists() and time.monotonic() < deadline:
            if not pathlib.Path(f"/proc/{{pid}}/cmdline").read_bytes():
                break
            time.sleep(0.02)
        pid_file.unlink(missing_ok=True)
    if words[0] in ("start", "restart"):
        command = {command!r}
        drop_in = folder / "drop-in.conf"
        if drop_in.exists():
            command = shlex.split(re.findall(r"(?m)^ExecStart=(.+)$", drop_in.read_text())[-1])
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                 stdin=subprocess.DEVNULL, start_new_session=True)
        pid_file.write_text(str(child.pid))
"""

HORIZONCTL = """
    #!{python}
    import hashlib, json, pathlib, sys
    folder, words = pathlib.Path({folder!r}), sys.argv[1:]
    with open(folder / "horizonctl.log", "a") as log:
        print(" ".join(words), file=log)
    answers = json.loads((folder / "answers.json").read_text())
    name = " ".join(words[:2])
    if name == "backup bundle":
        target = pathlib.Path(words[2])
        (target / "database.sqlite").write_text((folder / "horizon.db").read_text())
        taken_at = words[words.index("--taken-at") + 1]
        census = {{"turns": {{"rows": 5}}, "bots": {{"rows": answers.get("bots", 2)}}}}
        manifest = {{"taken_at": taken_at, "database": {{"census": census}}}}
        (target / "manifest.json").write_text(json.dumps(manifest))
        print(json.dumps(manifest))
    elif name in answers and answers[name].get("refused"):
        print(answers[name]["refused"], file=sys.stderr)
        sys.exit(1)
    elif name == "restore check":
        print((pathlib.Path(words[2]) / "manifest.json").read_text())
    elif name == "restore load":
        (folder / "horizon.db").write_text((pathlib.Path(words[2]) / "database.sqlite").read_text())
        print("{{}}")
    else:
        print(json.dumps(answers.get(name, {{}})))
"""

# As much of restic as the tool uses, for machines that have none: snapshots are folders.
RESTIC = """
    #!{python}
    import datetime, json, os, pathlib, shutil, sys, uuid
    words = sys.argv[1:]
    repository = pathlib.Path(os.environ["RESTIC_REPOSITORY"])
    password = pathlib.Path(os.environ["RESTIC_PASSWORD_FILE"]).read_text()
    config = repository / "config"
    def fail(text):
        print("Fatal: " + text, file=sys.stderr)
        sys.exit(1)
    if words[0] == "init":
        repository.mkdir(parents=True)
        config.write_text(password)
        sys.exit(0)
    if not config.exists():
        fail("unable to open config file: stat: no such file or directory\\n"
             "Is there a repository at the following location?")
    if config.read_text() != password:
        fail("wrong password or no key found")
    if words[0] == "backup":
        host, paths = words[words.index("--host") + 1], words[words.index("--tag") + 4:]
        name = uuid.uuid4().hex * 2
        for path in paths:
            if pathlib.Path(path).is_dir():
                shutil.copytree(path, repository / name / path.lstrip("/"), symlinks=True)
        at = datetime.datetime.now(datetime.timezone.utc).isoformat()
        tags = [after for word, after in zip(words, words[1:]) if word == "--tag"]
        told = dict(id=name, short_id=name[:8], time=at, hostname=host, tags=tags)
        (repository / (name + ".json")).write_text(json.dumps(told))
        print(json.dumps(dict(message_type="summary", snapshot_id=name, data_added=1,
                              total_bytes_processed=1)))
    elif words[0] == "snapshots":
        host = words[words.index("--host") + 1]
        found = [json.loads(path.read_text()) for path in repository.glob("*.json")]
        print(json.dumps([told for told in found if told["hostname"] == host]))
    elif words[0] == "restore":
        shutil.copytree(repository / words[1], words[words.index("--target") + 1],
                        symlinks=True, dirs_exist_ok=True)
"""


@dataclass
class BackupHost:
    """Its folder holds everything; `tool` runs one command of the backup tool."""

    folder: Path
    port: int
    environment: dict[str, str]

    @property
    def config(self) -> dict[str, Any]:
        return json.loads((self.folder / "backup.json").read_text())  # type: ignore[no-any-return]

    def configure(self, **changes: Any) -> None:
        (self.folder / "backup.json").write_text(json.dumps({**self.config, **changes}))

    def tool(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                *(sys.executable, "-P", "-m", "horizon_backup", *words),
                *("--config", str(self.folder / "backup.json")),
            ],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def done(self, *words: str) -> dict[str, Any]:
        """What a command that has to succeed prints."""
        ended = self.tool(*words)
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)  # type: ignore[no-any-return]

    def refused(self, *words: str) -> str:
        """The sentence of a command that has to fail."""
        ended = self.tool(*words)
        assert ended.returncode == 1, ended.stdout
        assert "Traceback" not in ended.stderr
        return ended.stderr.strip()

    def systemctl(self, *words: str) -> None:
        subprocess.run(
            [str(self.folder / "bin" / "systemctl"), *words], env=self.environment, check=True
        )

    def client(self) -> redis.Redis:
        client = redis.Redis(port=self.port, username="admin", password=ADMIN_PASSWORD)
        deadline = time.monotonic() + 60
        while True:
            try:
                client.ping()
            except redis.ConnectionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return client

    def calls(self) -> list[str]:
        return (self.folder / "horizonctl.log").read_text().splitlines()

    def answer(self, **answers: Any) -> None:
        """What horizonctl's commands answer, by `restore_reconcile` and the like."""
        named = {name.replace("_", " "): told for name, told in answers.items()}
        (self.folder / "answers.json").write_text(json.dumps(named))

    def state(self) -> dict[str, Any]:
        path = self.folder / "backup" / "state.json"
        return json.loads(path.read_text())  # type: ignore[no-any-return]


def make_host(folder: Path, *, real_restic: bool) -> BackupHost:
    """A host whose Redis runs; `systemctl stop redis-server.service` ends it."""
    port = free_port()
    data, binaries = folder / "redis", folder / "bin"
    for path in (data, binaries, folder / "spool", folder / "certificates", folder / "backup"):
        path.mkdir()
    (folder / "users.acl").write_text(
        f"user default off\nuser admin on >{ADMIN_PASSWORD} ~* &* +@all\n"
        f"user backup on >{BACKUP_PASSWORD} %R~* +@connection +@read -@admin -@dangerous "
        "+info +bgsave +lastsave +psync +sync +replconf\n"
    )
    (folder / "admin").write_text(ADMIN_PASSWORD + "\n")
    (folder / "password").write_text(REPOSITORY_PASSWORD + "\n")
    (folder / "env").write_text(
        'REDIS_URL="redis://x"\nSECRET_KEY="hidden-key"\nDEBOUNCE_MS="800"\n'
    )
    (folder / "horizon.db").write_text("rows of the database")
    (folder / "certificates" / "bots.crt").write_text("certificate")
    command = [
        *("redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(data)),
        *("--appendonly", "yes", "--save", "", "--aclfile", str(folder / "users.acl")),
    ]
    values = {"python": sys.executable, "folder": str(folder), "command": command}
    scripts = {"systemctl": SYSTEMCTL, "horizonctl": HORIZONCTL}
    if not real_restic:
        scripts["restic"] = RESTIC
    for name, text in scripts.items():
        script = binaries / name
        script.write_text(dedent(text).lstrip().format(**values))
        script.chmod(stat.S_IRWXU)
    user = getpass.getuser()
    (folder / "backup.json").write_text(
        json.dumps(
            {
                "repository": str(folder / "repository"),
                "password_file": str(folder / "password"),
                "folder": str(folder / "backup"),
                "app_user": user,
                "env_file": str(folder / "env"),
                "spool": str(folder / "spool"),
                "host": "bots1",
                "sqlite": str(folder / "horizon.db"),
                "keep": {"daily": 7},
                "paths": [str(folder / "certificates")],
                "horizonctl": str(binaries / "horizonctl"),
                "redis": {
                    "port": port,
                    "password": BACKUP_PASSWORD,
                    "folder": str(data),
                    "admin_file": str(folder / "admin"),
                    "owner": user,
                    "drop_in": str(folder / "drop-in.conf"),
                    "command": command,
                },
            }
        )
    )
    environment = {
        **os.environ,
        "PATH": f"{binaries}:{os.environ['PATH']}",
        "PYTHONPATH": str(TOOL),
    }
    host = BackupHost(folder, port, environment)
    host.answer()
    host.systemctl("start", "redis-server.service")
    host.client()
    return host
