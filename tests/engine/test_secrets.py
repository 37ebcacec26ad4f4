"""Keys, passwords and prompts are nowhere but where they are used; what a user sends is never taken for SQL."""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import pickle
import re
import stat
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.pool import NullPool

from mixllm_engine import (
    AllCandidatesFailedError,
    Candidate,
    CandidateError,
    FeedbackError,
    MixLLMError,
    OnnxEncoder,
    Outcome,
    Router,
    StoreError,
    UnknownCandidateError,
    UnknownDecisionError,
)
from mixllm_engine.calling import RoutedClient
from mixllm_engine.config import FeatureConfig, RouterConfig
from mixllm_engine.errors import CallError
from mixllm_engine.redaction import HIDDEN, redact
from mixllm_engine.store import open_store
from mixllm_engine.store.transfer import export_log
from mixllm_engine.testing import Failure, HashingEncoder, Reply, ScriptedServer, tiny_pool, tiny_router
from mixllm_engine.types import Label

KEY = "sk-key-0123456789-that-must-not-be-seen"
TOKEN = "ey-token-9876543210-that-must-not-be-seen"
PASSWORD = "pass-word-that-must-not-be-seen"
PROMPT = "Translate the zebra's quarterly confession"
HIDE = (KEY, TOKEN, PASSWORD, PROMPT)
MESSAGES = [{"role": "user", "content": PROMPT}]
QUIET = RouterConfig(features=FeatureConfig(domains="none"))
# They write what they send to debug logs of their own; nobody reads those who does not ask for them.
CLIENTS = ("LiteLLM", "openai", "httpx", "httpcore")


def secretive_pool(api_base: str) -> list[Candidate]:
    params = {"extra_headers": {"X-Session": TOKEN}, "temperature": 0.5}
    return [dataclasses.replace(candidate, api_key=KEY, params=params) for candidate in tiny_pool(api_base)]


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "log.db")
    url = sa.make_url(request.getfixturevalue("postgres_url")).set(password=PASSWORD)
    return url.render_as_string(hide_password=False)


def holding(told: dict[str, Any]) -> dict[str, list[str]]:
    """Return which of the things told hold what must be hidden."""
    data = {name: what if isinstance(what, bytes) else str(what).encode() for name, what in told.items()}
    found = {name: [hidden for hidden in HIDE if hidden.encode() in what] for name, what in data.items()}
    return {name: some for name, some in found.items() if some}


def shown(error: BaseException) -> dict[str, str]:
    lines = traceback.format_exception(error)
    return {"str": str(error), "repr": repr(error), "traceback": "".join(lines), "vars": repr(vars(error))}


def test_what_is_kept_shown_logged_or_pickled_holds_no_secret_and_no_prompt(
    server: ScriptedServer, place: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "sqlalchemy")
    router = Router(secretive_pool(server.base_url), config=QUIET, store=place, encoder=HashingEncoder(), seed=0)
    asking = RoutedClient(router)
    server.script("cheap", [Failure(status=401, message=f"wrong key {KEY} with {TOKEN}"), Reply(text="Yes.")])
    server.script("dear", Failure(status=500, message=f"no luck with {KEY}"))
    with pytest.raises(AllCandidatesFailedError) as caught:
        asking.complete(MESSAGES, session=PROMPT)
    answer = asking.complete(MESSAGES, force="cheap")
    decision = answer.decision
    assert server.requests[-1].api_key == KEY  # it is used all the same
    router.link(decision.decision_id, "run-1")
    router.feedback(decision, 1.0)
    newcomer = dataclasses.replace(secretive_pool(server.base_url)[0], name="newcomer")
    router.add_candidate(newcomer, like="cheap")
    router.save(tmp_path / "state")
    store = open_store(place)
    export_log(store, tmp_path / "log.jsonl")
    explanation = router.explain(decision.decision_id)
    told: dict[str, Any] = {
        **shown(caught.value),
        **{f"{name}, {way}": text for name, one in caught.value.causes.items() for way, text in shown(one).items()},
        "pickled error": pickle.dumps(caught.value),
        "candidates": (router.candidates, repr(router.candidates)),
        "pickled candidates": pickle.dumps(router.candidates),
        "decision": (decision, vars(decision), dict(decision.scores)),
        "pickled decision": pickle.dumps(decision),
        "explanation": (explanation, repr(explanation), json.dumps(explanation.as_dict())),
        "stats": router.stats(),
        "router": (repr(router), str(router)),
        "config": router.config.model_dump_json(),
        "store": repr(store),
        "log": [record.getMessage() for record in caplog.records if not record.name.startswith(CLIENTS)],
        **{str(file): file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()},
    }
    store.close()
    router.close()
    assert holding(told) == {}
    assert HIDDEN in told["str"]
    assert {"sqlalchemy.engine.Engine"} <= {record.name for record in caplog.records}
    assert {"log.jsonl", "state.safetensors"} <= {Path(name).name for name in told}


