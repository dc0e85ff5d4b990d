package s3_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

func copyAll(w io.Writer, r io.Reader) (int64, error) { return io.Copy(w, io.LimitReader(r, 1<<20)) }

func (w *world) bucketPolicy(t *testing.T, bucket, text string) {
	t.Helper()
	_, err := w.s3As(w.adminKey()).PutBucketPolicy(t.Context(), &awss3.PutBucketPolicyInput{Bucket: &bucket, Policy: &text})
	if err != nil {
		t.Fatalf("putting the policy of %s: %v", bucket, err)
	}
}

func TestBucketPolicy(t *testing.T) {
	t.Parallel()
	w := shared.get(t)
	bucket := w.bucket(t, "policied")
	admin := w.s3As(w.adminKey())
	w.put(t, admin, bucket, "there", "something")
	arn := w.role(t, "policied", trust("StringEquals", "union:executor"), "")
	session := w.session(t, arn, w.keys.token("union:executor").signed(t))
	reader := w.role(t, "policied-reader", trust("StringEquals", "union:executor"), policy(`{"Effect":"Allow","Action":"s3:*","Resource":"*"}`))
	readers := w.session(t, reader, w.keys.token("union:executor").signed(t))
	const object = "arn:aws:s3:::policied/*"
	to := func(effect, principal, more string) string {
		return policy(fmt.Sprintf(`{"Effect":%q,"Principal":%s,"Action":"s3:GetObject","Resource":%q%s}`, effect, principal, object, more))
	}
	role := fmt.Sprintf(`{"AWS":%q}`, arn)
	when := func(operator, key, value string) string {
		return fmt.Sprintf(`,"Condition":{%q:{%q:%q}}`, operator, key, value)
	}

	for _, c := range []struct {
		name, policy string
		none, all    string // codes of a role with no policy of its own, and of one that may do everything
		anonymous    string
	}{
		{"grants to a role", to("Allow", role, ""), "", "", "AccessDenied"},
		{"grants to the account nothing that its roles do not have", to("Allow", `{"AWS":"arn:aws:iam::`+account+`:root"}`, ""), "AccessDenied", "", "AccessDenied"},
		{"grants to everybody", to("Allow", `"*"`, ""), "", "", ""},
		{"denies everybody", to("Deny", `"*"`, ""), "AccessDenied", "AccessDenied", "AccessDenied"},
		{"denies all that comes without TLS, so nothing here", policy(
			`{"Effect":"Deny","Principal":"*","Action":"s3:*","Resource":["arn:aws:s3:::policied","` + object + `"],"Condition":{"Bool":{"aws:SecureTransport":"false"}}}`), "AccessDenied", "", "AccessDenied"},
		{"denies all that comes with TLS", to("Deny", `"*"`, when("Bool", "aws:SecureTransport", "true")), "AccessDenied", "AccessDenied", "AccessDenied"},
		{"grants under a condition on the source that holds", to("Allow", role, when("IpAddress", "aws:SourceIp", "127.0.0.0/8")), "", "", "AccessDenied"},
		{"grants under a condition on the source that does not", to("Allow", role, when("IpAddress", "aws:SourceIp", "10.0.0.0/8")), "AccessDenied", "", "AccessDenied"},
		{"grants to signed headers alone", to("Allow", role, when("StringEquals", "s3:authType", "REST-HEADER")), "", "", "AccessDenied"},
		{"grants to presigned URLs alone", to("Allow", role, when("StringEquals", "s3:authType", "REST-QUERY-STRING")), "AccessDenied", "", "AccessDenied"},
		{"grants to who came by the cluster", to("Allow", role, when("StringLike", "aws:FederatedProvider", "arn:aws:iam::"+account+":oidc-provider/*")), "", "", "AccessDenied"},
		{"denies everybody but one role", to("Deny", `"*"`, when("ArnNotEquals", "aws:PrincipalArn", reader)), "AccessDenied", "", "AccessDenied"},
		{"grants to a user agent", to("Allow", `"*"`, when("StringLike", "aws:UserAgent", "aws-sdk-go*")), "", "", "AccessDenied"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.bucketPolicy(t, bucket, c.policy)
			get := func(as aws.CredentialsProvider) error {
				_, err := w.s3As(as).GetObject(t.Context(), &awss3.GetObjectInput{Bucket: &bucket, Key: aws.String("there")})
				return err
			}
			wantCode(t, get(session), c.none)
			wantCode(t, get(readers), c.all)
			if got, _ := w.send(t, http.MethodGet, w.s3+"/policied/there", ""); got != c.anonymous {
				t.Errorf("anonymous: got %q, want %q", got, c.anonymous)
			}
		})
	}

	t.Run("asks the ACL about everybody only while ACLs are on", func(t *testing.T) {
		open := "acls-of-everybody"
		own := func(how types.ObjectOwnership) {
			t.Helper()
			_, err := admin.PutBucketOwnershipControls(t.Context(), &awss3.PutBucketOwnershipControlsInput{Bucket: &open,
				OwnershipControls: &types.OwnershipControls{Rules: []types.OwnershipControlsRule{{ObjectOwnership: how}}}})
			if err != nil {
				t.Fatal(err)
			}
		}
		everybody := func(want string) {
			t.Helper()
			if got, _ := w.send(t, http.MethodGet, w.s3+"/"+open+"?list-type=2", ""); got != want {
				t.Errorf("got %q for everybody, want %q", got, want)
			}
		}
		acl := func() error {
			_, err := admin.PutBucketAcl(t.Context(), &awss3.PutBucketAclInput{Bucket: &open, ACL: types.BucketCannedACLPublicRead})
			return err
		}
		if _, err := admin.CreateBucket(t.Context(), &awss3.CreateBucketInput{Bucket: &open,
			CreateBucketConfiguration: &types.CreateBucketConfiguration{LocationConstraint: region}}); err != nil {
			t.Fatal(err)
		}
		wantCode(t, acl(), "AccessControlListNotSupported")
		everybody("AccessDenied")
		own(types.ObjectOwnershipObjectWriter)
		everybody("AccessDenied")
		if err := acl(); err != nil {
			t.Fatal(err)
		}
		everybody("")
		_, err := w.s3As(session).ListObjectsV2(t.Context(), &awss3.ListObjectsV2Input{Bucket: &open})
		wantCode(t, err, "AccessDenied") // a role is asked for by policies alone
		w.bucketPolicy(t, open, `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","Action":"s3:ListBucket","Resource":"arn:aws:s3:::`+open+`","Condition":{"StringEquals":{"aws:PrincipalType":"Anonymous"}}}]}`)
		everybody("AccessDenied")
		if _, err := admin.DeleteBucketPolicy(t.Context(), &awss3.DeleteBucketPolicyInput{Bucket: &open}); err != nil {
			t.Fatal(err)
		}
		everybody("")
		own(types.ObjectOwnershipBucketOwnerEnforced)
		everybody("AccessDenied")
	})
	t.Run("gives the policy back as it was put", func(t *testing.T) {
		text := to("Allow", role, when("NumericLessThan", "s3:signatureAge", "600000"))
		w.bucketPolicy(t, bucket, text)
		out, err := admin.GetBucketPolicy(t.Context(), &awss3.GetBucketPolicyInput{Bucket: &bucket})
		if err != nil {
			t.Fatal(err)
		}
		if *out.Policy != text {
			t.Errorf("got %s, want %s", *out.Policy, text)
		}
		_, err = w.s3As(session).GetBucketPolicy(t.Context(), &awss3.GetBucketPolicyInput{Bucket: &bucket})
		wantCode(t, err, "AccessDenied")
	})
	t.Run("forgets a policy that was deleted", func(t *testing.T) {
		w.bucketPolicy(t, bucket, to("Allow", role, ""))
		if _, err := admin.DeleteBucketPolicy(t.Context(), &awss3.DeleteBucketPolicyInput{Bucket: &bucket}); err != nil {
			t.Fatal(err)
		}
		_, err := w.s3As(session).GetObject(t.Context(), &awss3.GetObjectInput{Bucket: &bucket, Key: aws.String("there")})
		wantCode(t, err, "AccessDenied")
		_, err = admin.GetBucketPolicy(t.Context(), &awss3.GetBucketPolicyInput{Bucket: &bucket})
		wantCode(t, err, "NoSuchBucketPolicy")
	})
	for _, c := range []struct{ name, policy, want string }{
		{"refuses what is no JSON", "nonsense", "MalformedPolicy"},
		{"refuses a policy without principals", policy(`{"Effect":"Allow","Action":"s3:GetObject","Resource":"` + object + `"}`), "MalformedPolicy"},
		{"refuses a principal that is not there", to("Allow", `{"AWS":"arn:aws:iam::`+account+`:role/nobody"}`, ""), "MalformedPolicy"},
		{"refuses another bucket", policy(`{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::other/*"}`), "MalformedPolicy"},
		{"refuses another service", policy(`{"Effect":"Allow","Principal":"*","Action":"ec2:RunInstances","Resource":"` + object + `"}`), "MalformedPolicy"},
		{"refuses an operator that IAM does not have", to("Allow", `"*"`, when("StringMatches", "aws:UserAgent", "x")), "MalformedPolicy"},
		{"refuses a policy that is too long", to("Allow", `"*"`, when("StringEquals", "aws:UserAgent", strings.Repeat("x", 21<<10))), "PolicyTooLarge"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := admin.PutBucketPolicy(t.Context(), &awss3.PutBucketPolicyInput{Bucket: &bucket, Policy: &c.policy})
			wantCode(t, err, c.want)
		})
	}
	t.Run("lets only those put a policy who may", func(t *testing.T) {
		text := to("Allow", `"*"`, "")
		_, err := w.s3As(session).PutBucketPolicy(t.Context(), &awss3.PutBucketPolicyInput{Bucket: &bucket, Policy: &text})
		wantCode(t, err, "AccessDenied")
		_, err = w.s3As(readers).PutBucketPolicy(t.Context(), &awss3.PutBucketPolicyInput{Bucket: &bucket, Policy: &text})
		wantCode(t, err, "")
		_, err = admin.PutBucketPolicy(t.Context(), &awss3.PutBucketPolicyInput{Bucket: aws.String("not-there"), Policy: &text})
		wantCode(t, err, "NoSuchBucket")
	})
}

