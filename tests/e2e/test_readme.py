"""What README says is what a newcomer can do: its commands and its clients' settings, taken from its text.

Each runs with the default ports, in a network of its own where nobody else has them.
"""

import base64
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time

import requests

import lake as lakes
from lake import in_own_network

README = (lakes.REPO / "README.md").read_text()
TRACE = "1-5759e988-bd862e3fe1be46a994272793"
DEMO = "cargo run --release -- demo"

# Commands that are run elsewhere: this text is here so that a change of README is seen.
ELSEWHERE = {
    "tests/run": "runs this",
    "cargo build --release": "tests/run does so before it runs this",
    DEMO: "the test below, with the binary that tests/run has built",
}


def commands():
    """The lines of README's shell blocks, without their comments."""
    blocks = re.findall(r"```sh\n(.*?)```", README, re.S)
    return [shlex.join(words) for line in "\n".join(blocks).splitlines() if (words := shlex.split(line, comments=True))]


def clients():
    """`{client: setting}` of README's table."""
    table = README.split("| client | setting |\n|---|---|\n")[1].split("\n\n")[0]
    return dict(re.fullmatch(r"\| (.*?) \| (.*) \|", line).groups() for line in table.splitlines())


def ours(command):
    """The words of a command, with the binary under test as its program."""
    words = shlex.split(command)
    assert words[0] in ("tracelake", "target/release/tracelake"), command
    return [lakes.binary(), *words[1:]]


def child(program, **env):
    """Runs Python that has only these settings."""
    done = subprocess.run([sys.executable, "-c", program], env={**os.environ, **env}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-3000:]
    # exporters tell of failures in their log only
    assert "rror" not in done.stderr, done.stderr[-3000:]


METRIC = """
import boto3
boto3.client("cloudwatch", {}).put_metric_data(Namespace="Readme", MetricData=[dict(MetricName="ReadmeOrders", Value=1)])
"""


class Program:
    """A program of ours that prints a ready line, in a folder of its own."""

    def __init__(self, command, folder):
        self.log_path = folder / "output.log"
        with open(self.log_path, "wb") as log:
            env = {**os.environ, "TMPDIR": str(folder)}
            self.process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=env)

    def output(self):
        return self.log_path.read_text()

    def ready(self):
        def line():
            assert self.process.poll() is None, self.output()
            return next((json.loads(line) for line in self.output().splitlines() if line.startswith('{"event":"ready"')), None)

        return lakes.wait_until(line, 60, what="the ready line")

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(timeout=60) == 0, self.output()


OTEL = """
import logging
from opentelemetry import metrics, trace
from opentelemetry.sdk._configuration import _OTelSDKConfigurator
_OTelSDKConfigurator()._configure()
logging.getLogger("shop").error("card declined")
with trace.get_tracer("shop").start_as_current_span("pay"):
    pass
metrics.get_meter("shop").create_counter("paid").add(1)
from opentelemetry._logs import get_logger_provider
for provider in (trace.get_tracer_provider(), get_logger_provider(), metrics.get_meter_provider()):
    provider.shutdown()
"""
OTEL_ENV = {
    "OTEL_TRACES_EXPORTER": "otlp",
    "OTEL_LOGS_EXPORTER": "otlp",
    "OTEL_METRICS_EXPORTER": "otlp",
    "OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED": "true",
}
XRAY = f"""
from aws_xray_sdk.core import xray_recorder
xray_recorder.configure(service="readme-xray", sampling=False, plugins=())
segment = xray_recorder.begin_segment("readme-xray", traceid="{TRACE}")
xray_recorder.end_segment()
"""
BOTO3 = """
import logging, boto3, watchtower
handler = watchtower.CloudWatchLogHandler("/readme", "watchtower", boto3_client=boto3.client("logs", {0}), send_interval=1)
logger = logging.Logger("w", logging.INFO)
logger.addHandler(handler)
logger.info("by watchtower {1}")
handler.close()
"""


