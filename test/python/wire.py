"""Writes internal/awsdouble/testdata/wire.jsonl: for each AWS call that Biplane's
vendor role makes, the request as the AWS CLI puts it on the wire, beside the
IAM actions and the ARNs that the call needs. Run it with the environment that
setup.sh makes:

    .cache/venv/bin/python test/python/wire.py internal/awsdouble/testdata/required-actions.tsv \\
        > internal/awsdouble/testdata/wire.jsonl

Required parameters are made up from the service descriptions; those that say
which resource is meant are in PARAMETERS.
"""

import base64
import csv
import json
import re
import sys
import uuid

import botocore.session
from botocore.awsrequest import AWSResponse

REGION, ACCOUNT = "eu-central-1", "123456789012"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/opta-acme-x"
KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1-2"
LB = f"arn:aws:elasticloadbalancing:{REGION}:{ACCOUNT}:loadbalancer/net/unionai-access-acme/50dc"
TG = f"arn:aws:elasticloadbalancing:{REGION}:{ACCOUNT}:targetgroup/unionai-access-acme/73e2"
LISTENER = f"arn:aws:elasticloadbalancing:{REGION}:{ACCOUNT}:listener/net/unionai-access-acme/50dc/0467"
CERTIFICATE = f"arn:aws:acm:{REGION}:{ACCOUNT}:certificate/1-2"
RULE = f"arn:aws:events:{REGION}:{ACCOUNT}:rule/Karpenter-opta-acme-spot"
LOGS = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/aws/eks/opta-acme/cluster"
REPOSITORY = f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/union/acme"
ENTRY = f"arn:aws:eks:{REGION}:{ACCOUNT}:access-entry/opta-acme/role/{ACCOUNT}/x/1-2"
QUEUE = f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/Karpenter-opta-acme"
OIDC = f"arn:aws:iam::{ACCOUNT}:oidc-provider/oidc.eks.{REGION}.amazonaws.com/id/ABC"
POLICY = f"arn:aws:iam::{ACCOUNT}:policy/opta-acme-x"

# A member of this name gets this value wherever an operation has it at the top.
BY_NAME = {
    "VpcId": "vpc-0a1", "SubnetId": "subnet-0a1", "GroupId": "sg-0a1", "RouteTableId": "rtb-0a1",
    "InternetGatewayId": "igw-0a1", "NatGatewayId": "nat-0a1", "NetworkInterfaceId": "eni-0a1",
    "VolumeId": "vol-0a1", "LaunchTemplateId": "lt-0a1", "NetworkAclId": "acl-0a1", "ServiceId": "vpce-svc-0a1",
    "ServiceIds": ["vpce-svc-0a1"], "VpcEndpointIds": ["vpce-0a1"], "VpcEndpointId": "vpce-0a1", "FlowLogIds": ["fl-0a1"],
    "InstanceIds": ["i-0a1"], "RoleName": "opta-acme-x", "PolicyArn": POLICY, "InstanceProfileName": "opta-acme-x",
    "OpenIDConnectProviderArn": OIDC, "Bucket": "union-acme-metadata", "KeyId": "1-2", "AliasName": "alias/opta-acme",
    "TargetKeyId": "1-2", "repositoryName": "union/acme", "QueueUrl": QUEUE, "QueueName": "Karpenter-opta-acme",
    "LoadBalancerArn": LB, "TargetGroupArn": TG, "ListenerArn": LISTENER, "CertificateArn": CERTIFICATE,
    "AutoScalingGroupName": "opta-acme", "logGroupName": "/aws/eks/opta-acme/cluster", "clusterName": "opta-acme",
    "nodegroupName": "opta-acme-default", "addonName": "vpc-cni", "principalArn": f"arn:aws:iam::{ACCOUNT}:role/x",
    "DBSubnetGroupName": "opta-acme", "CacheSubnetGroupName": "opta-acme", "TableName": "opta-tf-state",
    "AllocationId": "eipalloc-0a1", "associationId": "a-1",
}

TAGS = {"team": "data"}

