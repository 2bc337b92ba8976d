"""The client's CRM: Horizon, over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Literal

from service.conversation.bot import Bot
from service.conversation.ports import (
    ActionAnswer,
    ActionCall,
    PermanentError,
    TransientError,
    UncertainError,
)
from service.integrations.error_answers import is_header_safe
from service.integrations.horizon_http import Target, exchange, status_error
from service.integrations.http_session import connections_for, new_session
from service.settings import Settings

CONTROL_TIMEOUT_S = 2.0
CONTROL_TRIES = 2
LOOKUP_TIMEOUT_S = 2.0
MAX_IDEMPOTENCY_KEY_CHARS = 255
OPERATOR_HOSTS = 4
BOT_HOSTS = 256


class HorizonCrm:
    """Implements `Crm`. One object serves all bots and threads of the process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        connections = connections_for(settings.worker_threads)
        self._operator = new_session(connections=connections, hosts=OPERATOR_HOSTS)
        self._bots = new_session(
            connections=connections, hosts=BOT_HOSTS, guarded=not settings.allow_private_addresses
        )

    def call(self, bot: Bot, call: ActionCall) -> ActionAnswer:
        """Make an action's call. Every HTTP status is an answer; redirects are not followed.

        Raises:
            TransientError: it was never sent.
            PermanentError: not configured (`no_address`, `no_token`), refused (`address_refused`),
                or impossible to send.
            UncertainError: sent, but its end is unknown.
        """
        headers = {}
        if call.idempotency_key is not None:
            headers["Idempotency-Key"] = _idempotency_key(call.idempotency_key)
        return exchange(
            self._target(bot),
            call.action.method.upper(),
            call.path,
            query=call.query,
            body=call.body,
            headers=headers,
            timeout_s=self._settings.horizon_timeout_s,
        )[0]

    def control_mode(self, bot: Bot, contact_number: str) -> Literal["human", "bot"]:
        """Who answers this contact. Two tries of 2 s.

        Raises:
            VendorError: Horizon did not say.
        """
        target = self._target(bot)
        for last_try in (False,) * (CONTROL_TRIES - 1) + (True,):
            try:
                answer = self._get(
                    target,
                    self._settings.horizon_control_path,
                    {"telefono": contact_number},
                    CONTROL_TIMEOUT_S,
                )
                break
            except TransientError:
                if last_try:
                    raise
        mode = answer.body.get("control_mode") if isinstance(answer.body, Mapping) else None
        if mode == "human":
            return "human"
        if mode == "bot":
            return "bot"
        raise TransientError("bad_answer", "Horizon's answer has no control_mode of human or bot")

    def report(self, bot: Bot, contact_number: str, kind: str, data: Mapping[str, Any]) -> None:
        """Tell Horizon of an event; `lead_id` is taken from `data`.

        Raises:
            VendorError: Horizon did not take it; an UncertainError when it may have.
        """
        body = {
            "tipo": kind,
            "phone": contact_number,
            "lead_id": data.get("lead_id"),
            "datos": dict(data),
        }
        answer, retry_s = exchange(
            self._target(bot),
            "POST",
            self._settings.horizon_events_path,
            body=body,
            timeout_s=self._settings.horizon_timeout_s,
        )
        if answer.status >= 500:
            raise UncertainError(f"http_{answer.status}", f"Horizon answered {answer.status}")
        if not 200 <= answer.status < 300:
            raise status_error(answer.status, retry_s)

    @property
    def can_look_up(self) -> bool:
        """Whether HORIZON_BASE_URL and HORIZON_API_KEY are set: else nothing is looked up."""
        return bool(self._settings.horizon_base_url and self._settings.horizon_api_key)

    def fetch_config(
        self, number: str, timeout_s: float = LOOKUP_TIMEOUT_S
    ) -> Mapping[str, Any] | None:
        """Horizon's configuration of the bot with this number (E.164), by the operator's token.

        None when Horizon has none, or when `can_look_up` is false.

        Raises:
            TransientError: Horizon did not say, whatever the reason.
        """
        if not self.can_look_up:
            return None
        target = self._operator_target()
        try:
            path = self._settings.horizon_config_path
            answer = self._get(target, path, {"phone": number}, timeout_s, may_be_missing=True)
        except PermanentError as error:
            raise TransientError(error.code, error.message) from error
        if answer.status == 404:
            return None
        if not isinstance(answer.body, Mapping):
            raise TransientError("bad_answer", "Horizon's bot configuration is not a JSON object")
        return answer.body

    def close(self) -> None:
        """Close the connections."""
        self._operator.close()
        self._bots.close()

    def _target(self, bot: Bot) -> Target:
        """Where this bot's calls go; the operator's token goes to the operator's address only."""
        if not bot.horizon_base_url:
            return self._operator_target(bot.horizon_api_token)
        base_url = bot.horizon_base_url.rstrip("/")
        is_operators = base_url == self._settings.horizon_base_url
        session = self._operator if is_operators else self._bots
        what = "The bot has its own Horizon address but no token: set its horizon_api_token."
        return Target(base_url, _token(bot.horizon_api_token, what), session)

    def _operator_target(self, own_token: str | None = None) -> Target:
        base_url = self._settings.horizon_base_url
        if base_url is None:
            raise PermanentError(
                "no_address",
                "There is no Horizon address: set the bot's horizon_base_url or HORIZON_BASE_URL.",
            )
        what = "There is no Horizon token: set the bot's horizon_api_token or HORIZON_API_KEY."
        token = _token(own_token or self._settings.horizon_api_key, what)
        return Target(base_url, token, self._operator)

    def _get(
        self,
        target: Target,
        path: str,
        query: Mapping[str, str],
        timeout_s: float,
        *,
        may_be_missing: bool = False,
    ) -> ActionAnswer:
        """Read something, which is never uncertain."""
        try:
            answer, retry_s = exchange(target, "GET", path, query=query, timeout_s=timeout_s)
        except UncertainError as error:
            raise TransientError(error.code, error.message) from error
        if 200 <= answer.status < 300 or (may_be_missing and answer.status == 404):
            return answer
        raise status_error(answer.status, retry_s)


def _token(token: str | None, what_to_set: str) -> str:
    if not token:
        raise PermanentError("no_token", what_to_set)
    if not is_header_safe(token):
        raise PermanentError(
            "bad_token", "The Horizon token has characters that no token has: set it again."
        )
    return token


def _idempotency_key(key: str) -> str:
    """The key, or its hash when unfit for a header: the model's server chose a part of it."""
    if is_header_safe(key) and len(key) <= MAX_IDEMPOTENCY_KEY_CHARS:
        return key
    return sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
