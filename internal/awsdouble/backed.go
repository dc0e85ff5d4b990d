package awsdouble

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/go-jose/go-jose/v4"
	"github.com/goccy/go-yaml"

	"biplane.dev/biplane/internal/awsdouble/eks"
	"biplane.dev/biplane/internal/awsidentity"
	"biplane.dev/biplane/internal/sandbox"
)

// backed is a sandbox that stands behind the customer's account: its API server is
// behind every cluster, its S3 has the buckets, and its IAM gets what is written to
// the roles and policies here, so that its pods have what is provisioned. The
// double decides first, by its own IAM; what it lets through, the sandbox is asked
// as its administrator.
//
// Rejected: one identity for both. Each checks signatures by keys of its own and
// decides thousands of times a second; writes are few, and the same text on both
// sides means the same.
type backed struct {
	folder          sandbox.Folder
	account, region string
	cluster         eks.Backing
	s3, iam         string // endpoints
	admin           awsidentity.Credentials
	keys            jose.JSONWebKeySet // of the cluster's tokens
	client          *http.Client
}

// openSandbox reads how a sandbox that is up is used.
func openSandbox(ctx context.Context, dir string) (*backed, error) {
	folder := sandbox.Folder(dir)
	record, err := sandbox.ReadRecord(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is no sandbox's folder: name one that 'biplane sandbox status' prints", dir)
	}
	if err != nil {
		return nil, err
	}
	status, err := sandbox.Dial(folder).Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("sandbox %s does not answer: %w; start it with 'biplane sandbox up'", dir, err)
	}
	if status.Kubernetes == nil || status.S3 == nil || status.IAM == nil {
		return nil, fmt.Errorf("sandbox %s has no Kubernetes, S3 or IAM: start it with all of its parts", dir)
	}
	b := &backed{folder: folder, account: record.Account, region: record.Region, s3: status.S3.Endpoint, iam: status.IAM.Endpoint}
	if b.admin, err = readAdmin(folder.AWSCredentials()); err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	bundle, err := os.ReadFile(folder.CABundle())
	if err != nil {
		return nil, fmt.Errorf("reading the sandbox's roots: %w", err)
	}
	roots.AppendCertsFromPEM(bundle)
	b.client = &http.Client{
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, IdleConnTimeout: time.Minute},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	ca, err := readCA(status.Kubernetes.Kubeconfig)
	if err != nil {
		return nil, err
	}
	b.cluster = eks.Backing{Endpoint: status.Kubernetes.Server, CA: ca, Issuer: record.Issuer()}
	if b.keys, err = fetchKeys(ctx, status.Kubernetes.Server, ca); err != nil {
		return nil, fmt.Errorf("asking the sandbox for the keys of its tokens: %w", err)
	}
	return b, nil
}

// fetchKeys asks an API server for the keys of its tokens, which it tells anybody.
func fetchKeys(ctx context.Context, server string, ca []byte) (keys jose.JSONWebKeySet, err error) {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, server+"/openid/v1/jwks", nil)
	if err != nil {
		return keys, err
	}
	answer, err := (&http.Client{Transport: transport, Timeout: 10 * time.Second}).Do(r)
	if err != nil {
		return keys, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return keys, fmt.Errorf("it answers with status %d", answer.StatusCode)
	}
	return keys, json.NewDecoder(io.LimitReader(answer.Body, maxBody)).Decode(&keys)
}

// readAdmin reads the key of the profile admin.
func readAdmin(file string) (awsidentity.Credentials, error) {
	var key awsidentity.Credentials
	text, err := os.ReadFile(file)
	if err != nil {
		return key, fmt.Errorf("reading the sandbox's key: %w", err)
	}
	section := ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			section = strings.Trim(line, "[]")
			continue
		}
		name, value, _ := strings.Cut(line, "=")
		switch {
		case section != "admin":
		case strings.TrimSpace(name) == "aws_access_key_id":
			key.AccessKeyID = strings.TrimSpace(value)
		case strings.TrimSpace(name) == "aws_secret_access_key":
			key.SecretAccessKey = strings.TrimSpace(value)
		}
	}
	if key.AccessKeyID == "" || key.SecretAccessKey == "" {
		return key, fmt.Errorf("%s has no key of the profile admin", file)
	}
	return key, nil
}

