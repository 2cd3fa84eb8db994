"""The AsyncAPI 3 document of the worker protocol and of live streams, generated from their types.

`asyncapi.json` beside this file is `generate()`'s output; a test holds them equal. Run
`python -m jobengine.wire.asyncapi` to print it. The perspective is the engine's: it receives what
workers send, and sends what streams show.
"""

import json
import sys
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from jobengine.domain.event_envelope import SCHEMA_VERSION, EventEnvelope
from jobengine.wire import event_schema
from jobengine.wire.engine_messages import ENGINE_TYPES
from jobengine.wire.frames import FRAME_BYTES_MAX, SUBPROTOCOL, op_of
from jobengine.wire.jobs import JobRequest
from jobengine.wire.streams import (
    STREAM_SUBPROTOCOL,
    StreamEnd,
    StreamEvents,
    StreamFirstSignal,
    StreamGap,
    StreamHello,
    StreamLog,
)
from jobengine.wire.worker_messages import WORKER_TYPES

_STREAMED: Final = (
    StreamHello,
    StreamEvents,
    StreamGap,
    StreamFirstSignal,
    StreamLog,
    StreamEnd,
)
_STREAMS: Final = {
    "streamEvents": ("/stream/events", "The tenant's events"),
    "streamJob": ("/stream/jobs/{jobId}", "One job: its events and its log"),
    "streamRun": ("/stream/runs/{runId}", "One run: its events, its log, its first signal"),
    "streamPackRun": ("/stream/pack-runs/{runId}", "One run of a pack, as a run"),
    "streamLogs": ("/stream/logs/{jobId}", "The log of one job"),
}
_PARAMETERS: Final = {"jobId": "The job that is followed.", "runId": "The run that is followed."}


def generate() -> str:
    """The document as JSON text, sorted where order means nothing, with a final newline."""
    return json.dumps(_document(), indent=2, ensure_ascii=False) + "\n"


def _document() -> dict[str, Any]:
    received = _messages(WORKER_TYPES, "worker")
    sent = _messages(ENGINE_TYPES, "engine")
    streamed = _messages(_STREAMED, "stream")
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "jobengine worker protocol and live streams",
            "version": SUBPROTOCOL,
            "description": (
                "Workers: a text frame is one JSON message or an array of them; `op` names the "
                "message, `ref` is echoed by the answer. Frames over "
                f"{FRAME_BYTES_MAX} bytes are refused. Streams: a text frame is one message, "
                "named by `type`; a client says nothing. Without an upgrade the same paths answer "
                "with server-sent events, one for each message, an event under its type with its "
                f"seq as id. Events are enveloped as {SCHEMA_VERSION}, whose schema an engine "
                f"serves at /schemas/{event_schema.SCHEMA_NAME}."
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
            },
            "streams": {
                "host": "127.0.0.1:7070",
                "pathname": "/api/v1/jobengine",
                "protocol": "ws",
                "security": [{"$ref": "#/components/securitySchemes/reader"}],
            },
        },
        "channels": {
            "worker": {
                "servers": [{"$ref": "#/servers/worker"}],
                "messages": {
                    name: {"$ref": f"#/components/messages/{name}"} for name in [*received, *sent]
                },
                "bindings": _binding(SUBPROTOCOL),
            },
            **{name: _stream(name, streamed) for name in _STREAMS},
        },
        "operations": {
            "fromWorker": _operation("receive", received, "worker"),
            "toWorker": _operation("send", sent, "worker"),
            **{f"{name}Sends": _operation("send", streamed, name) for name in _STREAMS},
        },
        "components": {
            "messages": received | sent | streamed,
            "schemas": _schemas(),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "scope orch:work"},
                "reader": {"type": "http", "scheme": "bearer", "description": "scope orch:read"},
            },
        },
    }


def _stream(name: str, streamed: dict[str, Any]) -> dict[str, Any]:
    path, summary = _STREAMS[name]
    return {
        "address": path,
        "summary": summary,
        "servers": [{"$ref": "#/servers/streams"}],
        "parameters": {
            parameter: {"description": text}
            for parameter, text in _PARAMETERS.items()
            if f"{{{parameter}}}" in path
        },
        "messages": {each: {"$ref": f"#/components/messages/{each}"} for each in streamed},
        "bindings": _binding(STREAM_SUBPROTOCOL),
    }


def _binding(subprotocol: str) -> dict[str, Any]:
    headers = {
        "type": "object",
        "properties": {
            "Sec-WebSocket-Protocol": {"type": "string", "const": subprotocol},
            "X-Stella-Tenant": {"type": "string"},
        },
    }
    return {"ws": {"method": "GET", "headers": headers}}


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


def _operation(action: str, names: dict[str, Any], channel: str) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in names],
    }


def _schemas() -> dict[str, Any]:
    _, components = msgspec.json.schema_components(
        [*WORKER_TYPES, *ENGINE_TYPES, *_STREAMED, JobRequest],
        ref_template="#/components/schemas/{name}",
    )
    components |= event_schema.components("#/components/schemas/")
    events = components[StreamEvents.__name__]["properties"]["events"]
    events["items"] = {"$ref": f"#/components/schemas/{EventEnvelope.__name__}"}
    return dict(sorted(components.items()))


if __name__ == "__main__":
    sys.stdout.write(generate())
