"""What we rely on in uvicorn is listed in one place, and is there in the version we use."""

from __future__ import annotations

import ast
import inspect
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from app.serving import connection, server, streams, wire
from app.serving import uvicorn_internals as internals

CONFIG = uvicorn.Config(lambda scope: None, loop="none")


def protocol() -> internals.HttpToolsProtocol:
    made = internals.HttpToolsProtocol(CONFIG, ServerState(), {}, _loop=object())  # type: ignore[arg-type]
    made.on_message_begin()  # sets the attributes of a request
    return made


def uses(classes: tuple[type, ...], base: object) -> tuple[set[str], set[str]]:
    """The methods of `base` that the classes override or extend, and what else they use."""
    own = {name for cls in classes for name in vars(cls) if not name.startswith("__")}
    overridden = {name for name in own if hasattr(base, name)}
    read: set[str] = set()
    sources = "".join(inspect.getsource(cls) for cls in classes)
    for node in ast.walk(ast.parse(sources)):
        if not isinstance(node, ast.Attribute):
            continue
        match node.value:
            case ast.Call(func=ast.Name("super")):
                overridden |= {node.attr} - {"__init__", *own - overridden}
            case ast.Name("self" | "other") if hasattr(base, node.attr):
                read.add(node.attr)
    return overridden, read - own


@pytest.mark.parametrize(
    ("classes", "base", "methods", "attributes"),
    [
        (
            (wire.Wire, connection.Connection),
            protocol(),
            internals.CONNECTION_METHODS,
            internals.CONNECTION_ATTRIBUTES,
        ),
        (
            (server.Server,),
            internals.UvicornServer(CONFIG),
            internals.SERVER_METHODS,
            internals.SERVER_ATTRIBUTES,
        ),
        (
            (streams.StreamConnection,),
            internals.WebSocketsSansIOProtocol(CONFIG, ServerState(), {}, _loop=object()),  # type: ignore[arg-type]
            internals.STREAM_METHODS,
            internals.STREAM_ATTRIBUTES,
        ),
    ],
    ids=["connection", "server", "stream"],
)
def test_the_lists_are_complete(
    classes: tuple[type, ...], base: Any, methods: set[str], attributes: set[str]
) -> None:
    assert all(hasattr(base, name) for name in (*methods, *attributes))
    assert uses(classes, base) == (methods, attributes)


def test_the_state_of_a_request_is_there() -> None:
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

    source = inspect.getsource(RequestResponseCycle.__init__)
    assert "self.response_started = " in source
    assert "self.response_complete = " in source
    assert "self.disconnected = " in source
    assert "self.message_event = " in source
    assert ServerState().tasks == set()
