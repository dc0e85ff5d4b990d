package cli

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"
	smithymiddleware "github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/spf13/cobra"

	"biplane.dev/biplane/internal/buildinfo"
	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/access"
	"biplane.dev/biplane/provision/operations"
)

// awsFlags choose the AWS account and region that a command speaks to. What
// they leave out comes from the SDK's own chain: environment, shared files,
// single sign-on, instance roles.
type awsFlags struct {
	profile string
	region  string
}

func (f *awsFlags) add(cmd *cobra.Command) {
	flags := cmd.PersistentFlags()
	flags.StringVar(&f.profile, "profile", "", "`NAME` of a profile in the AWS configuration files (default: AWS_PROFILE)")
	flags.StringVar(&f.region, "region", "", "AWS `REGION` (default: AWS_REGION, or the profile's)")
	complete(cmd, "profile", profileNames)
	complete(cmd, "region", func() []string {
		var names []string
		for _, region := range access.Regions() {
			names = append(names, region.Name)
		}
		return names
	})
}

// attempts is how often a call is tried. The SDK's three are too few where IAM
// throttles; with five, an endpoint that isn't there is reported within seconds.
const attempts = 5

// awsConfig is what every AWS client of a command is made from: credentials
// that are there (whether AWS takes them shows the first call), a region that
// exists, and a guard in front of every call. AWS_MAX_ATTEMPTS and
// AWS_RETRY_MODE win over our choice.
func (a *app) awsConfig(ctx context.Context) (aws.Config, error) {
	cfg, err := a.loadConfig(ctx, a.aws.profile)
	if err != nil {
		return aws.Config{}, err
	}
	if cfg.Region == "" {
		return aws.Config{}, usererr.New(usererr.Invalid, "no AWS region").
			WithHint("give one as --region eu-central-1, or set AWS_REGION")
	}
	if err := checkRegion(cfg.Region); err != nil {
		return aws.Config{}, err
	}
	if cfg.Credentials == nil {
		return aws.Config{}, noCredentials(nil)
	}
	if _, err := cfg.Credentials.Retrieve(ctx); err != nil {
		return aws.Config{}, noCredentials(err)
	}
	return cfg, nil
}

// loadConfig reads the SDK's configuration with one profile, "" for the default.
func (a *app) loadConfig(ctx context.Context, profile string) (aws.Config, error) {
	cfg, err := config.LoadDefaultConfig(ctx,
		config.WithSharedConfigProfile(profile),
		config.WithRegion(a.aws.region),
		config.WithLogger(logging.LoggerFunc(func(_ logging.Classification, format string, args ...any) {
			a.log.Debug("AWS SDK", "message", fmt.Sprintf(format, args...)) // it would write to stderr
		})),
		config.WithAPIOptions([]func(*smithymiddleware.Stack) error{
			awsmiddleware.AddUserAgentKeyValue("biplane", buildinfo.Read().Version),
		}),
	)
	if err != nil {
		var absent config.SharedConfigProfileNotExistError
		if errors.As(err, &absent) {
			return aws.Config{}, usererr.New(usererr.NotFound, "there is no AWS profile %q", absent.Profile).
				WithHint("run 'aws configure list-profiles' for those there are").Because(err)
		}
		return aws.Config{}, usererr.New(usererr.Invalid, "the AWS configuration cannot be used: %v", err).
			WithHint("check the AWS_* variables and the files that they name").Because(err)
	}
	// Appended here and not above, because the SDK's own search for credentials
	// makes calls too (single sign-on, chained roles), which are not ours.
	cfg.APIOptions = append(cfg.APIOptions, operations.Guard(operations.Everyone))
	if cfg.RetryMode == "" {
		cfg.RetryMode = aws.RetryModeAdaptive
	}
	if cfg.RetryMaxAttempts == 0 {
		cfg.RetryMaxAttempts = attempts
	}
	return cfg, nil
}

// region is the region of --region, of the environment or of the profile, for
// commands that ask AWS nothing. It may be empty.
func (a *app) region(ctx context.Context) (string, error) {
	if a.aws.region != "" {
		return a.aws.region, nil
	}
	cfg, err := a.loadConfig(ctx, a.aws.profile)
	return cfg.Region, err
}

