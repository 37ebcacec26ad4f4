"""Any chat model can be a candidate: where its name and price come from, and how it is copied."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import pytest
from langchain_core.language_models import GenericFakeChatModel, ModelProfile
from langchain_core.runnables import ConfigurableField
from pydantic import ValidationError

from langchain_mixllm import ChatMixLLM
from mixllm_engine import Candidate, Router, UnknownPriceError
from mixllm_engine.testing import HashingEncoder, tiny_pool
from tests.langchain.foreign.abroad import PRICES, Abroad


class TestMaking:
    def test_name_and_prices_come_from_the_model(self, abroad: Abroad) -> None:
        llm = ChatMixLLM(candidates=[abroad, "openai/gpt-4o-mini", Candidate(name="x", model="x", **PRICES)])
        names = {candidate.name: candidate for candidate in llm.router.candidates}

        assert names.keys() == {"anthropic/claude-haiku-4-5", "openai/gpt-4o-mini", "x"}
        assert names["anthropic/claude-haiku-4-5"].output_usd_per_mtok == pytest.approx(5.0)
        assert names["anthropic/claude-haiku-4-5"].supports_tools
        message = llm.invoke("Hello?", force="anthropic/claude-haiku-4-5")
        assert message.text == "From abroad"
        assert message.response_metadata["response_cost"] == pytest.approx((7 * 1.0 + 2 * 5.0) / 1e6)

    def test_a_profile_says_what_it_can_do(self) -> None:
        said: ModelProfile = {"max_input_tokens": 500, "tool_calling": False, "image_inputs": True}
        (candidate,) = ChatMixLLM(candidates=[Abroad(profile=said)]).router.candidates

        assert (candidate.context_window, candidate.supports_tools, candidate.supports_images) == (500, False, True)
        assert candidate.supports_json_schema  # the profile does not say; LiteLLM's map does

    @pytest.mark.parametrize(
        ("provider", "named", "known"),
        [
            ("google_genai", "gemini-2.5-flash", "gemini/gemini-2.5-flash"),
            ("openai", "gpt-4o-mini", "openai/gpt-4o-mini"),
            ("litellm", "openai/gpt-4o-mini", "openai/gpt-4o-mini"),
        ],
    )
    def test_langchains_names_become_litellms(
        self, monkeypatch: pytest.MonkeyPatch, provider: str, named: str, known: str
    ) -> None:
        said = {"ls_provider": provider, "ls_model_name": named}
        monkeypatch.setattr(Abroad, "_get_ls_params", lambda self, stop=None, **kwargs: said)
        (candidate,) = ChatMixLLM(candidates=[Abroad()]).router.candidates
        assert (candidate.name, candidate.model) == (known, known)

    def test_an_unknown_price_leads_to_a_candidate_of_ones_own(self) -> None:
        fake = GenericFakeChatModel(messages=iter(["Hello"]))
        with pytest.raises(UnknownPriceError, match=r"input_usd_per_mtok=.*models=\{'mine': model\}"):
            ChatMixLLM(candidates=[fake])
        mine = Candidate(name="mine", model="generic-fake-chat-model", **PRICES)
        assert ChatMixLLM(candidates=[mine], models={"mine": fake}).invoke("Hello?").text == "Hello"

    def test_models_are_for_candidates(self, router: Router, abroad: Abroad) -> None:
        with pytest.raises(ValidationError, match="models= names 'chep', but the pool has 'cheap', 'dear'"):
            ChatMixLLM(router=router, models={"chep": abroad})

    def test_a_candidate_may_leave_the_pool(self, llm: ChatMixLLM) -> None:
        configurable = llm.configurable_fields(max_tokens=ConfigurableField(id="length"))
        llm.router.remove_candidate("cheap")
        assert configurable.invoke("Hello?", {"configurable": {"length": 9}}).text == "Hello from dear to you"

    def test_no_litellm_where_nobody_needs_it(self, abroad: Abroad, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("langchain_mixllm._delegates.delegate_class", pytest.fail)
        llm = ChatMixLLM(router=Router([replace(tiny_pool()[0])], encoder=HashingEncoder()), models={"cheap": abroad})
        assert llm.invoke("Hello?").text == "From abroad"


class TestCopies:
    def test_copies_share_the_model(self, llm: ChatMixLLM, abroad: Abroad) -> None:
        for again in (copy.deepcopy(llm), copy.copy(llm), llm.model_copy(update={"temperature": 0.1})):
            assert again.invoke("Hello?").text == "From abroad"
        assert len(abroad._seen) == 3

    def test_a_copy_of_one_with_candidates(self, abroad: Abroad) -> None:
        llm = ChatMixLLM(candidates=[abroad])
        assert copy.deepcopy(llm).invoke("Hello?").text == "From abroad"
        assert len(abroad._seen) == 1

    def test_models_are_not_pickled(self, abroad: Abroad) -> None:
        with pytest.raises(TypeError, match="chat models may hold keys"):
            pickle.dumps(ChatMixLLM(candidates=[abroad]))
        described = Candidate(name="mine", model="x", **PRICES)
        with pytest.raises(TypeError, match="chat models may hold keys"):
            pickle.dumps(ChatMixLLM(candidates=[described], models={"mine": abroad}))

    def test_cached_answers_belong_to_their_models(self, router: Router) -> None:
        one, other = (ChatMixLLM(router=router, models={"cheap": Abroad(token=key)}) for key in ("a", "b"))  # type: ignore[arg-type]
        third = ChatMixLLM(router=router)
        assert len({one._get_llm_string(), third._get_llm_string()}) == 2
        assert one._get_llm_string() == other._get_llm_string()  # the key is no part of what is asked

    def test_its_key_is_not_shown(self, llm: ChatMixLLM) -> None:
        shown = repr([llm, llm.asdict(), llm.model_dump(), llm._serialized, llm._get_llm_string()])
        assert "hunter2" not in shown
        assert "Abroad" not in shown