// readCA reads the API server's authority from a kubeconfig.
func readCA(file string) ([]byte, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading the sandbox's kubeconfig: %w", err)
	}
	var config struct {
		Clusters []struct {
			Cluster struct {
				Data string `yaml:"certificate-authority-data"`
				File string `yaml:"certificate-authority"`
			} `yaml:"cluster"`
		} `yaml:"clusters"`
	}
	if err := yaml.Unmarshal(text, &config); err != nil || len(config.Clusters) == 0 {
		return nil, fmt.Errorf("%s is no kubeconfig with a cluster", file)
	}
	if path := config.Clusters[0].Cluster.File; path != "" {
		return os.ReadFile(path)
	}
	ca, err := base64.StdEncoding.DecodeString(config.Clusters[0].Cluster.Data)
	if err != nil || len(ca) == 0 {
		return nil, fmt.Errorf("%s has no certificate authority", file)
	}
	return ca, nil
}

// mirrored are the calls to IAM that the sandbox gets too. Its provider of tokens is
// its own, and users and keys are nobody's business there.
var mirrored = regexp.MustCompile(`^(Create|Delete|Update|Put|Attach|Detach|Tag|Untag|Set|Add|Remove)[A-Za-z]*(Role|Policy|PolicyVersion|InstanceProfile|AssumeRolePolicy|PermissionsBoundary)[A-Za-z]*$`)

func isMirrored(operation string) bool {
	return mirrored.MatchString(operation) && !strings.Contains(operation, "User") && !strings.Contains(operation, "Group") && !strings.Contains(operation, "ServiceLinkedRole")
}

// mirror repeats a call to IAM, which was performed here. A role that the sandbox
// has already gets the trust of the new one.
func (b *backed) mirror(ctx context.Context, c *call) error {
	code, err := b.callIAM(ctx, c.form)
	if code == "EntityAlreadyExists" && c.Operation == "CreateRole" {
		code, err = b.callIAM(ctx, url.Values{"Action": {"UpdateAssumeRolePolicy"}, "Version": {"2010-05-08"}, "RoleName": {c.form.Get("RoleName")}, "PolicyDocument": {c.form.Get("AssumeRolePolicyDocument")}})
	}
	removes := strings.HasPrefix(c.Operation, "De") || strings.HasPrefix(c.Operation, "Remove")
	if err == nil && code != "" && code != "EntityAlreadyExists" && !(code == "NoSuchEntity" && removes) {
		return fmt.Errorf("the sandbox refuses %s: %s", c.Operation, code)
	}
	return err
}

// callIAM returns the code of a refusal.
func (b *backed) callIAM(ctx context.Context, form url.Values) (code string, err error) {
	body := form.Encode()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, b.iam+"/", strings.NewReader(body))
	if err != nil {
		return "", err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if err := signIAM(r, body, awsidentity.IAMRegion(partitionOf(b.region)), b.admin, time.Now()); err != nil {
		return "", err
	}
	answer, err := b.client.Do(r)
	if err != nil {
		return "", fmt.Errorf("asking the sandbox for %s: %w", form.Get("Action"), err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxBody))
	if err != nil || answer.StatusCode < 300 {
		return "", err
	}
	said, err := fromXML(text)
	if err != nil || said.one("Error.Code") == "" {
		return fmt.Sprintf("status %d", answer.StatusCode), nil
	}
	return said.one("Error.Code"), nil
}

