package awsidentity

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

func assumedCredentials(out *sts.AssumeRoleOutput) Credentials {
	return Credentials{
		AccessKeyID: *out.Credentials.AccessKeyId, SecretAccessKey: *out.Credentials.SecretAccessKey,
		SessionToken: *out.Credentials.SessionToken, Expires: *out.Credentials.Expiration, ARN: *out.AssumedRoleUser.Arn,
	}
}

// vendorSession makes a role of the vendor's that may assume roles, and signs in.
func (w *world) vendorSession(name string) Credentials {
	w.t.Helper()
	arn, err := w.SeedRole(vendor, Role{Name: name, Inline: map[string]string{"assume": allow("sts:*", "*")}})
	if err != nil {
		w.t.Fatal(err)
	}
	c, err := w.Session(arn, name+"-1", time.Hour)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

func TestGetCallerIdentity(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{})
	out, err := w.sts(w.admins[customer]).GetCallerIdentity(background, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := *out.Arn, "arn:aws:iam::111122223333:user/administrator"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	session := w.vendorSession("biplane-controlplane")
	out, err = w.sts(session).GetCallerIdentity(background, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := *out.Arn, "arn:aws:sts::479331373192:assumed-role/biplane-controlplane/biplane-controlplane-1"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if !strings.HasPrefix(*out.UserId, "AROA") || !strings.HasSuffix(*out.UserId, ":biplane-controlplane-1") {
		t.Errorf("got user id %s, want AROA…:biplane-controlplane-1", *out.UserId)
	}
}

// TestConfusedDeputy is the matrix that proves a cross-account role.
func TestConfusedDeputy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{})
	controlplane, other := w.vendorSession("biplane-controlplane"), w.vendorSession("other")
	strangers := w.admins[stranger]
	admin := w.iam(w.admins[customer])
	const id = "pE3kqV0c9mWZ4t1YxL7aRg"

	role := func(name, document string) string {
		t.Helper()
		out, err := admin.CreateRole(background, &iam.CreateRoleInput{RoleName: &name, AssumeRolePolicyDocument: &document, MaxSessionDuration: aws.Int32(43200)})
		if err != nil {
			t.Fatal(err)
		}
		return *out.Role.Arn
	}
	byRole := role("by-role", trust("arn:aws:iam::"+vendor+":role/biplane-controlplane", id))
	byRoot := role("by-root", fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::%s:root"},
		"Action":"sts:AssumeRole","Condition":{"StringEquals":{"sts:ExternalId":%q,"aws:PrincipalArn":"arn:aws:iam::%[1]s:role/biplane-controlplane"}}}]}`, vendor, id))
	open := role("open", trust("arn:aws:iam::"+vendor+":root", ""))

	for _, arn := range []string{byRole, byRoot} {
		for _, test := range []struct {
			name       string
			caller     Credentials
			externalID *string
			seconds    int32
			want       string
		}{
			{"lets the control plane in with the right external ID", controlplane, aws.String(id), 900, ""},
			{"refuses a wrong external ID", controlplane, aws.String("pE3kqV0c9mWZ4t1YxL7aRh"), 900, "AccessDenied"},
			{"refuses an external ID in another case", controlplane, aws.String(strings.ToLower(id)), 900, "AccessDenied"},
			{"refuses an absent external ID", controlplane, nil, 900, "AccessDenied"},
			{"refuses an external ID of one character", controlplane, aws.String("x"), 900, "ValidationError"},
			{"refuses an external ID with a space", controlplane, aws.String("a b"), 900, "ValidationError"},
			{"refuses another role of the vendor", other, aws.String(id), 900, "AccessDenied"},
			{"refuses the vendor's administrator", w.admins[vendor], aws.String(id), 900, "AccessDenied"},
			{"refuses another account", strangers, aws.String(id), 900, "AccessDenied"},
			{"refuses the customer's own administrator", w.admins[customer], aws.String(id), 900, "AccessDenied"},
			{"refuses a chained session of more than an hour", controlplane, aws.String(id), 3601, "ValidationError"},
			{"refuses a session of less than 15 minutes", controlplane, aws.String(id), 899, "ValidationError"},
		} {
			t.Run(test.name, func(t *testing.T) {
				out, err := w.sts(test.caller).AssumeRole(background, &sts.AssumeRoleInput{
					RoleArn: &arn, RoleSessionName: aws.String("biplane"), ExternalId: test.externalID, DurationSeconds: &test.seconds,
				})
				if got := code(t, err); got != test.want {
					t.Fatalf("got %q (%v), want %q", got, err, test.want)
				}
				if err != nil {
					return
				}
				me, err := w.sts(assumedCredentials(out)).GetCallerIdentity(background, nil)
				if err != nil {
					t.Fatal(err)
				}
				if want := "arn:aws:sts::111122223333:assumed-role/" + nameOf(arn) + "/biplane"; *me.Arn != want {
					t.Errorf("got %s, want %s", *me.Arn, want)
				}
			})
		}
	}
	t.Run("lets anyone of the vendor in without a condition", func(t *testing.T) {
		_, err := w.sts(other).AssumeRole(background, &sts.AssumeRoleInput{RoleArn: &open, RoleSessionName: aws.String("biplane")})
		expect(t, err, "", "")
	})
	t.Run("answers a missing role and an untrusting one alike", func(t *testing.T) {
		missing := strings.Replace(byRole, "by-role", "no-such", 1)
		_, err1 := w.sts(other).AssumeRole(background, &sts.AssumeRoleInput{RoleArn: &missing, RoleSessionName: aws.String("biplane")})
		_, err2 := w.sts(other).AssumeRole(background, &sts.AssumeRoleInput{RoleArn: &byRole, RoleSessionName: aws.String("biplane")})
		expect(t, err1, "AccessDenied", "User: "+other.ARN+" is not authorized to perform: sts:AssumeRole on resource: "+missing)
		expect(t, err2, "AccessDenied", "User: "+other.ARN+" is not authorized to perform: sts:AssumeRole on resource: "+byRole)
	})
}
