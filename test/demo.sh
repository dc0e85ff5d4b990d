#!/usr/bin/env bash
# The main job, as one story. An empty AWS account and a control plane: access is
# granted, a data plane is planned and made, joins, and runs workflows of Flyte's own
# command line; it is reached by a private way, brought to the next Kubernetes, and
# removed; access is taken back, and the account is empty again. The account is
# the AWS double, and a sandbox stands behind it: its clusters, buckets and roles are
# real ones of this machine. Every command is printed as it would be typed, and must end
# with the status that is written beside it here. `make demo` builds and sets up what
# this needs.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
flyte=$top/.cache/flyte-2.12.1
PATH=$top/bin:$top/.cache/bin:$top/.cache/venv/bin:$flyte/bin:$PATH
export AWS_PAGER='' AWS_CLI_AUTO_PROMPT=off AWS_EC2_METADATA_DISABLED=true NO_COLOR=1 COLUMNS=120

scratch=$(mktemp -d)
export XDG_STATE_HOME=$scratch/state
double=
finish() {
	status=$?
	if [ -n "$double" ]; then
		kill "$double" 2>/dev/null && wait "$double" || true
	fi
	biplane sandbox down --dir "$scratch/sandboxes" --purge --quiet >"$scratch/down.log" 2>&1 || cat "$scratch/down.log" >&2
	[ "$status" = 0 ] || { echo "demo: failed; the double said:" >&2; tail -n 5 "$scratch/double.log" >&2 || true; }
	rm -rf "$scratch"
}
trap finish EXIT

say() { printf '\n# [%d:%02d] %s\n' $((SECONDS / 60)) $((SECONDS % 60)) "$*"; }

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

# keep FILE STATUS COMMAND...: run, with the output in a file, to show a part of.
keep() {
	local file=$1
	shift
	if ! (run "$@") >"$file" 2>&1; then
		cat "$file" >&2
		exit 1
	fi
	sed -n 1p "$file"
	sed -i 1d "$file"
}

# proven FLAGS...: the vendor checks the access. The rows that cannot tell are for the
# customer alone, who may read the policies of all roles.
proven() {
	keep checked 0 biplane access check --profile vendor --other-profile vendor-other --role-arn "arn:aws:iam::$account:role/union/union-ai-admin" --external-id "$external_id" --region "$region" "$@"
	sed -n 1,4p checked
	echo '    ...'
	tail -n 1 checked
	grep -q '^[1-9][0-9]* pass, 0 fail, ' checked || { echo "demo: a row of the check does not pass" >&2; exit 1; }
}

# inventory prints each listing with what is in it. What AWS itself makes (service-linked
# roles, the default network) is left out.
inventory() {
	local command left
	while read -r command; do
		left=$(eval "aws $command --output text")
		printf '$ aws %s\n' "$command"
		[ -z "${left//[[:space:]]/}" ] || { echo "$left"; echo "$left" >>"$1"; }
	done <<-'COMMANDS'
		iam list-roles --query 'Roles[?!starts_with(Path, `/aws-service-role/`)].RoleName'
		iam list-policies --scope Local --query 'Policies[].PolicyName'
		iam list-open-id-connect-providers --query 'OpenIDConnectProviderList[].Arn'
		s3api list-buckets --query 'Buckets[].Name'
		ec2 describe-vpcs --filters Name=is-default,Values=false --query 'Vpcs[].VpcId'
		ec2 describe-addresses --query 'Addresses[].AllocationId'
		ec2 describe-launch-templates --query 'LaunchTemplates[].LaunchTemplateName'
		eks list-clusters --query clusters
		ecs list-clusters --query clusterArns
		elbv2 describe-load-balancers --query 'LoadBalancers[].LoadBalancerName'
		ecr describe-repositories --query 'repositories[].repositoryName'
		logs describe-log-groups --query 'logGroups[].logGroupName'
	COMMANDS
}

