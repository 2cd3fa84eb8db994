"""The AsyncAPI 3 document of the worker protocol, generated from its types.

`asyncapi.json` beside this file is `generate()`'s output; a test holds them equal. Run
`python -m jobengine.wire.asyncapi` to print it. The perspective is the engine's: it receives what
workers send.
"""

import json
import sys
from collections.abc import Sequence
from typing import Any

import msgspec

from jobengine.wire.engine_messages import ENGINE_TYPES
from jobengine.wire.frames import FRAME_BYTES_MAX, SUBPROTOCOL, op_of
from jobengine.wire.jobs import JobRequest
from jobengine.wire.worker_messages import WORKER_TYPES


def generate() -> str:
    """The document as JSON text, sorted where order means nothing, with a final newline."""
    return json.dumps(_document(), indent=2, ensure_ascii=False) + "\n"


def _document() -> dict[str, Any]:
    received = _messages(WORKER_TYPES, "worker")
    sent = _messages(ENGINE_TYPES, "engine")
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "jobengine worker protocol",
            "version": SUBPROTOCOL,
            "description": (
                "A text frame is one JSON message or an array of them; `op` names the message, "
                "`ref` is echoed by the answer. Frames over "
                f"{FRAME_BYTES_MAX} bytes are refused."
            ),
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "worker": {
                "host": "127.0.0.1:7071",
                "pathname": "/worker",
                "protocol": "ws",
                "security": [{"$ref": "#/components/securitySchemes/bearer"}],
            }
        },
        "channels": {
            "worker": {
                "address": "/worker",
                "messages": {
                    name: {"$ref": f"#/components/messages/{name}"} for name in [*received, *sent]
                },
                "bindings": {"ws": {"method": "GET", "headers": _HANDSHAKE}},
            }
        },
        "operations": {
            "fromWorker": _operation("receive", received),
            "toWorker": _operation("send", sent),
        },
        "components": {
            "messages": received | sent,
            "schemas": _schemas(),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "scope orch:work"}
            },
        },
    }


_HANDSHAKE = {
    "type": "object",
    "properties": {
        "Sec-WebSocket-Protocol": {"type": "string", "const": SUBPROTOCOL},
        "X-Stella-Tenant": {"type": "string"},
    },
}


def _messages(kinds: Sequence[type[msgspec.Struct]], sender: str) -> dict[str, Any]:
    return {
        f"{sender}.{op_of(kind)}": {
            "name": op_of(kind),
            "title": kind.__name__,
            "summary": " ".join((kind.__doc__ or "").split()),
            "payload": {"$ref": f"#/components/schemas/{kind.__name__}"},
        }
        for kind in kinds
    }


def _operation(action: str, names: dict[str, Any]) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": "#/channels/worker"},
        "messages": [{"$ref": f"#/channels/worker/messages/{name}"} for name in names],
    }


def _schemas() -> dict[str, Any]:
    _, components = msgspec.json.schema_components(
        [*WORKER_TYPES, *ENGINE_TYPES, JobRequest],
        ref_template="#/components/schemas/{name}",
    )
    return dict(sorted(components.items()))


if __name__ == "__main__":
    sys.stdout.write(generate())
