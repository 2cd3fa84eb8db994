"""A mutation: one function of the engine, with a text of its source replaced, for a while.

The code of the function is exchanged and not its name, so whoever has a reference to it, bound or
imported, runs the mutated one.

I1  The text that is replaced occurs once in the function, or the mutation is *stale* and says so.
I2  Whatever happens within, the function is whole again afterwards.

Not here: which bugs are planted (`planted`).
"""

import inspect
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import CodeType, FunctionType

import attrs

__all__ = ["Mutation", "StaleMutationError"]


class StaleMutationError(Exception):
    """The engine no longer has the text that a mutation replaces; the message says where."""


@attrs.frozen(kw_only=True)
class Mutation:
    """`function` is qualified within `module`: `LeaseTable.find`; of a property it is the getter.
    `old` and `new` are parts of its source, without the indentation of the class it is in."""

    module: str
    function: str
    old: str
    new: str

    @contextmanager
    def planted(self) -> Iterator[None]:
        """The engine with this mutation. Raises `StaleMutationError`."""
        function = self._find()
        whole, mutated = function.__code__, self._compile(function)
        function.__code__ = mutated
        try:
            yield
        finally:
            function.__code__ = whole

    def check(self) -> None:
        """Raises `StaleMutationError` where it could not be planted."""
        self._compile(self._find())

    def _find(self) -> FunctionType:
        found: object = import_module(self.module)
        for name in self.function.split("."):
            found = getattr(found, name, None)
        if isinstance(found, property):
            found = found.fget
        if not isinstance(found, FunctionType):
            raise StaleMutationError(f"{self.module} has no function {self.function}")
        return found

    def _compile(self, function: FunctionType) -> CodeType:
        source = textwrap.dedent(inspect.getsource(function))
        where, whole = f"{self.module}:{self.function}", function.__code__
        if source.count(self.old) != 1:
            raise StaleMutationError(f"{where} has {source.count(self.old)} times: {self.old!r}")
        module = compile(source.replace(self.old, self.new), whole.co_filename, "exec")
        code = next(
            each
            for each in module.co_consts
            if isinstance(each, CodeType) and each.co_name == whole.co_name
        )
        if code.co_freevars != whole.co_freevars:
            raise StaleMutationError(f"{where} closes over names of its surroundings")
        # Lines of a traceback are those of the file.
        first = code.co_firstlineno + whole.co_firstlineno - 1
        return code.replace(co_qualname=whole.co_qualname, co_firstlineno=first)
