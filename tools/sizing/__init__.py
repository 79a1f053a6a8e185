"""The parts of `tools/bench_sizing.py`."""
