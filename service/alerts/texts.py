"""What alerts say, in Spanish and in English. No secrets, no numbers of contacts, no messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Language = Literal["es", "en"]
Event = Literal["firing", "resolved", "test"]

_KINDS: Mapping[str, Mapping[str, str]] = {
    "es": {
        "unit": "la unidad {subject}",
        "store": "{subject}",
        "workers": "los workers",
        "queue": "la cola",
        "dead_turn": "turnos muertos de {subject}",
        "certificate": "el certificado de {subject}",
        "backup": "la copia de seguridad",
        "disk": "el disco {subject}",
        "inodes": "los inodos de {subject}",
        "memory": "la memoria",
        "reboot": "un reinicio pendiente",
        "updates": "las actualizaciones de seguridad",
        "model": "el modelo {subject}",
        "sender": "el número {subject}",
        "unchecked": "la vigilancia de {subject}",
    },
    "en": {
        "unit": "the unit {subject}",
        "store": "{subject}",
        "workers": "the workers",
        "queue": "the queue",
        "dead_turn": "dead turns of {subject}",
        "certificate": "the certificate of {subject}",
        "backup": "the backup",
        "disk": "the disk {subject}",
        "inodes": "the inodes of {subject}",
        "memory": "the memory",
        "reboot": "a restart that is due",
        "updates": "the security updates",
        "model": "the model {subject}",
        "sender": "the number {subject}",
        "unchecked": "the watch over {subject}",
    },
}
_FIRING: Mapping[str, Mapping[str, str]] = {
    "es": {
        "unit": "La unidad {subject} falló. Mire por qué: journalctl -u {subject}",
        "store": "No se puede usar {subject}. Mire: sudo horizonctl health",
        "workers": "No vive ningún worker: nadie responde los mensajes. "
        "Mire: systemctl status horizonai-bots",
        "queue": "Hay {conversations} conversaciones en espera y la más antigua espera hace {age_s} s. "
        "Mire: sudo horizonctl workers",
        "dead_turn": "El bot {subject} (cliente {client_id}) tiene {count} turnos muertos, {new} nuevos; "
        "motivo del último: {reason}. Mire: sudo horizonctl dead list",
        "certificate": "El certificado de {subject} {state}. Renuévelo: "
        "ansible-playbook site.yml -i <inventory> --tags certbot",
        "backup": "{state}. Mire: systemctl status horizonai-bots-backup",
        "disk": "El disco {subject} está lleno al {percent} %: quedan {free_mb} MB. "
        "Vea qué ocupa: sudo du -xh {subject} | sort -h | tail; libere con: "
        "ansible-playbook cleanup.yml -i <inventory>",
        "inodes": "Los inodos del disco {subject} están usados al {percent} %: pronto no se podrán crear "
        "archivos. Vea dónde están: sudo du -x --inodes {subject} | sort -n | tail",
        "memory": "La memoria está usada al {percent} %: quedan {available_mb} MB. "
        "Vea quién la usa: systemd-cgtop -m",
        "reboot": "El servidor tiene que reiniciarse ({why}). "
        "Reinícielo: ansible-playbook upgrade.yml -i <inventory> -e reboot=when-required",
        "updates": "{count} actualizaciones de seguridad esperan hace {days} días: {names}. "
        "Instálelas: ansible-playbook upgrade.yml -i <inventory>",
        "model": "El modelo {subject} {state}. Lo usan: {bots}. Elija otro: sudo horizonctl bots update",
        "sender": "El número {subject} (bot {bot_id}) está OFFLINE en Twilio: no recibe mensajes. {reasons} "
        "Mire: console.twilio.com, Messaging, Senders",
        "unchecked": "No se puede vigilar {subject}: {what}.",
    },
    "en": {
        "unit": "The unit {subject} failed. See why: journalctl -u {subject}",
        "store": "{subject} cannot be used. Look: sudo horizonctl health",
        "workers": "No worker lives: nobody answers messages. Look: systemctl status horizonai-bots",
        "queue": "{conversations} conversations wait, the oldest for {age_s} s. "
        "Look: sudo horizonctl workers",
        "dead_turn": "The bot {subject} (client {client_id}) has {count} dead turns, {new} of them new; "
        "why the last died: {reason}. Look: sudo horizonctl dead list",
        "certificate": "The certificate of {subject} {state}. Renew it: "
        "ansible-playbook site.yml -i <inventory> --tags certbot",
        "backup": "{state}. Look: systemctl status horizonai-bots-backup",
        "disk": "The disk {subject} is {percent} % full: {free_mb} MB are left. "
        "See what fills it: sudo du -xh {subject} | sort -h | tail; free some: "
        "ansible-playbook cleanup.yml -i <inventory>",
        "inodes": "{percent} % of the inodes of the disk {subject} are in use: soon no file can be made. "
        "See where they are: sudo du -x --inodes {subject} | sort -n | tail",
        "memory": "{percent} % of the memory are in use: {available_mb} MB are left. "
        "See who uses it: systemd-cgtop -m",
        "reboot": "The server has to restart ({why}). "
        "Restart it: ansible-playbook upgrade.yml -i <inventory> -e reboot=when-required",
        "updates": "{count} security updates have waited for {days} days: {names}. "
        "Install them: ansible-playbook upgrade.yml -i <inventory>",
        "model": "The model {subject} {state}. Used by: {bots}. "
        "Choose another: sudo horizonctl bots update",
        "sender": "The number {subject} (bot {bot_id}) is OFFLINE at Twilio: it gets no messages. {reasons} "
        "Look: console.twilio.com, Messaging, Senders",
        "unchecked": "{subject} cannot be watched: {what}.",
    },
}
_RESOLVED: Mapping[str, Mapping[str, str]] = {
    "es": {
        "unit": "La unidad {subject} ya no está fallida.",
        "store": "{subject} se puede usar de nuevo.",
        "workers": "Hay workers de nuevo.",
        "queue": "La cola ya no está atrasada.",
        "dead_turn": "El bot {subject} ya no tiene turnos muertos.",
        "certificate": "El certificado de {subject} está bien.",
        "backup": "Hay de nuevo una copia de seguridad reciente.",
        "disk": "El disco {subject} tiene espacio de nuevo.",
        "inodes": "El disco {subject} tiene inodos libres de nuevo.",
        "memory": "Hay memoria libre de nuevo.",
        "reboot": "El servidor ya no necesita reiniciarse.",
        "updates": "Ya no hay actualizaciones de seguridad que esperen demasiado.",
        "model": "Ningún bot usa un modelo {subject} que se apaga pronto.",
        "sender": "El número {subject} ya no está OFFLINE en Twilio.",
        "unchecked": "Se puede vigilar {subject} de nuevo.",
    },
    "en": {
        "unit": "The unit {subject} is no longer failed.",
        "store": "{subject} can be used again.",
        "workers": "There are workers again.",
        "queue": "The queue is no longer late.",
        "dead_turn": "The bot {subject} has no dead turns any more.",
        "certificate": "The certificate of {subject} is fine.",
        "backup": "There is a recent backup again.",
        "disk": "The disk {subject} has space again.",
        "inodes": "The disk {subject} has free inodes again.",
        "memory": "There is free memory again.",
        "reboot": "The server need not restart any more.",
        "updates": "No security update has been waiting for too long any more.",
        "model": "No bot uses a model {subject} that is shut down soon.",
        "sender": "The number {subject} is no longer OFFLINE at Twilio.",
        "unchecked": "{subject} can be watched again.",
    },
}
_TITLES: Mapping[str, Mapping[Event, str]] = {
    "es": {"firing": "ALERTA", "resolved": "RESUELTO", "test": "PRUEBA"},
    "en": {"firing": "ALERT", "resolved": "RESOLVED", "test": "TEST"},
}
_NAMES: Mapping[str, Mapping[str, str]] = {
    "es": {
        "redis": "Redis",
        "database": "la base de datos",
        "unit": "las unidades",
        "certificate": "los certificados",
        "memory": "la memoria",
        "updates": "las actualizaciones de seguridad",
        "model": "los modelos",
        "sender": "los números de Twilio",
    },
    "en": {
        "redis": "Redis",
        "database": "the database",
        "unit": "the units",
        "certificate": "the certificates",
        "memory": "the memory",
        "updates": "security updates",
        "model": "models",
        "sender": "the numbers at Twilio",
    },
}
_TEST = {
    "es": "Esto es una prueba: los avisos de este servidor llegan.",
    "en": "This is a test: the alerts of this server arrive.",
}


def title(language: Language, event: Event, kind: str, subject: str, host: str) -> str:
    """One line: what happened, to what, where."""
    word = _TITLES[language][event]
    if event == "test":
        return f"{word}: {host}"
    what = _KINDS[language][kind].format(subject=_name(language, kind, subject))
    return f"{word}: {what} ({host})"


def text(
    language: Language, event: Event, kind: str, subject: str, facts: Mapping[str, Any]
) -> str:
    """The sentences that say what is wrong and where to look."""
    if event == "test":
        return _TEST[language]
    form = (_FIRING if event == "firing" else _RESOLVED)[language][kind]
    values = {
        "count": 0,
        "new": 0,
        **facts,
        "subject": _name(language, kind, subject),
        "state": _state(language, kind, facts),
    }
    said = form.format(**values)
    return said[:1].upper() + said[1:]


def _name(language: Language, kind: str, subject: str) -> str:
    return _NAMES[language].get(subject, subject) if kind in ("store", "unchecked") else subject


def _state(language: Language, kind: str, facts: Mapping[str, Any]) -> str:
    spanish = language == "es"
    if kind == "certificate":
        days = facts.get("days") or 0
        if days < 0:
            return "venció" if spanish else "has run out"
        if facts.get("self_signed"):
            return (
                "es autofirmado y Twilio no lo acepta"
                if spanish
                else "is self-signed, and Twilio refuses it"
            )
        return f"vence en {days} días" if spanish else f"ends in {days} days"
    if kind == "backup":
        age_h = facts.get("age_h")
        if age_h is None:
            return (
                "No hay ninguna copia de seguridad terminada"
                if spanish
                else "There is no backup yet"
            )
        return (
            f"La última copia de seguridad tiene {age_h} horas"
            if spanish
            else f"The last backup is {age_h} hours old"
        )
    if kind == "model":
        day = facts.get("date")
        if day is None:
            return (
                "ya no existe para su clave" if spanish else "does not exist for its key any more"
            )
        return f"se apaga el {day}" if spanish else f"is shut down on {day}"
    return ""
