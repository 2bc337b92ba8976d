"""What already stands at our paths, units and nginx sites, and is not ours.

Ours is a file with the marker line, a folder with the marker file, an empty folder.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from ansible.module_utils.horizon_host import MARKER, Finding

FOLDERS = ("opt/horizonai-bots", "etc/horizonai-bots", "var/lib/horizonai-bots")
FOLDER_MARKER = ".horizonai-bots"
UNIT_FOLDERS = ("etc/systemd/system", "lib/systemd/system", "usr/lib/systemd/system")
UNITS = ("horizonai-bots*.service", "horizonai-bots*.socket", "horizonai-bots*.timer")
OLD_UNITS = ("horizonai-bots*.service", "horizon-bots*.service", "whatsapp-bot*.service")
OLD_FOLDERS = re.compile(r"/opt/horizon[\w.-]*")
SITES = (
    "sites-enabled/horizonai-bots*",
    "sites-available/horizonai-bots*",
    "conf.d/horizonai-bots*",
)
SITE_FOLDERS = ("etc/nginx/sites-enabled", "etc/nginx/sites-available", "etc/nginx/conf.d")
NOTHING: frozenset[str] = frozenset()
HOME = "/var/lib/horizonai-bots"
ENABLED_SITES = ("sites-enabled/*", "conf.d/*.conf")
_FLASK = re.compile(r"(?m)^\s*(?:from|import) flask\b")


class Flask(NamedTuple):
    """An older installation: its units (none when it has none) and its folder."""

    units: tuple[str, ...]
    folder: str


def findings(root: Path, domain: str, leaving: frozenset[str] = NOTHING) -> list[Finding]:
    """Everything of another's that the installation would collide with.

    `leaving` are the paths that an older installation is about to clear.
    """
    old = [
        installation
        for installation in flask_installations(root)
        if not leaving.issuperset({*installation.units, installation.folder})
    ]
    told = {path for installation in old for path in (*installation.units, installation.folder)}
    told |= leaving
    return [
        *(_old(installation) for installation in old),
        *(_unit(path) for path in units(root) if path not in told),
        *(_folder(path) for path in folders(root) if path not in told),
        *(_user(home) for home in users(root)),
        *(_site(path) for path in sites(root) if path not in told),
        *(_claimed(path, domain) for path in claims(root, domain) if path not in told),
    ]


def leaving_paths(units: list[str], folder: str, sites: list[str]) -> frozenset[str]:
    """Where an older installation's units, folder and sites may stand."""
    return frozenset(
        [f"/{place}/{name}" for place in UNIT_FOLDERS for name in units]
        + [f"/{place}/{name}" for place in SITE_FOLDERS for name in sites]
        + [folder]
    )


def flask_installations(root: Path) -> list[Flask]:
    """Units of the old names whose folder holds a Flask program, and such folders without a unit."""
    units_of: dict[str, list[str]] = {}
    for path in _units(root, OLD_UNITS):
        text = _text(path)
        if MARKER in text:
            continue
        settings = re.findall(r"(?m)^(?:WorkingDirectory|ExecStart)=(.*)$", text)
        places = OLD_FOLDERS.findall("\n".join(settings))
        folder = next((place for place in places if _imports_flask(root, place)), None)
        if folder:
            units_of.setdefault(folder, []).append(_shown(root, path))
    for place in sorted((root / "opt").glob("horizonai-bots")):
        folder = _shown(root, place)
        if not (place / FOLDER_MARKER).exists() and _imports_flask(root, folder):
            units_of.setdefault(folder, [])
    return [Flask(tuple(names), folder) for folder, names in units_of.items()]


def units(root: Path) -> list[str]:
    """Unit files with our names and without our marker."""
    return [_shown(root, path) for path in _units(root, UNITS) if MARKER not in _text(path)]


def folders(root: Path) -> list[str]:
    """Our folders with somebody else's content."""
    found = []
    for name in FOLDERS:
        path = root / name
        if path.is_dir() and not path.is_symlink():
            if any(path.iterdir()) and not (path / FOLDER_MARKER).exists():
                found.append(_shown(root, path))
        elif path.exists() or path.is_symlink():
            found.append(_shown(root, path))
    return found


