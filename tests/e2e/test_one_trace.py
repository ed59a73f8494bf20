"""One request told in three protocols by five real clients is one trace, by any spelling of its ID."""

import json
import logging
import time

import pytest
import watchtower
from aws_xray_sdk.core.context import Context as XRayContext
from aws_xray_sdk.core.recorder import AWSXRayRecorder
from opentelemetry import trace as otel
from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogs
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetrics
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpans
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpLogs
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpMetrics
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpans
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor


class Service:
    """A service with the OpenTelemetry SDK, all three signals over one transport."""

    def __init__(self, name, lake, transport):
        if transport == "grpc":
            where = {"endpoint": f"http://{lake.otlp_grpc}", "insecure": True}
            spans, logs, metrics = GrpcSpans(**where), GrpcLogs(**where), GrpcMetrics(**where)
        else:
            base = lake.otlp_http_url if transport == "http" else lake.url
            spans, logs, metrics = HttpSpans(f"{base}/v1/traces"), HttpLogs(f"{base}/v1/logs"), HttpMetrics(f"{base}/v1/metrics")
        resource = Resource.create({"service.name": name, "test.transport": transport})
        self.spans = TracerProvider(resource=resource)
        self.spans.add_span_processor(BatchSpanProcessor(spans))
        self.logs = LoggerProvider(resource=resource)
        self.logs.add_log_record_processor(BatchLogRecordProcessor(logs))
        self.metrics = MeterProvider([PeriodicExportingMetricReader(metrics, export_interval_millis=3_600_000)], resource)
        self.tracer, self.logger, self.meter = self.spans.get_tracer("shop"), self.logs.get_logger("shop"), self.metrics.get_meter("shop")

    def log(self, severity, body, **attributes):
        self.logger.emit(
            timestamp=time.time_ns(),
            severity_number=getattr(SeverityNumber, severity),
            severity_text=severity,
            body=body,
            attributes=attributes,
        )

    def close(self):
        # each exports what it holds; a flush before would export cumulative metrics twice
        for provider in (self.spans, self.logs, self.metrics):
            provider.shutdown()


def remote(trace_id, span_id):
    """The context an incoming request carries."""
    flags = otel.TraceFlags(otel.TraceFlags.SAMPLED)
    return otel.set_span_in_context(otel.NonRecordingSpan(otel.SpanContext(int(trace_id, 16), int(span_id, 16), True, flags)))


def send_request(lake, monkeypatch):
    """One request through five services; returns the X-Ray ID of its trace and IDs of what was sent."""
    # AWS X-Ray SDK, UDP: the front
    monkeypatch.setenv("AWS_XRAY_DAEMON_ADDRESS", lake.xray)
    recorder = AWSXRayRecorder()
    recorder.configure(service="gateway", sampling=False, context=XRayContext(), plugins=())
    segment = recorder.begin_segment("gateway")
    segment.put_http_meta("method", "POST")
    segment.put_http_meta("url", "https://shop.example/checkout")
    segment.put_annotation("customer", "anna")
    xray_id = segment.trace_id
    hex_id = xray_id.replace("1-", "", 1).replace("-", "")
    subsegment = recorder.begin_subsegment("checkout", namespace="remote")

    # OTLP/gRPC, then OTLP/HTTP on each port, each below the one before
    checkout, payment, ledger = Service("checkout", lake, "grpc"), Service("payment", lake, "http"), Service("ledger", lake, "http-7070")
    sent = {"segment": segment.id, "subsegment": subsegment.id}
    with checkout.tracer.start_as_current_span("POST /checkout", remote(hex_id, subsegment.id), otel.SpanKind.SERVER) as span:
        sent["checkout"] = f"{span.get_span_context().span_id:016x}"
        checkout.log("INFO", "checkout began", order="o-1")
        # within a sampled span, so the SDK attaches an exemplar with the trace
        checkout.meter.create_counter("checkout.requests").add(3, {"tier": "gold"})
        checkout.meter.create_histogram("checkout.duration", unit="ms").record(12.5)
        with payment.tracer.start_as_current_span("charge", kind=otel.SpanKind.SERVER) as span:
            sent["payment"] = f"{span.get_span_context().span_id:016x}"
            payment.log("ERROR", {"msg": "card declined", "code": 51})
            payment.meter.create_gauge("payment.queue").set(7.25)
            span.set_status(otel.StatusCode.ERROR, "declined")
            with ledger.tracer.start_as_current_span("book", kind=otel.SpanKind.INTERNAL) as span:
                sent["ledger"] = f"{span.get_span_context().span_id:016x}"
                ledger.log("WARN", "Überlauf im Hauptbuch — 台帳")
                ledger.meter.create_up_down_counter("ledger.open").add(-2)
    recorder.end_subsegment()
    recorder.end_segment()
    for service in (checkout, payment, ledger):
        service.close()

    # CloudWatch Logs API: watchtower, then boto3, with the ID only in the text or in JSON
    logs = lake.boto3("logs")
    handler = watchtower.CloudWatchLogHandler("/shop/mailer", "mailer-1", boto3_client=logs, send_interval=1)
    logger = logging.Logger("mailer", logging.INFO)
    logger.addHandler(handler)
    logger.info("mail queued AWS-XRAY-TRACE-ID: %s@%s", xray_id, sent["segment"])
    logger.warning({"message": "mail delayed", "xray_trace_id": xray_id, "attempt": 2})
    handler.flush()
    handler.close()
    logs.create_log_group(logGroupName="/aws/lambda/stock")
    logs.create_log_stream(logGroupName="/aws/lambda/stock", logStreamName="2026/01/01/[$LATEST]abc")
    now = time.time_ns() // 1_000_000
    answer = logs.put_log_events(
        logGroupName="/aws/lambda/stock",
        logStreamName="2026/01/01/[$LATEST]abc",
        logEvents=[
            {"timestamp": now, "message": f"REPORT RequestId: 1b2c Duration: 3.14 ms XRAY TraceId: {xray_id} SegmentId: {sent['segment']} Sampled: true"},
            {"timestamp": now + 1, "message": json.dumps({"level": "error", "message": "stock empty", "trace_id": hex_id})},
            {"timestamp": now + 2, "message": "a line of another request"},
        ],
    )
    assert "rejectedLogEventsInfo" not in answer
    return xray_id, hex_id, sent


