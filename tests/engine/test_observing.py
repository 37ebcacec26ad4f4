"""Spans, metrics and the dashboard say what routers did, and nothing of what was asked; unused, they cost nothing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client import CollectorRegistry, generate_latest

from mixllm_engine import Candidate, Outcome, RolloutConfig, Router, RouterConfig, observing
from mixllm_engine.calling import RoutedClient
from mixllm_engine.errors import StoreUnavailableError
from mixllm_engine.testing import Reply, ScriptedServer, tiny_router

ROOT = Path(__file__).parents[2]


class Telemetry:
    """What was exported."""

    def __init__(self) -> None:
        self.reader, self.exporter = InMemoryMetricReader(), InMemorySpanExporter()
        self.meters, self.tracers = MeterProvider([self.reader]), TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.observer = observing.Observer(self.tracers.get_tracer("t"), self.meters.get_meter("t"))

    def points(self, name: str) -> dict[tuple[Any, ...], Any]:
        """Return values (of histograms the count and the sum) by the values of the attributes."""
        data = self.reader.get_metrics_data()
        found = [
            point
            for resource in (data.resource_metrics if data else [])
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]
        return {
            tuple((point.attributes or {}).values()): getattr(point, "value", None)
            if hasattr(point, "value")
            else (point.count, point.sum)
            for point in found
        }

    def spans(self, prefix: str) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name.startswith(prefix)]


@pytest.fixture
def telemetry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Telemetry]:
    made = Telemetry()
    monkeypatch.setattr(observing._Found, "observer", made.observer)
    monkeypatch.setattr(observing, "_open", type(observing._open)())
    yield made
    made.meters.shutdown()
    made.tracers.shutdown()


def test_a_decision_is_a_span_and_is_counted(telemetry: Telemetry) -> None:
    with tiny_router() as router:
        decision = router.decide("a secret question", willingness_to_pay=3.0)
    (span,) = telemetry.spans("mixllm.decide")
    chosen, dear = decision.scores[decision.candidate], decision.scores["dear"]
    assert dict(span.attributes or {}) == {
        "mixllm.decision_id": decision.decision_id,
        "mixllm.candidate": decision.candidate,
        "mixllm.reason": decision.reason,
        "mixllm.propensity": decision.propensity,
        "mixllm.explored": decision.explored,
        "mixllm.willingness_to_pay": 3.0,
        "mixllm.expected_quality": chosen.quality,
        "mixllm.expected_cost_usd": chosen.cost_usd,
    }
    assert telemetry.points("mixllm.decisions") == {(decision.candidate, decision.reason): 1}
    saved = telemetry.points("mixllm.savings.expected")
    assert saved[()] == pytest.approx(dear.cost_usd - chosen.cost_usd)


def test_the_share_of_a_rollout_is_no_reason_of_its_own(telemetry: Telemetry) -> None:
    config = RouterConfig(rollout=RolloutConfig(baseline="dear", shares=(0.25,)))
    with tiny_router(config=config) as router:
        for _ in range(40):
            router.decide("hello", willingness_to_pay=0.0)
        assert telemetry.points("mixllm.rollout.share") == {("0",): 0.25}
    assert {reason for _, reason in telemetry.points("mixllm.decisions")} == {"rollout", "baseline"}


def test_an_answer_and_a_failure_are_spans_of_calls(telemetry: Telemetry) -> None:
    with tiny_router() as router, telemetry.tracers.get_tracer("t").start_as_current_span("request") as around:
        decision = router.decide("hello")
        router.observe(decision.decision_id, Outcome(candidate="cheap", latency_s=0.5, error="rate_limit"))
        answer = Outcome(
            candidate="dear", latency_s=2.0, first_token_s=0.25, prompt_tokens=10, response_tokens=20, cost_usd=0.5
        )
        router.observe(decision.decision_id, answer)
    failed, answered = telemetry.spans("chat ")
    assert answered.name == "chat dear" and answered.kind is SpanKind.CLIENT
    assert answered.parent and answered.parent.span_id == around.get_span_context().span_id
    assert answered.start_time and answered.end_time and answered.end_time - answered.start_time == 2_000_000_000
    assert dict(answered.attributes or {}) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "dear",
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 20,
        "mixllm.candidate": "dear",
        "mixllm.cost_usd": 0.5,
        "mixllm.decision_id": decision.decision_id,
        "mixllm.first_token_s": 0.25,
    }
    assert failed.status.status_code is StatusCode.ERROR and (failed.attributes or {})["error.type"] == "rate_limit"
    assert telemetry.points("mixllm.attempts") == {("cheap", "rate_limit"): 1, ("dear",): 1}
    assert telemetry.points("mixllm.cost") == {("dear",): 0.5}
    duration = telemetry.points("gen_ai.client.operation.duration")
    assert duration[("chat", "dear", "openai", "dear")] == (1, 2.0)
    assert duration[("chat", "cheap", "openai", "cheap", "rate_limit")] == (1, 0.5)
    assert list(telemetry.points("gen_ai.client.operation.time_to_first_chunk").values()) == [(1, 0.25)]
    tokens = telemetry.points("gen_ai.client.token.usage")
    assert {key[-1]: value for key, value in tokens.items()} == {"input": (1, 10), "output": (1, 20)}


def test_feedback_is_counted_by_what_became_of_it(telemetry: Telemetry) -> None:
    with tiny_router() as router:
        decision = router.decide("hello")
        for reward in (1.0, 1.0, 0.0):
            router.feedback(decision, reward)
        assert telemetry.points("mixllm.feedback") == {("applied",): 1, ("duplicate",): 1, ("replaced",): 1}
        assert telemetry.points("mixllm.feedback.pending") == {("0",): 0}
        assert telemetry.points("mixllm.writes.waiting") == {("0",): 0}
        assert telemetry.points("mixllm.writes.lost") == {("0",): 0}
    assert telemetry.points("mixllm.writes.waiting") == {}  # closed


def test_what_cannot_be_read_is_left_out(telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> None:
        raise StoreUnavailableError("the database is gone")

    with tiny_router() as router:
        router.decide("hello")
        monkeypatch.setattr(router._store, "counts", gone)
        assert telemetry.points("mixllm.feedback.pending") == {}
        assert telemetry.points("mixllm.writes.lost") == {("0",): 0}


def test_neither_texts_nor_keys_are_told(telemetry: Telemetry) -> None:
    with ScriptedServer() as server:
        server.script("m", Reply(text="a confidential answer"))
        candidate = Candidate(
            name="m", model="openai/m", api_base=server.base_url, api_key="sk-hidden", input_usd_per_mtok=1.0,
            output_usd_per_mtok=1.0, context_window=1000,
        )  # fmt: skip
        with Router([candidate]) as router:
            RoutedClient(router).complete([{"role": "user", "content": "a secret question"}])
        address = candidate.api_base
    told = "".join(span.to_json() for span in telemetry.exporter.get_finished_spans())
    told += str(telemetry.reader.get_metrics_data())
    assert len(telemetry.spans("chat m")) == 1 and "gen_ai.usage.output_tokens" in told
    for hidden in ("secret", "confidential", "sk-hidden", str(address)):
        assert hidden not in told


# -- when it is not used -------------------------------------------------------------------------------------------


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    return done.stdout.strip()


_ROUTE = (
    "from mixllm_engine.testing import tiny_router\n"
    "router = tiny_router()\n"
    "router.feedback(router.decide('x'), 1.0)\n"
    "from mixllm_engine import observing\n"
)


def test_nothing_is_imported_where_nobody_uses_it() -> None:
    code = f"import sys\n{_ROUTE}print(observing._Found.observer, 'opentelemetry' in sys.modules)"
    assert run(code) == "None False"


def test_nothing_is_made_without_a_provider() -> None:
    code = f"import opentelemetry.metrics\n{_ROUTE}print(observing._Found.observer)"
    assert run(code) == "None"


def test_another_package_of_that_name_is_no_error() -> None:
    code = f"import sys, types\nsys.modules['opentelemetry'] = types.ModuleType('opentelemetry')\n{_ROUTE}print('fine')"
    assert run(code) == "fine"


def test_a_provider_is_found() -> None:
    code = (
        "from opentelemetry import metrics\n"
        "from opentelemetry.sdk.metrics import MeterProvider\n"
        "from opentelemetry.sdk.metrics.export import InMemoryMetricReader\n"
        "reader = InMemoryMetricReader()\n"
        "metrics.set_meter_provider(MeterProvider([reader]))\n"
        f"{_ROUTE}"
        "print('mixllm.decisions' in reader.get_metrics_data().to_json())"
    )
    assert run(code) == "True"


# -- the dashboard -------------------------------------------------------------------------------------------------


def exported(router: Router) -> set[str]:
    """Return the names of all series that Prometheus gets of a router that did everything once."""
    from opentelemetry.exporter.prometheus import PrometheusMetricReader

    registry = CollectorRegistry()
    meters = MeterProvider([PrometheusMetricReader(registry=registry)])
    observer = observing.Observer(TracerProvider().get_tracer("t"), meters.get_meter("t"))
    decision = router.decide("hello")
    receipt = router.feedback(decision, 1.0)
    observer.decided(decision)
    observer.credited(receipt)
    whole = Outcome(
        candidate="dear", latency_s=2.0, first_token_s=0.2, prompt_tokens=1, response_tokens=2, cost_usd=0.1
    )
    for outcome in (whole, Outcome(candidate="dear", latency_s=2.0, error="timeout")):
        observer.attempted(decision.decision_id, outcome, router._pool)
    lines = generate_latest(registry).decode().splitlines()
    meters.shutdown()
    return {re.split(r"[{ ]", line)[0] for line in lines if not line.startswith("#")}


def queries(dashboard: dict[str, Any]) -> list[str]:
    return [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]


def test_the_dashboard_asks_for_what_is_exported_and_for_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observing._Found, "observer", None)
    monkeypatch.setattr(observing, "_open", type(observing._open)())
    dashboard = json.loads((ROOT / "docs/grafana.json").read_text(encoding="utf-8"))
    with tiny_router() as router:
        known = exported(router)
    asked = {name for query in queries(dashboard) for name in re.findall(r"\b(?:mixllm|gen_ai)_\w+", query)}
    labels = {
        label
        for query in queries(dashboard)
        for group in re.findall(r"by \(([^)]*)\)", query)
        for label in re.split(r",\s*", group)
    }
    asked -= labels
    assert asked <= known, asked - known
    families = {re.sub(r"_(bucket|count|sum|total|created)$", "", name) for name in known if name[0] in "mg"}
    assert {re.sub(r"_(bucket|count|sum|total)$", "", name) for name in asked} >= families
    assert labels <= {"mixllm_candidate", "mixllm_reason", "mixllm_status", "error_type", "gen_ai_token_type", "le"}


def test_the_dashboard_can_be_imported() -> None:
    dashboard = json.loads((ROOT / "docs/grafana.json").read_text(encoding="utf-8"))
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) and all(panel["title"] for panel in panels)
    places = [tuple(panel["gridPos"][side] for side in "xywh") for panel in panels]
    cells = [(x + i, y + j) for x, y, w, h in places for i in range(w) for j in range(h)]
    assert len(cells) == len(set(cells)) and max(x for x, _ in cells) < 24  # nothing overlaps
    assert all(panel["datasource"]["uid"] == "${datasource}" for panel in panels)
    assert [variable["name"] for variable in dashboard["templating"]["list"]] == ["datasource"]
