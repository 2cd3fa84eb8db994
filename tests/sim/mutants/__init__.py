"""Planted bugs: the simulator is given an engine that is wrong, and has to say so.

`mutation` plants one, `planted` lists them, `hunt` looks for the seed that shows one, and
`python -m tests.sim.mutants` does that for all.
"""
