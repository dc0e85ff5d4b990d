// Package dataplane is the whole of a data plane in AWS: the graph of its steps, from
// the network to the roles of its workloads, and what is asked of all of them
// together: a plan that people and programs read, a check, the order of a removal.
//
// What a step does is in the package of its kind: provision/network, cluster, storage,
// roles, endpoint, runtime. Start with Steps. Where things are:
//
//	dataplane.go  the graph
//	private.go    the steps of the private endpoint alone, beside what is there
//	late.go       steps that are worked out from what others found
//	compat.go     what is left out where the grants are the published ones
//	plan.go       the plan, with calls, grants, cost and time
//	check.go      what differs, and what does not work
//	reach.go      what is reached
//	lease.go      one operator at a time
//	failed.go     what has failed, to be removed alone
package dataplane

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"golang.org/x/sync/errgroup"

	"biplane.dev/biplane/dataplane/chart"
	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/cluster"
	"biplane.dev/biplane/provision/endpoint"
	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/network"
	"biplane.dev/biplane/provision/operations"
	"biplane.dev/biplane/provision/plane"
	"biplane.dev/biplane/provision/roles"
	"biplane.dev/biplane/provision/runtime"
	"biplane.dev/biplane/provision/spec"
	"biplane.dev/biplane/provision/step"
	"biplane.dev/biplane/provision/storage"
)

// Domains are those of a project, in whose namespaces tasks run.
var Domains = []string{"development", "staging", "production"}

// Steps is the graph. Its errors are *usererr.Error.
func Steps(p *plane.Plane) ([]step.Step, error) {
	steps := network.Steps(p)
	after := cluster.After{Ways: names(steps, "")}
	if after.Subnets = names(steps, "subnet private"); len(after.Subnets) == 0 {
		after.Subnets = after.Ways
	}
	inCluster := cluster.Steps(p, after)
	steps = append(steps, inCluster...)
	buckets, err := bucketSteps(p)
	if err != nil {
		return nil, err
	}
	workloads, err := roleSteps(p)
	if err != nil {
		return nil, err
	}
	var private []step.Step
	if wanted := p.Spec.PrivateEndpoint.Enabled; wanted || p.One(plane.PrivateEndpoint) != "" {
		if private, err = endpoint.Steps(p, endpoint.After{Network: after.Subnets, Ways: after.Ways, Cluster: cluster.StepName(p)}); err != nil {
			return nil, err
		}
		if !wanted {
			private = noLonger(private, "biplane private-endpoint remove")
		}
	}
	var inside []step.Step
	if p.Spec.ControlPlane != nil {
		needs := slices.Concat(names(inCluster, ""), names(buckets, ""), names(workloads, ""))
		if p.Spec.Cluster.Endpoint == spec.PrivateAddress {
			needs = append(needs, names(private, "")...) // it may be the way there
		}
		inside = append(inside, runtime.New(p, runtime.After{Steps: needs, Facts: func() (chart.Facts, error) { return facts(p) }}))
	}
	return within(p, slices.Concat(steps, buckets, workloads, private, inside))
}

// facts are what the chart of the runtime is told of the account.
func facts(p *plane.Plane) (chart.Facts, error) {
	buckets, err := Buckets(p)
	if err != nil {
		return chart.Facts{}, err
	}
	set, err := Roles(p)
	if err != nil {
		return chart.Facts{}, err
	}
	role := func(account string) string {
		role, _ := set.RoleOf(account)
		return role.ARN
	}
	return chart.Facts{
		Metadata: buckets.Metadata, FastRegistration: buckets.FastRegistration,
		Operator: role("operator-system"), Executor: role("executor"), Proxy: role("proxy-system"), Task: role("clusterresource-template"), Upload: role("flyteadmin"),
	}, nil
}

