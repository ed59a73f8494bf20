"""The program's own commands, and the real AWS CLI, against a running server."""

import json
import os
import pathlib
import signal
import subprocess
import threading
import time

import duckdb

import requests

import lake as lakes
from test_alert import HEX, TRACE, send_errors

RULE = """\
name: checkout-errors
type: frequency
query: severity>=ERROR service:checkout
num_events: 5
timeframe: 10m
query_key: service
every: 1s
"""


def run(*args, lake=None, code=0, cwd=None):
    """The finished process of one of our commands; asked through `TRACELAKE_URL`."""
    env = {**os.environ, **({"TRACELAKE_URL": lake.url} if lake else {})}
    done = subprocess.run([lakes.binary(), *args], env=env, cwd=cwd, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, (args, done.returncode, done.stdout[-2000:], done.stderr[-2000:])
    assert "\x1b" not in done.stdout + done.stderr, "colours where no terminal reads"
    return done


def send_span(lake, name, error=False):
    now = time.time()
    segment = {"trace_id": TRACE, "id": f"{abs(hash(name)):016x}"[:16], "name": name, "start_time": now - 1.5, "end_time": now, "error": error, "fault": error}
    answer = lake.boto3("xray").put_trace_segments(TraceSegmentDocuments=[json.dumps(segment)])
    assert answer["UnprocessedTraceSegments"] == []


def test_search_trace_and_sql(lake):
    send_errors(lake, 3)
    send_errors(lake, 2, service="stock")
    send_span(lake, "front", error=True)

    # oldest first, a line a row: time, severity, service, body
    done = run("search", 'severity>=ERROR "payment refused" n<3', "--since", "15m", lake=lake)
    lines = done.stdout.splitlines()
    assert len(lines) == 5 and done.stderr == ""
    assert [line.split()[1:3] for line in lines].count(["E", "checkout"]) == 3, lines
    assert all("payment refused" in line and line.endswith("}") and line[:4].isdigit() for line in lines)
    done = run("search", "service:checkout", "--limit", "2", lake=lake)
    assert len(done.stdout.splitlines()) == 2 and "raise --limit" in done.stderr
    answer = json.loads(run("search", "service:stock", "--json", lake=lake).stdout)
    assert len(answer["hits"]) == 2 and answer["coverage"]["complete"]
    (line,) = run("search", "front", "--table", "spans", lake=lake).stdout.splitlines()
    assert line.split()[1:] == ["E", "front", "1.50", "s", "front", HEX], line

    # how it ends says what it found
    assert "nothing found" in run("search", "nosuchword", lake=lake, code=4).stderr
    done = run("search", "service:(", lake=lake, code=1)
    assert done.stdout == "" and done.stderr.startswith("error: ")
    done = run("search", "x", "--url", f"http://127.0.0.1:{lakes.free_port()}", code=1)
    assert "no server answers" in done.stderr

    # every spelling of the ID
    shown = {run("trace", spelling, lake=lake).stdout for spelling in (TRACE, HEX, HEX.upper(), f"Root={TRACE};Sampled=1", f"00-{HEX}-1111111111111111-01")}
    (shown,) = shown
    assert shown.startswith(f"trace {HEX}  ({TRACE})") and "1 spans  5 logs" in shown.splitlines()[0], shown
    assert "█" in shown and shown.count("payment refused") == 5
    assert json.loads(run("trace", TRACE, "--json", lake=lake).stdout)["n_spans"] == 1
    assert run("trace", "f" * 32, lake=lake, code=4).stderr

    done = run("sql", "SELECT service_name, count(*) AS n FROM logs GROUP BY 1 ORDER BY n DESC", lake=lake)
    assert [line.split() for line in done.stdout.splitlines()] == [["service_name", "n"], ["─" * 12, "─"], ["checkout", "3"], ["stock", "2"]]
    answer = json.loads(run("sql", "SELECT 1 AS one", "--json", lake=lake).stdout)
    assert [column["name"] for column in answer["columns"]] == ["one"] and len(answer["rows"]) == 1
    assert "only the first 1 rows" in run("sql", "SELECT * FROM logs", "--limit", "1", lake=lake).stderr
    assert run("sql", "SELECT nonsense", lake=lake, code=1).stderr.startswith("error: ")
    assert run("sql", "DROP TABLE logs", lake=lake, code=1).stderr.startswith("error: ")


class Follower:
    """`tracelake search --follow`, and the lines it has printed."""

    def __init__(self, lake, *args):
        command = [lakes.binary(), "search", "--follow", *args, "--url", lake.url]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.lines = []
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            self.lines.append(line)

    def has(self, text):
        return [line for line in list(self.lines) if text in line]


def test_search_follows(lake):
    logs = lake.boto3()
    logs.create_log_group(logGroupName="/tail")
    logs.create_log_stream(logGroupName="/tail", logStreamName="s")

    def say(level, *words):
        events = [{"timestamp": int(time.time() * 1000), "message": json.dumps({"level": level, "message": word})} for word in words]
        logs.put_log_events(logGroupName="/tail", logStreamName="s", logEvents=events)

    followers = [Follower(lake, "severity>=ERROR log_group:/tail", *more) for more in ([], ["--json"])]
    try:
        # nothing says when a tail has begun: rows do
        lake.wait_until(lambda: say("error", "probe") or all(follower.has("probe") for follower in followers), every=0.3)
        say("info", "quiet one")
        say("error", "shout one", "shout two")
        say("error", "shout three")
        for follower in followers:
            lake.wait_until(lambda: len(follower.has("shout")) == 3, what="three lines")
            assert not follower.has("quiet") and follower.process.poll() is None
        assert "shout two" in json.loads(followers[1].has("shout")[1])["body"]
    finally:
        for follower in followers:
            follower.process.send_signal(signal.SIGINT)
            follower.process.wait(timeout=10)


def test_alerts_are_listed(make_lake, tmp_path):
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "checkout-errors.yaml").write_text(RULE)
    lake = make_lake(rules=rules)
    done = run("alerts", lake=lake)
    assert done.stdout == "" and "1 rules are evaluated" in done.stderr
    send_errors(lake, 6)
    lake.wait_until(lambda: run("alerts", lake=lake).stdout.startswith("firing"), 20)
    (line,) = run("alerts", lake=lake).stdout.splitlines()
    assert "6 matching log records in 10m, limit 5" in line
    assert "checkout-errors" in line, "an alert is named by its rule"
    assert [alert["state"] for alert in json.loads(run("alerts", "--json", lake=lake).stdout)["alerts"]] == ["firing"]