func TestConditions(t *testing.T) {
	t.Parallel()
	w := shared.get(t)
	bucket := w.bucket(t, "conditions")
	admin := w.s3As(w.adminKey())
	w.put(t, admin, bucket, "team-a/x", "x")
	w.put(t, admin, bucket, "tagged", "x")
	_, err := admin.PutObjectTagging(t.Context(), &awss3.PutObjectTaggingInput{Bucket: &bucket, Key: aws.String("tagged"),
		Tagging: &types.Tagging{TagSet: []types.Tag{{Key: aws.String("class"), Value: aws.String("open")}}}})
	if err != nil {
		t.Fatal(err)
	}
	allow := func(action, resource, operator, key, value string) string {
		return policy(fmt.Sprintf(`{"Effect":"Allow","Action":%q,"Resource":"arn:aws:s3:::conditions%s","Condition":{%q:{%q:%q}}}`, action, resource, operator, key, value))
	}
	list := func(in awss3.ListObjectsV2Input) func(*testing.T, *awss3.Client) error {
		return func(t *testing.T, c *awss3.Client) error {
			in.Bucket = &bucket
			_, err := c.ListObjectsV2(t.Context(), &in)
			return err
		}
	}
	put := func(in awss3.PutObjectInput) func(*testing.T, *awss3.Client) error {
		return func(t *testing.T, c *awss3.Client) error {
			in.Bucket, in.Key, in.Body = &bucket, aws.String("new"), strings.NewReader("x")
			_, err := c.PutObject(t.Context(), &in)
			return err
		}
	}
	get := func(key string) func(*testing.T, *awss3.Client) error {
		return func(t *testing.T, c *awss3.Client) error {
			_, err := c.GetObject(t.Context(), &awss3.GetObjectInput{Bucket: &bucket, Key: &key})
			return err
		}
	}
	presign := func(t *testing.T, c *awss3.Client) error {
		address, err := presignGet(t.Context(), awss3.NewPresignClient(c), bucket, "tagged")
		if err != nil {
			return err
		}
		if got, _ := w.send(t, http.MethodGet, address, ""); got != "" {
			return fmt.Errorf("%s", got)
		}
		return nil
	}
	for i, c := range []struct {
		name, policy string
		do           func(*testing.T, *awss3.Client) error
		want         string
	}{
		{"lists the prefix that is granted", allow("s3:ListBucket", "", "StringLike", "s3:prefix", "team-a/*"), list(awss3.ListObjectsV2Input{Prefix: aws.String("team-a/")}), ""},
		{"does not list another prefix", allow("s3:ListBucket", "", "StringLike", "s3:prefix", "team-a/*"), list(awss3.ListObjectsV2Input{Prefix: aws.String("team-b/")}), "AccessDenied"},
		{"does not list without the prefix", allow("s3:ListBucket", "", "StringLike", "s3:prefix", "team-a/*"), list(awss3.ListObjectsV2Input{}), "AccessDenied"},
		{"lists with the delimiter that is granted", allow("s3:ListBucket", "", "StringEquals", "s3:delimiter", "/"), list(awss3.ListObjectsV2Input{Delimiter: aws.String("/")}), ""},
		{"does not list more than is granted", allow("s3:ListBucket", "", "NumericLessThanEquals", "s3:max-keys", "10"), list(awss3.ListObjectsV2Input{MaxKeys: aws.Int32(11)}), "AccessDenied"},
		{"lists as many as are granted", allow("s3:ListBucket", "", "NumericLessThanEquals", "s3:max-keys", "10"), list(awss3.ListObjectsV2Input{MaxKeys: aws.Int32(10)}), ""},
		{"puts with the encryption that is asked for", allow("s3:PutObject", "/*", "StringEquals", "s3:x-amz-storage-class", "STANDARD"), put(awss3.PutObjectInput{StorageClass: types.StorageClassStandard}), ""},
		{"does not put without it", allow("s3:PutObject", "/*", "StringEquals", "s3:x-amz-server-side-encryption", "AES256"), put(awss3.PutObjectInput{}), "AccessDenied"},
		{"does not put with another ACL", allow("s3:PutObject", "/*", "StringEquals", "s3:x-amz-acl", "bucket-owner-full-control"), put(awss3.PutObjectInput{ACL: types.ObjectCannedACLPublicRead}), "AccessDenied"},
		{"does not tag by a header without PutObjectTagging", policy(`{"Effect":"Allow","Action":"s3:PutObject","Resource":"arn:aws:s3:::conditions/*"}`), put(awss3.PutObjectInput{Tagging: aws.String("a=b")}), "AccessDenied"},
		{"tags by a header with it", policy(`{"Effect":"Allow","Action":["s3:PutObject","s3:PutObjectTagging"],"Resource":"arn:aws:s3:::conditions/*","Condition":{"StringEquals":{"s3:RequestObjectTag/a":"b"}}}`), put(awss3.PutObjectInput{Tagging: aws.String("a=b")}), ""},
		{"gets an object by its tag", allow("s3:GetObject", "/*", "StringEquals", "s3:ExistingObjectTag/class", "open"), get("tagged"), ""},
		{"does not get an object without the tag", allow("s3:GetObject", "/*", "StringEquals", "s3:ExistingObjectTag/class", "open"), get("team-a/x"), "AccessDenied"},
		{"does not tell who may not list that a key is missing", policy(`{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::conditions/*"}`), get("missing"), "AccessDenied"},
		{"tells who may list that a key is missing", policy(`{"Effect":"Allow","Action":["s3:GetObject","s3:ListBucket"],"Resource":["arn:aws:s3:::conditions","arn:aws:s3:::conditions/*"]}`), get("missing"), "NoSuchKey"},
		{"does not read with signed headers when presigning is granted", allow("s3:GetObject", "/*", "StringEquals", "s3:authType", "REST-QUERY-STRING"), get("tagged"), "AccessDenied"},
		{"reads by a presigned URL when presigning is granted", allow("s3:GetObject", "/*", "StringEquals", "s3:authType", "REST-QUERY-STRING"), presign, ""},
		{"reads by a presigned URL that is young enough", allow("s3:GetObject", "/*", "NumericLessThanEquals", "s3:signatureAge", "60000"), presign, ""},
		{"does not read by a presigned URL that is too old", allow("s3:GetObject", "/*", "NumericLessThan", "s3:signatureAge", "0"), presign, "AccessDenied"},
		{"has no signature age where nothing was presigned", allow("s3:GetObject", "/*", "NumericLessThanEquals", "s3:signatureAge", "60000"), get("tagged"), "AccessDenied"},
		{"knows the role by its ARN", allow("s3:GetObject", "/*", "ArnLike", "aws:PrincipalArn", "arn:aws:iam::*:role/conditions-*"), get("tagged"), ""},
		{"knows the region", allow("s3:GetObject", "/*", "StringEquals", "aws:RequestedRegion", region), get("tagged"), ""},
		{"knows the account of the resource", allow("s3:GetObject", "/*", "StringEquals", "aws:ResourceAccount", account), get("tagged"), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			name := fmt.Sprintf("conditions-%d", i)
			arn := w.role(t, name, trust("StringEquals", "union:executor"), c.policy)
			session := w.session(t, arn, w.keys.token("union:executor").signed(t))
			wantCode(t, c.do(t, w.s3As(session)), c.want)
		})
	}
}

