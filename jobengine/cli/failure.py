"""How a command ends when it cannot do what was asked: one line for a person, a code for a program.

Deliberately not here: which faults there are. The commands know what they call, and turn its faults
into `CommandFailedError`; what they do not know is a fault of jobengine and keeps its traceback.
"""

from collections.abc import Iterator
from enum import IntEnum

__all__ = ["CommandFailedError", "ExitCode", "leaves"]


class ExitCode(IntEnum):
    """`DENIED`: token or tenant. `REFUSED`: the state of what was asked for does not allow it."""

    OK = 0
    ERROR = 1
    DENIED = 2
    REFUSED = 3
    USAGE = 64


class CommandFailedError(Exception):
    """The message is one line that ends in its remedy where there is one."""

    def __init__(self, message: str, exit_code: ExitCode = ExitCode.ERROR) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors that a group (of groups) carries, or the error itself."""
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from leaves(one)
    else:
        yield error
