"""Filters: clients as operators write them, in Spanish, as `horizonctl clients apply` takes them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

import yaml
from ansible.plugins.filter.core import from_yaml

FIELDS = {
    "nombre": "name",
    "numero": "twilio_phone_number",
    "cliente_id": "client_id",
    "instrucciones": "instructions",
    "modelo": "openai_model",
    "asistente": "assistant_config",
    "funciones": "assistant_functions",
    "acciones": "horizon_actions",
    "idioma": "language",
    "zona_horaria": "timezone",
    "textos": "texts",
    "relevo": "handoff",
    "informar_turnos": "report_turns",
    "metadatos": "metadata",
    "pausado": "status",
    "twilio_cuenta": "twilio_account_sid",
    "twilio_servicio": "twilio_messaging_service_sid",
    "openai_url": "openai_base_url",
    "horizon_url": "horizon_base_url",
    "configurar_twilio": "sender",
    "twilio": "sender",
}
SECRETS = {
    "twilio_token": "twilio_auth_token",
    "openai_clave": "openai_api_key",
    "horizon_token": "horizon_api_token",
}
FILE = "instrucciones_archivo"
NO_TEXT = ("asistente", "funciones", "acciones", "textos", "relevo", "metadatos")
TRUE_OR_FALSE = ("informar_turnos", "configurar_twilio", "pausado")
# Which of `configurar_twilio` and `twilio` says it: `twilio: manual` is a third answer beside true and false.
TWILIO = {"auto": True, "manual": "manual"}
EXAMPLES = {"nombre": '-e nombre="Restaurante La Cocina"', "numero": "-e numero=+15551234567"}
LINES = {"nombre": "nombre: Restaurante La Cocina", "numero": 'numero: "+15551234567"'}
NAMES = [*FIELDS, *SECRETS, FILE]
MAX_FILE_BYTES = 1_000_000


class _Problem(Exception):
    """A value cannot be used; the text is a sentence."""


def declared(given: Any, folder: str, described: str = "") -> dict[str, Any]:
    """One client: `clients` with at most one entry, its `secrets` by number, and `problems`.

    `folder` is where a relative `instrucciones_archivo` is looked for; `described` names the client
    where it is one of several.
    """
    where = f"{described}: " if described else ""
    if not isinstance(given, Mapping):
        return _refused(f"{where}a client is a list of fields, like nombre and numero.")
    values = {name: value for name, value in given.items() if value not in (None, "")}
    problems = [
        f"{where}there is no field {name}. The fields are {', '.join(sorted(NAMES))}."
        for name in values
        if name not in NAMES
    ]
    problems += [
        f"{where}{name} is missing: write {LINES[name]}."
        if described
        else f"the variable {name} is missing: say {example}."
        for name, example in EXAMPLES.items()
        if name not in values
    ]
    client: dict[str, Any] = {}
    secrets: dict[str, str] = {}
    if FILE in values and "instrucciones" in values:
        problems.append(f"{where}give {FILE} or instrucciones, not both.")
    if "twilio" in values and "configurar_twilio" in values:
        problems.append(f"{where}give twilio or configurar_twilio, not both.")
    for name, value in values.items():
        if name not in NAMES:
            continue
        try:
            plain = _plain(name, value)
            if name == FILE:
                client["instructions"] = _text(plain, folder)
            elif name in SECRETS:
                secrets[SECRETS[name]] = plain
            else:
                client[FIELDS[name]] = _status(plain) if name == "pausado" else plain
        except _Problem as problem:
            problems.append(f"{where}{problem}")
    if problems:
        return {"clients": [], "secrets": {}, "problems": problems}
    return {
        "clients": [client],
        "secrets": {client["twilio_phone_number"]: secrets} if secrets else {},
        "problems": [],
    }


def file_problem(named: Any, path: str) -> str:
    """Why there is no file of clients at `path`, which `named` was made to; empty when there is one."""
    if named in (None, ""):
        return "The variable clientes_archivo is missing: say -e clientes_archivo=mis-clientes.yml."
    if os.path.isdir(path):
        return f"{path} is a folder: name the file in it with -e clientes_archivo=…."
    return "" if os.path.isfile(path) else f"There is no file {path}."


def of_file(text: str, path: str) -> dict[str, Any]:
    """Every client of a file's text, as `declared`."""
    try:
        text.encode()
        nodes = _nodes(text)
        problems = [f"{path} has {problem}" for problem in _encrypted(nodes, path) + _lost(nodes)]
        if problems:
            return _refused(*problems)
        document = from_yaml(text)
    except UnicodeError:
        return _refused(f"{path} is not UTF-8 text: save it as UTF-8.")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = "" if mark is None else f", line {mark.line + 1}, column {mark.column + 1}"
        return _refused(f"{path} is no YAML{where}: {error.problem}. docs/clients.md has its form.")
    except (yaml.YAMLError, ValueError) as error:
        return _refused(f"{path} is no YAML: {error}.")
    return all_declared(document, os.path.dirname(path))


