"""X-Ray's sampling rules, groups and tags by boto3 and the AWS CLI: what is defined is kept over a restart, known to other nodes, and used."""

import json
import os
import subprocess
import time

import pytest
from botocore.exceptions import ClientError

import lake as lakes
from test_xray_reads import document, put, summaries

RULE = {
    "RuleName": "pay",
    "ResourceARN": "*",
    "Priority": 5,
    "FixedRate": 0.25,
    "ReservoirSize": 10,
    "ServiceName": "shop-*",
    "ServiceType": "*",
    "Host": "*",
    "HTTPMethod": "POST",
    "URLPath": "/pay*",
    "Version": 1,
    "Attributes": {"tier": "gold"},
}


def refused(call, name, *said, **asked):
    with pytest.raises(ClientError) as error:
        call(**asked)
    assert error.value.response["Error"]["Code"] == name, error.value
    message = error.value.response.get("Message") or error.value.response["Error"]["Message"]
    assert all(word in message for word in said), message


def test_sampling_rules_are_kept_over_a_restart_and_shared_among_clients(make_lake):
    lake = make_lake(config={"xray": {"sampling_rules": [{"name": "fixed", "priority": 7}], "max_sampling_rules": 2}})
    client = lake.boto3("xray")
    made = client.create_sampling_rule(SamplingRule=RULE, Tags=[{"Key": "team", "Value": "a"}])["SamplingRuleRecord"]
    arn = made["SamplingRule"].pop("RuleARN")
    assert made["SamplingRule"] == RULE
    changed = client.update_sampling_rule(SamplingRuleUpdate={"RuleARN": arn, "FixedRate": 0.5, "Priority": 9})["SamplingRuleRecord"]
    assert (changed["SamplingRule"]["FixedRate"], changed["SamplingRule"]["Priority"], changed["SamplingRule"]["URLPath"]) == (0.5, 9, "/pay*")
    client.update_sampling_rule(SamplingRuleUpdate={"RuleName": "Default", "ReservoirSize": 2, "FixedRate": 0.1})

    other = {**RULE, "RuleName": "other"}
    refused(client.create_sampling_rule, "InvalidRequestException", "already exists", SamplingRule=RULE)
    refused(client.create_sampling_rule, "InvalidRequestException", "samplingRule.priority", SamplingRule={**other, "Priority": 10_000})
    refused(client.update_sampling_rule, "InvalidRequestException", "not found", SamplingRuleUpdate={"RuleName": "nobody"})
    refused(client.update_sampling_rule, "InvalidRequestException", "configuration file", SamplingRuleUpdate={"RuleName": "fixed", "FixedRate": 1})
    refused(client.delete_sampling_rule, "InvalidRequestException", "Default", RuleName="Default")
    refused(client.create_sampling_rule, "RuleLimitExceededException", "2", SamplingRule=other)
    refused(client.list_tags_for_resource, "ResourceNotFoundException", ResourceARN=arn + "x")

    def rules():
        records = client.get_paginator("get_sampling_rules").paginate().build_full_result()["SamplingRuleRecords"]
        return [(one["SamplingRule"]["RuleName"], one["SamplingRule"]["FixedRate"], one["SamplingRule"]["ReservoirSize"]) for one in records]

    expected = [("fixed", 0.05, 1), ("pay", 0.5, 10), ("Default", 0.1, 2)]
    assert rules() == expected
    lake.kill()
    lake.start()
    client = lake.boto3("xray")
    assert rules() == expected
    assert client.list_tags_for_resource(ResourceARN=arn)["Tags"] == [{"Key": "team", "Value": "a"}]
    client.tag_resource(ResourceARN=arn, Tags=[{"Key": "team", "Value": "b"}, {"Key": "x", "Value": ""}])
    client.untag_resource(ResourceARN=arn, TagKeys=["x"])
    assert client.list_tags_for_resource(ResourceARN=arn)["Tags"] == [{"Key": "team", "Value": "b"}]

    def quota(number):
        said = {"RuleName": "pay", "ClientID": f"{number:024x}", "Timestamp": time.time(), "RequestCount": 7, "SampledCount": 3, "BorrowCount": 1}
        answer = client.get_sampling_targets(SamplingStatisticsDocuments=[said, {**said, "RuleName": "nobody"}])
        assert [one["RuleName"] for one in answer["UnprocessedStatistics"]] == ["nobody"]
        (target,) = answer["SamplingTargetDocuments"]
        assert target["ReservoirQuotaTTL"].timestamp() > time.time() + 5
        return target["ReservoirQuota"], answer["LastRuleModification"]

    # all three are known after their first call; from their second on they share
    first = [quota(number)[0] for number in range(3)]
    assert first == [10, 0, 0]
    assert [quota(number)[0] for number in range(3)] == [4, 3, 3]
    sums = client.get_paginator("get_sampling_statistic_summaries").paginate().build_full_result()["SamplingStatisticSummaries"]
    assert sum(one["RequestCount"] for one in sums if one["RuleName"] == "pay") == 42
    before = quota(0)[1]
    time.sleep(0.01)
    client.delete_sampling_rule(RuleName="pay")
    assert [name for name, _, _ in rules()] == ["fixed", "Default"]
    said = {"RuleName": "Default", "ClientID": "0" * 24, "Timestamp": time.time(), "RequestCount": 0, "SampledCount": 0}
    assert client.get_sampling_targets(SamplingStatisticsDocuments=[said])["LastRuleModification"] > before


