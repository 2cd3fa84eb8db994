"""The command line: one file a command group, `app` puts them together.

`configuration` decides where a setting comes from, `node` runs an engine from start to stop,
`connection` reaches a running one, `failure` says how commands end. Commands are thin: what they do
is done by the engine, the SDK and the demo.
"""

from jobengine.cli.app import main

__all__ = ["main"]