def all_declared(document: Any, folder: str) -> dict[str, Any]:
    """Every client of a file `{clientes: [...]}`, as `declared`."""
    listed = document.get("clientes") if isinstance(document, Mapping) else None
    if not isinstance(listed, list) or not listed:
        return _refused("the file must hold a list under `clientes:`, each with nombre and numero.")
    beside = [str(name) for name in document if name != "clientes"]
    if beside:
        return _refused(
            f"the file has {', '.join(beside)} beside `clientes:`, and nothing else may stand there."
        )
    found: dict[str, Any] = {"clients": [], "secrets": {}, "problems": []}
    for place, given in enumerate(listed, 1):
        name = given.get("nombre") if isinstance(given, Mapping) else None
        named = f" ({name})" if name and isinstance(name, str) else ""
        one = declared(given, folder, f"client {place}{named}")
        found["clients"] += one["clients"]
        found["secrets"].update(one["secrets"])
        found["problems"] += one["problems"]
    return found


def variables(names: list[str]) -> dict[str, str]:
    """The service's fields behind the operators' variables: what each is called in a file of clients."""
    fields = {**FIELDS, **SECRETS}
    # Of two variables with one field, the first is the one that faults name.
    return {fields[name]: name for name in reversed(names) if name in fields}


def number(value: Any) -> str:
    """A number as text: YAML reads an unquoted +15551234567 as a whole number."""
    return f"+{value}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _refused(*problems: str) -> dict[str, Any]:
    return {"clients": [], "secrets": {}, "problems": list(problems)}


def _encrypted(nodes: list[yaml.Node], path: str) -> list[str]:
    """Values that are encrypted one by one."""
    return [
        f"an encrypted value, line {node.start_mark.line + 1}: write it in clear and encrypt the whole "
        f"file: ansible-vault encrypt {path}."
        for node in nodes
        if node.tag in ("!vault", "!vault-encrypted")
    ]


def _lost(nodes: list[yaml.Node]) -> list[str]:
    """What reading would lose: of two values under one key, YAML keeps the second and says nothing."""
    return [
        f"`{key.value}` twice, line {key.start_mark.line + 1}: only the last of them would count."
        for node in nodes
        if isinstance(node, yaml.MappingNode)
        for key in _again(node)
    ] + [
        f"`numero: {value.value}`, line {value.start_mark.line + 1}, which YAML reads as another "
        "number: put it in quotes."
        for node in nodes
        if isinstance(node, yaml.MappingNode)
        for key, value in node.value
        if key.value == "numero"
        and value.tag == "tag:yaml.org,2002:int"
        and not re.fullmatch(r"[+]?[1-9][0-9]*", value.value)
    ]


def _nodes(text: str) -> list[yaml.Node]:
    """Everything in it, in its order, what is repeated by an alias once."""
    found: dict[int, yaml.Node] = {}
    # As bytes: libyaml takes no kind of text but str itself, and Ansible's is one that knows its origin.
    root = yaml.compose(text.encode(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    left = [] if root is None else [root]
    while left:
        node = left.pop()
        if id(node) in found:
            continue
        found[id(node)] = node
        if isinstance(node, yaml.SequenceNode):
            left += node.value
        elif isinstance(node, yaml.MappingNode):
            left += [each for pair in node.value for each in pair]
    return sorted(found.values(), key=lambda node: node.start_mark.index)


def _again(node: yaml.MappingNode) -> list[yaml.ScalarNode]:
    """The keys that stand before in the same mapping."""
    keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
    names = [(key.tag, key.value) for key in keys]
    return [key for place, key in enumerate(keys) if names[place] in names[:place]]


def _plain(name: str, value: Any) -> Any:
    if name == "numero":
        return number(value)
    if name in NO_TEXT or (name in TRUE_OR_FALSE and isinstance(value, bool)):
        return value
    if name == "twilio":
        if value not in TWILIO:
            raise _Problem(
                "twilio must be manual (a person sets the number in Twilio's console) or auto."
            )
        return TWILIO[value]
    if name not in TRUE_OR_FALSE:
        if not isinstance(value, str):
            # YAML reads 0012 as ten and yes as true: what was meant is not known any more.
            raise _Problem(f"{name} must be text: put it in quotes.")
        return value
    # -e name=value is always text.
    words = {"true": True, "yes": True, "si": True, "sí": True, "false": False, "no": False}
    if str(value).lower() not in words:
        raise _Problem(f"{name} must be true or false.")
    return words[str(value).lower()]


def _status(paused: Any) -> Any:
    return ("paused" if paused else "active") if isinstance(paused, bool) else paused


def _text(path: str, folder: str) -> str:
    full = os.path.join(folder, os.path.expanduser(path))
    try:
        with open(full, "rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
        text = raw.decode("utf-8")
    except OSError as error:
        raise _Problem(f"the file of {FILE} cannot be read: {full}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise _Problem(f"the file of {FILE} is not UTF-8 text: {full}.") from None
    if len(raw) > MAX_FILE_BYTES:
        raise _Problem(f"the file of {FILE} is larger than 1 MB: {full}.")
    if not text.strip():
        raise _Problem(f"the file of {FILE} is empty: {full}.")
    return text.strip()


class FilterModule:
    """What playbooks use."""

    def filters(self) -> dict[str, Any]:
        return {
            "horizon_client": declared,
            "horizon_clients": of_file,
            "horizon_clients_file_problem": file_problem,
            "horizon_number": number,
            "horizon_variables": variables,
        }
