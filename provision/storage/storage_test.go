package storage_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/operations"
	"biplane.dev/biplane/provision/step"
	"biplane.dev/biplane/provision/step/killtest"
	"biplane.dev/biplane/provision/storage"
)

// text is a response without what differs between two calls.
func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	var fields map[string]any
	if json.Unmarshal(b, &fields) == nil {
		delete(fields, "ResultMetadata")
		b, _ = json.Marshal(fields)
	}
	return string(b)
}

func TestSteps(t *testing.T) {
	t.Parallel()
	t.Run("it makes both buckets with all settings, and finds nothing to do again", func(t *testing.T) {
		t.Parallel()
		set := generate(t, newPlane(), func(c *storage.Config) { c.Org = "acme" })
		if got := plan(t, step.Runner{Steps: storage.Steps(customer(), set)}, step.Present); len(got.With(step.Create)) != 2 {
			t.Fatalf("got plan %s, want 2 to create", got.Summary())
		}
		apply(t, customer(), set, step.Present)
		if got := plan(t, step.Runner{Steps: storage.Steps(customer(), set)}, step.Present); len(got.With(step.Keep)) != 2 {
			t.Errorf("got plan %+v, want both kept", got.Steps)
		}
		for _, bucket := range []string{set.Metadata, set.FastRegistration} {
			got, err := settingsOf(t.Context(), customer(), bucket)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range []string{
				"eu-central-1", `union:managed-by","Value":"biplane"`, `union:org","Value":"acme"`, `union:component","Value":"storage"`,
				`"RestrictPublicBuckets":true`, "BucketOwnerEnforced", "AES256", `"Status":"Enabled"`, `"DaysAfterInitiation":7`, `"NoncurrentDays":30`, `"PUT"`, "aws:SecureTransport",
			} {
				if !strings.Contains(got, want) {
					t.Errorf("got %s, want %s in it", got, want)
				}
			}
		}
	})

	t.Run("it puts right what somebody changed, and says what it was", func(t *testing.T) {
		t.Parallel()
		set := generate(t, newPlane())
		apply(t, customer(), set, step.Present)
		_, err := customer().PutBucketVersioning(t.Context(), &s3.PutBucketVersioningInput{Bucket: &set.Metadata,
			VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusSuspended}})
		if err != nil {
			t.Fatal(err)
		}
		got := first(t, customer(), set, step.Present)
		want := []string{"set versioning: Enabled (it is: Suspended)"}
		if got.Action != step.Update || !slices.Equal(got.Details, want) {
			t.Fatalf("got %s %q, want update %q", got.Action, got.Details, want)
		}
		apply(t, customer(), set, step.Present)
		if got := first(t, customer(), set, step.Present); got.Action != step.Keep {
			t.Errorf("got %s %q, want keep", got.Action, got.Details)
		}
	})

	t.Run("it keeps the rules, tags and statements that others added", func(t *testing.T) {
		t.Parallel()
		set, api := generate(t, newPlane()), customer()
		apply(t, api, set, step.Present)
		theirs := types.LifecycleRule{ID: aws.String("theirs"), Status: types.ExpirationStatusEnabled,
			Filter: &types.LifecycleRuleFilter{Prefix: aws.String("logs/")}, Expiration: &types.LifecycleExpiration{Days: aws.Int32(9)}}
		_, err1 := api.PutBucketLifecycleConfiguration(t.Context(), &s3.PutBucketLifecycleConfigurationInput{Bucket: &set.Metadata,
			LifecycleConfiguration: &types.BucketLifecycleConfiguration{Rules: []types.LifecycleRule{theirs}}})
		_, err2 := api.PutBucketCors(t.Context(), &s3.PutBucketCorsInput{Bucket: &set.Metadata, CORSConfiguration: &types.CORSConfiguration{CORSRules: []types.CORSRule{
			{ID: aws.String("theirs"), AllowedMethods: []string{"GET"}, AllowedOrigins: []string{"https://theirs.example"}}}}})
		_, err3 := api.PutBucketTagging(t.Context(), &s3.PutBucketTaggingInput{Bucket: &set.Metadata, Tagging: &types.Tagging{TagSet: append(tagsOf(t, set.Metadata),
			types.Tag{Key: aws.String("cost-center"), Value: aws.String("4711")}, types.Tag{Key: aws.String("union:spec-version"), Value: aws.String("0")})}})
		_, err4 := api.PutBucketPolicy(t.Context(), &s3.PutBucketPolicyInput{Bucket: &set.Metadata, Policy: aws.String(
			`{"Version":"2012-10-17","Statement":{"Sid":"Theirs","Effect":"Deny","Principal":"*","Action":"s3:PutBucketAcl","Resource":"arn:aws:s3:::` + set.Metadata + `"}}`)})
		if err := errors.Join(err1, err2, err3, err4); err != nil {
			t.Fatal(err)
		}
		apply(t, api, set, step.Present)
		got, err := settingsOf(t.Context(), api, set.Metadata)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{`"theirs"`, `"Days":9`, "https://theirs.example", "4711", "Theirs", "TLSOnly", `"DaysAfterInitiation":7`, `union:spec-version","Value":"1"`} {
			if !strings.Contains(got, want) {
				t.Errorf("got %s, want %s in it", got, want)
			}
		}
	})

	t.Run("it refuses another account's bucket", func(t *testing.T) {
		t.Parallel()
		set := generate(t, newPlane())
		create(t, stranger(), set.Metadata)
		got := first(t, customer(), set, step.Present)
		if got.Action != step.Refuse || got.Hint == "" {
			t.Errorf("got %s %q, want a refusal with a hint", got.Action, got.Details)
		}
		if got := first(t, customer(), set, step.Absent); got.Action != step.Leave {
			t.Errorf("got %s, want it left when removing", got.Action)
		}
	})

	t.Run("it refuses a bucket that somebody made by hand, unless it is to be adopted", func(t *testing.T) {
		t.Parallel()
		plane := newPlane()
		set := generate(t, plane)
		create(t, customer(), set.Metadata)
		if got := first(t, customer(), set, step.Present); got.Action != step.Refuse || got.Hint == "" {
			t.Fatalf("got %s %q, want a refusal with a hint", got.Action, got.Details)
		}
		adopting := generate(t, plane, func(c *storage.Config) { c.Adopt = true })
		if got := first(t, customer(), adopting, step.Present); got.Action != step.Adopt {
			t.Fatalf("got %s %q, want it adopted", got.Action, got.Details)
		}
		apply(t, customer(), adopting, step.Present)
		if got := first(t, customer(), set, step.Present); got.Action != step.Keep {
			t.Errorf("got %s %q, want it kept from then on", got.Action, got.Details)
		}
	})

	t.Run("it refuses another data plane's bucket, adopting or not", func(t *testing.T) {
		t.Parallel()
		set := generate(t, newPlane(), func(c *storage.Config) { c.Adopt = true })
		create(t, customer(), set.Metadata)
		_, err := customer().PutBucketTagging(t.Context(), &s3.PutBucketTaggingInput{Bucket: &set.Metadata, Tagging: &types.Tagging{TagSet: []types.Tag{
			{Key: aws.String("union:managed-by"), Value: aws.String("biplane")}, {Key: aws.String("union:component"), Value: aws.String("storage")},
			{Key: aws.String("union:data-plane-id"), Value: aws.String("theirs")}}}})
		if err != nil {
			t.Fatal(err)
		}
		got := first(t, customer(), set, step.Present)
		if got.Action != step.Refuse || !strings.Contains(strings.Join(got.Details, ""), "data plane theirs") {
			t.Errorf("got %s %q, want a refusal that names the other data plane", got.Action, got.Details)
		}
	})

	t.Run("it leaves data where it is, unless it is to be deleted", func(t *testing.T) {
		t.Parallel()
		plane := newPlane()
		set := generate(t, plane)
		apply(t, customer(), set, step.Present)
		fill(t, customer(), set.Metadata)
		if got := first(t, customer(), set, step.Absent); got.Action != step.Leave || len(got.Details) == 0 {
			t.Fatalf("got %s, want it left, and why", got.Action)
		}
		deleting := generate(t, plane, func(c *storage.Config) { c.DeleteData = true })
		apply(t, customer(), deleting, step.Absent)
		if got := first(t, customer(), set, step.Absent); got.Action != step.None {
			t.Errorf("got %s, want none left", got.Action)
		}
	})

	t.Run("it says what an endpoint does not implement, and makes the rest", func(t *testing.T) {
		t.Parallel()
		set := generate(t, newPlane())
		api := lessS3{S3: customer()}
		apply(t, api, set, step.Present)
		got := first(t, api, set, step.Present)
		want := []string{"not supported by this endpoint: public access, encryption, lifecycle"}
		if got.Action != step.Keep || !slices.Equal(got.Details, want) {
			t.Errorf("got %s %q, want keep %q", got.Action, got.Details, want)
		}
	})

	t.Run("it names no location in the region that has none", func(t *testing.T) {
		t.Parallel()
		set := generate(t, newPlane(), func(c *storage.Config) { c.Region = "us-east-1" })
		key := double.Accounts().Customer.Credentials
		api := newClient(double.URL(), "us-east-1", key.AccessKeyID, key.SecretAccessKey, "")
		apply(t, api, set, step.Present)
		if got := first(t, api, set, step.Present); got.Action != step.Keep {
			t.Errorf("got %s %q, want keep", got.Action, got.Details)
		}
		elsewhere := generate(t, set.Metadata[len("union-"):len(set.Metadata)-len("-metadata-")-12])
		if got := first(t, api, elsewhere, step.Present); got.Action != step.Refuse || !strings.Contains(got.Details[0], "it is in us-east-1, wanted in "+region) {
			t.Errorf("got %s %q, want it refused for its region", got.Action, got.Details)
		}
	})

	t.Run("it may run twice at the same time", func(t *testing.T) {
		t.Parallel()
		set := generate(t, newPlane())
		r := step.Runner{Steps: storage.Steps(customer(), set)}
		p := plan(t, r, step.Present)
		var both sync.WaitGroup
		errs := make([]error, 2)
		for i := range errs {
			both.Go(func() { errs[i] = r.Apply(t.Context(), p) })
		}
		both.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Errorf("got %v, want none", err)
		}
		if got := first(t, customer(), set, step.Present); got.Action != step.Keep {
			t.Errorf("got %s %q, want keep", got.Action, got.Details)
		}
	})

	t.Run("it ends with the reason when S3 does not let it look", func(t *testing.T) {
		t.Parallel()
		set := generate(t, newPlane())
		apply(t, customer(), set, step.Present)
		_, err := step.Runner{Steps: storage.Steps(newClient(double.URL(), region, "AKIAIOSFODNN7EXAMPLE", "none", ""), set)}.Plan(t.Context(), step.Present)
		if errorCode(err) != "InvalidAccessKeyId" {
			t.Errorf("got %v, want InvalidAccessKeyId", err)
		}
	})
}

