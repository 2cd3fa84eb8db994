"""The simulator: the whole engine, its workers and its users under one seed, in virtual time.

See `docs/decisions/0028-simulator.md`.
"""
