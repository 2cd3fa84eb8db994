"""Processes that make load. Each kind is a module with ``run(plan, orders, say)``.

``plan`` is what it is told at its start, ``orders`` what it is told later, ``say`` sends one line
to the process that started it (`bench.harness.children.LoadProcess`).
"""
