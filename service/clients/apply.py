"""Clients become as declared: bots through the REST interface, numbers through Twilio's Senders API.

Everything is worked out and checked first, so that what is wrong is said before anything is changed.
What was interrupted is finished by the same call again. Clients that are not declared stay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from service.clients.api import ApiRefusedError, ApiUnreachableError, BotsApi
from service.clients.declaration import ClientFault, Declaration, DeclarationError
from service.clients.numbers import Account, NumberPlan, Numbers, Senders
from service.clients.plan import BotPlan, existing, plan
from service.container import Container

AT_ONCE = 8
"""Clients that are changed at the same time: the threads of one web process by default."""


class ApplyError(Exception):
    """Some clients could not be changed; the others are as declared."""

    def __init__(self, faults: Sequence[ClientFault], results: Sequence[dict[str, Any]]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = tuple(faults)
        self.results = list(results)


def apply(
    container: Container,
    api: BotsApi,
    senders: Senders,
    declared: Sequence[Declaration],
    *,
    check: bool,
) -> dict[str, Any]:
    """Make it so, or with `check` only tell what would be done.

    Returns `changed`, `clients` (one report each, without secrets) and `undeclared`, the numbers of
    the other bots.

    Raises:
        DeclarationError: nothing was changed.
        ApplyError: some were changed.
        ApiUnreachableError: the service does not answer; nothing was changed.
    """
    api.check()
    held = existing(container)
    plans = plan(container, declared, held)
    numbers = Numbers(senders, container.settings)
    wanted = [
        (
            each.declared.number,
            Account(each.account_sid, each.auth_token),
            each.declared.sender_setup,
        )
        for each in plans
    ]
    number_plans, faults = numbers.plan(wanted)
    if faults:
        raise DeclarationError(faults)
    pairs = list(zip(plans, number_plans, strict=True))
    if check:
        results = [_report(bot, number, bot.bot_id, (), numbers.wanted) for bot, number in pairs]
    else:
        results = _carry_out(api, numbers, pairs)
    names = {each.number for each in declared}
    return {
        "changed": any(result["changed"] for result in results),
        "clients": results,
        "undeclared": sorted(
            row["twilio_phone_number"]
            for row in held.rows
            if row["twilio_phone_number"] not in names
        ),
    }


def _carry_out(
    api: BotsApi, numbers: Numbers, pairs: Sequence[tuple[BotPlan, NumberPlan]]
) -> list[dict[str, Any]]:
    def one(pair: tuple[BotPlan, NumberPlan]) -> dict[str, Any] | list[ClientFault]:
        bot, number = pair
        try:
            bot_id, warnings = _save(api, bot)
            # The bot first: a message that comes before it would be refused.
            numbers.point(number)
        except DeclarationError as error:
            return list(error.faults)
        except (ApiRefusedError, ApiUnreachableError) as error:
            return [ClientFault(bot.declared.number, None, str(error))]
        return _report(bot, number, bot_id, warnings, numbers.wanted)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        outcomes = list(pool.map(one, pairs))
    results = [outcome for outcome in outcomes if isinstance(outcome, dict)]
    faults = [fault for outcome in outcomes if isinstance(outcome, list) for fault in outcome]
    if faults:
        raise ApplyError(faults, results)
    return results


def _save(api: BotsApi, bot: BotPlan) -> tuple[str | None, Sequence[Mapping[str, Any]]]:
    if bot.action == "none":
        return bot.bot_id, ()
    if bot.bot_id is None:
        answer = api.create(bot.declared.creation)
    else:
        answer = api.update(bot.bot_id, bot.declared.update)
    return str(answer["data"]["id"]), answer.get("warnings") or ()


def _report(
    bot: BotPlan,
    number: NumberPlan,
    bot_id: str | None,
    warnings: Sequence[Mapping[str, Any]],
    wanted: Mapping[str, str],
) -> dict[str, Any]:
    """What became, or would become, of a client. The REST interface repeats the plan's warnings."""
    declared = bot.declared
    said = [_text(fault.field, fault.message) for fault in bot.warnings]
    said += [_text(each.get("field"), str(each.get("message"))) for each in warnings]
    sender = number.sender
    return {
        "name": declared.name,
        "number": declared.number,
        "client_id": declared.client_id,
        "bot_id": bot_id,
        "action": bot.action,
        "changed": bot.action != "none" or number.state in ("change", "changed"),
        "changes": [
            {"field": change.field, "before": change.before, "after": change.after}
            for change in bot.changes
        ],
        "model": bot.model,
        "assistant_version": bot.version,
        "paused": bot.paused,
        "sender": {
            "state": number.state,
            "account": number.account.sid,
            "sid": None if sender is None else sender.sid,
            "status": None if sender is None else sender.status,
            "before": {name: values[0] for name, values in number.differs.items()},
            "after": {name: values[1] for name, values in number.differs.items()},
            "wanted": wanted,
            "todo": list(number.todo),
        },
        "warnings": list(dict.fromkeys([*said, *_advice(bot)])),
    }


def _advice(bot: BotPlan) -> list[str]:
    if bot.messaging_service_sid is None:
        return []
    return [
        f"The number is in the messaging service {bot.messaging_service_sid}: its Integration must "
        "say 'Defer to sender's webhook', or have the same addresses."
    ]


def _text(field: str | None, message: str) -> str:
    return message if field is None else f"{field}: {message}"
