package storage

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// setting is one thing that a bucket has. It is compared as text, which is also what
// a plan shows.
type setting struct {
	name string
	want string
	// get returns what there is, "" when it was never set.
	get func(ctx context.Context) (string, error)
	put func(ctx context.Context) error
}

// settings are in the order in which they are made: first what keeps the bucket closed.
func (s *bucketStep) settings() []setting {
	all := []setting{s.publicAccess(), s.objectOwnership(), s.encryption(), s.versioning(), s.lifecycle(), s.cors()}
	if s.set.config.TLSOnly {
		all = append(all, s.tlsOnly())
	}
	return all
}

func (s *bucketStep) publicAccess() setting {
	const want = "none, whatever a policy or an ACL says"
	return setting{
		name: "public access", want: want,
		get: func(ctx context.Context) (string, error) {
			out, err := s.s3.GetPublicAccessBlock(ctx, &s3.GetPublicAccessBlockInput{Bucket: &s.bucket, ExpectedBucketOwner: s.account()})
			if err != nil {
				return "", err
			}
			c := out.PublicAccessBlockConfiguration
			if c != nil && aws.ToBool(c.BlockPublicAcls) && aws.ToBool(c.BlockPublicPolicy) && aws.ToBool(c.IgnorePublicAcls) && aws.ToBool(c.RestrictPublicBuckets) {
				return want, nil
			}
			return "possible", nil
		},
		put: func(ctx context.Context) error {
			yes := aws.Bool(true)
			_, err := s.s3.PutPublicAccessBlock(ctx, &s3.PutPublicAccessBlockInput{Bucket: &s.bucket, ExpectedBucketOwner: s.account(),
				PublicAccessBlockConfiguration: &types.PublicAccessBlockConfiguration{BlockPublicAcls: yes, BlockPublicPolicy: yes, IgnorePublicAcls: yes, RestrictPublicBuckets: yes}})
			return err
		},
	}
}

func (s *bucketStep) objectOwnership() setting {
	return setting{
		name: "owner of objects", want: string(types.ObjectOwnershipBucketOwnerEnforced),
		get: func(ctx context.Context) (string, error) {
			out, err := s.s3.GetBucketOwnershipControls(ctx, &s3.GetBucketOwnershipControlsInput{Bucket: &s.bucket, ExpectedBucketOwner: s.account()})
			if err != nil || out.OwnershipControls == nil || len(out.OwnershipControls.Rules) == 0 {
				return "", err
			}
			return string(out.OwnershipControls.Rules[0].ObjectOwnership), nil
		},
		put: func(ctx context.Context) error {
			_, err := s.s3.PutBucketOwnershipControls(ctx, &s3.PutBucketOwnershipControlsInput{Bucket: &s.bucket, ExpectedBucketOwner: s.account(),
				OwnershipControls: &types.OwnershipControls{Rules: []types.OwnershipControlsRule{{ObjectOwnership: types.ObjectOwnershipBucketOwnerEnforced}}}})
			return err
		},
	}
}

func (s *bucketStep) encryption() setting {
	rule := types.ServerSideEncryptionByDefault{SSEAlgorithm: types.ServerSideEncryptionAes256}
	want := string(rule.SSEAlgorithm)
	if key := s.set.config.KMSKey; key != "" {
		rule = types.ServerSideEncryptionByDefault{SSEAlgorithm: types.ServerSideEncryptionAwsKms, KMSMasterKeyID: &key}
		want = string(rule.SSEAlgorithm) + " with " + key
	}
	return setting{
		name: "encryption", want: want,
		get: func(ctx context.Context) (string, error) {
			out, err := s.s3.GetBucketEncryption(ctx, &s3.GetBucketEncryptionInput{Bucket: &s.bucket, ExpectedBucketOwner: s.account()})
			if err != nil || out.ServerSideEncryptionConfiguration == nil {
				return "", err
			}
			for _, r := range out.ServerSideEncryptionConfiguration.Rules {
				if d := r.ApplyServerSideEncryptionByDefault; d != nil && aws.ToString(d.KMSMasterKeyID) != "" {
					return string(d.SSEAlgorithm) + " with " + *d.KMSMasterKeyID, nil
				} else if d != nil {
					return string(d.SSEAlgorithm), nil
				}
			}
			return "", nil
		},
		put: func(ctx context.Context) error {
			// One key of the bucket for many objects, where KMS counts and charges every call.
			_, err := s.s3.PutBucketEncryption(ctx, &s3.PutBucketEncryptionInput{Bucket: &s.bucket, ExpectedBucketOwner: s.account(),
				ServerSideEncryptionConfiguration: &types.ServerSideEncryptionConfiguration{Rules: []types.ServerSideEncryptionRule{{
					ApplyServerSideEncryptionByDefault: &rule, BucketKeyEnabled: aws.Bool(s.set.config.KMSKey != "")}}}})
			return err
		},
	}
}

