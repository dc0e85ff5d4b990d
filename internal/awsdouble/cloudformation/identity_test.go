package cloudformation

import (
	"bytes"
	"context"
	"io"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"

	"biplane.dev/biplane/internal/awsidentity"
)

const principal = "cloudformation.amazonaws.com"

// Identity is an identity service in this process as a Cloud.
type Identity struct{ Service *awsidentity.Service }

// IAM implements Cloud.
func (i Identity) IAM(who Caller) *iam.Client {
	address := "http://iam.invalid" // nothing is resolved: the transport is a call
	return iam.New(iam.Options{
		Region: "us-east-1", BaseEndpoint: &address, Credentials: aws.AnonymousCredentials{},
		HTTPClient: &http.Client{Transport: onBehalf{i.Service, who}}, RetryMaxAttempts: 1,
	})
}

// Lambda implements Cloud: there is no Lambda.
func (i Identity) Lambda(context.Context, Caller, Env, string, map[string]any) (map[string]any, error) {
	return nil, errNoLambda
}

// Ask implements Cloud.
func (i Identity) Ask(context.Context, Caller, Env, string, map[string]any) ([]byte, error) {
	return nil, errNoLambda
}

var errNoLambda = &Error{"NotImplemented", "There is no Lambda here.", http.StatusNotImplemented}

// onBehalf answers requests as somebody, for whom CloudFormation acts.
type onBehalf struct {
	service *awsidentity.Service
	who     Caller
}

func (o onBehalf) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		defer r.Body.Close()
	}
	answer := &recorder{header: http.Header{}, status: http.StatusOK}
	caller, err := o.service.OnBehalf(o.who.AccessKeyID, principal)
	if err != nil {
		o.service.WriteRefusal(answer, err)
	} else {
		o.service.ServeAs(caller, answer, r)
	}
	return &http.Response{
		StatusCode: answer.status, Header: answer.header, Request: r, ProtoMajor: 1, ProtoMinor: 1,
		Body: io.NopCloser(&answer.body), ContentLength: int64(answer.body.Len()),
	}, nil
}

// recorder keeps an answer.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(status int)      { r.status = status }
func (r *recorder) Write(b []byte) (int, error) { return r.body.Write(b) }