# What an operation gets beyond that; None takes a parameter away.
PARAMETERS = {
    "autoscaling:CreateAutoScalingGroup": {"ServiceLinkedRoleARN": ROLE},
    "autoscaling:CreateOrUpdateTags": {"Tags": [{"ResourceId": "opta-acme", "ResourceType": "auto-scaling-group", "Key": "a", "Value": "b"}]},
    "ec2:AllocateAddress": {},
    "ec2:AssociateRouteTable": {"GatewayId": None},
    "ec2:CreateFlowLogs": {"ResourceIds": ["vpc-0a1"], "ResourceType": "VPC", "DeliverLogsPermissionArn": ROLE, "TrafficType": "ALL"},
    "ec2:CreateLaunchTemplate": {"LaunchTemplateData": {"InstanceType": "m5.large"}},
    "ec2:CreateRoute": {"DestinationCidrBlock": "0.0.0.0/0", "NatGatewayId": "nat-0a1"},
    "ec2:CreateTags": {"Resources": ["vpc-0a1"], "Tags": [{"Key": "team", "Value": "data"}]},
    "ec2:CreateVpcEndpoint(Gateway)": {"VpcEndpointType": "Gateway", "RouteTableIds": ["rtb-0a1"]},
    "ec2:CreateVpcEndpoint(Interface)": {
        "VpcEndpointType": "Interface", "PrivateDnsEnabled": False, "SubnetIds": ["subnet-0a1"], "SecurityGroupIds": ["sg-0a1"]},
    "ec2:CreateVpcEndpoint(Interface,PrivateDns)": {
        "VpcEndpointType": "Interface", "SubnetIds": ["subnet-0a1"], "SecurityGroupIds": ["sg-0a1"]},
    "ec2:DeleteTags": {"Resources": ["vpc-0a1"], "Tags": [{"Key": "team"}]},
    "ec2:CreateVpcEndpointConnectionNotification": {"ServiceId": None, "VpcEndpointId": None},
    "ec2:ModifySecurityGroupRules": {"SecurityGroupRules": [{"SecurityGroupRuleId": "sgr-0a1", "SecurityGroupRule": {"IpProtocol": "tcp"}}]},
    "ec2:ModifyVpcEndpoint": {"AddRouteTableIds": ["rtb-0a1"], "AddSubnetIds": ["subnet-0a1"], "AddSecurityGroupIds": ["sg-0a1"]},
    "ec2:RunInstances": {"ImageId": "ami-0a1", "SecurityGroupIds": ["sg-0a1"], "LaunchTemplate": {"LaunchTemplateId": "lt-0a1"}},
    "ecs:CreateCluster": {"clusterName": "unionai-access-acme"},
    "ecs:CreateService": {"cluster": "unionai-access-acme", "serviceName": "proxy"},
    "ecs:DeleteCluster": {"cluster": "unionai-access-acme"},
    "ecs:DeleteService": {"cluster": "unionai-access-acme", "service": "proxy"},
    "ecs:DeleteTaskDefinitions": {"taskDefinitions": ["unionai-access-acme:1"]},
    "ecs:DescribeClusters": {"clusters": ["unionai-access-acme"]},
    "ecs:DescribeServices": {"cluster": "unionai-access-acme", "services": ["proxy"]},
    "ecs:DescribeTasks": {"cluster": "unionai-access-acme", "tasks": ["abc"]},
    "ecs:ExecuteCommand": {"cluster": "unionai-access-acme", "task": "abc"},
    "ecs:ListServiceDeployments": {"cluster": "unionai-access-acme", "service": "proxy"},
    "ecs:RegisterTaskDefinition": {
        "family": "unionai-access-acme",
        "executionRoleArn": f"arn:aws:iam::{ACCOUNT}:role/unionai-access-{REGION}-ecs-execution-role",
        "taskRoleArn": f"arn:aws:iam::{ACCOUNT}:role/unionai-access-{REGION}-ecs-task-role"},
    "ecs:RunTask": {"taskDefinition": "unionai-access-acme:1"},
    "ecs:StopTask": {"cluster": "unionai-access-acme", "task": "abc"},
    "ecs:UpdateClusterSettings": {"cluster": "unionai-access-acme"},
    "ecs:UpdateService": {"cluster": "unionai-access-acme", "service": "proxy"},
    "ecr:DescribeRepositories": {"repositoryNames": ["union/acme"]},
    "ecr:TagResource": {"resourceArn": REPOSITORY},
    "eks:CreateAccessEntry(tags)": {"tags": TAGS},
    "eks:CreateAddon": {"serviceAccountRoleArn": ROLE},
    "eks:CreateCluster": {
        "name": "opta-acme", "roleArn": ROLE, "resourcesVpcConfig": {"subnetIds": ["subnet-0a1"]},
        "encryptionConfig": [{"resources": ["secrets"], "provider": {"keyArn": KEY}}]},
    "eks:CreateNodegroup": {"nodeRole": ROLE, "subnets": ["subnet-0a1"], "launchTemplate": {"id": "lt-0a1"}},
    "eks:DescribeCluster": {"name": "opta-acme"},
    "eks:DeleteCluster": {"name": "opta-acme"},
    "eks:DescribeUpdate": {"name": "opta-acme", "updateId": "u"},
    "eks:ListUpdates": {"name": "opta-acme", "nodegroupName": None, "addonName": None},
    "eks:UpdateClusterConfig": {"name": "opta-acme"},
    "eks:UpdateClusterVersion": {"name": "opta-acme"},
    "elbv2:AddTags": {"ResourceArns": [LB]},
    "elbv2:CreateListener": {"Tags": [{"Key": "team", "Value": "data"}]},
    "elbv2:CreateLoadBalancer": {"Name": "unionai-access-acme", "Type": "network"},
    "elbv2:CreateTargetGroup": {"Name": "unionai-access-acme"},
    "elbv2:RemoveTags": {"ResourceArns": [LB]},
    "events:DeleteRule": {"Name": "Karpenter-opta-acme-spot"},
    "events:DescribeRule": {"Name": "Karpenter-opta-acme-spot"},
    "events:ListTargetsByRule": {"Rule": "Karpenter-opta-acme-spot"},
    "events:PutRule": {"Name": "Karpenter-opta-acme-spot"},
    "events:PutTargets": {"Rule": "Karpenter-opta-acme-spot"},
    "events:RemoveTargets": {"Rule": "Karpenter-opta-acme-spot"},
    "iam:CreateOpenIDConnectProvider": {"Url": f"https://oidc.eks.{REGION}.amazonaws.com/id/ABC"},
    "iam:CreatePolicy": {"PolicyName": "opta-acme-x"},
    "iam:CreateServiceLinkedRole": {"AWSServiceName": "eks.amazonaws.com"},
    "iam:GetContextKeysForPrincipalPolicy": {"PolicySourceArn": f"arn:aws:iam::{ACCOUNT}:role/union-ai-admin"},
    "iam:SimulatePrincipalPolicy": {"PolicySourceArn": f"arn:aws:iam::{ACCOUNT}:role/union-ai-admin"},
    "kms:CreateKey": {"Policy": "{}"},
    "logs:DescribeLogGroups": {},
    "logs:ListTagsForResource": {"resourceArn": LOGS},
    "logs:TagResource": {"resourceArn": LOGS},
    "s3:DeleteObjects": {"Delete": {"Objects": [{"Key": "a"}]}},
    "ssm:GetParameter": {"Name": "/aws/service/eks/optimized-ami/1.33/x"},
    "ssm:StartSession": {"Target": "ecs:unionai-access-acme_abc_abc-1"},
    "ssm:TerminateSession": {"SessionId": "x"},
    "kms:CreateGrant": {},
}

