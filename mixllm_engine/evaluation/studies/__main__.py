"""Run a study from the command line, on tables of recorded outcomes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

import mixllm_engine
from mixllm_engine.encoding.encoder import OnnxEncoder
from mixllm_engine.errors import MixLLMError
from mixllm_engine.evaluation import studies
from mixllm_engine.evaluation.datasets import load
from mixllm_engine.evaluation.pools import FullFeedback
from mixllm_engine.evaluation.remembered import RememberedEncoder
from mixllm_engine.evaluation.studies.figures import Figure, show, write
from mixllm_engine.evaluation.studies.seeds import Seeds
from mixllm_engine.evaluation.workbench import Workbench

Study = Callable[[FullFeedback, Workbench, Seeds], list[Figure]]
STUDIES: dict[str, Study] = {
    "offline": studies.offline,
    "continual": studies.continual,
    "drift": studies.drift,
    "adaptive": studies.adaptive,
    "ood": studies.ood,
    "overall": studies.overall,
    "latency": studies.latency,
    "ablation": studies.ablation,
}
# Where the seeds begin: any number will do, but it has to stay the same.
_FIRST_SEED = 100


def main(arguments: Sequence[str] | None = None, console: Console | None = None) -> int:
    """Read tables, run a study on each, print tables of figures; returns the exit code."""
    given = _parser().parse_args(arguments)
    console = console or Console(width=None if sys.stdout.isatty() else 200)
    weights = OnnxEncoder.from_folder(given.encoder) if given.encoder else OnnxEncoder()
    seeds = Seeds(
        values=tuple(range(_FIRST_SEED, _FIRST_SEED + given.seeds)), jobs=given.jobs, progress=not given.quiet
    )
    figures: list[Figure] = []
    try:
        encoder = RememberedEncoder(weights, given.remember)
        for file in given.files:
            data = load(file, text=given.text).spread(given.most_candidates)
            console.print(
                f"{data.name}: {len(data)} queries, {len(data.names)} candidates, {data.dropped} rows dropped"
            )
            encoder.remember(data.texts, progress=not given.quiet)
            made = STUDIES[given.study](data, Workbench(encoder), seeds)
            show(made, console)
            figures += made
    except MixLLMError as error:
        console.print(f"error: {error}", markup=False)
        return 1
    if given.json:
        write(
            figures,
            given.json,
            seeds=list(seeds.values),
            encoder=encoder.fingerprint,
            version=mixllm_engine.__version__,
        )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m mixllm_engine.evaluation.studies", description=__doc__)
    parser.add_argument("study", choices=sorted(STUDIES))
    parser.add_argument("files", nargs="+", metavar="FILE", help="parquet or CSV with full feedback, or packaged rows")
    parser.add_argument("--seeds", type=int, default=5, help="number of random splits (default: 5)")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: 1)")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write all figures to this file")
    parser.add_argument("--text", help="column with the queries (default: question, else prompt)")
    parser.add_argument(
        "--most-candidates",
        type=int,
        default=11,
        metavar="K",
        help="of a larger pool, take so many, spread evenly over the order of mean cost (default: 11)",
    )
    parser.add_argument(
        "--encoder", type=Path, metavar="FOLDER", help="model.onnx and tokenizer.json of another encoder"
    )
    parser.add_argument("--remember", type=Path, metavar="FOLDER", help="keep embeddings here for the next run")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
