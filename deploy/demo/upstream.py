"""What the demo's agent wants to reach: one web server for all names below example.test, in the clear and with TLS."""

import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Answer(BaseHTTPRequestHandler):
    """Says which host was asked for."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = f"this is {self.headers.get('Host')}\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """The proxy's log is the one to read."""


def main():
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain("/demo/upstream.pem", "/demo/upstream.key")
    secure = ThreadingHTTPServer(("0.0.0.0", 443), Answer)
    secure.socket = tls.wrap_socket(secure.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=secure.serve_forever, daemon=True).start()
    ThreadingHTTPServer(("0.0.0.0", 80), Answer).serve_forever()


if __name__ == "__main__":
    main()
