"""The command line ``mixllm``: measure, look into a store, and give feedback from any process.

Exit codes: 0 done; 1 an error of MixLLM, said in one line on standard error; 2 wrong usage.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from mixllm_engine.app.bench import bench
from mixllm_engine.app.evaluate import evaluate
from mixllm_engine.app.opened import opened
from mixllm_engine.app.pool import candidates, fit
from mixllm_engine.app.shadow import shadow
from mixllm_engine.crediting import Credit, give
from mixllm_engine.errors import MixLLMError
from mixllm_engine.explanation import Explanation
from mixllm_engine.learning.rewards import check_label
from mixllm_engine.store import open_store

app = typer.Typer(
    help="MixLLM: route every query to the LLM that suits it best, and learn from what comes back.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

StoreOption = Annotated[
    str, typer.Option("--store", help="SQLite file or SQLAlchemy URL of the store.", envvar="MIXLLM_STORE")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def feedback(
    ref: Annotated[str, typer.Argument(help="The decision's id, from the answer's metadata, or a message's or run's.")],
    reward: Annotated[float, typer.Argument(help="How good the answer was, from 0 to 1.")],
    store: StoreOption,
    key: Annotated[str, typer.Option(help="Who judges; the same key again replaces its value.")] = "user",
    weight: Annotated[float, typer.Option(help="What the judgement weighs, from 0 to 1.")] = 1.0,
    credit: Annotated[
        str, typer.Option(help="Of a run's decisions: 'last', 'all', or 'discounted', with less weight step by step.")
    ] = "last",
    as_json: JsonOption = False,
) -> None:
    """Give feedback on a decision, at any time and from any process."""
    with opened(store) as log:
        receipt = give(log, ref, key, check_label(reward, weight), cast(Credit, credit), time.time())
    line = f"{receipt.status}: {receipt.candidate} got {receipt.reward:g} from {receipt.key!r}"
    _print(dataclasses.asdict(receipt), line, as_json)


@app.command()
def explain(
    decision_id: Annotated[str, typer.Argument(help="The decision's id.")],
    store: StoreOption,
    as_json: JsonOption = False,
) -> None:
    """Say why a candidate was chosen, in numbers that add up."""
    with opened(store) as log:
        explanation = Explanation(record=log.decision(decision_id), outcomes=tuple(log.outcomes(decision_id)))
    _print(explanation.as_dict(), str(explanation), as_json)


@app.command()
def stats(store: StoreOption, as_json: JsonOption = False) -> None:
    """Count decisions, outcomes and feedback of a store."""
    with opened(store) as log:
        counts = dataclasses.asdict(log.counts())
        shares = dict(sorted(log.choices().items()))
    lines = [f"{name.replace('_', ' '):<20} {value}" for name, value in counts.items()]
    lines += [f"{'decided for ' + name:<20} {count}" for name, count in shares.items()]
    _print({**counts, "choices": shares}, "\n".join(lines), as_json)


@app.command("export")
def export_(
    path: Annotated[Path, typer.Argument(help="The file to write.")],
    store: StoreOption,
    as_json: JsonOption = False,
) -> None:
    """Write all that a store holds to one file of JSON lines; it has no prompts."""
    from mixllm_engine.store.transfer import export_log

    with opened(store) as log:
        rows = export_log(log, path)
    _print(rows, f"{sum(rows.values())} rows written to {path}", as_json)


@app.command("import")
def import_(
    path: Annotated[Path, typer.Argument(help="A file that `mixllm export` wrote.")],
    store: StoreOption,
    as_json: JsonOption = False,
) -> None:
    """Fill an empty store from an exported file."""
    from mixllm_engine.store.transfer import import_log

    with closing(open_store(store)) as log:
        rows = import_log(path, log)
    _print(rows, f"{sum(rows.values())} rows read from {path}", as_json)


app.command()(fit)
app.command()(candidates)
app.command()(evaluate)
app.command()(shadow)
app.command()(bench)


def _print(data: Any, text: str, as_json: bool) -> None:
    typer.echo(json.dumps(data, indent=2, default=str) if as_json else text)


def main() -> None:
    """Run the command line."""
    try:
        app()
    except MixLLMError as error:
        typer.echo(f"mixllm: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
