"""What is wrong at the vendors: a model that is about to be shut down, a number that is OFFLINE.

It is the same for every host, so one of a cluster asks; once an hour, because it is not urgent and each
look is a request for every model and every account.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import closing
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from service.alerts.findings import Findings, Kind
from service.alerts.kept import Kept
from service.bots.changes import decrypted
from service.clients.plan import existing
from service.conversation.outage import OutageError
from service.store.secrets import UnreadableSecretError

if TYPE_CHECKING:
    from service.bots.checks import ModelUse
    from service.clients.plan import Existing
    from service.container import Container

LOOK_S = 3_600
MOST_OLD_S = 6 * 3_600
"""A vendor that cannot be asked for this long is an alert; until then the last answer counts."""
OFFLINE = "OFFLINE"
Answer = dict[str, Any]
"""What was seen of one thing; `fault` is a sentence when it could not be asked."""


def look(findings: Findings, container: Container, kept: Kept, now: float) -> None:
    """Models and numbers of every active bot of our own table."""
    seen = kept.get("vendors") or {}
    if now - seen.get("at", 0) > LOOK_S:
        try:
            bots = existing(container)
            asked: dict[str, dict[str, Answer]] = {
                "model": _models(container, bots),
                "sender": _senders(container, bots),
            }
        except OutageError:
            # That the database is away is an alert already.
            findings.unknown |= {"model", "sender"}
            return
        except UnreadableSecretError as error:
            findings.unchecked("model", str(error))
            findings.unchecked("sender", str(error))
            return
        before = seen.get("answers", {})
        answers = {
            kind: {
                name: _latest(answer, before.get(kind, {}).get(name), now)
                for name, answer in of_kind.items()
            }
            for kind, of_kind in asked.items()
        }
        seen = {"at": now, "answers": answers}
        kept.put("vendors", seen)
    _model_conditions(findings, seen["answers"]["model"], container.settings.alert_model_days, now)
    _sender_conditions(findings, seen["answers"]["sender"])
    for kind in ("model", "sender"):
        _unchecked(findings, kind, seen["answers"][kind], now)


def _latest(answer: Answer, before: Answer | None, now: float) -> Answer:
    """The answer, or the last good one when there is none now."""
    if "fault" not in answer:
        return answer | {"at": now}
    return (before or {"at": now}) | {"fault": answer["fault"]}


def _models(container: Container, bots: Existing) -> dict[str, Answer]:
    from service.integrations.openai_model import CANNOT_LIST

    users: defaultdict[ModelUse, list[str]] = defaultdict(list)
    for row in bots.rows:
        users[container.bot_checks.model_use(row, bots.assistants[row["id"]])].append(row["id"])
    answers: dict[str, Answer] = {}
    for use, ids in users.items():
        check = container.model.check_model(use.api_key, use.base_url, use.model)
        # Its first bot, and not its key, keeps apart what several keys answer about one model.
        answer: Answer = {"model": use.model, "bots": ids}
        if check.state == "unchecked" and check.message != CANNOT_LIST:
            answer["fault"] = check.message
        else:
            day = check.shutdown_date
            answer |= {"gone": check.state == "unknown", "date": day and day.isoformat()}
        answers[f"{use.model} {ids[0]}"] = answer
    return answers


def _model_conditions(
    findings: Findings, answers: dict[str, Answer], most_days: int, now: float
) -> None:
    today = datetime.fromtimestamp(now, UTC).date()
    ending: defaultdict[str, list[Answer]] = defaultdict(list)
    for answer in answers.values():
        day = answer.get("date")
        if answer.get("gone") or (day and (date.fromisoformat(day) - today).days < most_days):
            ending[answer["model"]].append(answer)
    for model, found in sorted(ending.items()):
        users = sorted(bot for answer in found for bot in answer["bots"])
        days = [answer["date"] for answer in found if answer.get("date")]
        findings.add("model", model, {"date": min(days, default=None), "bots": ", ".join(users)})


def _senders(container: Container, bots: Existing) -> dict[str, Answer]:
    # The vendors' SDKs are most of a process's memory, and only one host asks, once an hour.
    from service.conversation.ports import VendorError
    from service.integrations.twilio_senders import TwilioSenders

    accounts: defaultdict[tuple[str | None, str | None], list[tuple[str, str]]] = defaultdict(list)
    for row in bots.rows:
        token = decrypted(row["twilio_auth_token"], container.cipher)
        of_bot = (row["twilio_phone_number"], row["id"])
        accounts[row["twilio_account_sid"], token].append(of_bot)
    answers: dict[str, Answer] = {}
    with closing(TwilioSenders(container.settings)) as twilio:
        for (sid, token), of_account in accounts.items():
            try:
                senders = twilio.of_account(sid, token)
            except VendorError as error:
                answers |= {
                    number: {"bot_id": bot_id, "fault": f"{error.message} ({number})"}
                    for number, bot_id in of_account
                }
                continue
            for number, bot_id in of_account:
                sender = senders.get(number)
                answers[number] = {
                    "bot_id": bot_id,
                    # The sandbox's number is Twilio's own: no account has its record.
                    "status": None if sender is None else sender.status,
                    "reasons": [] if sender is None else list(sender.offline_reasons),
                }
    return answers


def _sender_conditions(findings: Findings, answers: dict[str, Answer]) -> None:
    for number, answer in sorted(answers.items()):
        if answer.get("status") == OFFLINE:
            facts = {"bot_id": answer["bot_id"], "reasons": " ".join(answer["reasons"])}
            findings.add("sender", number, facts)


def _unchecked(findings: Findings, kind: Kind, answers: dict[str, Answer], now: float) -> None:
    old = [one for one in answers.values() if "fault" in one and now - one["at"] > MOST_OLD_S]
    if old:
        findings.unchecked(kind, str(old[0]["fault"]))
