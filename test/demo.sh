#!/usr/bin/env bash
# The main job, in three parts. An AWS account that knows nothing of the vendor is
# opened, a data plane is built in it, brought to the next Kubernetes, and removed,
# and the account is closed again, against the AWS double; then a pod runs in the sandbox
# and uses S3 as its role; then Flyte's own command line runs workflows on a data
# plane that has joined a control plane. Every command is printed as it would be typed, and
# must end with the status that is written beside it here. `make demo` builds and
# sets up what this needs.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
flyte=$top/.cache/flyte-2.12.1
PATH=$top/bin:$top/.cache/bin:$top/.cache/venv/bin:$flyte/bin:$PATH
export AWS_PAGER='' AWS_CLI_AUTO_PROMPT=off AWS_EC2_METADATA_DISABLED=true

scratch=$(mktemp -d)
double=
finish() {
	status=$?
	if [ -n "$double" ]; then
		kill "$double" 2>/dev/null && wait "$double" || true
	fi
	biplane sandbox down --dir "$scratch/sandboxes" --quiet >"$scratch/down.log" 2>&1 || cat "$scratch/down.log" >&2
	[ "$status" = 0 ] || { echo "demo: failed; the double said:" >&2; tail -n 5 "$scratch/double.log" >&2 || true; }
	rm -rf "$scratch"
}
trap finish EXIT

say() { printf '\n# %s\n' "$*"; }

# run STATUS COMMAND...: print it, run it, and insist on its exit status.
run() {
	local want=$1 got=0
	shift
	printf '$ %s\n' "$(printf '%q ' "$@" | sed "s#$scratch/##g; s/ \$//")"
	set +e
	"$@" </dev/null 2>&1 | sed "s#$scratch/##g"
	got=${PIPESTATUS[0]}
	set -e
	if [ "$got" != "$want" ]; then
		echo "demo: exit status $got, want $want" >&2
		exit 1
	fi
}

say "An AWS account on this machine: one endpoint that enforces policies, trust and sizes"
echo '$ biplane-awsdouble --env-file env'
biplane-awsdouble --env-file "$scratch/env" >"$scratch/double.log" 2>&1 &
double=$!
for ((i = 0; i < 600; i++)); do
	[ ! -s "$scratch/env" ] || break
	kill -0 "$double" 2>/dev/null || { echo "demo: the double ended before it was ready" >&2; exit 1; }
	sleep 0.1
done
# shellcheck disable=SC1091
. "$scratch/env"
export AWS_REGION=eu-central-1
region=eu-central-1
account=$(aws sts get-caller-identity --query Account --output text)
cd "$scratch"

say "The published documents, and what a careful reader says about them"
run 0 biplane access policy --policy seed --account "$account" --region $region --out seed | sed '7,/^ROLE/ { /^ROLE/!d; s/^/    ...\n/ }'
biplane access lint --account "$account" seed/union-ai-admin/*.json >findings 2>summary && status=0 || status=$?
echo "\$ biplane access lint --account $account seed/union-ai-admin/*.json"
sed -n 1,12p findings
echo '    ...'
cat summary
[ "$status" = 1 ] || { echo "demo: exit status $status, want 1 for findings" >&2; exit 1; }

say "Following the published way by hand: IAM refuses the policy"
run 0 aws iam create-role --role-name union-ai-admin --assume-role-policy-document file://seed/union-ai-admin/trust.json --query Role.Arn --output text
run 255 aws iam put-role-policy --role-name union-ai-admin --policy-name UnionIAMPolicyManual --policy-document file://seed/union-ai-admin/UnionIAMPolicyManual.json
run 0 aws iam delete-role --role-name union-ai-admin

say "The vendor makes an external ID, the customer grants access with it"
external_id=$(biplane access new-external-id)
echo '$ biplane access new-external-id'
echo "$external_id"
run 0 biplane access grant --method iam --external-id "$external_id" --region $region --delete-permissions --yes | tee granted
role=$(tail -n 1 granted) # the last line is the ARN of the provision role
name=${role##*/}