// lessS3 is an endpoint that leaves calls out, as stores that speak S3 do.
type lessS3 struct{ storage.S3 }

var errNotThere = &smithy.GenericAPIError{Code: "NotImplemented", Message: "A header you provided implies functionality that is not implemented."}

func (lessS3) GetBucketEncryption(context.Context, *s3.GetBucketEncryptionInput, ...func(*s3.Options)) (*s3.GetBucketEncryptionOutput, error) {
	return nil, errNotThere
}

func (lessS3) GetBucketLifecycleConfiguration(context.Context, *s3.GetBucketLifecycleConfigurationInput, ...func(*s3.Options)) (*s3.GetBucketLifecycleConfigurationOutput, error) {
	return nil, errNotThere
}

func (lessS3) GetPublicAccessBlock(context.Context, *s3.GetPublicAccessBlockInput, ...func(*s3.Options)) (*s3.GetPublicAccessBlockOutput, error) {
	return nil, errNotThere
}

func create(t *testing.T, api *s3.Client, bucket string) {
	t.Helper()
	_, err := api.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &bucket,
		CreateBucketConfiguration: &types.CreateBucketConfiguration{LocationConstraint: region}})
	if err != nil {
		t.Fatal(err)
	}
}

func tagsOf(t *testing.T, bucket string) []types.Tag {
	t.Helper()
	out, err := customer().GetBucketTagging(t.Context(), &s3.GetBucketTaggingInput{Bucket: &bucket})
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(out.TagSet, func(tag types.Tag) bool { return *tag.Key == "union:spec-version" })
}

