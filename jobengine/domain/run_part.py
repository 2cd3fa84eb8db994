"""What a run was created with, or grew by, as it is stored.

I1  Fields stand in the sorted order of their stored names, so the encoder's output is canonical
    JSON.
I2  A run's parts in their order, one after the other, are its nodes and edges in the order in which
    they came; a graph built from them has the numbers that it had.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from jobengine.domain.graph import Edge
from jobengine.domain.node import Node
from jobengine.domain.records import NewJob

__all__ = ["RunPart", "decode_part", "encode_part", "templates_of"]


class RunPart(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """``kept`` has the jobs, of earlier runs, whose results stand for those of nodes that are not
    run again, by the key of the node. ``templates`` has the templates and specs of nodes, by key,
    as their jobs were created with: a job that is released has its payload in place of it."""

    edges: tuple[Edge, ...] = ()
    kept: Mapping[str, str] = {}
    nodes: tuple[Node, ...] = ()
    templates: Mapping[str, msgspec.Raw] = {}


def templates_of(jobs: Iterable[NewJob]) -> dict[str, msgspec.Raw]:
    """The templates among the payloads of new jobs, by key of the node."""
    return {
        new.definition.node_key: msgspec.Raw(new.payload)
        for new in jobs
        if new.definition.templated and new.definition.node_key is not None
    }


encode_part: Final = msgspec.json.Encoder(order="sorted").encode
decode_part: Final = msgspec.json.Decoder(RunPart).decode
