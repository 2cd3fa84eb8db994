"""The demo: real workers match this machine's packages against published advisories.

`run` drives it: it starts the `processes`, shows `progress` and lets `audit` prove that nothing was
lost. `pipeline` holds the job handlers, `worker` binds them to the SDK. `advisories`, `sbom`,
`matching` and `report` are plain functions without a job in sight. `workspace` is the directory
that the jobs share, `stub_upstream` the rate-limited source.

The demo uses the engine only from outside: its command line, REST and the worker SDK.
"""
