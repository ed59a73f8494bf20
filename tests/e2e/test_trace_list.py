"""Traces of a time as a list: X-Ray's filter expressions and our own search language, pages, bounds, errors."""

import json
import time

import pytest

import lake as lakes
from test_trace_search import SHOP, send_logs, send_spans
from test_xray_reads import document, put


def listed(lake, **asked):
    """All pages."""
    traces, cursor = [], None
    while True:
        page = lake.get("/api/v1/traces", **asked, **({"cursor": cursor} if cursor else {}))
        assert page["coverage"]["complete"], page["coverage"]
        traces += page["traces"]
        cursor = page["next_cursor"]
        if not cursor:
            break
    ids = [trace["trace_id"] for trace in traces]
    assert len(ids) == len(set(ids)), "a trace is told twice"
    return traces


@pytest.mark.parametrize("settings", [{}, {"ingest": {"flush_age_seconds": 1}}], ids=["fresh", "flushed"])
def test_traces_are_listed_by_filter_and_by_search(make_lake, settings):
    lake = make_lake(config=settings)
    start = time.time() - 60
    send_spans(lake, start)
    send_logs(lake, start)
    if settings:
        lake.wait_flushed()
    slow, quick, cart = sorted({trace for trace, *_ in SHOP})

    def ids(**asked):
        return sorted(trace["trace_id"] for trace in listed(lake, **asked))

    assert ids() == [slow, quick, cart]
    assert ids(filter='service("checkout")') == [slow, quick]
    # the root of `cart` failed; below the roots of the others X-Ray sees a call that did
    assert ids(filter="fault") == [cart]
    assert ids(q="error:true") == [slow, cart]
    assert ids(q='name:SELECT duration>500ms') == [slow]
    assert ids(q='name:SELECT', filter="duration > 1.9") == [slow, quick]
    assert ids(q='log:("line 4")') == [cart]
    assert ids(q="trace:({name:\"POST /pay\"} > {error:true})") == [slow]
    assert ids(q="service:nobody") == [] == ids(end="-30m")
    (trace,) = listed(lake, filter='service("cart")')
    assert trace["xray_trace_id"] == f"1-{cart[:8]}-{cart[8:]}"
    shown = {key: trace[key] for key in ("root_service", "root_name", "services", "has_fault", "span_count", "error_count", "log_count", "is_partial")}
    assert shown == {
        "root_service": "cart",
        "root_name": "GET /cart",
        "services": ["cart"],
        "has_fault": True,
        "span_count": 1,
        "error_count": 1,
        "log_count": 1,
        "is_partial": False,
    }
    assert trace["response_time_nano"] == trace["duration_nano"] == pytest.approx(0.2e9, rel=1e-5)
    # the names are those of the table, and so are the values
    lake.wait_until(lambda: len(lake.sql("SELECT DISTINCT trace_id FROM traces")) == 3, what="summaries")
    newest = f"SELECT * FROM traces WHERE trace_id = '{cart}' ORDER BY revision DESC LIMIT 1"
    (row,) = lake.sql(newest)
    assert set(trace) - set(row) == {"xray_trace_id"}
    assert set(row) - set(trace) == {"revision", "calls", "digest", "ingest_id", "node"}
    assert all(row[key] == trace[key] for key in ("root_service", "services", "span_count", "http_url", "users", "annotations", "trace_id"))


def test_pages_of_a_list_have_each_trace_once_while_others_come(make_lake):
    lake = make_lake()
    client, start = lake.boto3("xray"), time.time() - 300
    made = [document(number, start + number / 10, annotations={"odd": number % 2 == 1}) for number in range(1, 61)]
    put(client, [one for _, one in made])
    hex_of = [trace.replace("-", "")[1:] for trace, _ in made]
    newest = {number: start + number / 10 for number in range(1, 61)}
    n_late = 0
    for asked in [{}, {"q": "service:shop"}, {"filter": "annotation.odd = true"}]:
        expected = [hex_of[number - 1] for number in sorted(newest, key=newest.get, reverse=True) if "filter" not in asked or number % 2]
        seen, cursor, is_first = [], None, True
        while cursor is not None or is_first:
            page = lake.get("/api/v1/traces", limit=7, **asked, **({"cursor": cursor} if cursor else {}))
            seen += [trace["trace_id"] for trace in page["traces"]]
            assert len(page["traces"]) <= 7 and (len(page["traces"]) == 7 or page["next_cursor"] is None)
            cursor, is_first, n_late = page["next_cursor"], False, n_late + 1
            # a late segment of a trace that was told, and of one that was not
            for number in (55, 5):
                trace, _ = made[number - 1]
                newest[number] = at = start + 100 + n_late + number / 100
                late = {"name": "shop", "id": f"{n_late:08x}{number:08x}", "trace_id": trace, "parent_id": f"{number:016x}"}
                put(client, [{**late, "start_time": at, "end_time": at + 0.1}])
        assert seen == expected, asked


