"""The release binary as a child process, its API, and the other servers that tests talk to."""

import collections
import concurrent.futures
import ctypes
import fcntl
import functools
import json
import os
import pathlib
import queue
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

import boto3
import requests
from botocore.config import Config

import books

REPO = pathlib.Path(__file__).resolve().parents[2]
KEYS = {"aws_access_key_id": "test", "aws_secret_access_key": "testtest", "region_name": "us-east-1"}


def binary():
    """Path of the binary under test."""
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", REPO / "target"))
    path = pathlib.Path(os.environ.get("TRACELAKE_BIN", target / "release" / "tracelake"))
    assert path.is_file(), f"no binary at {path}: cargo build --release, or set TRACELAKE_BIN"
    return str(path)


def wait_until(fn, timeout=20.0, every=0.1, what=None):
    """Calls `fn` until it returns something true, and returns that. Failed assertions and refused connections count as false."""
    deadline = time.monotonic() + timeout
    last = None
    while True:
        try:
            last = fn()
            if last:
                return last
        except (AssertionError, requests.ConnectionError, requests.Timeout) as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"{what or getattr(fn, '__name__', 'condition')} not met in {timeout} s; last: {last!r}")
        time.sleep(every)


def toml(config):
    """`{"ingest": {"flush_age_seconds": 1}}` as TOML; tables inside a section are written inline."""

    def value(v):
        if isinstance(v, dict):
            return "{ " + ", ".join(f"{k} = {value(x)}" for k, x in v.items()) + " }"
        if isinstance(v, list):
            return "[" + ", ".join(value(x) for x in v) + "]"
        return json.dumps(str(v) if isinstance(v, pathlib.Path) else v)

    lines = []
    for section, keys in config.items():
        lines.append(f"[{section}]")
        lines.extend(f"{key} = {value(v)}" for key, v in keys.items())
    return "\n".join(lines) + "\n"


class ApiError(Exception):
    """An answer of the API other than 200."""

    def __init__(self, response):
        super().__init__(f"HTTP {response.status_code} from {response.url}: {response.text[:2000]}")
        self.status = response.status_code
        self.text = response.text