def test_rules_and_settings_are_checked_offline(tmp_path):
    assert run("rules", "check", str(lakes.REPO / "config" / "rules")).stdout.endswith("5 rules are valid, 0 mistakes\n")
    (tmp_path / "good.yaml").write_text(RULE)
    (tmp_path / "bad.yaml").write_text(RULE.replace("frequency", "frequent"))
    (tmp_path / "worse.yaml").write_text(RULE.replace("num_events: 5", "num_events: many"))
    done = run("rules", "check", str(tmp_path), code=2)
    assert "1 rules are valid, 2 mistakes" in done.stdout
    assert "bad.yaml" in done.stderr and "worse.yaml" in done.stderr
    assert run("rules", "check", str(tmp_path / "nowhere.yaml"), code=1).stderr

    settings = lakes.REPO / "config" / "tracelake.toml"
    assert run("config", "check", str(settings)).stdout == f"{settings} is valid\n"
    # what it prints is a file that it takes, and says the same again
    printed = run("config", "print").stdout
    assert printed == run("config", "print", str(settings)).stdout.replace('rules = "./config/rules"\n', ""), "the file shows the defaults"
    copy = tmp_path / "copy.toml"
    copy.write_text(printed)
    assert run("config", "print", str(copy)).stdout == printed
    (tmp_path / "bad.toml").write_text("[ingest]\nflush_rows = \"many\"\n")
    assert "flush_rows" in run("config", "check", str(tmp_path / "bad.toml"), code=2).stderr
    (tmp_path / "odd.toml").write_text("[ingest]\nflash_rows = 5\n")
    assert "flash_rows" in run("config", "check", str(tmp_path / "odd.toml"), code=2).stderr
    (tmp_path / "secret.toml").write_text('[auth]\nbearer_tokens = ["hunter2hunter2hunter2hunter2hunter2"]\n')
    assert "hunter2" not in run("config", "print", str(tmp_path / "secret.toml")).stdout


def test_the_statements_for_duckdb_work(make_lake):
    lake = make_lake(config={"ingest": {"lake_visible": "all"}})
    send_errors(lake, 4)
    send_span(lake, "front")
    lake.restart()
    store = lake.data_dir / "store"
    statements = run("lake", "ddl", "duckdb", "--location", str(store)).stdout.split(";\n")
    made = {}
    connection = duckdb.connect()
    for statement in statements:
        # DuckDB makes no view of a folder without files
        table = next((path.name for path in store.iterdir() if f"{store}/{path.name}/" in statement), None)
        if table:
            connection.execute(statement)
            made[table] = connection.sql(f"SELECT count(*) FROM {table}").fetchall()[0][0]
    assert made["logs"] == 4 and made["spans"] == 1, made
    # Athena and Spark are not here: every table is named, at its place, with its partitions
    for engine, partitions in (("athena", "PARTITIONED BY (dt string, hour string)"), ("spark", "PARTITIONED BY (dt")):
        text = run("lake", "ddl", engine, "--location", "s3://bucket/prefix/").stdout
        assert text.count("CREATE ") == text.count("LOCATION 's3://bucket/prefix/"), text
        assert "s3://bucket/prefix/logs" in text and partitions in text, text


