"""``mixllm shadow``: what switching MixLLM on would save, from the log of shadow mode."""

from __future__ import annotations

from typing import Annotated

import typer

from mixllm_engine.app.opened import opened
from mixllm_engine.app.options import JsonOption, StoreOption
from mixllm_engine.app.printing import print_json


def shadow(
    store: StoreOption,
    baseline: Annotated[
        str | None, typer.Option(help="Who answers now; who answered most in shadow mode where not given.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Estimate what switching MixLLM on would save.

    That is beside the model that answers now; what the log can't tell is said.
    """
    import dataclasses

    from mixllm_engine.evaluation.shadow import shadow_estimate

    with opened(store) as log:
        made = shadow_estimate(log, baseline)
    if as_json:
        print_json(dataclasses.asdict(made))
    else:
        typer.echo(str(made))
