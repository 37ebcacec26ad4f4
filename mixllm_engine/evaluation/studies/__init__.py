"""The studies that show what MixLLM does on recorded outcomes; one file each.

Run them with ``python -m mixllm_engine.evaluation.studies NAME FILE... [--seeds N] [--json OUT]``.
"""

from __future__ import annotations

from mixllm_engine.evaluation.studies.ablation import ablation
from mixllm_engine.evaluation.studies.adaptive import adaptive
from mixllm_engine.evaluation.studies.continual import continual
from mixllm_engine.evaluation.studies.drift import drift
from mixllm_engine.evaluation.studies.figures import Figure
from mixllm_engine.evaluation.studies.offline import offline
from mixllm_engine.evaluation.studies.ood import ood
from mixllm_engine.evaluation.studies.overall import latency, overall
from mixllm_engine.evaluation.studies.seeds import Seeds

__all__ = [
    "Figure",
    "Seeds",
    "ablation",
    "adaptive",
    "continual",
    "drift",
    "latency",
    "offline",
    "ood",
    "overall",
]
