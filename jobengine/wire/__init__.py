"""Wire types: what crosses the boundary of the process, and nothing about what it means.

`fields` holds the constrained scalars, `jobs` the shapes that REST and the worker protocol share.
`worker_messages`, `engine_messages` and `frames` are the worker protocol, `asyncapi` its published
description, `websocket_frames` the frames that carry it; `controls` and the modules that import it
are admission. The types are used by the engine's doors and by the SDK alike, so a shape has one
definition. Deliberately not here: authorisation, the job state machine, the refusal of NUL
characters (the receiving door does that), and every default a tenant may configure.
"""
