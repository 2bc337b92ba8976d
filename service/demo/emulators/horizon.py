"""An emulator of Horizon: bot configurations, events, control mode and a small CRM of leads.

Errors are those of a Django REST framework in Spanish.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from service.demo.emulators.server import Emulator
from service.demo.emulators.wire import Request, Response

TOKEN = "emulator-horizon-token"  # noqa: S105  # opens nothing but the emulator
REQUIRED = "Este campo es requerido."
ControlMode = Literal["human", "bot"]


@dataclass(frozen=True, slots=True)
class Effect:
    """Something that a request changed; an answer repeated for its key is none."""

    method: str
    path: str
    client: str
    idempotency_key: str | None
    body: Any
    at: float


class ApiError(Exception):
    """The API refuses with this body."""

    def __init__(self, status: int, body: Mapping[str, Any]) -> None:
        super().__init__(f"{status}: {body}")
        self.status = status
        self.body = dict(body)


class HorizonEmulator(Emulator):
    """Horizon on loopback with its `tokens` (bearer token → client).

    `idempotency` decides whether `Idempotency-Key` is honoured. `configs` (by E.164 number),
    `control_modes` (by contact) and `idempotency` may be changed while it runs.
    """

    def __init__(
        self,
        tokens: Mapping[str, str] | None = None,
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        idempotency: bool = True,
        keep_requests: int = 20_000,
    ) -> None:
        super().__init__(port, host, keep_requests)
        self.tokens = dict(tokens or {TOKEN: "demo"})
        self.idempotency = idempotency
        self.configs: dict[str, dict[str, Any]] = {}
        self.control_modes: dict[str, ControlMode] = {}
        self._state_lock = threading.Lock()
        self._leads: dict[int, dict[str, Any]] = {}
        self._owners: dict[int, str] = {}
        self._last_id = 0
        self._events: list[dict[str, Any]] = []
        self._effects: list[Effect] = []
        self._answers: dict[tuple[str, str, str, str], Response] = {}

    @property
    def leads(self) -> list[dict[str, Any]]:
        """Every lead, oldest first."""
        with self._state_lock:
            return [dict(lead) for lead in self._leads.values()]

    @property
    def events(self) -> list[dict[str, Any]]:
        """Every reported event, oldest first."""
        with self._state_lock:
            return list(self._events)

    @property
    def effects(self) -> list[Effect]:
        """Everything that was changed, oldest first."""
        with self._state_lock:
            return list(self._effects)

    def handle(self, request: Request) -> Response:
        """Answer one call of the API."""
        try:
            client = self._authenticate(request)
            with self._state_lock:
                return self._once(request, client)
        except ApiError as error:
            return Response(error.status, error.body)

    def error_answer(self, status: int, message: str) -> Response:
        """An error in Horizon's shape."""
        return Response(status, {"detail": message})

    def control(self, request: Request) -> Response | None:
        """What the operator of the CRM would set: `tokens`, `configs`, `control`, `idempotency`."""
        body = request.body
        if request.method != "POST" or not isinstance(body, dict):
            return None
        match request.path:
            case "/_emulator/tokens":
                self.tokens[str(body["token"])] = str(body.get("client", "demo"))
            case "/_emulator/configs":
                self.configs[str(body["phone"])] = dict(body["config"])
            case "/_emulator/control":
                self.control_modes[str(body["telefono"])] = body["control_mode"]
            case "/_emulator/idempotency":
                self.idempotency = bool(body["enabled"])
            case _:
                return None
        return Response(201)

    def state(self) -> dict[str, Any]:
        """Leads, events, effects and settings; no tokens."""
        return {
            "clients": sorted(set(self.tokens.values())),
            "configs": dict(self.configs),
            "control_modes": dict(self.control_modes),
            "leads": self.leads,
            "events": self.events,
            "effects": [asdict(effect) for effect in self.effects],
            "idempotency": self.idempotency,
        }

    def clear_state(self) -> None:
        """Forget everything but the tokens."""
        with self._state_lock:
            self.configs.clear()
            self.control_modes.clear()
            self._leads.clear()
            self._owners.clear()
            self._last_id = 0
            self._events.clear()
            self._effects.clear()
            self._answers.clear()

    def _authenticate(self, request: Request) -> str:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if not token:
            raise ApiError(401, {"detail": "Las credenciales de autenticación no se proveyeron."})
        if scheme != "Bearer" or token not in self.tokens:
            raise ApiError(401, {"detail": "Token inválido."})
        return self.tokens[token]

    def _once(self, request: Request, client: str) -> Response:
        """Answer, but repeat an earlier answer of the same client, method, path and key."""
        key = request.headers.get("idempotency-key")
        if key is None or not self.idempotency or request.method not in ("POST", "PATCH"):
            return self._route(request, client)
        seen = (client, request.method, request.path, key)
        if seen not in self._answers:
            self._answers[seen] = self._route(request, client)
        return self._answers[seen]

    def _route(self, request: Request, client: str) -> Response:
        path = request.path
        if not path.endswith("/"):
            if request.method == "GET":
                return Response(301, headers={"Location": f"{path}/"})
            raise _not_found()
        match path.strip("/").split("/"):
            case ["api", "bot", "config"]:
                _allow(request, "GET")
                config = self.configs.get(_query(request, "phone"))
                if config is None:
                    raise _not_found()
                return Response(200, config)
            case ["api", "bot", "control-status"]:
                _allow(request, "GET")
                mode = self.control_modes.get(_query(request, "telefono"), "bot")
                return Response(200, {"control_mode": mode})
            case ["api", "bot", "eventos"]:
                _allow(request, "POST")
                return self._report(request, client)
            case ["api", "leads"]:
                _allow(request, "GET", "POST")
                return self._all_leads(request, client)
            case ["api", "leads", number]:
                _allow(request, "GET", "PUT", "PATCH", "DELETE")
                return self._one_lead(request, client, number)
        raise _not_found()

    def _report(self, request: Request, client: str) -> Response:
        body = _json(request)
        _require(body, "tipo", "phone")
        event = {"id": len(self._events) + 1, **body}
        self._events.append(event)
        self._note(request, client)
        return Response(201, event)

    def _all_leads(self, request: Request, client: str) -> Response:
        if request.method == "GET":
            mine = [lead for key, lead in self._leads.items() if self._owners[key] == client]
            return Response(200, {"count": len(mine), "results": mine})
        body = _json(request)
        _require(body, "nombre", "interes")
        self._last_id += 1
        lead = {
            "telefono": None,
            "estado": "nuevo",
            **body,
            "id": self._last_id,
            "creado": datetime.now(UTC).isoformat(),
        }
        self._leads[self._last_id] = lead
        self._owners[self._last_id] = client
        self._note(request, client)
        return Response(201, dict(lead))

    def _one_lead(self, request: Request, client: str, number: str) -> Response:
        key = int(number) if number.isdigit() else -1
        if self._owners.get(key) != client:
            raise _not_found()
        lead = self._leads[key]
        match request.method:
            case "PUT" | "PATCH":
                body = _json(request)
                if request.method == "PUT":
                    _require(body, "nombre", "interes")
                lead.update({name: value for name, value in body.items() if name != "id"})
                self._note(request, client)
            case "DELETE":
                del self._leads[key], self._owners[key]
                self._note(request, client)
                return Response(204)
        return Response(200, dict(lead))

    def _note(self, request: Request, client: str) -> None:
        key = request.headers.get("idempotency-key")
        self._effects.append(
            Effect(request.method, request.path, client, key, request.body, request.at)
        )


def _not_found() -> ApiError:
    return ApiError(404, {"detail": "No encontrado."})


def _allow(request: Request, *methods: str) -> None:
    if request.method not in methods:
        raise ApiError(405, {"detail": f'Método "{request.method}" no permitido.'})


def _query(request: Request, name: str) -> str:
    if not request.query.get(name):
        raise ApiError(422, {name: [REQUIRED]})
    return request.query[name]


def _json(request: Request) -> dict[str, Any]:
    kind = request.headers.get("content-type", "").split(";")[0]
    if kind != "application/json":
        raise ApiError(415, {"detail": f'Tipo de medio "{kind}" incompatible en la solicitud.'})
    if not isinstance(request.body, dict):
        raise ApiError(400, {"detail": "Error de análisis JSON."})
    return request.body


def _require(body: Mapping[str, Any], *names: str) -> None:
    faults: dict[str, Any] = {}
    for name in names:
        value = body.get(name)
        if value is None:
            faults[name] = [REQUIRED]
        elif not isinstance(value, str):
            faults[name] = ["Esta no es una cadena de texto válida."]
        elif not value.strip():
            faults[name] = ["Este campo no puede estar en blanco."]
    if faults:
        raise ApiError(422, faults)
