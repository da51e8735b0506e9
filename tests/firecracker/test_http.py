# SPDX-License-Identifier: Apache-2.0
"""The HTTP layer: every byte of a response, what is refused, limits exact to the byte, several requests at once."""
import json
import os
import re
import socket
import time

import pytest
from api import Closed, Connection, SERVER, answer, fault, no_content, protocol_error, request
from vmm import listens

METHOD = protocol_error("Invalid HTTP Method: Unsupported HTTP method.")
VERSION = protocol_error("Invalid HTTP Version: Unsupported HTTP version.")
MALFORMED = protocol_error("Invalid request.")
NO_URI = protocol_error("Invalid URI: Empty URI not allowed.")


def whole(vmm, data):
    """The response to these bytes on a connection of their own."""
    with vmm.connect() as c:
        c.send(data)
        return c.read()


# ---- what is refused before the API sees it: request, all bytes of the answer

REFUSED = {
    **{f"method {m}": (f"{m} / HTTP/1.1\r\n\r\n", METHOD)
       for m in ("POST", "HEAD", "OPTIONS", "TRACE", "CONNECT", "get", "Put", "patch", "DELETE1", "G")},
    **{f"version {v}": (f"GET / {v}\r\n\r\n", VERSION)
       for v in ("HTTP/0.9", "HTTP/1.2", "HTTP/2.0", "http/1.1", "HTTP/1.1 ", "HTTP/1", "1.1")},
    "no version": ("GET /\r\n\r\n", MALFORMED),
    "one word": ("GET\r\n\r\n", MALFORMED),
    "no URI": ("GET  HTTP/1.1\r\n\r\n", NO_URI),
    "empty line first": ("\r\nGET / HTTP/1.1\r\n\r\n", MALFORMED),
    "method of no letters": (" / HTTP/1.1\r\n\r\n", METHOD),
    "header without colon": ("GET / HTTP/1.1\r\nnonsense\r\n\r\n", protocol_error(
        "Invalid header. Reason: Header is incorrectly formatted. Key: nonsense")),
    **{f"Content-Length {v!r}": (f"PUT /mmds HTTP/1.1\r\nContent-Length:{v}\r\n\r\n", protocol_error(
        f"Invalid header. Reason: Invalid value. Key:Content-Length; Value:{v}"))
       for v in (" x", " -1", " 4294967296", " 1.5", " 1 2", " 0x10", "")},
    "Accept-Encoding identity;q=0": ("GET / HTTP/1.1\r\nAccept-Encoding: identity;q=0\r\n\r\n", protocol_error(
        "Invalid header. Reason: Invalid value. Key:Accept-Encoding; Value:identity;q=0")),
    "Accept-Encoding *;q=0": ("GET / HTTP/1.1\r\nAccept-Encoding: *;q=0\r\n\r\n", protocol_error(
        "Invalid header. Reason: Invalid value. Key:Accept-Encoding; Value:*;q=0")),
    "Accept-Encoding empty": ("GET / HTTP/1.1\r\nAccept-Encoding:\r\n\r\n", MALFORMED),
    "URI is not UTF-8": (b"GET /\xff HTTP/1.1\r\n\r\n", protocol_error("Invalid URI: Cannot parse URI as UTF-8.")),
    "header is not UTF-8": (b"GET / HTTP/1.1\r\nX-Raw: \xff\r\n\r\n", protocol_error(
        "Invalid header. Reason: Header contains invalid characters. "
        "Key: invalid utf-8 sequence of 1 bytes from index 7")),
}


@pytest.mark.parametrize("row", REFUSED)
def test_refused(shared, row):
    data, expected = REFUSED[row]
    assert whole(shared, data).raw == expected


@pytest.mark.parametrize("row", ["method POST", "version HTTP/2.0", "header without colon", "no URI"])
def test_connection_usable_after_400(shared, row):
    with shared.connect() as c:
        for _ in range(3):
            c.send(REFUSED[row][0])
            assert c.read().status == 400
            assert c.request("GET", "/version").status == 200


# ---- what is accepted: request line and headers

