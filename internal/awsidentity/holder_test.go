package awsidentity_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"biplane.dev/biplane/internal/awsidentity"
	"biplane.dev/biplane/provision/iampolicy"
)

const holderRole = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::data/*"}]}`

func TestHolder(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	var clock atomic.Int64
	clock.Store(now.UnixNano())
	written := 0
	s, err := awsidentity.Open(awsidentity.Options{
		Clock:   func() time.Time { return time.Unix(0, clock.Load()) },
		Written: func() { written++ },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	given := awsidentity.Credentials{AccessKeyID: "AKIAGIVENKEYGIVENKEY", SecretAccessKey: "a secret that was made elsewhere"}
	admin, err := s.CreateAccount("111122223333", awsidentity.AccountOptions{Key: given})
	if err != nil {
		t.Fatal(err)
	}
	if admin.AccessKeyID != given.AccessKeyID || admin.SecretAccessKey != given.SecretAccessKey {
		t.Errorf("got the administrator's key %s, want the one that was given", admin.AccessKeyID)
	}
	arn, err := s.SeedRole("111122223333", awsidentity.Role{Name: "reader", Inline: map[string]string{"read": holderRole}})
	if err != nil {
		t.Fatal(err)
	}
	if written != 2 {
		t.Errorf("got %d calls of Written after an account and a role, want 2", written)
	}
	session, err := s.Session(arn, "pod", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	other, err := s.Session(arn, "other", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if written != 2 {
		t.Errorf("got %d calls of Written after sessions began, want none more", written)
	}

	for _, c := range []struct {
		name, key, token string
		want             error
	}{
		{"finds a session by its key and token", session.AccessKeyID, session.SessionToken, nil},
		{"finds a user by the key alone", admin.AccessKeyID, "", nil},
		{"refuses another session's token", session.AccessKeyID, other.SessionToken, awsidentity.ErrBadToken},
		{"refuses a session's key without its token", session.AccessKeyID, "", awsidentity.ErrNoSuchKey},
		{"refuses a user's key with somebody's token", admin.AccessKeyID, session.SessionToken, awsidentity.ErrBadToken},
		{"refuses a key that nobody has", "AKIANOBODYNOBODYNOBO", "", awsidentity.ErrNoSuchKey},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := s.Holder(c.key, c.token); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}

	t.Run("decides as the service does", func(t *testing.T) {
		holder, err := s.Holder(session.AccessKeyID, session.SessionToken)
		if err != nil {
			t.Fatal(err)
		}
		e, err := holder.Compile(nil)
		if err != nil {
			t.Fatal(err)
		}
		for resource, want := range map[string]iampolicy.Decision{
			"arn:aws:s3:::data/x": iampolicy.Allowed, "arn:aws:s3:::other/x": iampolicy.ImplicitDeny,
		} {
			req := iampolicy.Request{Action: "s3:GetObject", Resource: resource, Context: iampolicy.Context{}}
			req.Context.Set("aws:PrincipalArn", "arn:aws:iam::111122223333:role/somebody-else")
			holder.Complete(&req, now)
			if got := e.Decide(&req); got != want {
				t.Errorf("got %v for %s, want %v", got, resource, want)
			}
			if got, _ := req.Context.Get("aws:PrincipalArn"); len(got) != 1 || got[0] != arn {
				t.Errorf("got aws:PrincipalArn %v, want the holder's own %s", got, arn)
			}
		}
	})

	t.Run("says that a session is over once it is", func(t *testing.T) {
		clock.Store(now.Add(2 * time.Hour).UnixNano())
		if _, err := s.Holder(session.AccessKeyID, session.SessionToken); !errors.Is(err, awsidentity.ErrTokenExpired) {
			t.Errorf("got %v, want %v", err, awsidentity.ErrTokenExpired)
		}
		if _, _, ok, err := s.KnownKey(session.AccessKeyID); ok || err != nil {
			t.Errorf("got known %v (%v), want not", ok, err)
		}
	})

	t.Run("knows which principals there are", func(t *testing.T) {
		for principal, want := range map[string]bool{
			arn: true, "111122223333": true, "arn:aws:iam::111122223333:root": true, "arn:aws:iam::999999999999:role/x": true,
			"arn:aws:sts::111122223333:assumed-role/reader/pod": true,
			"arn:aws:iam::111122223333:role/nobody":             false, "not an ARN": false, "arn:aws-cn:iam::111122223333:role/reader": false,
		} {
			if got, err := s.PrincipalExists(principal); got != want || err != nil {
				t.Errorf("got %v (%v) for %s, want %v", got, err, principal, want)
			}
		}
	})
}