say "A control plane, and beside it a machine that stands for the cloud: a Kubernetes, an S3, an IAM, a node. No root, no container engine"
sandboxes=(--dir "$scratch/sandboxes") control=(--sandbox-dir "$scratch/sandboxes")
run 0 biplane sandbox up "${sandboxes[@]}" --only kubernetes,s3,identity,node,controlplane --python "$flyte" --quiet
gateway=$(biplane sandbox status "${sandboxes[@]}" --output json | python3 -c 'import json, sys; print(json.load(sys.stdin)["controlplane"]["gateway"])')

say "An AWS account on it: one endpoint that enforces policies, trust and sizes. Its minutes are seconds"
echo '$ biplane-awsdouble --sandbox-dir sandboxes/default --time 60 --env-file env --ecs-task biplane-jumper:demo=biplane-jumper'
biplane-awsdouble --sandbox-dir "$scratch/sandboxes/default" --time 60 --env-file "$scratch/env" --ecs-task biplane-jumper:demo="$top/bin/biplane-jumper" >"$scratch/double.log" 2>&1 &
double=$!
for ((i = 0; i < 600; i++)); do
	[ ! -s "$scratch/env" ] || break
	kill -0 "$double" 2>/dev/null || { echo "demo: the double ended before it was ready" >&2; exit 1; }
	sleep 0.1
done
# shellcheck disable=SC1091
. "$scratch/env"
region=$AWS_REGION
account=$(aws sts get-caller-identity --query Account --output text)
cd "$scratch"

say "The account is empty, as the customer's own AWS CLI lists it"
inventory before
[ ! -s before ] || { echo "demo: the account is not empty" >&2; exit 1; }

say "The published documents, and what a careful reader says about them"
run 0 biplane access policy --policy seed --account "$account" --region "$region" --out seed | sed '7,/^ROLE/ { /^ROLE/!d; s/^/    ...\n/ }'
biplane access lint --account "$account" seed/union-ai-admin/*.json >findings 2>summary && status=0 || status=$?
echo "\$ biplane access lint --account $account seed/union-ai-admin/*.json"
sed -n 1,6p findings
echo '    ...'
cat summary
[ "$status" = 1 ] || { echo "demo: exit status $status, want 1 for findings" >&2; exit 1; }

say "Following the published way by hand: IAM refuses the policy"
run 0 aws iam create-role --role-name union-ai-admin --assume-role-policy-document file://seed/union-ai-admin/trust.json --query Role.Arn --output text
run 255 aws iam put-role-policy --role-name union-ai-admin --policy-name UnionIAMPolicyManual --policy-document file://seed/union-ai-admin/UnionIAMPolicyManual.json
run 0 aws iam delete-role --role-name union-ai-admin

say "The vendor makes an external ID for this customer"
external_id=$(biplane access new-external-id)
echo '$ biplane access new-external-id'
echo "$external_id"

say "Before any role exists, the customer asks what a grant would make, and what would stand in its way"
keep reported 0 biplane access report --region "$region" --private-endpoint --delete-permissions --quiet
sed -n 1,8p reported
echo '    ...'
tail -n 1 reported

say "One way in: a stack. Its template is ours, and a link launches it"
echo '$ biplane access template --private-endpoint --delete-permissions >template.json'
biplane access template --private-endpoint --delete-permissions 2>&1 >template.json
run 0 biplane access links --region "$region" --private-endpoint --delete-permissions --quiet
run 0 biplane access grant --method cloudformation --external-id "$external_id" --region "$region" --private-endpoint --delete-permissions --yes --quiet
run 0 aws cloudformation describe-stacks --stack-name UnionCloudAccess --query 'Stacks[0].[StackStatus,EnableTerminationProtection]' --output text
proven --private-endpoint --delete-permissions
run 0 biplane access revoke --region "$region" --yes --quiet

say "The other way: IAM directly, at first without the private endpoint"
run 0 biplane access grant --method iam --external-id "$external_id" --region "$region" --delete-permissions --yes --quiet | tee granted
role=$(tail -n 1 granted) # the last line is the ARN of the provision role

say "What was granted is changed: what that widens is shown before it is done, and running it again changes nothing"
keep updated 0 biplane access update --region "$region" --private-endpoint --yes
grep -E '^  [~+]|widens' updated | sed 's/^\(.\{110\}\).*/\1.../' | head -n 12
tail -n 1 updated
run 0 biplane access update --region "$region" --yes --quiet