# The kinds of thing that EC2's creates give tags to, where the name does not say it.
TAGGED = {
    "AllocateAddress": "elastic-ip", "CreateNatGateway": "natgateway", "CreateFlowLogs": "vpc-flow-log",
    "AuthorizeSecurityGroupIngress": "security-group-rule", "CreateVpcEndpointServiceConfiguration": "vpc-endpoint-service",
}


def made_up(shape, depth=0):
    kind = shape.type_name
    if kind == "structure":
        return {n: made_up(m, depth + 1) for n, m in shape.members.items() if n in shape.required_members} if depth < 6 else {}
    if kind == "list":
        return [made_up(shape.member, depth + 1)]
    if kind == "map":
        return {"team": "data"}
    if kind == "string":
        if shape.enum:
            return shape.enum[0]
        return "x" * max(1, shape.metadata.get("min", 1))
    return {"boolean": True, "integer": 1, "long": 1, "float": 1.0, "double": 1.0,
            "timestamp": "2026-01-01T00:00:00Z", "blob": b"x"}[kind]


def tags_for(operation, member):
    if member.type_name == "map":
        return TAGS
    item = member.member.members
    key, value = ("TagKey", "TagValue") if "TagKey" in item else ("key", "value") if "key" in item else ("Key", "Value")
    if "ResourceType" in item and operation.service_model.service_name == "ec2":
        kind = TAGGED.get(operation.name) or re.sub(r"(?<!^)(?=[A-Z])", "-", operation.name.removeprefix("Create")).lower()
        return [{"ResourceType": kind, "Tags": [{"Key": "team", "Value": "data"}]}]
    return [{key: "team", value: "data"}]


