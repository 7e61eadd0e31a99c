"""What the server relies on in uvicorn beyond its documented interface, all in one place.

uvicorn has no public way to limit a connection before there is a request, to keep answering after
SIGTERM, or to watch the service while it runs. So `Connection` and `Server` override the methods
below and read the attributes below. Any of them may change with a minor version: pyproject.toml
pins it. To upgrade, compare these with uvicorn's source, then run tests/service/test_attacks.py and
tests/service/test_lifecycle.py. A test checks that these lists are complete.
"""

from __future__ import annotations

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn import Server as UvicornServer
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

__all__ = [
    "FlowControl",
    "HttpParserError",
    "HttpParserUpgrade",
    "HttpRequestParser",
    "HttpToolsProtocol",
    "UvicornServer",
    "WebSocketsSansIOProtocol",
]

# The constructor of the protocol is called by `Config.http_protocol_class(config=..., ...)`, which
# may be any callable: `Config(http=...)` gets a partial of our class. Its parser is ours, made with
# callbacks of ours. Its `flow` is ours as well: it has the methods of `FlowControl`.

CONNECTION_METHODS = frozenset({
    # asyncio's protocol
    "connection_made",
    "connection_lost",
    "data_received",
    # httptools' callbacks
    "on_message_begin",
    "on_header",
    "on_headers_complete",
    "on_body",
    # uvicorn's own
    "_start_asgi_task",  # a request begins, at once or when the pipelined ones before it are done
    "handle_websocket_upgrade",  # hands over to its protocol for WebSockets
    "on_response_complete",  # an answer has been sent
    "send_400_response",  # the request is not valid HTTP
})  # fmt: skip
CONNECTION_ATTRIBUTES = frozenset({
    # called
    "_unset_keepalive_if_required",  # stops its timer of an idle connection
    "on_message_complete",
    "on_url",
    # read or set
    "app",  # what answers the request; read by on_headers_complete
    "client",  # address and port
    "connections",  # all open connections of the server
    "cycle",  # the latest request: keep_alive
    "flow",
    "headers",  # of the request, as far as they have arrived
    "logger",
    "loop",
    "parser",  # None once the connection is lost
    "pipeline",  # requests that wait for the answer of an earlier one
    "root_path",
    "scope",  # of the latest request
    "timeout_keep_alive",  # seconds between two requests
    "transport",
    "url",  # of the request, as bytes
})  # fmt: skip

STREAM_METHODS = frozenset({
    # asyncio's protocol
    "connection_lost",
    "connection_made",
    "data_received",  # the first bytes are the whole head of the handshake
    "pause_writing",
    "resume_writing",
    # the application's
    "receive",
    "send",
    # uvicorn's own
    "handle_parser_exception",  # the client broke the protocol
    "keepalive_timeout",  # a ping was not answered in time
    "send_receive_event_to_app",  # a message is complete
    "shutdown",  # called for each connection when the server stops
})  # fmt: skip
STREAM_ATTRIBUTES = frozenset({
    # called
    "schedule_ping",
    # read or set
    "close_sent",
    "close_timer",  # the application has closed and waits for the client
    "conn",  # the library's protocol
    "curr_msg_data_type",
    "disconnected",
    "frames",  # of the message that arrives
    "handshake_complete",  # the WebSocket is open
    "handshake_initiated",  # the library knows the request
    "loop",
    "pending_ping_payload",
    "ping_sent_at",
    "pong_timer",
    "queue",  # what the application receives
    "read_paused",
    "transport",
    "writable",  # asyncio.Event
})  # fmt: skip

SERVER_METHODS = frozenset({
    "handle_exit",  # the signal handler of SIGINT and SIGTERM
    "on_tick",  # called every 0.1 s; the server stops when it returns true
    "shutdown",  # closes the sockets, waits for requests, ends the lifespan
})  # fmt: skip
SERVER_ATTRIBUTES = frozenset({
    "server_state",  # tasks: one for each request
})  # fmt: skip
