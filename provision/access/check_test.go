package access_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"biplane.dev/biplane/internal/awsidentity"
	"biplane.dev/biplane/provision/access"
	"biplane.dev/biplane/provision/vendor"
)

// controlPlane makes the vendor's account with its control plane, and returns
// who that is.
func (a *account) controlPlane(t *testing.T) access.Principal {
	t.Helper()
	if _, err := a.service.CreateAccount(vendorID, awsidentity.AccountOptions{}); err != nil {
		t.Fatal(err)
	}
	role, err := a.service.SeedRole(vendorID, awsidentity.Role{Name: vendor.Default().ControlPlaneRole, Inline: map[string]string{
		"assume": `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["sts:AssumeRole","sts:SetSourceIdentity"],"Resource":"*"}]}`}})
	if err != nil {
		t.Fatal(err)
	}
	key, err := a.service.Session(role, "test", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return access.Principal{ARN: key.ARN, Account: vendorID, STS: sts.New(sts.Options{
		Region: region, BaseEndpoint: &a.url,
		Credentials: credentials.NewStaticCredentialsProvider(key.AccessKeyID, key.SecretAccessKey, key.SessionToken),
	})}
}

// check runs a check as the vendor.
func (a *account) check(t *testing.T, set *access.Set) *access.Report {
	t.Helper()
	c := access.Checker{
		Set: set, Vendor: vendor.Default(), RoleARN: set.RoleARN(set.Roles[0]), ExternalID: externalID, Caller: a.controlPlane(t),
		NewIAM: func(session aws.CredentialsProvider) access.IAM {
			return iam.New(iam.Options{Region: "us-east-1", BaseEndpoint: &a.url, Credentials: session})
		},
	}
	report, err := c.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// failed are the rows that failed, as "check: why".
func failed(r *access.Report) []string {
	var rows []string
	for _, row := range r.Rows {
		if row.Result == access.Fail {
			rows = append(rows, row.Check+": "+row.Target+": "+row.Why)
		}
	}
	return rows
}

func TestCheck(t *testing.T) {
	t.Parallel()

	t.Run("it fails nothing that was granted", func(t *testing.T) {
		t.Parallel()
		for profile, change := range profiles() {
			a, set := newAccount(t, awsidentity.Options{}), generate(t, change)
			grant(t, a, set)
			report := a.check(t, set)
			if rows := failed(report); len(rows) > 0 || report.Summary.Pass < 20 {
				t.Errorf("%s: got %q failed and %d passed, want none and 20 or more", profile, rows, report.Summary.Pass)
			}
		}
	})

	const all = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`
	policyARN := func(set *access.Set, p access.Policy) *string {
		return aws.String("arn:aws:iam::" + customerID + ":policy" + set.Roles[0].Path + p.Name)
	}
	for name, c := range map[string]struct {
		drift func(a *account, set *access.Set) error
		want  []string // starts of rows that must fail
	}{
		"it finds a policy that was widened": {
			func(a *account, set *access.Set) error {
				_, err := a.CreatePolicyVersion(context.Background(), &iam.CreatePolicyVersionInput{
					PolicyArn: policyARN(set, set.Roles[0].Policies[0]), PolicyDocument: aws.String(all), SetAsDefault: true})
				return err
			},
			[]string{"policy: UnionIAMPolicy-provision-read: the document is another one; it has, and should not: Allow *"},
		},
		"it finds a policy that was detached, and the calls that it cost": {
			func(a *account, set *access.Set) error {
				_, err := a.DetachRolePolicy(context.Background(), &iam.DetachRolePolicyInput{
					RoleName: &set.Roles[0].Name, PolicyArn: policyARN(set, set.Roles[0].Policies[0])})
				return err
			},
			[]string{"policy: UnionIAMPolicy-provision-read: it is not attached", "simulation: union-ai-admin: it does not allow "},
		},
		"it finds an inline policy that was put in": {
			func(a *account, set *access.Set) error {
				_, err := a.PutRolePolicy(context.Background(), &iam.PutRolePolicyInput{RoleName: &set.Roles[1].Name, PolicyName: aws.String("more"), PolicyDocument: aws.String(all)})
				return err
			},
			[]string{"nothing else attached: union-ai-admin-operate: it carries inline policy more"},
		},
		"it finds a trust that admits the whole account without external ID": {
			func(a *account, set *access.Set) error {
				_, err := a.UpdateAssumeRolePolicy(context.Background(), &iam.UpdateAssumeRolePolicyInput{RoleName: &set.Roles[0].Name, PolicyDocument: aws.String(
					`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::479331373192:root"},"Action":"sts:AssumeRole"}]}`)})
				return err
			},
			[]string{"assume with a wrong external ID: union-ai-admin: ", "assume without external ID: union-ai-admin: ", "trust policy: union-ai-admin: its trust policy is another one"},
		},
		"it finds a trust that takes an external ID by its beginning": {
			func(a *account, set *access.Set) error {
				trust := strings.Replace(string(set.Roles[0].Trust.Document), `"StringEquals":{"sts:ExternalId":"`+externalID+`"`, `"StringLike":{"sts:ExternalId":"`+externalID+`*"`, 1)
				_, err := a.UpdateAssumeRolePolicy(context.Background(), &iam.UpdateAssumeRolePolicyInput{RoleName: &set.Roles[0].Name, PolicyDocument: &trust})
				return err
			},
			[]string{"assume with a wrong external ID: union-ai-admin: ", "trust policy: union-ai-admin: "},
		},
		"it finds a trust whose condition is true when the external ID is absent": {
			func(a *account, set *access.Set) error {
				trust := strings.Replace(string(set.Roles[0].Trust.Document), `"StringEquals"`, `"ForAllValues:StringEquals"`, 1)
				_, err := a.UpdateAssumeRolePolicy(context.Background(), &iam.UpdateAssumeRolePolicyInput{RoleName: &set.Roles[0].Name, PolicyDocument: &trust})
				return err
			},
			[]string{"assume without external ID: union-ai-admin: ", "trust policy: union-ai-admin: "},
		},
		"it finds a break-glass role that is on": {
			func(a *account, set *access.Set) error {
				for _, r := range set.Roles {
					if strings.HasSuffix(r.Name, "-break-glass") {
						_, err := a.UpdateAssumeRolePolicy(context.Background(), &iam.UpdateAssumeRolePolicyInput{
							RoleName: &r.Name, PolicyDocument: aws.String(string(set.Roles[0].Trust.Document))})
						return err
					}
				}
				return nil
			},
			[]string{"assume while it is switched off: union-ai-admin-break-glass: it was assumed", "trust policy: union-ai-admin-break-glass: "},
		},
		"it finds tags that were taken away": {
			func(a *account, set *access.Set) error {
				_, err := a.UntagRole(context.Background(), &iam.UntagRoleInput{RoleName: &set.Roles[0].Name, TagKeys: []string{"union:managed-by"}})
				return err
			},
			[]string{"role: union-ai-admin: it lacks the tags union:managed-by=biplane"},
		},
		"it finds a role that is gone": {
			func(a *account, set *access.Set) error {
				for _, r := range set.Roles {
					if strings.HasSuffix(r.Name, "-ecs-task-role") {
						if _, err := a.DeleteRolePolicy(context.Background(), &iam.DeleteRolePolicyInput{RoleName: &r.Name, PolicyName: &r.Policies[0].Name}); err != nil {
							return err
						}
						_, err := a.DeleteRole(context.Background(), &iam.DeleteRoleInput{RoleName: &r.Name})
						return err
					}
				}
				return nil
			},
			[]string{"role: unionai-access-eu-central-1-ecs-task-role: it is not there"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, set := newAccount(t, awsidentity.Options{}), generate(t, nil)
			grant(t, a, set)
			if err := c.drift(a, set); err != nil {
				t.Fatal(err)
			}
			rows := strings.Join(failed(a.check(t, set)), "\n")
			for _, want := range c.want {
				if !strings.Contains("\n"+rows, "\n"+want) {
					t.Errorf("got rows that failed:\n%s\nwant one that starts %q", rows, want)
				}
			}
		})
	}
}
