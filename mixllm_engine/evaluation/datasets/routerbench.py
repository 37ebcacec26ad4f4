"""RouterBench's published table (Hu et al. 2024, arXiv:2403.12031), in exactly its columns.

``sample_id, prompt, eval_name, <model>, <model>|model_response, <model>|total_cost, oracle_model_to_route_to``
"""

from __future__ import annotations

import ast
import dataclasses
from typing import Any

from mixllm_engine.errors import TableError
from mixllm_engine.evaluation.datasets.lengths import estimated_tokens
from mixllm_engine.evaluation.pools import FullFeedback, Source, read_pool
from mixllm_engine.learning.columns import Columns, some

_COST, _ANSWER = "|total_cost", "|model_response"
SOURCE = Source(
    name="RouterBench",
    about=(
        "recorded answers of eleven LLMs to queries of public benchmarks, with quality from 0 to 1 and cost in dollars "
        "(Hu et al. 2024, arXiv:2403.12031). Lengths are estimated from the texts. The benchmark's code is under the "
        "MIT licence; for its data none is known."
    ),
    url="https://huggingface.co/datasets/withmartian/routerbench",
)
WHERE = (
    "MixLLM downloads nothing: get RouterBench's table (routerbench_0shot.pkl or routerbench_5shot.pkl) from "
    f"{SOURCE.url} yourself, look at its terms, and give the file's path"
)


def is_routerbench(columns: Columns) -> bool:
    """Tell RouterBench's columns from those of a wide table."""
    names = columns.names
    return any(name.endswith(_COST) for name in names) and not any(name.endswith("|quality") for name in names)


def read_routerbench(columns: Columns, *, name: str, text: str = "prompt") -> FullFeedback:
    """Read RouterBench's table.

    The models are those with a column for the cost or the answer. Quality is the column ``<model>``, cost is
    ``<model>|total_cost``, the domain is ``eval_name`` as it stands: each subject of MMLU is one. Prompts and answers
    are published as the text of a Python list of turns; the turns are joined by line breaks. The table has no lengths:
    they are estimated from the texts, and NaN for a model without answers. Other columns are left alone.

    Parameters
    ----------
    columns : Columns
        The table.
    name : str
        What to call the pool.
    text : str
        Column with the queries.

    Raises
    ------
    TableError
        If a model lacks a column, or values can't be right; the message names the first bad row.
    """
    models = sorted(
        {column.removesuffix(end) for column in columns.names for end in (_COST, _ANSWER) if column.endswith(end)}
    )
    needed = [text] + [column for model in models for column in (model, model + _COST)]
    lacking = [column for column in needed if column not in columns]
    if lacking:
        raise TableError(f"this looks like RouterBench's table, but it has no column {some(lacking)}")
    texts = [_turns(prompt) for prompt in columns.words(text, "the query")]
    table: dict[str, Any] = {"prompt": texts, "prompt_tokens": estimated_tokens(texts)}
    if "eval_name" in columns:
        table["domain"] = columns.words("eval_name", "the domain")
    for model in models:
        table[f"{model}|quality"] = columns.numbers(model, len(texts), highest=1.0)
        table[f"{model}|cost_usd"] = columns.numbers(model + _COST, len(texts))
        if model + _ANSWER in columns:
            answers = columns.values(model + _ANSWER)
            table[f"{model}|response_tokens"] = estimated_tokens(
                _turns(answer) if isinstance(answer, str) else None for answer in answers
            )
    return dataclasses.replace(read_pool(table, name=name, text="prompt"), source=SOURCE)


def _turns(text: str) -> str:
    """Join the turns of a list that was printed as text; any other text, or a list of nothing, stays as it is."""
    if not text.lstrip().startswith("["):
        return text
    try:
        turns = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):  # a prompt that begins with a bracket
        return text
    if not isinstance(turns, list) or not all(isinstance(turn, str) for turn in turns):
        return text
    joined = "\n".join(turns)
    return joined if joined.strip() else text
