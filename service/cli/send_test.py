"""`send-test`: a message to a bot as Twilio would deliver it, signed with the bot's own token."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlencode

import typer

from service.cli.failures import USAGE, CommandError
from service.cli.output import JsonFlag, print_json, print_line
from service.cli.session import session

if TYPE_CHECKING:
    from service.container import Container

PATH = "/webhook/whatsapp"
_TIMEOUT_S = 15
"""As long as Twilio waits."""


def send_test(
    number: Annotated[str, typer.Argument(help="The bot's number, in E.164.")],
    text: Annotated[str, typer.Argument(help="What is written to it.")],
    sender: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Number that writes, and that gets the reply; default TWILIO_WHATSAPP_FROM.",
            show_default=False,
        ),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            help="Where to connect, when not to PUBLIC_BASE_URL; the signature stays that one's.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Write to a bot through its webhook. The bot really answers, to the number that writes."""
    with session() as container:
        sender = sender or container.settings.twilio_whatsapp_from
        if sender is None:
            raise CommandError("Give --from, or set TWILIO_WHATSAPP_FROM.", USAGE)
        public_base_url = container.settings.public_base_url
        form, token = _form(container, number, sender.removeprefix("whatsapp:"), text)
    status, ms = _post(form, token, public_base_url, (url or public_base_url).rstrip("/"))
    if as_json:
        print_json({"status": status, "ms": round(ms, 1), "message_sid": form["MessageSid"]})
    else:
        print_line(f"HTTP {status} in {ms:.0f} ms")
    if status != 200:
        raise CommandError(_MEANINGS.get(status, "The service did not take the message."))


_MEANINGS = {
    403: "The signature was refused: check that the service has the same PUBLIC_BASE_URL and token.",
    404: "The service does not know this number, or this is not its address.",
    503: "The service can keep no message now: `horizonctl health` says why.",
}


def _form(container: Container, number: str, sender: str, text: str) -> tuple[dict[str, str], str]:
    bot = container.directory.find(number)
    if bot is None:
        raise CommandError(f"No bot has the number {number}: `horizonctl bots list` shows all.")
    token = bot.twilio_auth_token or container.settings.twilio_auth_token
    if token is None:
        raise CommandError(f"{bot.id} has no Twilio auth token, and TWILIO_AUTH_TOKEN is not set.")
    account = bot.twilio_account_sid or container.settings.twilio_account_sid or "AC" + "0" * 32
    sid = "SM" + secrets.token_hex(16)
    return {
        "SmsMessageSid": sid,
        "NumMedia": "0",
        "ProfileName": "horizonctl",
        "MessageType": "text",
        "SmsSid": sid,
        "WaId": sender.lstrip("+"),
        "SmsStatus": "received",
        "Body": text,
        "To": f"whatsapp:{number}",
        "NumSegments": "1",
        "MessageSid": sid,
        "AccountSid": account,
        "From": f"whatsapp:{sender}",
        "ApiVersion": "2010-04-01",
    }, token


def _post(
    form: dict[str, str], token: str, public_base_url: str, connect_to: str
) -> tuple[int, float]:
    """The status, and the milliseconds until it."""
    import requests

    from service.cli.http import http_session
    from service.web.twilio_request import signature

    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "X-Twilio-Signature": signature(public_base_url + PATH, form, token).decode(),
    }
    started = time.perf_counter()
    try:
        with http_session(connect_to) as client:
            answer = client.post(
                connect_to + PATH,
                data=urlencode(form),
                headers=headers,
                timeout=_TIMEOUT_S,
                allow_redirects=False,
            )
    except requests.RequestException as error:
        raise CommandError(
            f"The service cannot be reached at {connect_to} ({type(error).__name__}): check that it "
            "runs, or connect elsewhere with --url."
        ) from None
    return answer.status_code, (time.perf_counter() - started) * 1000
