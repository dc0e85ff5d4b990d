#!/bin/bash
# Runs Kubernetes' own end-to-end tests of nodes against a process node:
#
#	conformance/run.sh [FOCUS]
#
# It builds them, a sandbox (bin/biplane and bin/biplane-sandbox are there
# already, by make build) and the images that they ask for, and says how many
# specs pass and why each other does not. The first build takes many minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
export CGO_ENABLED=0 GOFLAGS='-trimpath -buildvcs=false'

focus=${1:-'\[NodeConformance\]'}
# Not of this node: what needs a network namespace for a pod, root in the machine's
# own namespace, or a feature that Kubernetes has not switched on.
skip='\[Serial\]|\[Disruptive\]|\[Flaky\]|\[Feature:|\[Alpha\]|hostNetwork|HostNetwork|[Ss]ysctl|AppArmor|SELinux|[Pp]rivileged|Seccomp|MinimumKubeletVersion'

bin=$(cd .. && pwd)/bin
out=$(cd .. && pwd)/.cache/conformance
mkdir -p "$out"
busybox=$(command -v busybox || true)
if [ -z "$busybox" ] || ldd "$busybox" >/dev/null 2>&1; then
	echo "conformance needs a static busybox: apt-get install busybox-static" >&2
	exit 2
fi
for program in biplane biplane-sandbox; do
	[ -x "$bin/$program" ] || { echo "conformance needs $bin/$program: make build" >&2; exit 2; }
done

echo "building the end-to-end tests and their images"
version=$(awk '$1 == "k8s.io/kubernetes" { print $2; exit }' go.mod)
stamp="-s -w -X k8s.io/component-base/version.gitVersion=$version -X k8s.io/client-go/pkg/version.gitVersion=$version"
nice go test -tags conformance -ldflags "$stamp" -c -o "$out/conformance.test" ./conformance
nice go build -ldflags '-s -w' -o "$out/agnhost" k8s.io/kubernetes/test/images/agnhost
nice go build -ldflags '-s -w' -o "$out/nnp" k8s.io/kubernetes/test/images/nonewprivs
nice go build -ldflags '-s -w' -o "$out/ginkgo" github.com/onsi/ginkgo/v2/ginkgo
nice go build -tags conformance -o "$out/images" ./conformance/images
nice go build -o "$out/report" ./conformance/report

# Not in /tmp, which hostPath specs mount: a sandbox never shows its own files.
dir=$(mktemp -d "$out/sandbox.XXXX")
sandbox=(--name conformance --dir "$dir")
finish() {
	# Quietly: the last line is to be the count.
	"$bin/biplane" sandbox down "${sandbox[@]}" --purge >"$out/down.log" 2>&1 || cat "$out/down.log" >&2
	rm -rf "$dir"
}
trap finish EXIT
"$bin/biplane" sandbox up "${sandbox[@]}" --only kubernetes,node
sources=$(go list -f '{{.Dir}}' k8s.io/kubernetes/test/images/agnhost)
"$out/images" "$out/agnhost" "$sources" "$out/nnp" "$busybox" "$dir" | while read -r name archive; do
	"$bin/biplane" sandbox image import "${sandbox[@]}" "$name" "$archive" >/dev/null
done

# specs REPORT PROCESSES MORE…: runs specs, many at a time since they wait more
# than they work.
specs() {
	local report=$1 processes=$2
	shift 2
	rm -f "$out/$report"
	"$out/ginkgo" --procs "$processes" --timeout 40m "$@" --silence-skips --no-color \
		--output-dir "$out" --json-report "$report" "$out/conformance.test" -- \
		--kubeconfig "$dir/conformance/kubeconfig" --provider skeleton --num-nodes 1 --allowed-not-ready-nodes 0 \
		>"$out/$report.log" 2>&1 || true
	if [ ! -s "$out/$report" ]; then
		tail -50 "$out/$report.log" >&2
		echo "the tests did not run; see $out/$report.log" >&2
		exit 2
	fi
}

# Pods share the machine's network, and these specs' pods all want port 8080: one
# at a time, beside the others, of which some wait twenty minutes for a back-off.
servers='Probing container|Lifecycle Hook'
specs serial.json 1 --focus "($servers).*$focus" --skip "$skip" &
serial=$!
specs parallel.json 12 --focus "$focus" --skip "$skip|$servers"
wait "$serial"
"$out/report" conformance/known-failures.txt "$out/parallel.json" "$out/serial.json"
