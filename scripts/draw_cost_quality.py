"""Draw docs/pictures/cost-quality.svg: what routing systems reach on recorded outcomes, by a contest that is held now.

    .venv/bin/python -m scripts.draw_cost_quality [TABLE] [--text COLUMN] [--splits N] [--output FILE]

TABLE is what ``mixllm evaluate`` reads; without one, the rows of the package ``paretobandit`` are taken. The picture of
the docs was drawn from the 2,205 rows of RouterBench that docs/results.md is about, with ``--text question``: five
minutes of one core. The best three rivals and the query-blind mix are named, the others are grey. The picture has a
ground of its own, and follows the reader's light or dark setting.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from xml.etree import ElementTree

from mixllm_engine.app.evaluate import _about
from mixllm_engine.encoding.encoder import OnnxEncoder
from mixllm_engine.evaluation.contest.overall import Rules, hold
from mixllm_engine.evaluation.contest.reporting import contest_report
from mixllm_engine.evaluation.datasets import load
from mixllm_engine.evaluation.remembered import RememberedEncoder
from mixllm_engine.evaluation.report.cost_plots import curves
from mixllm_engine.evaluation.report.drawing import WIDE, need_matplotlib
from mixllm_engine.evaluation.report.model import Report
from mixllm_engine.evaluation.report.palette import OTHERS, css_variables, inks
from mixllm_engine.evaluation.report.verdict import emphasised
from mixllm_engine.evaluation.workbench import Workbench

SYSTEMS = (
    "MixLLM",
    "Zero mix",
    "RouterBench kNN",
    "RouterBench MLP",
    "RouterBench SVM",
    "RouteLLM SW",
    "RouteLLM MF",
    "Zooter",
    "CARROT linear",
    "LinUCB",
    "MetaLLM",
    "ParetoBandit",
)
ALWAYS_NAMED = "Zero mix"
OUTPUT = Path(__file__).parents[1] / "docs" / "pictures" / "cost-quality.svg"
MARGIN = 16
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"


def main() -> None:
    """Hold the contest and write the picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("table", nargs="?", default="paretobandit:val")
    parser.add_argument("--text", help="column with the queries")
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    given = parser.parse_args()
    need_matplotlib()
    report = measured(given.table, given.text, given.splits, given.jobs)
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(picture(report), encoding="utf-8")
    print(f"written to {given.output}")


def measured(table: str, text: str | None, splits: int, jobs: int) -> Report:
    """Hold a contest without a time limit."""
    data = load(table, text=text)
    rules = Rules(seeds=tuple(range(100, 100 + splits)), systems=SYSTEMS)
    held = {rules: hold(data, Workbench(RememberedEncoder(OnnxEncoder())), rules, jobs=jobs, progress=True)}
    about = _about(data.name, {}, seeds=rules.seeds, learned_share=rules.share)
    return contest_report(about, held)


def picture(report: Report) -> str:
    """Return the drawing as an SVG document that needs nothing else."""
    contest = report.contests[0]
    named = inks((one.name, one.role) for one in emphasised(report, contest))
    named = inks([*((name, "rival") for name in named), (ALWAYS_NAMED, "rival")], named)
    drawn = {one.name: named.get(one.name, OTHERS) for one in contest.contestants}
    plot = curves("curves", contest, report.measures, drawn)
    if plot is None:
        raise SystemExit("no system has a hull: the table is too small")
    drawing = ElementTree.fromstring(plot.svg(WIDE))
    width, height = WIDE.width + 2 * MARGIN, WIDE.height + 2 * MARGIN
    drawing.attrib |= {"x": str(MARGIN), "y": str(MARGIN), "width": str(WIDE.width), "height": str(WIDE.height)}
    style = (
        f"svg{{{css_variables(dark=False)}font-family:{FONT}}}"
        f"@media(prefers-color-scheme:dark){{svg{{{css_variables(dark=True)}}}}}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="0 0 {width:g} {height:g}">\n<style>{style}</style>\n'
        f'<rect width="100%" height="100%" rx="8" style="fill: var(--page)"/>\n'
        f"{ElementTree.tostring(drawing, encoding='unicode')}\n</svg>\n"
    )


if __name__ == "__main__":
    main()