BODIES = {
    "checkout began": "INFO",
    "card declined": "ERROR",
    "Überlauf im Hauptbuch": "WARN",
    "mail queued": None,
    "mail delayed": None,
    "REPORT RequestId": None,
    "stock empty": "ERROR",
}


def check_trace(lake, xray_id, hex_id, sent):
    by_xray = lake.wait_until(
        lambda: (t := lake.trace(xray_id)) and t["n_spans"] == 5 and t["n_logs"] == len(BODIES) and t, what="a trace of 5 spans and 7 logs"
    )
    by_w3c = lake.trace(hex_id)
    assert (by_xray["trace_id"], by_xray["xray_trace_id"]) == (hex_id, xray_id)
    for key in by_xray.keys() - {"coverage", "took_ms"}:
        assert by_xray[key] == by_w3c[key], key
    for other in (hex_id.upper(), f"00-{hex_id}-{sent['segment']}-01", f"Root={xray_id};Parent={sent['segment']};Sampled=1"):
        assert lake.trace(other)["spans"] == by_xray["spans"], other
    assert by_xray["coverage"]["complete"]
    assert set(by_xray["services"]) >= {"gateway", "checkout", "payment", "ledger"}
    assert by_xray["n_errors"] >= 1

    # one chain, depth first
    spans = by_xray["spans"]
    order = ["segment", "subsegment", "checkout", "payment", "ledger"]
    assert [span["span_id"] for span in spans] == [sent[name] for name in order]
    assert [span["parent"] for span in spans] == [-1, 0, 1, 2, 3]
    assert [span["depth"] for span in spans] == [0, 1, 2, 3, 4]
    assert not any(span["missing_parent"] or span["in_progress"] for span in spans)
    assert [span["service_name"] for span in spans] == ["gateway", "gateway", "checkout", "payment", "ledger"]
    assert spans[3]["status_code"] == "ERROR" and spans[3]["status_message"] == "declined"
    assert "anna" in spans[0]["attributes"].values()
    assert spans[0]["attributes"]["http.request.method"] == "POST"

    # each line once, from every protocol, at its span where it named one
    logs = by_xray["logs"]
    for text, severity in BODIES.items():
        hits = [log for log in logs if text in log["body"]]
        assert len(hits) == 1, f"{text}: {hits}"
        assert severity is None or hits[0]["severity"] == severity, text
        assert hits[0]["trace_id"] == hex_id
    assert [int(log["time_unix_nano"]) for log in logs] == sorted(int(log["time_unix_nano"]) for log in logs)
    at = {text: spans[log["span"]]["span_id"] for text in BODIES for log in logs if text in log["body"] and log["span"] >= 0}
    assert at["checkout began"] == sent["checkout"]
    assert at["card declined"] == sent["payment"]
    assert at["Überlauf im Hauptbuch"] == sent["ledger"]
    assert at["mail queued"] == at["REPORT RequestId"] == sent["segment"]
    assert {log["log_group"] for log in logs} == {None, "/shop/mailer", "/aws/lambda/stock"}
    return by_xray


@pytest.mark.parametrize("settings", [{}, {"ingest": {"flush_age_seconds": 1}}], ids=["fresh", "flushed"])
def test_one_trace_of_three_protocols(make_lake, monkeypatch, settings):
    lake = make_lake(config=settings)
    xray_id, hex_id, sent = send_request(lake, monkeypatch)
    before = check_trace(lake, xray_id, hex_id, sent)

    # the search finds it by the bare ID, and the line of another request is not part of it
    assert len(lake.hits(xray_id)) == len(BODIES)
    assert len(lake.hits(f"trace_id:{hex_id}")) == len(BODIES)
    assert [hit["trace_id"] for hit in lake.hits('"another request"')] == [None]
    assert len(lake.hits("code:51")) == 1

    # metrics of both transports, and the exemplar carries the trace
    rows = lake.sql("SELECT * FROM metric_points")
    points = {row["metric_name"]: row for row in rows if not row["metric_name"].startswith("otel.")}
    assert len(points) == sum(not row["metric_name"].startswith("otel.") for row in rows) == 3
    assert int(points["checkout.requests"]["value_int"]) == 3
    assert float(points["payment.queue"]["value"]) == 7.25
    assert int(points["ledger.open"]["value_int"]) == -2
    assert {points[name]["service_name"] for name in ("checkout.requests", "payment.queue", "ledger.open")} == {"checkout", "payment", "ledger"}
    histogram = [row for row in lake.sql("SELECT * FROM metric_histograms") if row["metric_name"] == "checkout.duration"]
    assert [(int(row["count"]), float(row["sum"])) for row in histogram] == [(1, 12.5)]
    exemplars = lake.sql("SELECT metric_name, trace_id, span_id FROM metric_exemplars")
    assert {"metric_name": "checkout.duration", "trace_id": hex_id, "span_id": sent["checkout"]} in exemplars

    # the same after a restart, from blocks or from the log
    if settings:
        lake.wait_flushed()
    lake.restart(kill=not settings)
    after = check_trace(lake, xray_id, hex_id, sent)
    assert after["spans"] == before["spans"] and after["logs"] == before["logs"]
