"""Real processes and sockets under real faults.

Each test has work done by the engine, workers and PostgreSQL as an operator runs them, does harm to
them on a schedule that follows from a seed, and then reads the ledger from the database and what
the workers witnessed. `JOBENGINE_CHAOS_S` says how long each of these tests lasts; without it they
are short enough for every run of the suite. `make chaos` gives them minutes.

| module | what |
|---|---|
| `schedule` | how long, from which seed, and which fault comes when |
| `database` | a PostgreSQL server that can be killed, frozen, stopped and started again |
| `cutting_proxy` | a network that is slow, hangs, cuts, and leaves connections half open |
| `crowd` | producers and workers: what was accepted, and by whom it was run |
| `tasks` | what runs in the workers |
| `verdict` | the ledger and the witnesses, held against what was accepted |
"""
