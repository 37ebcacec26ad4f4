"""`MixLLMDecisionModel` in LangChain's own router for agents; older versions of langchain-core have neither."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from typing import Any
from uuid import uuid4

import pytest
from langchain.agents import create_agent
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import HumanMessage

from langchain_mixllm import decision_model
from langchain_mixllm.decision_model import chances
from mixllm_engine import ConfigError, QueryError, Router, RouterConfig, UnknownCandidateError, track_decisions
from mixllm_engine.config import ExplorationConfig
from mixllm_engine.testing import HashingEncoder, tiny_pool, tiny_router

IS_NEW = find_spec("langchain_core.decisions") is not None
CALM = RouterConfig(exploration=ExplorationConfig(rate=0.0, pulls=0))
needs_decisions = pytest.mark.skipif(not IS_NEW, reason="langchain-core has decision models since 1.8")


@pytest.fixture
def router() -> Router:
    return tiny_router(config=CALM)


class TestChances:
    def test_they_are_those_of_two_normal_totals(self, router: Router) -> None:
        decision = router.decide("Hello?", willingness_to_pay=3.0)
        found = chances(decision, ["cheap", "dear"], scale=0.2, is_squared=False)

        cheap, dear = decision.scores["cheap"], decision.scores["dear"]
        deviation = 0.2 * 0.75 * math.hypot(cheap.uncertainty, dear.uncertainty)
        expected = 0.5 * (1.0 + math.erf((cheap.total - dear.total) / deviation / math.sqrt(2.0)))
        assert found["cheap"] == pytest.approx(expected, abs=1e-4)
        assert found["cheap"] + found["dear"] == pytest.approx(1.0, abs=1e-4)

    def test_squared_uncertainties_are_the_same(self) -> None:
        found = {}
        for form in ("width", "square"):
            update: Any = {
                "decision": CALM.decision.model_copy(update={"uncertainty": form, "uncertainty_weight": 0.0})
            }
            decision = tiny_router(config=CALM.model_copy(update=update)).decide("Hello?", willingness_to_pay=3.0)
            found[form] = chances(decision, ["cheap", "dear"], scale=0.2, is_squared=form == "square")

        assert found["width"] == pytest.approx(found["square"])

    def test_who_may_not_answer_has_none(self, router: Router) -> None:
        decision = router.decide("Hello?", deny=["cheap"])

        assert chances(decision, ["cheap", "dear"], scale=0.1, is_squared=False) == {"cheap": 0.0, "dear": 1.0}


@pytest.mark.skipif(IS_NEW, reason="this langchain-core has decision models")
def test_an_older_core_is_named() -> None:
    with pytest.raises(ImportError, match=r"needs langchain-core 1\.8 or newer, and this is 1\."):
        decision_model.MixLLMDecisionModel  # noqa: B018
    with pytest.raises(AttributeError, match="no attribute 'MixLLMDecision'"):
        decision_model.MixLLMDecision  # noqa: B018


Ask = Callable[[Any, Any], Awaitable[Any]]


async def _invoke(runnable: Any, given: Any) -> Any:
    return runnable.invoke(given)


async def _ainvoke(runnable: Any, given: Any) -> Any:
    return await runnable.ainvoke(given)


@pytest.fixture(params=[_invoke, _ainvoke], ids=["invoke", "ainvoke"])
def ask(request: pytest.FixtureRequest) -> Ask:
    way: Ask = request.param
    return way


def choice(*labels: str) -> Any:
    return import_module("langchain_core.decisions").Choice(instructions="Who?", criteria=dict.fromkeys(labels))


@needs_decisions
class TestQuestions:
    async def test_a_choice_is_answered(self, ask: Ask, router: Router) -> None:
        model = decision_model.MixLLMDecisionModel(router=router, budget="very_low")
        with track_decisions() as tracked:
            response = await ask(model, {"state": "Hello?", "questions": {"who": choice("cheap", "dear")}})

        answer = response.choices["who"]
        assert (answer.choice, response.request_id) == ("cheap", tracked.decision_ids[0])
        assert answer.probabilities.keys() == {"cheap", "dear"}
        assert answer.confidence == answer.probabilities["cheap"] > 0.5
        assert model.feedback(response.request_id, 1.0).status == "applied"
        assert model.feedback(answer, 1.0).status == "duplicate"
        assert (await model.afeedback(tracked.decisions[0], 1.0)).status == "duplicate"

    async def test_only_those_in_question_are_chosen(self, ask: Ask) -> None:
        router = tiny_router(names=["cheap", "dear", "dearest"], config=CALM)
        model = decision_model.MixLLMDecisionModel(router=router, arms={"good": "dear"}, willingness_to_pay=0.0)
        response = await ask(
            model, {"state": "Hello?", "questions": {"a": choice("good", "dearest"), "b": choice("dearest")}}
        )

        assert [response.choices[name].choice for name in "ab"] == ["good", "dearest"]
        assert response.choices["a"].probabilities.keys() == {"good", "dearest"}
        assert response.choices["b"].probabilities == {"dearest": 1.0}
        assert response.request_id is None

    @pytest.mark.parametrize(
        "state", ["Hello?", HumanMessage("Hello?"), [HumanMessage("Hello?")], {"messages": [HumanMessage("Hello?")]}]
    )
    def test_states(self, router: Router, state: Any) -> None:
        model = decision_model.MixLLMDecisionModel(router=router, budget="very_low")

        assert (
            model.invoke({"state": state, "questions": {"who": choice("cheap", "dear")}}).choices["who"].choice
            == "cheap"
        )

    def test_what_is_refused(self, router: Router) -> None:
        decisions: Any = import_module("langchain_core.decisions")
        model = decision_model.MixLLMDecisionModel(router=router)
        with pytest.raises(ConfigError, match="'urgent' is a noul question"):
            model.invoke({"state": "Hello?", "questions": {"urgent": decisions.Noul(instructions="Is it?")}})
        with pytest.raises(UnknownCandidateError, match=r"'fast' among the choices.*say with arms="):
            model.invoke({"state": "Hello?", "questions": {"who": choice("fast", "dear")}})
        with pytest.raises(QueryError, match="can't be routed"):
            model.invoke({"state": {"ticket": 7}, "questions": {"who": choice("cheap", "dear")}})
        with pytest.raises(ConfigError, match="force names 'cheap', which is none of dear"):
            model.model_copy(update={"force": "cheap"}).invoke({"state": "Hi", "questions": {"who": choice("dear")}})
        with pytest.raises(ValueError, match="two labels stand for one candidate"):
            decision_model.MixLLMDecisionModel(router=router, arms={"a": "cheap", "b": "cheap"})
        assert "router" not in model.model_dump()

    def test_images_count(self) -> None:
        cheap, dear = tiny_pool()
        router = Router([cheap, replace(dear, supports_images=True)], config=CALM, encoder=HashingEncoder())
        model = decision_model.MixLLMDecisionModel(router=router, willingness_to_pay=0.0)
        image = HumanMessage([{"type": "text", "text": "What?"}, {"type": "image", "base64": "AAAA"}])
        answer = model.invoke({"state": image, "questions": {"who": choice("cheap", "dear")}}).choices["who"]

        assert (answer.choice, answer.probabilities) == ("dear", {"cheap": 0.0, "dear": 1.0})


@needs_decisions
class TestOfficialRouter:
    """`ModelRouterMiddleware` of langchain 1.5, which is in beta and says so."""

    pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")

    def agent(self, model: Any) -> Any:
        middleware: Any = import_module("langchain.agents.middleware")
        models = {name: FakeListChatModel(responses=[f"Hello from {name}"]) for name in ("cheap", "dear")}
        choices = {
            label: middleware.ModelChoice(model=models[model.arms.get(label, label)], criteria="Anything.")
            for label in ("cheap", "best")
        }
        routing = middleware.ModelRouterMiddleware(choices=choices, instructions="Choose.", classifier=model)
        return create_agent(models["dear"], middleware=[routing])

    async def test_it_routes_by_our_decision(self, ask: Ask, router: Router) -> None:
        model = decision_model.MixLLMDecisionModel(router=router, arms={"best": "dear"}, willingness_to_pay=0.0)
        result = await ask(self.agent(model), {"messages": [HumanMessage("Hello?")]})

        assert result["messages"][-1].text == "Hello from cheap"
        assert model.feedback(result["model_route"], 1.0).candidate == "cheap"

    def test_feedback_by_run_moves_the_choices(self) -> None:
        router = tiny_router()
        model = decision_model.MixLLMDecisionModel(router=router, arms={"best": "dear"})
        agent = self.agent(model)
        for number in range(60):
            run = uuid4()
            result = agent.invoke({"messages": [HumanMessage(f"Question {number} of the first part")]}, {"run_id": run})
            model.feedback(run, float(result["messages"][-1].text == "Hello from dear"))
        later = [
            agent.invoke({"messages": [HumanMessage(f"Question {number} of the second part")]})["model_route"].choice
            for number in range(20)
        ]

        assert router.stats()["feedback_applied"] == 60
        assert later.count("best") > 14
