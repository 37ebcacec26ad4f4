"""Keys, passwords and prompts are nowhere but where they are used."""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mixllm_engine import AllCandidatesFailedError, Candidate, Router
from mixllm_engine.calling import RoutedClient
from mixllm_engine.errors import CallError
from mixllm_engine.redaction import HIDDEN
from mixllm_engine.store import open_store
from mixllm_engine.store.transfer import export_log
from mixllm_engine.testing import Failure, HashingEncoder, Reply, ScriptedServer, tiny_pool
from tests.engine.secrets.hidden import KEY, MESSAGES, PASSWORD, PROMPT, QUIET, TOKEN, holding, secretive_pool, shown

# They write what they send to debug logs of their own; nobody reads those who does not ask for them.
CLIENTS = ("LiteLLM", "openai", "httpx", "httpcore")


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as running:
        yield running


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
