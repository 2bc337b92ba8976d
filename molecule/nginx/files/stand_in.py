"""Stands in for the service: answers with the request as it arrived; `slow` in the path takes 3 s."""

import json
import os
import shutil
import socketserver
import time

SOCKET = "/run/horizonai-bots.sock"
LOG = "/run/stand-in.log"


class Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        line = self.rfile.readline().decode().strip()
        with open(LOG, "a") as log:
            log.write(line + "\n")
        headers = {}
        while text := self.rfile.readline().decode().strip():
            name, _, value = text.partition(":")
            headers[name.lower()] = value.strip()
        self.rfile.read(int(headers.get("content-length", "0")))
        if "slow" in line:
            time.sleep(3)
        body = json.dumps({"line": line, "headers": headers}).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        self.wfile.write(
            f"{head}\r\nX-Request-ID: own\r\nConnection: close\r\n\r\n".encode() + body
        )


class Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 200


if os.path.lexists(SOCKET):
    os.unlink(SOCKET)
with Server(SOCKET, Handler) as server:
    shutil.chown(SOCKET, group="www-data")
    os.chmod(SOCKET, 0o660)
    server.serve_forever()
