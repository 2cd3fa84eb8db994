"""Benchmarks that anyone can run: ``python -m bench NAME``.

``harness`` starts what is measured and reads its clocks, ``load`` holds the processes that make
load, and each module here is one benchmark: what it measures is in its docstring.
"""
