// Package bootstrap makes out of running components what an account gives in
// production: the OIDC provider of the cluster, the two buckets and the roles of
// the table, by the code that makes them on AWS (provision/storage,
// provision/roles), the namespaces and service accounts that use them, and the
// AWS configuration by which a person on this machine is any of them.
//
// It starts nothing and waits for nobody: the supervisor calls Run once the API
// server, the S3 server and the identity service are ready, and KeepTokens from
// then on. Run may be killed anywhere and be run again; it finishes what is
// missing and leaves alone what somebody made for themselves.
//
// Start with Run.
package bootstrap

import (
	"context"
	"errors"
	"log/slog"

	"biplane.dev/biplane/internal/sandbox"
)

// Config says where the components are. All of it is the supervisor's choice.
type Config struct {
	Dir        string // the sandbox's folder; its aws/ is written here
	Kubeconfig string // file of the cluster's administrator

	Region  string // eu-central-1
	Account string // twelve digits
	Issuer  string // of service-account tokens: https://oidc.eks.REGION.amazonaws.com/id/ID

	S3, IAM, STS string // endpoints: https://127.0.0.1:PORT
	CABundle     string // file of the roots that S3, IAM and STS are trusted by
	Admin        Key    // of the account's administrator
}

// Key is an access key of the account.
type Key struct {
	ID     string
	Secret string
}

// Result is what there is after Run.
type Result struct {
	Buckets  sandbox.Buckets
	Roles    map[string]string // ARN by the account's name in the table; those without S3 rights have none
	Profiles []string          // of the AWS configuration
}

// Event is one piece of progress, for a person.
type Event struct {
	Thing string // "bucket union-sandbox-metadata-123456789012"
	Did   string // "created"; "left alone: …" for what somebody else changed
}

// Run makes whatever is missing, and tells report what it does; report may be
// nil.
func Run(ctx context.Context, cfg Config, report func(Event)) (Result, error) {
	return Result{}, errors.New("bootstrap: not written yet")
}

// KeepTokens renews the token files of the AWS configuration before they
// expire, until ctx ends. A cluster that does not answer for a while is asked
// again; log is told.
func KeepTokens(ctx context.Context, cfg Config, log *slog.Logger) error {
	<-ctx.Done()
	return ctx.Err()
}
