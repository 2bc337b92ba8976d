"""A request's body, within a limit, so that a refusal arrives."""

from __future__ import annotations

import falcon

_DRAINED = 1024 * 1024
_CHUNK = 65_536


def read_at_most(request: falcon.Request, limit: int) -> bytes | None:
    """The body; None when it is larger than `limit` bytes.

    Of one that is too large up to 1 MB beyond the limit is read and forgotten: closing a connection
    with unread bytes on it resets it, and a proxy that is still sending reports that instead of the
    answer. A proxy's own limit has to lie within that.
    """
    # A chunked body has no length; the server says when its stream ends by itself.
    is_terminated = request.env.get("wsgi.input_terminated", False)
    stream = request.stream if is_terminated else request.bounded_stream
    if (request.content_length or 0) <= limit:
        body: bytes = stream.read(limit + 1)
        if len(body) <= limit:
            return body
        left = _DRAINED
    else:
        left = limit + _DRAINED
    while left > 0 and (chunk := stream.read(min(left, _CHUNK))):
        left -= len(chunk)
    return None
