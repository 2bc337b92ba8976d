"""The clients' numbers at Twilio: whether their senders lead here, and making it so."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal, Protocol

from service.clients.declaration import ClientFault, DeclarationError, SenderSetup
from service.conversation.ports import PermanentError, VendorError
from service.integrations.twilio_senders import Sender, differences, our_webhook
from service.settings import Settings

State = Literal["ok", "change", "changed", "missing", "refused", "sandbox", "manual", "left_alone"]
SANDBOX = "+14155238886"
AT_ONCE = 8
LIST = "GET /v2/Channels/Senders (the account's WhatsApp senders)"
CHANGE = "POST /v2/Channels/Senders/{Sid} (the sender's webhooks)"
"""The calls by the names that Twilio's documents have, https://www.twilio.com/docs/whatsapp/api/senders."""
OPEN_CONSOLE = "In console.twilio.com choose the account that has the number."
OR_BY_HAND = (
    ' To set the number in Twilio\'s console and let the rest be done now, declare "sender": "manual" '
    "(nuevo-cliente.yml: -e twilio=manual)."
)


class Senders(Protocol):
    """What is used of `integrations.twilio_senders.TwilioSenders`."""

    def of_account(self, account_sid: str | None, auth_token: str | None) -> dict[str, Sender]: ...

    def set_webhook(
        self,
        account_sid: str | None,
        auth_token: str | None,
        sender_sid: str,
        webhook: Mapping[str, str],
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class Account:
    """Twilio credentials as a bot has them: None means the operator's."""

    sid: str | None
    token: str | None = field(repr=False)


@dataclass(slots=True)
class NumberPlan:
    """A number at Twilio. `differs` has before and after of each field of the webhook; `todo` is what
    a person has to do in Twilio's console, in order."""

    number: str
    account: Account
    state: State
    sender: Sender | None = None
    differs: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    todo: Sequence[str] = ()


class Numbers:
    """Asks each account once for its senders."""

    def __init__(self, senders: Senders, settings: Settings) -> None:
        self._senders = senders
        self._settings = settings
        self.wanted = our_webhook(
            settings.public_base_url, waits_for_replica=settings.redis_acknowledge_on_replica
        )

    def plan(
        self, wanted: Iterable[tuple[str, Account, SenderSetup]]
    ) -> tuple[list[NumberPlan], list[ClientFault]]:
        """A plan for each number, account and who sets its sender; and what fails."""
        wanted = list(wanted)
        asked = {each[1] for each in wanted if each[2] == "api" and each[0] != SANDBOX}
        with ThreadPoolExecutor(AT_ONCE) as pool:
            listed = dict(zip(asked, pool.map(self._list, asked), strict=True))
        plans: list[NumberPlan] = []
        faults: list[ClientFault] = []
        for number, account, setup in wanted:
            if setup == "none":
                plans.append(NumberPlan(number, account, "left_alone"))
                continue
            if number == SANDBOX:
                plans.append(NumberPlan(number, account, "sandbox", todo=self._by_hand_sandbox()))
                continue
            if setup == "manual":
                todo = [OPEN_CONSOLE, *self._by_hand(number)]
                plans.append(NumberPlan(number, account, "manual", todo=todo))
                continue
            senders = listed[account]
            if isinstance(senders, VendorError):
                faults.append(ClientFault(number, None, why(account, senders, LIST) + OR_BY_HAND))
            else:
                plans.append(self._plan_of(number, account, senders.get(number)))
        return plans, faults

    def _list(self, account: Account) -> dict[str, Sender] | VendorError:
        try:
            return self._senders.of_account(account.sid, account.token)
        except VendorError as error:
            return error

    def point(self, plan: NumberPlan) -> None:
        """Carry the plan out. What Twilio refuses becomes something to do by hand.

        Raises DeclarationError when Twilio cannot be asked now.
        """
        if plan.sender is None or not plan.differs:
            return
        webhook = {**plan.sender.webhook, **self.wanted}
        try:
            self._senders.set_webhook(
                plan.account.sid, plan.account.token, plan.sender.sid, webhook
            )
        except PermanentError as error:
            plan.state = "refused"
            plan.todo = [
                why(plan.account, error, CHANGE),
                OPEN_CONSOLE,
                *self._by_hand(plan.number),
                *plan.todo,
            ]
        except VendorError as error:
            fault = ClientFault(plan.number, None, why(plan.account, error, CHANGE) + OR_BY_HAND)
            raise DeclarationError([fault]) from error
        else:
            plan.state = "changed"

    def _plan_of(self, number: str, account: Account, sender: Sender | None) -> NumberPlan:
        if sender is None:
            return NumberPlan(number, account, "missing", todo=self._missing(number, account))
        differs = differences(sender.webhook, self.wanted)
        todo = [] if sender.is_online else [self._offline(sender)]
        state: State = "change" if differs else "ok"
        return NumberPlan(number, account, state, sender, differs, todo)

    def _missing(self, number: str, account: Account) -> list[str]:
        if account.sid not in (None, self._settings.twilio_account_sid) and account.token is None:
            where = (
                f"{account.sid} is a subaccount, and its senders are seen with its own auth token "
                "only: give twilio_auth_token too, then run this again. If the sender does not exist "
                "yet, go on here."
            )
        else:
            sid = account.sid or self._settings.twilio_account_sid
            where = (
                f"The account {sid} has no WhatsApp sender {number}, and the first one of a "
                "business cannot be made through the API."
            )
        return [
            where,
            "In console.twilio.com choose the account, then Messaging, Senders, WhatsApp senders, "
            f"Create new sender; take the number {number} and follow Meta's steps until its status "
            "is Online.",
            "Then run this again, which sets the rest; or set it by hand as follows.",
            *self._by_hand(number),
        ]

    def _by_hand(self, number: str) -> list[str]:
        return [
            f"In Messaging, Senders, WhatsApp senders, {number}, Edit sender, under Messaging "
            "endpoint configuration choose 'Use webhooks'.",
            f"Webhook URL for incoming messages (HTTP POST): {self.wanted['callback_url']}",
            f"Fallback URL for incoming messages (HTTP POST): {self.wanted['fallback_url']}",
            f"Status callback URL (HTTP POST): {self.wanted['status_callback_url']}",
        ]

    def _by_hand_sandbox(self) -> list[str]:
        return [
            "This is Twilio's sandbox, which the API does not set.",
            "In console.twilio.com choose Messaging, Try it out, Send a WhatsApp message, Sandbox "
            "settings.",
            f"When a message comes in (POST): {self.wanted['callback_url']}",
            f"Status callback URL (POST): {self.wanted['status_callback_url']}",
        ]

    def _offline(self, sender: Sender) -> str:
        reasons = f" ({'; '.join(sender.offline_reasons)})" if sender.offline_reasons else ""
        return (
            f"The sender's status is {sender.status}{reasons}: no message comes until it is Online. "
            f"Look at it in Messaging, Senders, WhatsApp senders, {sender.number}."
        )


def why(account: Account, error: VendorError, call: str) -> str:
    """What a failed call to Twilio means for the operator; `call` is `LIST` or `CHANGE`."""
    if error.code in ("20003", "http_401"):
        return (
            f"Twilio refuses the credentials of {account.sid or 'the operator'}: check "
            "twilio_account_sid and twilio_auth_token."
        )
    if error.code in ("no_credentials", "bad_credentials"):
        return error.message
    told = (
        f"Twilio's answer to {call} of {account.sid or 'the account of the operator'}: {error.code}"
    )
    words = error.message.rstrip(".")
    if not isinstance(error, PermanentError):
        return f"{told}, {words}. Nothing is known of the sender. Run this again."
    return f"{told}, {words}. {_remedy(error.code)}"


def _remedy(code: str) -> str:
    if code.isdecimal():
        return f"https://www.twilio.com/docs/api/errors/{code} explains the code."
    return (
        "Twilio explains no such answer: check that TWILIO_API_BASE_URL is not set, that no proxy "
        "answers instead of Twilio, and that the account may use the Senders API."
    )
