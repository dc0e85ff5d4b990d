package access

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/smithy-go"

	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/iampolicy"
)

// documents reads every role with its policies and compares them with the set,
// then asks what they allow. Who reads is the caller where it is the customer;
// else the vendor, with the provision role's own rights.
func (c *Checker) documents(ctx context.Context, report *Report, sessions map[string]aws.CredentialsProvider) error {
	return c.compare(ctx, report, &liveReader{iam: c.reader(sessions), policies: map[string]livePolicy{}, simulates: true})
}

// reader is whose rights documents are read with; nil when there is nobody.
func (c *Checker) reader(sessions map[string]aws.CredentialsProvider) IAM {
	switch session := sessions[c.Set.Roles[0].Name]; {
	case c.byCustomer():
		return c.NewIAM(nil)
	case session != nil:
		return c.NewIAM(session)
	}
	return nil
}

// Documents compares every role and its policies, as api reads them, with the set, and
// does not ask what they allow. Its rows are those of Run from the role on.
func (c *Checker) Documents(ctx context.Context, api IAM) (*Report, error) {
	report := &Report{Role: c.RoleARN, Rows: []Row{}}
	return report, c.compare(ctx, report, &liveReader{iam: api, policies: map[string]livePolicy{}})
}

func (c *Checker) compare(ctx context.Context, report *Report, read *liveReader) error {
	if read.iam != nil {
		// That it cannot be read says its own row.
		live, err := readRoleItself(ctx, read.iam, c.name(0))
		read.byStack = err == nil && live != nil && tagValue(live.tags, c.Vendor.TagPrefix+StackTag) != ""
	}
	if c.Set.Boundary != nil {
		if err := c.checkPolicy(ctx, report, read, *c.Set.Boundary, c.Set.path()); err != nil {
			return err
		}
	}
	p := place{iam: read.iam, partition: c.Set.Partition, account: c.Set.Account, vendor: c.Vendor}
	for i, role := range c.Set.Roles {
		if err := c.checkRole(ctx, report, read, newRoleStep(p, c.Set, role), c.name(i)); err != nil {
			return err
		}
	}
	return nil
}

// liveReader reads policies once, however many roles carry them.
type liveReader struct {
	iam       IAM
	policies  map[string]livePolicy // by ARN
	simulates bool                  // what the roles allow is asked, too
	alone     bool                  // it is computed here, and AWS is not asked
	byStack   bool                  // a stack made the roles: it puts no tags on policies
}

// livePolicy is a managed policy's default version; document is nil when there
// is none, or why says that it could not be read.
type livePolicy struct {
	document []byte
	tags     []types.Tag
	why      string
}

// noReader is why nothing was read where nobody can.
const noReader = "the provision role cannot be assumed, and these are not the customer's credentials, so nobody can read it"

// policy reads one managed policy.
func (l *liveReader) policy(ctx context.Context, arn string) (livePolicy, error) {
	if known, ok := l.policies[arn]; ok {
		return known, nil
	}
	if l.iam == nil {
		return livePolicy{why: noReader}, nil
	}
	live, err := readPolicy(ctx, l.iam, arn)
	if fault.Denied(err) {
		live, err = livePolicy{why: unreadable(err)}, nil
	}
	if err == nil {
		l.policies[arn] = live
	}
	return live, err
}

func readPolicy(ctx context.Context, api IAM, arn string) (livePolicy, error) {
	out, err := api.GetPolicy(ctx, &iam.GetPolicyInput{PolicyArn: &arn})
	if fault.NoSuchEntity(err) {
		return livePolicy{}, nil
	}
	if err != nil {
		return livePolicy{}, err
	}
	version, err := api.GetPolicyVersion(ctx, &iam.GetPolicyVersionInput{PolicyArn: &arn, VersionId: out.Policy.DefaultVersionId})
	if err != nil {
		return livePolicy{}, err
	}
	document, err := plain(version.PolicyVersion.Document)
	return livePolicy{document: document, tags: out.Policy.Tags}, err
}

// unreadable says which call the reader may not make.
func unreadable(err error) string {
	var operation *smithy.OperationError
	if errors.As(err, &operation) {
		return fmt.Sprintf("iam:%s is not allowed to the reader; run it with the customer's credentials to know", operation.OperationName)
	}
	return "the reader is not allowed to read it; run it with the customer's credentials to know"
}

// checkPolicy adds the row of one managed policy.
func (c *Checker) checkPolicy(ctx context.Context, report *Report, read *liveReader, want Policy, path string) error {
	arn := place{partition: c.Set.Partition, account: c.Set.Account}.policyARN(path, want.Name)
	live, err := read.policy(ctx, arn)
	switch {
	case err != nil:
		return fmt.Errorf("reading %s: %w", arn, err)
	case live.why != "":
		report.add(policyRow, want.Name, CannotTell, "%s", live.why)
	case live.document == nil:
		report.add(policyRow, want.Name, Fail, "it is not there; run 'biplane access grant' again")
	default:
		differences := documentDifferences("the document", live.document, want.Document)
		p := place{vendor: c.Vendor}
		if missing := missingTags(live.tags, p.tags(c.Set)); len(missing) > 0 && !read.byStack {
			differences = append(differences, "it lacks the tags "+tagText(missing))
		}
		report.addComparison(policyRow, want.Name, differences, fmt.Sprintf("as wanted, %s characters", thousands(want.Size)))
	}
	return nil
}