@in_own_network
def test_its_commands_and_clients_work(tmp_path):
    remaining = [command for command in commands() if command not in ELSEWHERE]
    assert set(ELSEWHERE) <= set(commands())

    serve = "target/release/tracelake serve"
    remaining.remove(serve)
    server = Program(ours(serve), tmp_path)
    try:
        ready = server.ready()
        assert (tmp_path / "tracelake-data").is_dir()
        ports = re.findall(r"^\| (\d+)(?:, (\d+))?.*\|$", README, re.M)
        assert [int(port) for row in ports for port in row if port] == [int(ready[face].rsplit(":", 1)[1]) for face in ("http", "otlp_grpc", "otlp_http", "xray")]
        url = "http://127.0.0.1:7070"
        for path in ("/api/v1/openapi.json", "/healthz", "/readyz", "/metrics", "/"):
            assert path == "/" or f"`{path}`" in README
            assert requests.get(url + path, timeout=10).status_code == 200, path

        def count(query, table="logs"):
            answer = requests.get(f"{url}/api/v1/search", params={"q": query, "table": table, "start": "2000-01-01T00:00:00Z", "limit": 1000}, timeout=10).json()
            return len(answer["hits"])

        rows = clients()
        grpc, http, protocol = re.findall(r"`(OTEL_[A-Z_]+=[^`]+)`|`(http://[^`]+)`", rows.pop("OpenTelemetry SDKs"))
        grpc, http, protocol = grpc[0], http[1], protocol[0]
        for service, settings in (("by-grpc", [grpc]), ("by-http", [grpc.split("=")[0] + "=" + http, protocol])):
            env = OTEL_ENV | {"OTEL_SERVICE_NAME": service} | dict(setting.split("=", 1) for setting in settings)
            child(OTEL, **env)
            assert count(f'service:{service} "card declined"') == 1 and count(f"service:{service} pay", "spans") == 1
            # what README's first question finds
            child(OTEL, **(env | {"OTEL_SERVICE_NAME": "payment"}))

        (setting,) = re.findall(r"`([^`]+)`", rows.pop("X-Ray SDKs"))
        child(XRAY, **dict([setting.split("=", 1)]))
        lakes.wait_until(lambda: count("service:readme-xray", "spans") == 1, what="the segment")

        argument, of, variable = re.findall(r"`([^`]+)`", rows.pop("boto3, watchtower"))
        assert of == "logs"
        child(BOTO3.format(argument, "one"))
        child(BOTO3.format("", "two"), **{variable: url})
        assert count("by watchtower one") == count("by watchtower two") == 1

        (command,) = re.findall(r"`(aws [^`]+)`", rows.pop("AWS CLI"))
        subprocess.run([lakes.tool("aws"), *shlex.split(command)[1:]], check=True, timeout=60)
        groups = subprocess.run([lakes.tool("aws"), "logs", "describe-log-groups", "--endpoint-url", url], check=True, capture_output=True, timeout=60)
        assert "/demo" in {group["logGroupName"] for group in json.loads(groups.stdout)["logGroups"]}

        # what README asks with the AWS CLI
        (setting,) = re.findall(r"`(AWS_ENDPOINT_URL_CLOUDWATCH_LOGS=[^`]+)`", README)
        at_us = dict([setting.split("=", 1)])
        logs = lakes.client("logs", url)
        logs.create_log_stream(logGroupName="/demo", logStreamName="web-1")
        line = json.dumps({"level": "ERROR", "status": 502})
        logs.put_log_events(logGroupName="/demo", logStreamName="web-1", logEvents=[{"timestamp": int(time.time() * 1000), "message": line}])
        # a script, in the shell's words: it starts a query and shows its rows
        script = [line for line in README.splitlines() if re.match(r"query=\$\(aws logs start-query|aws logs get-query-results", line)]
        assert len(script) == 2
        for line in script:
            remaining.remove(shlex.join(shlex.split(line)))
        path = os.path.dirname(lakes.tool("aws")) + os.pathsep + os.environ["PATH"]
        done = subprocess.run(["sh", "-ec", "\nsleep 3\n".join(script)], env={**os.environ, **at_us, "PATH": path}, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        page = json.loads(done.stdout)
        assert page["status"] == "Complete" and {"field": "errors", "value": "1"} in page["results"][0], page
        for command in [command for command in remaining if "aws logs " in command]:
            remaining.remove(command)
            words = shlex.split(command)
            own = dict(word.split("=", 1) for word in words if re.match(r"AWS_\w+=", word))
            aws = [lakes.tool("aws"), *words[words.index("aws") + 1 :]]
            env = {**os.environ, **at_us, **own}
            if "start-live-tail" not in command:
                assert "502" in subprocess.run(aws, env=env, check=True, capture_output=True, text=True, timeout=60).stdout, command
                continue
            try:
                ended = subprocess.run(aws, env=env, capture_output=True, text=True, timeout=5)
            except subprocess.TimeoutExpired:
                continue
            raise AssertionError(ended.stderr)

        (command,) = re.findall(r"`(curl [^`]+)`", rows.pop("anything that posts JSON"))
        before = count("@log_stream:web-1")
        subprocess.run([*shlex.split(command), "--fail", "--silent"], check=True, timeout=60)
        assert count("@log_stream:web-1 info") == 1 and count("@log_stream:web-1") == before + 1

        argument, of, variable, call = re.findall(r"`([^`]+)`", rows.pop("CloudWatch metrics"))
        assert (of, call) == ("cloudwatch", "PutMetricData")
        child(METRIC.format(argument))
        child(METRIC.format(""), **{variable: url})
        answer = requests.post(f"{url}/api/v1/sql", json={"query": "SELECT count(*) AS n FROM metrics WHERE metric_name = 'ReadmeOrders'"}, timeout=10).json()
        assert int(answer["rows"][0][0]) == 2, answer

        # Firehose itself wants TLS on port 443: this is what it sends
        path, _ = re.findall(r"`(?:https://HOST)?([^`]+)`", rows.pop("Amazon Data Firehose"))
        delivery = {"requestId": "readme", "timestamp": int(time.time() * 1000), "records": [{"data": base64.b64encode(b"by firehose\n").decode()}]}
        answer = requests.post(url + path, json=delivery, headers={"X-Amz-Firehose-Request-Id": "readme"}, timeout=10)
        assert answer.status_code == 200 and count('"by firehose"') == 1, answer.text

        # no container is started here: README says so, and test_cli.py replays what the driver sends
        assert list(rows) == ["docker"] and "not run in our tests" in rows["docker"]
        options = dict(option.split("=", 1) for option in re.findall(r"--log-opt (\S+?=[^ `]+)", rows["docker"]))
        assert options == {"awslogs-endpoint": url, "awslogs-region": "us-east-1", "awslogs-group": "/demo", "awslogs-create-group": "true"}

        # the questions, as they stand there
        asked = [command for command in remaining if command.startswith("tracelake ")]
        follow = [command for command in asked if "--follow" in command]
        for command in asked:
            remaining.remove(command)
            if command in follow:
                continue
            done = subprocess.run(ours(command), capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, (command, done.stdout, done.stderr)
            if " search " in command:
                assert "card declined" in done.stdout
            elif " trace " in command:
                assert "readme-xray" in done.stdout
            elif " sql " in command:
                assert "payment" in done.stdout
            elif " delete " in command:
                assert done.stdout == "0 rows of logs match\n"
            else:
                assert command == "tracelake alerts"
        (follow,) = follow
        with subprocess.Popen(ours(follow), stdout=subprocess.PIPE, text=True) as tail:
            time.sleep(1)
            child(OTEL, **OTEL_ENV, OTEL_SERVICE_NAME="late", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:4317")
            assert "card declined" in tail.stdout.readline()
            tail.send_signal(signal.SIGINT)
    finally:
        server.stop()

    # S3 is not in this network: test_lake.py and the next test have it
    (s3,) = remaining
    assert s3 == "target/release/tracelake serve --store s3://bucket/prefix"

    # the commands within its text
    inline = {command for command in re.findall(r"`(tracelake [^`]+)`", README)}
    checks = {"tracelake lake verify", "tracelake wal verify"}
    lake = "tracelake lake ddl athena --location s3://bucket/prefix"
    letters = "tracelake deliver retry FILE"
    # needs a second node: test_delete.py has it
    forget = "tracelake node forget ID"
    assert inline == {"tracelake config check FILE", "tracelake rules check config/rules", lake, letters, forget} | checks, inline
    (tmp_path / "letters.ndjson").touch()
    for command in inline - {forget}:
        # the data of the server above lies where these look without being told
        folder = tmp_path if command in checks else lakes.REPO
        file = str(tmp_path / "letters.ndjson") if command == letters else "config/tracelake.toml"
        done = subprocess.run(ours(command.replace("FILE", file)), cwd=folder, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and done.stdout, (command, done.stderr)
    assert "`--rules config/rules`" in README
    server = Program([lakes.binary(), "serve", "--rules", str(lakes.REPO / "config" / "rules")], tmp_path)
    try:
        server.ready()
        assert len(requests.get(f"{url}/api/v1/alerts", timeout=10).json()["rules"]) == 5
        # outside loopback only with a token, or asked for
        for more, starts in ([], False), (["--insecure-no-auth"], True):
            flags = [f"--{face}=" for face in ("otlp-grpc", "otlp-http", "xray")]
            folder = tmp_path / f"open-{starts}"
            folder.mkdir()
            opened = Program([lakes.binary(), "serve", "--http", "0.0.0.0:7999", *flags, *more], folder)
            if starts:
                opened.ready()
                opened.stop()
            else:
                assert opened.process.wait(timeout=20) != 0 and "--insecure-no-auth" in opened.output()
    finally:
        server.stop()


def test_a_bucket_by_flag_with_the_usual_credentials(make_lake, weed):
    """`serve --store s3://bucket/prefix`; only the endpoint is not AWS's."""
    prefix = "by-flag"
    store = {key: value for key, value in weed.store().items() if key not in ("url", "access_key_id", "secret_access_key")}
    env = {"AWS_ACCESS_KEY_ID": weed.keys["aws_access_key_id"], "AWS_SECRET_ACCESS_KEY": weed.keys["aws_secret_access_key"]}
    lake = make_lake(store=f"s3://{weed.bucket}/{prefix}", config={"store": store, "ingest": {"lake_visible": "all"}}, env=env)
    body = {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"timeUnixNano": str(time.time_ns()), "body": {"stringValue": "hello"}}]}]}]}
    assert requests.post(lake.otlp_http_url + "/v1/logs", json=body, timeout=10).status_code == 200
    lake.restart()
    keys = [item["Key"] for item in weed.s3().list_objects_v2(Bucket=weed.bucket, Prefix=prefix)["Contents"]]
    places = re.search(r"```\n(STORE/.*?)```", README, re.S)[1]
    assert places.startswith("STORE/logs/dt=2026-11-22/hour=05/<block>.parquet ")
    assert [key for key in keys if re.fullmatch(rf"{prefix}/logs/dt=\d{{4}}-\d\d-\d\d/hour=\d\d/[0-9a-z]+\.parquet", key)], keys
    tops = {key.split("/")[1] for key in keys}
    assert {"logs", "_index", "_catalog"} <= tops and all(f"{top}/" in places for top in tops), tops
    assert [hit["body"] for hit in lake.hits("hello")] == ["hello"]