@pytest.mark.parametrize("kind", ["environment", "streamed"])
def test_a_key_that_a_provider_repeats_is_hidden_wherever_it_came_from(
    kind: str, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = tiny_pool(server.base_url)
    if kind == "environment":
        monkeypatch.setenv("SOME_PROVIDER_API_KEY", KEY)
    else:
        pool = secretive_pool(server.base_url)
    for name in ("cheap", "dear"):
        server.script(name, Failure(status=401, message=f"Incorrect API key provided: {KEY}."))
    asking = RoutedClient(Router(pool, config=QUIET, encoder=HashingEncoder()))
    with pytest.raises(AllCandidatesFailedError, match=r"Incorrect API key provided: \*\*\*\.") as caught:
        next(asking.stream(MESSAGES)) if kind == "streamed" else asking.complete(MESSAGES)
    assert holding(shown(caught.value)) == {}


def test_a_pickled_failure_keeps_what_it_said_and_no_request(server: ScriptedServer) -> None:
    for name in ("cheap", "dear"):
        server.script(name, Failure(status=429, message="slow down"))
    asking = RoutedClient(Router(secretive_pool(server.base_url), config=QUIET, encoder=HashingEncoder()))
    with pytest.raises(AllCandidatesFailedError) as caught:
        asking.complete(MESSAGES)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), str(again)) == (AllCandidatesFailedError, str(caught.value))
    assert again.decision_id == caught.value.decision_id
    assert list(again.causes) == list(caught.value.causes)
    assert all(type(one) is CallError and "slow down" in str(one) for one in again.causes.values())


# -- candidates ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "params",
    [
        {"aws_secret_access_key": KEY},
        {"extra_headers": {"X-Api-Key": KEY}},
        {"extra_body": {"nested": [{"auth": {"deep": KEY}}]}},
        {"vertex_credentials": json.dumps({"private": KEY})},
        {"azure_ad_token": KEY},
        {"extra_query": {"api-key": KEY}},
    ],
)
def test_secret_parameters_are_sent_and_nothing_else(params: dict[str, Any]) -> None:
    one = Candidate(name="a", model="b", api_base=f"https://ada:{PASSWORD}@host/v1?token={TOKEN}&v=2", params=params)
    again = pickle.loads(pickle.dumps(one))
    assert holding({"repr": repr(one), "pickle": pickle.dumps(one), "again": vars(again)}) == {}
    assert again.api_base == "https://host/v1?v=2"
    assert again == one.without_secrets() == again.without_secrets()
    assert any(KEY in secret for secret in one.secrets())
    for copied in (copy.copy(one), copy.deepcopy(one), dataclasses.replace(one)):
        assert copied == one and copied.params == params


def test_parameters_that_are_no_secrets_stay() -> None:
    params = {"temperature": 0.2, "max_tokens": 5, "stop_token_ids": [1, 2], "logit_bias": {"50256": -100}}
    assert Candidate(name="a", model="b", params=params).without_secrets().params == params


