package s3_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"biplane.dev/biplane/provision/roles"
)

// operations of the matrix, in its order.
func operations() []string {
	return []string{"list", "get", "put", "delete", "presigned get", "presigned put"}
}

// may is what the published table says about one cell.
func may(account roles.ServiceAccount, bucket roles.Bucket, operation string) bool {
	rights := account.Metadata
	if bucket == roles.FastRegistration {
		rights = account.FastRegistration
	}
	switch rights {
	case roles.Presign:
		return strings.HasPrefix(operation, "presigned")
	case roles.Read:
		return operation == "list" || operation == "get" || operation == "presigned get"
	case roles.ReadWrite:
		return true
	}
	return false
}

// try does one operation and says whether it was allowed. Anything but success
// and AccessDenied is a failure of the test.
func (w *world) try(t *testing.T, as aws.CredentialsProvider, bucket, operation string) bool {
	t.Helper()
	client := w.s3As(as)
	signer := awss3.NewPresignClient(client)
	ctx, key := t.Context(), aws.String("there")
	var err error
	refused := ""
	switch operation {
	case "list":
		_, err = client.ListObjectsV2(ctx, &awss3.ListObjectsV2Input{Bucket: &bucket})
	case "get":
		_, err = client.GetObject(ctx, &awss3.GetObjectInput{Bucket: &bucket, Key: key})
	case "put":
		_, err = client.PutObject(ctx, &awss3.PutObjectInput{Bucket: &bucket, Key: aws.String("new"), Body: strings.NewReader("x")})
	case "delete":
		_, err = client.DeleteObject(ctx, &awss3.DeleteObjectInput{Bucket: &bucket, Key: aws.String("new")})
	case "presigned get":
		var url string
		if url, err = presignGet(ctx, signer, bucket, "there"); err == nil {
			refused, _ = w.send(t, http.MethodGet, url, "")
		}
	case "presigned put":
		out, failed := signer.PresignPutObject(ctx, &awss3.PutObjectInput{Bucket: &bucket, Key: aws.String("new")})
		if err = failed; err == nil {
			refused, _ = w.send(t, http.MethodPut, out.URL, "x")
		}
	}
	if refused == "" {
		refused = code(err)
	}
	if refused != "" && refused != "AccessDenied" {
		t.Errorf("%s of %s: got %s, want AccessDenied or success", operation, bucket, refused)
	}
	return refused == ""
}

// TestMatrix asks for every cell of the published table: 8 accounts, 2 buckets,
// 6 operations, with the documents that go to AWS and tokens of the accounts.
func TestMatrix(t *testing.T) {
	t.Parallel()
	w := shared.get(t)
	metadata, code := w.bucket(t, "matrix-metadata"), w.bucket(t, "matrix-code")
	for _, bucket := range []string{metadata, code} {
		w.put(t, w.s3As(w.adminKey()), bucket, "there", "something")
	}
	set, err := roles.Generate(roles.Config{
		DataPlane: "matrix", Partition: "aws", Account: account, Issuer: issuer,
		Metadata: metadata, FastRegistration: code, Workspaces: []string{"flytesnacks-development"}, Path: "/", Prefix: "matrix-",
	})
	if err != nil {
		t.Fatal(err)
	}

	var table bytes.Buffer
	fmt.Fprintf(&table, "%-32s %-10s", "account", "bucket")
	for _, operation := range operations() {
		fmt.Fprintf(&table, " %-13s", operation)
	}
	allowed, cells := 0, 0
	for _, one := range roles.Table() {
		var as aws.CredentialsProvider
		if role, ok := set.RoleOf(one.Name); ok {
			w.role(t, role.Name, string(role.Trust), string(role.Policy))
			as = w.session(t, role.ARN, w.keys.token(strings.TrimPrefix(role.Subjects[0], "system:serviceaccount:")).signed(t))
		} else {
			// An account without a role has no credentials: its requests are signed
			// by nobody that the account knows.
			as = aws.AnonymousCredentials{}
		}
		for _, bucket := range []roles.Bucket{roles.Metadata, roles.FastRegistration} {
			name := map[roles.Bucket]string{roles.Metadata: metadata, roles.FastRegistration: code}[bucket]
			fmt.Fprintf(&table, "\n%-32s %-10s", one.Name, strings.Fields(string(bucket))[0])
			for _, operation := range operations() {
				cells++
				want := may(one, bucket, operation)
				got := false
				if _, anonymous := as.(aws.AnonymousCredentials); !anonymous || !strings.HasPrefix(operation, "presigned") {
					got = w.try(t, as, name, operation) // nobody can presign without a key
				}
				if got != want {
					t.Errorf("%s, %s bucket, %s: got %v, want %v", one.Name, bucket, operation, got, want)
				}
				if got {
					allowed++
				}
				fmt.Fprintf(&table, " %-13v", map[bool]string{true: "yes", false: "-"}[got])
			}
		}
	}
	if cells != 96 {
		t.Errorf("got %d cells, want 96", cells)
	}
	t.Logf("%d of %d cells allowed, as the table says\n%s", allowed, cells, table.String())
}

