"""Live streams: what is sent to one reader for as long as it stays, over either form.

`plan` says what a stream shows, `life` runs one, `outlet` writes, `besides` reads what is no event,
`sse` and `socket_form` are the two forms, `handshake` and `cursors` read requests.
"""

from typing import Final

__all__ = ["EVENT_STREAM"]

EVENT_STREAM: Final = "text/event-stream"
"""The media type of the rows that are streams."""