class Lake:
    """One tracelake process and its data directory.

    `config` is a dict of sections as in config/tracelake.toml; `env` is added to an environment without AWS settings. A Lake is started when it is made, and may be killed,
    stopped and started again on the same data directory. Every port is a free one.
    """

    def __init__(self, folder, config=None, store=None, rules=None, start=True, args=(), env=None, data_dir=None):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.data_dir = pathlib.Path(data_dir or self.folder / "data")
        self.log_path = self.folder / "stderr.log"
        self.config, self.store, self.rules, self.args = config, store, rules, list(args)
        self.env = env or {}
        self.process = None
        self.ready = None
        self.session = requests.Session()
        self.why_no_ledger, self.n_replaced_spans = None, 0
        self.sent, self.was_checked, self.is_settled = {}, None, False
        books.MADE.add(self)
        if start:
            self.start()

    # -- the process

    def start(self, timeout=30, same_ports=False):
        """Starts the binary and waits for its ready line; `same_ports` takes those of the last start."""
        assert self.process is None, "already running"
        self.was_checked = None
        before = self.ready if same_ports else None
        command = [binary(), "serve", "--data-dir", str(self.data_dir)]
        for flag in ("http", "otlp-grpc", "otlp-http", "xray"):
            command += [f"--{flag}", before[flag.replace("-", "_")] if before else "127.0.0.1:0"]
        if self.config:
            path = self.folder / "tracelake.toml"
            path.write_text(toml(self.config))
            command += ["--config", str(path)]
        if self.store:
            command += ["--store", str(self.store)]
        if self.rules:
            command += ["--rules", str(self.rules)]
        env = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "OTEL_"))}
        env["AWS_EC2_METADATA_DISABLED"] = "true"
        env.update(self.env)
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(command + self.args, stdout=subprocess.PIPE, stderr=log, env=env, text=True)
        lines = queue.Queue()

        def read(stdout=self.process.stdout):
            for line in stdout:
                lines.put(line)
            lines.put(None)

        threading.Thread(target=read, daemon=True).start()
        try:
            line = lines.get(timeout=timeout)
            assert line is not None, f"ended with {self.process.wait(5)} before it was ready"
        except (queue.Empty, AssertionError) as error:
            self._end(signal.SIGKILL)
            raise AssertionError(f"tracelake did not become ready: {error!r}\n{self.log_tail()}") from None
        self.ready = json.loads(line)
        assert self.ready["event"] == "ready", line
        return self

    def _end(self, how, timeout=40):
        process, self.process = self.process, None
        process.send_signal(how)
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"tracelake did not end within {timeout} s of {how!r}\n{self.log_tail()}") from None

    def stop(self):
        """SIGTERM; rows are flushed and the exit code is 0."""
        code = self._end(signal.SIGTERM)
        assert code == 0, f"exit code {code} after SIGTERM\n{self.log_tail()}"

    def kill(self):
        """SIGKILL, of one that runs."""
        code = self.process.poll()
        assert code is None, f"it had ended with {code} already\n{self.log_tail()}"
        self._end(signal.SIGKILL)

    def wait_for_end(self, timeout=20):
        """Waits until the process ends by itself, as at a fail point; gives its exit code."""
        process, self.process = self.process, None
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"tracelake did not end by itself within {timeout} s\n{self.log_tail()}") from None

    def restart(self, kill=False, same_ports=False):
        """Stops (or kills) and starts on the same data directory."""
        self.kill() if kill else self.stop()
        return self.start(same_ports=same_ports)

    def close(self):
        """Ends the process if it runs, in whatever way."""
        if self.process is not None:
            self._end(signal.SIGKILL)

    def log_tail(self, max_bytes=8000):
        """The end of its stderr."""
        try:
            return f"--- stderr of {self.folder.name}\n" + self.log_path.read_bytes()[-max_bytes:].decode(errors="replace")
        except FileNotFoundError:
            return ""

    # -- addresses

    @property
    def url(self):
        return "http://" + self.ready["http"]

    @property
    def otlp_grpc(self):
        return self.ready["otlp_grpc"]

    @property
    def otlp_http_url(self):
        return "http://" + self.ready["otlp_http"]

    @property
    def xray(self):
        return self.ready["xray"]

    def boto3(self, service="logs", **more):
        """A boto3 client of one of our AWS faces, to which nothing is told that the service's model does not know."""
        return strict(client(service, self.url, **more))

    # -- the API

    def get(self, path, **params):
        """The JSON answer of GET `path`; `ApiError` if it is not 200."""
        return self._json(self.session.get(self.url + path, params=params, timeout=35))

    def post(self, path, body):
        """The JSON answer of POST `path`."""
        return self._json(self.session.post(self.url + path, json=body, timeout=35))

    @staticmethod
    def _json(response):
        if response.status_code != 200:
            raise ApiError(response)
        return response.json()

    def search(self, q="", **params):
        """`/api/v1/search`."""
        return self.get("/api/v1/search", q=q, **params)

    def hits(self, q="", **params):
        """Hits of a search that must be complete; all of them, page by page."""
        params.setdefault("limit", 1000)
        hits = []
        while True:
            page = self.search(q, **params)
            assert page["coverage"]["complete"], page["coverage"]
            hits += page["hits"]
            if not page["next_cursor"]:
                return hits
            params["cursor"] = page["next_cursor"]

    def sql(self, query, limit=10000):
        """Rows of a SQL query as dicts."""
        answer = self.post("/api/v1/sql", {"query": query, "limit": limit})
        names = [column["name"] for column in answer["columns"]]
        return [dict(zip(names, row)) for row in answer["rows"]]

    def trace(self, trace_id, **params):
        """`/api/v1/traces/{id}`, `None` if there is none."""
        try:
            return self.get(f"/api/v1/traces/{trace_id}", **params)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def status(self):
        """`/api/v1/status`."""
        return self.get("/api/v1/status")

    def wait_until(self, fn, timeout=20.0, every=0.1, what=None):
        """[`wait_until`], with our stderr in the message."""
        try:
            return wait_until(fn, timeout, every, what)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log_tail()}") from None

    # -- its books, see books.py

    def check_ledger(self):
        """Every record that was accepted is a row, or was deleted or expired: checked at the end of each test that passes. A line for the tally."""
        return books.check(self)

    def stop_checked(self):
        """Checks the books and stops it in order, so that the end of the test need not start it again for that."""
        told = self.check_ledger()
        self.stop()
        self.was_checked = told

    def no_ledger(self, why):
        """The books of this server cannot add up, or nobody can look."""
        self.why_no_ledger = why

    def completes_spans(self, n_rows):
        """So many rows of spans in progress are replaced by the completed ones: fewer rows than were accepted. Adds to those of before."""
        self.n_replaced_spans += n_rows

    def has_sent(self, receiver, signals, told):
        """A client that was the only one of this receiver and these signals: what `tracelake generate` says that it was told."""
        assert told["records"] == told["acknowledged"] + told["rejected"] + told["given_up"], told
        counts = {"accepted": told["acknowledged"], "rejected": told["rejected"], "retries": told["retries"] + told["given_up"]}
        self.sent.setdefault((receiver, signals), collections.Counter()).update(counts)

    def wait_flushed(self, timeout=20.0):
        """Waits until no row is in memory only."""
        return self.wait_until(lambda: self.status()["head"]["rows"] == 0, timeout, what="all rows flushed")


