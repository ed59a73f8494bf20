"""CloudWatch's PutMetricData, from boto3 and in its three wire forms."""

import datetime
import json
import time

import boto3
import botocore.session
import pytest
import requests
from botocore.config import Config

from test_ledger import Books, counted

TARGET = "GraniteServiceVersion20100801.PutMetricData"


def datums(n=1):
    return [{"MetricName": f"m{i}", "Value": i + 0.5, "Unit": "Milliseconds", "Dimensions": [{"Name": "Service", "Value": "pay"}]} for i in range(n)]


def cloudwatch(lake, protocol=None, **keys):
    """A boto3 client that speaks one of the protocols that the service's model lists."""
    session = boto3.Session()
    config = Config(retries={"max_attempts": 1}, connect_timeout=5, read_timeout=20)
    credentials = {"aws_access_key_id": "test", "aws_secret_access_key": "testtest", **keys}
    if protocol:
        loader = session._session.get_component("data_loader")
        model = dict(loader.load_service_model("cloudwatch", "service-2"))
        model["metadata"] = {**model["metadata"], "protocols": [protocol], "protocol": protocol}

        class OneProtocol:
            def __getattr__(self, name):
                return getattr(loader, name)

            def load_service_model(self, service, kind, api_version=None):
                return model if (service, kind) == ("cloudwatch", "service-2") else loader.load_service_model(service, kind, api_version)

        session._session.register_component("data_loader", OneProtocol())
    return session.client("cloudwatch", endpoint_url=lake.url, region_name="us-east-1", config=config, **credentials)


@pytest.mark.parametrize("protocol", [None, "smithy-rpc-v2-cbor", "json", "query"])
def test_boto3_puts_every_kind_of_datum_and_a_kill_loses_none(make_lake, protocol):
    lake, books = make_lake(), Books()
    client = cloudwatch(lake, protocol)
    sent = []
    client.meta.events.register("before-send", lambda request, **_: sent.append(request) and None)
    at = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(minutes=1)
    client.put_metric_data(
        Namespace="Shop",
        MetricData=[
            {"MetricName": "one", "Value": 1.5, "Unit": "Milliseconds", "Timestamp": at, "StorageResolution": 1, "Dimensions": [{"Name": "Service", "Value": "pay"}]},
            {"MetricName": "many", "Values": [1, 2, 3.5], "Counts": [1, 2, 1]},
            {"MetricName": "set", "StatisticValues": {"SampleCount": 3, "Sum": 6, "Minimum": 1, "Maximum": 3}, "Unit": "Count"},
        ],
    )
    # 10 KiB and more go as gzip
    client.put_metric_data(Namespace="Shop/Load", MetricData=datums(300))
    assert any(request.headers.get("Content-Encoding") in ("gzip", b"gzip") for request in sent), "boto3 compressed"
    books.add("awsmetrics", "metrics", accepted=303)
    lake.restart(kill=True)
    books.agree(lake, "after kill -9")
    one = lake.sql("SELECT p.value, p.time_unix_nano AS t, s.unit, s.attributes['Service'] AS service FROM metric_points p JOIN metric_series s USING (series_id) WHERE p.metric_name = 'one'")
    assert [(row["value"], row["unit"], row["service"]) for row in one] == [(1.5, "ms", "pay")]
    assert abs(int(one[0]["t"]) / 1e9 - at.timestamp()) < 1.0
    summaries = lake.sql("SELECT metric_name, count, sum FROM metric_summaries ORDER BY 1")
    assert summaries == [{"metric_name": "many", "count": "4", "sum": 8.5}, {"metric_name": "set", "count": "3", "sum": 6.0}]
    namespaces = lake.sql("SELECT resource_attributes['aws.cloudwatch.namespace'] AS ns, count(DISTINCT series_id) AS n FROM metric_series GROUP BY 1 ORDER BY 1")
    assert namespaces == [{"ns": "Shop", "n": "3"}, {"ns": "Shop/Load", "n": "300"}]
    lake.restart()
    books.agree(lake, "after a restart")