@pytest.mark.parametrize("settings", [{}, {"ingest": {"flush_age_seconds": 1}}], ids=["fresh", "flushed"])
def test_a_trace_is_told_once_though_the_row_that_told_it_is_replaced(make_lake, settings):
    """Segments in progress are completed between two pages; a condition on a trace holds by a span hours away from its others."""
    lake = make_lake(config=settings)
    client, now = lake.boto3("xray"), time.time() - 60
    hour, traces, in_progress = 3600, {}, {}
    for number in range(1, 31):
        trace, root = document(number, now + number / 10)
        name = {"trace_id": trace, "parent_id": root["id"]}
        below = [{**name, "name": text, "id": f"{at:08x}{number:08x}", "start_time": now - at * hour + number / 10, "end_time": now} for at, text in ((1, "middle"), (3, "marker"))]
        traces[trace.replace("-", "")[1:]] = number
        in_progress[number] = root
        put(client, [{**{key: value for key, value in root.items() if key != "end_time"}, "in_progress": True}, *below])
    for asked in [{"q": "trace:(service:marker)"}, {}]:
        seen, cursor, is_first = [], None, True
        while cursor is not None or is_first:
            page = lake.get("/api/v1/traces", limit=7, start="-5h", **asked, **({"cursor": cursor} if cursor else {}))
            assert page["coverage"]["complete"], page["coverage"]
            seen += [traces[trace["trace_id"]] for trace in page["traces"]]
            cursor, is_first = page["next_cursor"], False
            if not asked:
                # the row that told a trace goes, and one that is newer comes
                put(client, [in_progress.pop(number) for number in seen if number in in_progress])
                if "ingest" in settings:
                    lake.wait_flushed()
        assert seen == list(range(30, 0, -1)), asked
    lake.completes_spans(30)


def test_what_is_wrong_with_a_list_is_told(make_lake):
    lake = make_lake()
    for asked, code, told in [
        ({"filter": "nonsense = 5"}, "bad_filter", "nonsense"),
        ({"filter": 'group.name = "a"'}, "bad_filter", "groups"),
        ({"q": "severity:ERROR AND ("}, "bad_query", ""),
        ({"q": "duration:nonsense"}, "bad_query", "nonsense"),
        ({"cursor": "nonsense"}, "bad_cursor", "cursor"),
        ({"cursor": "q.1.1.2"}, "bad_cursor", "cursor"),
        ({"table": "spans"}, "bad_table", "traces"),
        ({"limit": "many"}, "bad_parameter", "limit"),
        ({"start": "now", "end": "-1h"}, "bad_time", "end"),
    ]:
        with pytest.raises(lakes.ApiError) as error:
            lake.get("/api/v1/traces", **asked)
        body = json.loads(error.value.text)["error"]
        assert (error.value.status, body["code"]) == (400, code), asked
        assert told in body["message"], asked


def test_exemplars_lead_from_metrics_to_traces_and_back(make_lake):
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

    import requests

    lake = make_lake()
    now, request = time.time_ns(), ExportMetricsServiceRequest()
    resource = request.resource_metrics.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "checkout"
    metric = resource.scope_metrics.add().metrics.add(name="it's.duration", unit="ms")
    point = metric.gauge.data_points.add(time_unix_nano=now, as_double=9)
    traces = [f"{number:032x}" for number in (0xA1, 0xA2, 0xA3)]
    for number, trace in enumerate(traces):
        sample = point.exemplars.add(time_unix_nano=now - number, trace_id=bytes.fromhex(trace), span_id=(number + 1).to_bytes(8, "big"))
        sample.as_int = number
        sample.filtered_attributes.add(key="shop").value.string_value = "north"
    point.exemplars.add(time_unix_nano=now, as_double=1.0)
    answer = requests.post(
        f"{lake.otlp_http_url}/v1/metrics", data=request.SerializeToString(), headers={"content-type": "application/x-protobuf"}, timeout=20
    )
    assert answer.status_code == 200, answer.text

    def found(**asked):
        answer = lake.get("/api/v1/exemplars", **asked)
        assert answer["coverage"]["complete"], answer
        return [one["trace_id"] for one in answer["exemplars"]]

    assert found() == traces, "the one of no trace leads nowhere"
    assert found(metric="it's.duration", service="checkout") == traces
    assert found(metric="other") == [] == found(service="cart") == found(end="-30m")
    assert found(trace=f"1-00000000-{traces[1][8:]}") == [traces[1]]
    cut = lake.get("/api/v1/exemplars", limit=2)
    assert (len(cut["exemplars"]), cut["truncated"]) == (2, True)
    one = cut["exemplars"][1]
    assert (one["value"], one["span_id"], one["attributes"]) == (1.0, f"{2:016x}", {"shop": "north"})
    assert (one["metric_name"], one["service_name"], one["xray_trace_id"]) == ("it's.duration", "checkout", f"1-00000000-{traces[1][8:]}")
    assert one["time_unix_nano"] == str(now - 1)
    with pytest.raises(lakes.ApiError) as error:
        lake.get("/api/v1/exemplars", trace="nonsense")
    assert json.loads(error.value.text)["error"]["code"] == "bad_trace_id"
