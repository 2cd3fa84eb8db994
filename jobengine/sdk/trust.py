"""Which certificate authorities a client believes, from the environment."""

import os
import ssl
from pathlib import Path

__all__ = ["trusted"]


def trusted(ca_file: str | Path | None = None) -> ssl.SSLContext | None:
    """A context that trusts the authorities of this PEM file and no others; by default of the file
    that JOBENGINE_CA_FILE names. None when neither is given. Raises `ValueError` naming the file
    when it cannot be used."""
    path = ca_file or os.environ.get("JOBENGINE_CA_FILE")
    if not path:
        return None
    try:
        return ssl.create_default_context(cafile=path)
    except ssl.SSLError:
        raise ValueError(f"CA file {path}: it holds no certificate in PEM form") from None
    except OSError as error:
        raise ValueError(f"CA file {path}: {error.strerror}") from None