// fill puts into a bucket what keeps it from being deleted: versions, a mark of a
// deletion, an upload that is not finished.
func fill(t *testing.T, api *s3.Client, bucket string) {
	t.Helper()
	for i := range 3 {
		_, err := api.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: aws.String("run/output.pb"), Body: strings.NewReader(fmt.Sprint(i))})
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err1 := api.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &bucket, Key: aws.String("run/output.pb")})
	_, err2 := api.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: &bucket, Key: aws.String("run/large")})
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
}

// TestKill kills making and removing a bucket, loses responses of theirs, and finishes
// them.
func TestKill(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "storage")
	if err := os.Symlink(self, link); err != nil {
		t.Fatal(err)
	}
	var trials atomic.Int64
	for _, goal := range []step.Goal{step.Present, step.Absent} {
		t.Run("it finishes a run to "+string(goal), func(t *testing.T) {
			t.Parallel()
			killtest.Run(t, killtest.Program{
				Path: link,
				World: func(ctx context.Context) (*killtest.World, error) {
					plane := fmt.Sprintf("kill-%s-%04d", goal, trials.Add(1)) // of equal length
					set := generate(t, plane, func(c *storage.Config) { c.DeleteData = true })
					if goal == step.Absent {
						r := step.Runner{Steps: storage.Steps(customer(), set)[:1]}
						p, err := r.Plan(ctx, step.Present)
						if err == nil {
							err = r.Apply(ctx, p)
						}
						if err != nil {
							return nil, err
						}
						fill(t, customer(), set.Metadata)
					}
					return &killtest.World{
						Endpoint: double.URL(),
						Env:      append(double.Env(), "RUN_STORAGE=1", "DATA_PLANE="+plane, "GOAL="+string(goal), "GOMAXPROCS=1"),
						State: func(ctx context.Context) (string, error) {
							state, err := settingsOf(ctx, customer(), set.Metadata)
							return strings.ReplaceAll(state, plane, "PLANE"), err
						},
						Close: func() {},
					}, nil
				},
			})
		})
	}
}

