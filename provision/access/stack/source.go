package stack

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"regexp"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/access/template"
	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/vendor"
)

// S3 is what is asked of S3 where a template goes through it. *s3.Client is one.
type S3 interface {
	GetBucketTagging(context.Context, *s3.GetBucketTaggingInput, ...func(*s3.Options)) (*s3.GetBucketTaggingOutput, error)
	CreateBucket(context.Context, *s3.CreateBucketInput, ...func(*s3.Options)) (*s3.CreateBucketOutput, error)
	PutPublicAccessBlock(context.Context, *s3.PutPublicAccessBlockInput, ...func(*s3.Options)) (*s3.PutPublicAccessBlockOutput, error)
	DeleteBucket(context.Context, *s3.DeleteBucketInput, ...func(*s3.Options)) (*s3.DeleteBucketOutput, error)

	ListObjectsV2(context.Context, *s3.ListObjectsV2Input, ...func(*s3.Options)) (*s3.ListObjectsV2Output, error)
	PutObject(context.Context, *s3.PutObjectInput, ...func(*s3.Options)) (*s3.PutObjectOutput, error)
	GetObject(context.Context, *s3.GetObjectInput, ...func(*s3.Options)) (*s3.GetObjectOutput, error)
	DeleteObject(context.Context, *s3.DeleteObjectInput, ...func(*s3.Options)) (*s3.DeleteObjectOutput, error)
}

// throughBucket reports whether the template goes by a bucket that is made for the moment.
func (s *stackStep) throughBucket() bool {
	return s.wanted.TemplateURL == "" && len(s.wanted.Template) > template.BodyLimit
}

// bucketName is out of the vendor's reach: it does not begin as the buckets do that the
// vendor may make and write.
func (p Place) bucketName() string {
	return fmt.Sprintf("biplane-access-template-%s-%s", p.Account, p.Region)
}

// objectName says what is in the object, so that it is the right one or none.
func objectName(text []byte) string { return sha(text) + ".json" }

func sha(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// wayIn is the line of a plan that says how the template comes to AWS.
func (s *stackStep) wayIn() string {
	switch {
	case s.wanted.TemplateURL != "":
		return "the template is read at " + s.wanted.TemplateURL
	case s.throughBucket():
		return fmt.Sprintf("the template does not fit into a call (%s bytes), so it goes through the private bucket %s, which is made for the moment and removed again", thousands(template.BodyLimit), s.bucketName())
	}
	return "the template goes in the call"
}

func leftover(there bool, bucket string) []string {
	if !there {
		return nil
	}
	return []string{"remove the bucket " + bucket + ", which an earlier run left"}
}

// giveTemplate puts the template into the call, or says there where it is.
func (f *found) giveTemplate(ctx context.Context, in *cloudformation.CreateChangeSetInput) error {
	switch {
	case f.wanted.Template == nil:
		in.UsePreviousTemplate = aws.Bool(true)
	case f.wanted.TemplateURL != "":
		in.TemplateURL = &f.wanted.TemplateURL
	case f.throughBucket():
		if err := f.upload(ctx); err != nil {
			return err
		}
		in.TemplateURL = aws.String(f.objectURL())
	default:
		in.TemplateBody = aws.String(string(f.wanted.Template))
	}
	return nil
}

func (s *stackStep) objectURL() string {
	suffix := "amazonaws.com"
	if s.Partition == "aws-cn" {
		suffix += ".cn"
	}
	return fmt.Sprintf("https://%s.s3.%s.%s/%s", s.bucketName(), s.Region, suffix, objectName(s.wanted.Template))
}

// bucketIsThere reports whether the bucket is, and refuses somebody else's.
func (p Place) bucketIsThere(ctx context.Context) (bool, error) {
	name := p.bucketName()
	foreign := usererr.New(usererr.Refused, "the bucket %s is somebody else's, and the template is to go through it", name).
		WithHint("give the URL of the published template with --template-url, or rename the bucket")
	out, err := p.S3.GetBucketTagging(ctx, &s3.GetBucketTaggingInput{Bucket: &name})
	switch code := fault.Code(err); {
	case code == "NoSuchBucket":
		return false, nil
	case code == "NoSuchTagSet":
		return false, foreign
	case fault.Denied(err):
		return false, usererr.New(usererr.Denied, "the bucket %s, through which the template is to go, cannot be looked at: it is somebody else's, or these credentials may not (s3:GetBucketTagging)", name).
			WithHint("use credentials that may, or give the URL of the published template with --template-url").Because(err)
	case err != nil:
		return false, err
	}
	for _, t := range out.TagSet {
		if aws.ToString(t.Key) == p.Vendor.ManagedByKey() && aws.ToString(t.Value) == vendor.ManagedByValue {
			return true, nil
		}
	}
	return false, foreign
}

// upload makes the bucket and puts the template into it. Buckets are private, and their
// objects their owner's, unless somebody says otherwise; here nobody can.
func (f *found) upload(ctx context.Context) error {
	name := f.bucketName()
	if !f.bucket {
		in := &s3.CreateBucketInput{Bucket: &name, CreateBucketConfiguration: &s3types.CreateBucketConfiguration{Tags: []s3types.Tag{
			{Key: aws.String(f.Vendor.ManagedByKey()), Value: aws.String(vendor.ManagedByValue)},
			{Key: aws.String(f.Vendor.TagPrefix + "component"), Value: aws.String(component)},
		}}}
		if f.Region != "us-east-1" { // which must not be named
			in.CreateBucketConfiguration.LocationConstraint = s3types.BucketLocationConstraint(f.Region)
		}
		if _, err := f.S3.CreateBucket(ctx, in); err != nil {
			return passing(err)
		}
		f.bucket = true
	}
	_, err := f.S3.PutPublicAccessBlock(ctx, &s3.PutPublicAccessBlockInput{Bucket: &name, PublicAccessBlockConfiguration: &s3types.PublicAccessBlockConfiguration{
		BlockPublicAcls: aws.Bool(true), BlockPublicPolicy: aws.Bool(true), IgnorePublicAcls: aws.Bool(true), RestrictPublicBuckets: aws.Bool(true),
	}})
	if err != nil {
		return passing(err)
	}
	sum := sha256.Sum256(f.wanted.Template)
	_, err = f.S3.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &name, Key: aws.String(objectName(f.wanted.Template)), Body: bytes.NewReader(f.wanted.Template),
		ContentType: aws.String("application/json"), ChecksumSHA256: aws.String(base64.StdEncoding.EncodeToString(sum[:])),
	})
	return passing(err)
}

