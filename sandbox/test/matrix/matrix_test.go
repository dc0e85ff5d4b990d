package matrix_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"biplane.dev/biplane/provision/access"
	"biplane.dev/biplane/sandbox/test/matrix"
)

// calls are the columns, in the order in which the script prints them.
var calls = []string{"list", "get", "put", "delete", "presigned-get", "presigned-put"}

// published is the seed's table: what each account may do in the metadata bucket
// and in the fast-registration bucket, a letter for each call.
var published = []struct {
	account, namespace, kubernetes string
	metadata, fastRegistration     string
}{
	// "Generates presigned URLs for customer S3 buckets (does not directly read/write data)"
	{"flyteadmin", "union", "flyteadmin", "....gp", "....gp"},
	// "No direct S3 access"
	{"clustersync-system", "union", "clustersync-system", "......", "......"},
	// "R/W to metadata bucket and fast-registration bucket"
	{"executor", "union", "executor", "lgpdgp", "lgpdgp"},
	// "Read-only access to metadata bucket"
	{"proxy-system", "union", "proxy-system", "lg..g.", "......"},
	// "R/W to metadata bucket for operator state and config"
	{"operator-system", "union", "operator-system", "lgpdgp", "......"},
	// "R/W to metadata bucket for workflow data"
	{"flytepropeller-system", "union", "flytepropeller-system", "lgpdgp", "......"},
	// "No direct S3 access (handles secrets injection only)"
	{"flytepropeller-webhook-system", "union", "flytepropeller-webhook-system", "......", "......"},
	// "R/W to metadata bucket for task inputs/outputs, code bundles, artifacts"
	{"clusterresource-template", "flytesnacks-development", "default", "lgpdgp", "......"},
}

// row is the outcomes of one account, those of the metadata bucket first.
type row [12]string

// parse reads what the script printed.
func parse(out string) (row, error) {
	var r row
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != len(r) {
		return r, fmt.Errorf("got %d cells, want %d: %s", len(lines), len(r), out)
	}
	for i, line := range lines {
		bucket := status.Buckets.Metadata
		if i >= len(calls) {
			bucket = status.Buckets.FastRegistration
		}
		text, ok := strings.CutPrefix(line, bucket+" "+calls[i%len(calls)]+" ")
		if !ok {
			return r, fmt.Errorf("got cell %q, want %s on %s", line, calls[i%len(calls)], bucket)
		}
		r[i] = text
	}
	return r, nil
}

// letters writes a row as the table above does; what is neither allowed nor
// refused as it should be is a question mark.
func (r row) letters(refusal string) string {
	var b strings.Builder
	for i, outcome := range r {
		switch outcome {
		case "allowed":
			b.WriteByte("lgpdgp"[i%6])
		case refusal:
			b.WriteByte('.')
		default:
			b.WriteByte('?')
		}
	}
	return b.String()
}

// The cases change roles while they run, so they come one after the other.
func TestMatrix(t *testing.T) {
	for _, bucket := range []string{status.Buckets.Metadata, status.Buckets.FastRegistration} {
		_, err := admin.s3.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: aws.String("matrix/shared"), Body: strings.NewReader("shared")})
		if err != nil {
			t.Fatal(err)
		}
	}
	outside := make([]row, len(published))
	inside := make([]row, len(published))

	t.Run("it gives each account what the table says, from outside", func(t *testing.T) {
		each(t, func(ctx context.Context, i int) (err error) {
			outside[i], err = askOutside(ctx, published[i].account)
			return err
		})
		compare(t, outside)
	})
	t.Run("it gives each account what the table says, in its pods", func(t *testing.T) {
		askPods(t, inside)
		compare(t, inside)
	})
	t.Log("\n" + table(outside, inside))

	t.Run("it gives the same under the boundary that AWS's accounts have", func(t *testing.T) {
		underBoundary(t, map[string]row{"flyteadmin": outside[0], "executor": outside[2]})
	})
	for i, p := range published {
		if slices.Contains(outside[i][:], "allowed") {
			t.Run("it takes exactly its cells away with a statement of "+p.account, func(t *testing.T) { takeStatements(t, p.account, outside[i]) })
		}
	}
}

