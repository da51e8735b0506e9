# SPDX-License-Identifier: Apache-2.0
"""A client of the API that sends and reads raw bytes, so that a test sees what is on the wire."""
import dataclasses
import json
import os
import socket

TIMEOUT = int(os.environ.get("RIFFLE_PATIENCE", "60"))      # seconds, to end what hangs
SERVER = "Server: Firecracker API\r\nConnection: keep-alive\r\n"


@dataclasses.dataclass
class Response:
    status: int
    version: str
    headers: list           # (name, value), in order
    body: bytes
    raw: bytes

    def header(self, name):
        return dict(self.headers).get(name)

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def fault(self):
        """The text of an error of the API."""
        answer = self.json
        assert list(answer) == ["fault_message"], self.raw
        return answer["fault_message"]


class Closed(Exception):
    """The server closed the connection; what it had sent of an answer."""


class Connection:
    def __init__(self, path, timeout=None):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(timeout or TIMEOUT)
        self.socket.connect(str(path))
        self.left = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data if isinstance(data, bytes) else data.encode())

    def more(self):
        block = self.socket.recv(1 << 16)
        if not block:
            raise Closed(self.left)
        self.left += block

    def read(self):
        """The next response."""
        while b"\r\n\r\n" not in self.left:
            self.more()
        head, _, rest = self.left.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = [tuple(line.split(": ", 1)) for line in lines]
        length = int(dict(headers).get("Content-Length", 0))
        while len(self.left) < len(head) + 4 + length:
            self.more()
        raw, self.left = self.left[:len(head) + 4 + length], self.left[len(head) + 4 + length:]
        version, _, status = first.partition(" ")
        return Response(int(status), version, headers, raw[len(head) + 4:], raw)

    def silent(self, seconds=0.05):
        """Whether the server sends nothing for this long, and keeps the connection."""
        if self.left:
            return False
        self.socket.settimeout(seconds)
        try:
            self.socket.recv(1, socket.MSG_PEEK)
            return False
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(TIMEOUT)

    def request(self, method, path, body=None, headers=()):
        self.send(request(method, path, body, headers))
        return self.read()


def request(method, path, body=None, headers=()):
    """The bytes of a request; a body that is no string is turned into JSON."""
    if body is not None and not isinstance(body, (bytes, str)):
        body = json.dumps(body)
    if isinstance(body, str):
        body = body.encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Accept: application/json", *headers]
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + (body or b"")


def no_content(deprecated=False):
    """All bytes of a 204."""
    return f"HTTP/1.1 204 \r\n{SERVER}{'Deprecation: true' + chr(13) + chr(10) if deprecated else ''}\r\n".encode()


def answer(status, body, deprecated=False):
    """All bytes of a response with a body."""
    body = body if isinstance(body, bytes) else body.encode()
    return (f"HTTP/1.1 {status} \r\n{SERVER}{'Deprecation: true' + chr(13) + chr(10) if deprecated else ''}"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n").encode() + body


def fault(text, status=400, deprecated=False):
    """All bytes of an error of the API: compact JSON."""
    return answer(status, json.dumps({"fault_message": text}, separators=(",", ":"), ensure_ascii=False), deprecated)


def protocol_error(text):
    """All bytes of an error of the HTTP layer; its newline is raw, which is not JSON."""
    return answer(400, f'{{ "error": "{text}\nAll previous unanswered requests will be dropped." }}')


def deserialize(message):
    """The bytes of what is answered to a body that is not what the endpoint takes."""
    return fault(f"An error occurred when deserializing the json body of a request: {message}.")


EMPTY = {method: fault(f"Empty {method} request.") for method in ("PUT", "PATCH")}
BEFORE = fault("The requested operation is not supported before starting the microVM.")
AFTER = fault("The requested operation is not supported after starting the microVM.")
