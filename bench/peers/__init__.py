"""Other queues on PostgreSQL, measured beside jobengine: ``python -m bench peers``.

``catalog`` names the peers, ``installation`` brings them into a directory of their own, ``drivers``
holds the processes that speak for them, ``systems`` gives peers and jobengine one form, ``cases``
measures, and ``benchmark`` is the run and its report.
"""