// each does something for each account, two at a time.
func each(t *testing.T, do func(ctx context.Context, i int) error) {
	t.Helper()
	group, ctx := errgroup.WithContext(t.Context())
	group.SetLimit(2)
	for i := range published {
		group.Go(func() error { return do(ctx, i) })
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
}

func askOutside(ctx context.Context, account string) (row, error) {
	out, err := python(ctx, account)
	if err != nil {
		return row{}, err
	}
	return parse(out)
}

func compare(t *testing.T, rows []row) {
	t.Helper()
	for i, p := range published {
		refusal := "AccessDenied"
		if p.metadata+p.fastRegistration == "............" {
			refusal = "no credentials" // there is no role, so nobody to refuse
		}
		if got, want := rows[i].letters(refusal), p.metadata+p.fastRegistration; got != want {
			t.Errorf("%s: got %s, want %s: %v", p.account, got, want, rows[i])
		}
	}
}

// askPods runs the script in a pod of each account.
func askPods(t *testing.T, rows []row) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	for _, namespace := range []string{"union", "flytesnacks-development"} {
		_, err := client.CoreV1().ConfigMaps(namespace).Create(ctx, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: "matrix"}, Data: map[string]string{"cells.py": matrix.Script}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	for i, p := range published {
		group.Go(func() error {
			out, err := runPod(ctx, p.namespace, &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Name: "matrix-" + p.account},
				Spec: corev1.PodSpec{
					ServiceAccountName: p.kubernetes, RestartPolicy: corev1.RestartPolicyNever,
					Containers: []corev1.Container{{
						Name: "cells", Image: "ghcr.io/flyteorg/flyte:matrix",
						Command:      []string{"python", "/matrix/cells.py", p.account, status.Buckets.Metadata, status.Buckets.FastRegistration},
						VolumeMounts: []corev1.VolumeMount{{Name: "script", MountPath: "/matrix"}},
					}},
					Volumes: []corev1.Volume{{Name: "script", VolumeSource: corev1.VolumeSource{
						ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "matrix"}}}}},
				},
			})
			if err != nil {
				return fmt.Errorf("pod of %s: %w", p.account, err)
			}
			rows[i], err = parse(out)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
}

// runPod returns a pod's log once it has succeeded.
func runPod(ctx context.Context, namespace string, pod *corev1.Pod) (string, error) {
	api := client.CoreV1().Pods(namespace)
	made, err := api.Create(ctx, pod, metav1.CreateOptions{})
	if err != nil {
		return "", err
	}
	watch, err := api.Watch(ctx, metav1.ListOptions{
		FieldSelector: fields.OneTermEqualSelector("metadata.name", made.Name).String(), ResourceVersion: made.ResourceVersion})
	if err != nil {
		return "", err
	}
	defer watch.Stop()
	for event := range watch.ResultChan() {
		now, ok := event.Object.(*corev1.Pod)
		if !ok || now.Status.Phase != corev1.PodSucceeded && now.Status.Phase != corev1.PodFailed {
			continue
		}
		log, err := api.GetLogs(made.Name, &corev1.PodLogOptions{}).DoRaw(ctx)
		if err == nil && now.Status.Phase != corev1.PodSucceeded {
			err = fmt.Errorf("it ended as %s, and said: %s", now.Status.Phase, log)
		}
		return string(log), err
	}
	return "", fmt.Errorf("the watch ended before the pod did: %w", context.Cause(ctx))
}

// document is as much of a policy as is needed to take a statement out.
type document struct {
	Version   string
	Statement []map[string]any
}

// takeStatements takes each statement of the account's policy away in turn: what it
// allowed is refused then, and everything else is as before.
func takeStatements(t *testing.T, account string, before row) {
	policy, name := "buckets", roleOf(account)
	out, err := admin.iam.GetRolePolicy(t.Context(), &iam.GetRolePolicyInput{RoleName: &name, PolicyName: &policy})
	if err != nil {
		t.Fatal(err)
	}
	text, err := url.PathUnescape(*out.PolicyDocument)
	if err != nil {
		t.Fatal(err)
	}
	put := func(document string) {
		t.Helper()
		if _, err := admin.iam.PutRolePolicy(context.Background(), &iam.PutRolePolicyInput{RoleName: &name, PolicyName: &policy, PolicyDocument: &document}); err != nil {
			t.Fatal(err)
		}
	}
	defer put(text)
	var whole document
	if err := json.Unmarshal([]byte(text), &whole); err != nil {
		t.Fatal(err)
	}
	for n, taken := range whole.Statement {
		rest := document{whole.Version, slices.Delete(slices.Clone(whole.Statement), n, n+1)}
		if len(rest.Statement) == 0 {
			// A policy must have a statement; this one allows nothing that is asked.
			rest.Statement = []map[string]any{{"Effect": "Allow", "Action": "sts:GetCallerIdentity", "Resource": "*"}}
		}
		changed, err := json.Marshal(rest)
		if err != nil {
			t.Fatal(err)
		}
		put(string(changed))
		after, err := askOutside(t.Context(), account)
		if err != nil {
			t.Fatal(err)
		}
		flipped := 0
		for i := range after {
			want := before[i]
			if before[i] == "allowed" && allows(taken, i) {
				want = "AccessDenied"
				flipped++
			}
			if after[i] != want {
				t.Errorf("without statement %d of %s, %s: got %s, want %s", n, name, cellName(i), after[i], want)
			}
		}
		if flipped == 0 {
			t.Errorf("statement %d of %s allows no cell, want one that could be taken away: %v", n, name, taken)
		}
		t.Logf("without statement %d of %s: %d of 12 cells flipped", n, name, flipped)
	}
	put(text)
	after, err := askOutside(t.Context(), account)
	if err != nil {
		t.Fatal(err)
	}
	if after != before {
		t.Errorf("got %v once all is back, want %v", after, before)
	}
}

