"""``python -m bench.peers.drivers MODULE``: one process of a Python peer, on uvloop."""

import sys
from importlib import import_module

import uvloop  # type: ignore[import-not-found]

from bench.peers.drivers.talk import speak

if __name__ == "__main__":
    uvloop.run(speak(import_module(f"bench.peers.drivers.{sys.argv[1]}").open_driver))
