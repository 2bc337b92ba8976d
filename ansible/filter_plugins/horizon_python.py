"""What the lock pins for the servers, and their environment: by the rules of service/bootstrap.py."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

from ansible.errors import AnsibleFilterError

CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"


def uv_pin(lock: str) -> dict[str, str]:
    """Version of uv, and its requirement with hashes, out of a lock."""
    bootstrap = _bootstrap()
    try:
        block = str(bootstrap.uv_block(lock))
    except bootstrap.SetupError as error:
        raise AnsibleFilterError(str(error)) from None
    return {"version": block.split()[0].partition("==")[2], "requirement": block}


def tool_environment(own: dict[str, Any]) -> dict[str, str]:
    """Variables for pip and uv on a server, from the inventory's own; the system's certificates."""
    environment = {"SSL_CERT_FILE": CERTIFICATES, "PIP_CERT": CERTIFICATES}
    environment |= {name: str(value) for name, value in own.items()}
    options = {
        name[4:].lower().replace("_", "-"): value
        for name, value in environment.items()
        if name.startswith("PIP_")
    }
    return dict(_bootstrap().environment(environment, options))


def _bootstrap() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "service" / "bootstrap.py"
    spec = importlib.util.spec_from_file_location("horizon_bootstrap", path)
    if spec is None or spec.loader is None:
        raise AnsibleFilterError(f"{path} is missing: run `git checkout` on it")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class FilterModule:
    """Ansible's entry."""

    def filters(self) -> dict[str, Any]:
        """Names of the filters in templates."""
        return {"horizon_uv_pin": uv_pin, "horizon_tool_environment": tool_environment}