// checkRegion refuses a region before the SDK makes a host name of it.
func checkRegion(name string) error {
	regions := access.Regions()
	if slices.ContainsFunc(regions, func(r access.Region) bool { return r.Name == name }) {
		return nil
	}
	var names []string
	for _, r := range regions {
		names = append(names, r.Name)
	}
	err := usererr.New(usererr.Invalid, "there is no AWS region %q", name)
	if near := nearest(name, names); near != "" {
		return err.WithHint("did you mean %s?", near)
	}
	return err.WithHint("run 'aws account list-regions' for those of your account, such as eu-central-1")
}

func noCredentials(err error) error {
	if refused := (*usererr.Error)(nil); errors.As(awsSentence(err), &refused) && !errors.Is(err, context.Canceled) {
		return refused // the chain asked AWS, which said what is wrong
	}
	return usererr.New(usererr.Denied, "no AWS credentials that can be used").
		WithHint("give --profile NAME, run 'aws sso login' or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY").Because(err)
}

// awsSentence puts an error of the AWS SDK into a sentence for people, and
// leaves every other error, and one that has a sentence already, as it is.
func awsSentence(err error) error {
	var said *usererr.Error
	if err == nil || errors.As(err, &said) || errors.Is(err, context.Canceled) {
		return err
	}
	call := "AWS"
	var operation *smithy.OperationError
	if errors.As(err, &operation) {
		call = fmt.Sprintf("%s %s", operation.ServiceID, operation.OperationName)
	}

	var answer *smithyhttp.ResponseError
	httpStatus := 0
	if errors.As(err, &answer) {
		httpStatus = answer.HTTPStatusCode()
	}
	var api smithy.APIError
	if errors.As(err, &api) {
		code, message := api.ErrorCode(), strings.TrimSuffix(api.ErrorMessage(), ".")
		switch {
		case slices.Contains([]string{"ExpiredToken", "ExpiredTokenException", "RequestExpired"}, code):
			return usererr.New(usererr.Denied, "the AWS credentials have expired").
				WithHint("get new ones ('aws sso login', or assume the role again) and run the same command").Because(err)
		case slices.Contains([]string{"InvalidClientTokenId", "UnrecognizedClientException", "InvalidAccessKeyId", "SignatureDoesNotMatch", "AuthFailure", "IncompleteSignature", "MissingAuthenticationToken"}, code):
			return usererr.New(usererr.Denied, "AWS does not accept the credentials (%s: %s)", code, message).
				WithHint("check with 'aws sts get-caller-identity' that they are those of the right account and partition, and the clock").Because(err)
		case slices.Contains([]string{"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"}, code):
			return usererr.New(usererr.Denied, "%s is not allowed: %s", call, message).
				WithHint("use credentials that may do it, or ask the account's administrator").Because(err)
		case slices.Contains([]string{"RegionDisabledException", "OptInRequired"}, code):
			return usererr.New(usererr.Invalid, "the region is not switched on in this account (%s: %s)", code, message).
				WithHint("switch it on ('aws account enable-region') or choose another with --region").Because(err)
		case retry.IsErrorThrottles(retry.DefaultThrottles).IsErrorThrottle(err) == aws.TrueTernary:
			return usererr.New(usererr.Unavailable, "AWS is throttling %s, and went on after every retry", call).
				WithHint("wait a minute and run the same command again").Because(err)
		case httpStatus >= 500:
			return usererr.New(usererr.Unavailable, "%s failed on AWS's side (%s: %s)", call, code, message).
				WithHint("run the same command again").Because(err)
		}
		return usererr.New(usererr.Refused, "AWS refuses %s (%s: %s)", call, code, message).Because(err)
	}

	var unsent *smithyhttp.RequestSendError
	if errors.As(err, &unsent) {
		host := "the AWS endpoint"
		var at *url.Error
		if errors.As(err, &at) {
			if parsed, parseErr := url.Parse(at.URL); parseErr == nil {
				host = parsed.Scheme + "://" + parsed.Host
			}
		}
		return usererr.New(usererr.Unavailable, "%s cannot be reached", host).
			WithHint("check the network, --region and AWS_ENDPOINT_URL").Because(err)
	}
	if httpStatus != 0 {
		return usererr.New(usererr.Unavailable, "%s was answered with HTTP status %d by something that is not AWS", call, httpStatus).
			WithHint("check AWS_ENDPOINT_URL and any proxy between here and AWS").Because(err)
	}
	return err
}
