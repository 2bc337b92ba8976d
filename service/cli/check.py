"""`check`: whether what the service leans on would serve it: Twilio, OpenAI, and Redis's memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import typer

from service.cli.failures import FAILED
from service.cli.output import JsonFlag, print_json, print_line
from service.cli.session import session

if TYPE_CHECKING:
    from service.container import Container
    from service.conversation.bot import Bot

_NO_LIST = "The server cannot be asked which models it has."
"""What a compatible server says, whose answers are good all the same."""


_SERVICE = "service"


@dataclass(frozen=True, slots=True)
class Checked:
    """`whose` is a bot's id, a Sentinel's address, or the service's own.

    `message` says what is wrong; of Redis with Sentinels it says which primary was found.
    """

    what: str
    whose: str
    ok: bool
    message: str = ""


def check(as_json: JsonFlag = False) -> None:
    """Ask Twilio, OpenAI and Redis whether they would serve. The exit code is 0 only when all would.

    Each credential is tried once, however many bots use it. Nothing is sent to anybody.
    """
    with session() as container:
        found = [_redis(container), *_sentinels(container), *_vendors(container)]
    if as_json:
        print_json([asdict(each) for each in found])
    else:
        for each in found:
            print_line(f"{each.what} ({each.whose}): {_line(each)}")
    if not all(each.ok for each in found):
        raise typer.Exit(FAILED)


def _line(checked: Checked) -> str:
    if not checked.ok:
        return checked.message
    return f"ok, {checked.message}" if checked.message else "ok"


def _sentinels(container: Container) -> Iterator[Checked]:
    """Each by itself: the service needs one, a fail-over needs most of them."""
    primary = container.redis.primary
    if primary is None:
        return
    for (host, port), told in primary.sentinels.answers().items():
        failed = isinstance(told, Exception)
        yield Checked("sentinel", f"{host}:{port}", not failed, str(told) if failed else "")


def _redis(container: Container) -> Checked:
    """Redis must neither forget at a restart nor drop keys when it is full, and have its replicas."""
    with container.redis.outages():
        persistence = container.redis.client.info("persistence")
        memory = container.redis.client.info("memory")
    wrong = []
    if not persistence.get("aof_enabled"):
        wrong.append("appendonly is off: a restart forgets messages")
    if memory.get("maxmemory") and memory.get("maxmemory_policy") != "noeviction":
        wrong.append(f"maxmemory-policy is {memory['maxmemory_policy']}: it drops keys")
    found = ""
    if container.redis.primary is not None or container.settings.redis_acknowledge_on_replica:
        replicas = container.redis.replicas()
        found = f"{replicas} replicas"
        if not replicas:
            wrong.append("no replica follows the primary: what it holds is on one host")
    if container.redis.primary is not None:
        found = f"primary {container.redis.primary.known}, {found}"
    return Checked("redis", _SERVICE, not wrong, "; ".join(wrong) or found)


def _vendors(container: Container) -> Iterator[Checked]:
    """Of the service itself as far as it has credentials, then of every bot."""
    settings = container.settings
    accounts: dict[tuple[str | None, str | None], list[str]] = {}
    models: dict[tuple[str | None, str | None, str], list[str]] = {}
    if settings.twilio_account_sid and settings.twilio_auth_token:
        accounts[None, None] = [_SERVICE]
    if settings.openai_api_key:
        models[None, None, settings.openai_default_model] = [_SERVICE]
    for bot in _bots(container):
        account = (bot.twilio_account_sid, bot.twilio_auth_token)
        accounts.setdefault(account, []).append(bot.id)
        model = bot.assistant.model
        models.setdefault((bot.openai_api_key, bot.openai_base_url, model), []).append(bot.id)
    for account, users in accounts.items():
        yield from _of_all(_twilio(container, users[0], *account), users)
    for asked, users in models.items():
        yield from _of_all(_openai(container, users[0], *asked), users)


def _of_all(checked: Checked, users: Sequence[str]) -> Iterator[Checked]:
    """What is well, or wrong with the service itself, once; else each bot that it hits."""
    yield checked
    if not checked.ok and checked.whose != _SERVICE:
        yield from (replace(checked, whose=user) for user in users[1:])


def _bots(container: Container) -> Iterator[Bot]:
    from service.store.bot_sources import BotSources
    from service.store.records import bot_of

    for record in BotSources(container.database, container.cipher, None).all_own():
        yield bot_of(record, container.cipher, container.settings)


def _twilio(container: Container, whose: str, sid: str | None, token: str | None) -> Checked:
    from service.conversation.ports import VendorError

    try:
        container.messenger.check_account(sid, token)
    except VendorError as error:
        return Checked("twilio", whose, False, f"{error.code}: {error.message}")
    return Checked("twilio", whose, True)


def _openai(
    container: Container, whose: str, key: str | None, base_url: str | None, model: str
) -> Checked:
    found = container.model.check_model(key, base_url, model)
    ok = found.state == "ok" or found.message == _NO_LIST
    return Checked("openai", whose, ok, "" if ok else found.message)
