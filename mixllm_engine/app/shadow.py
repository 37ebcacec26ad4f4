"""``mixllm shadow``: what switching MixLLM on would save, from the log of shadow mode."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated

import typer

from mixllm_engine.app.opened import opened


def shadow(
    store: Annotated[
        str, typer.Option("--store", help="SQLite file or SQLAlchemy URL of the store.", envvar="MIXLLM_STORE")
    ],
    baseline: Annotated[
        str | None, typer.Option(help="Who answers now; who answered most in shadow mode where not given.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Estimate what switching MixLLM on would save beside the model that answers now, and what the log can't tell."""
    from mixllm_engine.evaluation.shadow import shadow_estimate

    with opened(store) as log:
        made = shadow_estimate(log, baseline)
    typer.echo(json.dumps(dataclasses.asdict(made), indent=2) if as_json else str(made))
