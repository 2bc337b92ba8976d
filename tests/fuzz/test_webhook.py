"""Whatever is sent to Twilio's addresses, signed or not: no server error, no hang, nothing told."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote_from_bytes

from hypothesis import strategies as st

from tests.fuzz.cases import Part, fuzz
from tests.fuzz.service import FORM, MARK, WEBHOOK, FuzzedService, Pairs
from tests.stack import ACCOUNT_SID, NUMBER

NAMES = (
    *("Body", "ProfileName", "WaId", "SmsStatus", "NumMedia", "NumSegments", "ApiVersion"),
    *("MediaUrl0", "MediaContentType0", "MediaUrl1", "MediaContentType1", "MessageType"),
    *("ExternalUserId", "MessagingServiceSid", "ButtonText", "ButtonPayload", "ListId"),
    *("ListTitle", "FlowData", "InteractiveData", "Latitude", "Longitude", "Label", "Address"),
    *("ReferralHeadline", "ReferralBody", "OriginalRepliedMessageSid", "MessageSid", "From"),
    *("AccountSid", "SmsMessageSid", "ChannelMetadata", "Forwarded", "FrequentlyForwarded"),
)
ADDRESSES = (f"whatsapp:{NUMBER}", NUMBER)
MAX_BYTES = 1024 * 1024

texts = st.text(max_size=80)
odd = st.sampled_from(
    [
        "",
        "0",
        "-1",
        "9" * 400,
        "1e999",
        "NaN",
        "\0",
        "\r\nX-Injected: 1",
        "{contact_phone}",
        "%00",
        "' OR 1=1 --",
        "../../etc/passwd",
        "<script>",
        "\u202e",
        "\ufeff",
        "\u0661\u0662",
        "\U0001d7cf\U0001d7ce",
        "\ud7ff",
    ]
)
values = texts | odd
marked = st.builds(lambda text: f"{text} {MARK} {text}", values)
extra_fields = st.lists(
    st.tuples(st.sampled_from(NAMES), values) | st.tuples(st.text(min_size=1, max_size=20), values),
    max_size=12,
)
sids = st.text("0123456789abcdef", min_size=32, max_size=32).map("SM".__add__)
contacts = st.from_regex(r"whatsapp:\+569[0-9]{8}", fullmatch=True) | values


@st.composite
def messages(draw: st.DrawFn) -> Pairs:
    """A form of a message to the bot: its own fields, any others, some of them twice."""
    pairs = [
        ("MessageSid", draw(sids)),
        ("AccountSid", ACCOUNT_SID),
        ("From", draw(contacts)),
        ("Body", draw(marked)),
        *draw(extra_fields),
    ]
    pairs += draw(st.lists(st.sampled_from(pairs), max_size=2))
    pairs = list(draw(st.permutations(pairs)))
    # The last one counts.
    earlier = [("To", value) for value in draw(st.lists(values, max_size=1))]
    return [*earlier, *pairs, ("To", draw(st.sampled_from(ADDRESSES)))]


@st.composite
def large_messages(draw: st.DrawFn) -> Pairs:
    """Of up to 1 MB, in one field or in many, and somewhat above that."""
    pairs = [(name, value) for name, value in draw(messages()) if len(value) < 1000]
    piece = draw(st.text(min_size=1, max_size=8))
    size = draw(st.integers(MAX_BYTES // 4, MAX_BYTES + 2000))
    fields = draw(st.sampled_from([1, 7, 480, 600]))
    per_field = max(1, size // fields // max(1, len(quote_from_bytes(piece.encode()))))
    return [*((f"Field{number}", piece * per_field) for number in range(fields)), *pairs]


statuses = st.sampled_from(["queued", "sent", "delivered", "read", "failed"]) | values
parts = st.from_regex(r"part=[A-Za-z0-9_%-]{0,60}", fullmatch=True) | st.just("")


@st.composite
def callbacks(draw: st.DrawFn) -> tuple[Pairs, str]:
    """A delivery callback's form and query."""
    pairs = [
        ("MessageSid", draw(sids | st.text(min_size=1, max_size=80))),
        ("MessageStatus", draw(statuses)),
        ("ErrorCode", draw(values)),
        *draw(extra_fields),
        ("From", draw(st.sampled_from(ADDRESSES))),
    ]
    return pairs, draw(parts)