def parameters(call, operation, tagged):
    shape = operation.input_shape
    if shape is None:
        return {}
    given = made_up(shape)
    for name in shape.members:
        if name in BY_NAME:
            given[name] = BY_NAME[name]
    service = call.split(":")[0]
    if tagged:
        for name in ("tags", "Tags", "TagSpecifications"):
            if name in shape.members:
                given[name] = tags_for(operation, shape.members[name])
    plain = re.sub(r"\(.*\)", "", call)
    for source in (plain, call):
        given.update(PARAMETERS.get(source, {}))
    if service == "ecs" and "clusterName" in given and "clusterName" not in shape.members:
        del given["clusterName"]
    return {k: v for k, v in given.items() if v is not None}


def main():
    # Tokens that make a call idempotent would differ from run to run.
    uuid.uuid4 = lambda: uuid.UUID(int=0)
    session = botocore.session.get_session()
    session.set_credentials("AKIDEXAMPLE", "secret")
    clients = {}
    for row in csv.DictReader(open(sys.argv[1]), delimiter="\t"):
        call, why = row["api_call"], row["seed_statement_that_allows_or_MISSING"]
        if why.startswith("N/A") or why.startswith("(no permission"):
            continue
        service, name = re.sub(r"\(.*\)", "", call).split(":")
        if service not in clients:
            clients[service] = session.create_client(service, region_name=REGION, endpoint_url="http://127.0.0.1:1")
        client = clients[service]
        if name not in client.meta.service_model.operation_names:
            print(f"{call} is a permission, no operation", file=sys.stderr)
            continue
        operation = client.meta.service_model.operation_model(name)
        actions = row["iam_actions"].split(", ")
        tagged = any("Tag" in a.split(":")[1] or "AddTags" in a for a in actions)
        caught = []

        def catch(request, **_):
            caught.append(request)
            return AWSResponse(request.url, 200, {}, None)

        client.meta.events.register("before-send", catch)
        # The name of the operation as Python spells it is found by its API name.
        method = next(m for m, api in client.meta.method_to_api_mapping.items() if api == name)
        try:
            getattr(client, method)(**parameters(call, operation, tagged))
        except Exception as e:  # the answer is no answer; the request is what counts
            if not caught:
                raise SystemExit(f"{call}: {e}")
        client.meta.events.unregister("before-send", catch)
        request = caught[0]
        body = request.body or b""
        if hasattr(body, "read"):
            body = body.read()
        if isinstance(body, str):
            body = body.encode()
        headers = {}
        for key, value in sorted(request.headers.items()):
            if isinstance(value, bytes):
                value = value.decode()
            if key.lower() not in ("authorization", "x-amz-date", "user-agent", "amz-sdk-invocation-id", "amz-sdk-request", "content-length", "x-amz-content-sha256", "content-md5"):
                headers[key] = value
        fill = lambda s: s.replace("REGION", REGION).replace("ACCOUNT", ACCOUNT)
        print(json.dumps({
            "call": call, "actions": actions,
            "resources": [fill(r.strip()) for r in row["resource_pattern"].split(" , ")],
            "signing": client.meta.service_model.signing_name, "method": request.method,
            "path": request.url.removeprefix("http://127.0.0.1:1"), "headers": headers,
            "body": base64.b64encode(body).decode() if "cbor" in headers.get("Content-Type", "") else body.decode(),
        }))


if __name__ == "__main__":
    main()
