"""A signed reference is accepted exactly as it was made, until it expires, by those who hold its secret."""

from __future__ import annotations

import base64
import copy
import hashlib
import hmac
import pickle
import secrets
import traceback

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixllm_engine import ConfigError, FeedbackError, FeedbackSigner, FeedbackTokenError, UnknownDecisionError
from mixllm_engine.testing import FakeClock, tiny_router

SECRET = b"a secret of the server, 0123456789"
ID = "0123456789abcdef" * 2
URL_SAFE = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~")

ids = st.text("0123456789abcdef", min_size=32, max_size=32)
keys = st.binary(min_size=16, max_size=80)
waits = st.floats(min_value=1e-3, max_value=1e8)
texts = st.text(st.characters(), max_size=300)  # every code point, halves of pairs as well


@settings(deadline=None)
@given(ids, keys, waits)
def test_what_was_signed_is_verified(decision_id: str, secret: bytes, valid_s: float) -> None:
    token = FeedbackSigner(secret, clock=FakeClock()).sign(decision_id, valid_s=valid_s)
    assert set(token) <= URL_SAFE and len(token) < 128
    assert FeedbackSigner(secret, clock=FakeClock()).verify(token) == decision_id


@settings(deadline=None)
@given(st.data())
def test_every_altered_token_is_refused(data: st.DataObject) -> None:
    signer = FeedbackSigner(SECRET, clock=FakeClock())
    token = signer.sign(ID, valid_s=60)
    start = data.draw(st.integers(0, len(token)))
    end = data.draw(st.integers(start, min(len(token), start + 3)))
    altered = token[:start] + data.draw(st.text(st.sampled_from(sorted(URL_SAFE)) | st.characters(), max_size=3))
    altered += token[end:]
    if altered != token:
        with pytest.raises(FeedbackTokenError, match="no feedback token of ours"):
            signer.verify(altered)


def test_no_other_spelling_of_the_same_bytes_is_accepted() -> None:
    signer = FeedbackSigner(SECRET, clock=FakeClock())
    token = signer.sign(ID, valid_s=60)
    signature = token.rpartition(".")[2]
    meant = base64.urlsafe_b64decode(signature + "=")
    others = [signature[:-1] + sign for sign in sorted(URL_SAFE - {signature[-1], ".", "~"})]
    same = [other for other in others if base64.urlsafe_b64decode(other + "=") == meant]
    assert same  # base64 itself would accept these
    for other in [*same, signature + "=", signature + "\n", " " + signature]:
        with pytest.raises(FeedbackTokenError):
            signer.verify(token.removesuffix(signature) + other)


@pytest.mark.parametrize("change", ["id", "later"])
def test_neither_the_decision_nor_the_time_can_be_changed(change: str) -> None:
    signer = FeedbackSigner(SECRET, clock=FakeClock())
    decision_id, expires_s, signature = signer.sign(ID, valid_s=60).split(".")
    other = f"{'f' * 32}.{expires_s}" if change == "id" else f"{decision_id}.{int(expires_s) + 1}"
    with pytest.raises(FeedbackTokenError, match="altered"):
        signer.verify(f"{other}.{signature}")


@settings(deadline=None)
@given(keys, keys)
def test_another_secret_is_refused(one: bytes, other: bytes) -> None:
    # HMAC itself fills a short key up with zeros, and hashes one that is longer than a block.
    if one.rstrip(b"\0") != other.rstrip(b"\0") and max(len(one), len(other)) <= 64:
        token = FeedbackSigner(one).sign(ID, valid_s=60)
        with pytest.raises(FeedbackTokenError, match="another secret"):
            FeedbackSigner(other).verify(token)


def test_it_expires_on_the_second() -> None:
    clock = FakeClock(1000.25)
    signer = FeedbackSigner(SECRET, clock=clock)
    token = signer.sign(ID, valid_s=60)
    clock.advance(60.5)
    assert signer.verify(token) == ID
    clock.advance(0.25)
    with pytest.raises(FeedbackTokenError, match="has expired"):
        signer.verify(token)


def test_an_expired_token_that_was_altered_says_nothing_of_its_time() -> None:
    clock = FakeClock()
    signer = FeedbackSigner(SECRET, clock=clock)
    token = signer.sign(ID, valid_s=1)
    clock.advance(100)
    with pytest.raises(FeedbackTokenError, match="no feedback token of ours"):
        signer.verify(token[:-2] + "AA")


def test_secrets_are_replaced_without_losing_tokens() -> None:
    old, new = secrets.token_bytes(32), secrets.token_bytes(32)
    before = FeedbackSigner(old).sign(ID, valid_s=60)
    both = FeedbackSigner([new, old])
    assert both.verify(before) == ID
    assert FeedbackSigner(new).verify(both.sign(ID, valid_s=60)) == ID
    with pytest.raises(FeedbackTokenError):
        FeedbackSigner(new).verify(before)