func TestBoundariesAndSessionPolicies(t *testing.T) {
	t.Parallel()
	w := shared.get(t)
	bucket := w.bucket(t, "bounded")
	admin := w.s3As(w.adminKey())
	w.put(t, admin, bucket, "there", "something")
	all := policy(`{"Effect":"Allow","Action":"s3:*","Resource":"*"}`)
	reading := policy(`{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::bounded/*"}`)
	made, err := w.iamAs(w.adminKey()).CreatePolicy(t.Context(), &iam.CreatePolicyInput{PolicyName: aws.String("bounded-reading"), PolicyDocument: &reading})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.iamAs(w.adminKey()).DeletePolicy(t.Context(), &iam.DeletePolicyInput{PolicyArn: made.Policy.Arn})
	})
	bounded := w.role(t, "bounded", trust("StringEquals", "union:executor"), all, func(in *iam.CreateRoleInput) { in.PermissionsBoundary = made.Policy.Arn })
	free := w.role(t, "unbounded", trust("StringEquals", "union:executor"), all)
	nothing := w.role(t, "nothing", trust("StringEquals", "union:executor"), "")
	w.bucketPolicy(t, bucket, policy(fmt.Sprintf(`{"Effect":"Allow","Principal":{"AWS":%q},"Action":["s3:GetObject","s3:PutObject"],"Resource":"arn:aws:s3:::bounded/*"}`, nothing)))

	token := w.keys.token("union:executor").signed(t)
	for _, c := range []struct {
		name, role, session string
		get, put            string
	}{
		{"lets a role do what it may", free, "", "", ""},
		{"lets a boundary take away", bounded, "", "", "AccessDenied"},
		{"lets a session policy take away", free, reading, "", "AccessDenied"},
		{"lets a session policy give nothing", bounded, all, "", "AccessDenied"},
		{"lets a bucket policy give to a role that has nothing", nothing, "", "", ""},
		{"lets a session policy take away what a bucket policy gives", nothing, reading, "", "AccessDenied"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			as, err := w.assume(c.role, token, c.session)
			if err != nil {
				t.Fatal(err)
			}
			client := w.s3As(as)
			_, err = client.GetObject(t.Context(), &awss3.GetObjectInput{Bucket: &bucket, Key: aws.String("there")})
			wantCode(t, err, c.get)
			_, err = client.PutObject(t.Context(), &awss3.PutObjectInput{Bucket: &bucket, Key: aws.String("new"), Body: strings.NewReader("x")})
			wantCode(t, err, c.put)
		})
	}
	t.Run("says what denies", func(t *testing.T) {
		as, err := w.assume(bounded, token, "")
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.s3As(as).PutObject(t.Context(), &awss3.PutObjectInput{Bucket: &bucket, Key: aws.String("new"), Body: strings.NewReader("x")})
		want := `User: arn:aws:sts::123456789012:assumed-role/bounded/test is not authorized to perform: s3:PutObject on resource: "arn:aws:s3:::bounded/new" because no permissions boundary allows the s3:PutObject action`
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want …%s", err, want)
		}
	})
}