def test_a_router_that_is_loaded_has_no_secrets_and_keeps_the_rest(tmp_path: Path) -> None:
    made = Router(secretive_pool("http://127.0.0.1:9/v1"), config=QUIET, encoder=HashingEncoder())
    made.save(tmp_path)
    loaded = Router.load(tmp_path, encoder=HashingEncoder()).candidates
    assert [(one.name, one.secret_key(), one.params) for one in loaded] == [
        ("cheap", None, {"temperature": 0.5}),
        ("dear", None, {"temperature": 0.5}),
    ]


# -- errors ----------------------------------------------------------------------------------------------------------


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


# -- what a user sends -----------------------------------------------------------------------------------------------

HOSTILE = [
    "'; DROP TABLE mixllm_decisions; --",
    '" OR "1"="1',
    "%s %(name)s :name ? $1 {0}",
    "\\'; \\x27 \\",
    "name\0with NUL",
    "\ud800",
    "half \udc00 a character",
    "x" * 100_000,
    "",
    " ",
    "\n\r\t\u2028\u202e",
    "🦓" * 128,
    "../../etc/passwd",
    "mixllm-",
]


def settled(act: Callable[[], object]) -> bool:
    """Tell whether something was accepted rather than refused with one of our errors; any other comes out."""
    try:
        act()
    except MixLLMError:
        return False
    return True


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:20]))
def test_what_a_user_sends_is_kept_as_it_is_or_refused(text: str, place: str) -> None:
    router = tiny_router(store=place)
    decision = router.decide("hello", session=text)
    assert router.decide("hello", session=text).candidate
    if settled(lambda: router.feedback(decision, 1.0, text)):
        assert router.feedback(decision, 1.0, text).status == "duplicate"  # it was found again
        assert router.feedback(decision, 1.0, text).key == text
    if settled(lambda: router.link(decision.decision_id, text)):
        assert text in router.linked(within_s=1e9)
        assert router.feedback(text, 0.0, "other").decision_id == decision.decision_id
    else:
        with pytest.raises((UnknownDecisionError, FeedbackError)):
            router.feedback(text, 0.0)
    newcomer = dataclasses.replace(tiny_pool()[0], name=text)
    if settled(lambda: router.add_candidate(newcomer, like="cheap")):
        forced = router.decide("hello", force=text)
        assert router.explain(forced.decision_id).decision.candidate == text
        router.observe(forced.decision_id, Outcome(candidate=text))
        assert router.feedback(forced, 1.0).candidate == text
        assert text in router.stats()["candidates"]
    assert router.explain(decision.decision_id).decision.candidate == decision.candidate  # the tables are still there
    assert router.stats()["decisions"] >= 2
    router.close()


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:20]))
def test_nothing_is_found_under_a_name_that_nobody_gave(text: str, place: str) -> None:
    router = tiny_router(store=place)
    decision = router.decide("hello")
    for act in (lambda: router.explain(text), lambda: router.link(text, "name")):
        with pytest.raises((UnknownDecisionError, StoreError)):
            act()
    with pytest.raises((UnknownCandidateError, UnknownDecisionError)):
        router.observe(decision.decision_id, Outcome(candidate=text))
    router.close()


def test_any_text_as_a_key_a_name_or_a_reference() -> None:
    with tempfile.TemporaryDirectory() as folder, tiny_router(store=Path(folder) / "log.db") as router:
        decision = router.decide("hello")

        @settings(max_examples=40, deadline=None)
        @given(st.text(st.characters(), max_size=300))
        def check(text: str) -> None:
            if settled(lambda: router.feedback(decision, 1.0, text)):
                assert router.feedback(decision, 1.0, text).status == "duplicate"
            if settled(lambda: router.link(decision.decision_id, text)):
                assert router.feedback(text, 1.0, "judge").decision_id == decision.decision_id
            settled(lambda: router.feedback(text, 1.0))

        check()


@pytest.mark.parametrize("name", ["", " ", "x" * 257, "a\0b", "\udfff"])
def test_a_candidate_needs_a_name_that_every_store_keeps(name: str) -> None:
    with pytest.raises(CandidateError, match="name"):
        Router([dataclasses.replace(tiny_pool()[0], name=name)])


# -- what docs/security.md promises ----------------------------------------------------------------------------------