@in_own_network
def test_the_demo_as_it_is(tmp_path):
    """The command without any option."""
    assert DEMO in commands()
    demo = Program([lakes.binary(), *shlex.split(DEMO)[4:]], tmp_path)
    try:
        ready = demo.ready()
        output = demo.output()
        (page,) = re.findall(r"prints the page's address \(<(.*?)>\)", README)
        assert page in output and "try" in output, output
        assert ready["http"] == "127.0.0.1:7070"
        assert requests.get(page, timeout=10).status_code == 200
        # eight services over all protocols, on the default ports
        told = re.search(r'tracelake sql .*?"(SELECT .*?)"', output)[1]

        def services():
            answer = requests.post(page + "api/v1/sql", json={"query": told, "limit": 100}, timeout=10).json()
            return len({row[0] for row in answer["rows"] if row[0]}) >= 8

        lakes.wait_until(services, 30, what="eight services")
        status = requests.get(page + "api/v1/status", timeout=10).json()
        used = {entry["receiver"] for entry in status["receivers"] if entry["accepted"]}
        assert used == {"otlp", "awslogs", "xray"}, used
        # its CloudWatch Logs clients make a group when they are told that there is none, as fluent-bit does
        reasons = {reason for entry in status["receivers"] for reason in entry["reasons"]}
        assert reasons <= {"not_found"}, status["receivers"]
    finally:
        demo.stop()
    assert "tracelake-data" not in {path.name for path in tmp_path.iterdir()}, "nothing is kept"
