"""A server that says what a test tells it to say, over real HTTP."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

KEY = "hopx_live_abcdefghijkl." + "k" * 43


@dataclass
class Seen:
    """A request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    query: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Fake:
    """What to answer, and what was asked."""

    url: str
    build_script: list[tuple[str, str]] = field(default_factory=lambda: [("done\n", "active")])
    """What each poll finds: text that is new in the log, and the status."""
    error_message: str | None = None
    refuse: dict[str, tuple[int, dict[str, Any]]] = field(default_factory=dict)
    """``METHOD path`` -> status and body of an error."""
    templates: list[dict[str, Any]] = field(default_factory=list)
    sandboxes: dict[str, dict[str, Any]] = field(default_factory=dict)
    page_size: int = 1000
    command_result: dict[str, Any] = field(
        default_factory=lambda: {"stdout": "", "stderr": "", "exit_code": 0, "success": True}
    )
    output: list[tuple[str, bytes]] = field(default_factory=list)
    """What the command prints, by ``stdout`` and ``stderr``."""
    stream_error: dict[str, str] | None = None
    """``error`` and ``code`` of what ends a command that is streamed."""
    typed: bytearray = field(default_factory=bytearray)
    """What the command was given as input."""
    left: threading.Event = field(default_factory=threading.Event)
    """Set when a client has gone whose command had not ended."""
    seen: list[Seen] = field(default_factory=list)
    polled: threading.Event = field(default_factory=threading.Event)
    running: threading.Event = field(default_factory=threading.Event)
    """Set while a command that never ends is asked for (see ``hang``)."""
    hang: threading.Event | None = None
    _polls: int = 0
    _log: str = ""

    def requests(self, method: str, path: str) -> list[Seen]:
        return [one for one in self.seen if one.method == method and one.path == path]

    def answer(self, request: Seen) -> Response:
        self.seen.append(request)
        if request.path == "/not-json":
            return PlainTextResponse("hello")
        if refusal := self.refuse.get(f"{request.method} {request.path}"):
            return JSONResponse(refusal[1], status_code=refusal[0])
        if request.path.startswith("/uploads/"):
            return JSONResponse({})
        if request.headers.get("authorization") not in (f"Bearer {KEY}", "Bearer eyJ.token"):
            return JSONResponse(
                {"error": "Unauthorized", "message": "Invalid API key", "code": "INVALID_API_KEY"},
                status_code=401,
            )
        return JSONResponse(*self._route(request))

    def _change(self, number: str, verb: str, request: Seen) -> tuple[Any, int]:
        if number not in self.sandboxes:
            return _missing("Sandbox")
        if verb == "fork":
            return {"data": [{"id": f"copy{n}"} for n in range(request.json["count"])]}, 201
        if verb == "snapshot":
            return {"name": request.json["name"], "status": "active"}, 201
        status = {"pause": "paused", "stop": "stopped"}.get(verb, "running")
        self.sandboxes[number]["status"] = status
        return {"id": number, "status": status}, 200

    def _route(self, request: Seen) -> tuple[Any, int]:
        match request.method, request.path.strip("/").split("/"):
            case "POST", ["v1", "templates", "build"]:
                return {"build_id": "7", "template_id": "7", "status": "building", "logs_url": ""}, 202
            case "GET", ["v1", "templates", "build", "7", "status"]:
                return self._status(), 200
            case "GET", ["v1", "templates", "build", "7", "logs"]:
                offset = int(request.query["offset"])
                return {"logs": self._log[offset:], "offset": len(self._log), "complete": False}, 200
            case "POST", ["v1", "templates", "files", "upload-link"]:
                return {
                    "present": False,
                    "upload_url": f"{self.url}/uploads/{request.json['files_hash']}",
                }, 200
            case "GET", ["v1", "templates"]:
                return {"object": "list", "data": self.templates, "has_more": False}, 200
            case "GET", ["v1", "templates", name]:
                found = [one for one in self.templates if name in (one["id"], one["name"])]
                return (found[0], 200) if found else _missing("Template")
            case "DELETE", ["v1", "templates", number]:
                self.templates = [one for one in self.templates if one["id"] != number]
                return {"status": "deleted", "id": number}, 200
            case "POST", ["v1", "sandboxes"]:
                number = f"sandbox{len(self.sandboxes)}"
                self.sandboxes[number] = {
                    "id": number,
                    "status": "running",
                    "template_name": request.json["template_name"],
                    "public_host": self.url,
                    "auth_token": "eyJ.token",
                    "created_at": "2026-01-01T00:00:00Z",
                    "expires_at": None,
                }
                return self.sandboxes[number], 201
            case "GET", ["v1", "sandboxes"]:
                first = int(request.query.get("cursor", "0"))
                rows = list(self.sandboxes.values())
                last = first + self.page_size
                more = last < len(rows)
                return {
                    "data": rows[first:last],
                    "has_more": more,
                    "next_cursor": str(last) if more else None,
                }, 200
            case "GET", ["v1", "sandboxes", number]:
                return (self.sandboxes[number], 200) if number in self.sandboxes else _missing("Sandbox")
            case "POST", ["v1", "sandboxes", number, "token", "refresh"]:
                return {"id": number, "auth_token": "eyJ.token"}, 200
            case "POST", ["v1", "sandboxes", number, verb]:
                return self._change(number, verb, request)
            case "DELETE", ["v1", "sandboxes", number]:
                if self.sandboxes.pop(number, None) is None:
                    return _missing("Sandbox")
                return {"status": "deleted", "id": number}, 200
            case "POST", ["files", "write"]:
                return {"success": True}, 200
            case "POST", ["commands", "run"]:
                self.running.set()
                if self.hang is not None:
                    self.hang.wait(30)
                return self.command_result, 200
        return _missing("Path")

    async def stream(self, websocket: WebSocket) -> None:
        """``/commands/stream``."""
        if refusal := self.refuse.get(f"WS {websocket.url.path}"):
            await websocket.send_denial_response(JSONResponse(refusal[1], status_code=refusal[0]))
            return
        await websocket.accept()
        first = await websocket.receive_text()
        headers = dict(websocket.headers)
        self.seen.append(Seen("WS", websocket.url.path, headers, first.encode(), {}))
        asked = json.loads(first)
        try:
            while asked["stdin"] and (frame := await websocket.receive_json())["type"] != "stdin_eof":
                self.typed += frame["data"].encode(asked["encoding"])
                await websocket.send_json({"type": "ack"})
            for stream, data in self.output:
                await websocket.send_json({"type": stream, "data": data.decode(asked["encoding"])})
            self.running.set()
            if self.hang is not None:
                await websocket.receive_text()
            if self.stream_error is not None:
                await websocket.send_json({"type": "error", **self.stream_error})
                await websocket.send_json({"type": "complete", "success": False})
            else:
                await websocket.send_json({"type": "result", "exit_code": self.command_result["exit_code"]})
                await websocket.send_json({"type": "complete", "success": True})
            await websocket.close()
        except WebSocketDisconnect:
            self.left.set()

    def _status(self) -> dict[str, Any]:
        text, status = self.build_script[min(self._polls, len(self.build_script) - 1)]
        if self._polls < len(self.build_script):
            self._log += text
        self._polls += 1
        self.polled.set()
        return {
            "build_id": "7",
            "template_id": "7",
            "status": status,
            "progress": 40,
            "current_step": "RUN 2/5",
            "started_at": "2026-01-01T00:00:00Z",
            "error_message": self.error_message,
        }