func (s *bucketStep) versioning() setting {
	return setting{
		name: "versioning", want: string(types.BucketVersioningStatusEnabled),
		get: func(ctx context.Context) (string, error) {
			out, err := s.s3.GetBucketVersioning(ctx, &s3.GetBucketVersioningInput{Bucket: &s.bucket, ExpectedBucketOwner: s.account()})
			if err != nil {
				return "", err
			}
			return string(out.Status), nil
		},
		put: func(ctx context.Context) error {
			_, err := s.s3.PutBucketVersioning(ctx, &s3.PutBucketVersioningInput{Bucket: &s.bucket, ExpectedBucketOwner: s.account(),
				VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled}})
			return err
		},
	}
}

// ruleID marks the rules that are ours among a bucket's lifecycle and CORS rules.
// Those of others are kept as they are.
const ruleID = "biplane"

const (
	abortAfterDays = 7  // of an upload that was begun and not finished
	keepFormerDays = 30 // of a version that was overwritten or deleted
)

func (s *bucketStep) lifecycle() setting {
	ours := types.LifecycleRule{
		ID: aws.String(ruleID), Status: types.ExpirationStatusEnabled, Filter: &types.LifecycleRuleFilter{Prefix: aws.String("")},
		AbortIncompleteMultipartUpload: &types.AbortIncompleteMultipartUpload{DaysAfterInitiation: aws.Int32(abortAfterDays)},
		NoncurrentVersionExpiration:    &types.NoncurrentVersionExpiration{NoncurrentDays: aws.Int32(keepFormerDays)},
	}
	text := func(r types.LifecycleRule) string {
		var abort, former int32
		if a := r.AbortIncompleteMultipartUpload; a != nil {
			abort = aws.ToInt32(a.DaysAfterInitiation)
		}
		if n := r.NoncurrentVersionExpiration; n != nil {
			former = aws.ToInt32(n.NoncurrentDays)
		}
		off := ""
		if r.Status != types.ExpirationStatusEnabled {
			off = "off: "
		}
		return fmt.Sprintf("%sdrop unfinished uploads after %d days, former versions after %d", off, abort, former)
	}
	isOurs := func(r types.LifecycleRule) bool { return aws.ToString(r.ID) == ruleID }
	read := func(ctx context.Context) (*s3.GetBucketLifecycleConfigurationOutput, error) {
		return s.s3.GetBucketLifecycleConfiguration(ctx, &s3.GetBucketLifecycleConfigurationInput{Bucket: &s.bucket, ExpectedBucketOwner: s.account()})
	}
	return setting{
		name: "lifecycle", want: text(ours),
		get: func(ctx context.Context) (string, error) {
			out, err := read(ctx)
			if err != nil {
				return "", err
			}
			if i := slices.IndexFunc(out.Rules, isOurs); i >= 0 {
				return text(out.Rules[i]), nil
			}
			return "", nil
		},
		put: func(ctx context.Context) error {
			rules := []types.LifecycleRule{ours}
			switch out, err := read(ctx); {
			case err == nil:
				rules = append(slices.DeleteFunc(out.Rules, isOurs), ours)
			case !unset(err):
				return err
			}
			_, err := s.s3.PutBucketLifecycleConfiguration(ctx, &s3.PutBucketLifecycleConfigurationInput{Bucket: &s.bucket, ExpectedBucketOwner: s.account(),
				LifecycleConfiguration: &types.BucketLifecycleConfiguration{Rules: rules}})
			return err
		},
	}
}

