"""``mixllm evaluate``: replay recorded outcomes against every rival, or judge a production log, and write a report."""

from __future__ import annotations

import os
import platform
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mixllm_engine.app.ending import hidden
from mixllm_engine.app.options import JsonOption
from mixllm_engine.app.printing import drawn

if TYPE_CHECKING:
    from mixllm_engine.evaluation.pools import FullFeedback
    from mixllm_engine.evaluation.report.model import About, LogReport, Report

_DEFAULT_DATA = "paretobandit:val"
_PACKAGES = ("numpy", "onnxruntime", "scikit-learn", "paretobandit", "mabwiser")
_FIRST_SEED = 100


def evaluate(
    source: Annotated[
        str,
        typer.Argument(
            help="Parquet or CSV file with every candidate's outcome for every query (wide, long, or RouterBench's), "
            "or the name of packaged rows: paretobandit, paretobandit:val, paretobandit:test."
        ),
    ] = _DEFAULT_DATA,
    log: Annotated[
        str | None,
        typer.Option("--log", help="Judge a router's own log instead: SQLite file or SQLAlchemy URL of its store."),
    ] = None,
    output: Annotated[Path, typer.Option("--output", file_okay=False, help="Folder for the report.")] = Path(
        "mixllm-report"
    ),
    splits: Annotated[int, typer.Option(min=1, help="Random splits.")] = 2,
    share: Annotated[float, typer.Option(min=0.01, max=0.99, help="Share of the queries that is learned from.")] = 0.5,
    max_wait_s: Annotated[
        float, typer.Option("--max-wait-s", min=0.0, help="Time limit under simulated load; 0: no load at all.")
    ] = 10.0,
    system: Annotated[
        list[str] | None, typer.Option("--system", help="Compare only this one; may be given several times.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = os.cpu_count() or 1,
    text: Annotated[str | None, typer.Option(help="Column with the queries.")] = None,
    most_candidates: Annotated[
        int, typer.Option(min=2, help="Of a larger pool take so many, spread evenly over the order of mean cost.")
    ] = 11,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Load a pickled table. It may run any code: only one that you trust.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Say what routing saves, and how sure that is.

    The report has plots, and the numbers as JSON.
    """
    from mixllm_engine.evaluation.report import write_report
    from mixllm_engine.evaluation.report.drawing import need_matplotlib

    need_matplotlib()  # at the end it would be too late
    if log is not None:
        report: Report | LogReport = _judged(log)
    else:
        report = _replayed(
            source,
            text=text,
            allow_pickle=allow_pickle,
            most_candidates=most_candidates,
            rules={"seeds": tuple(range(_FIRST_SEED, _FIRST_SEED + splits)), "share": share},
            max_wait_s=max_wait_s or None,
            systems=tuple(system) if system else None,
            jobs=jobs,
        )
    page = write_report(report, output)
    if as_json:
        typer.echo(page.with_name("report.json").read_text(encoding="utf-8"), nl=False)
        return
    from mixllm_engine.evaluation.report import show

    typer.echo(drawn(lambda console: show(report, console)) + f"\nwritten to {page}")


def _replayed(
    source: str,
    *,
    text: str | None,
    allow_pickle: bool,
    most_candidates: int,
    rules: Mapping[str, Any],
    max_wait_s: float | None,
    systems: tuple[str, ...] | None,
    jobs: int,
) -> Report:
    from mixllm_engine.encoding.encoder import OnnxEncoder
    from mixllm_engine.evaluation.contest.overall import Rules, hold
    from mixllm_engine.evaluation.contest.reporting import contest_report
    from mixllm_engine.evaluation.datasets import load
    from mixllm_engine.evaluation.remembered import RememberedEncoder
    from mixllm_engine.evaluation.workbench import Workbench

    data = load(source, text=text, allow_pickle=allow_pickle)
    kept = data.spread(most_candidates)
    bench = Workbench(RememberedEncoder(OnnxEncoder()))
    limits = (None,) if max_wait_s is None else (None, max_wait_s)
    contests = [Rules(**rules, systems=systems, max_wait_s=limit) for limit in limits]
    held = {one: hold(kept, bench, one, jobs=jobs, progress=sys.stderr.isatty()) for one in contests}
    about = _about(f"Routing {data.name}", _told(kept), seeds=rules["seeds"], learned_share=rules["share"])
    notes = []
    if len(kept.names) < len(data.names):
        notes.append(f"{len(data.names)} LLMs were given; {len(kept.names)} of them, evenly spread by cost, took part.")
    return contest_report(about, held, notes)


def _judged(where: str) -> LogReport:
    from mixllm_engine.app.opened import opened
    from mixllm_engine.evaluation.judged import read_judged
    from mixllm_engine.evaluation.log_study import log_report

    with opened(where) as store:
        log = read_judged(store)
    data = {"judged decisions": str(len(log)), "LLMs": ", ".join(log.candidates)}
    return log_report(_about("What the log says", data, seeds=(), learned_share=None), log)


def _told(data: FullFeedback) -> dict[str, str]:
    source = data.source
    told = {"name": data.name}
    if source is not None:
        told |= {"about": source.about, "licence": source.licence or "unknown"}
    return told | {
        "queries": str(len(data)),
        "LLMs": ", ".join(data.names),
        "rows left out because something was missing": str(data.dropped),
    }


def _about(title: str, data: Mapping[str, str], *, seeds: Sequence[int], learned_share: float | None) -> About:
    from importlib import metadata

    import mixllm_engine
    from mixllm_engine.config import RouterConfig
    from mixllm_engine.evaluation.report.model import About

    versions = {"mixllm": mixllm_engine.__version__, "Python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return About(
        title=title,
        date=time.strftime("%Y-%m-%d"),
        data=data,
        seeds=tuple(seeds),
        learned_share=learned_share,
        versions=versions,
        configuration=RouterConfig.default().model_dump(mode="json"),
        command=hidden(shlex.join(["mixllm", *sys.argv[1:]]), sys.argv[1:]),
    )