@pytest.mark.parametrize("protocol", ["smithy-rpc-v2-cbor", "json", "query"])
def test_errors_are_what_boto3_reads_as_the_modelled_ones(lake, protocol):
    client = cloudwatch(lake, protocol)
    one = {"MetricName": "m", "Value": 1.0}
    for data, code in [
        ([{"MetricName": "m"}], "InvalidParameterCombination"),
        ([{**one, "Values": [1.0]}], "InvalidParameterCombination"),
        ([{**one, "Unit": "Parsecs"}], "InvalidParameterValue"),
        ([{**one, "Timestamp": datetime.datetime(2020, 1, 1)}], "InvalidParameterValue"),
        ([one] * 1001, "InvalidParameterValue"),
        ([{"MetricName": "m", "Values": [1.0] * 151}], "InvalidParameterValue"),
        ([{**one, "Dimensions": [{"Name": "n", "Value": "v"}] * 31}], "InvalidParameterValue"),
    ]:
        with pytest.raises(client.exceptions.ClientError) as error:
            client.put_metric_data(Namespace="N", MetricData=data)
        assert error.value.response["Error"]["Code"] == code, (code, error.value.response)
        assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    client.put_metric_data(Namespace="N", MetricData=[{"MetricName": "m", "Values": [1.0] * 150, "Dimensions": [{"Name": f"n{i}", "Value": "v"} for i in range(30)]}])
    client.put_metric_data(Namespace="N", MetricData=[one] * 1000)
    assert counted(lake)["awsmetrics", "metrics"] == {"accepted": 1001, "rejected": 7}
    with pytest.raises(client.exceptions.ClientError) as error:
        client.list_metrics()
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_missing_members_and_hand_made_bodies(lake):
    json_headers = {"X-Amz-Target": TARGET, "Content-Type": "application/x-amz-json-1.0"}
    answer = requests.post(lake.url, data="{}", headers=json_headers, timeout=20)
    assert (answer.status_code, answer.json()["__type"]) == (400, "MissingRequiredParameterException")
    assert answer.headers["x-amzn-query-error"] == "MissingParameter;Sender"
    form = {"Action": "PutMetricData", "Version": "2010-08-01", "Namespace": "N", "MetricData.member.1.MetricName": "m", "MetricData.member.1.Value": "1"}
    assert requests.post(lake.url, data=form, timeout=20).status_code == 200
    assert requests.post(lake.url, data=json.dumps({"Namespace": "N", "MetricData": datums()}), headers=json_headers, timeout=20).status_code == 200
    assert lake.sql("SELECT count(*) AS n FROM metric_points") == [{"n": "2"}]
    # CloudWatch Logs lives on the same path
    lake.boto3().create_log_group(logGroupName="/beside")


def test_where_keys_are_configured_calls_are_signed_for_monitoring(make_lake):
    keys = [
        {"access_key_id": "AKIDWRITE", "secret_access_key": "secret of write", "rights": ["write"]},
        {"access_key_id": "AKIDREAD", "secret_access_key": "secret of read", "rights": ["read"]},
    ]
    lake = make_lake(config={"aws": {"keys": keys}})
    for protocol in ("smithy-rpc-v2-cbor", "json", "query"):
        client = cloudwatch(lake, protocol, aws_access_key_id="AKIDWRITE", aws_secret_access_key="secret of write")
        client.put_metric_data(Namespace="N", MetricData=datums())
        for key, secret, codes in [
            ("AKIDWRITE", "wrong", ("SignatureDoesNotMatch", "InvalidSignatureException")),
            ("AKIDREAD", "secret of read", ("AccessDenied", "AccessDeniedException")),
            ("AKIDNOBODY", "wrong", ("InvalidClientTokenId", "UnrecognizedClientException")),
        ]:
            client = cloudwatch(lake, protocol, aws_access_key_id=key, aws_secret_access_key=secret)
            with pytest.raises(client.exceptions.ClientError) as error:
                client.put_metric_data(Namespace="N", MetricData=datums())
            assert error.value.response["Error"]["Code"] in codes, (protocol, error.value.response)
    assert counted(lake)["awsmetrics", "metrics"] == {"accepted": 3}
