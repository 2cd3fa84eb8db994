"""Wire types: what crosses the boundary of the process, and nothing about what it means.

`fields` holds the constrained scalars, `jobs` the shapes that REST and the worker protocol share,
`worker` the frames of the worker protocol, `asyncapi` its published description. The types are
used by the engine's doors and by the SDK alike, so a shape has one definition. Deliberately not
here: authorisation, the job state machine, the refusal of NUL characters (the receiving door
does that), and every default a tenant may configure.
"""
