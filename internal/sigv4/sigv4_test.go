package sigv4

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

const (
	keyID   = "AKIDEXAMPLE"
	secret  = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
	maxBody = 1 << 20
)

// TestPublishedVectors checks signatures that AWS publishes: its SigV4 test
// suite and the examples of the IAM and S3 guides.
func TestPublishedVectors(t *testing.T) {
	t.Parallel()
	suite := func(signed, signature string) string {
		return "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=" + signed + ", Signature=" + signature
	}
	const s3Secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	at2015, at2013 := time.Date(2015, 8, 30, 12, 36, 0, 0, time.UTC), time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		name    string
		request string // as it is on the wire
		auth    string
		secret  string
		at      time.Time
	}{
		{"get-vanilla", "GET / HTTP/1.1\r\nHost:example.amazonaws.com\r\nX-Amz-Date:20150830T123600Z\r\n",
			suite("host;x-amz-date", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"), secret, at2015},
		{"get-vanilla-query-order-key-case", "GET /?Param2=value2&Param1=value1 HTTP/1.1\r\nHost:example.amazonaws.com\r\nX-Amz-Date:20150830T123600Z\r\n",
			suite("host;x-amz-date", "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"), secret, at2015},
		{"get-utf8", "GET /\u1234 HTTP/1.1\r\nHost:example.amazonaws.com\r\nX-Amz-Date:20150830T123600Z\r\n",
			suite("host;x-amz-date", "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"), secret, at2015},
		{"get-unreserved", "GET /-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz HTTP/1.1\r\nHost:example.amazonaws.com\r\nX-Amz-Date:20150830T123600Z\r\n",
			suite("host;x-amz-date", "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f"), secret, at2015},
		{"get-relative", "GET /example/.. HTTP/1.1\r\nHost:example.amazonaws.com\r\nX-Amz-Date:20150830T123600Z\r\n",
			suite("host;x-amz-date", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"), secret, at2015},
		{"get-slashes", "GET //example// HTTP/1.1\r\nHost:example.amazonaws.com\r\nX-Amz-Date:20150830T123600Z\r\n",
			suite("host;x-amz-date", "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84"), secret, at2015},
		{"get-header-key-duplicate", "GET / HTTP/1.1\r\nHost:example.amazonaws.com\r\nMy-Header1:value2\r\nMy-Header1:value2\r\nMy-Header1:value1\r\nX-Amz-Date:20150830T123600Z\r\n",
			suite("host;my-header1;x-amz-date", "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea"), secret, at2015},
		{"get-header-value-trim", "GET / HTTP/1.1\r\nHost:example.amazonaws.com\r\nMy-Header1: value1\r\nMy-Header2: \"a   b   c\"\r\nX-Amz-Date:20150830T123600Z\r\n",
			suite("host;my-header1;my-header2;x-amz-date", "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"), secret, at2015},
		{"post-vanilla", "POST / HTTP/1.1\r\nHost:example.amazonaws.com\r\nX-Amz-Date:20150830T123600Z\r\n",
			suite("host;x-amz-date", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"), secret, at2015},
		{"the IAM guide's ListUsers", "GET /?Action=ListUsers&Version=2010-05-08 HTTP/1.1\r\nHost: iam.amazonaws.com\r\nContent-Type: application/x-www-form-urlencoded; charset=utf-8\r\nX-Amz-Date: 20150830T123600Z\r\n",
			"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, SignedHeaders=content-type;host;x-amz-date, Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7", secret, at2015},
		{"the S3 guide's GET Object", "GET /test.txt HTTP/1.1\r\nHost: examplebucket.s3.amazonaws.com\r\nRange: bytes=0-9\r\nx-amz-content-sha256: " + emptyHash + "\r\nx-amz-date: 20130524T000000Z\r\n",
			"AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41", s3Secret, at2013},
		{"the S3 guide's presigned URL", "GET /test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404 HTTP/1.1\r\nHost: examplebucket.s3.amazonaws.com\r\n",
			"", s3Secret, at2013},
	} {
		t.Run("it accepts "+test.name, func(t *testing.T) {
			t.Parallel()
			wire := test.request
			if test.auth != "" {
				wire += "Authorization: " + test.auth + "\r\n"
			}
			r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(wire + "\r\n")))
			if err != nil {
				t.Fatal(err)
			}
			s, err := Parse(r)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Verify(test.secret, test.at, maxBody); err != nil {
				canonical, _ := s.canonicalRequest(emptyHash)
				t.Errorf("got %v, want acceptance of\n%s", err, canonical)
			}
			if err := s.Verify(test.secret+"x", test.at, maxBody); code(err) != "SignatureDoesNotMatch" {
				t.Errorf("got %v with another secret, want SignatureDoesNotMatch", err)
			}
		})
	}
}

func code(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return fmt.Sprint(err)
}

// check is a server that answers how it found the signature, with the body it read.
func check(t *testing.T, now time.Time) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := Parse(r)
		if err == nil {
			err = s.Verify(secret, now, maxBody)
		}
		if err == nil {
			var body []byte
			if body, err = io.ReadAll(r.Body); err == nil {
				fmt.Fprintf(w, "%s %s %s presigned=%v age=%v token=%s body=%d", s.AccessKeyID, s.Service, s.Region, s.Presigned, s.Age(now), s.SessionToken, len(body))
				return
			}
		}
		w.WriteHeader(http.StatusForbidden)
		io.WriteString(w, code(err))
	}))
	t.Cleanup(server.Close)
	return server
}