def _missing(what: str) -> tuple[dict[str, Any], int]:
    return {
        "error": f"{what} not found",
        "message": f"{what} not found",
        "code": "RESOURCE_NOT_FOUND",
        "request_id": "req_1",
    }, 404


@contextmanager
def serve() -> Iterator[Fake]:
    """A fake that listens on a port of its own."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()  # connections wait here until uvicorn takes them
    fake = Fake(f"http://127.0.0.1:{listener.getsockname()[1]}")

    async def handle(request: Request) -> Response:
        from starlette.concurrency import run_in_threadpool

        seen = Seen(
            request.method,
            request.url.path,
            dict(request.headers),
            await request.body(),
            dict(request.query_params),
        )
        return await run_in_threadpool(fake.answer, seen)

    methods = ["GET", "POST", "PUT", "DELETE"]
    routes = [
        WebSocketRoute("/commands/stream", fake.stream),
        Route("/{path:path}", handle, methods=methods),
    ]
    app = Starlette(routes=routes)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield fake
    finally:
        if fake.hang is not None:
            fake.hang.set()
        server.should_exit = True
        thread.join()
        listener.close()


TEMPLATE: dict[str, Any] = {
    "id": "7",
    "name": "demo",
    "display_name": "demo",
    "status": "active",
    "category": "custom",
    "default_resources": {"vcpu": 2, "memory_mb": 2048, "disk_gb": 10},
    "updated_at": "2026-01-01T00:00:00Z",
}


def add(server: Fake, count: int) -> list[str]:
    for number in range(count):
        server.sandboxes[f"id{number}"] = {
            "id": f"id{number}",
            "status": "running",
            "template_name": "demo",
            "public_host": "http://127.0.0.1:1",
            "created_at": "2026-01-01T00:00:00Z",
            "expires_at": None,
        }
    return list(server.sandboxes)