def test_what_the_secret_signs_elsewhere_is_no_token() -> None:
    said = f"{ID}.{10**11}"
    elsewhere = hmac.digest(SECRET, said.encode(), hashlib.sha256)
    with pytest.raises(FeedbackTokenError):
        FeedbackSigner(SECRET).verify(f"{said}.{base64.urlsafe_b64encode(elsewhere).rstrip(b'=').decode()}")


@settings(deadline=None)
@given(texts | texts.map(lambda text: f"{ID}.1.{text}") | texts.map(lambda text: f"{text}.{text}.{text}"))
def test_nothing_but_our_error_comes_out_of_any_text(text: str) -> None:
    with pytest.raises(FeedbackTokenError):
        FeedbackSigner(SECRET).verify(text)


@pytest.mark.parametrize("token", ["", ".", "..", "x" * 10**7, "\0", "\ud800", None, 7, b"bytes", [ID]])
def test_odd_tokens_are_refused(token: str) -> None:
    with pytest.raises(FeedbackTokenError, match="no feedback token of ours"):
        FeedbackSigner(SECRET).verify(token)


@settings(deadline=None)
@given(texts)
def test_only_ids_of_decisions_are_signed(text: str) -> None:
    with pytest.raises(FeedbackError, match="only the id of a decision"):
        FeedbackSigner(SECRET).sign(text + "!", valid_s=1)


@pytest.mark.parametrize("decision_id", ["", ID.upper(), ID + "\n", ID[:-1], f"mixllm-{ID}", None, 12])
def test_odd_ids_are_not_signed(decision_id: str) -> None:
    with pytest.raises(FeedbackError, match="only the id of a decision"):
        FeedbackSigner(SECRET).sign(decision_id, valid_s=1)


@pytest.mark.parametrize("valid_s", [0, -1, 1e10, float("inf"), float("nan"), "3600", None])
def test_a_time_that_says_nothing_is_refused(valid_s: float) -> None:
    with pytest.raises(ConfigError, match="must be a number above 0 and at most 1e"):
        FeedbackSigner(SECRET).sign(ID, valid_s=valid_s)


@pytest.mark.parametrize("secret", [b"", "", b"short and known", [b"0" * 16, b"short and known"], [], 16, None, [None]])
def test_a_secret_that_can_be_guessed_is_refused_and_not_shown(secret: bytes) -> None:
    with pytest.raises(ConfigError) as caught:
        FeedbackSigner(secret)
    assert "short and known" not in "".join(traceback.format_exception(caught.value))


def test_a_secret_is_measured_in_bytes() -> None:
    signer = FeedbackSigner("ключ-ключ")  # nine signs, seventeen bytes
    assert signer.verify(signer.sign(ID, valid_s=60)) == ID
    assert FeedbackSigner("\ud800" * 6).sign(ID, valid_s=60)


def test_the_secret_is_nowhere_to_be_seen() -> None:
    signer = FeedbackSigner(SECRET)
    for shown in (repr(signer), str(signer), repr(vars(signer)), signer.sign(ID, valid_s=60)):
        assert SECRET.decode() not in shown
    with pytest.raises(FeedbackTokenError) as caught:
        signer.verify("altered")
    assert SECRET.decode() not in "".join(traceback.format_exception(caught.value))
    for copied in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="make one in each process"):
            copied(signer)


def test_a_token_of_another_store_is_genuine_and_still_leads_nowhere() -> None:
    signer, router = FeedbackSigner(SECRET), tiny_router()
    token = signer.sign(router.decide("hello").decision_id, valid_s=60)
    assert router.feedback(signer.verify(token), 1.0).status == "applied"
    assert router.feedback(signer.verify(token), 1.0).status == "duplicate"
    assert router.feedback(signer.verify(token), 0.0).status == "replaced"  # and never counted twice
    with pytest.raises(UnknownDecisionError):
        tiny_router().feedback(signer.verify(token), 1.0)


def test_ids_of_decisions_do_not_follow_from_the_seed() -> None:
    made = [tiny_router(seed=7).decide("hello", willingness_to_pay=1.0) for _ in range(50)]
    assert len({decision.candidate for decision in made}) == 1
    assert len({decision.decision_id for decision in made}) == 50
    assert all(len(bytes.fromhex(decision.decision_id)) == 16 for decision in made)


def test_ids_of_decisions_are_the_operating_systems_random_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def counting(size: int) -> bytes:
        asked.append(size)
        return bytes(range(size))

    monkeypatch.setattr("mixllm_engine.decision.maker.urandom", counting)
    assert tiny_router().decide("hello").decision_id == bytes(range(16)).hex()
    assert asked == [16]
