"""What the tests of the 31 behaviours share; each behaviour has one test, and details have tests elsewhere."""

from typing import Any

from llama_index.core import VectorStoreIndex
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.schema import TextNode

from mixllm_engine import Candidate, Router
from mixllm_engine.testing import HashingEncoder, ScriptedServer

from .test_llm import told

KEY = "sk-a-key-that-must-not-be-seen"


def in_flight(router: Router) -> int:
    return sum(candidate["in_flight"] for candidate in router.stats()["candidates"].values())


def labels(router: Router) -> float:
    return float(sum(candidate["labels"] for candidate in router.stats()["candidates"].values()))


def errors(router: Router, response: Any) -> list[tuple[str, str | None]]:
    outcomes = router.explain(told(response)["decision_id"]).outcomes
    return [(outcome.candidate, outcome.error) for outcome in outcomes]


def pool(server: ScriptedServer, **settings: dict[str, Any]) -> Router:
    """Return a router over candidates that are all alike but for some settings."""
    alike = {"api_base": server.base_url, "input_usd_per_mtok": 1.0, "output_usd_per_mtok": 1.0}
    return Router(
        [Candidate(name=name, model=f"openai/{name}", **{**alike, **more}) for name, more in settings.items()],
        encoder=HashingEncoder(),
        seed=0,
    )


def index(*texts: str) -> VectorStoreIndex:
    return VectorStoreIndex([TextNode(text=text) for text in texts], embed_model=MockEmbedding(embed_dim=8))
