"""import-linter's contracts, for modules that may be absent.

The stock "forbidden" and "protected" contracts refuse to run when a module they name is not in the
graph: a room that is not built, or a driver that nothing imports at the moment. These two leave
such names out and check the rest. A misspelt name would be left out as quietly, so
`tests/tools/test_import_contracts.py` builds every room and shows that each contract fires.
"""

from grimp import ImportGraph
from importlinter import Contract, ContractCheck
from importlinter.contracts.forbidden import ForbiddenContract
from importlinter.contracts.protected import ProtectedContract


def _leave_out_absent(contract: Contract, graph: ImportGraph, *fields: str) -> None:
    for field in fields:
        expressions = getattr(contract, field)
        setattr(contract, field, [e for e in expressions if e.expression in graph.modules])


class ClosedRoom(ForbiddenContract):
    """`source_modules` must not reach `forbidden_modules`, directly or through others."""

    type_name = "closed"

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        _leave_out_absent(self, graph, "source_modules", "forbidden_modules")
        return super().check(graph, verbose)


class ReservedModule(ProtectedContract):
    """`protected_modules` may be imported by `allowed_importers` and by themselves only."""

    type_name = "reserved"

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        _leave_out_absent(self, graph, "protected_modules", "allowed_importers")
        return super().check(graph, verbose)