def users(root: Path) -> list[str]:
    """Home of a user with our name and another home."""
    homes = re.findall(r"(?m)^horizonai-bots:(?:[^:\n]*:){4}([^:\n]*)", _text(root / "etc/passwd"))
    return [home for home in homes if home != HOME]


def sites(root: Path) -> list[str]:
    """Nginx sites with our names and without our marker."""
    paths = [path for pattern in SITES for path in sorted((root / "etc/nginx").glob(pattern))]
    return [_shown(root, path) for path in paths if MARKER not in _text(path)]


def claims(root: Path, domain: str) -> list[str]:
    """Enabled nginx sites of other names that answer for our domain."""
    if not domain:
        return []
    claimed = {domain.lower(), "." + domain.lower()}
    found = []
    for pattern in ENABLED_SITES:
        for path in sorted((root / "etc/nginx").glob(pattern)):
            text = re.sub(r"(?m)(^|\s)#.*$", "", _text(path))
            names = " ".join(re.findall(r"\bserver_name\s+([^;]*);", text)).lower().split()
            if (
                claimed.intersection(name.strip("\"'") for name in names)
                and MARKER not in _text(path)
                and not path.name.startswith("horizonai-bots")
            ):
                found.append(_shown(root, path))
    return found


def _old(old: Flask) -> Finding:
    names = " and ".join(unit.rsplit("/", 1)[1] for unit in old.units)
    stop = [f"systemctl disable --now {unit.rsplit('/', 1)[1]}" for unit in old.units]
    aside = [f"mv {unit} {unit}.before-horizonai-bots" for unit in old.units]
    reload = ["systemctl daemon-reload"] if old.units else []
    move = f"mv {old.folder} {old.folder}.flask"
    return Finding(
        f"An older Flask installation stands here: {names or 'no unit'} with the folder {old.folder}.",
        "stop it and move it aside: " + " && ".join([*stop, *aside, *reload, move]),
    )


def _unit(path: str) -> Finding:
    name = path.rsplit("/", 1)[1]
    return Finding(
        f"The unit {path} is not ours.",
        f"stop it and move it aside: systemctl disable --now {name}; mv {path} "
        f"{path}.before-horizonai-bots && systemctl daemon-reload",
    )


def _folder(path: str) -> Finding:
    return Finding(
        f"{path} holds files that are not ours.",
        f"move it aside: mv {path} {path}.before-horizonai-bots",
    )


def _user(home: str) -> Finding:
    return Finding(
        f"There is a user horizonai-bots whose home is {home}.",
        f"stop its processes and change it: usermod --home {HOME} --shell /usr/sbin/nologin "
        "horizonai-bots",
    )


def _site(path: str) -> Finding:
    return Finding(
        f"The nginx site {path} is not ours.",
        f"move it aside: mv {path} /root/{path.rsplit('/', 1)[1]}.before-horizonai-bots && "
        "systemctl reload nginx",
    )


def _claimed(path: str, domain: str) -> Finding:
    return Finding(
        f"The nginx site {path} answers for {domain} already.",
        f"take {domain} out of its server_name, or the site out of service: mv {path} "
        f"/root/{path.rsplit('/', 1)[1]}.before-horizonai-bots && systemctl reload nginx",
    )


def _units(root: Path, patterns: tuple[str, ...]) -> list[Path]:
    """Unit files by name; /lib may be a link to /usr/lib."""
    found = {}
    for folder in UNIT_FOLDERS:
        for pattern in patterns:
            for path in sorted((root / folder).glob(pattern)):
                if path.is_file() or path.is_symlink():
                    found.setdefault((path.parent.resolve(), path.name), path)
    return list(found.values())


def _imports_flask(root: Path, folder: str) -> bool:
    place = root / folder.lstrip("/")
    near = [*place.glob("*.py"), *place.glob("*/*.py"), *place.glob("*/*/*.py")]
    return any(_FLASK.search(_text(path)) for path in near[:2000])


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _shown(root: Path, path: Path) -> str:
    return "/" + str(path.relative_to(root))
