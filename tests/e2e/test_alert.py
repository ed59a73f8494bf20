"""A rule fires and SNS is told once: rule → aws-sdk-sns → moto SNS → SQS."""

import json
import re
import time

import lake as lakes

RULE = """\
name: checkout-errors
type: frequency
query: severity>=ERROR service:checkout
num_events: 5
timeframe: 10m
query_key: service
every: 1s
realert: 10m
severity: critical
description: Checkout is failing.
notify:
  sns:
    topic_arn: {topic}
    attributes: {{team: shop}}
"""

TRACE = "1-67891233-abcdef012345678912345678"
HEX = "67891233abcdef012345678912345678"


class Inbox:
    """A queue that is subscribed to a topic."""

    def __init__(self, moto, name):
        self.sns, self.sqs = lakes.client("sns", moto), lakes.client("sqs", moto)
        self.topic = self.sns.create_topic(Name=name)["TopicArn"]
        self.queue = self.sqs.create_queue(QueueName=name)["QueueUrl"]
        arn = self.sqs.get_queue_attributes(QueueUrl=self.queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        self.sns.subscribe(TopicArn=self.topic, Protocol="sqs", Endpoint=arn)
        self.messages = []

    def read(self):
        """All messages so far."""
        while True:
            got = self.sqs.receive_message(QueueUrl=self.queue, MaxNumberOfMessages=10).get("Messages", [])
            if not got:
                return self.messages
            for message in got:
                self.messages.append(json.loads(message["Body"]))
                self.sqs.delete_message(QueueUrl=self.queue, ReceiptHandle=message["ReceiptHandle"])


def send_errors(lake, n, service="checkout"):
    logs = lake.boto3("logs")
    for make in (
        lambda: logs.create_log_group(logGroupName=f"/shop/{service}"),
        lambda: logs.create_log_stream(logGroupName=f"/shop/{service}", logStreamName="s"),
    ):
        try:
            make()
        except logs.exceptions.ResourceAlreadyExistsException:
            pass
    now = time.time_ns() // 1_000_000
    message = {"level": "ERROR", "message": "payment refused", "trace_id": TRACE}
    logs.put_log_events(
        logGroupName=f"/shop/{service}", logStreamName="s", logEvents=[{"timestamp": now, "message": json.dumps({**message, "n": i})} for i in range(n)]
    )


def alert_of(lake):
    alerts = [alert for alert in lake.get("/api/v1/alerts")["alerts"] if alert["rule"] == "checkout-errors"]
    assert len(alerts) <= 1, alerts
    return alerts[0] if alerts else None


def evaluated_again(lake, times=3):
    """Waits for so many further evaluations of the alert, and returns it."""
    for _ in range(times):
        before = (alert_of(lake) or {}).get("last_evaluated_unix_nano")
        lake.wait_until(lambda: (a := alert_of(lake)) and a["last_evaluated_unix_nano"] != before, 10, what="another evaluation")
    return alert_of(lake)


def make_alert_lake(make_lake, tmp_path, inbox, endpoint):
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "checkout-errors.yaml").write_text(RULE.format(topic=inbox.topic))
    return make_lake(
        rules=rules,
        config={"server": {"public_url": "https://lake.example"}, "alert": {"sns": {"endpoint_url": endpoint, "region": "us-east-1"}}},
        env={"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "testtest"},
    )


def test_a_firing_rule_is_told_once(make_lake, tmp_path, moto):
    inbox = Inbox(moto, "on-call")
    lake = make_alert_lake(make_lake, tmp_path, inbox, moto)
    assert [(rule["name"], rule["error"]) for rule in lake.get("/api/v1/alerts")["rules"]] == [("checkout-errors", None)]

    # one too few, and enough of another service: nothing fires
    send_errors(lake, 4)
    send_errors(lake, 9, service="stock")
    time.sleep(2.5)
    assert inbox.read() == []
    assert (alert_of(lake) or {}).get("state") in (None, "inactive")

    send_errors(lake, 2)
    lake.wait_until(lambda: inbox.read(), 20, what="a message")
    (message,) = inbox.read()
    assert message["TopicArn"] == inbox.topic
    subject, text = message["Subject"], message["Message"]
    assert re.fullmatch(r"[ -~]{1,99}", subject) and "checkout-errors" in subject
    assert f"https://lake.example/ui/trace?id={HEX}" in text
    assert "https://lake.example/ui/alert?id=" in text
    assert "Checkout is failing." in text and "payment refused" in text
    attributes = {name: value["Value"] for name, value in message["MessageAttributes"].items()}
    assert attributes["rule"] == "checkout-errors" and attributes["state"] == "firing" and attributes["team"] == "shop"
    assert attributes["severity"] == "critical" and attributes["service"] == "checkout"

    # the API says the same
    alert = lake.wait_until(lambda: (a := alert_of(lake)) and a["notifications"] and a["notifications"][0]["status"] == "delivered" and a)
    assert alert["state"] == "firing" and "checkout" in alert["group_key"]
    assert float(alert["value"]) == 6 and float(alert["threshold"]) == 5
    assert [n["channel"] for n in alert["notifications"]] == ["sns"] and alert["notifications"][0]["target"] == inbox.topic
    assert alert["samples"] and alert["samples"][0]["trace_id"] == HEX
    notifications = lake.get("/api/v1/notifications")["notifications"]
    assert len(notifications) == 1 and notifications[0]["message"] == text

    # it keeps firing, with more rows: no second message
    send_errors(lake, 3)
    lake.wait_until(lambda: float(alert_of(lake)["value"]) == 9, what="the new rows counted")
    assert evaluated_again(lake)["state"] == "firing"
    assert len(inbox.read()) == 1

    # neither after a stop nor after a crash
    fired_at = alert_of(lake)["fired_at_unix_nano"]
    for kill in (False, True):
        lake.restart(kill=kill)
        alert = evaluated_again(lake)
        assert alert["state"] == "firing" and alert["fired_at_unix_nano"] == fired_at and float(alert["value"]) == 9
        assert [n["status"] for n in alert["notifications"]] == ["delivered"]
        assert len(inbox.read()) == 1, inbox.messages


def test_a_message_outlives_an_unreachable_sns(make_lake, tmp_path, moto):
    """Made while SNS is away, it is told once SNS is back, though we crashed in between."""
    inbox = Inbox(moto, "on-call-later")
    lake = make_alert_lake(make_lake, tmp_path, inbox, f"http://127.0.0.1:{lakes.free_port()}")
    send_errors(lake, 5)
    lake.wait_until(lambda: (a := alert_of(lake)) and a["notifications"] and a["notifications"][0]["attempts"] > 0, 20, what="a failed attempt")
    assert alert_of(lake)["notifications"][0]["status"] == "pending"
    assert inbox.read() == []
    lake.config["alert"]["sns"]["endpoint_url"] = moto
    lake.restart(kill=True)
    lake.wait_until(lambda: inbox.read(), 30, what="the message")
    evaluated_again(lake)
    assert len(inbox.read()) == 1
    assert [n["status"] for n in alert_of(lake)["notifications"]] == ["delivered"]