ACCEPTED = {
    "1.1": "GET /version HTTP/1.1\r\n\r\n",
    "1.0, answered as 1.1": "GET /version HTTP/1.0\r\n\r\n",
    "absolute form": "GET http://localhost/version HTTP/1.1\r\n\r\n",
    "absolute form with port": "GET http://localhost:80/version HTTP/1.1\r\n\r\n",
    "slashes in front": "GET ///version HTTP/1.1\r\n\r\n",
    "slash at the end": "GET /version/ HTTP/1.1\r\n\r\n",
    "more segments": "GET /version/no/matter HTTP/1.1\r\n\r\n",
    "no Host": "GET /version HTTP/1.1\r\nAccept: */*\r\n\r\n",
    "unknown Accept": "GET /version HTTP/1.1\r\nAccept: text/html\r\n\r\n",
    "unknown Content-Type": "GET /version HTTP/1.1\r\nContent-Type: image/png\r\n\r\n",
    "unknown Expect": "GET /version HTTP/1.1\r\nExpect: 103-checkpoint\r\n\r\n",
    "Expect without body": "GET /version HTTP/1.1\r\nExpect: 100-continue\r\n\r\n",
    "Connection: close": "GET /version HTTP/1.1\r\nConnection: close\r\n\r\n",
    "names in any case": "GET /version HTTP/1.1\r\ncONTENT-lENGTH: 0\r\nhOST: x\r\n\r\n",
    "blanks around name and value": "GET /version HTTP/1.1\r\nContent-Length :   0  \r\n\r\n",
    "no blank after colon": "GET /version HTTP/1.1\r\nHost:localhost\r\n\r\n",
    "colons in a value": "GET /version HTTP/1.1\r\nHost: a:b:c\r\n\r\n",
    "empty value": "GET /version HTTP/1.1\r\nX-Empty:\r\n\r\n",
    "Accept-Encoding": "GET /version HTTP/1.1\r\nAccept-Encoding: gzip, deflate, br\r\n\r\n",
    "Accept-Encoding *;q=0, identity": "GET /version HTTP/1.1\r\nAccept-Encoding: *;q=0, identity\r\n\r\n",
    "Transfer-Encoding identity": "GET /version HTTP/1.1\r\nTransfer-Encoding: identity\r\n\r\n",
    "500 headers": "GET /version HTTP/1.1\r\n" + "".join(f"X-{i}: {i}\r\n" for i in range(500)) + "\r\n",
    "two lengths, the last wins": "GET /version HTTP/1.1\r\nContent-Length: 7\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("row", ACCEPTED)
def test_accepted(shared, row):
    with shared.connect() as c:
        c.send(ACCEPTED[row])
        r = c.read()
        assert r.raw == answer(200, json.dumps(r.json, separators=(",", ":")))
        assert list(r.json) == ["firecracker_version"]
        assert c.silent()


@pytest.mark.parametrize("uri", ["version", "*", "http://localhost", "http://", "http:///", "/", "//", "x/version"])
def test_uris_that_name_the_root(shared, uri):
    """A URI without a leading slash counts as an empty path."""
    r = whole(shared, f"GET {uri} HTTP/1.1\r\n\r\n")
    assert r.status == 200 and "app_name" in r.json


def test_query_is_part_of_the_path(shared):
    assert whole(shared, "GET /version?x=1 HTTP/1.1\r\n\r\n").raw == fault(
        "Invalid request method and/or path: GET version?x=1.")


def test_status_lines(shared):
    """A code, one blank, no reason; the order of headers; 204 has no body's headers."""
    r = whole(shared, request("GET", "/version"))
    assert r.raw.startswith(b"HTTP/1.1 200 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n"
                            b"Content-Type: application/json\r\nContent-Length: ")
    assert whole(shared, request("PUT", "/mmds", {})).raw == no_content() == (
        b"HTTP/1.1 204 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n\r\n")


def test_two_shapes_of_errors(shared):
    """An error of the HTTP layer has a raw newline, which is not JSON; one of the API is compact JSON."""
    r = whole(shared, "POST / HTTP/1.1\r\n\r\n")
    assert r.body == (b'{ "error": "Invalid HTTP Method: Unsupported HTTP method.\n'
                      b'All previous unanswered requests will be dropped." }')
    assert whole(shared, request("GET", "/none")).body == (
        b'{"fault_message":"Invalid request method and/or path: GET none."}')


# ---- limits

def line_of(length):
    """A request line of this many bytes, the line end counted, and the rest of its request."""
    path = "/version/"
    path += "x" * (length - len(f"GET {path} HTTP/1.1\r\n"))
    return f"GET {path} HTTP/1.1\r\n\r\n"


@pytest.mark.parametrize("length,good", [(1023, True), (1024, True), (1025, False), (1026, False), (5000, False)])
def test_length_of_the_request_line(shared, length, good):
    r = whole(shared, line_of(length))
    if good:
        assert r.status == 200
    else:
        assert r.raw == MALFORMED


@pytest.mark.parametrize("length,good", [(1023, True), (1024, True), (1025, False), (1026, False), (5000, False)])
def test_length_of_a_header_line(shared, length, good):
    line = "X-Long: "
    line += "y" * (length - len(line) - 2)
    r = whole(shared, f"GET /version HTTP/1.1\r\nHost: x\r\n{line}\r\n\r\n")
    if good:
        assert r.status == 200
    else:
        assert r.status == 400
        assert r.body.startswith(b'{ "error": "Invalid header. Reason: Invalid content length. Header: X-Long: yyy')


def body_of(length):
    """A metadata body of this many bytes, padded with blanks so that the store stays small."""
    return b'{"a":' + b" " * (length - 7) + b"1}"


@pytest.mark.parametrize("length", [8, 1023, 1024, 1025, 4096, 51199, 51200])
def test_body_within_the_limit(shared, length):
    assert whole(shared, request("PUT", "/mmds", body_of(length))).raw == no_content()


@pytest.mark.parametrize("length", [51201, 60000, 4294967295])
def test_body_above_the_limit(shared, length):
    """Refused at the header: no byte of the body has to come."""
    with shared.connect() as c:
        c.send(f"PUT /mmds HTTP/1.1\r\nContent-Length: {length}\r\n\r\n")
        assert c.read().raw == protocol_error(
            f"Request payload with size {length} is larger than the limit of 51200 allowed by server.")
        assert c.silent()


def test_bytes_of_the_error_above_the_limit(shared):
    r = whole(shared, "PUT /mmds/config HTTP/1.1\r\nContent-Length: 51201\r\n\r\n")
    assert r.raw == (b"HTTP/1.1 400 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n"
                     b"Content-Type: application/json\r\nContent-Length: 149\r\n\r\n"
                     b'{ "error": "Request payload with size 51201 is larger than the limit of 51200 allowed by server.\n'
                     b'All previous unanswered requests will be dropped." }')


@pytest.mark.parametrize("limit,length,good", [(250, 250, True), (250, 251, False), (1 << 21, 1 << 20, True),
                                               (8, 8, True), (8, 9, False)])
def test_other_limit(start, limit, length, good):
    vmm = start("--http-api-max-payload-size", limit, "--mmds-size-limit", 1 << 21)
    r = whole(vmm, request("PUT", "/mmds", body_of(length)))
    assert r.status == (204 if good else 400)
    if not good:
        assert f"size {length} is larger than the limit of {limit} allowed by server." in r.body.decode()


def test_content_length_zero_is_no_body(shared):
    assert whole(shared, "PUT /mmds HTTP/1.1\r\nContent-Length: 0\r\n\r\n").raw == fault("Empty PUT request.")
    assert whole(shared, "GET /version HTTP/1.1\r\nContent-Length: 0\r\n\r\n").status == 200


def test_chunked_is_not_supported(shared):
    with shared.connect() as c:
        c.send("PUT /mmds HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n")
        assert c.read().status == 400
    assert whole(shared, request("GET", "/version")).status == 200


# ---- Expect

def test_expect_continue(shared):
    with shared.connect() as c:
        c.send("PUT /mmds HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 7\r\n\r\n")
        assert c.read().raw == f"HTTP/1.1 100 \r\n{SERVER}\r\n".encode()
        assert c.silent()
        c.send('{"a":1}')
        assert c.read().raw == no_content()


def test_expect_continue_with_the_body(shared):
    """A client that does not wait gets both answers."""
    with shared.connect() as c:
        c.send('PUT /mmds HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 7\r\n\r\n{"a":1}')
        assert c.read().status == 100
        assert c.read().raw == no_content()


def test_expect_continue_above_the_limit(shared):
    with shared.connect() as c:
        c.send("PUT /mmds HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 51201\r\n\r\n")
        assert c.read().status == 400


# ---- how bytes arrive

@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_split_writes(shared, size):
    data = request("PUT", "/mmds", {"a": "b" * 40})
    with shared.connect() as c:
        for i in range(0, len(data), size):
            c.send(data[i:i + size])
            if size == 1 and i % 16 == 0:
                time.sleep(0.001)
        assert c.read().raw == no_content()


@pytest.mark.parametrize("at", ["\r", "\n", "\r\n\r", "head"])
def test_split_at_line_ends(shared, at):
    data = request("PUT", "/mmds", {"a": 1}).decode()
    cut = {"\r": data.index("\r") + 1, "\n": data.index("\n") + 1, "\r\n\r": data.index("\r\n\r\n") + 3,
           "head": data.index("\r\n\r\n") + 4}[at]
    with shared.connect() as c:
        c.send(data[:cut])
        assert c.silent()
        c.send(data[cut:])
        assert c.read().raw == no_content()


@pytest.mark.parametrize("count", [2, 10, 200])
def test_pipelined(shared, count):
    """Answered in order."""
    with shared.connect() as c:
        c.send(b"".join(request("PUT", "/mmds", {"n": i}) + request("GET", "/mmds") for i in range(count)))
        for i in range(count):
            assert c.read().raw == no_content()
            assert c.read().json == {"n": i}
        assert c.silent()


def test_pipelined_good_before_bad(shared):
    """
    Firecracker drops a good request that came in the same read as a malformed one. Here it is answered; both let a client
    that waits for answers see the same.
    """
    with shared.connect() as c:
        c.send(request("GET", "/version") + b"POST / HTTP/1.1\r\n\r\n")
        first = c.read()
        if first.status == 200:
            first = c.read()
        assert first.raw == METHOD
        assert c.request("GET", "/version").status == 200


def test_keep_alive(shared):
    """The server never closes first."""
    with shared.connect() as c:
        for close in ("Connection: close", "Connection: keep-alive"):
            for _ in range(20):
                assert c.request("GET", "/version", headers=[close]).status == 200
        assert c.silent()


def test_client_that_shuts_down_its_half(shared):
    with shared.connect() as c:
        c.send(request("GET", "/version"))
        c.socket.shutdown(socket.SHUT_WR)
        assert c.read().status == 200


@pytest.mark.parametrize("what", ["nothing", "GET", "GET / HTTP/1.1\r\nHost: x", "PUT /mmds HTTP/1.1\r\nContent-Length: 9\r\n\r\n{"])
def test_client_that_vanishes(shared, what):
    for _ in range(30):
        with Connection(shared.socket) as c:
            c.send("" if what == "nothing" else what)
    assert whole(shared, request("GET", "/version")).status == 200


def test_client_that_does_not_read(shared):
    """It must not stop the others."""
    with shared.connect() as lazy:
        lazy.socket.setblocking(False)
        try:
            while True:
                lazy.socket.send(request("GET", "/vm/config"))
        except BlockingIOError:
            pass
        assert whole(shared, request("GET", "/version")).status == 200


# ---- connections

def test_ten_connections_and_no_more(start):
    vmm = start()
    vmm.connection.close()
    connections = [vmm.connect() for _ in range(10)]
    for c in connections:
        assert c.request("GET", "/version").status == 200
    with vmm.connect() as extra:
        data = b""
        while block := extra.socket.recv(4096):
            data += block
    assert data == (b"HTTP/1.1 503\r\nServer: Firecracker API\r\nConnection: close\r\nContent-Length: 40\r\n\r\n"
                    b'{ "error": "Too many open connections" }')
    for c in connections:
        assert c.request("GET", "/version").status == 200
    connections.pop().close()
    end = time.monotonic() + 30
    while True:     # the server has to see that one is closed
        try:
            with vmm.connect() as again:
                if again.request("GET", "/version").status == 200:
                    break
        except (Closed, ConnectionError):
            pass
        assert time.monotonic() < end
    for c in connections:
        c.close()


def test_requests_are_served_one_after_the_other(start):
    """Two clients that write and read at once see their own answers."""
    vmm = start()
    a, b = vmm.connect(), vmm.connect()
    for i in range(50):
        a.send(request("PUT", "/mmds", {"who": i}))
        b.send(request("GET", "/machine-config"))
        assert b.read().json["vcpu_count"] == 1
        assert a.read().raw == no_content()
    assert a.request("GET", "/mmds").json == {"who": 49}


# ---- the socket

def test_socket_that_exists(start, tmp_path):
    first = start()
    path = first.socket
    second = start("--api-sock", path, api=False)
    assert second.wait() == 1
    assert (f"Failed to open the API socket at: {path}. Check that it is not already used." in second.output)
    assert first.request("GET", "/version").status == 200


@pytest.mark.parametrize("kind", ["stale socket", "file"])
def test_what_is_at_the_sockets_path(start, tmp_path, kind):
    path = tmp_path / "there"
    if kind == "file":
        path.write_text("x")
    else:
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(str(path))
        assert not listens(path)
    vmm = start("--api-sock", path, api=False)
    assert vmm.wait() == 1
    assert f"Failed to open the API socket at: {path}." in vmm.output
    assert path.exists()


def test_socket_stays_behind(start):
    vmm = start()
    vmm.process.terminate()
    assert vmm.wait() == -15
    assert vmm.socket.exists()


def test_log_names_the_socket(start):
    vmm = start()
    assert vmm.wait_for(lambda: re.search(rf'Listening on API socket \("{re.escape(str(vmm.socket))}"\)\.', vmm.out))


def test_default_socket_is_named_in_help(start):
    vmm = start("--help", api=False)
    assert vmm.wait() == 0
    assert os.path.join("/run", "firecracker.socket") in vmm.out or "--api-sock" in vmm.out
