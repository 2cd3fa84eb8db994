"""The REST front: one route table, and what carries it.

`table` holds the rows, `app` makes them answer, `admission` says who may, `rendering` what the
answer looks like, `server` listens. Requests reach the engine through `actors/gateway.py` only;
reads go to its store. Deliberately not here: decisions about jobs.
"""
