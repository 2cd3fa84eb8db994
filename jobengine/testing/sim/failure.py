"""What an exception that ended a run says: a broken rule, or a failure of engine or harness.

I1  No exception is passed over. One that nobody foresaw is told with its traceback, and as that of
    the engine or of the harness by the innermost frame that is either's.
"""

import traceback
from pathlib import Path
from typing import Final

import attrs
import trio

from jobengine.testing.sim.audited import ViolationError
from jobengine.testing.sim.determinism import SimulatedTimeOverError
from jobengine.testing.sim.world import EngineFailedError, leaves_of

__all__ = ["Failure", "failure_of"]

_HARNESS: Final = Path(__file__).parent
_PACKAGE: Final = _HARNESS.parents[1]
_FORESEEN: Final = (ViolationError, SimulatedTimeOverError)


@attrs.frozen
class Failure:
    """`violation` is a line. `traceback` is None for what the harness found on purpose."""

    violation: str
    traceback: str | None


def failure_of(error: BaseException) -> Failure:
    """Raises what is no run's affair: Ctrl-C, the end of the process."""
    leaves = leaves_of(error)
    for leaf in leaves:
        if not isinstance(leaf, Exception):
            raise leaf
    if all(isinstance(leaf, _FORESEEN) for leaf in leaves):
        return Failure("; ".join(_told(leaf) for leaf in leaves), None)
    told = [leaf for leaf in leaves if not isinstance(leaf, _FORESEEN)]
    return Failure("; ".join(_blamed(leaf) for leaf in told), _traced(told[0]))


def _blamed(error: BaseException) -> str:
    if isinstance(error, EngineFailedError) or _is_of_engine(error):
        return f"the engine failed: {_told(error)}"
    return f"the harness failed: {_told(error)}"


def _is_of_engine(error: BaseException) -> bool:
    """Trio's own errors come from nobody's frames: what drives it is the harness."""
    if isinstance(error, trio.TrioInternalError):
        return False
    files = [Path(frame.filename) for frame in traceback.extract_tb(error.__traceback__)]
    ours = [file for file in files if file.is_relative_to(_PACKAGE)]
    return bool(ours) and not ours[-1].is_relative_to(_HARNESS)


def _told(error: BaseException) -> str:
    causes = [] if error.__cause__ is None else leaves_of(error.__cause__)
    why = "; ".join(f"{type(cause).__name__}: {cause}" for cause in causes)
    return f"{type(error).__name__}: {error}" + (f" ({why})" if why else "")


def _traced(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))
