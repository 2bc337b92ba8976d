"""The clients' numbers at Twilio: whether their senders lead here, and making it so."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal, Protocol

from service.clients.declaration import ClientFault, DeclarationError
from service.conversation.ports import PermanentError, VendorError
from service.integrations.twilio_senders import Sender, differences, our_webhook
from service.settings import Settings

State = Literal["ok", "change", "changed", "missing", "refused", "sandbox", "left_alone"]
SANDBOX = "+14155238886"
AT_ONCE = 8


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
        self, wanted: Iterable[tuple[str, Account, bool]]
    ) -> tuple[list[NumberPlan], list[ClientFault]]:
        """A plan for each number, account and whether its sender is ours to set; and what fails."""
        wanted = list(wanted)
        asked = {each[1] for each in wanted if each[2] and each[0] != SANDBOX}
        with ThreadPoolExecutor(AT_ONCE) as pool:
            listed = dict(zip(asked, pool.map(self._list, asked), strict=True))
        plans: list[NumberPlan] = []
        faults: list[ClientFault] = []
        for number, account, is_ours in wanted:
            if not is_ours:
                plans.append(NumberPlan(number, account, "left_alone"))
                continue
            if number == SANDBOX:
                plans.append(NumberPlan(number, account, "sandbox", todo=self._by_hand_sandbox()))
                continue
            senders = listed[account]
            if isinstance(senders, VendorError):
                faults.append(ClientFault(number, None, why(account, senders)))
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
                f"Twilio does not let the sender be changed ({error.message.rstrip('.')}).",
                *self._by_hand(plan.number),
                *plan.todo,
            ]
        except VendorError as error:
            fault = ClientFault(plan.number, None, why(plan.account, error))
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


def why(account: Account, error: VendorError) -> str:
    """What a failed call to Twilio means for the operator."""
    if error.code in ("20003", "http_401"):
        return (
            f"Twilio refuses the credentials of {account.sid or 'the operator'}: check "
            "twilio_account_sid and twilio_auth_token."
        )
    if isinstance(error, PermanentError):
        return error.message
    return f"{error.message.rstrip('.')}: nothing is known of the sender. Run this again."