// LookFirst asks what the graph itself depends on: which zones there are, which the
// steps' names have, and what there is that the file no longer asks for: a private
// endpoint, node groups. It comes before Steps, and refuses what would begin a second data
// plane of the same name. What the role may not look at it leaves out.
func LookFirst(ctx context.Context, p *plane.Plane) error {
	looking, within := errgroup.WithContext(ctx)
	for _, look := range []func(context.Context, *plane.Plane) error{network.ChooseZones, endpoint.Find, cluster.FindNodeGroups, sameBuckets} {
		looking.Go(func() error {
			err := look(within, p)
			if unlisted := (*operations.UnlistedCallError)(nil); fault.Denied(err) || errors.As(err, &unlisted) {
				return nil
			}
			return err
		})
	}
	return looking.Wait()
}

// sameBuckets refuses another suffix of the buckets' names than the one in use: new
// buckets would be made, and the data stay in the old ones. Which are in use is in the
// rights of who writes into them.
func sameBuckets(ctx context.Context, p *plane.Plane) error {
	set, err := Buckets(p)
	if err != nil {
		return err
	}
	workloads, err := Roles(p)
	if err != nil {
		return err
	}
	executor, ok := workloads.RoleOf("executor")
	if !ok {
		return nil
	}
	got, err := p.AWS.IAM.GetRolePolicy(ctx, &iam.GetRolePolicyInput{RoleName: &executor.Name, PolicyName: aws.String(roles.PolicyName)})
	if fault.Gone(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking which buckets are in use: %w", err)
	}
	text, err := url.PathUnescape(aws.ToString(got.PolicyDocument))
	if err != nil {
		return nil // another document than ours, which its step says
	}
	start := strings.TrimSuffix(set.Metadata, p.Spec.Buckets.Suffix)
	if _, in, found := strings.Cut(text, ":s3:::"+start); found {
		if suffix, _, _ := strings.Cut(in, `"`); !strings.HasPrefix(suffix, p.Spec.Buckets.Suffix) {
			suffix, _, _ = strings.Cut(suffix, "/")
			return usererr.New(usererr.Refused, "spec.buckets.suffix is %s, and the data of data plane %s is in the buckets whose names end in %s, which cannot be changed", p.Spec.Buckets.Suffix, p.Name, suffix).
				WithHint("write buckets: {suffix: %q}, or give this data plane another name", suffix)
		}
	}
	return nil
}

// names are those of the steps whose names begin so.
func names(steps []step.Step, prefix string) []string {
	var out []string
	for _, s := range steps {
		if strings.HasPrefix(s.Name(), prefix) {
			out = append(out, s.Name())
		}
	}
	return out
}

// encryptionKey is the ARN of the key; until it is known, one that nobody has.
func encryptionKey(p *plane.Plane) string {
	if key := p.One(plane.EncryptionKey); key != "" {
		return key
	}
	return p.ARN("kms", "key/"+NotYet)
}

// Buckets are the two buckets, encrypted by a key that may be unknown yet.
func Buckets(p *plane.Plane) (*storage.Set, error) {
	return storage.Generate(storage.Config{
		Vendor: p.Vendor, DataPlane: p.Name, Org: p.Spec.Org, Partition: p.Place.Partition, Account: p.Place.Account, Region: p.Place.Region,
		Prefix: strings.TrimSuffix(p.Prefix(), p.Name), Suffix: p.Spec.Buckets.Suffix, Origins: p.Spec.Buckets.Origins, Adopt: p.Spec.Buckets.Adopt,
		KMSKey: encryptionKey(p), DeleteData: p.DeleteData,
		// Under strict nobody of the vendor may write a bucket policy: it could open the data to others.
		TLSOnly: p.Spec.Access.Policy == spec.Compat,
	})
}

