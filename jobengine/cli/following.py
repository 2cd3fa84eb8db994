"""What commands that follow something share: lines as they come, colour on a terminal only, and an
end by Ctrl-C that is no fault.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from jobengine.cli.output import printable

__all__ = ["print_line", "until_interrupted"]


@contextmanager
def until_interrupted() -> Iterator[None]:
    """Ctrl-C leaves the block, and is how following ends when nothing else ends it."""
    try:
        yield
    except KeyboardInterrupt:
        if sys.stdout.isatty():
            # The terminal has shown ^C on a line of its own.
            print()


def print_line(parts: list[tuple[str, str | None]]) -> None:
    """One line at once, of texts with the colours that they have on a terminal."""
    coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    texts = []
    for text, colour in parts:
        shown = printable(text)
        texts.append(click.style(shown, fg=colour) if coloured and colour else shown)
    sys.stdout.write(" ".join(texts) + "\n")
    sys.stdout.flush()
