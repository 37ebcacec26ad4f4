"""What is drawn: odd words, numbers and objects, and files and values that are nearly right."""

from __future__ import annotations

import decimal
import fractions
import uuid
from typing import Any

import numpy as np
from hypothesis import strategies as st

# With halves of characters, NUL, signs of all planes, and what means something to a parser.
WORDS = st.text(st.characters(codec=None), max_size=12) | st.sampled_from(
    ["", " ", "\0", "\ud800", "a\ud83d", "nan", "-1", "1e999", "../../etc/passwd", "cheap", "dear", "*", "[", "%s"]
)  # fmt: skip
NUMBERS = (
    st.integers()
    | st.floats()
    | st.sampled_from([0, 1, -1, 2**63, -(2**63) - 1, 10**400, 1e308, 5e-324, float("nan"), float("inf"), -0.0, True])
)
PLAIN = st.none() | st.booleans() | NUMBERS | WORDS
JSON = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=8,
)
ODD = st.sampled_from(
    [
        object(),
        b"bytes",
        bytearray(b"\xff"),
        1j,
        decimal.Decimal("NaN"),
        decimal.Decimal("0.5"),
        fractions.Fraction(1, 3),
        np.float32(0.5),
        np.int64(-1),
        np.float64("nan"),
        np.bool_(True),
        np.str_("cheap"),
        np.array(0.5),
        np.zeros(0),
        np.array(["a", None], dtype=object),
        uuid.UUID(int=5),
        {1, 2},
        ("cheap",),
        range(3),
        len,
        int,
        Ellipsis,
    ]
)
ANYTHING = JSON | ODD


def mostly(usual: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Draw what is meant more often than anything else, so that several things are right at the same time."""
    return st.one_of(usual, usual, usual, ANYTHING)


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """Draw bytes that are a few edits away from a file that is right."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        match draw(st.integers(0, 4)):
            case 0:
                data[at : at + 1] = bytes([draw(st.integers(0, 255))])
            case 1:
                del data[at:]
            case 2:
                del data[at : at + draw(st.integers(1, 40))]
            case 3:
                data[at:at] = draw(st.binary(max_size=20))
            case _:
                data[at : at + 8] = draw(st.sampled_from([b"\xff" * 8, b"\0" * 8, b"\0\0\0\0\0\0\xf0\x7f"]))
    return bytes(data)


def somewhere(draw: st.DrawFn, value: Any, replacement: st.SearchStrategy[Any]) -> Any:
    """Return a copy of nested lists and mappings with something else at one place."""
    if isinstance(value, dict) and value and draw(st.integers(0, 5)):
        key = draw(st.sampled_from(sorted(value)))
        return {**value, key: somewhere(draw, value[key], replacement)}
    if isinstance(value, list) and value and draw(st.integers(0, 5)):
        at = draw(st.integers(0, len(value) - 1))
        return [*value[:at], somewhere(draw, value[at], replacement), *value[at + 1 :]]
    if isinstance(value, dict) and draw(st.booleans()):
        return {**value, draw(WORDS): draw(replacement)}
    return draw(replacement)