latin = st.text(st.characters(max_codepoint=255), max_size=60).map(
    lambda text: text.encode("latin-1")
)
wide = texts.map(lambda text: text.encode("utf-16"))
surrogates = st.text(st.characters(), max_size=20).map(
    lambda text: text.encode("utf-8", "surrogatepass") + b"\xed\xa0\x80"
)
raw_values = st.binary(max_size=80) | latin | wide | surrogates
headers = st.fixed_dictionaries(
    {
        "Content-Type": st.sampled_from(
            [
                FORM,
                FORM,
                FORM,
                f"{FORM}; charset=latin-1",
                f"{FORM}; charset=nonsense",
                FORM.upper(),
                "application/json",
                "multipart/form-data; boundary=x",
                "text/xml",
                "",
            ]
        )
    },
    optional={
        "X-Twilio-Signature": st.text(
            st.characters(max_codepoint=255, min_codepoint=32), max_size=60
        ),
        "X-Twilio-Webhooks-Signature-Settings": st.text("algorithm=HMAC_SHA1256,; ", max_size=40),
        "X-Request-ID": st.text(st.characters(max_codepoint=255, min_codepoint=32), max_size=80),
    },
)


@st.composite
def odd_bodies(draw: st.DrawFn) -> tuple[bytes, dict[str, str], str, str]:
    """Anything at all, or a form in another encoding, percent-encoded or not."""
    sent: dict[str, str] = draw(headers)
    query = draw(st.from_regex(r"[A-Za-z0-9=&%+;]{0,40}", fullmatch=True))
    path = draw(st.sampled_from([WEBHOOK, f"{WEBHOOK}/status"]))
    if draw(st.booleans()):
        return draw(st.binary(max_size=2000)), sent, query, path
    quoted = draw(st.booleans())
    fields = [
        (name.encode(), quote_from_bytes(value).encode() if quoted else value)
        for name, value in draw(st.lists(st.tuples(st.sampled_from(NAMES), raw_values), max_size=8))
    ]
    number = NUMBER.replace("+", "%2B").encode()
    pairs = [*fields, (b"To", number), (b"From", number), (b"MessageStatus", b"read")]
    return b"&".join(b"=".join(pair) for pair in pairs), sent, query, path


def test_a_signed_message_of_any_form_never_ends_in_a_server_error(fuzzed: FuzzedService) -> None:
    def check(part: Part, pairs: Pairs) -> None:
        part.signed += 1
        answer = fuzzed.post_signed(pairs)
        fuzzed.judge(part, answer.status_code, answer.text, answer.headers)
        assert answer.status_code in (200, 400), pairs

    fuzz("webhook, signed", 0.36, messages(), check)


def test_a_signed_message_of_a_megabyte_never_ends_in_a_server_error(fuzzed: FuzzedService) -> None:
    def check(part: Part, pairs: Pairs) -> None:
        part.signed += 1
        answer = fuzzed.post_signed(pairs)
        fuzzed.judge(part, answer.status_code, answer.text, answer.headers)
        assert answer.status_code in (200, 400, 413), pairs

    fuzz("webhook, signed, 0.25 to 1 MB", 0.005, large_messages(), check)


def test_a_signed_callback_of_any_form_never_ends_in_a_server_error(fuzzed: FuzzedService) -> None:
    def check(part: Part, sent: Any) -> None:
        pairs, query = sent
        part.signed += 1
        answer = fuzzed.post_signed(pairs, query, f"{WEBHOOK}/status")
        fuzzed.judge(part, answer.status_code, answer.text, answer.headers)
        assert answer.status_code in (200, 400), pairs

    fuzz("status callback, signed", 0.08, callbacks(), check)


def test_any_bytes_without_a_signature_are_refused(fuzzed: FuzzedService) -> None:
    def check(part: Part, sent: tuple[bytes, dict[str, str], str, str]) -> None:
        answer = fuzzed.post(*sent)
        fuzzed.judge(part, answer.status_code, answer.text, answer.headers)
        assert answer.status_code in (400, 403, 404, 413, 415), sent

    part = fuzz("webhook, any bytes, unsigned", 0.08, odd_bodies(), check)
    assert fuzzed.lines >= part.cases, "each refusal is logged with its reason"
