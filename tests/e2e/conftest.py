"""Fixtures of the end-to-end tests: the binary under test and the real servers beside it."""

import os
import uuid

import pytest
import requests

import books
import lake as lakes
from proxy import Proxy

for name in list(os.environ):
    if name.startswith(("AWS_", "OTEL_")):
        del os.environ[name]
os.environ.update(AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="testtest", AWS_DEFAULT_REGION="us-east-1", AWS_EC2_METADATA_DISABLED="true")


# what became of the books of the servers of this run, and, not yet told, of those of modules
TALLY = books.Tally()
BOOKS_OF_MODULES = []


def pytest_runtest_logreport(report):
    TALLY.add(getattr(report, "books", []))


def pytest_terminal_summary(terminalreporter):
    if TALLY.outcomes:
        terminalreporter.section("ledgers")
        for line in TALLY.text():
            terminalreporter.line(line)


@pytest.fixture(autouse=True, scope="session")
def every_server_is_looked_at():
    """No test makes a server whose books nobody checks."""
    yield
    unsettled = [lake.folder.name for lake in books.MADE.unsettled()]
    assert not unsettled, f"made past make_lake and make_module_lake, so that no ledger was checked: {unsettled}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.when == "call":
        item.has_passed = report.passed
    if report.when == "teardown":
        report.books = getattr(item, "books", []) + BOOKS_OF_MODULES
        BOOKS_OF_MODULES.clear()
    if report.failed:
        item.getparent(pytest.Module).has_failed = True
        for lake in getattr(item, "lakes", []):
            report.sections.append(("tracelake", lake.log_tail()))
    return report


@pytest.fixture
def make_lake(request, tmp_path):
    """Makes `Lake`s that end with the test: `make_lake(config=…, store=…, rules=…)`."""
    request.node.lakes = made = []

    def make(name=None, **kwargs):
        lake = lakes.Lake(tmp_path / (name or f"lake{len(made)}"), **kwargs)
        made.append(lake)
        return lake

    yield make
    request.node.books = books.settle(made, getattr(request.node, "has_passed", False))


@pytest.fixture(scope="module")
def make_module_lake(request, tmp_path_factory):
    """Makes `Lake`s that all tests of a module share; their books are checked when the last one is over."""
    made = []

    def make(name, **kwargs):
        made.append(lakes.Lake(tmp_path_factory.mktemp(name) / "lake", **kwargs))
        return made[-1]

    yield make
    BOOKS_OF_MODULES.extend(books.settle(made, not getattr(request.node, "has_failed", False)))


@pytest.fixture
def small_disk(tmp_path):
    """Makes `SmallDisk`s that are gone after the test; ask for it before `make_lake`."""
    made = []

    def make(n_bytes, name="disk"):
        made.append(lakes.SmallDisk(tmp_path / f"small-{name}", n_bytes))
        return made[-1]

    yield make
    for disk in made:
        disk.close()


@pytest.fixture
def lake(make_lake):
    """A server with default settings."""
    return make_lake()


@pytest.fixture(scope="session")
def moto(tmp_path_factory):
    """The address of a moto server."""
    port = lakes.free_port()
    url = f"http://127.0.0.1:{port}"
    server = lakes.Server([lakes.tool("moto_server"), "-H", "127.0.0.1", "-p", str(port)], tmp_path_factory.mktemp("moto"))
    server.wait_ready(lambda: requests.get(url + "/moto-api/data.json", timeout=5).ok)
    yield url
    server.kill()


@pytest.fixture
def make_proxy():
    """Makes `Proxy`s before an AWS service: `make_proxy(moto, faults=0.2)`."""
    made = []

    def make(*args, **kwargs):
        made.append(Proxy(*args, **kwargs))
        return made[-1]

    yield make
    for proxy in made:
        proxy.close()


class Weed:
    """A SeaweedFS server; `store(prefix)` is the `[store]` section that points at it."""

    keys = {"aws_access_key_id": "weedkey", "aws_secret_access_key": "weedsecret"}

    def __init__(self, folder):
        ports = {name: lakes.free_port() for name in PORTS}
        self.url = f"http://127.0.0.1:{ports['s3.port']}"
        self.bucket = "lake"
        command = [lakes.tool("weed"), "mini", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3.port.iceberg=0", "-s3.port.lance=0"]
        command += [f"-{name}={port}" for name, port in ports.items()]
        env = {"AWS_ACCESS_KEY_ID": self.keys["aws_access_key_id"], "AWS_SECRET_ACCESS_KEY": self.keys["aws_secret_access_key"]}
        self.server = lakes.Server(command, folder, {**env, "S3_BUCKET": self.bucket})
        self.server.wait_ready(self._ready)

    def _ready(self):
        try:
            self.s3().put_object(Bucket=self.bucket, Key="probe", Body=b"x")
            return True
        except Exception:  # noqa: BLE001 - whatever it says while it starts
            return False

    def s3(self):
        """A boto3 client of it."""
        return lakes.client("s3", self.url, **self.keys)

    def store(self, prefix=None):
        return {
            "url": f"s3://{self.bucket}/{prefix or uuid.uuid4().hex[:8]}",
            "endpoint": self.url,
            "region": "us-east-1",
            "path_style": True,
            "allow_http": True,
            "access_key_id": self.keys["aws_access_key_id"],
            "secret_access_key": self.keys["aws_secret_access_key"],
        }


# Each also takes the port 10,000 above for gRPC.
PORTS = ["s3.port", "filer.port", "master.port", "volume.port", "admin.port", "webdav.port"]


@pytest.fixture(scope="session")
def weed(tmp_path_factory):
    """SeaweedFS with an S3 face."""
    weed = Weed(tmp_path_factory.mktemp("weed"))
    yield weed
    weed.server.kill()
