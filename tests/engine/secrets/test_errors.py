"""A secret in an error is hidden, at every place, and no message is spoilt for it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixllm_engine import StoreError
from mixllm_engine.redaction import HIDDEN, redact
from mixllm_engine.store import open_store
from tests.engine.secrets.hidden import PASSWORD, holding, shown


class ProviderError(Exception):
    def __init__(self, message: str, body: Any) -> None:
        super().__init__(message)
        self.message, self.body = message, body


@settings(deadline=None)
@given(st.text(min_size=8, max_size=60), st.text(), st.text())
def test_a_secret_in_an_error_is_hidden_at_every_place(secret: str, before: str, after: str) -> None:
    text = before + secret + after
    deepest = ProviderError(text, {"error": [{"message": text}, 1]})
    group = ExceptionGroup("two", [ValueError(text), deepest])
    top = RuntimeError(text)
    top.__cause__, deepest.__context__ = group, top  # a circle
    top.add_note(text)
    redact(top, [secret, "short"])
    if secret not in HIDDEN + before + HIDDEN + after + HIDDEN:  # else something of it is there by chance
        for said in (top.args, top.__notes__, deepest.args, deepest.body, deepest.message, group.exceptions[0].args):
            assert secret not in json.dumps(said, ensure_ascii=False).replace("\\\\", "\\") or "\\" in secret
    assert deepest.message == text.replace(secret, HIDDEN)
    assert deepest.body == {"error": [{"message": deepest.message}, 1]}


def test_short_placeholders_spoil_no_message() -> None:
    error = ValueError("none of these is nonexistent")
    redact(error, ["none", "x", ""])
    assert str(error) == "none of these is nonexistent"


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql+psycopg://me:{PASSWORD}@127.0.0.1:1/db",
        f"nonsense://me:{PASSWORD}@host/db",
        f"postgresql+nothing://me:{PASSWORD}@host/db",
        f"mysql://me:{PASSWORD}@host/db",
        f"://me:{PASSWORD}@host/db",
        f"postgresql+psycopg://me@127.0.0.1:1/db?password={PASSWORD}",
        f"postgresql+psycopg://me:12/{PASSWORD}@host/db",
        f"postgresql+psycopg://me:a@host:{PASSWORD}/db",
        f"postgresql+psycopg://me:a@b:{PASSWORD}@host/db",
    ],
)
def test_the_password_of_a_store_is_in_no_error(url: str) -> None:
    with pytest.raises(StoreError) as caught:
        open_store(url)
    assert holding(shown(caught.value)) == {}