// addComparison passes when there are no differences.
func (r *Report) addComparison(check, target string, differences []string, pass string) {
	if len(differences) == 0 {
		r.add(check, target, Pass, "%s", pass)
		return
	}
	var trimmed []string
	for _, d := range differences {
		trimmed = append(trimmed, strings.TrimSpace(d))
	}
	r.add(check, target, Fail, "%s", strings.Join(trimmed, "; "))
}

// checkRole adds the rows of one role: itself, its trust, its boundary, its
// policies, what else it carries, and what all of it allows. name is the role's,
// which is another one than wanted when --role-arn is.
func (c *Checker) checkRole(ctx context.Context, report *Report, read *liveReader, s *roleStep, name string) error {
	if read.iam == nil {
		report.add(roleItself, name, CannotTell, noReader)
		return nil
	}
	live, err := readRoleItself(ctx, read.iam, name)
	if fault.Denied(err) {
		report.add(roleItself, name, CannotTell, "%s", unreadable(err))
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading role %s: %w", name, err)
	}
	if live == nil {
		report.add(roleItself, name, Fail, "it is not there; run 'biplane access grant' again")
		return nil
	}
	found := &foundRole{roleStep: s, live: live}
	report.addComparison(roleItself, name, found.formDifferences(), "path, tags and length of sessions are as wanted")
	trusts := strings.Join(trustLines(live.trust), "; ")
	if ids := externalIDsOf(live.trust); len(ids) > 1 && slices.Contains(ids, c.ExternalID) {
		trusts = rotationWords(ids) + "; " + trusts
		live.trust = withExternalIDs(live.trust, []string{c.ExternalID})
	}
	report.addComparison(trustPolicy, name, found.trustDifferences(), trusts)
	report.addComparison(boundaryRow, name, found.boundaryDifferences(), or(live.boundary, "none, as wanted"))

	err = live.readPolicies(ctx, read.iam, name)
	if fault.Denied(err) {
		report.add(policyRow, name, CannotTell, "%s", unreadable(err))
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the policies of role %s: %w", name, err)
	}
	deployed := deployed{role: s.role, name: name, arn: live.arn}
	for _, want := range s.role.Policies {
		if want.Kind == inline {
			have, ok := live.inline[want.Name]
			if !ok {
				report.add(policyRow, want.Name, Fail, "it is not in role %s", name)
				continue
			}
			report.addComparison(policyRow, want.Name, documentDifferences("the document", have, want.Document),
				fmt.Sprintf("in role %s as wanted, %s characters", name, thousands(want.Size)))
			continue
		}
		if !slices.Contains(live.attached, s.policyARN(s.role.Path, want.Name)) {
			report.add(policyRow, want.Name, Fail, "it is not attached to role %s", name)
			continue
		}
		if err := c.checkPolicy(ctx, report, read, want, s.role.Path); err != nil {
			return err
		}
	}
	for _, arn := range s.role.Attached {
		if !slices.Contains(live.attached, arn) {
			report.add(policyRow, arn, Fail, "it is not attached to role %s", name)
		}
	}
	var extras []string
	for _, extra := range found.extras() {
		extras = append(extras, "it carries "+extra+", which is not of this set")
	}
	report.addComparison(extraRow, name, extras, "only the policies of the set")

	if !read.simulates {
		return nil
	}
	if w := found.openWindow(); w != nil && !live.at.Before(w.Until) {
		deployed.why = "its window was over at " + stamp(w.Until) + ", and since then it is refused everything"
	} else if err := deployed.read(ctx, read, live); err != nil {
		return err
	}
	reader := read.iam
	if read.alone {
		reader = nil
	}
	return c.simulate(ctx, report, reader, deployed)
}

// deployed is all that has a say on a role's calls, as it is in the account.
type deployed struct {
	role     Role   // as it is wanted
	name     string // as it is, like all that follows
	arn      string
	policies iampolicy.Policies
	why      string // it cannot be told: a document could not be read
}

// read collects the documents of a role, extra ones too.
func (d *deployed) read(ctx context.Context, read *liveReader, live *liveRole) error {
	add := func(name string, text []byte) *iampolicy.Document {
		document, err := iampolicy.Parse(name, text)
		if err != nil {
			d.why = fmt.Sprintf("%s cannot be read: %v", name, err)
			return nil
		}
		return document
	}
	for name, text := range live.inline {
		d.policies.Identity = append(d.policies.Identity, add(name, text))
	}
	for _, arn := range live.attached {
		policy, err := read.policy(ctx, arn)
		if err != nil {
			return fmt.Errorf("reading %s: %w", arn, err)
		}
		if policy.document == nil {
			d.why = or(policy.why, "policy "+arn+" is gone")
			return nil
		}
		d.policies.Identity = append(d.policies.Identity, add(arn, policy.document))
	}
	if live.boundary != "" {
		policy, err := read.policy(ctx, live.boundary)
		if err != nil {
			return fmt.Errorf("reading %s: %w", live.boundary, err)
		}
		if policy.document == nil {
			d.why = or(policy.why, "boundary "+live.boundary+" is gone")
			return nil
		}
		d.policies.Boundary = add(live.boundary, policy.document)
	}
	return nil
}
