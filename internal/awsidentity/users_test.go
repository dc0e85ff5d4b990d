package awsidentity

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

func TestUserLife(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{})
	admin := w.iam(w.admins[customer])
	name := aws.String("jane")
	if _, err := admin.CreateUser(background, &iam.CreateUserInput{UserName: name, Path: aws.String("/people/")}); err != nil {
		t.Fatal(err)
	}
	_, err := admin.CreateUser(background, &iam.CreateUserInput{UserName: aws.String("Jane")})
	expect(t, err, "EntityAlreadyExists", "")
	var keys []Credentials
	for range 2 {
		key, err := admin.CreateAccessKey(background, &iam.CreateAccessKeyInput{UserName: name})
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, Credentials{AccessKeyID: *key.AccessKey.AccessKeyId, SecretAccessKey: *key.AccessKey.SecretAccessKey})
	}
	_, err = admin.CreateAccessKey(background, &iam.CreateAccessKeyInput{UserName: name})
	expect(t, err, "LimitExceeded", "Cannot exceed quota for AccessKeysPerUser: 2")

	jane := w.iam(keys[0])
	_, err = jane.GetUser(background, nil)
	expect(t, err, "AccessDenied", "iam:GetUser on resource: arn:aws:iam::111122223333:user/people/jane")
	// A variable makes the policy speak of whoever it is attached to.
	self := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iam:*","Resource":"arn:aws:iam::*:user/people/${aws:username}"}]}`
	if _, err := admin.PutUserPolicy(background, &iam.PutUserPolicyInput{UserName: name, PolicyName: aws.String("self"), PolicyDocument: &self}); err != nil {
		t.Fatal(err)
	}
	me, err := jane.GetUser(background, nil)
	if err != nil || *me.User.UserName != "jane" {
		t.Errorf("got %v (%v), want herself", me, err)
	}
	_, err = jane.GetUser(background, &iam.GetUserInput{UserName: aws.String("administrator")})
	expect(t, err, "AccessDenied", "")

	// A session of hers has her rights, and ends with her.
	token, err := w.sts(keys[0]).GetSessionToken(background, &sts.GetSessionTokenInput{DurationSeconds: aws.Int32(900)})
	if err != nil {
		t.Fatal(err)
	}
	session := Credentials{AccessKeyID: *token.Credentials.AccessKeyId, SecretAccessKey: *token.Credentials.SecretAccessKey, SessionToken: *token.Credentials.SessionToken}
	if _, err := w.iam(session).GetUser(background, nil); err != nil {
		t.Errorf("got %v, want her session to have her rights", err)
	}
	_, err = w.sts(session).GetSessionToken(background, nil)
	expect(t, err, "AccessDenied", "session credentials")
	info, err := w.sts(w.admins[vendor]).GetAccessKeyInfo(background, &sts.GetAccessKeyInfoInput{AccessKeyId: &session.AccessKeyID})
	if err != nil || *info.Account != customer {
		t.Errorf("got %v (%v), want the customer's account", info, err)
	}

	_, err = admin.DeleteUser(background, &iam.DeleteUserInput{UserName: name})
	expect(t, err, "DeleteConflict", "must delete access keys first")
	for _, key := range keys {
		if _, err := admin.DeleteAccessKey(background, &iam.DeleteAccessKeyInput{UserName: name, AccessKeyId: &key.AccessKeyID}); err != nil {
			t.Fatal(err)
		}
	}
	_, err = admin.DeleteUser(background, &iam.DeleteUserInput{UserName: name})
	expect(t, err, "DeleteConflict", "must delete policies first")
	if _, err := admin.DeleteUserPolicy(background, &iam.DeleteUserPolicyInput{UserName: name, PolicyName: aws.String("self")}); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.DeleteUser(background, &iam.DeleteUserInput{UserName: name}); err != nil {
		t.Fatal(err)
	}
	_, err = w.sts(session).GetCallerIdentity(background, nil)
	expect(t, err, "InvalidClientTokenId", "")
	_, err = w.iam(w.as("robot", allow("iam:GetUser", "*"))).GetUser(background, nil)
	expect(t, err, "ValidationError", "Must specify userName")
}
