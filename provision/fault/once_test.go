package fault_test

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/smithy-go/middleware"

	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/step"
)

func TestOnce(t *testing.T) {
	t.Parallel()
	cut := func(http.ResponseWriter) { panic(http.ErrAbortHandler) }
	answer := func(status int, code string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			w.WriteHeader(status)
			w.Write([]byte("<Response><Errors><Error><Code>" + code + "</Code><Message>no</Message></Error></Errors></Response>"))
		}
	}
	create := func(t *testing.T, api *ec2.Client) error {
		_, err := api.CreateVpc(t.Context(), &ec2.CreateVpcInput{CidrBlock: aws.String("10.0.0.0/16")})
		return err
	}
	look := func(t *testing.T, api *ec2.Client) error {
		_, err := api.DescribeVpcs(t.Context(), &ec2.DescribeVpcsInput{})
		return err
	}
	const attempts = 3
	for _, one := range []struct {
		name    string
		call    func(*testing.T, *ec2.Client) error
		respond func(http.ResponseWriter)
		sent    int
		unclear bool
	}{
		{"it does not send again what was cut off", create, cut, 1, true},
		{"nor what AWS failed at", create, answer(500, "InternalError"), 1, true},
		{"nor what it answered with half a sentence", create, func(w http.ResponseWriter) { w.Write([]byte("<Response>")) }, 1, true},
		{"it sends again what was throttled", create, answer(503, "RequestLimitExceeded"), attempts, false},
		{"it leaves a refusal alone", create, answer(400, "VpcLimitExceeded"), 1, false},
		{"it sends again what changes nothing", look, cut, attempts, false},
	} {
		t.Run(one.name, func(t *testing.T) {
			t.Parallel()
			sent := 0
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				sent++
				one.respond(w)
			}))
			defer server.Close()
			err := one.call(t, client(server.URL, attempts))
			if sent != one.sent || err == nil || errors.Is(err, step.ErrUnclear) != one.unclear {
				t.Errorf("got %d requests and %v, want %d, unclear %v", sent, err, one.sent, one.unclear)
			}
		})
	}
	t.Run("it sends again what reached nobody", func(t *testing.T) {
		t.Parallel()
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listener.Close()
		err = create(t, client("http://"+listener.Addr().String(), attempts))
		var all *retry.MaxAttemptsError
		if !errors.As(err, &all) || errors.Is(err, step.ErrUnclear) {
			t.Errorf("got %v, want the end of %d attempts", err, attempts)
		}
	})
}

func client(url string, attempts int) *ec2.Client {
	return ec2.NewFromConfig(aws.Config{
		Region: "eu-central-1", BaseEndpoint: &url, Credentials: credentials.NewStaticCredentialsProvider("a", "b", ""),
		APIOptions: []func(*middleware.Stack) error{fault.Once},
		Retryer: func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts, o.MaxBackoff = attempts, time.Millisecond })
		},
	})
}
