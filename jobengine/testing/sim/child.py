"""A child process of a batch: reads requests from stdin, makes each run, writes its outcome.

    python -m jobengine.testing.sim.child

I1  Nothing but outcomes is written to stdout; a run that prints something cannot disturb them.
I2  It ends when stdin does. Ctrl-C is its parent's to handle.
I3  A run that takes too long in real time, because virtual time stands still, ends the process with
    the stack on stderr.
"""

import faulthandler
import gc
import os
import signal
import sys
from typing import Final

import msgspec

from jobengine.testing.sim.messages import Hello, Request, outcome_of
from jobengine.testing.sim.run import simulate
from jobengine.testing.sim.sources import code_stamp

__all__ = ["REAL_S_MAX", "main"]

REAL_S_MAX: Final = 120.0
"""Of one run, in real time."""
_GC_THRESHOLD: Final = 100_000
"""Objects made before the collector looks at the young: a run makes few cycles, and ends soon."""


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    outcomes = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    decoder = msgspec.json.Decoder(Request)
    # What was imported stays; the collector need not look at it again in every run.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD)

    def say(line: bytes) -> None:
        outcomes.write(line + b"\n")
        outcomes.flush()

    say(msgspec.json.encode(Hello(code=code_stamp())))
    for line in sys.stdin.buffer:
        request = decoder.decode(line)
        faulthandler.dump_traceback_later(REAL_S_MAX, exit=True)
        nth = None if request.nth is None else request.nth.call()
        verdict = simulate(
            request.seed,
            request.scenario,
            nth=nth,
            keep_trace=request.trace,
            judged=request.judged,
        )
        faulthandler.cancel_dump_traceback_later()
        say(msgspec.json.encode(outcome_of(verdict, trace=request.trace)))


if __name__ == "__main__":
    main()
