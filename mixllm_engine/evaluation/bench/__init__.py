"""How fast MixLLM is, beside what it could be replaced by, measured in one run on this machine.

`mixllm_engine.evaluation.bench.suite.run` measures, `mixllm_engine.evaluation.bench.report` prints and writes.
"""
