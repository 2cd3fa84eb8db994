"""Which code a run belongs to: a seed means something only together with it.

I1  The stamp follows from the version and every file of the package that has a say in a run.
"""

import hashlib
from pathlib import Path
from typing import Final

from jobengine import __version__

__all__ = ["code_stamp"]

_PACKAGE: Final = Path(__file__).parents[2]
_DIGITS: Final = 12


def code_stamp() -> str:
    """The version, and a digest of the package's Python sources as they are on disk now."""
    sha = hashlib.sha256()
    for path in sorted(_PACKAGE.rglob("*.py")):
        sha.update(f"{path.relative_to(_PACKAGE).as_posix()}\n".encode())
        sha.update(hashlib.sha256(path.read_bytes()).digest())
    return f"{__version__}+{sha.hexdigest()[:_DIGITS]}"