// dropBucket empties the bucket of the moment and removes it.
func (p Place) dropBucket(ctx context.Context) error {
	name := aws.String(p.bucketName())
	unlessGone := func(err error) error {
		if fault.Code(err) == "NoSuchBucket" {
			return nil
		}
		return passing(err)
	}
	pages := s3.NewListObjectsV2Paginator(p.S3, &s3.ListObjectsV2Input{Bucket: name})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return unlessGone(err)
		}
		for _, o := range page.Contents {
			if _, err := p.S3.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: name, Key: o.Key}); err != nil {
				return unlessGone(err)
			}
		}
	}
	_, err := p.S3.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: name})
	return unlessGone(err)
}

// refusedTemplate says what to do where AWS could not read the template at its URL.
func (f *found) refusedTemplate(err error) error {
	if fault.Code(err) != validation || !strings.Contains(fault.Text(err), "S3") {
		return passing(err)
	}
	if f.throughBucket() {
		return usererr.New(usererr.Refused, "CloudFormation cannot read the template in the bucket %s: %s", f.bucketName(), fault.Text(err)).
			WithHint("somebody removed it meanwhile, or these credentials may not read it (s3:GetObject); run the same command again").Because(err)
	}
	return usererr.New(usererr.Refused, "CloudFormation cannot read the template at %s: %s", f.wanted.TemplateURL, fault.Text(err)).
		WithHint("check that the object is there and that these credentials may read it (s3:GetObject)").Because(err)
}

// Fetch reads a published template as CloudFormation would, with the caller's own rights.
// It is refused when it is none of those that are wanted, byte by byte. api makes a client
// for the bucket's region.
func Fetch(ctx context.Context, api func(region string) S3, templateURL string, wanted ...[]byte) ([]byte, error) {
	at, err := parseURL(templateURL)
	if err != nil {
		return nil, err
	}
	gone := func(err error) error {
		return usererr.New(usererr.Refused, "the template at %s cannot be read: %s", templateURL, fault.Text(err)).
			WithHint("check the URL, and that these credentials may read it (s3:GetObject); without --template-url the template goes through a bucket for the moment").Because(err)
	}
	out, err := api(at.region).GetObject(ctx, &s3.GetObjectInput{Bucket: &at.bucket, Key: &at.key})
	if fault.Code(err) != "" {
		return nil, gone(err)
	}
	if err != nil {
		return nil, err
	}
	defer out.Body.Close()
	text, err := io.ReadAll(io.LimitReader(out.Body, template.URLLimit+1))
	if err != nil {
		return nil, gone(err)
	}
	if len(text) > template.URLLimit {
		return nil, gone(errors.New("it is larger than the megabyte that CloudFormation takes"))
	}
	for _, one := range wanted {
		if bytes.Equal(text, one) {
			return text, nil
		}
	}
	return nil, usererr.New(usererr.Refused, "the template at %s has the SHA-256 %s, and the one that is wanted has %s", templateURL, sha(text), sha(wanted[0])).
		WithHint("publish what 'biplane access template' prints with the same --policy and switches, of this version; or leave --template-url out")
}

// location is where an object is.
type location struct{ region, bucket, key string }

// The hosts of S3: with the bucket in them, and with the bucket in the path.
var (
	virtualHost = regexp.MustCompile(`^([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])\.s3(?:[.-]([a-z0-9-]+))?\.amazonaws\.com(?:\.cn)?$`)
	pathHost    = regexp.MustCompile(`^s3(?:[.-]([a-z0-9-]+))?\.amazonaws\.com(?:\.cn)?$`)
)

// parseURL takes apart the https URL of an object in S3, which is all that CloudFormation takes.
func parseURL(text string) (location, error) {
	refused := usererr.New(usererr.Invalid, "--template-url %q is not the https URL of an object in S3", text).
		WithHint("give it as https://BUCKET.s3.REGION.amazonaws.com/KEY; CloudFormation reads templates nowhere else")
	at, err := url.Parse(text)
	if err != nil || at.Scheme != "https" || at.User != nil || at.Port() != "" || at.RawQuery != "" || at.Fragment != "" {
		return location{}, refused
	}
	var where location
	if m := pathHost.FindStringSubmatch(at.Host); m != nil {
		where.region = m[1]
		where.bucket, where.key, _ = strings.Cut(strings.TrimPrefix(at.Path, "/"), "/")
	} else if m := virtualHost.FindStringSubmatch(at.Host); m != nil {
		where = location{m[2], m[1], strings.TrimPrefix(at.Path, "/")}
	}
	if where.bucket == "" || where.key == "" {
		return location{}, refused
	}
	if where.region == "" {
		where.region = "us-east-1"
	}
	return where, nil
}
