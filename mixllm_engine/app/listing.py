"""``mixllm candidates``: who is in a pool, at what price, with which abilities, and what was learned of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from mixllm_engine.app.opened import opened
from mixllm_engine.app.options import JsonOption, MaybeStoreOption, PoolOption, StateOption
from mixllm_engine.app.printing import print_json, tabled
from mixllm_engine.errors import ConfigError

if TYPE_CHECKING:
    from mixllm_engine.app.learned import Learned
    from mixllm_engine.types import Candidate

_COLUMNS: Final = (
    "candidate",
    "model",
    "$/Mtok in",
    "$/Mtok out",
    "window",
    "abilities",
    "labels",
    "quality (95 %)",
)
_UNKNOWN: Final = "unknown"


def candidates(
    models: Annotated[list[str] | None, typer.Argument(help="LiteLLM's names, such as openai/gpt-4o-mini.")] = None,
    pool: PoolOption = None,
    state: StateOption = None,
    store: MaybeStoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """List prices, limits, abilities, and what was learned."""
    from mixllm_engine.app.pool import read_candidates

    given = read_candidates(models or (), pool)
    if not given and state is None and store is None:
        raise ConfigError(
            "name some models, or give --pool FILE, --state FOLDER of a saved router, or --store of a running one"
        )
    learned = _learned(given, state, store)
    rows = [_described(candidate, learned) for candidate in learned.candidates]
    if as_json:
        print_json(rows)
    else:
        typer.echo(tabled(_COLUMNS, [_row(row) for row in rows], left=("model", "abilities")))


def _learned(given: Sequence[str | Candidate], state: Path | None, store: str | None) -> Learned:
    from mixllm_engine.app.learned import from_folder, from_log, of_nobody
    from mixllm_engine.app.ledger import read_ledger

    if store is not None:
        with opened(store) as log:
            return from_log(log, read_ledger(log), given, state)
    return of_nobody(given) if state is None else from_folder(state, None, given)


def _described(candidate: Candidate, learned: Learned) -> dict[str, Any]:
    from mixllm_engine.app.learned import quality
    from mixllm_engine.types import CAPABILITIES

    told = candidate.name not in learned.unpriced
    supports = [ability for ability in CAPABILITIES if candidate.supports(ability)]
    return {
        "name": candidate.name,
        "model": candidate.model if told else None,
        "input_usd_per_mtok": candidate.input_usd_per_mtok if told else None,
        "output_usd_per_mtok": candidate.output_usd_per_mtok if told else None,
        "context_window": candidate.context_window,
        "supports": supports if told else None,
        **quality(learned.of(candidate.name)),
    }


def _row(row: Mapping[str, Any]) -> tuple[str, ...]:
    from mixllm_engine.app.learned import shown

    if row["model"] is None:
        told = (_UNKNOWN,) * 5
    else:
        prices = (f"{row['input_usd_per_mtok']:g}", f"{row['output_usd_per_mtok']:g}")
        window = "unlimited" if row["context_window"] is None else str(row["context_window"])
        told = (row["model"], *prices, window, ", ".join(row["supports"]) or "none")
    labels = _UNKNOWN if row["labels"] is None else f"{row['labels']:g}"
    return (row["name"], *told, labels, shown(row))