func TestOperations(t *testing.T) {
	t.Parallel()
	w := shared.get(t)
	bucket, source := w.bucket(t, "operations"), w.bucket(t, "operations-source")
	admin := w.s3As(w.adminKey())
	w.put(t, admin, source, "mine", "one")
	w.put(t, admin, source, "theirs", "two")
	arn := w.role(t, "operations", trust("StringEquals", "union:executor"), policy(
		`{"Effect":"Allow","Action":["s3:PutObject","s3:GetObject","s3:AbortMultipartUpload","s3:ListMultipartUploadParts"],"Resource":"arn:aws:s3:::operations/*"}`,
		`{"Effect":"Allow","Action":["s3:ListBucket","s3:ListBucketMultipartUploads","s3:GetBucketLocation"],"Resource":"arn:aws:s3:::operations"}`,
		`{"Effect":"Allow","Action":"s3:DeleteObject","Resource":"arn:aws:s3:::operations/mine/*"}`,
		`{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::operations-source/mine"}`,
	))
	client := w.s3As(w.session(t, arn, w.keys.token("union:executor").signed(t)))
	ctx := t.Context()

	t.Run("copies what it may read to where it may write", func(t *testing.T) {
		_, err := client.CopyObject(ctx, &awss3.CopyObjectInput{Bucket: &bucket, Key: aws.String("copy"), CopySource: aws.String("operations-source/mine")})
		wantCode(t, err, "")
		_, err = client.CopyObject(ctx, &awss3.CopyObjectInput{Bucket: &bucket, Key: aws.String("copy"), CopySource: aws.String("operations-source/theirs")})
		wantCode(t, err, "AccessDenied")
		_, err = client.CopyObject(ctx, &awss3.CopyObjectInput{Bucket: &source, Key: aws.String("copy"), CopySource: aws.String("operations/copy")})
		wantCode(t, err, "AccessDenied")
	})
	t.Run("decides on each key of DeleteObjects", func(t *testing.T) {
		var objects []types.ObjectIdentifier
		for _, key := range []string{"mine/1", "theirs/1", "mine/2"} {
			w.put(t, client, bucket, key, "x")
			objects = append(objects, types.ObjectIdentifier{Key: &key})
		}
		out, err := client.DeleteObjects(ctx, &awss3.DeleteObjectsInput{Bucket: &bucket, Delete: &types.Delete{Objects: objects}})
		if err != nil {
			t.Fatal(err)
		}
		if len(out.Deleted) != 2 || len(out.Errors) != 1 || *out.Errors[0].Key != "theirs/1" || *out.Errors[0].Code != "AccessDenied" {
			t.Errorf("got %d deleted, errors %+v; want mine/1 and mine/2 deleted and AccessDenied for theirs/1", len(out.Deleted), out.Errors)
		}
		if _, err := admin.HeadObject(ctx, &awss3.HeadObjectInput{Bucket: &bucket, Key: aws.String("theirs/1")}); err != nil {
			t.Errorf("got %v, want theirs/1 to be there", err)
		}
	})
	t.Run("uploads in parts", func(t *testing.T) {
		key := aws.String("parts")
		up, err := client.CreateMultipartUpload(ctx, &awss3.CreateMultipartUploadInput{Bucket: &bucket, Key: key})
		if err != nil {
			t.Fatal(err)
		}
		part, err := client.UploadPart(ctx, &awss3.UploadPartInput{Bucket: &bucket, Key: key, UploadId: up.UploadId, PartNumber: aws.Int32(1), Body: strings.NewReader("part")})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.ListParts(ctx, &awss3.ListPartsInput{Bucket: &bucket, Key: key, UploadId: up.UploadId}); err != nil {
			t.Error(err)
		}
		if _, err := client.ListMultipartUploads(ctx, &awss3.ListMultipartUploadsInput{Bucket: &bucket}); err != nil {
			t.Error(err)
		}
		_, err = client.CompleteMultipartUpload(ctx, &awss3.CompleteMultipartUploadInput{Bucket: &bucket, Key: key, UploadId: up.UploadId,
			MultipartUpload: &types.CompletedMultipartUpload{Parts: []types.CompletedPart{{ETag: part.ETag, PartNumber: aws.Int32(1)}}}})
		if err != nil {
			t.Error(err)
		}
		_, err = client.CreateMultipartUpload(ctx, &awss3.CreateMultipartUploadInput{Bucket: &source, Key: key})
		wantCode(t, err, "AccessDenied")
	})
	t.Run("lists by both versions of the call", func(t *testing.T) {
		_, err := client.ListObjects(ctx, &awss3.ListObjectsInput{Bucket: &bucket})
		wantCode(t, err, "")
		_, err = client.ListObjects(ctx, &awss3.ListObjectsInput{Bucket: &source})
		wantCode(t, err, "AccessDenied")
		_, err = client.ListBuckets(ctx, &awss3.ListBucketsInput{})
		wantCode(t, err, "AccessDenied")
		out, err := admin.ListBuckets(ctx, &awss3.ListBucketsInput{})
		if err != nil || len(out.Buckets) < 2 {
			t.Errorf("got %v, want at least the two buckets of this test", err)
		}
	})
	t.Run("tells versions from objects", func(t *testing.T) {
		_, err := admin.PutBucketVersioning(ctx, &awss3.PutBucketVersioningInput{Bucket: &bucket, VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled}})
		if err != nil {
			t.Fatal(err)
		}
		out, err := client.PutObject(ctx, &awss3.PutObjectInput{Bucket: &bucket, Key: aws.String("mine/v"), Body: strings.NewReader("x")})
		if err != nil || out.VersionId == nil {
			t.Fatalf("got %+v (%v), want a version", out, err)
		}
		_, err = client.GetObject(ctx, &awss3.GetObjectInput{Bucket: &bucket, Key: aws.String("mine/v"), VersionId: out.VersionId})
		wantCode(t, err, "AccessDenied") // GetObjectVersion is not granted
		_, err = client.DeleteObject(ctx, &awss3.DeleteObjectInput{Bucket: &bucket, Key: aws.String("mine/v"), VersionId: out.VersionId})
		wantCode(t, err, "AccessDenied") // nor DeleteObjectVersion
		_, err = client.DeleteObject(ctx, &awss3.DeleteObjectInput{Bucket: &bucket, Key: aws.String("mine/v")})
		wantCode(t, err, "")
		_, err = client.CopyObject(ctx, &awss3.CopyObjectInput{Bucket: &bucket, Key: aws.String("copy"), CopySource: aws.String("operations/mine/v?versionId=" + *out.VersionId)})
		wantCode(t, err, "AccessDenied")
		w.grant(t, "operations", policy(`{"Effect":"Allow","Action":["s3:PutObject","s3:GetObjectVersion"],"Resource":"arn:aws:s3:::operations/*"}`))
		_, err = client.CopyObject(ctx, &awss3.CopyObjectInput{Bucket: &bucket, Key: aws.String("copy"), CopySource: aws.String("operations/mine/v?versionId=" + *out.VersionId)})
		wantCode(t, err, "")
	})
}