// bucketSteps are the steps of the buckets, worked out again when the key is known.
func bucketSteps(p *plane.Plane) ([]step.Step, error) {
	set, err := Buckets(p)
	if err != nil {
		return nil, err
	}
	var out []step.Step
	for i, s := range storage.Steps(p.AWS.S3, set) {
		out = append(out, &late{
			name: s.Name(), needs: []string{cluster.KeyTitle}, about: bucketDescription,
			now: func() (step.Step, error) {
				set, err := Buckets(p)
				if err != nil {
					return nil, err
				}
				return storage.Steps(p.AWS.S3, set)[i], nil
			},
		})
	}
	return out, nil
}

// NotYet stands for an id that AWS gives, until it has.
const NotYet = "KNOWN-ONCE-IT-IS-THERE"

// Roles are the roles of the service accounts. The issuer of the cluster's tokens and
// the key of the buckets are known once they are there; until then ids stand for them
// that nobody has.
func Roles(p *plane.Plane) (*roles.Set, error) { return rolesOf(p, roles.Mode(p.Spec.WorkspaceRoles)) }

func rolesOf(p *plane.Plane, mode roles.Mode) (*roles.Set, error) {
	buckets, err := Buckets(p)
	if err != nil {
		return nil, err
	}
	issuer := p.One(plane.ClusterIssuer)
	if issuer == "" {
		issuer = "oidc.eks." + p.Place.Region + "." + p.Place.DNSSuffix + "/id/" + NotYet
	}
	cfg := roles.Config{
		Vendor: p.Vendor, DataPlane: p.Name, Org: p.Spec.Org, Mode: mode,
		Partition: p.Place.Partition, Account: p.Place.Account, Issuer: issuer, Domains: Domains,
		Metadata: buckets.Metadata, FastRegistration: buckets.FastRegistration,
		Path: p.RolePath(), Prefix: strings.TrimSuffix(p.Prefix(), p.Name), Boundary: p.Boundary(), KMSKey: encryptionKey(p),
	}
	if c := p.Spec.ControlPlane; c != nil {
		cfg.ControlPlaneIssuer = c.Issuer
	}
	return roles.Generate(cfg)
}

// providerName is the step of the cluster's OIDC provider, whose own name has the
// issuer in it and so is known too late.
const providerName = "identity provider of the cluster"

// roleSteps are the provider and the roles, worked out again when the issuer is known,
// and those of the other mode, which the file may have asked for once.
func roleSteps(p *plane.Plane) ([]step.Step, error) {
	wanted, err := roleStepsOf(p, roles.Mode(p.Spec.WorkspaceRoles))
	if err != nil {
		return nil, err
	}
	mode := roles.Shared
	if wanted := roles.Mode(p.Spec.WorkspaceRoles); wanted == mode {
		mode = roles.PerServiceAccount
	}
	others, err := roleStepsOf(p, mode)
	if err != nil {
		return nil, err
	}
	others = slices.DeleteFunc(others, func(o step.Step) bool {
		return slices.ContainsFunc(wanted, func(w step.Step) bool { return w.Name() == o.Name() })
	})
	return append(wanted, noLonger(others, "biplane dataplane remove")...), nil
}

func roleStepsOf(p *plane.Plane, mode roles.Mode) ([]step.Step, error) {
	set, err := rolesOf(p, mode)
	if err != nil {
		return nil, err
	}
	known := func() bool { return p.One(plane.ClusterIssuer) != "" }
	providers := len(set.Providers)
	var out []step.Step
	for i, s := range roles.Steps(p.AWS.IAM, set) {
		l := &late{
			name: s.Name(), needs: []string{providerName}, about: roleDescription,
			now: func() (step.Step, error) {
				set, err := rolesOf(p, mode)
				if err != nil {
					return nil, err
				}
				return roles.Steps(p.AWS.IAM, set)[i], nil
			},
		}
		if i == 0 {
			l.name, l.needs, l.about, l.known = providerName, []string{cluster.StepName(p)}, providerDescription, known
		} else if i < providers {
			l.needs, l.about = nil, providerDescription
		}
		out = append(out, l)
	}
	return out, nil
}
