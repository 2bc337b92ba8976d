"""What a module takes from nobody's login: folder, umask, locale, PATH and temporary folder.

Over SSH a module starts in the login's home with the login's environment, which the modules' commands
and the service's user would inherit. Standard library only: this runs on the hosts.
"""

from __future__ import annotations

import os

SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
"""`su` and a short secure_path of sudo leave some of them out."""
UMASK = 0o022
"""The service's user reads releases and settings; what is secret gets its mode by name."""


def leave_login() -> None:
    """Call it first in `main`."""
    os.umask(UMASK)
    os.chdir("/")
    for name in [name for name in os.environ if name.startswith("LC_") or name == "LANGUAGE"]:
        del os.environ[name]
    # In every Debian, and its messages are English, which some modules read.
    os.environ["LANG"] = os.environ["LC_ALL"] = "C.UTF-8"
    os.environ.pop("TMPDIR", None)
    # horizonctl opens files as the user that called sudo; a module's are root's.
    os.environ.pop("SUDO_UID", None)
    given = os.environ.get("PATH", "").split(os.pathsep)
    missing = [folder for folder in SYSTEM_FOLDERS if folder not in given]
    os.environ["PATH"] = os.pathsep.join(filter(None, [*given, *missing]))
