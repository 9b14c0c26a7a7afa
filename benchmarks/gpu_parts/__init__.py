"""The parts of ``benchmarks/gpu.py``: each measures one thing on one device and fills a dictionary with it."""