def client(service, endpoint, config=None, **more):
    """A boto3 client of a server on this machine; what `config` says counts before our own settings."""
    settings = Config(retries={"max_attempts": 1}, s3={"addressing_style": "path"}, connect_timeout=5, read_timeout=20)
    return boto3.client(service, endpoint_url=endpoint, config=settings.merge(config) if config else settings, **{**KEYS, **more})


def unmodelled(shape, value, at=""):
    """What of a JSON answer the model does not know: members, types, words of a list. botocore's parser passes such things over."""
    kinds = {"string": str, "boolean": bool, "integer": int, "long": int, "float": (int, float), "double": (int, float), "timestamp": (int, float)}
    kind = shape.type_name
    if value is None:
        yield f"{at} is null"
    elif kind in ("structure", "map"):
        if not isinstance(value, dict):
            yield f"{at} is no {kind}: {value!r}"
            return
        for name, one in value.items():
            of = shape.members.get(name) if kind == "structure" else shape.value
            if of is None:
                yield f"{at}.{name} is not in the model"
            else:
                yield from unmodelled(of, one, f"{at}.{name}")
    elif kind == "list":
        if not isinstance(value, list):
            yield f"{at} is no list: {value!r}"
            return
        for number, one in enumerate(value):
            yield from unmodelled(shape.member, one, f"{at}[{number}]")
    elif kind in kinds:
        if not isinstance(value, kinds[kind]) or isinstance(value, bool) != (kind == "boolean"):
            yield f"{at} is no {kind}: {value!r}"
        if kind == "string" and shape.enum and value not in shape.enum:
            yield f"{at} is none of {shape.enum}: {value!r}"


def strict(client):
    """A client that fails over an answer which the service's model does not know all of."""

    def check(http_response, model, **_):
        if http_response.status_code != 200 or model.output_shape is None or model.has_event_stream_output:
            return
        wrong = list(unmodelled(model.output_shape, json.loads(http_response.content)))
        assert not wrong, (model.name, wrong[:5])

    # what speaks CBOR or XML is read by botocore alone
    if client.meta.service_model.resolved_protocol in ("json", "rest-json"):
        client.meta.events.register("after-call", check)
    return client


def free_port():
    """A port nobody listens on now, below those the kernel gives to clients; neither is the one 10,000 above it taken."""
    while True:
        port = random.randrange(15000, 22000)
        try:
            for p in (port, port + 10000):
                with socket.socket() as s:
                    s.bind(("127.0.0.1", p))
            return port
        except OSError:
            continue


