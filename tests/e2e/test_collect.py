"""The collector: pulls log groups out of moto, and out of another tracelake, through a proxy that throttles, fails, cuts connections and says things twice."""

import collections
import time

import lake as lakes
from test_cwl_reads import now
from test_ledger import Books

AWS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "testtest"}
REGION = "eu-west-1"
GROUP = "/shop/web"


def collecting(proxy, **source):
    source = {"name": "prod", "region": REGION, "endpoint_url": proxy.url, "log_groups": ["/shop/*"], "since": "4d", **source}
    return {"collect": {"poll_seconds": 1, "discover_seconds": 2, "max_requests_per_second": 100, "overlap_seconds": 60, "sources": [source]}}


class Origin:
    """A boto3 client of where events come from, and what was put there."""

    def __init__(self, client):
        self.client, self.put_there = client, collections.Counter()

    def create(self, group, *streams):
        self.client.create_log_group(logGroupName=group)
        for stream in streams:
            self.client.create_log_stream(logGroupName=group, logStreamName=stream)

    def put(self, group, stream, n, first, last):
        """`n` events between two times, some of them at the same time and with the same text."""
        times = sorted(first + (last - first) * i // n for i in range(n))
        events = [{"timestamp": t, "message": f"{stream} {len(self.put_there)} {i // 2}"} for i, t in enumerate(times)]
        # a batch spans a day at most
        while events:
            batch = [e for e in events if e["timestamp"] - events[0]["timestamp"] < 86_000_000][:200]
            answer = self.client.put_log_events(logGroupName=group, logStreamName=stream, logEvents=batch)
            assert "rejectedLogEventsInfo" not in answer
            self.put_there.update((group, stream, e["timestamp"], e["message"]) for e in batch)
            events = events[len(batch) :]

    def total(self, prefix="/shop/"):
        return sum(n for (group, *_), n in self.put_there.items() if group.startswith(prefix))


def rows(lake):
    found = lake.sql("SELECT aws_log_group AS g, aws_log_stream AS s, time_unix_nano AS t, body AS b FROM logs", limit=100_000)
    return collections.Counter((r["g"], r["s"], int(r["t"]) // 1_000_000, r["b"]) for r in found)


def arrived(lake, origin, timeout=90):
    """All that was put there is here, once, and stays so."""
    want = collections.Counter({k: n for k, n in origin.put_there.items() if k[0].startswith("/shop/")})
    lake.wait_until(lambda: sum(rows(lake).values()) >= sum(want.values()), timeout, 0.3, what="all events pulled")
    time.sleep(2.5)
    have = rows(lake)
    assert (have - want, want - have) == (collections.Counter(), collections.Counter())


def source_of(lake):
    return lake.status()["collect"][0]


def test_moto_is_backfilled_and_followed_through_faults_and_kills(make_lake, make_proxy, moto):
    origin = Origin(lakes.client("logs", moto, region_name=REGION))
    origin.create(GROUP, "a", "b")
    origin.create("/shop/worker", "a")
    origin.create("/private", "a")
    start = now()
    origin.put(GROUP, "a", 400, start - 3 * 86_400_000, start - 5_000)
    origin.put(GROUP, "b", 150, start - 2 * 86_400_000, start - 3_600_000)
    origin.put("/shop/worker", "a", 100, start - 90_000, start - 1_000)
    origin.put("/private", "a", 20, start - 90_000, start - 1_000)
    proxy, books = make_proxy(moto, faults=0.25, twice=0.3), Books()
    lake = make_lake(config=collecting(proxy), env=AWS)
    lake.wait_until(lambda: sum(rows(lake).values()) > 100, 60, 0.1)
    for _ in range(3):
        lake.restart(kill=True)
        time.sleep(1.0)
    arrived(lake, origin)
    # new ones, some of them late, and a new group, while the faults go on and it is killed again
    origin.put(GROUP, "b", 120, now() - 30_000, now())
    origin.create("/shop/new", "x")
    origin.put("/shop/new", "x", 60, now() - 7_200_000, now())
    time.sleep(0.5)
    lake.restart(kill=True)
    arrived(lake, origin)
    lake.restart()
    origin.put(GROUP, "a", 30, now() - 20_000, now())
    arrived(lake, origin)
    assert all(proxy.counts[kind] > 0 for kind in ("throttled", "failed", "cut before", "cut behind", "unavailable", "twice")), proxy.counts
    books.add("collect", "logs", accepted=origin.total())
    books.agree(lake, "at the end")
    shown = source_of(lake)
    assert (shown["name"], shown["n_follow"], shown["n_backfill"], shown["n_failing"], shown["percent"]) == ("prod", 3, 0, 0, 100.0)
    assert shown["known"] > 0 and sorted(group["log_group"] for group in shown["log_groups"]) == ["/shop/new", GROUP, "/shop/worker"]
    assert sum(group["events"] for group in shown["log_groups"]) <= origin.total()


def test_one_tracelake_pulls_from_another_while_both_are_killed(make_lake, make_proxy):
    there = make_lake("there")
    origin = Origin(there.boto3())
    origin.create(GROUP, "a", "b")
    start = now()
    origin.put(GROUP, "a", 500, start - 2 * 86_400_000, start - 1_000)
    proxy = make_proxy(there.url, faults=0.2, twice=0.2)
    here = make_lake("here", config={**collecting(proxy), "ingest": {"flush_age_seconds": 1}}, env=AWS)
    here.wait_until(lambda: sum(rows(here).values()) > 50, 60, 0.1)
    there.kill()
    time.sleep(1.0)
    here.restart(kill=True)
    there.start(same_ports=True)
    origin.client = there.boto3()
    origin.put(GROUP, "b", 200, now() - 40_000, now())
    arrived(here, origin)
    here.restart(kill=True)
    origin.put(GROUP, "b", 50, now() - 10_000, now())
    arrived(here, origin)
    # the calls of CloudWatch Logs show the same on both sides
    shown = lambda lake, stream: [(e["timestamp"], e["message"]) for e in lake.boto3().filter_log_events(logGroupName=GROUP, logStreamNames=[stream])["events"]]
    for stream in "ab":
        assert sorted(shown(here, stream)) == sorted(shown(there, stream)) != []
    books = Books()
    books.add("collect", "logs", accepted=origin.total())
    books.agree(here, "at the end")


def test_progress_is_shown_streams_are_chosen_and_an_error_holds_up_no_other_group(make_lake, make_proxy):
    there = make_lake("there")
    origin = Origin(there.boto3())
    for group in (GROUP, "/shop/secret"):
        origin.create(group, "web-1", "db-1")
        for stream in ("web-1", "db-1"):
            origin.put(group, stream, 10, now() - 3_600_000, now() - 1_000)
    proxy = make_proxy(there.url)
    proxy.denied.add("/shop/secret")
    here = make_lake("here", config=collecting(proxy, log_streams=["web-*"]), env=AWS)
    here.wait_until(lambda: (source_of(here)["n_follow"], source_of(here)["n_failing"]) == (1, 1), 40)
    secret = next(group for group in source_of(here)["log_groups"] if group["log_group"] == "/shop/secret")
    assert secret["stage"] == "failing" and "AccessDeniedException" in secret["error"]
    assert {(group, stream) for group, stream, *_ in rows(here)} == {(GROUP, "web-1")}
    assert sum(rows(here).values()) == 10
    assert "cannot be collected" in here.log_path.read_text()
    counted = {line.split(" ")[0]: float(line.split(" ")[1]) for line in here.session.get(here.url + "/metrics").text.splitlines() if line.startswith("tracelake_collect_")}
    assert counted['tracelake_collect_events_total{outcome="kept"}'] == 10 and counted['tracelake_collect_events_total{outcome="left_out"}'] >= 10


def test_collecting_ends_at_until_and_metric_filters_see_what_is_pulled(make_lake, make_proxy):
    there = make_lake("there")
    origin = Origin(there.boto3())
    origin.create(GROUP, "a")
    start = now()
    origin.put(GROUP, "a", 30, start - 7_200_000, start - 3_600_000)
    origin.put(GROUP, "a", 10, start - 600_000, start)
    until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(start // 1000 - 1_800))
    proxy = make_proxy(there.url)
    config = collecting(proxy, until=until)
    here = make_lake("here", config={}, env=AWS)
    here.boto3().create_log_group(logGroupName=GROUP)
    transformation = {"metricName": "Pulled", "metricNamespace": "Shop", "metricValue": "1"}
    here.boto3().put_metric_filter(logGroupName=GROUP, filterName="f", filterPattern="", metricTransformations=[transformation])
    here.stop()
    here.config = config
    here.start()
    here.wait_until(lambda: source_of(here)["n_done"] == 1, 40)
    assert sum(rows(here).values()) == 30
    assert here.sql("SELECT count(*) AS n FROM metric_points WHERE metric_name = 'Pulled'") == [{"n": "30"}]
