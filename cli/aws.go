package cli

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/processcreds"
	"github.com/aws/aws-sdk-go-v2/credentials/ssocreds"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"
	smithymiddleware "github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/spf13/cobra"

	"biplane.dev/biplane/internal/buildinfo"
	"biplane.dev/biplane/internal/clock"
	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/access"
	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/operations"
	"biplane.dev/biplane/provision/step"
)

// awsFlags choose the AWS account and region that a command speaks to. What
// they leave out comes from the SDK's own chain: environment, shared files,
// single sign-on, instance roles.
type awsFlags struct {
	profile string
	region  string

	// patient is the clock of a command that takes minutes anyway, and so waits for
	// minutes where AWS throttles it; nil for others.
	patient *clock.Clock
}

func (f *awsFlags) add(cmd *cobra.Command) {
	f.addProfile(cmd)
	cmd.PersistentFlags().StringVar(&f.region, "region", "", "AWS `REGION` (default: AWS_REGION, or the profile's)")
	complete(cmd, "region", func() []string {
		var names []string
		for _, region := range access.Regions() {
			names = append(names, region.Name)
		}
		return names
	})
}

// addProfile is for commands whose region is in a file.
func (f *awsFlags) addProfile(cmd *cobra.Command) {
	cmd.PersistentFlags().StringVar(&f.profile, "profile", "", "`NAME` of a profile in the AWS configuration files (default: AWS_PROFILE)")
	complete(cmd, "profile", profileNames)
}

// awsConfig is what every AWS client of a command is made from: credentials
// that are there (whether AWS takes them shows the first call), a region that
// exists, and a guard in front of every call.
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
	if err := checkEndpoints(cfg); err != nil {
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
	var cfg aws.Config // declared first: the chain's own calls need its endpoint
	var err error
	cfg, err = config.LoadDefaultConfig(ctx,
		config.WithSharedConfigProfile(profile),
		config.WithRegion(a.aws.region),
		config.WithHTTPClient(newHTTPClient()),
		config.WithAssumeRoleCredentialOptions(func(o *stscreds.AssumeRoleOptions) {
			o.TokenProvider = func() (string, error) { return a.askForMFA(ctx) }
			if client, ok := o.Client.(*sts.Client); ok {
				o.Client = chainSTS{client, &cfg}
			}
		}),
		config.WithWebIdentityRoleCredentialOptions(func(o *stscreds.WebIdentityRoleOptions) {
			if client, ok := o.Client.(*sts.Client); ok {
				o.Client = chainSTS{client, &cfg}
			}
		}),
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
		var source config.SharedConfigAssumeRoleError
		if errors.As(err, &source) {
			return aws.Config{}, usererr.New(usererr.Invalid, "the AWS profile %q has no source of credentials to assume %s with", source.Profile, source.RoleARN).
				WithHint("correct its source_profile or credential_source in the AWS configuration file").Because(err)
		}
		return aws.Config{}, usererr.New(usererr.Invalid, "the AWS configuration cannot be used: %v", err).
			WithHint("check the AWS_* variables and the files that they name").Because(err)
	}
	// Appended here and not above, because the SDK's own search for credentials
	// makes calls too (single sign-on, chained roles), which are not ours.
	cfg.APIOptions = append(cfg.APIOptions, operations.Guard(operations.Everyone))
	if cfg.RetryMode != aws.RetryModeAdaptive && cfg.RetryMaxAttempts == 0 {
		cfg.Retryer = a.aws.newRetryer // AWS_RETRY_MODE=adaptive and AWS_MAX_ATTEMPTS win over our choice
	}
	return cfg, nil
}

// How often a call is tried. IAM throttles early and for short, so the SDK's
// three attempts are too few; an endpoint that isn't there must be reported
// within seconds. The SDK's adaptive mode is no remedy: after one throttled call
// it slows all others down for minutes.
//
// A command that provisions is throttled for minutes where others work in the account,
// and to end half-way would help nobody: it tries for about ten minutes.
const (
	attemptsThrottled        = 10
	attemptsThrottledPatient = 45
	attemptsOtherwise        = 4
	longestPause             = 5 * time.Second
	longestPausePatient      = 20 * time.Second
)