func roleOf(account string) string {
	if account == "clusterresource-template" {
		return "union-sandbox-userflyterole"
	}
	return "union-sandbox-adminflyterole-" + account
}

// underBoundary puts on roles what 'biplane access grant' demands of every role that
// the vendor makes. Sandboxes are without it, since nobody is granted access to them.
func underBoundary(t *testing.T, want map[string]row) {
	granted, err := access.Generate(access.Options{Account: cfg.Account, Region: cfg.Region, ExternalID: "5Zq0v3l1x8mTfKcW2hYbNg"})
	if err != nil {
		t.Fatal(err)
	}
	bounds := map[string]string{
		"the boundary":         string(granted.Boundary.Document),
		"one that allows none": `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"sts:GetCallerIdentity","Resource":"*"}]}`,
	}
	for name, text := range bounds {
		policy, err := admin.iam.CreatePolicy(t.Context(), &iam.CreatePolicyInput{PolicyName: aws.String(strings.ReplaceAll(name, " ", "-")), PolicyDocument: &text})
		if err != nil {
			t.Fatal(err)
		}
		for account, row := range want {
			role := roleOf(account)
			_, err := admin.iam.PutRolePermissionsBoundary(t.Context(), &iam.PutRolePermissionsBoundaryInput{RoleName: &role, PermissionsBoundary: policy.Policy.Arn})
			if err != nil {
				t.Fatal(err)
			}
			got, err := askOutside(t.Context(), account)
			if err != nil {
				t.Fatal(err)
			}
			if name != "the boundary" {
				for i := range row {
					row[i] = "AccessDenied"
				}
			}
			if got != row {
				t.Errorf("%s under %s: got %v, want %v", account, name, got, row)
			}
			if _, err := admin.iam.DeleteRolePermissionsBoundary(t.Context(), &iam.DeleteRolePermissionsBoundaryInput{RoleName: &role}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// allows reports whether a statement is what a cell needs.
func allows(statement map[string]any, cell int) bool {
	action := []string{"s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:GetObject", "s3:PutObject"}[cell%6]
	resource := "arn:aws:s3:::" + status.Buckets.Metadata
	if cell >= len(calls) {
		resource = "arn:aws:s3:::" + status.Buckets.FastRegistration
	}
	if action != "s3:ListBucket" {
		resource += "/*"
	}
	return slices.Contains(list(statement["Action"]), action) && slices.Contains(list(statement["Resource"]), resource)
}

// list is a policy's scalar or list.
func list(v any) []string {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		var all []string
		for _, one := range v {
			all = append(all, fmt.Sprint(one))
		}
		return all
	}
	return nil
}

func cellName(i int) string {
	bucket := "metadata"
	if i >= len(calls) {
		bucket = "fast registration"
	}
	return calls[i%len(calls)] + " on " + bucket
}

// table prints both matrices side by side.
func table(outside, inside []row) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-30s  %-17s %-17s   %-17s %-17s\n", "", "outside: metadata", "fast registration", "pods: metadata", "fast registration")
	for i, p := range published {
		fmt.Fprintf(&b, "%-30s", p.account)
		for _, r := range []row{outside[i], inside[i]} {
			b.WriteString("  ")
			for half := range 2 {
				marks := ""
				for c := range calls {
					mark := "."
					switch r[half*6+c] {
					case "allowed":
						mark = []string{"L", "G", "P", "D", "g", "p"}[c]
					case "":
						mark = " "
					}
					marks += mark + " "
				}
				fmt.Fprintf(&b, "%-18s", marks)
			}
		}
		b.WriteByte('\n')
	}
	b.WriteString("L list, G get, P put, D delete, g presigned get, p presigned put, . refused\n")
	return b.String()
}
