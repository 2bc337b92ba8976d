"""What a check of a host is, and how one is done: it looks, mends what is safe to mend, looks again.

Standard library only: this runs on the hosts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol


class UncheckedError(Exception):
    """It could not be looked at; the text says why."""


class Host(Protocol):
    """What the checks need of the machine."""

    params: dict[str, Any]

    def unit(self, name: str) -> dict[str, str]:
        """LoadState, ActiveState, UnitFileState and Result of a systemd unit."""

    def failed_units(self) -> list[str]:
        """Our units that have failed, the releases' and the timers' included."""

    def running(self) -> list[str]:
        """Units of the release that `current` names, web first, then its workers."""

    def name(self) -> str:
        """The machine's own name."""

    def listeners(self) -> list[tuple[str, int]]:
        """Address and port of every listening TCP socket."""

    def owner(self, path: str) -> tuple[str, str, int] | None:
        """Owner, group and permission bits; None when it is not there."""

    def free(self, path: str) -> tuple[float, float, float]:
        """Free MB, free share of the space and of the inodes."""

    def health(self) -> dict[str, Any]:
        """What /health says. Raises UncheckedError."""

    def horizonctl(self, *words: str) -> Any:
        """The JSON of a command, whatever its exit code. Raises UncheckedError."""

    def run(self, *command: str) -> tuple[int, str]:
        """Exit code and output."""

    def certificate(self, domain: str) -> tuple[float, str] | None:
        """Days that the certificate which nginx reads holds yet, and its issuer; None without one."""

    def serves(self, domain: str) -> bool | None:
        """Whether nginx hands out that very certificate; None when nothing answers, or it has none."""

    def resolve(self, name: str) -> set[str]: ...
    def memory_mb(self) -> float:
        """Memory that is free or can be freed."""

    def killed(self) -> list[str]:
        """Processes that the kernel killed for lack of memory since the day before."""


class Check(NamedTuple):
    """`remedy` is what a person does when there is no mend, or when it did not help."""

    name: str
    look: Callable[[Host], str | None]
    remedy: str
    mend: Callable[[Host], object] | None = None


class Finding(NamedTuple):
    """`state` is ok, mended, would mend, wrong or unchecked."""

    check: str
    state: str
    found: str
    remedy: str

    @property
    def is_left(self) -> bool:
        return self.state in ("wrong", "would mend", "unchecked")


def examine(
    host: Host, checks: list[Check], *, mend: bool, look_only: bool = False
) -> list[Finding]:
    """Every check in its order: what is mended early may be what a later one looks at.

    What an earlier one saw may have been mended by a later one: what is left is looked at again.
    """
    found = [_examine(host, check, mend=mend, look_only=look_only) for check in checks]
    if not any(finding.state == "mended" for finding in found):
        return found
    return [
        _look_again(host, check, finding) if finding.is_left else finding
        for check, finding in zip(checks, found, strict=True)
    ]


def _look_again(host: Host, check: Check, before: Finding) -> Finding:
    try:
        left = check.look(host)
    except UncheckedError as error:
        return before._replace(state="unchecked", found=str(error))
    if left is None:
        return Finding(check.name, "mended", before.found, "")
    return before._replace(state="wrong", found=left)


def _examine(host: Host, check: Check, *, mend: bool, look_only: bool) -> Finding:
    try:
        found = check.look(host)
        if found is None:
            return Finding(check.name, "ok", "", "")
        if check.mend is None or not mend:
            return Finding(check.name, "wrong", found, check.remedy)
        if look_only:
            return Finding(check.name, "would mend", found, "run repair.yml without --check")
        check.mend(host)
        left = check.look(host)
        if left is None:
            return Finding(check.name, "mended", found, "")
        return Finding(check.name, "wrong", left, check.remedy)
    except UncheckedError as error:
        return Finding(check.name, "unchecked", str(error), check.remedy)


def wait(condition: Callable[[], bool], within_s: float = 40) -> None:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except UncheckedError:
            pass
        time.sleep(1)


def last(output: str) -> str:
    lines = output.strip().splitlines()
    return lines[-1] if lines else "it says nothing"
