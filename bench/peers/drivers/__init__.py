"""Peers as processes that make load, one module or script each.

They run in the peers' own environment, which has neither trio nor jobengine, and speak what
`bench.harness.children.LoadProcess` understands. A module offers ``open_driver``; a script for
Node.js imports ``talk.mjs``. The settings of each are those that its own documents, named in its
head, give for the most jobs a second.
"""
