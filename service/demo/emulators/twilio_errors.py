"""Twilio's errors as the REST API writes them. Source: Twilio's error and warning dictionary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.demo.emulators.wire import Response

MESSAGES: Mapping[int, str] = {
    20003: "Authenticate",
    20404: "The requested resource was not found",
    20429: "Too Many Requests",
    21211: "Invalid 'To' Phone Number",
    21212: "Invalid From Number (caller ID)",
    21602: "Message body is required.",
    21603: "A 'From' phone number is required.",
    21604: "A 'To' phone number is required.",
    21609: "The 'StatusCallback' URL is not a valid URL.",
    21610: "Attempt to send to unsubscribed recipient",
    21611: "This 'From' number has exceeded the maximum number of queued messages",
    21617: "The concatenated message body exceeds the 1600 character limit.",
    21655: "The ContentSid is Invalid",
    21656: "The Content Variables parameter is invalid.",
    21701: "The Messaging Service does not exist",
    21910: "Invalid From and To pair. From and To should be of the same channel",
    30001: "Queue overflow",
    63003: "Channel could not find To address",
    63005: "Channel did not accept given content",
    63007: "Twilio could not find a Channel with the specified From address",
    63014: "Message delivery failed because a user blocked the sender",
    63015: "Channel Sandbox can only send messages to phone numbers that have joined the Sandbox",
    63016: "Failed to send freeform message because you are outside the allowed window. "
    "If you are using WhatsApp, please use a Message Template.",
    63018: "Rate limit exceeded for Channel",
    63031: "Channels message cannot have same From and To",
    63100: "Invalid request: the request body failed validation",
}


class ApiError(Exception):
    """The API refuses: `to_response` is the answer."""

    def __init__(self, code: int, status: int = 400, message: str | None = None) -> None:
        self.code = code
        self.status = status
        self.message = message or MESSAGES.get(code, f"Error {code}")
        super().__init__(self.message)

    def to_response(self) -> Response:
        """The answer as Twilio shapes it."""
        body: dict[str, Any] = {
            "code": self.code,
            "message": self.message,
            "more_info": f"https://www.twilio.com/docs/errors/{self.code}",
            "status": self.status,
        }
        return Response(self.status, body)
