package bootstrap

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/roles"
	"biplane.dev/biplane/provision/step"
	"biplane.dev/biplane/provision/storage"
)

// makeAccount makes buckets, provider and roles. What somebody changed is left as it
// is, and said: a sandbox is for trying things, and what was tried must outlast a
// restart as it does with AWS. --fresh starts over.
func (c Config) makeAccount(ctx context.Context, buckets *storage.Set, set *roles.Set, report func(Event)) error {
	client, err := httpClient(c.CABundle)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	key := credentials.NewStaticCredentialsProvider(c.Admin.ID, c.Admin.Secret, "")
	steps := roles.Steps(iam.New(iam.Options{Region: c.Region, BaseEndpoint: &c.IAM, HTTPClient: client, Credentials: key}), set)
	if c.S3 != "" && !c.Empty {
		steps = append(steps, storage.Steps(s3.New(s3.Options{Region: c.Region, BaseEndpoint: &c.S3, HTTPClient: client, Credentials: key, UsePathStyle: true}), buckets)...)
	}

	runner := step.Runner{Steps: steps, Parallel: 8, Patience: 20 * time.Second, Progress: func(e step.Event) {
		if e.Stage == step.Done {
			report(Event{Thing: e.Step, Did: string(e.Action)})
		}
	}}
	plan, err := runner.Plan(ctx, step.Present)
	if err != nil {
		return err
	}
	for i, planned := range plan.Steps {
		switch planned.Action {
		case step.Refuse, step.Update:
			if strings.HasPrefix(planned.Name, "bucket ") && planned.Action == step.Refuse {
				return usererr.New(usererr.Refused, "%s of the sandbox cannot be used: %s", planned.Name, strings.Join(planned.Details, "; ")).
					WithHint("run 'biplane sandbox up --fresh' to start over without it")
			}
			report(Event{Thing: planned.Name, Did: "left alone: " + strings.Join(planned.Details, "; ")})
			n := slices.IndexFunc(runner.Steps, func(s step.Step) bool { return s.Name() == planned.Name })
			runner.Steps[n] = leftAlone{runner.Steps[n]}
			plan.Steps[i] = step.Planned{Name: planned.Name, Change: step.Change{Action: step.Keep}}
		case step.Keep, step.Create:
			if at := slices.IndexFunc(planned.Details, func(line string) bool { return strings.HasPrefix(line, "not supported") }); at >= 0 {
				report(Event{Thing: planned.Name, Did: planned.Details[at]})
			}
		}
	}
	return runner.Apply(ctx, plan)
}

// leftAlone is a step whose thing stays as it is.
type leftAlone struct{ step.Step }

func (s leftAlone) Look(context.Context, step.Goal) (step.Found, error) { return kept{}, nil }

type kept struct{}

func (kept) Plan() step.Change            { return step.Change{Action: step.Keep} }
func (kept) Make(context.Context) error   { return nil }
func (kept) Remove(context.Context) error { return nil }

// httpClient trusts what is in a file of roots, and nothing else.
func httpClient(bundle string) (*http.Client, error) {
	text, err := os.ReadFile(bundle)
	if err != nil {
		return nil, fmt.Errorf("reading the roots: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("there is no certificate in %s", bundle)
	}
	return &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, MaxIdleConnsPerHost: 16, // no proxy: all of it is on this machine
	}}, nil
}
