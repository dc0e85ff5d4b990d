package awsdouble

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"biplane.dev/biplane/internal/awsdouble/typical"
)

// json calls a service that takes JSON, by its target.
func (a *account) json(service, target, body string) (text string, status int) {
	a.t.Helper()
	r := newRequest(a.t, http.MethodPost, a.d.URL()+"/")
	r.Header.Set("Content-Type", "application/x-amz-json-1.0")
	r.Header.Set("X-Amz-Target", target)
	status, text, err := send(a.t, a.d, a.key, service, r, body)
	if err != nil {
		a.t.Fatal(err)
	}
	return text, status
}

// steps makes calls in their order; each goes well, or is refused with a code.
func (a *account) steps(service, prefix string, all ...[3]string) {
	a.t.Helper()
	for _, one := range all {
		text, status := a.json(service, prefix+"."+one[0], one[1])
		if one[2] == "" && status != http.StatusOK || one[2] != "" && !strings.Contains(text, `"`+one[2]+`"`) {
			a.t.Errorf("%s %s: got status %d %s, want %s", one[0], one[1], status, text, one[2])
		}
	}
}

func TestKeysByTheirState(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	text, _ := a.json("kms", "TrentService.CreateKey", `{}`)
	var made struct{ KeyMetadata struct{ KeyId string } }
	if err := json.Unmarshal([]byte(text), &made); err != nil {
		t.Fatal(err)
	}
	key := func(more string) string { return fmt.Sprintf(`{"KeyId":%q%s}`, made.KeyMetadata.KeyId, more) }
	alias := func(name string) string {
		return key(fmt.Sprintf(`,"AliasName":%q,"TargetKeyId":%q`, name, made.KeyMetadata.KeyId))
	}
	policy := func(principal string) string {
		text := fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":%q},"Action":"kms:*","Resource":"*"}]}`, principal)
		return key(fmt.Sprintf(`,"PolicyName":"default","Policy":%q`, text))
	}
	a.steps("kms", "TrentService",
		[3]string{"CreateAlias", alias("alias/aws/mine"), "NotAuthorizedException"},
		[3]string{"CreateAlias", alias("alias/mine"), ""},
		[3]string{"PutKeyPolicy", key(`,"PolicyName":"default","Policy":"{"`), "MalformedPolicyDocumentException"},
		[3]string{"PutKeyPolicy", policy("arn:aws:iam::" + a.d.Accounts().Customer.ID + ":role/nobody"), "MalformedPolicyDocumentException"},
		[3]string{"PutKeyPolicy", policy("arn:aws:iam::" + a.d.Accounts().Customer.ID + ":root"), ""},
		[3]string{"DisableKey", key(""), ""},
		[3]string{"Encrypt", key(`,"Plaintext":"eA=="`), "DisabledException"},
		[3]string{"EnableKeyRotation", key(""), "DisabledException"},
		[3]string{"EnableKey", key(""), ""},
		[3]string{"Encrypt", key(`,"Plaintext":"eA=="`), ""},
		[3]string{"CancelKeyDeletion", key(""), "KMSInvalidStateException"},
		[3]string{"ScheduleKeyDeletion", key(`,"PendingWindowInDays":6`), "ValidationException"},
		[3]string{"ScheduleKeyDeletion", key(`,"PendingWindowInDays":31`), "ValidationException"},
		[3]string{"ScheduleKeyDeletion", key(`,"PendingWindowInDays":7`), ""},
		[3]string{"ScheduleKeyDeletion", key(`,"PendingWindowInDays":7`), "KMSInvalidStateException"},
		[3]string{"Encrypt", key(`,"Plaintext":"eA=="`), "KMSInvalidStateException"},
		[3]string{"CreateAlias", alias("alias/other"), "KMSInvalidStateException"},
		[3]string{"DescribeKey", key(""), ""},
	)
	a.steps("logs", "Logs_20140328",
		[3]string{"CreateLogGroup", `{"logGroupName":"/a","kmsKeyId":"` + made.KeyMetadata.KeyId + `"}`, "InvalidParameterException"},
		[3]string{"CreateLogGroup", `{"logGroupName":"/a"}`, ""},
		[3]string{"AssociateKmsKey", `{"logGroupName":"/a","kmsKeyId":"` + made.KeyMetadata.KeyId + `"}`, "InvalidParameterException"},
		[3]string{"PutRetentionPolicy", `{"logGroupName":"/a","retentionInDays":2}`, "InvalidParameterException"},
		[3]string{"PutRetentionPolicy", `{"logGroupName":"/a","retentionInDays":30}`, ""},
	)
	a.steps("kms", "TrentService",
		[3]string{"CancelKeyDeletion", key(""), ""},
		[3]string{"EnableKey", key(""), ""},
		[3]string{"EnableKeyRotation", key(""), ""},
	)
}

func TestQueueOfANameThatWasDeleted(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	url := a.d.URL() + "/" + a.d.Accounts().Customer.ID + "/gone"
	create := [3]string{"CreateQueue", `{"QueueName":"gone"}`, ""}
	a.steps("sqs", "AmazonSQS", create, create,
		[3]string{"DeleteQueue", fmt.Sprintf(`{"QueueUrl":%q}`, url), ""},
		[3]string{"CreateQueue", `{"QueueName":"gone"}`, "QueueDeletedRecently"})
	a.clock.pass(typical.RecreateQueue)
	a.steps("sqs", "AmazonSQS", create)
}