say "The external ID is changed without a gap: for a while both are valid"
previous=$external_id
external_id=$(biplane access new-external-id)
run 0 biplane access rotate-external-id --region "$region" --external-id "$external_id" --yes --quiet
assume=(aws --profile vendor sts assume-role --role-session-name demo --query AssumedRoleUser.Arn --output text)
run 0 "${assume[@]}" --role-arn "$role" --external-id "$previous"
run 0 "${assume[@]}" --role-arn "$role" --external-id "$external_id"
run 0 biplane access rotate-external-id --region "$region" --finish --yes --quiet
run 255 "${assume[@]}" --role-arn "$role" --external-id "$previous"

say "The vendor proves that the access fits: right, wrong, absent external ID; another role; the calls of every step"
proven --private-endpoint --delete-permissions

say "What the vendor may not: make a role without the boundary that the customer made, for example"
run 1 biplane access explain iam:CreateRole --account "$account" --region "$region" --resource "arn:aws:iam::$account:role/union/union-worker"

say "A data plane is one file; the control plane is told of it, and gives a token to join with"
cat >dataplane.yaml <<FILE
apiVersion: biplane.dev/v1alpha1
kind: DataPlane
metadata: {name: demo}
spec:
  account: "$account"
  region: $region
  access: {roleArn: "$role", externalId: "$external_id", policy: strict}
  controlPlane: {endpoint: "$gateway", cluster: demo, tokenFile: token}
  network: {create: {cidr: 10.0.0.0/16, zones: 3}}
  cluster: {version: "1.33", endpoint: public}
FILE
run 0 cat dataplane.yaml
run 0 biplane cluster add demo "${control[@]}" --token-file token

say "The plan says what would be made of it, by which calls, and for how much"
keep planned 1 biplane dataplane plan dataplane.yaml --profile vendor --quiet
sed -n 1,8p planned
echo '    ...'
tail -n 4 planned

say "It is made by the provision role, each call inside what the customer read: network, cluster, nodes, buckets, roles; then the runtime is installed, and joins"
keep applied 0 biplane dataplane apply dataplane.yaml --profile vendor --yes
grep -E '^(✓ (cluster|node group|bucket)|. release)|^Data plane' applied
run 0 biplane dataplane plan dataplane.yaml --profile vendor --quiet | tail -n 1
run 0 biplane dataplane check dataplane.yaml --profile vendor --quiet

say "The control plane knows it: it dialled, nobody dialled it"
run 0 biplane cluster show demo "${control[@]}"

say "The customer looks at the network that was made, by all 28 checks"
vpc=$(aws ec2 describe-vpcs --filters Name=tag:union:data-plane-id,Values=demo --query 'Vpcs[0].VpcId' --output text)
run 0 biplane network check --vpc "$vpc" --quiet | tail -n 4

say "A user of the control plane: Flyte's own command line, unmodified, runs a workflow on it"
cp -r "$top/test/e2e/workflows" workflows
eval "$(biplane sandbox env "${sandboxes[@]}" | grep -E 'FLYTECTL_CONFIG|SSL_CERT_FILE')"
echo '$ eval "$(biplane sandbox env --dir sandboxes)"'
cd workflows
run 0 flyte run --follow hello.py main --name Biplane
say "A fan-out of fifty, whose children never wait for the control plane"
run 0 flyte run --follow --name fanout nested.py fanout --n 50
run 0 flyte get io fanout
cd ..
unset SSL_CERT_FILE

say "Where the bytes lie: in the customer's buckets"
aws s3 ls --recursive "s3://union-demo-metadata-$account" >objects
echo "\$ aws s3 ls --recursive s3://union-demo-metadata-$account"
sed -n 1,3p objects
echo "    ... $(wc -l <objects) objects"
say "and not at the control plane, which keeps names, states, addresses: the greeting, an input, is not there"
run 1 grep -rl Biplane "$scratch/sandboxes/default/controlplane"

say "A private way in for the vendor: PrivateLink, and jumpers that pass TLS on and end none"
cat >>dataplane.yaml <<'FILE'
  privateEndpoint: {enabled: true, image: "biplane-jumper:demo"}
