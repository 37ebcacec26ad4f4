"""Inside a tool loop the candidate never changes: the messages say who began it, whatever the router remembers.

So a loop goes on with its candidate without any session, after a fallback, and in another process after an interrupt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage

from langchain_mixllm._answers import noted
from mixllm_engine import Decision, Query, Router


def decide(router: Router, query: Query, messages: Sequence[BaseMessage], terms: Mapping[str, Any]) -> Decision:
    """Decide for a conversation; raises what `Router.decide` raises."""
    kept = _began(messages) if query.in_tool_loop and terms.get("force") is None else None
    if kept is None or not _is_possible(kept, router, terms):
        return router.decide(query, **terms)
    return _with_fallbacks(router.decide(query, **{**terms, "force": kept}))


def _began(messages: Sequence[BaseMessage]) -> str | None:
    asked = next((message for message in reversed(messages) if isinstance(message, AIMessage)), None)
    name = noted(asked).get("candidate")
    return name if isinstance(name, str) else None


def _is_possible(name: str, router: Router, terms: Mapping[str, Any]) -> bool:
    allow, deny = terms.get("allow"), terms.get("deny") or ()
    wanted = allow is None or any(fnmatchcase(name, pattern) for pattern in allow)
    known = any(candidate.name == name for candidate in router.candidates)
    return known and wanted and not any(fnmatchcase(name, pattern) for pattern in deny)


def _with_fallbacks(decision: Decision) -> Decision:
    """Let others answer if the one that was kept fails, which `Router.decide` rules out for a forced one."""
    others = [(-score.total, name) for name, score in decision.scores.items() if score.eligible]
    ranking = (name for _, name in sorted(others) if name != decision.candidate)
    return replace(decision, ranking=(decision.candidate, *ranking))
