"""`send-test`: a message to a bot as Twilio would deliver it, signed with the bot's own token.

With `--trial` it carries the operator's mark too (`service/conversation/trial.py`): the answer is shown
here and goes to nobody.
"""

from __future__ import annotations

import secrets
import time
from http.client import HTTPException
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlencode

import typer

from service.cli.failures import USAGE, CommandError
from service.cli.output import JsonFlag, print_json, print_line
from service.cli.session import session

if TYPE_CHECKING:
    from service.container import Container
    from service.conversation.bot import Bot

PATH = "/webhook/whatsapp"
_TIMEOUT_S = 15
"""As long as Twilio waits."""
_POLL_S = 0.2


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
            help="Where to connect, when not to PUBLIC_BASE_URL (also unix:PATH); the signature "
            "stays that one's.",
            show_default=False,
        ),
    ] = None,
    trial: Annotated[
        bool,
        typer.Option(
            "--trial",
            help="Show the answer here: nothing is sent to a phone, changed at the CRM or counted.",
        ),
    ] = False,
    wait_s: Annotated[
        float, typer.Option("--wait", min=1, help="Longest wait for a trial's answer, in seconds.")
    ] = 120,
    as_json: JsonFlag = False,
) -> None:
    """Write to a bot through its webhook. The bot really answers, to the number that writes."""
    from service.conversation.trial import new_address

    if trial and sender is not None:
        raise CommandError("--trial comes from nobody's number: leave out --from.", USAGE)
    with session() as container:
        settings = container.settings
        address = new_address() if trial else _address(sender or settings.twilio_whatsapp_from)
        bot = _bot(container, number)
        form = _form(container, bot, address, text)
        if trial:
            _mark(container, form)
        token = bot.twilio_auth_token or settings.twilio_auth_token
        if token is None:
            raise CommandError(
                f"{bot.id} has no Twilio auth token, and TWILIO_AUTH_TOKEN is not set."
            )
        connect_to = (url or settings.public_base_url).rstrip("/")
        status, ms = _post(form, token, settings.public_base_url, connect_to)
        result: dict[str, Any] = {
            "status": status,
            "ms": round(ms, 1),
            "message_sid": form["MessageSid"],
        }
        if trial and status == 200:
            result["turn"] = _ended(container, bot, form, wait_s)
    if as_json:
        print_json(result)
    else:
        print_line(f"HTTP {status} in {ms:.0f} ms")
    if status != 200:
        raise CommandError(_MEANINGS.get(status, "The service did not take the message."))
    if trial:
        _show(result["turn"], as_json)


def _address(sender: str | None) -> str:
    if sender is None:
        raise CommandError("Give --from, or set TWILIO_WHATSAPP_FROM.", USAGE)
    return "whatsapp:" + sender.removeprefix("whatsapp:")


def _mark(container: Container, form: dict[str, str]) -> None:
    from service.web.trial_mark import FIELD, TrialMarks

    form[FIELD] = TrialMarks(container.settings.secret_key).mark(form)


def _ended(container: Container, bot: Bot, form: dict[str, str], wait_s: float) -> dict[str, Any]:
    """The trial's turn once it has ended, with what the contact would have read."""
    from service.conversation.event import conversation_id, turn_id

    conversation = conversation_id(bot.id, form["From"])
    turn = turn_id(conversation, form["MessageSid"])
    deadline = time.monotonic() + wait_s
    while True:
        found = container.turns.turn(turn)
        if found is not None and found["status"] != "running":
            break
        if time.monotonic() > deadline:
            begun = "it is still being answered" if found else "no worker has begun with it"
            raise CommandError(
                f"The message was accepted, and after {wait_s:.0f} s {begun}: `horizonctl workers` "
                "lists the workers, `horizonctl health` the queue."
            )
        time.sleep(_POLL_S)
    held = container.turns.conversation(conversation) or {"messages": []}
    said = [text["text"] for text in held["messages"] if text["direction"] == "out"]
    took = found["finished_at"] - found["created_at"]
    return {
        "id": turn,
        "conversation_id": conversation,
        "status": found["status"],
        "reason": found["reason"],
        "error": found["error"],
        "answer": said[-1] if said else None,
        "seconds": round(took.total_seconds(), 2),
    }


def _show(turn: dict[str, Any], as_json: bool) -> None:
    if turn["status"] == "dead":
        raise CommandError(
            f"The bot cannot answer ({turn['reason']}): {turn['error'] or 'no reason is known'}."
        )
    if turn["answer"] is None:
        raise CommandError(f"The bot answered nothing ({turn['reason']}).")
    if not as_json:
        print_line(f"Answer after {turn['seconds']} s, shown here only:")
        print_line(turn["answer"])


_MEANINGS = {
    403: "The signature was refused: check that the service has the same PUBLIC_BASE_URL and token.",
    404: "The service does not know this number, or this is not its address.",
    503: "The service can keep no message now: `horizonctl health` says why.",
}


def _bot(container: Container, number: str) -> Bot:
    bot = container.directory.find(number)
    if bot is None:
        raise CommandError(f"No bot has the number {number}: `horizonctl bots list` shows all.")
    return bot


def _form(container: Container, bot: Bot, address: str, text: str) -> dict[str, str]:
    sid = "SM" + secrets.token_hex(16)
    account = bot.twilio_account_sid or container.settings.twilio_account_sid or "AC" + "0" * 32
    return {
        "SmsMessageSid": sid,
        "NumMedia": "0",
        "ProfileName": "horizonctl",
        "MessageType": "text",
        "SmsSid": sid,
        "WaId": address.removeprefix("whatsapp:").lstrip("+"),
        "SmsStatus": "received",
        "Body": text,
        "To": bot.address,
        "NumSegments": "1",
        "MessageSid": sid,
        "AccountSid": account,
        "From": address,
        "ApiVersion": "2010-04-01",
    }


def _post(
    form: dict[str, str], token: str, public_base_url: str, connect_to: str
) -> tuple[int, float]:
    """The status, and the milliseconds until it."""
    import requests

    from service.cli.http import ask_socket, http_session
    from service.web.twilio_request import signature

    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "X-Twilio-Signature": signature(public_base_url + PATH, form, token).decode(),
    }
    body = urlencode(form)
    started = time.perf_counter()
    try:
        if connect_to.startswith("unix:"):
            path = connect_to.removeprefix("unix:")
            status, _ = ask_socket(path, PATH, _TIMEOUT_S, body=body.encode(), headers=headers)
        else:
            with http_session(connect_to) as client:
                status = client.post(
                    connect_to + PATH,
                    data=body,
                    headers=headers,
                    timeout=_TIMEOUT_S,
                    allow_redirects=False,
                ).status_code
    except (requests.RequestException, HTTPException, OSError) as error:
        raise CommandError(
            f"The service cannot be reached at {connect_to} ({type(error).__name__}): check that it "
            "runs, or connect elsewhere with --url."
        ) from None
    return status, (time.perf_counter() - started) * 1000
