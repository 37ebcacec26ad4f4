"""``mixllm feedback``: judge an answer, at any time and from any process."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, cast

import typer

from mixllm_engine.app.opened import opened
from mixllm_engine.app.options import JsonOption, StoreOption
from mixllm_engine.app.printing import print_json

if TYPE_CHECKING:
    from mixllm_engine.crediting import Credit
    from mixllm_engine.types import FeedbackReceipt


def feedback(
    ref: Annotated[str, typer.Argument(help="The decision's id, from the answer's metadata, or a message's or run's.")],
    reward: Annotated[float, typer.Argument(help="How good the answer was, from 0 to 1.")],
    store: StoreOption,
    key: Annotated[str, typer.Option(help="Who judges; the same key again replaces its value.")] = "user",
    weight: Annotated[float, typer.Option(help="What the judgement weighs, above 0 and at most 1.")] = 1.0,
    credit: Annotated[
        str, typer.Option(help="Of a run's decisions: 'last', 'all', or 'discounted', with less weight step by step.")
    ] = "last",
    as_json: JsonOption = False,
) -> None:
    """Give feedback on a decision, at any time and from any process."""
    import dataclasses

    from mixllm_engine.crediting import give
    from mixllm_engine.learning.rewards import check_label

    label = check_label(reward, weight)
    with opened(store) as log:
        receipt = give(log, ref, key, label, cast("Credit", credit), time.time())
    if as_json:
        print_json(dataclasses.asdict(receipt))
    else:
        typer.echo(_said(receipt))


def _said(receipt: FeedbackReceipt) -> str:
    if receipt.status == "duplicate":
        return f"duplicate: {receipt.candidate} had {receipt.reward:g} from {receipt.key!r} before"
    return f"{receipt.status}: {receipt.candidate} got {receipt.reward:g} from {receipt.key!r}"
