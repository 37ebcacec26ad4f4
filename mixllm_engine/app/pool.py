"""``mixllm candidates`` and ``mixllm fit``: who is in a pool and what is known of each, and learning from a table.

A pool is named by LiteLLM's model names, or described in a TOML file::

    [[candidate]]
    name = "local"
    model = "openai/smollm2"
    api_base = "http://127.0.0.1:8101/v1"
    input_usd_per_mtok = 0.02
    output_usd_per_mtok = 0.04
"""

from __future__ import annotations

import dataclasses
import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from mixllm_engine.errors import CandidateError, ConfigError
from mixllm_engine.loading import read_file
from mixllm_engine.types import CAPABILITIES, Candidate

_FIELDS: Final = tuple(field.name for field in dataclasses.fields(Candidate) if field.name != "api_key")
_MOST_BYTES: Final = 2**20  # of a file that a person writes
_Z: Final = 1.96  # of a normal 95 % interval

PoolOption = Annotated[Path | None, typer.Option("--pool", help="TOML file with [[candidate]] tables.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def candidates(
    models: Annotated[list[str] | None, typer.Argument(help="LiteLLM's names, such as openai/gpt-4o-mini.")] = None,
    pool: PoolOption = None,
    state: Annotated[Path | None, typer.Option("--state", help="Folder of a router that was saved or fitted.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List candidates: prices, limits, abilities, and what a saved router learned of their quality."""
    from mixllm_engine.router import Router

    given = read_candidates(models or (), pool)
    if not given and state is None:
        raise ConfigError("name some models, give --pool FILE, or --state FOLDER of a saved router")
    learned: Mapping[str, Any] = {}
    if state is None:
        with Router(given) as router:
            resolved = router.candidates
    else:
        with Router.load(state, candidates=given or None) as router:
            resolved, learned = router.candidates, router.stats()["candidates"]
    rows = [_described(candidate, learned.get(candidate.name, {})) for candidate in resolved]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    else:
        _show(rows)


def fit(
    table: Annotated[Path, typer.Argument(help="Parquet or CSV file of graded outcomes, wide or long.")],
    output: Annotated[Path, typer.Option("--output", help="Folder for what was learned; Router.load reads it.")],
    candidate: Annotated[
        list[str] | None, typer.Option("--candidate", help="LiteLLM's name of a model; may be given several times.")
    ] = None,
    pool: PoolOption = None,
    text: Annotated[str, typer.Option(help="Column with the queries.")] = "prompt",
    as_json: JsonOption = False,
) -> None:
    """Learn offline from a table, and save the router in a folder."""
    from mixllm_engine.router import Router

    given = read_candidates(candidate or (), pool)
    if not given:
        raise ConfigError("name the candidates: --candidate MODEL, several times, or --pool FILE")
    with Router(given) as router:
        report = router.fit(table, text=text)
        router.save(output)
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(report), indent=2))
        return
    typer.echo(f"learned from {report.rows} queries; saved in {output}")
    for name, labels in report.labels.items():
        quality, cost = report.mean_quality[name], report.mean_cost_usd[name]
        typer.echo(f"{name:<30} {labels:>7} labels  mean quality {quality:.3f}  {cost:.6f} $ a query")
    for word, spend in report.budgets_usd.items():
        typer.echo(f"budget {word:<23} {spend:.6f} $ a query")
    for what, names in (("not in the pool, ignored", report.ignored), ("not in the table", report.untaught)):
        if names:
            typer.echo(f"{what}: {', '.join(names)}")


def read_candidates(models: Sequence[str], pool: Path | None) -> list[str | Candidate]:
    """Return models and the candidates of a file.

    Raises
    ------
    CandidateError
        If the file can't be read, or describes something else.
    """
    if pool is None:
        return list(models)
    try:
        tables = tomllib.loads(read_file(pool, most_bytes=_MOST_BYTES).decode()).get("candidate")
    except (OSError, ValueError, RecursionError) as error:  # ValueError: neither UTF-8 nor TOML, or a huge number
        raise CandidateError(f"the pool {str(pool)!r} can't be read: {error}") from error
    if not isinstance(tables, list) or not all(isinstance(one, dict) for one in tables):
        raise CandidateError(f"the pool {str(pool)!r} has no [[candidate]] tables")
    return [*models, *(_candidate(one, pool) for one in tables)]


def _candidate(table: Mapping[str, Any], pool: Path) -> Candidate:
    if unknown := table.keys() - set(_FIELDS):
        hint = "; keys belong into the environment" if "api_key" in unknown else ""
        raise CandidateError(
            f"{str(pool)!r} says {', '.join(sorted(unknown))} of a candidate; allowed: {', '.join(_FIELDS)}{hint}"
        )
    if missing := {"name", "model"} - table.keys():
        raise CandidateError(f"a candidate in {str(pool)!r} has no {' and no '.join(sorted(missing))}")
    return Candidate(**table)


def interval(mean: float, labels: float) -> tuple[float, float]:
    """Return a 95 % interval for a mean reward in [0, 1] (Wilson 1927): exact for thumbs, wide enough for grades.

    Examples
    --------
    >>> [round(bound, 3) for bound in interval(0.8, 100)]
    [0.711, 0.867]
    """
    share = _Z * _Z / labels
    middle, reach = mean + share / 2.0, _Z * math.sqrt(mean * (1.0 - mean) / labels + share / labels / 4.0)
    return (middle - reach) / (1.0 + share), (middle + reach) / (1.0 + share)


def _described(candidate: Candidate, learned: Mapping[str, Any]) -> dict[str, Any]:
    row = {name: getattr(candidate, name) for name in ("name", "model", "input_usd_per_mtok", "output_usd_per_mtok")}
    row["context_window"] = candidate.context_window
    row["supports"] = [ability for ability in CAPABILITIES if candidate.supports(ability)]
    labels, mean = learned.get("labels", 0), learned.get("mean_reward")
    row["labels"] = labels
    if mean is not None:
        row["mean_quality"], row["interval_95"] = mean, list(interval(min(max(mean, 0.0), 1.0), labels))
    return row


def _show(rows: Sequence[Mapping[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("candidate", "model", "$/Mtok in", "$/Mtok out", "window", "abilities", "labels", "quality (95 %)")
    for row in rows:
        quality = "unknown"
        if "mean_quality" in row:
            low, high = row["interval_95"]
            quality = f"{row['mean_quality']:.3f} ({low:.3f} to {high:.3f})"
        prices = (f"{row['input_usd_per_mtok']:g}", f"{row['output_usd_per_mtok']:g}")
        window = "unlimited" if row["context_window"] is None else str(row["context_window"])
        abilities = ", ".join(row["supports"]) or "none"
        table.add_row(row["name"], row["model"], *prices, window, abilities, f"{row['labels']:g}", quality)
    Console().print(table)