func (f awsFlags) newRetryer() aws.Retryer {
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = attemptsThrottled
		if f.patient != nil {
			o.MaxAttempts = attemptsThrottledPatient
		}
		o.RateLimiter = ratelimit.None // a run is short, and each call has its own bound
		o.Retryables = append([]retry.IsErrorRetryable{retry.IsErrorRetryableFunc(func(err error) aws.Ternary {
			if cutShort(err) {
				return aws.TrueTernary // whatever it was, it was no answer
			}
			return aws.UnknownTernary
		})}, o.Retryables...)
		pauses := retry.NewExponentialJitterBackoff(longestPause)
		o.Backoff = retry.BackoffDelayerFunc(func(attempt int, err error) (time.Duration, error) {
			switch {
			case f.patient != nil && (throttled(err) || cutShort(err)):
				// Half of it at random, so that calls that were refused at once do not all come again at once.
				pause := min(time.Second<<min(attempt, 10), longestPausePatient)
				return f.patient.Machine(pause/2 + rand.N(pause/2)), nil
			case attempt >= attemptsOtherwise && !throttled(err):
				return 0, err
			}
			return pauses.BackoffDelay(attempt, err)
		})
	})
}

// sayThrottled has each wait for AWS's throttling told to step.WaitingFor.
func sayThrottled(stack *smithymiddleware.Stack) error {
	if _, retries := stack.Finalize.Get("Retry"); !retries {
		return nil // what is only signed is not sent
	}
	return stack.Finalize.Insert(smithymiddleware.FinalizeMiddlewareFunc("BiplaneSayThrottled", func(
		ctx context.Context, in smithymiddleware.FinalizeInput, next smithymiddleware.FinalizeHandler,
	) (smithymiddleware.FinalizeOutput, smithymiddleware.Metadata, error) {
		out, metadata, err := next.HandleFinalize(ctx, in)
		if err != nil && throttled(err) {
			step.WaitingFor(ctx, fmt.Sprintf("AWS is throttling %s %s; it is tried again", awsmiddleware.GetServiceID(ctx), awsmiddleware.GetOperationName(ctx)))
		}
		return out, metadata, err
	}), "Retry", smithymiddleware.After)
}

// cutShort reports whether a connection was closed in the middle of an answer.
func cutShort(err error) bool {
	var unread *smithy.DeserializationError
	return errors.As(err, &unread) && errors.Is(err, net.ErrClosed)
}

func throttled(err error) bool {
	return retry.IsErrorThrottles(retry.DefaultThrottles).IsErrorThrottle(err) == aws.TrueTernary
}

// newHTTPClient is the SDK's, but it does not wait for ever on something that
// takes no connection, or takes it and never answers.
func newHTTPClient() *awshttp.BuildableClient {
	return awshttp.NewBuildableClient().
		WithDialerOptions(func(d *net.Dialer) { d.Timeout = 5 * time.Second }).
		WithTransportOptions(func(t *http.Transport) { t.ResponseHeaderTimeout = 20 * time.Second })
}

// chainSTS assumes the role of a profile (role_arn) at the endpoint that was
// chosen for everything else. The SDK looks for credentials before it looks for
// the endpoint, and would ask AWS itself.
type chainSTS struct {
	*sts.Client
	chosen *aws.Config
}

func (c chainSTS) AssumeRole(ctx context.Context, in *sts.AssumeRoleInput, options ...func(*sts.Options)) (*sts.AssumeRoleOutput, error) {
	return c.Client.AssumeRole(ctx, in, append(options, c.endpoint)...)
}

func (c chainSTS) AssumeRoleWithWebIdentity(ctx context.Context, in *sts.AssumeRoleWithWebIdentityInput, options ...func(*sts.Options)) (*sts.AssumeRoleWithWebIdentityOutput, error) {
	return c.Client.AssumeRoleWithWebIdentity(ctx, in, append(options, c.endpoint)...)
}

func (c chainSTS) endpoint(o *sts.Options) {
	if chosen := sts.NewFromConfig(*c.chosen).Options().BaseEndpoint; chosen != nil {
		o.BaseEndpoint = chosen
	}
}

// checkEndpoints refuses an AWS_ENDPOINT_URL, or one of a profile, that is no URL.
func checkEndpoints(cfg aws.Config) error {
	for _, endpoint := range []*string{sts.NewFromConfig(cfg).Options().BaseEndpoint, iam.NewFromConfig(cfg).Options().BaseEndpoint} {
		if endpoint == nil {
			continue
		}
		parsed, err := url.Parse(*endpoint)
		if err != nil || parsed.Host == "" || parsed.Scheme != "http" && parsed.Scheme != "https" {
			return usererr.New(usererr.Invalid, "the endpoint %q is not a URL", *endpoint).
				WithHint("write AWS_ENDPOINT_URL, or endpoint_url in the profile, as http://127.0.0.1:4566, or unset it for AWS itself")
		}
	}
	return nil
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
	if near := meant(strings.ToLower(name), names); near != "" {
		return err.WithHint("did you mean %s?", near)
	}
	return err.WithHint("run 'aws account list-regions' for those of your account, such as eu-central-1")
}

