"""A report -> a folder: the page, its drawings as PNG, its tables as Markdown, and all numbers as JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from mixllm_engine.evaluation.report import cost_plots, log_plots, time_plots
from mixllm_engine.evaluation.report.contest_page import contest_page
from mixllm_engine.evaluation.report.drawing import Plot, need_matplotlib
from mixllm_engine.evaluation.report.log_page import log_page
from mixllm_engine.evaluation.report.markdown import markdown
from mixllm_engine.evaluation.report.model import LogReport, Report
from mixllm_engine.evaluation.report.palette import OTHERS, inks
from mixllm_engine.evaluation.report.verdict import emphasised


def write_report(report: Report | LogReport, folder: str | PathLike[str]) -> Path:
    """Write ``report.html``, ``report.json``, a PNG for every drawing, and of a replay ``report.md``.

    Parameters
    ----------
    report : Report or LogReport
        What was measured.
    folder : path
        Is made if it isn't there; files of these names in it are replaced.

    Returns
    -------
    Path
        The page. It needs none of the other files, and no network.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    """
    need_matplotlib()
    drawings = plots(report)
    made = contest_page(report, drawings) if isinstance(report, Report) else log_page(report, drawings)
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    for name, plot in drawings.items():
        (place / f"{name}.png").write_bytes(plot.png())
    numbers = json.dumps(plain(report), indent=1, ensure_ascii=False, allow_nan=False)
    (place / "report.json").write_text(numbers + "\n", encoding="utf-8")
    if isinstance(report, Report):
        (place / "report.md").write_text(markdown(report), encoding="utf-8")
    html = place / "report.html"
    html.write_text(made, encoding="utf-8")
    return html


def plots(report: Report | LogReport) -> dict[str, Plot]:
    """Return all drawings by name, in the order of the page."""
    found = _contest_plots(report) if isinstance(report, Report) else _log_plots(report)
    return {plot.name: plot for plot in found if plot is not None}


def _contest_plots(report: Report) -> list[Plot | None]:
    roles = {one.name: one.role for contest in report.contests for one in contest.contestants}
    # a system has the same ink wherever it is named
    important = inks((one.name, one.role) for contest in report.contests for one in emphasised(report, contest))
    found: list[Plot | None] = []
    for place, contest in enumerate(report.contests, start=1):
        named = {one.name for one in emphasised(report, contest)}
        own = {one.name: important[one.name] if one.name in named else OTHERS for one in contest.contestants}
        found.append(cost_plots.hull(f"{place}-hull", contest))
        found.append(cost_plots.curves(f"{place}-curves", contest, report.measures, own))
    if report.shares is not None:
        found.append(time_plots.shares("shares", report.shares))
    if report.regret is not None:
        systems = [trace.system for trace in report.regret.traces]
        own = inks(((name, roles.get(name, "rival")) for name in systems), important)
        found.append(time_plots.regret("regret", report.regret, own))
    if report.waiting is not None:
        systems = [one.system for one in report.waiting.waits]
        own = inks(((name, roles.get(name, "rival")) for name in systems), important)
        found.append(time_plots.waiting("waiting", report.waiting, own))
        found.append(time_plots.waiting_over_time("waiting-over-time", report.waiting, own))
    return found


def _log_plots(report: LogReport) -> list[Plot | None]:
    return [log_plots.rewards("reward", report), log_plots.costs("cost", report)]


def plain(value: Any) -> Any:
    """Turn dataclasses and arrays into what JSON can hold; what is no finite number becomes ``None``."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(own) for key, own in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(own) for own in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
