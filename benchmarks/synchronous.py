"""The classic design, for comparison: the webhook asks the model and answers with the reply as TwiML.

Nothing is kept, nothing is retried; whoever waits longer than Twilio's 15 s gets no answer. Run it as
`gunicorn --worker-class sync --workers 2 benchmarks.synchronous:app`.
"""

from __future__ import annotations

import os

from flask import Flask, Response, abort, request
from openai import OpenAI
from twilio.request_validator import RequestValidator
from twilio.twiml.messaging_response import MessagingResponse

app = Flask(__name__)
_model = OpenAI(
    api_key=os.environ.get("OPENAI_API_KEY", "sk-bench"),
    base_url=os.environ.get("OPENAI_BASE_URL"),
    max_retries=0,
)
_validator = RequestValidator(os.environ.get("TWILIO_AUTH_TOKEN", ""))
_public_url = os.environ.get("PUBLIC_BASE_URL", "")


@app.post("/webhook/whatsapp")
def webhook() -> Response:
    """Check the signature, ask the model, answer."""
    signed = request.headers.get("X-Twilio-Signature", "")
    if not _validator.validate(_public_url + request.path, request.form, signed):
        abort(403)
    answer = _model.responses.create(
        model="gpt-6-luna", input=request.form["Body"], instructions="Sé breve.", store=False
    )
    twiml = MessagingResponse()
    twiml.message(answer.output_text)
    return Response(str(twiml), mimetype="text/xml")


@app.get("/webhook/whatsapp")
def alive() -> str:
    """For whoever waits until it listens."""
    return "ok"
