"""The rows that the PyPI package ``paretobandit`` carries: real outcomes without any download.

Its code is not imported, which would take seconds and scikit-learn: the rows are two files beside it.
"""

from __future__ import annotations

import dataclasses
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from mixllm_engine.errors import TableError
from mixllm_engine.evaluation.datasets.lengths import estimated_tokens, implied_tokens
from mixllm_engine.evaluation.pools import FullFeedback, Source, read_pool

_PARTS = {
    "paretobandit": ("val.jsonl", "test_holdout.jsonl"),
    "paretobandit:val": ("val.jsonl",),
    "paretobandit:test": ("test_holdout.jsonl",),
}
PACKAGED = tuple(_PARTS)
SOURCE = Source(
    name="ParetoBandit's rows",
    about=(
        "answers of three LLMs to queries of public benchmarks, scored by a judge, with their cost in dollars, as "
        "the package paretobandit carries them. Prompt tokens are estimated from the text, response tokens are implied "
        "by the cost and the package's list prices."
    ),
    licence="Apache-2.0",
    url="https://pypi.org/project/paretobandit/0.1.1/",
)


def load_packaged(name: str) -> FullFeedback:
    """Read the packaged rows.

    ``paretobandit`` is all of them, ``paretobandit:val`` the part on which the package's own demonstration trains,
    ``paretobandit:test`` the part on which it evaluates; no query is in both. Domains are the benchmarks; the tasks of
    BIG-Bench Hard (``bbh/...``) count as one.

    Where a tokenizer's prompt lengths are known (1,766 of the validation queries), the implied response lengths have
    the right mean within 0.2 % and mean absolute errors of 9.5, 3.2 and 1.2 tokens, at means of 220, 306 and 1,488.

    Parameters
    ----------
    name : {'paretobandit', 'paretobandit:val', 'paretobandit:test'}
        Which rows.

    Raises
    ------
    ImportError
        If the package is not installed.
    TableError
        If it does not hold the rows that version 0.1.1 holds.
    """
    folder = _folder()
    try:
        prices = {
            model["model_id"]: (float(model["input_cost_per_m"]), float(model["output_cost_per_m"]))
            for model in json.loads((folder / "config" / "models.json").read_text(encoding="utf-8"))["models"]
        }
        rows = [row for file in _PARTS[name] for row in _rows(folder / "data" / "examples" / file)]
        table = _table(rows, prices)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TableError(
            "the installed paretobandit does not hold its rows in the form of version 0.1.1 "
            f"({type(error).__name__}: {error}): pip install paretobandit==0.1.1"
        ) from error
    return dataclasses.replace(read_pool(table, name=name), source=SOURCE)


def _folder() -> Path:
    spec = find_spec("pareto_bandit")
    if spec is None or spec.origin is None:
        raise ImportError('the packaged rows come with paretobandit 0.1.1: pip install "mixllm[evaluate]"')
    return Path(spec.origin).parent


def _rows(file: Path) -> list[dict[str, Any]]:
    with file.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def _table(rows: list[dict[str, Any]], prices: dict[str, tuple[float, float]]) -> dict[str, Any]:
    texts = [row["prompt"] for row in rows]
    prompt_tokens = estimated_tokens(texts)
    table: dict[str, Any] = {
        "prompt": texts,
        "domain": [row["source"].partition("/")[0] for row in rows],
        "prompt_tokens": prompt_tokens,
    }
    for name in sorted({name for row in rows for name in row["arms"]}):
        cost_usd = np.array([row["arms"][name]["cost"] for row in rows], dtype=np.float64)
        table[f"{name}|quality"] = [row["arms"][name]["reward"] for row in rows]
        table[f"{name}|cost_usd"] = cost_usd
        table[f"{name}|response_tokens"] = implied_tokens(cost_usd, prompt_tokens, prices[name])
    return table