def test_the_rights_in_the_docs_are_enough(postgres_url: str) -> None:
    page = (Path(__file__).parents[2] / "docs/security.md").read_text(encoding="utf-8")
    [block] = re.findall(r"^```sql\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    administrator = sa.make_url(postgres_url)
    schema = str(administrator.query["options"]).removeprefix("-csearch_path=")
    worker, reader = f"{schema}_worker", f"{schema}_reader"
    named = {"mixllm_worker": worker, "mixllm_reader": reader, "SCHEMA mixllm": f"SCHEMA {schema}"}
    for name, own in named.items():
        block = block.replace(name, own)
    tiny_router(store=postgres_url).close()
    engine = sa.create_engine(administrator, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql(block)
        try:
            as_worker = administrator.set(username=worker, password="choose-one")
            as_reader = administrator.set(username=reader, password="choose-another")
            with tiny_router(store=as_worker.render_as_string(hide_password=False)) as router:
                decision = router.decide("hello")
                router.observe(decision.decision_id, Outcome(candidate=decision.candidate))
                router.link(decision.decision_id, "run")
                assert [router.feedback("run", reward).status for reward in (1.0, 1.0, 0.0)][-1] == "replaced"
                router.add_candidate(dataclasses.replace(tiny_pool()[0], name="new"), like="cheap")
                with pytest.raises(UnknownDecisionError):
                    router.feedback("nobody", 1.0)
                assert router.stats()["feedback_unmatched"] == 1
            for role_url in (as_worker, as_reader):
                refused = pytest.raises(sa.exc.ProgrammingError, match="must be owner")
                with sa.create_engine(role_url, poolclass=NullPool).connect() as other, refused:
                    other.exec_driver_sql("DROP TABLE mixllm_feedback")
            store = open_store(as_reader.render_as_string(hide_password=False))
            assert store.counts().decisions == 1
            assert store.decision(decision.decision_id).decision.candidate == decision.candidate
            with pytest.raises(StoreError, match="permission denied"):
                store.add_feedback(decision.decision_id, "reader", Label(1.0, 1.0), 0.0)
            store.close()
        finally:
            for role in (worker, reader):
                connection.exec_driver_sql(f"DROP OWNED BY {role}")
                connection.exec_driver_sql(f"DROP ROLE {role}")


def test_states_exports_and_databases_are_for_their_owner_only(tmp_path: Path) -> None:
    with tiny_router(store=tmp_path / "log.db") as router:
        router.decide("hello")
        router.save(tmp_path / "state")
    with closing(open_store(tmp_path / "log.db")) as store:
        export_log(store, tmp_path / "log.jsonl")
    for file in (tmp_path / "state/state.safetensors", tmp_path / "log.jsonl", tmp_path / "log.db"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_files_beside_a_database_are_for_its_owner_only_and_an_old_one_keeps_its_mode(tmp_path: Path) -> None:
    with tiny_router(store=tmp_path / "new.db") as router:
        router.decide("hello")
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    assert modes == {"new.db": 0o600, "new.db-wal": 0o600, "new.db-shm": 0o600}
    (tmp_path / "shared.db").touch(mode=0o664)
    (tmp_path / "shared.db").chmod(0o664)
    tiny_router(store=tmp_path / "shared.db").close()
    assert stat.S_IMODE((tmp_path / "shared.db").stat().st_mode) == 0o664


def test_a_prompt_of_megabytes_costs_no_more_than_its_beginning() -> None:
    encoder, text = OnnxEncoder(), "one two three " * 100_000
    assert np.array_equal(encoder.encode([text]), encoder.encode([text[:10_000]]))
    assert encoder.count_tokens(text) == pytest.approx(300_000, rel=0.001)
    started_s = time.process_time()
    encoder.encode([text * 4])
    encoder.count_tokens(text * 4)
    assert time.process_time() - started_s < 3.0  # the whole of it would take more than ten


def test_texts_are_remembered_by_a_hash() -> None:
    router = tiny_router()
    router.decide(PROMPT)
    assert PROMPT not in repr(vars(router._contexts))
