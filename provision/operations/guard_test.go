package operations_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/middleware"

	"biplane.dev/biplane/provision/operations"
)

// guarded is a configuration whose calls go to a server that counts them.
func guarded(t *testing.T, by operations.Roles) (aws.Config, *atomic.Int64) {
	t.Helper()
	arrived := &atomic.Int64{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived.Add(1)
		if r.Header.Get("Authorization") == "" {
			t.Error("got a request without a signature")
		}
		w.Header().Set("Content-Type", "text/xml")
		_, _ = w.Write([]byte(`<R><GetRoleResult/><GetCallerIdentityResult/></R>`))
	}))
	t.Cleanup(server.Close)
	return aws.Config{
		Region: "eu-central-1", BaseEndpoint: aws.String(server.URL), RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "not-a-secret", ""),
		APIOptions:  []func(*middleware.Stack) error{operations.Guard(by)},
	}, arrived
}

func TestGuard(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		by      operations.Roles
		call    func(*testing.T, aws.Config) error
		refused string // the operation, or empty where the call must arrive
	}{
		{"lets a listed call through", operations.Everyone, func(t *testing.T, c aws.Config) error {
			_, err := iam.NewFromConfig(c).GetRole(t.Context(), &iam.GetRoleInput{RoleName: aws.String("x")})
			return err
		}, ""},
		{"lets a listed call of another service through", operations.Everyone, func(t *testing.T, c aws.Config) error {
			_, err := sts.NewFromConfig(c).GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
			return err
		}, ""},
		{"refuses a call that is not listed", operations.Everyone, func(t *testing.T, c aws.Config) error {
			_, err := iam.NewFromConfig(c).CreateAccessKey(t.Context(), &iam.CreateAccessKeyInput{UserName: aws.String("x")})
			return err
		}, "CreateAccessKey"},
		{"refuses it with an input that is not valid either", operations.Everyone, func(t *testing.T, c aws.Config) error {
			_, err := iam.NewFromConfig(c).CreateLoginProfile(t.Context(), &iam.CreateLoginProfileInput{})
			return err
		}, "CreateLoginProfile"},
		{"refuses a call of another service that is not listed", operations.Everyone, func(t *testing.T, c aws.Config) error {
			_, err := sts.NewFromConfig(c).GetFederationToken(t.Context(), &sts.GetFederationTokenInput{Name: aws.String("x")})
			return err
		}, "GetFederationToken"},
		{"refuses to sign an address for a call", operations.Observe, func(t *testing.T, c aws.Config) error {
			_, err := sts.NewPresignClient(sts.NewFromConfig(c)).PresignAssumeRole(t.Context(), &sts.AssumeRoleInput{RoleArn: aws.String("arn:aws:iam::123456789012:role/x"), RoleSessionName: aws.String("x")})
			return err
		}, "AssumeRole"},
		{"refuses a call that only others make", operations.Observe, func(t *testing.T, c aws.Config) error {
			_, err := iam.NewFromConfig(c).DeleteRole(t.Context(), &iam.DeleteRoleInput{RoleName: aws.String("x")})
			return err
		}, "DeleteRole"},
		{"lets that call through for those who make it", operations.Teardown, func(t *testing.T, c aws.Config) error {
			_, err := iam.NewFromConfig(c).DeleteRole(t.Context(), &iam.DeleteRoleInput{RoleName: aws.String("x")})
			return err
		}, ""},
		{"refuses a call that is listed and left out", operations.Vendor, func(t *testing.T, c aws.Config) error {
			_, err := iam.NewFromConfig(c).ListOpenIDConnectProviders(t.Context(), &iam.ListOpenIDConnectProvidersInput{})
			return err
		}, "ListOpenIDConnectProviders"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			config, arrived := guarded(t, tc.by)
			err := tc.call(t, config)
			var unlisted *operations.UnlistedCallError
			if tc.refused == "" {
				if err != nil || arrived.Load() != 1 {
					t.Errorf("got %v and %d requests, want no error and 1", err, arrived.Load())
				}
				return
			}
			if !errors.As(err, &unlisted) || unlisted.Operation != tc.refused || unlisted.By != tc.by {
				t.Errorf("got %v, want an UnlistedCallError for %s by %s", err, tc.refused, tc.by)
			}
			if arrived.Load() != 0 {
				t.Errorf("got %d requests, want 0", arrived.Load())
			}
		})
	}
}
