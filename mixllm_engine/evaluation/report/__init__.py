"""The report of an evaluation: one page for managers and engineers, its drawings, its numbers, and a short form.

Fill in a `Report` (a replay of recorded outcomes) or a `LogReport` (off-policy estimates from a production log), and
give it to `write_report` and `show`.
"""

from __future__ import annotations

from mixllm_engine.evaluation.report.files import write_report
from mixllm_engine.evaluation.report.model import (
    MEASURES,
    About,
    Band,
    Contest,
    Contestant,
    Counterfactual,
    LogReport,
    LogSaving,
    Measure,
    Report,
    Saving,
    Score,
    Single,
)
from mixllm_engine.evaluation.report.over_time import Regret, Shares, Trace, Waiting, Waits
from mixllm_engine.evaluation.report.terminal import show

__all__ = [
    "MEASURES",
    "About",
    "Band",
    "Contest",
    "Contestant",
    "Counterfactual",
    "LogReport",
    "LogSaving",
    "Measure",
    "Regret",
    "Report",
    "Saving",
    "Score",
    "Shares",
    "Single",
    "Trace",
    "Waiting",
    "Waits",
    "show",
    "write_report",
]
