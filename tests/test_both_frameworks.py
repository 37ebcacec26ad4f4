"""One router, or one store, behind LangChain and LlamaIndex: what is learned in one is known in the other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from langchain_core.output_parsers import StrOutputParser

from langchain_mixllm import ChatMixLLM
from llamaindex_mixllm import MixLLM, track_decisions
from mixllm_engine.testing import Reply, ScriptedServer, tiny_router

SUBJECTS = ("lease", "budget", "roof", "garden", "boiler", "fence", "cellar", "stairs", "lift", "gate")


@pytest.mark.parametrize("shared", ["router", "store"])
def test_what_one_framework_learns_the_other_knows(shared: str, tmp_path: Path) -> None:
    with ScriptedServer() as server:
        for name in ("cheap", "dear"):
            server.script(name, Reply(text=f"Hello from {name}"))
        store = tmp_path / "mixllm.db"
        first = tiny_router(api_base=server.base_url, store=store)
        second = first if shared == "router" else tiny_router(api_base=server.base_url, store=store)

        llm = MixLLM(router=first)
        for turn in range(60):
            said = llm.complete(f"What about the {SUBJECTS[turn % 10]}, point {turn}?")
            llm.feedback(said, float(said.raw["mixllm"]["candidate"] == "dear"))

        chain = ChatMixLLM(router=second) | StrOutputParser()
        with track_decisions() as tracked:
            for subject in SUBJECTS:
                chain.invoke(f"What about the {subject}, in the end?")
        assert [decision.candidate for decision in tracked.decisions].count("dear") >= 9
        tracked.feedback(0.5, credit="all")

        both = [router.stats()["candidates"] for router in (first, second)]
        for name in ("cheap", "dear"):
            assert both[0][name]["labels"] == both[1][name]["labels"]
            assert both[0][name]["mean_reward"] == both[1][name]["mean_reward"]
        assert sum(of["labels"] for of in both[0].values()) == 70
        questions = [f"What about the {subject}?" for subject in SUBJECTS]
        one, other = first.predict(questions), second.predict(questions)
        assert np.array_equal(one.quality, other.quality)
        assert np.allclose(one.response_tokens, other.response_tokens)
        first.close()
        second.close()
