"""Numbers and addresses, from clients, from Twilio and from Horizon: taken as they should be or refused."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from urllib.parse import urlsplit

import requests
from hypothesis import strategies as st

from service.integrations.address_guard import check_url, is_public
from service.setting_rules import bind_address, http_address
from service.web.field_rules import check_number
from tests.fuzz.cases import Part, fuzz

digits = st.text("0123456789+-() .", max_size=25) | st.text("١٢٣٤٥٦𝟏𝟐０１２+", max_size=18)
numbers = (
    st.from_regex(r"\+?[0-9]{0,20}", fullmatch=True)
    | digits
    | st.text(max_size=30)
    | st.builds(
        lambda number, tail: f"{number}{tail}", digits, st.sampled_from(["\n", "\0", ";ext=1", "x"])
    )
    | st.integers(10**6, 10**15).map("+{}".format)
)

hosts = (
    st.from_regex(r"[a-z0-9]{1,10}(-[a-z]{1,4})?\.example\.(com|org)\.?", fullmatch=True)
    | st.ip_addresses().map(str)
    | st.ip_addresses(v=6).map("[{}]".format)
    | st.integers(0, 2**32 - 1).map(str)
    | st.integers(0, 2**32 - 1).map(hex)
    | st.lists(st.integers(0, 300).map(str), min_size=1, max_size=5).map(".".join)
    | st.lists(st.integers(0, 255).map(oct), min_size=1, max_size=4).map(".".join)
    | st.text("abcdefghij0123456789.-_", max_size=40)
    | st.text(max_size=20)
    | st.sampled_from(
        ["localhost", "LOCALHOST.", "a.localhost", "127.1", "0", "[::]", "[::ffff:7f00:1]"]
    )
)
addresses = st.builds(
    lambda scheme, user, host, port, path: f"{scheme}{user}{host}{port}{path}",
    st.sampled_from(
        ["https://", "https://", "http://", "HTTPS://", "//", "ftp://", "https:/", "https://"]
    ),
    st.sampled_from(["", "", "", "me@", "a:b@", "@", "\\@"]),
    st.from_regex(r"[a-z]{1,10}\.example\.com", fullmatch=True) | hosts,
    st.sampled_from(["", "", "", "", "", ":443", ":0", ":99999", ":x", ":"]),
    st.sampled_from(["", "/", "/base", "/?q", "#f", "\n", " ", "/%0d%0a"]),
) | st.text(max_size=60)


def is_literal(host: str) -> bool:
    try:
        is_public(host)
    except ValueError:
        return False
    return True


def taken(check: Callable[[], object]) -> bool:
    """Whether it passes. Raises what is not a sentence for a person."""
    refusal: ValueError | None = None
    try:
        check()
    except ValueError as error:
        refusal = error
    if refusal is None:
        return True
    assert type(refusal) is ValueError, repr(refusal)
    assert 0 < len(str(refusal)) < 300
    return False


def test_any_number_is_e164_or_refused(service_log: io.StringIO) -> None:
    def check(part: Part, number: str) -> None:
        is_taken = taken(lambda: check_number(number))
        if is_taken:
            assert re.fullmatch(r"\+[1-9][0-9]{6,14}", number, re.ASCII)
        part.outcomes["taken" if is_taken else "refused"] += 1
        assert service_log.getvalue() == ""

    part = fuzz("numbers, of bots", 0.04, numbers, check)
    assert part.outcomes["taken"]


def test_any_address_leads_where_it_says_or_is_refused(service_log: io.StringIO) -> None:
    def check(part: Part, address: str) -> None:
        is_taken = taken(lambda: check_url(address))
        if is_taken:
            # Our reading of the address and that of the client that will call it are the same.
            prepared = requests.Request("GET", f"{address}/path").prepare().url or ""
            ours, theirs = urlsplit(address), urlsplit(prepared)
            assert (theirs.scheme, theirs.hostname) == ("https", ours.hostname)
            assert theirs.username is None
            host = ours.hostname or ""
            assert not is_literal(host) or is_public(host)
        part.outcomes["taken" if is_taken else "refused"] += 1
        assert service_log.getvalue() == ""

    part = fuzz("numbers, addresses of bots", 0.06, addresses, check)
    assert part.outcomes["taken"]


def test_any_address_in_a_setting_is_taken_or_refused(service_log: io.StringIO) -> None:
    def check(part: Part, address: str) -> None:
        is_taken = taken(lambda: http_address(address)) | taken(lambda: bind_address(address))
        part.outcomes["taken" if is_taken else "refused"] += 1
        assert service_log.getvalue() == ""

    fuzz("numbers, addresses in settings", 0.03, addresses | hosts, check)
