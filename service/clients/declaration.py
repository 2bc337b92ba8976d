"""What an operator declares of clients: each a bot with its fields as REST takes them.

`sender` says who sets the number's webhooks at Twilio: `true` (the default) this service, `"manual"` a
person, who is told how, and `false` nobody.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from service.bots.changes import BotChanges
from service.bots.errors import Fault, InvalidBotError
from service.conversation.storable import storable_json
from service.web.body import MAX_DEPTH
from service.web.errors import faults_of
from service.web.schemas import BotCreate, BotUpdate

MAX_CLIENTS = 1_000
_MAX_SLUG_CHARS = 60
SenderSetup = Literal["api", "manual", "none"]
"""Who sets the webhooks of a number's sender at Twilio: this service, a person, or nobody."""
_SETUPS: Mapping[Any, SenderSetup] = {True: "api", "manual": "manual", False: "none"}


@dataclass(frozen=True, slots=True)
class ClientFault:
    """Why a client cannot be as declared. `client` is its number, else its name or its place."""

    client: str
    field: str | None
    message: str

    def __str__(self) -> str:
        where = f"{self.client}, {self.field}" if self.field else self.client
        return f"{where}: {self.message}"


class DeclarationError(Exception):
    """Nothing was changed: these clients cannot be as declared."""

    def __init__(self, faults: Sequence[ClientFault]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = tuple(faults)


@dataclass(frozen=True, slots=True)
class Declaration:
    """A client that is well formed. `creation` is REST's body for a new bot, `update` for one that
    exists. `client_id_given` tells a named id from one made of the name."""

    name: str
    number: str
    client_id: str
    client_id_given: bool
    sender_setup: SenderSetup
    creation: Mapping[str, Any]
    update: Mapping[str, Any]

    def creating(self) -> BotChanges:
        """As the use case of creating takes it."""
        return BotCreate.model_validate(dict(self.creation)).changes()

    def updating(self) -> BotChanges:
        """As the use case of changing takes it."""
        return BotUpdate.model_validate(dict(self.update)).changes()


def slug(name: str) -> str:
    """A client's id made of its name: `Restaurante La Cocina` → `restaurante-la-cocina`."""
    letters = unicodedata.normalize("NFKD", name.casefold())
    plain = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:_MAX_SLUG_CHARS].rstrip("-")


def read(document: Any) -> list[Declaration]:
    """The clients of a document, `{"clients": [...]}`.

    Raises:
        DeclarationError: it names every fault of every client.
    """
    clients = document.get("clients") if isinstance(document, Mapping) else None
    if not isinstance(clients, list) or not isinstance(document, Mapping) or len(document) != 1:
        raise _whole('The document must be {"clients": [...]}, a list of clients.')
    if not clients:
        raise _whole("The list of clients is empty.")
    if len(clients) > MAX_CLIENTS:
        raise _whole(f"There are {len(clients)} clients; one run takes {MAX_CLIENTS}.")
    faults: list[ClientFault] = []
    found: list[Declaration] = []
    for place, fields in enumerate(clients, 1):
        try:
            found.append(_declaration(fields, f"client {place}"))
        except DeclarationError as error:
            faults += error.faults
    faults += _repeated(found)
    if faults:
        raise DeclarationError(faults)
    return found


def _declaration(fields: Any, place: str) -> Declaration:
    if not isinstance(fields, dict):
        raise DeclarationError([ClientFault(place, None, "It must be an object with fields.")])
    label = str(fields.get("twilio_phone_number") or fields.get("name") or place)[:80]
    request = {name: value for name, value in fields.items() if name != "sender"}
    faults: list[ClientFault] = []
    sender = fields.get("sender", True)
    if not isinstance(sender, bool | str) or sender not in _SETUPS:
        faults.append(ClientFault(label, "sender", 'Say true, false or "manual".'))
    if not _is_storable(request):
        faults.append(ClientFault(label, None, "It has a NUL character or is nested too deep."))
        raise DeclarationError(faults)
    given = request.get("client_id") is not None
    if not given:
        request.pop("client_id", None)
        name, number = str(request.get("name") or ""), str(request.get("twilio_phone_number") or "")
        made = slug(name) or f"client-{slug(number)}".rstrip("-")
        request["client_id"] = made
    update = {name: value for name, value in request.items() if name != "twilio_phone_number"}
    try:
        BotCreate.model_validate(request).changes()
        BotUpdate.model_validate(update).changes()
    except ValidationError as error:
        faults += [ClientFault(label, fault.field, fault.message) for fault in faults_of(error)]
    except InvalidBotError as error:
        faults += [ClientFault(label, fault.field, fault.message) for fault in error.faults]
    if faults:
        raise DeclarationError(list(dict.fromkeys(faults)))
    return Declaration(
        name=str(request["name"]).strip(),
        number=request["twilio_phone_number"],
        client_id=request["client_id"],
        client_id_given=given,
        sender_setup=_SETUPS[sender],
        creation={name: value for name, value in request.items() if value is not None},
        update=update,
    )


def _repeated(found: Sequence[Declaration]) -> list[ClientFault]:
    faults = []
    numbers: dict[str, Declaration] = {}
    ids: dict[str, Declaration] = {}
    for each in found:
        if each.number in numbers:
            other = numbers[each.number].name
            message = f"{other} and {each.name} both have this number."
            faults.append(ClientFault(each.number, "twilio_phone_number", message))
        numbers.setdefault(each.number, each)
        first = ids.setdefault(each.client_id, each)
        if first.number != each.number and not (first.client_id_given and each.client_id_given):
            faults.append(ClientFault(each.number, "client_id", taken_id(each, first.number)))
    return faults


def taken_id(declared: Declaration, other_number: str) -> str:
    """Why an id made of the name is not taken for a second number."""
    return (
        f"The client {declared.client_id} has the number {other_number} already. If both are the "
        f"same client, give each client_id: {declared.client_id}; else give this one another."
    )


def fault_of(number: str, fault: Fault) -> ClientFault:
    """A fault of a bot as one of its client."""
    return ClientFault(number, fault.field, fault.message)


def _whole(message: str) -> DeclarationError:
    return DeclarationError([ClientFault("The declaration", None, message)])


def _is_storable(request: dict[str, Any]) -> bool:
    return not _is_deeper(request, MAX_DEPTH) and bool(storable_json(request) == request)


def _is_deeper(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels <= 1 or any(_is_deeper(each, levels - 1) for each in inner)