def aws(*args, **env):
    """The answer of the real AWS CLI."""
    done = subprocess.run([lakes.tool("aws"), *args], env={**os.environ, **env}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, (args, done.stderr)
    return json.loads(done.stdout) if done.stdout.strip() else None


def test_the_aws_cli(lake, tmp_path):
    at = ["--endpoint-url", lake.url]
    by_env = {"AWS_ENDPOINT_URL_CLOUDWATCH_LOGS": lake.url}
    assert aws("logs", "create-log-group", "--log-group-name", "/cli", *at) is None
    assert aws("logs", "create-log-stream", "--log-group-name", "/cli", "--log-stream-name", "s", **by_env) is None
    now = int(time.time() * 1000)
    events = tmp_path / "events.json"
    events.write_text(json.dumps([{"timestamp": now, "message": "first line"}, {"timestamp": now + 1, "message": "zweite Zeile 🚀"}]))
    put = ["logs", "put-log-events", "--log-group-name", "/cli", "--log-stream-name", "s", "--log-events"]
    assert "rejectedLogEventsInfo" not in aws(*put, f"file://{events}", **by_env)
    assert aws(*put, f"timestamp={now - 30 * 86_400_000},message=old", f"timestamp={now - 29 * 86_400_000},message=old", *at)["rejectedLogEventsInfo"] == {"tooOldLogEventEndIndex": 2}
    assert [hit["body"] for hit in lake.hits("log_group:/cli log_stream:s")] == ["zweite Zeile 🚀", "first line"]

    assert aws("logs", "put-retention-policy", "--log-group-name", "/cli", "--retention-in-days", "7", *at) is None
    (group,) = aws("logs", "describe-log-groups", "--log-group-name-prefix", "/cl", **by_env)["logGroups"]
    assert (group["logGroupName"], group["retentionInDays"]) == ("/cli", 7)
    (stream,) = aws("logs", "describe-log-streams", "--log-group-name", "/cli", *at)["logStreams"]
    assert stream["logStreamName"] == "s"
    again = subprocess.run([lakes.tool("aws"), "logs", "create-log-group", "--log-group-name", "/cli", *at], capture_output=True, text=True, timeout=60)
    assert again.returncode != 0 and "ResourceAlreadyExistsException" in again.stderr

    document = json.dumps({"trace_id": TRACE, "id": "53995c3f42cd8ad8", "name": "cli", "start_time": now / 1000 - 1, "end_time": now / 1000})
    answer = aws("xray", "put-trace-segments", "--trace-segment-documents", document, "{bad", *at)
    assert [entry["ErrorCode"] for entry in answer["UnprocessedTraceSegments"]] == ["ParseError"]
    tree = lake.trace(TRACE)
    assert [span["name"] for span in tree["spans"]] == ["cli"]
    assert aws("xray", "get-sampling-rules", AWS_ENDPOINT_URL_XRAY=lake.url)["SamplingRuleRecords"]


def test_what_the_docker_driver_sends(lake):
    """As dockerd does it: the stream first, the group where that fails, then its batches with the token of the last answer."""
    sent = json.loads((pathlib.Path(__file__).resolve().parents[1] / "fixtures" / "awslogs" / "docker.json").read_text())
    now = int(time.time() * 1000)
    for i, event in enumerate(sent["logEvents"]):
        event["timestamp"] = now + i
    names = {"logGroupName": sent["logGroupName"], "logStreamName": sent["logStreamName"]}

    def call(operation, body):
        headers = {
            "X-Amz-Target": f"Logs_20140328.{operation}",
            "Content-Type": "application/x-amz-json-1.1",
            "User-Agent": "Docker 27.3.1 (linux) aws-sdk-go-v2/1.30.3 os/linux lang/go#1.22.7 md/GOOS#linux md/GOARCH#amd64 api/cloudwatchlogs#1.38.0",
            "x-amzn-logs-format": "text",
            "Authorization": "AWS4-HMAC-SHA256 Credential=test/20261122/us-east-1/logs/aws4_request, SignedHeaders=host, Signature=0",
        }
        return requests.post(lake.url + "/", data=json.dumps(body), headers=headers, timeout=20)

    answer = call("CreateLogStream", names)
    assert (answer.status_code, answer.json()["__type"]) == (400, "ResourceNotFoundException"), answer.text
    assert call("CreateLogGroup", {"logGroupName": names["logGroupName"]}).status_code == 200
    assert call("CreateLogStream", names).status_code == 200
    # a container that starts again finds its stream
    assert call("CreateLogStream", names).json()["__type"] == "ResourceAlreadyExistsException"
    token = sent["sequenceToken"]
    for _ in range(2):
        answer = call("PutLogEvents", {**sent, "sequenceToken": token})
        assert answer.status_code == 200, answer.text
        token = answer.json()["nextSequenceToken"]
    hits = lake.hits(f"log_group:{names['logGroupName']} log_stream:{names['logStreamName']}")
    assert sorted(hit["body"] for hit in hits) == sorted([event["message"] for event in sent["logEvents"]] * 2)