say "The vendor proves that the access fits: right, wrong, absent external ID; another role; the calls of every step"
run 0 biplane access check --profile vendor --other-profile vendor-other --role-arn "$role" --external-id "$external_id" --region $region --delete-permissions | tee checked
grep -q '^[1-9][0-9]* pass, 0 fail, 0 cannot tell$' checked || { echo "demo: a row of the check does not pass" >&2; exit 1; }

say "The vendor works, as the role that it may assume: one call that is allowed, one that is not"
echo "\$ aws sts assume-role --profile vendor --role-arn $role --role-session-name demo --external-id $external_id"
as_vendor() {
	aws sts assume-role --profile vendor --role-arn "$role" --role-session-name demo --external-id "$external_id" \
		--query 'Credentials.[AccessKeyId,SecretAccessKey,SessionToken]' --output text >session
	(
		read -r AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN <session
		export AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN
		run "$@"
	)
}
as_vendor 0 aws ec2 describe-vpcs --query 'Vpcs[].VpcId' --output text
as_vendor 255 aws iam create-role --path /union/ --role-name union-worker --assume-role-policy-document file://seed/union-ai-admin/trust.json

say "Why not? The role must carry the boundary that the customer made"
run 1 biplane access explain iam:CreateRole --account "$account" --region $region --resource "arn:aws:iam::$account:role/union/union-worker"

say "A data plane is one file, and the plan says what would be made of it, with which grants and for how much"
cat >dataplane.yaml <<FILE
apiVersion: biplane.dev/v1alpha1
kind: DataPlane
metadata: {name: demo}
spec:
  account: "$account"
  region: $region
  access: {roleArn: "$role", externalId: "$external_id", policy: strict}
  network: {create: {cidr: 10.0.0.0/16, zones: 3}}
  cluster: {version: "1.33", endpoint: public}
FILE
run 0 cat dataplane.yaml
run 1 biplane dataplane plan dataplane.yaml --profile vendor --quiet >planned
sed -n 1,8p planned
echo '    ...'
tail -n 1 planned

say "It is made by the provision role, each call inside what the customer read; in simulated time, so that minutes are a moment"
run 0 biplane dataplane apply dataplane.yaml --profile vendor --yes 2>&1 | grep -v '^ '
run 0 biplane dataplane check dataplane.yaml --profile vendor --quiet
run 0 biplane dataplane plan dataplane.yaml --profile vendor --quiet | tail -n 1

say "The customer looks at the network that was made, by all 28 checks"
vpc=$(aws ec2 describe-vpcs --filters Name=tag:union:data-plane-id,Values=demo --query 'Vpcs[0].VpcId' --output text)
run 0 biplane network check --vpc "$vpc" --quiet

say "The next Kubernetes: control plane, add-ons, nodes, in EKS's order"
run 0 biplane dataplane upgrade dataplane.yaml --kubernetes 1.34 --profile vendor --yes

say "And it is removed, from the inside out, by the teardown role; with its data, since the name is typed"
sed -i 's/1\.33/1.34/' dataplane.yaml
echo '$ echo demo | biplane dataplane remove dataplane.yaml --profile vendor --delete-data'
echo demo | biplane dataplane remove dataplane.yaml --profile vendor --delete-data 2>&1 | grep -v '^ '

say "What is left of it, as the customer's own AWS CLI lists it: nothing"
left=$(aws ec2 describe-vpcs --filters Name=is-default,Values=false --query 'Vpcs[].VpcId' --output text
	aws ec2 describe-addresses --query 'Addresses[].AllocationId' --output text
	aws eks list-clusters --query clusters --output text
	aws s3api list-buckets --query 'Buckets[].Name' --output text
	aws iam list-roles --query "Roles[?contains(RoleName, 'union-demo')].RoleName" --output text
	aws logs describe-log-groups --query 'logGroups[].logGroupName' --output text)
printf '$ aws ec2 describe-vpcs, describe-addresses; aws eks list-clusters; aws s3api list-buckets; aws iam list-roles; aws logs describe-log-groups\n%s\n' "${left:-(nothing)}"
[ -z "${left//[[:space:]]/}" ] || { echo "demo: something is left" >&2; exit 1; }