def tool(name):
    """A program of the Python environment that runs the tests."""
    return str(pathlib.Path(sys.executable).parent / name)


def aws_v2():
    """The AWS CLI, version 2, which is no Python package: Debian's. Version 1 has no `logs tail`."""
    for aws in filter(None, ("/usr/bin/aws", shutil.which("aws"))):
        if os.access(aws, os.X_OK) and subprocess.run([aws, "--version"], capture_output=True, text=True).stdout.startswith("aws-cli/2"):
            return aws
    raise AssertionError("no AWS CLI of version 2 here: install the package awscli (tests/run does)")


class Server:
    """Another program, started for the tests, with its output in a file."""

    def __init__(self, command, folder, env=None):
        self.log_path = pathlib.Path(folder) / "server.log"
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        self.command, self.env = command, {**os.environ, **(env or {})}
        self.process = None
        self.start()

    def start(self):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                self.command, stdout=log, stderr=log, env=self.env, cwd=self.log_path.parent, start_new_session=True
            )

    def kill(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def wait_ready(self, fn, timeout=60):
        def ready():
            assert self.process.poll() is None, "ended"
            return fn()

        try:
            wait_until(ready, timeout, 0.2, what=f"{self.command[0]} ready")
        except AssertionError as error:
            tail = self.log_path.read_bytes()[-4000:].decode(errors="replace")
            self.kill()
            raise AssertionError(f"{error}\n{tail}") from None


class SmallDisk:
    """A file system of `n_bytes` of its own, at `path`: one that can be full without filling the machine's. Needs root, or sudo without a password."""

    def __init__(self, path, n_bytes):
        self.path = pathlib.Path(path)
        self.path.mkdir(parents=True)
        self.filler = self.path / "filler"
        self._as_root("mount", "-t", "tmpfs", "-o", f"size={n_bytes},mode=0777,uid={os.getuid()}", "tmpfs", str(self.path))

    @staticmethod
    def _as_root(*command):
        prefix = [] if os.geteuid() == 0 else ["sudo", "-n"]
        done = subprocess.run(prefix + list(command), capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"

    @property
    def free(self):
        stat = os.statvfs(self.path)
        return stat.f_bavail * stat.f_frsize

    def fill(self, leave=0):
        """Takes all room but `leave` bytes."""
        with open(self.filler, "ab") as file:
            while (room := self.free - leave) > 0:
                try:
                    os.posix_fallocate(file.fileno(), file.tell(), room)
                    file.seek(0, os.SEEK_END)
                except OSError:
                    break

    def empty(self):
        """Gives it back."""
        self.filler.unlink(missing_ok=True)

    def close(self):
        self._as_root("umount", "-l", str(self.path))


def own_network():
    """Puts this thread, what it starts and nothing else into a network of its own; true if that is allowed (to root, on Linux)."""
    if ctypes.CDLL(None, use_errno=True).unshare(0x40000000) != 0:  # CLONE_NEWNET
        return False
    with socket.socket() as s:
        # SIOCGIFFLAGS, then SIOCSIFFLAGS with IFF_UP
        got = fcntl.ioctl(s, 0x8913, struct.pack("16sH14x", b"lo", 0))
        (flags,) = struct.unpack_from("H", got, 16)
        fcntl.ioctl(s, 0x8914, struct.pack("16sH14x", b"lo", flags | 1))
    return True


def in_own_network(test):
    """Runs a test where the default ports are free. Where no network can be made, they must be free on this machine."""

    @functools.wraps(test)
    def wrapped(*args, **kwargs):
        def run():
            if not own_network():
                for port in (7070, 4317, 4318, 2000):
                    with socket.socket() as s:
                        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                        s.bind(("127.0.0.1", port))
            test(*args, **kwargs)

        with concurrent.futures.ThreadPoolExecutor(1) as thread:
            thread.submit(run).result()

    return wrapped