func (s *bucketStep) cors() setting {
	ours := types.CORSRule{
		ID: aws.String(ruleID), AllowedOrigins: s.set.config.Origins, AllowedMethods: []string{"GET", "HEAD", "PUT"},
		AllowedHeaders: []string{"*"}, ExposeHeaders: []string{"ETag"}, MaxAgeSeconds: aws.Int32(3600),
	}
	text := func(r types.CORSRule) string {
		sorted := func(list []string) string { return strings.Join(slices.Sorted(slices.Values(list)), ", ") }
		return sorted(r.AllowedMethods) + " by signed URL from " + sorted(r.AllowedOrigins)
	}
	isOurs := func(r types.CORSRule) bool { return aws.ToString(r.ID) == ruleID }
	read := func(ctx context.Context) (*s3.GetBucketCorsOutput, error) {
		return s.s3.GetBucketCors(ctx, &s3.GetBucketCorsInput{Bucket: &s.bucket, ExpectedBucketOwner: s.account()})
	}
	return setting{
		name: "web pages", want: text(ours),
		get: func(ctx context.Context) (string, error) {
			out, err := read(ctx)
			if err != nil {
				return "", err
			}
			if i := slices.IndexFunc(out.CORSRules, isOurs); i >= 0 {
				return text(out.CORSRules[i]), nil
			}
			return "", nil
		},
		put: func(ctx context.Context) error {
			rules := []types.CORSRule{ours}
			switch out, err := read(ctx); {
			case err == nil:
				rules = append(slices.DeleteFunc(out.CORSRules, isOurs), ours)
			case !unset(err):
				return err
			}
			_, err := s.s3.PutBucketCors(ctx, &s3.PutBucketCorsInput{Bucket: &s.bucket, ExpectedBucketOwner: s.account(), CORSConfiguration: &types.CORSConfiguration{CORSRules: rules}})
			return err
		},
	}
}

// tlsOnlySid marks the statement that is ours in a bucket's policy.
const tlsOnlySid = "TLSOnly"

func (s *bucketStep) tlsOnly() setting {
	arn := "arn:" + s.set.config.Partition + ":s3:::" + s.bucket
	statement := map[string]any{
		"Sid": tlsOnlySid, "Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": []any{arn, arn + "/*"},
		"Condition": map[string]any{"Bool": map[string]any{"aws:SecureTransport": "false"}},
	}
	want := "refused without TLS"
	read := func(ctx context.Context) (map[string]any, []any, error) {
		out, err := s.s3.GetBucketPolicy(ctx, &s3.GetBucketPolicyInput{Bucket: &s.bucket, ExpectedBucketOwner: s.account()})
		if unset(err) || err == nil && aws.ToString(out.Policy) == "" {
			return map[string]any{"Version": "2012-10-17"}, nil, nil
		}
		if err != nil {
			return nil, nil, err
		}
		var policy map[string]any
		if err := json.Unmarshal([]byte(*out.Policy), &policy); err != nil {
			return nil, nil, fmt.Errorf("reading the policy of bucket %s: %w", s.bucket, err)
		}
		list, isList := policy["Statement"].([]any)
		if !isList && policy["Statement"] != nil {
			list = []any{policy["Statement"]}
		}
		return policy, list, nil
	}
	isOurs := func(one any) bool {
		m, ok := one.(map[string]any)
		return ok && m["Sid"] == tlsOnlySid
	}
	return setting{
		name: "transport", want: want,
		get: func(ctx context.Context) (string, error) {
			_, list, err := read(ctx)
			if err != nil {
				return "", err
			}
			i := slices.IndexFunc(list, isOurs)
			if i < 0 {
				return "", nil
			}
			if have, err := json.Marshal(list[i]); err != nil || string(have) != mustJSON(statement) {
				return "another statement named " + tlsOnlySid, err
			}
			return want, nil
		},
		put: func(ctx context.Context) error {
			policy, list, err := read(ctx)
			if err != nil {
				return err
			}
			policy["Statement"] = append(slices.DeleteFunc(list, isOurs), statement)
			_, err = s.s3.PutBucketPolicy(ctx, &s3.PutBucketPolicyInput{Bucket: &s.bucket, ExpectedBucketOwner: s.account(), Policy: aws.String(mustJSON(policy))})
			return err
		},
	}
}

// mustJSON writes what consists of texts, lists and maps; keys are in order.
func mustJSON(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic("storage: " + err.Error())
	}
	return string(text)
}