// noCredentials says that the SDK's chain ended without credentials.
func noCredentials(err error) error {
	const nothing = "no AWS credentials that can be used"
	const hint = "give --profile NAME, run 'aws sso login' or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
	if err == nil || errors.Is(err, context.Canceled) {
		return usererr.New(usererr.Denied, nothing).WithHint(hint).Because(err)
	}
	// The last place to look is the metadata of an instance. That it isn't there,
	// or does not answer as one, says only that nothing was found before.
	var operation *smithy.OperationError
	if errors.As(err, &operation) && operation.ServiceID == "ec2imds" {
		return usererr.New(usererr.Denied, nothing).WithHint(hint).Because(err)
	}
	var refused *usererr.Error
	if errors.As(awsSentence(err), &refused) {
		return refused // the chain asked AWS, which said what is wrong
	}
	var signedOut *ssocreds.InvalidTokenError
	if errors.As(err, &signedOut) {
		return usererr.New(usererr.Denied, "%s: the single sign-on session has expired, or was never opened", nothing).
			WithHint("run 'aws sso login', with --profile NAME where you give it here too").Because(err)
	}
	var process *processcreds.ProviderError
	if errors.As(err, &process) {
		return usererr.New(usererr.Denied, "%s: the profile's credential_process failed (%v)", nothing, last(err)).
			WithHint("run that command by itself to see why, or give another --profile").Because(err)
	}
	return usererr.New(usererr.Denied, "%s: %v", nothing, last(err)).WithHint(hint).Because(err)
}

// last is the first cause of an error.
func last(err error) error {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err
		}
		err = next
	}
}

// clockRefused reports whether AWS refuses a signature for its time. The SDK has corrected
// it once by then, from the date of the answer.
func clockRefused(code, message string) bool {
	return slices.Contains([]string{"RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture"}, code) ||
		code == "SignatureDoesNotMatch" && (strings.Contains(message, "Signature expired") || strings.Contains(message, "Signature not yet current"))
}

func clockSentence(answer *smithyhttp.ResponseError, code, message string) *usererr.Error {
	how := "wrong"
	if answer != nil && answer.Response != nil {
		if at, err := smithyhttp.ParseTime(answer.Response.Header.Get("Date")); err == nil {
			how = off(time.Since(at))
		}
	}
	return usererr.New(usererr.Denied, "the clock of this machine is %s, and AWS takes no signature of such a time (%s: %s)", how, code, message).
		WithHint("set the clock ('timedatectl set-ntp true'), and run the same command again")
}

// usedUp is a sentence on a quota that is used up; nil for every other error. region may
// be unknown.
func usedUp(err error, region string) *usererr.Error {
	quota, used := fault.UsedUp(err)
	switch {
	case !used:
		return nil
	case quota.Code == "":
		return usererr.New(usererr.Refused, "a quota of the account is used up: %s", fault.Text(err)).
			WithHint("remove what is unused, or have the quota raised in the console of Service Quotas; what was made stays, and the same command goes on").Because(err)
	}
	if quota.Global {
		region = "us-east-1"
	}
	if region != "" {
		region = " --region " + region
	}
	return usererr.New(usererr.Refused, "the account's quota of %s is used up: %s", quota.Name, fault.Text(err)).
		WithHint("remove what is unused, or run 'aws service-quotas request-service-quota-increase --service-code %s --quota-code %s --desired-value N%s'; what was made stays, and the same command goes on",
			quota.Service, quota.Code, region).Because(err)
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
		case clockRefused(code, message):
			return clockSentence(answer, code, message).Because(err)
		case slices.Contains([]string{"ExpiredToken", "ExpiredTokenException"}, code):
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
		case usedUp(err, "") != nil:
			return usedUp(err, "")
		case throttled(err):
			return usererr.New(usererr.Unavailable, "AWS is throttling %s, and went on after every retry", call).
				WithHint("wait a minute and run the same command again").Because(err)
		case httpStatus >= 500:
			return usererr.New(usererr.Unavailable, "%s failed on AWS's side (%s: %s)", call, code, message).
				WithHint("run the same command again").Because(err)
		}
		return usererr.New(usererr.Refused, "AWS refuses %s (%s: %s)", call, code, message).
			WithHint("run the same command again with --log-level debug for the whole answer").Because(err)
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
