"""The studies that show what MixLLM does on recorded outcomes; one file each.

Run them with ``python -m mixllm_engine.evaluation.studies NAME FILE... [--seeds N] [--json OUT]``.
"""

from __future__ import annotations

from mixllm_engine.evaluation.studies.ablation import ablation
from mixllm_engine.evaluation.studies.continual import continual
from mixllm_engine.evaluation.studies.drift import drift
from mixllm_engine.evaluation.studies.figures import Figure
from mixllm_engine.evaluation.studies.newcomer import newcomer
from mixllm_engine.evaluation.studies.offline import offline
from mixllm_engine.evaluation.studies.seeds import Seeds
from mixllm_engine.evaluation.studies.unseen_domains import unseen_domains

__all__ = ["Figure", "Seeds", "ablation", "continual", "drift", "newcomer", "offline", "unseen_domains"]
