"""A proxy before a bucket that fails as buckets and networks do: told errors, cut connections, lost and late answers, stale listings."""

import collections
import http.client
import http.server
import random
import re
import socket
import struct
import threading
import time
import urllib.parse

# what happens to a request, with its weight; those of writes, of reads, of listings, of conditional puts
FAULTS = {
    "500": 3,
    "503 SlowDown": 3,
    "cut request": 2,
    "cut answer": 2,
    # it was carried out, and nobody heard of it
    "lost answer": 3,
    "500 though done": 2,
    "slow": 3,
    # longer than the client waits; it is carried out then
    "late": 1,
}
OF_WRITES = {"cut request", "lost answer", "500 though done", "late"}
OF_READS = {"cut answer"}
OF_CONDITIONAL_PUTS = {"409 to a conditional put": 2, "412 to a conditional put": 2, "lost answer": 1, "500 though done": 1}
OF_LISTINGS = {"stale listing": 6, "listing without the newest": 6}
UNHEARD = "a conditional put was done, and the client was not told"
KINDS = sorted({*FAULTS, *OF_CONDITIONAL_PUTS, *OF_LISTINGS, UNHEARD})
ERRORS = {
    "500": (500, "InternalError"),
    "500 though done": (500, "InternalError"),
    "503 SlowDown": (503, "SlowDown"),
    "409 to a conditional put": (409, "ConditionalRequestConflict"),
    "412 to a conditional put": (412, "PreconditionFailed"),
}
# a listing may be as old as this; an object as young as this may be missing in one
STALE_SECONDS = 4.0


def is_conditional(request):
    return request.command == "PUT" and "if-none-match" in request.headers