func TestGenerate(t *testing.T) {
	t.Parallel()
	set := generate(t, "demo")
	if set.Metadata != "union-demo-metadata-123456789012" || set.FastRegistration != "union-demo-fast-registration-123456789012" {
		t.Errorf("got %s and %s, want the vendor's prefix, the data plane, what is in it, and the account", set.Metadata, set.FastRegistration)
	}
	for _, c := range []struct {
		name   string
		change func(*storage.Config)
		says   string
	}{
		{"it refuses a data plane that is no name", func(c *storage.Config) { c.DataPlane = "Demo_" }, `"Demo_"`},
		{"it refuses names that are too long", func(c *storage.Config) { c.DataPlane = strings.Repeat("d", 27) }, "would have 64 characters"},
		{"it refuses an account that is none", func(c *storage.Config) { c.Account = "1" }, `"1"`},
		{"it refuses a region that is none", func(c *storage.Config) { c.Region = "europe" }, `"europe"`},
		{"it refuses a partition that is none", func(c *storage.Config) { c.Partition = "aws-eu" }, `"aws-eu"`},
		{"it refuses a suffix that is none", func(c *storage.Config) { c.Suffix = "A" }, `"A"`},
		{"it refuses a key of another region", func(c *storage.Config) { c.KMSKey = "arn:aws:kms:us-east-1:123456789012:key/1" }, "us-east-1"},
		{"it refuses an origin without a scheme", func(c *storage.Config) { c.Origins = []string{"example.com"} }, "example.com"},
		{"it refuses an empty list of origins", func(c *storage.Config) { c.Origins = []string{} }, "no origin"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cfg := storage.Config{DataPlane: "demo", Partition: "aws", Account: "123456789012", Region: region}
			c.change(&cfg)
			_, err := storage.Generate(cfg)
			var said *usererr.Error
			if !errors.As(err, &said) || !strings.Contains(err.Error(), c.says) || said.Hint == "" {
				t.Errorf("got %v, want a sentence with %s, and a hint", err, c.says)
			}
		})
	}
}

// Whoever provisions has no more than the table: what it does not have is for an
// account's own administrator to ask for, see Config.TLSOnly.
func TestEveryCallOfTheStepsIsInTheTable(t *testing.T) {
	t.Parallel()
	var listed []string
	for _, op := range operations.Operations() {
		if op.Roles.Has(operations.Vendor) {
			listed = append(listed, operations.Name(op.Call))
		}
	}
	var missing []string
	client := reflect.TypeFor[storage.S3]()
	for i := range client.NumMethod() {
		if call := "s3:" + client.Method(i).Name; !slices.Contains(listed, call) {
			missing = append(missing, call)
		}
	}
	if want := []string{"s3:GetBucketPolicy", "s3:PutBucketPolicy"}; !slices.Equal(missing, want) {
		t.Errorf("got %q beyond the table, want %q", missing, want)
	}
}
