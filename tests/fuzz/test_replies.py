"""Any reply of a model, of any length and shape, becomes parts that the messenger takes."""

from __future__ import annotations

import io
import re

from hypothesis import strategies as st

from service.conversation.reply import MAX_PART_CHARS, MAX_PARTS, split_reply
from tests.fuzz.cases import Part, fuzz

pieces = st.text(max_size=40) | st.sampled_from(
    [
        ". ",
        "!\n",
        "\n\n",
        " ",
        "https://example.com/" + "a" * 90,
        "😀" * 30,
        "…»)",
        "\u200d",
        "\u3000",
        "http://",
        "?" * 50,
        ".\u00a0",
        "a" * 1600,
        "\r\n",
        "\ud7ff",
        "1. ",
        "- ",
    ]
)


@st.composite
def replies(draw: st.DrawFn) -> str:
    """Pieces repeated up to some tens of thousands of characters."""
    drawn = draw(st.lists(pieces, max_size=12))
    return "".join(drawn) * draw(st.sampled_from([1, 1, 3, 20, 200]))


def units(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def test_any_reply_is_split_into_parts_that_fit_and_lose_nothing(service_log: io.StringIO) -> None:
    def check(part: Part, reply: str) -> None:
        parts = split_reply(reply)
        assert len(parts) <= MAX_PARTS
        assert all(0 < units(text) <= MAX_PART_CHARS for text in parts)
        said, whole = (re.sub(r"\s+", "", text) for text in ("".join(parts), reply))
        is_cut = len(parts) == MAX_PARTS and said.endswith("…") and said != whole
        assert whole.startswith(said[:-1]) if is_cut else said == whole
        assert service_log.getvalue() == ""
        part.outcomes[
            "cut" if is_cut else f"{min(len(parts), 2)}{'+' * (len(parts) > 1)} parts"
        ] += 1

    fuzz("replies", 0.08, replies(), check)
