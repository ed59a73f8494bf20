"""What questions take from a bucket of which the machine has no copy: requests and bytes, and the same answers."""

import json
import os
import random
import shutil
import struct
import time

import requests
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

# so many that both objects of a block are larger than what is fetched whole
N_ROWS = int(os.environ.get("COLD_ROWS", "30000"))
A_REQUEST = 10_000
TRACE = "5759e988bd862e3fe1be46a994272793"


def fill(lake):
    """Rows of the last seconds, each with words of its own; one is the needle, three are of one trace."""
    words = random.Random(7)
    begun = time.time_ns() - N_ROWS * 1000
    for first in range(0, N_ROWS, A_REQUEST):
        request = ExportLogsServiceRequest()
        resource = request.resource_logs.add()
        resource.resource.attributes.add(key="service.name").value.string_value = "cart"
        records = resource.scope_logs.add().log_records
        for n in range(first, min(first + A_REQUEST, N_ROWS)):
            record = records.add(time_unix_nano=begun + n * 1000, severity_number=17 if n % 1000 == 0 else 9)
            own = " ".join(f"{words.getrandbits(64):016x}" for _ in range(6))
            record.body.string_value = f"common request {own} {'needle' if n == N_ROWS // 3 else 'hay'}"
            trace = TRACE if n % (N_ROWS // 3) == 5 else f"{words.getrandbits(128):032x}"
            record.trace_id = bytes.fromhex(trace)
        headers = {"Content-Type": "application/x-protobuf"}
        response = requests.post(lake.otlp_http_url + "/v1/logs", data=request.SerializeToString(), headers=headers, timeout=120)
        assert response.status_code == 200, response.text


def cold(lake):
    """The same lake with nothing of the bucket on its disk."""
    lake.stop()
    shutil.rmtree(lake.data_dir / "cache")
    lake.start()


def print_tail(index):
    """What the parts of an index take."""
    offset, length = struct.unpack("<QI", index[-20:-8])
    contents = json.loads(index[offset : offset + length])
    n_rows, tail = contents["n_rows"], len(index) - contents["tail"]["start"]
    parts = {part["name"].split(".")[-1]: part["length"] for part in contents["parts"]}
    print(f"{n_rows} rows, index {len(index)} bytes, tail {tail} ({tail / n_rows:.2f} a row), contents {length}, parts {parts}")


# what is asked, and the requests it may take: of each block, and beside that for rows (of a row group of 128 Ki rows, one row's pages
# lie in up to four places that are far from one another)
QUESTIONS = {
    "a rare word": (lambda lake: lake.search("needle"), 2, 6),
    "an absent word": (lambda lake: lake.search("nosuchword"), 2, 0),
    "two words": (lambda lake: lake.search("common needle"), 4, 6),
    "a trace": (lambda lake: lake.trace(TRACE), 3, 12),
    "the newest hundred": (lambda lake: lake.search("common", limit=100), 5, 4),
    "a count": (lambda lake: lake.get("/api/v1/count", q="common"), 2, 0),
    "a severity": (lambda lake: lake.get("/api/v1/count", q="severity:ERROR"), 2, 0),
    "services": (lambda lake: lake.get("/api/v1/count", by="service_name"), 2, 0),
}


def answer_of(asked):
    return json.dumps({key: value for key, value in asked.items() if key not in ("coverage", "took_ms")}, sort_keys=True)


def test_a_cold_bucket_is_read_in_few_requests(make_lake, weed):
    lake = make_lake(config={"store": weed.store(), "ingest": {"flush_age_seconds": 15}})
    fill(lake)
    lake.wait_flushed(timeout=300)
    objects = weed.s3().list_objects_v2(Bucket=weed.bucket, Prefix=lake.config["store"]["url"].split("/")[-1] + "/_")["Contents"]
    for thing in objects:
        if thing["Key"].endswith(".idx"):
            print_tail(weed.s3().get_object(Bucket=weed.bucket, Key=thing["Key"])["Body"].read())
    in_bucket = sum(thing["Size"] for thing in objects if thing["Key"].endswith((".parquet", ".idx")))
    warm = {name: ask(lake) for name, (ask, _, _) in QUESTIONS.items()}
    assert len(warm["a rare word"]["hits"]) == 1 and warm["an absent word"]["hits"] == []
    assert len(warm["a trace"]["logs"]) == 3 and len(warm["the newest hundred"]["hits"]) == 100
    for name, (ask, a_block, beside) in QUESTIONS.items():
        assert warm[name]["coverage"]["store_gets"] == 0, "what was flushed is here"
        cold(lake)
        answer = ask(lake)
        coverage = answer["coverage"]
        print(f"{name}: {coverage['blocks_read']} blocks, {coverage['store_gets']} GETs, {coverage['store_bytes']} of {in_bucket} bytes")
        assert coverage["complete"] and coverage["problems"] == [], coverage
        assert answer_of(answer) == answer_of(warm[name]), name
        assert coverage["store_gets"] <= a_block * coverage["blocks_read"] + beside, (name, coverage)
        assert coverage["store_bytes"] < in_bucket, (name, coverage)
        again = ask(lake)
        assert again["coverage"]["store_gets"] == 0 and answer_of(again) == answer_of(answer), (name, again["coverage"])
