"""A small MCP server over streamable HTTP (protocol revision 2025-06-18): one tool, answers as server-sent events."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REVISION = "2025-06-18"
TOOL = {
    "name": "add",
    "description": "Adds two numbers.",
    "inputSchema": {
        "type": "object",
        "properties": {"a": {"type": "number"}, "b": {"type": "number"}},
        "required": ["a", "b"],
    },
}
METHOD_NOT_FOUND, INVALID_PARAMS = -32601, -32602


def call(params):
    """The result of `tools/call`."""
    arguments = params.get("arguments", {})
    numbers = [arguments.get(key) for key in ("a", "b")]
    if params.get("name") != "add" or not all(isinstance(number, (int, float)) for number in numbers):
        return {"error": {"code": INVALID_PARAMS, "message": "there is one tool, add, with the numbers a and b"}}
    return {"result": {"content": [{"type": "text", "text": str(sum(numbers))}], "isError": False}}


def respond(method, params):
    """What a request is answered with, without its frame."""
    if method == "initialize":
        server = {"name": "exeat-demo", "version": "0.1.0"}
        return {"result": {"protocolVersion": REVISION, "capabilities": {"tools": {}}, "serverInfo": server}}
    if method == "ping":
        return {"result": {}}
    if method == "tools/list":
        return {"result": {"tools": [TOOL]}}
    if method == "tools/call":
        return call(params)
    return {"error": {"code": METHOD_NOT_FOUND, "message": f"no method {method}"}}


class Mcp(BaseHTTPRequestHandler):
    """The one endpoint, `/mcp`."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        try:
            message = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
            method, params = message.get("method"), message.get("params", {})
        except (ValueError, AttributeError):
            return self.answer(400, "text/plain", b"this is no JSON-RPC message\n")
        if self.path != "/mcp":
            return self.answer(404, "text/plain", b"MCP is at /mcp\n")
        if "id" not in message:
            return self.answer(202, "text/plain", b"")
        reply = {"jsonrpc": "2.0", "id": message["id"], **respond(method, params)}
        self.answer(200, "text/event-stream", f"event: message\ndata: {json.dumps(reply)}\n\n".encode())

    def do_GET(self):
        self.answer(405, "text/plain", b"this server starts no conversations\n")

    def answer(self, status, kind, body):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """The proxy's log is the one to read."""


if __name__ == "__main__":
    ThreadingHTTPServer(("0.0.0.0", 8080), Mcp).serve_forever()