say "The customer takes the access back"
run 0 biplane access revoke --region $region --yes

say "What is left in the account: nothing"
left=$(aws iam list-roles --query "Roles[?contains(RoleName, '$name')].RoleName" --output text
	aws iam list-policies --scope Local --query 'Policies[].PolicyName' --output text)
printf '$ aws iam list-roles; aws iam list-policies --scope Local\n%s\n' "${left:-(nothing)}"
[ -z "${left//[[:space:]]/}" ] || { echo "demo: something is left" >&2; exit 1; }

say "The other half: what a data plane stands in. A real Kubernetes, an S3 that decides by roles, a node; no root, no engine"
unset AWS_ENDPOINT_URL AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AWS_CONFIG_FILE AWS_SHARED_CREDENTIALS_FILE
sandbox=(--dir "$scratch/sandboxes") ns=flytesnacks-development
run 0 biplane sandbox up "${sandbox[@]}" --python "$flyte"
echo "\$ eval \"\$(biplane sandbox env --dir sandboxes)\""
eval "$(biplane sandbox env "${sandbox[@]}")"
run 0 kubectl get nodes

say "The buckets and the roles of the table, made by the code that makes them on AWS"
run 0 aws --profile admin s3 ls
run 0 aws --profile admin iam list-roles --query 'Roles[].Arn' --output text
bucket=$(biplane sandbox status "${sandbox[@]}" --output json | python3 -c 'import json, sys; print(json.load(sys.stdin)["buckets"]["metadata"])')

say "A task's pod reads and writes S3 as its role, with the unmodified AWS SDK"
echo "6 x 7?" >question
run 0 aws --profile executor s3 cp question "s3://$bucket/question" --no-progress
cat >task.py <<'PYTHON'
import boto3, os
print("I am", boto3.client("sts").get_caller_identity()["Arn"])
s3, bucket = boto3.client("s3"), os.environ["BUCKET"]
print("I read", s3.get_object(Bucket=bucket, Key="question")["Body"].read().decode().strip())
s3.put_object(Bucket=bucket, Key="answer", Body=b"42\n")
PYTHON
run 0 kubectl -n $ns create configmap task --from-file task.py
cat >task.yaml <<POD
apiVersion: v1
kind: Pod
metadata: {name: task}
spec:
  restartPolicy: Never
  containers:
    - name: main
      image: ghcr.io/flyteorg/flyte:py3.11
      command: [python, /task/task.py]
      env: [{name: BUCKET, value: $bucket}]
      volumeMounts: [{name: task, mountPath: /task}]
  volumes: [{name: task, configMap: {name: task}}]
POD
run 0 kubectl -n $ns apply -f task.yaml
run 0 kubectl -n $ns wait --for 'jsonpath={.status.phase}=Succeeded' --timeout 60s pod/task
run 0 kubectl -n $ns logs task
run 0 aws --profile admin s3 cp "s3://$bucket/answer" -

say "A role that may only read is refused the same, by the documents that go to AWS"
run 0 aws --profile proxy-system s3 cp "s3://$bucket/answer" -
run 1 aws --profile proxy-system s3 rm "s3://$bucket/answer"

say "A data plane has joined the control plane: it dialled, nobody dialled it"
run 0 biplane cluster list --sandbox-dir "$scratch/sandboxes"
run 0 kubectl -n union get pods

say "Flyte's own command line, unmodified, runs a workflow there"
cp -r "$top/test/e2e/workflows" workflows && cd workflows
export NO_COLOR=1 COLUMNS=120
run 0 flyte run --follow hello.py main --name Biplane

say "A fan-out of fifty, whose children never wait for the control plane"
run 0 flyte run --follow --name fanout nested.py fanout --n 50
run 0 flyte get io fanout
run 0 kubectl -n $ns get taskactions -l flyte.org/run=fanout

say "What the control plane keeps of it: names, states, URIs. The greeting, an input, is not there"
run 1 grep -rl Biplane "$scratch/sandboxes/default/controlplane"
cd ..

say "All of it goes away"
run 0 biplane sandbox down "${sandbox[@]}" --purge
printf '\ndemo: done in %d seconds\n' "$SECONDS"