// TestMatrixWithoutAStatement takes every statement of every role away, one at a
// time: exactly its cells flip, at once, and come back with it.
func TestMatrixWithoutAStatement(t *testing.T) {
	t.Parallel()
	w := shared.get(t)
	metadata, code := w.bucket(t, "flip-metadata"), w.bucket(t, "flip-code")
	for _, bucket := range []string{metadata, code} {
		w.put(t, w.s3As(w.adminKey()), bucket, "there", "something")
	}
	set, err := roles.Generate(roles.Config{
		DataPlane: "flip", Partition: "aws", Account: account, Issuer: issuer,
		Metadata: metadata, FastRegistration: code, Workspaces: []string{"flytesnacks-development"}, Path: "/", Prefix: "flip-",
	})
	if err != nil {
		t.Fatal(err)
	}
	needs := map[string]string{"list": "s3:ListBucket", "get": "s3:GetObject", "put": "s3:PutObject", "delete": "s3:DeleteObject",
		"presigned get": "s3:GetObject", "presigned put": "s3:PutObject"}
	for _, role := range set.Roles {
		var document struct {
			Version   string
			Statement []map[string]any
		}
		if err := json.Unmarshal(role.Policy, &document); err != nil {
			t.Fatal(err)
		}
		w.role(t, role.Name, string(role.Trust), string(role.Policy))
		as := w.session(t, role.ARN, w.keys.token(strings.TrimPrefix(role.Subjects[0], "system:serviceaccount:")).signed(t))
		ask := func() map[string]bool {
			out := map[string]bool{}
			for _, bucket := range []string{metadata, code} {
				for _, operation := range operations() {
					out[bucket+" "+operation] = w.try(t, as, bucket, operation)
				}
			}
			return out
		}
		before := ask()
		for i, gone := range document.Statement {
			left := document
			left.Statement = slices.Delete(slices.Clone(document.Statement), i, i+1)
			text := []byte(`{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"s3:None","Resource":"*"}]}`)
			if len(left.Statement) > 0 {
				if text, err = json.Marshal(left); err != nil {
					t.Fatal(err)
				}
			}
			w.grant(t, role.Name, string(text))
			for cell, is := range ask() {
				bucket, operation, _ := strings.Cut(cell, " ")
				// What the statement gave: its action, on this bucket.
				gave := strings.Contains(fmt.Sprint(gone["Action"]), needs[operation]) && strings.Contains(fmt.Sprint(gone["Resource"]), bucket)
				if want := before[cell] && !gave; is != want {
					t.Errorf("%s without statement %d, %s: got %v, want %v", role.Name, i, cell, is, want)
				}
			}
		}
		w.grant(t, role.Name, string(role.Policy))
		for cell, is := range ask() {
			if is != before[cell] {
				t.Errorf("%s with its policy again, %s: got %v, want %v", role.Name, cell, is, before[cell])
			}
		}
	}
}
