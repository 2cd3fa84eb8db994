"""The command line's form of the benchmarks: a module a section of ``python -m bench --help``.

``running`` turns the measuring of a benchmark into a command and is all that runs one; ``sections``
lists them. What is measured, and how, is in the benchmarks' own modules.
"""