def test_groups_name_expressions(make_lake):
    lake = make_lake()
    client = lake.boto3("xray")
    now = time.time()
    made = [document(number, now - 30 + number, took=number, fault=number % 2 == 0) for number in range(1, 7)]
    put(client, [one for _, one in made])
    group = client.create_group(GroupName="slow", FilterExpression="duration >= 4", Tags=[{"Key": "team", "Value": "a"}])["Group"]
    client.create_group(GroupName="bad", FilterExpression="fault", InsightsConfiguration={"InsightsEnabled": True, "NotificationsEnabled": True})
    refused(client.create_group, "InvalidRequestException", "already exists", GroupName="slow")
    refused(client.create_group, "InvalidRequestException", "character 1", GroupName="wrong", FilterExpression="speed > 1")
    refused(client.delete_group, "InvalidRequestException", "Default", GroupName="Default")
    refused(client.get_group, "InvalidRequestException", "not found", GroupName="nobody")

    def found(expression):
        return sorted(int(one["Id"].split("-")[2], 16) for one in summaries(client, FilterExpression=expression))

    assert found('group.name = "slow"') == [4, 5, 6]
    assert found('group.name = "slow" AND group.name = "bad"') == [4, 6]
    assert found(f'group.arn = "{group["GroupARN"]}" AND ok') == [5]
    changed = client.update_group(GroupARN=group["GroupARN"], FilterExpression="duration >= 5")["Group"]
    assert (changed["GroupARN"], changed["FilterExpression"]) == (group["GroupARN"], "duration >= 5")
    assert found('group.name = "slow"') == [5, 6]
    lake.kill()
    lake.start()
    client = lake.boto3("xray")
    groups = client.get_paginator("get_groups").paginate().build_full_result()["Groups"]
    assert [(one["GroupName"], one.get("FilterExpression")) for one in groups] == [("Default", None), ("bad", "fault"), ("slow", "duration >= 5")]
    assert client.get_group(GroupName="bad")["Group"]["InsightsConfiguration"] == {"InsightsEnabled": True, "NotificationsEnabled": True}
    assert client.list_tags_for_resource(ResourceARN=group["GroupARN"])["Tags"] == [{"Key": "team", "Value": "a"}]
    client.delete_group(GroupARN=group["GroupARN"])
    assert found('group.name = "slow"') == []
    assert client.get_insight_summaries(StartTime=now - 60, EndTime=now, GroupName="bad")["InsightSummaries"] == []


def test_what_is_asked_in_passing_is_answered(lake):
    client = lake.boto3("xray")
    assert client.get_encryption_config()["EncryptionConfig"] == {"Status": "ACTIVE", "Type": "NONE"}
    assert client.put_encryption_config(Type="NONE")["EncryptionConfig"]["Type"] == "NONE"
    refused(client.put_encryption_config, "InvalidRequestException", "KMS", Type="KMS", KeyId="alias/x")
    assert client.get_indexing_rules()["IndexingRules"][0]["Rule"]["Probabilistic"]["ActualSamplingPercentage"] == 100
    assert client.get_trace_segment_destination() ["Destination"] == "XRay"
    refused(client.update_trace_segment_destination, "InvalidRequestException", Destination="CloudWatchLogs")
    assert client.list_resource_policies()["ResourcePolicies"] == []
    refused(client.put_resource_policy, "UnknownOperationException", PolicyName="x", PolicyDocument="{}")
    refused(client.get_insight, "InvalidRequestException", "not found", InsightId="0b7a3f5e-0c1d-4e2f-8a3b-4c5d6e7f8091")


def test_the_aws_cli_defines_rules_and_groups(lake):
    def cli(*arguments):
        command = [lakes.tool("aws"), "xray", *arguments, "--endpoint-url", lake.url, "--output", "json"]
        keys = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_DEFAULT_REGION": "us-east-1"}
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, **keys})
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else None

    made = cli("create-sampling-rule", "--sampling-rule", json.dumps(RULE), "--tags", "Key=team,Value=a")
    assert made["SamplingRuleRecord"]["SamplingRule"]["RuleName"] == "pay"
    cli("update-sampling-rule", "--sampling-rule-update", "RuleName=pay,ReservoirSize=3")
    names = [one["SamplingRule"]["RuleName"] for one in cli("get-sampling-rules")["SamplingRuleRecords"]]
    assert names == ["pay", "Default"]
    assert cli("delete-sampling-rule", "--rule-name", "pay")["SamplingRuleRecord"]["SamplingRule"]["ReservoirSize"] == 3
    assert cli("create-group", "--group-name", "slow", "--filter-expression", "duration > 1")["Group"]["FilterExpression"] == "duration > 1"
    assert [one["GroupName"] for one in cli("get-groups")["Groups"]] == ["Default", "slow"]
    cli("delete-group", "--group-name", "slow")
    assert cli("get-sampling-statistic-summaries")["SamplingStatisticSummaries"] == []