func send(t *testing.T, r *http.Request) string {
	t.Helper()
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// TestSDK signs as the SDK does, sends over a real connection, and changes one
// thing on the way.
func TestSDK(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)
	server := check(t, now)
	sum := func(s string) string { h := sha256.Sum256([]byte(s)); return hex.EncodeToString(h[:]) }

	type shape struct {
		method, target, body, service, payload, token string
		at                                            time.Time
		expires                                       string // presign when set
		before, after                                 func(*http.Request)
	}
	for _, test := range []struct {
		name string
		shape
		want string
	}{
		{"accepts a form", shape{method: "POST", target: "/", body: "Action=X", service: "iam"}, "AKIDEXAMPLE iam eu-central-1 presigned=false age=0s token= body=8"},
		{"accepts a session token", shape{method: "POST", target: "/", body: "Action=X", service: "sts", token: "tok+/="}, "AKIDEXAMPLE sts eu-central-1 presigned=false age=0s token=tok+/= body=8"},
		{"encodes a path twice", shape{method: "GET", target: "/clusters/a%20b%2Fc/node-groups", service: "eks"}, "AKIDEXAMPLE eks eu-central-1"},
		{"encodes the path of a policy ARN twice", shape{method: "GET", target: "/x/arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fr", service: "eks"}, "AKIDEXAMPLE eks eu-central-1"},
		{"encodes the path of S3 once", shape{method: "GET", target: "/b/a%20b/%C3%A4%2B%3D%40%3A%21%24.txt?list-type=2&prefix=a%2Fb&delimiter=%2F", service: "s3"}, "AKIDEXAMPLE s3 eu-central-1"},
		{"keeps double slashes and dots of S3", shape{method: "GET", target: "/b//a/./c", service: "s3"}, "AKIDEXAMPLE s3 eu-central-1"},
		{"accepts a query key without a value", shape{method: "GET", target: "/b?acl", service: "s3"}, "AKIDEXAMPLE s3"},
		{"accepts a query key given twice", shape{method: "GET", target: "/?a=2&a=1&b=%20x", service: "eks"}, "AKIDEXAMPLE eks"},
		{"checks the body of S3 while it is read", shape{method: "PUT", target: "/b/k", body: "data", service: "s3"}, "body=4"},
		{"accepts an unsigned payload of S3", shape{method: "PUT", target: "/b/k", body: "data", service: "s3", payload: unsignedPayload}, "body=4"},
		{"accepts the seed of a stream", shape{method: "PUT", target: "/b/k", body: "4;chunk-signature=…", service: "s3", payload: "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"}, "AKIDEXAMPLE s3"},
		{"accepts a request of 14 minutes ago", shape{method: "GET", target: "/", service: "iam", at: now.Add(-14 * time.Minute)}, "age=14m0s"},
		{"accepts a presigned URL", shape{method: "GET", target: "/b/k%20k", service: "s3", payload: unsignedPayload, expires: "600", at: now.Add(-9 * time.Minute), token: "t"}, "presigned=true age=9m0s token=t"},
		{"accepts a presigned URL of six days", shape{method: "PUT", target: "/b/k", body: "any", service: "s3", payload: unsignedPayload, expires: "604800", at: now.Add(-6 * 24 * time.Hour)}, "presigned=true"},
		{"accepts a presigned STS request for 15 minutes whatever it says", shape{method: "GET", target: "/?Action=GetCallerIdentity", service: "sts", expires: "60", at: now.Add(-14 * time.Minute)}, "presigned=true"},

		{"refuses a presigned STS request after 15 minutes", shape{method: "GET", target: "/?Action=GetCallerIdentity", service: "sts", expires: "3600", at: now.Add(-16 * time.Minute)}, "SignatureDoesNotMatch"},
		{"refuses a presigned URL that has expired", shape{method: "GET", target: "/b/k", service: "s3", payload: unsignedPayload, expires: "600", at: now.Add(-11 * time.Minute)}, "AccessDenied"},
		{"refuses a presigned URL of more than a week", shape{method: "GET", target: "/b/k", service: "s3", payload: unsignedPayload, expires: "604801"}, "AuthorizationQueryParametersError"},
		{"refuses a presigned URL that lives forever", shape{method: "GET", target: "/b/k", service: "s3", payload: unsignedPayload, expires: "0"}, "AuthorizationQueryParametersError"},
		{"refuses a presigned URL without an end", shape{method: "GET", target: "/b/k?x=y", service: "s3", payload: unsignedPayload, expires: "600", after: func(r *http.Request) {
			r.URL.RawQuery = strings.Replace(r.URL.RawQuery, "X-Amz-Expires=600&", "", 1)
		}}, "AuthorizationQueryParametersError"},
		{"refuses a presigned URL with a longer life", shape{method: "GET", target: "/b/k", service: "s3", payload: unsignedPayload, expires: "600", after: func(r *http.Request) {
			r.URL.RawQuery = strings.Replace(r.URL.RawQuery, "Expires=600", "Expires=6000", 1)
		}}, "SignatureDoesNotMatch"},
		{"refuses a presigned URL for another key", shape{method: "GET", target: "/b/k", service: "s3", payload: unsignedPayload, expires: "600", after: func(r *http.Request) { r.URL.Path = "/b/l" }}, "SignatureDoesNotMatch"},
		{"refuses a presigned URL for another method", shape{method: "GET", target: "/b/k", service: "s3", payload: unsignedPayload, expires: "600", after: func(r *http.Request) { r.Method = "DELETE" }}, "SignatureDoesNotMatch"},
		{"refuses a presigned URL whose query names a parameter twice", shape{method: "GET", target: "/b/k", service: "s3", payload: unsignedPayload, expires: "600", after: func(r *http.Request) { r.URL.RawQuery += "&X-Amz-Expires=9" }}, "IncompleteSignature"},
		{"refuses a presigned URL with an Authorization header too", shape{method: "GET", target: "/b/k", service: "s3", payload: unsignedPayload, expires: "600", after: func(r *http.Request) { r.Header.Set("Authorization", "x") }}, "IncompleteSignature"},
		{"refuses no signature", shape{method: "GET", target: "/", service: "iam", after: func(r *http.Request) { r.Header.Del("Authorization") }}, "MissingAuthenticationToken"},
		{"refuses two Authorization headers", shape{method: "GET", target: "/", service: "iam", after: func(r *http.Request) {
			r.Header.Add("Authorization", r.Header.Get("Authorization"))
		}}, "IncompleteSignature"},
		{"refuses another algorithm", shape{method: "GET", target: "/", service: "iam", after: replace("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256")}, "IncompleteSignature"},
		{"refuses a credential without a scope", shape{method: "GET", target: "/", service: "iam", after: replace("/iam/aws4_request", "")}, "IncompleteSignature"},
		{"refuses another terminator", shape{method: "GET", target: "/", service: "iam", after: replace("aws4_request", "aws5_request")}, "SignatureDoesNotMatch"},
		{"refuses another region", shape{method: "GET", target: "/", service: "iam", after: replace("eu-central-1", "us-east-1")}, "SignatureDoesNotMatch"},
		{"refuses another service", shape{method: "GET", target: "/", service: "iam", after: replace("/iam/", "/sts/")}, "SignatureDoesNotMatch"},
		{"refuses another date in the scope", shape{method: "GET", target: "/", service: "iam", after: replace("20260301/", "20260302/")}, "SignatureDoesNotMatch"},
		{"refuses a list of headers without host", shape{method: "GET", target: "/", service: "iam", after: replace("=host;", "=")}, "SignatureDoesNotMatch"},
		{"refuses a signature of another length", shape{method: "GET", target: "/", service: "iam", after: replace("Signature=", "Signature=00")}, "SignatureDoesNotMatch"},
		{"refuses no signed headers", shape{method: "GET", target: "/", service: "iam", after: replace("SignedHeaders=", "Signed=")}, "IncompleteSignature"},
		{"refuses a signed header that is missing", shape{method: "GET", target: "/", service: "iam", before: func(r *http.Request) { r.Header.Set("X-Extra", "1") }, after: func(r *http.Request) { r.Header.Del("X-Extra") }}, "SignatureDoesNotMatch"},
		{"refuses a signed header with another value", shape{method: "GET", target: "/", service: "iam", before: func(r *http.Request) { r.Header.Set("X-Extra", "1") }, after: func(r *http.Request) { r.Header.Add("X-Extra", "2") }}, "SignatureDoesNotMatch"},
		{"refuses another body", shape{method: "POST", target: "/", body: "Action=X", service: "iam", after: func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader("Action=Y")) }}, "SignatureDoesNotMatch"},
		{"refuses another body of S3 once it is read", shape{method: "PUT", target: "/b/k", body: "data", service: "s3", after: func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader("atad")) }}, "XAmzContentSHA256Mismatch"},
		{"refuses another query", shape{method: "GET", target: "/?a=1", service: "iam", after: func(r *http.Request) { r.URL.RawQuery = "a=2" }}, "SignatureDoesNotMatch"},
		{"refuses a header of S3 that is not signed", shape{method: "PUT", target: "/b/k", body: "data", service: "s3", after: func(r *http.Request) { r.Header.Set("X-Amz-Acl", "public-read") }}, "AccessDenied"},
		{"refuses a hash of S3 that is none", shape{method: "PUT", target: "/b/k", body: "data", service: "s3", payload: "hello"}, "InvalidArgument"},
		{"refuses a body that is too large", shape{method: "POST", target: "/", body: strings.Repeat("x", maxBody+1), service: "iam"}, "RequestEntityTooLarge"},
		{"refuses a request of 16 minutes ago", shape{method: "GET", target: "/", service: "iam", at: now.Add(-16 * time.Minute)}, "SignatureDoesNotMatch"},
		{"refuses a request of the future", shape{method: "GET", target: "/", service: "iam", at: now.Add(16 * time.Minute)}, "SignatureDoesNotMatch"},
		{"refuses an old request in S3's words", shape{method: "GET", target: "/b", service: "s3", at: now.Add(-16 * time.Minute)}, "RequestTimeTooSkewed"},
		{"refuses an old request in EC2's words", shape{method: "GET", target: "/", service: "ec2", at: now.Add(-16 * time.Minute)}, "RequestExpired"},
		{"refuses a query that is not encoded", shape{method: "GET", target: "/?a=1", service: "iam", after: func(r *http.Request) { r.URL.RawQuery = "a=%zz" }}, "MalformedQueryString"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			in := test.shape
			if in.at.IsZero() {
				in.at = now
			}
			if in.payload == "" {
				in.payload = sum(in.body)
			}
			target := server.URL + in.target
			if in.expires != "" {
				separator := "?"
				if strings.Contains(target, "?") {
					separator = "&"
				}
				target += separator + "X-Amz-Expires=" + in.expires
			}
			r, err := http.NewRequest(in.method, target, strings.NewReader(in.body))
			if err != nil {
				t.Fatal(err)
			}
			if in.before != nil {
				in.before(r)
			}
			signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = in.service == "s3" })
			key := aws.Credentials{AccessKeyID: keyID, SecretAccessKey: secret, SessionToken: in.token}
			if in.expires != "" {
				link, header, err := signer.PresignHTTP(context.Background(), key, r, in.payload, in.service, "eu-central-1", in.at)
				if err != nil {
					t.Fatal(err)
				}
				if r, err = http.NewRequest(in.method, link, strings.NewReader(in.body)); err != nil {
					t.Fatal(err)
				}
				for name, values := range header {
					if name != "Host" && name != "Content-Length" {
						r.Header[name] = values
					}
				}
			} else {
				if in.service == "s3" {
					r.Header.Set("X-Amz-Content-Sha256", in.payload)
				}
				if err := signer.SignHTTP(context.Background(), key, r, in.payload, in.service, "eu-central-1", in.at); err != nil {
					t.Fatal(err)
				}
			}
			if in.after != nil {
				in.after(r)
			}
			if got := send(t, r); !strings.Contains(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// replace changes the Authorization header.
func replace(old, new string) func(*http.Request) {
	return func(r *http.Request) {
		r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), old, new, 1))
	}
}

