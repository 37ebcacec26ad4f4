"""Data sets to evaluate on: the packaged rows, RouterBench's table, one's own table. Nothing is ever downloaded."""

from mixllm_engine.evaluation.datasets.loading import load
from mixllm_engine.evaluation.datasets.packaged import PACKAGED
from mixllm_engine.evaluation.pools import Source

__all__ = ["PACKAGED", "Source", "load"]
