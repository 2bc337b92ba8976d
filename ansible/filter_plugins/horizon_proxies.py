"""Filters: the proxies of `common_environment`, as every program on a server reads them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

PROXIES = ("http_proxy", "https_proxy")
NAMES = (*PROXIES, "all_proxy", "no_proxy")
LOOPBACK = ("localhost", "127.0.0.1", "::1")
EXAMPLE = "common_environment: {https_proxy: 'http://proxy.example.com:3128'}"
REMEDY = f"Correct it in group_vars, or in the vault where it holds a password, like: {EXAMPLE}"


def proxies(
    environment: Mapping[str, Any], groups: Mapping[str, Any], hostvars: Mapping[str, Any]
) -> dict[str, str]:
    """The variables, in small and capital letters: apt and curl know these alone, others those.

    Empty without a proxy. `no_proxy` has loopback and the private addresses of the servers besides.
    """
    given = {str(name).lower(): str(value or "").strip() for name, value in environment.items()}
    every = given.get("all_proxy", "")
    found = {name: given.get(name) or every for name in PROXIES}
    found = {name: value for name, value in found.items() if value}
    if not found:
        return {}
    private = (hostvars[host].get("cluster_address") for host in groups.get("horizon", ()))
    direct = [*_listed(given.get("no_proxy", "")), *LOOPBACK, *map(str, filter(None, private))]
    found["no_proxy"] = ",".join(dict.fromkeys(direct))
    return found | {name.upper(): value for name, value in found.items()}


def apt_settings(variables: Mapping[str, str]) -> str:
    """The same for apt, which unattended upgrades use too; an empty text without a proxy."""
    lines = []
    for name in PROXIES:
        if name in variables:
            scheme = name.removesuffix("_proxy")
            lines.append(f'Acquire::{scheme}::Proxy "{variables[name]}";')
            lines += [
                f'Acquire::{scheme}::Proxy::{host} "DIRECT";'
                for host in _listed(variables["no_proxy"])
                if re.fullmatch(r"[\w-]+(\.[\w-]+)+", host)
            ]
    return "".join(f"{line}\n" for line in lines)


def problems(environment: Any) -> list[dict[str, str]]:
    """What is wrong with `common_environment`, without its values: they may hold a password."""
    if not isinstance(environment, Mapping):
        return [_problem("common_environment is no dictionary.")]
    found = []
    for name, value in environment.items():
        text = "" if value is None else str(value)
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", str(name)):
            found.append(f"common_environment has {name!r}, which is no name of a variable.")
        elif isinstance(value, Mapping | list) or not text.isprintable():
            found.append(f"{name} in common_environment is no text on one line.")
        elif str(name).lower() == "no_proxy" and not all(map(_is_direct, _listed(text))):
            found.append(
                f"{name} in common_environment is no list of hosts or networks separated by commas."
            )
        elif str(name).lower() in ("all_proxy", *PROXIES) and text and not _is_proxy(text):
            found.append(
                f"{name} in common_environment is no address of a proxy: http:// or https://, a host and a "
                "port, and special characters of a password as %40 and the like."
            )
    for name in NAMES:
        spellings = {
            str(value) for key, value in environment.items() if str(key).lower() == name and value
        }
        if len(spellings) > 1:
            found.append(f"{name} and {name.upper()} in common_environment differ.")
    return [_problem(sentence) for sentence in found]


def _problem(sentence: str) -> dict[str, str]:
    return {"problem": sentence, "remedy": REMEDY}


def _listed(text: str) -> list[str]:
    return [part for part in re.split(r"[,\s]+", text) if part]


def _is_direct(part: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9.*:/_-]+|\[[0-9A-Fa-f:]+\](:\d+)?", part) is not None


def _is_proxy(text: str) -> bool:
    # What apt's settings, systemd's files and a shell all take as it is.
    if not re.fullmatch(r"https?://[A-Za-z0-9\[\]:@%._~!*+,/=-]+", text):
        return False
    try:
        address = urlsplit(text)
        port = address.port
    except ValueError:
        return False
    return bool(address.hostname and port) and address.path in ("", "/")


class FilterModule:
    """Ansible's entry."""

    def filters(self) -> dict[str, Any]:
        """Names of the filters in templates."""
        return {
            "horizon_proxies": proxies,
            "horizon_apt_settings": apt_settings,
            "horizon_environment_problems": problems,
        }
