"""``mixllm fit``: learn from a table of graded outcomes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mixllm_engine.app.options import JsonOption, PoolOption
from mixllm_engine.app.printing import print_json, tabled
from mixllm_engine.errors import ConfigError

if TYPE_CHECKING:
    from mixllm_engine.learning.offline import FitReport


def fit(
    table: Annotated[Path, typer.Argument(help="Parquet or CSV file of graded outcomes, wide or long.")],
    output: Annotated[
        Path, typer.Option("--output", file_okay=False, help="Folder for what was learned, for Router.load.")
    ],
    candidate: Annotated[
        list[str] | None, typer.Option("--candidate", help="LiteLLM's name of a model; may be given several times.")
    ] = None,
    pool: PoolOption = None,
    text: Annotated[str, typer.Option(help="Column with the queries.")] = "prompt",
    as_json: JsonOption = False,
) -> None:
    """Learn offline from a table, and save the router in a folder."""
    import dataclasses

    from mixllm_engine.app.pool import read_candidates
    from mixllm_engine.router import Router

    given = read_candidates(candidate or (), pool)
    if not given:
        raise ConfigError("name the candidates: --candidate MODEL, several times, or --pool FILE")
    with Router(given) as router:
        report = router.fit(table, text=text, progress=sys.stderr.isatty())
        router.save(output)
    if as_json:
        print_json(dataclasses.asdict(report))
    else:
        typer.echo("\n".join([f"learned from {report.rows} queries; saved in {output}", *_told(report)]))


def _told(report: FitReport) -> list[str]:
    means = [
        (name, str(labels), f"{report.mean_quality[name]:.3f}", f"{report.mean_cost_usd[name]:.6f}")
        for name, labels in report.labels.items()
    ]
    budgets = [(word, f"{spend:.6f}") for word, spend in report.budgets_usd.items()]
    told = [tabled(("candidate", "labels", "mean quality", "$ a query"), means)]
    told.append(tabled(("budget", "$ a query"), budgets))
    for what, names in (("not in the pool, ignored", report.ignored), ("not in the table", report.untaught)):
        if names:
            told.append(f"{what}: {', '.join(names)}")
    if report.repeated:
        told.append(f"rows averaged with an earlier one of the same query and candidate: {report.repeated}")
    return told