FILE
keep private 0 biplane private-endpoint apply dataplane.yaml --profile vendor --yes
grep -E '^✓|^Data plane|^The private' private
run 0 biplane private-endpoint check dataplane.yaml --profile vendor --quiet
ecs=$(aws ecs list-clusters --query 'clusterArns[0]' --output text)
tasks=$(aws ecs list-tasks --cluster "$ecs" --query 'taskArns[0]' --output text)
jumper=$(aws ecs describe-tasks --cluster "$ecs" --tasks "$tasks" --query "tasks[0].attachments[0].details[?name=='privateIPv4Address'].value | [0]" --output text)

say "kubectl goes through a jumper to the API server, with a token of a quarter of an hour and no secret in the file"
run 0 biplane dataplane kubeconfig dataplane.yaml --profile vendor --through "$jumper:8443" --kubeconfig kubeconfig --quiet
run 0 kubectl --kubeconfig kubeconfig -n union get pods
run 1 kubectl --kubeconfig kubeconfig -n union get secrets
run 0 biplane dataplane plan dataplane.yaml --profile vendor --quiet --through "$jumper:8443" | tail -n 1

say "An emergency: the break-glass role is open for an hour, to one person, for a reason; closing it ends her session, too"
glass=$role-break-glass logs=/aws/eks/union-demo/cluster
run 255 "${assume[@]}" --role-arn "$glass" --external-id "$external_id" --source-identity alice
run 0 biplane access break-glass open --for 1h --reason "ticket 4711: nodes do not join" --source-identity alice --region "$region" --yes --quiet
run 255 "${assume[@]}" --role-arn "$glass" --external-id "$external_id" --source-identity mallory
"${assume[@]}" --role-arn "$glass" --external-id "$external_id" --source-identity alice --query 'Credentials.[AccessKeyId,SecretAccessKey,SessionToken]' |
	awk '{ print "[alice]\naws_access_key_id = " $1 "\naws_secret_access_key = " $2 "\naws_session_token = " $3 }' >>"$AWS_SHARED_CREDENTIALS_FILE"
echo "$ ${assume[*]} --role-arn $glass --external-id $external_id --source-identity alice  # kept as the profile alice"
run 0 aws --profile alice logs filter-log-events --log-group-name "$logs" --query 'length(events)'
run 0 biplane access break-glass close --region "$region" --yes --quiet
run 255 aws --profile alice logs filter-log-events --log-group-name "$logs" --query 'length(events)'

say "The next Kubernetes: control plane, add-ons, nodes, in EKS's order"
keep upgraded 0 biplane dataplane upgrade dataplane.yaml --kubernetes 1.34 --profile vendor --yes
grep -E '^✓|^Data plane|version' upgraded
sed -i 's/1\.33/1.34/' dataplane.yaml
run 0 biplane dataplane plan dataplane.yaml --profile vendor --quiet | tail -n 1

say "And it is removed, from the inside out, by the teardown role; with its data, since the name is typed"
echo '$ echo demo | biplane dataplane remove dataplane.yaml --profile vendor --delete-data'
echo demo | biplane dataplane remove dataplane.yaml --profile vendor --delete-data >removed 2>&1
grep -E '^. release|^✓ (cluster|bucket|network)|^Data plane|^Next' removed
run 0 biplane cluster remove demo "${control[@]}"

say "Who changed what, and what the roles say now"
run 0 biplane access history --region "$region" --quiet

say "The customer takes the access back"
run 0 biplane access revoke --region "$region" --yes --quiet

say "What is left in the account: nothing"
inventory after
[ ! -s after ] || { echo "demo: something is left" >&2; exit 1; }
say "but the key that encrypted it, which AWS deletes after the days that its owner has to think better of it"
run 0 aws kms describe-key --key-id "$(aws kms list-keys --query 'Keys[0].KeyId' --output text)" --query 'KeyMetadata.KeyState' --output text

say "All of it goes away"
kill "$double" && wait "$double" || true
double=
run 0 biplane sandbox down "${sandboxes[@]}" --purge
printf '\ndemo: done in %d seconds\n' "$SECONDS"
