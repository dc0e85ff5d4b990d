package awsidentity

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	ststypes "github.com/aws/aws-sdk-go-v2/service/sts/types"
	"github.com/aws/smithy-go"
)

const (
	customer = "111122223333"
	vendor   = "479331373192"
	stranger = "999988887777"
)

// world is a service on loopback with three accounts, and a clock that a test
// may move. The signers of the SDK use the machine's clock, so it starts there.
type world struct {
	*Service
	t      *testing.T
	url    string
	file   string
	clock  *clock
	admins map[string]Credentials
}

type clock struct {
	lock   sync.Mutex
	offset time.Duration
}

func (c *clock) now() time.Time {
	c.lock.Lock()
	defer c.lock.Unlock()
	return time.Now().Add(c.offset)
}

func (c *clock) advance(d time.Duration) {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.offset += d
}

func newWorld(t *testing.T, o Options) *world {
	t.Helper()
	w := &world{t: t, clock: &clock{}, admins: map[string]Credentials{}, file: o.File}
	o.Clock = w.clock.now
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	w.Service = s
	server := httptest.NewServer(s)
	w.url = server.URL
	t.Cleanup(func() {
		server.Close()
		s.Close()
	})
	for _, id := range []string{customer, vendor, stranger} {
		admin, err := s.CreateAccount(id, AccountOptions{})
		if err != nil {
			t.Fatal(err)
		}
		w.admins[id] = admin
	}
	return w
}

func (w *world) iam(c Credentials) *iam.Client {
	return iam.New(iam.Options{
		Region: "us-east-1", BaseEndpoint: &w.url, Credentials: provide(c), RetryMaxAttempts: 1,
	})
}

func (w *world) sts(c Credentials) *sts.Client {
	return sts.New(sts.Options{
		Region: "eu-central-1", BaseEndpoint: &w.url, Credentials: provide(c), RetryMaxAttempts: 1,
	})
}

func provide(c Credentials) aws.CredentialsProvider {
	return credentials.NewStaticCredentialsProvider(c.AccessKeyID, c.SecretAccessKey, c.SessionToken)
}

// code is the AWS code of an error, "" for none.
func code(t *testing.T, err error) string {
	t.Helper()
	if err == nil {
		return ""
	}
	var api smithy.APIError
	if !errors.As(err, &api) {
		t.Fatalf("got error %v, want one of the API", err)
	}
	return api.ErrorCode()
}

// expect checks an error's code and that its message has a text.
func expect(t *testing.T, err error, wantCode, wantText string) {
	t.Helper()
	if got := code(t, err); got != wantCode {
		t.Errorf("got code %q (%v), want %q", got, err, wantCode)
		return
	}
	if err == nil {
		return
	}
	var api smithy.APIError
	errors.As(err, &api)
	if !strings.Contains(api.ErrorMessage(), wantText) {
		t.Errorf("got message %q, want one with %q", api.ErrorMessage(), wantText)
	}
}

var background = context.Background()

// trust is a trust policy for one AWS principal with an external ID, where
// there is one.
func trust(principal, externalID string) string {
	condition := ""
	if externalID != "" {
		condition = `,"Condition":{"StringEquals":{"sts:ExternalId":"` + externalID + `"}}`
	}
	return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"` + principal + `"},"Action":"sts:AssumeRole"` + condition + `}]}`
}

func allow(actions, resource string) string {
	return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["` + strings.ReplaceAll(actions, ",", `","`) + `"],"Resource":"` + resource + `"}]}`
}

func stsPolicies(arns ...string) (out []ststypes.PolicyDescriptorType) {
	for _, arn := range arns {
		out = append(out, ststypes.PolicyDescriptorType{Arn: &arn})
	}
	return out
}

func stsTags(pairs ...string) (out []ststypes.Tag) {
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, ststypes.Tag{Key: &pairs[i], Value: &pairs[i+1]})
	}
	return out
}