// serveS3 has the sandbox perform a decided call of S3. out is the call as moto would get
// it: cleaned of what nobody decided about.
func (b *backed) serveS3(ctx context.Context, c *call, out *http.Request) (*http.Response, error) {
	target, err := url.Parse(b.s3)
	if err != nil {
		return nil, fmt.Errorf("reading the address of the sandbox's S3: %w", err)
	}
	out.URL.Scheme, out.URL.Host, out.Host = target.Scheme, target.Host, target.Host
	hash := out.Header.Get("X-Amz-Content-Sha256")
	for _, name := range []string{"Authorization", "X-Moto-Account-Id", "X-Amz-Date", "X-Amz-Security-Token", "X-Amz-Content-Sha256", "Date"} {
		out.Header.Del(name)
	}
	if strings.HasPrefix(hash, "STREAMING-") {
		length, err := strconv.ParseInt(out.Header.Get("X-Amz-Decoded-Content-Length"), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%w: a body in chunks needs X-Amz-Decoded-Content-Length", errNotACall)
		}
		out.Body, out.ContentLength = io.NopCloser(&chunks{from: bufio.NewReader(out.Body)}), length
		for _, name := range []string{"X-Amz-Decoded-Content-Length", "X-Amz-Trailer", "X-Amz-Sdk-Checksum-Algorithm"} {
			out.Header.Del(name)
		}
		encodings := slices.DeleteFunc(strings.Split(out.Header.Get("Content-Encoding"), ","), func(e string) bool { return strings.TrimSpace(e) == "aws-chunked" || e == "" })
		out.Header.Del("Content-Encoding")
		if len(encodings) > 0 {
			out.Header.Set("Content-Encoding", strings.Join(encodings, ","))
		}
	}
	if err := b.sign(ctx, out); err != nil {
		return nil, err
	}
	answer, err := b.client.Do(out)
	if err != nil {
		return nil, fmt.Errorf("handing %s to the sandbox's S3: %w", c.Operation, err)
	}
	answer.Header.Del("Connection")
	if tags, tagged := requestTags(c.params); tagged && c.Operation == "CreateBucket" && answer.StatusCode < 300 {
		if err := b.tagBucket(ctx, c.params.one("Bucket"), tags); err != nil {
			answer.Body.Close()
			return nil, err
		}
	}
	return answer, nil
}

// sign signs a request to the sandbox's S3. The body goes in TLS, unsigned.
func (b *backed) sign(ctx context.Context, r *http.Request) error {
	const unsigned = "UNSIGNED-PAYLOAD"
	r.RequestURI = ""
	r.Header.Set("X-Amz-Content-Sha256", unsigned)
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	return signer.SignHTTP(ctx, aws.Credentials{AccessKeyID: b.admin.AccessKeyID, SecretAccessKey: b.admin.SecretAccessKey}, r, unsigned, "s3", b.region, time.Now())
}

func (b *backed) tagBucket(ctx context.Context, bucket string, tags map[string]string) error {
	text, err := xml.Marshal(taggingOf(tags))
	if err != nil {
		return fmt.Errorf("writing a bucket's tags: %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPut, b.s3+"/"+url.PathEscape(bucket)+"?tagging=", bytes.NewReader(text))
	if err != nil {
		return err
	}
	if err := b.sign(ctx, r); err != nil {
		return err
	}
	answer, err := b.client.Do(r)
	if err != nil {
		return fmt.Errorf("handing a bucket's tags to the sandbox: %w", err)
	}
	defer answer.Body.Close()
	if answer.StatusCode >= 300 {
		return fmt.Errorf("the sandbox refuses a bucket's tags with status %d", answer.StatusCode)
	}
	return nil
}

// listBuckets is the sandbox's answer to ListBuckets.
func (b *backed) listBuckets(ctx context.Context) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, b.s3+"/", nil)
	if err != nil {
		return nil, err
	}
	if err := b.sign(ctx, r); err != nil {
		return nil, err
	}
	answer, err := b.client.Do(r)
	if err != nil {
		return nil, fmt.Errorf("listing the sandbox's buckets: %w", err)
	}
	defer answer.Body.Close()
	if answer.StatusCode >= 300 {
		return nil, fmt.Errorf("the sandbox's S3 answers status %d to ListBuckets", answer.StatusCode)
	}
	return io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
}

// chunks reads what aws-chunked carries: SIZE[;chunk-signature=…] CRLF bytes CRLF,
// and a trailer after the chunk of size 0.
type chunks struct {
	from *bufio.Reader
	left int64 // of this chunk
	end  bool
}

func (c *chunks) Read(p []byte) (int, error) {
	if c.end {
		return 0, io.EOF
	}
	if c.left == 0 {
		line, err := c.from.ReadString('\n')
		if err != nil {
			return 0, io.ErrUnexpectedEOF
		}
		size, _, _ := strings.Cut(strings.TrimSpace(line), ";")
		if c.left, err = strconv.ParseInt(size, 16, 64); err != nil || c.left < 0 {
			return 0, errors.New("a chunk of the body has no size")
		}
		if c.left == 0 {
			c.end = true
			_, err := io.Copy(io.Discard, c.from) // the trailer
			if err == nil {
				err = io.EOF
			}
			return 0, err
		}
	}
	n, err := c.from.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	if err == nil && c.left == 0 {
		_, err = c.from.Discard(2)
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}
