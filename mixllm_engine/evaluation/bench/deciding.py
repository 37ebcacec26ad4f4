"""How long decisions and feedback take, by number of candidates, and how long a decision takes from a text."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from mixllm_engine.encoding.encoder import OnnxEncoder
from mixllm_engine.evaluation.bench.deciders import MixLLMDecider, MixLLMText, deciding, reading
from mixllm_engine.evaluation.bench.inputs import names_of, texts_of
from mixllm_engine.evaluation.bench.report import Budget, Row, compared
from mixllm_engine.evaluation.bench.rivals import MabwiserDecider, ParetoDecider, ParetoText
from mixllm_engine.evaluation.bench.timing import Effort, alternate
from mixllm_engine.evaluation.remembered import RememberedEncoder

_MIXLLM: Final = "MixLLM"
_PARETO: Final = "ParetoBandit"
_DECIDE_US: Final = {10: 50.0, 100: 100.0, 1000: 500.0}  # by number of candidates
_LEARN_US: Final = 100.0
# Four times as fast as ParetoBandit from 20 words.
_TEXT_RATIO: Final = {20: 0.25}
_TEXT_CANDIDATES: Final = 10


def decisions(counts: Sequence[int], effort: Effort) -> list[Row]:
    """Time decisions without encoding, and feedback, for pools of several sizes."""
    encoder = RememberedEncoder(OnnxEncoder())
    decided: list[Row] = []
    learned: list[Row] = []
    for count in counts:
        names, setting, limit = names_of(count), f"{count} candidates", _DECIDE_US.get(count)
        chooses, learns = deciding(_MIXLLM, partial(MixLLMDecider, names, encoder, fitted=True))
        unfitted, _ = deciding(f"{_MIXLLM}, all new", partial(MixLLMDecider, names, encoder, fitted=False))
        pareto = deciding(_PARETO, partial(ParetoDecider, names))
        mabwiser = deciding("MABWiser LinUCB", partial(MabwiserDecider, names))
        decided += compared(
            alternate([chooses, unfitted, pareto[0], mabwiser[0]], effort),
            part="decision without encoding",
            setting=setting,
            unit="us",
            against=_PARETO,
            budgets={} if limit is None else {_MIXLLM: Budget(of="p50", limit=limit)},
        )
        learned += compared(
            alternate([learns, pareto[1], mabwiser[1]], effort),
            part="feedback",
            setting=setting,
            unit="us",
            against=_PARETO,
            budgets={_MIXLLM: Budget(of="p50", limit=_LEARN_US)},
        )
    return decided + learned


def from_text(lengths: Sequence[int], effort: Effort) -> list[Row]:
    """Time decisions from texts of so many words, no two of them alike."""
    names = names_of(_TEXT_CANDIDATES)
    systems = [
        reading(_MIXLLM, partial(MixLLMText, names, OnnxEncoder())),
        reading(_PARETO, partial(ParetoText, names)),
    ]
    rows: list[Row] = []
    for words in lengths:
        texts = texts_of(words, effort.most_calls)
        ratio = _TEXT_RATIO.get(words)
        rows += compared(
            alternate([system(texts) for system in systems], effort),
            part="text to decision",
            setting=f"{words} words, {_TEXT_CANDIDATES} candidates",
            unit="ms",
            against=_PARETO,
            budgets={} if ratio is None else {_MIXLLM: Budget(of="ratio", limit=ratio)},
        )
    return rows
