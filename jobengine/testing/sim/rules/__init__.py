"""The rules that a run is held against, each a sentence in the module that judges it.

Every rule is a function of the evidence, raises `ViolationError` where it is broken, and shares no
code with the engine. R1 to R3 are of a ledger by itself (`audited`).
"""
