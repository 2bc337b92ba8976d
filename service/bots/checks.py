"""What is checked of a bot beyond its shape: its addresses, its model, and what it forgot."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Protocol

from service.bots.changes import decrypted
from service.bots.errors import Fault, InvalidBotError
from service.settings import Settings
from service.store.bots import Row
from service.store.records import Record
from service.store.secrets import Cipher

_ADDRESSES = ("openai_base_url", "horizon_base_url")


class ModelCheck(Protocol):
    """The state is ok, unknown or unchecked; the message is a sentence."""

    @property
    def state(self) -> str: ...

    @property
    def message(self) -> str: ...

    @property
    def shutdown_date(self) -> date | None: ...


class ModelChecker(Protocol):
    """Knows which models exist."""

    def check_model(self, api_key: str | None, base_url: str | None, model: str) -> ModelCheck:
        """Takes at most some seconds and never raises."""


@dataclass(frozen=True, slots=True)
class ModelUse:
    """A model at a server, as a bot has them: None means the operator's own."""

    model: str
    base_url: str | None
    api_key: str | None = field(repr=False)


class BotChecks:
    """`check_url` raises ValueError, with a sentence, for an address that bots may not have.

    `models` gives the checker when one is needed: it is made, and its library loaded, only then.
    """

    def __init__(
        self,
        settings: Settings,
        cipher: Cipher,
        models: Callable[[], ModelChecker],
        check_url: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._cipher = cipher
        self._models = models
        self._check_url = check_url

    def addresses(self, values: Mapping[str, Any]) -> None:
        """Raises InvalidBotError."""
        faults = []
        for name in _ADDRESSES:
            if values.get(name) is None:
                continue
            try:
                self._check_url(values[name])
            except ValueError as error:
                faults.append(Fault(name, str(error)))
        if faults:
            raise InvalidBotError(faults)

    def model_use(self, bot: Row, assistant: Row) -> ModelUse:
        """The model that a bot's turns would ask, and where."""
        return ModelUse(
            model=assistant["model"] or self._settings.openai_default_model,
            base_url=bot["openai_base_url"],
            api_key=decrypted(bot["openai_api_key"], self._cipher),
        )

    def model(self, use: ModelUse) -> Sequence[Fault]:
        """Warnings when the server could not be asked; nothing is asked without a key.

        Raises:
            InvalidBotError: the server does not have the model.
        """
        operators_key = self._settings.openai_api_key if use.base_url is None else None
        if not (use.api_key or operators_key):
            return ()
        check = self._models().check_model(use.api_key, use.base_url, use.model)
        if check.state == "unknown":
            raise InvalidBotError([Fault("openai_model", check.message)])
        if check.state == "unchecked":
            message = f"It is not known whether the model {use.model} exists: {check.message}"
            return (Fault("openai_model", message),)
        return ()

    def advice(self, record: Record) -> list[Fault]:
        """What can be saved and will probably not do what was meant."""
        actions = {action["name"] for action in record["actions"]}
        advice = [
            Fault(
                "assistant_functions",
                f"The function {function['name']} has no entry of the same name in "
                "horizon_actions: its calls are answered 'not available'.",
            )
            for function in record["functions"]
            if function["name"] not in actions
        ]
        if record["openai_base_url"] is not None and record["openai_api_key"] is None:
            advice.append(
                Fault(
                    "openai_api_key",
                    "The bot has its own openai_base_url and no key for it: it cannot answer, "
                    "because OPENAI_API_KEY goes to no other address than the operator's.",
                )
            )
        if "legacy_assistant_id" in record["metadata"]:
            advice.append(
                Fault(
                    "metadata.legacy_assistant_id",
                    "OpenAI's Assistants API is gone, so this id is kept for reference only: send "
                    "the assistant's model, instructions and tools as assistant_config.",
                )
            )
        return advice