func FuzzParse(f *testing.F) {
	f.Add("AWS4-HMAC-SHA256 Credential=a/20150830/r/s/aws4_request, SignedHeaders=host, Signature=00", "a=b", "20150830T123600Z")
	f.Add("", "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=a%2F20150830%2Fr%2Fs%2Faws4_request&X-Amz-Signature=0&X-Amz-SignedHeaders=host&X-Amz-Date=20150830T123600Z", "")
	f.Fuzz(func(t *testing.T, authorization, query, date string) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.URL.RawQuery = query
		if authorization != "" {
			r.Header.Set("Authorization", authorization)
		}
		r.Header.Set("X-Amz-Date", date)
		s, err := Parse(r)
		if err != nil {
			if code(err) == "" {
				t.Errorf("got %v, want an error with a code", err)
			}
			return
		}
		if err := s.Verify("secret that nobody signed with", s.Time, maxBody); err == nil {
			t.Error("got acceptance of a request that nobody signed")
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	now := time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)
	r := httptest.NewRequest(http.MethodGet, "/b/k", nil)
	r.Header.Set("X-Amz-Content-Sha256", unsignedPayload)
	if err := v4.NewSigner().SignHTTP(context.Background(), aws.Credentials{AccessKeyID: keyID, SecretAccessKey: secret}, r, unsignedPayload, "s3", "eu-central-1", now); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		s, err := Parse(r)
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Verify(secret, now, maxBody); err != nil {
			b.Fatal(err)
		}
	}
}