class S3Proxy:
    """Stands before `target` (`http://host:port`). `faults` is the share of requests that go wrong while `is_faulty`; `counts` says how often
    what happened; `late_seconds` is longer than the client waits for an answer. `plan` can choose by itself: given the method and the path, it gives
    a kind, or nothing; "held" is carried out once `release` is set. `watch` is told method, path and body of all that was carried out."""

    def __init__(self, target, faults=0.15, late_seconds=2.6, seed=7, plan=None, watch=None):
        self.target = urllib.parse.urlsplit(target).netloc
        self.faults, self.late_seconds, self.is_faulty = faults, late_seconds, True
        self.random, self.lock, self.plan, self.watch = random.Random(seed), threading.Lock(), plan, watch
        self.release = threading.Event()
        self.counts = collections.Counter()
        # by listing asked for: (when, answer), oldest first; when each object was written
        self.listings, self.written = collections.defaultdict(collections.deque), {}
        self.upstream = threading.local()
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            wbufsize = -1

            def do(self):
                try:
                    proxy.handle(self)
                except (ConnectionError, TimeoutError):
                    self.close_connection = True

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, request, client_address):
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def choose(self, request, is_listing):
        """What is to go wrong, if anything."""
        if self.plan and (kind := self.plan(request.command, urllib.parse.unquote(urllib.parse.urlsplit(request.path).path))):
            return kind
        kinds = dict(FAULTS)
        for others, is_of in ((OF_WRITES, request.command in ("PUT", "DELETE", "POST")), (OF_READS, request.command == "GET")):
            if not is_of:
                for kind in others:
                    del kinds[kind]
        if request.command != "PUT":
            kinds.pop("cut request", None)
        with self.lock:
            if not self.is_faulty:
                return None
            # a store that lists late does so often, and conditional puts are few
            if is_listing and self.random.random() < 0.5:
                kinds = OF_LISTINGS
            elif is_conditional(request) and self.random.random() < 0.3:
                kinds = OF_CONDITIONAL_PUTS
            elif self.random.random() >= self.faults:
                return None
            return self.random.choices(list(kinds), list(kinds.values()))[0]

    def count(self, kind):
        with self.lock:
            self.counts[kind] += 1

    def handle(self, request):
        url = urllib.parse.urlsplit(request.path)
        asked = urllib.parse.parse_qs(url.query, keep_blank_values=True)
        is_listing = request.command == "GET" and "list-type" in asked
        kind = self.choose(request, is_listing)
        n_bytes = int(request.headers.get("content-length", 0))
        self.count(request.command)
        if kind == "cut request" and n_bytes > 1:
            request.rfile.read(n_bytes // 2)
            self.count(kind)
            return self.cut(request)
        body = request.rfile.read(n_bytes)
        if kind in ERRORS and kind != "500 though done":
            self.count(kind)
            return self.error(request, kind)
        if kind in ("slow", "late"):
            with self.lock:
                wait = self.random.uniform(0.1, 0.8) if kind == "slow" else self.late_seconds
            self.count(kind)
            time.sleep(wait)
        if kind == "held":
            self.release.wait(60)
        status, headers, answer = self.forward(request, body)
        if self.watch:
            self.watch(request.command, urllib.parse.unquote(url.path), body)
        if request.command in ("PUT", "POST") and status == 200:
            with self.lock:
                self.written[urllib.parse.unquote(url.path)] = time.monotonic()
        if kind in ("lost answer", "500 though done"):
            self.count(kind)
            if is_conditional(request) and status == 200:
                self.count(UNHEARD)
            return self.cut(request) if kind == "lost answer" else self.error(request, kind)
        if is_listing and status == 200:
            answer = self.listing(request, kind, url.path, answer)
        cut = kind == "cut answer" and len(answer) > 1
        if cut:
            self.count(kind)
        request.send_response(status)
        for name, value in headers:
            if name.lower() not in ("content-length", "transfer-encoding", "connection", "server", "date"):
                request.send_header(name, value)
        if request.command == "HEAD" or status in (204, 304):
            length = next((value for name, value in headers if name.lower() == "content-length"), "0")
            if status not in (204, 304):
                request.send_header("content-length", length)
            request.end_headers()
        else:
            request.send_header("content-length", str(len(answer)))
            request.end_headers()
            request.wfile.write(answer[: len(answer) // 2] if cut else answer)
        request.wfile.flush()
        if cut:
            self.cut(request)
        return None

    def listing(self, request, kind, bucket, answer):
        """The listing as it is, as it was, or without what was written lately."""
        now = time.monotonic()
        with self.lock:
            earlier = self.listings[request.path]
            earlier.append((now, answer))
            while now - earlier[0][0] > STALE_SECONDS:
                earlier.popleft()
            if kind == "stale listing" and earlier[0][1] != answer:
                self.counts[kind] += 1
                return earlier[0][1]
            if kind != "listing without the newest":
                return answer
            age = self.random.uniform(0, STALE_SECONDS)
            newest = {key for key, at in self.written.items() if now - at < age}

        def keep(found):
            key = urllib.parse.unquote(re.search(rb"<Key>(.*?)</Key>", found[0], re.S)[1].decode())
            return b"" if f"{bucket}/{key}" in newest else found[0]

        without = re.sub(rb"<Contents>.*?</Contents>", keep, answer, flags=re.S)
        if without != answer:
            self.count(kind)
        return re.sub(rb"<KeyCount>\d+</KeyCount>", b"<KeyCount>%d</KeyCount>" % without.count(b"<Contents>"), without)

    def forward(self, request, body):
        """Status, headers and body of the bucket's answer."""
        for is_last in (False, True):
            connection = getattr(self.upstream, "connection", None)
            if connection is None:
                connection = self.upstream.connection = http.client.HTTPConnection(self.target, timeout=30)
            try:
                # as it came: the signature is over the host that the client knows
                connection.putrequest(request.command, request.path, skip_host=True, skip_accept_encoding=True)
                for name, value in request.headers.items():
                    if name.lower() != "connection":
                        connection.putheader(name, value)
                connection.endheaders(body)
                answer = connection.getresponse()
                return answer.status, answer.getheaders(), answer.read()
            except (OSError, http.client.HTTPException):
                connection.close()
                self.upstream.connection = None
                if is_last or request.command == "PUT":
                    raise ConnectionError("the bucket is away") from None

    @staticmethod
    def cut(request):
        request.close_connection = True
        # a reset, not an orderly end
        request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.connection.close()

    @staticmethod
    def error(request, kind):
        status, code = ERRORS[kind]
        body = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>{code} by the proxy</Message></Error>'.encode()
        request.send_response(status)
        request.send_header("content-type", "application/xml")
        request.send_header("content-length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)
        request.wfile.flush()
