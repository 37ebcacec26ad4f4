"""``mixllm explain``: why a candidate was chosen."""

from __future__ import annotations

from typing import Annotated

import typer

from mixllm_engine.app.opened import opened
from mixllm_engine.app.options import JsonOption, StoreOption
from mixllm_engine.app.printing import on_terminal, print_json, tabled


def explain(
    ref: Annotated[str, typer.Argument(help="The decision's id, or a message's or run's: a run's last decision.")],
    store: StoreOption,
    as_json: JsonOption = False,
) -> None:
    """Say why a candidate was chosen, in numbers that add up.

    Also who was excluded, what would have changed the choice, and what came of it.
    """
    from mixllm_engine.crediting import led_to
    from mixllm_engine.explanation import Explanation

    with opened(store) as log:
        decision_id = led_to(log, ref)[-1]
        explanation = Explanation(record=log.decision(decision_id), outcomes=tuple(log.outcomes(decision_id)))
    if as_json:
        print_json(explanation.as_dict())
    elif on_terminal():
        columns, *rows = explanation.table
        typer.echo("\n".join([explanation.summary, tabled(columns, rows, left=("",)), *explanation.notes]))
    else:
        typer.echo(str(explanation))
