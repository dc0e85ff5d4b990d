package awsidentity

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	bolterrors "go.etcd.io/bbolt/errors"
)

func TestRestart(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "identity.db")
	w := newWorld(t, Options{File: file})
	made, err := w.iam(w.admins[customer]).CreateRole(background, &iam.CreateRoleInput{RoleName: aws.String("kept"), AssumeRolePolicyDocument: aws.String(trust("arn:aws:iam::"+customer+":root", ""))})
	if err != nil {
		t.Fatal(err)
	}
	out, err := w.sts(w.admins[customer]).AssumeRole(background, &sts.AssumeRoleInput{RoleArn: made.Role.Arn, RoleSessionName: aws.String("s1")})
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got mode %v (%v), want 0600: the file holds secrets", info.Mode(), err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}

	again := newWorld(t, Options{File: file})
	if again.admins[customer] != w.admins[customer] {
		t.Errorf("got administrator %v, want the same as before", again.admins[customer].AccessKeyID)
	}
	me, err := again.sts(assumedCredentials(out)).GetCallerIdentity(background, nil)
	if err != nil || *me.Arn != *out.AssumedRoleUser.Arn {
		t.Errorf("got %v (%v), want the session to go on", me, err)
	}
	got, err := again.iam(again.admins[customer]).GetRole(background, &iam.GetRoleInput{RoleName: aws.String("kept")})
	if err != nil || *got.Role.RoleId != *made.Role.RoleId {
		t.Errorf("got %v (%v), want the same role", got, err)
	}
}

func TestOpen(t *testing.T) {
	t.Parallel()
	t.Run("refuses a store in use", func(t *testing.T) {
		t.Parallel()
		file := filepath.Join(t.TempDir(), "identity.db")
		first, err := Open(Options{File: file})
		if err != nil {
			t.Fatal(err)
		}
		defer first.Close()
		_, err = Open(Options{File: file})
		if !errors.Is(err, bolterrors.ErrTimeout) || !strings.Contains(err.Error(), "in use by another process") {
			t.Errorf("got %v, want that it is in use", err)
		}
	})
	t.Run("refuses what is no store", func(t *testing.T) {
		t.Parallel()
		file := filepath.Join(t.TempDir(), "identity.db")
		if err := os.WriteFile(file, []byte(strings.Repeat("not a store\n", 5000)), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Open(Options{File: file})
		if err == nil || !strings.Contains(err.Error(), "damaged or not an identity store") {
			t.Errorf("got %v, want that it is damaged", err)
		}
	})
	t.Run("refuses a store that was cut off", func(t *testing.T) {
		t.Parallel()
		file := filepath.Join(t.TempDir(), "identity.db")
		s, err := Open(Options{File: file})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.CreateAccount(customer, AccountOptions{}); err != nil {
			t.Fatal(err)
		}
		s.Close()
		if err := os.Truncate(file, 9000); err != nil {
			t.Fatal(err)
		}
		s, err = Open(Options{File: file})
		if err == nil {
			s.Close()
			t.Fatal("got a service, want a refusal")
		}
		if !strings.Contains(err.Error(), file) {
			t.Errorf("got %v, want the file's name", err)
		}
	})
	t.Run("refuses a directory that is not there", func(t *testing.T) {
		t.Parallel()
		_, err := Open(Options{File: filepath.Join(t.TempDir(), "no", "identity.db")})
		if err == nil || !strings.Contains(err.Error(), "opening the identity store") {
			t.Errorf("got %v, want what could not be opened", err)
		}
	})
}

// TestConsistency shows that what was just written is not seen yet, and is
// checked against all the same.
func TestConsistency(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{})
	w.SetConsistencyDelay(5 * time.Second)
	admin := w.iam(w.admins[customer])
	name := aws.String("late")
	made, err := admin.CreateRole(background, &iam.CreateRoleInput{RoleName: name, AssumeRolePolicyDocument: aws.String(trust("arn:aws:iam::"+customer+":root", ""))})
	if err != nil {
		t.Fatal(err)
	}
	get := func() error { _, err := admin.GetRole(background, &iam.GetRoleInput{RoleName: name}); return err }
	assume := func() error {
		_, err := w.sts(w.admins[customer]).AssumeRole(background, &sts.AssumeRoleInput{RoleArn: made.Role.Arn, RoleSessionName: aws.String("s1")})
		return err
	}
	expect(t, get(), "NoSuchEntity", "")
	expect(t, assume(), "AccessDenied", "")
	_, err = admin.CreateRole(background, &iam.CreateRoleInput{RoleName: name, AssumeRolePolicyDocument: aws.String(ec2Trust)})
	expect(t, err, "EntityAlreadyExists", "")
	if _, err := admin.PutRolePolicy(background, &iam.PutRolePolicyInput{RoleName: name, PolicyName: aws.String("p"), PolicyDocument: aws.String(allow("iam:*", "*"))}); err != nil {
		t.Fatal(err)
	}
	w.clock.advance(6 * time.Second)
	expect(t, get(), "", "")
	expect(t, assume(), "", "")
	if _, err := admin.DeleteRolePolicy(background, &iam.DeleteRolePolicyInput{RoleName: name, PolicyName: aws.String("p")}); err != nil {
		t.Fatal(err)
	}
	list := func() int {
		t.Helper()
		out, err := admin.ListRolePolicies(background, &iam.ListRolePoliciesInput{RoleName: name})
		if err != nil {
			t.Fatal(err)
		}
		return len(out.PolicyNames)
	}
	if got := list(); got != 1 {
		t.Errorf("got %d policies just after the deletion, want 1", got)
	}
	w.clock.advance(6 * time.Second)
	if got := list(); got != 0 {
		t.Errorf("got %d policies later, want 0", got)
	}
	if _, err := admin.DeleteRole(background, &iam.DeleteRoleInput{RoleName: name}); err != nil {
		t.Fatal(err)
	}
	expect(t, get(), "", "")
	w.SetConsistencyDelay(0)
	expect(t, get(), "NoSuchEntity", "")
}
