package awsdouble

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/spf13/cobra"

	"biplane.dev/biplane/internal/awsidentity"
	"biplane.dev/biplane/internal/buildinfo"
	"biplane.dev/biplane/internal/clock"
	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/vendor"
)

// Streams are where a command reads and writes.
type Streams struct {
	Out io.Writer // the export lines
	Err io.Writer // everything else
}

// settings are the flags as they were typed.
type settings struct {
	dir, listen, region, account, vendorProfile, moto, envFile, logLevel string
	time, callLog, sandbox, lambdaPython                                 string
	faults, keys, tasks                                                  []string
	latency, consistencyDelay                                            time.Duration
	scp                                                                  []string
	scpReadable                                                          bool
}

// Run is the program biplane-awsdouble: it runs until ctx is done and returns
// its exit status, 0, or 2 where it could not run.
func Run(ctx context.Context, args []string, streams Streams) int {
	command := newCommand(streams)
	command.SetArgs(args)
	command.SetOut(streams.Out)
	command.SetErr(streams.Err)
	if err := command.ExecuteContext(ctx); err != nil {
		fmt.Fprintf(streams.Err, "biplane-awsdouble: %s\n", strings.ReplaceAll(err.Error(), "\n", " "))
		if said, ok := errors.AsType[*usererr.Error](err); ok && said.Hint != "" {
			fmt.Fprintf(streams.Err, "hint: %s\n", said.Hint)
		}
		return 2
	}
	return 0
}

func newCommand(streams Streams) *cobra.Command {
	var s settings
	c := &cobra.Command{
		Use:   "biplane-awsdouble",
		Short: "An AWS endpoint on this machine that decides every call as AWS would",
		Long: `biplane-awsdouble is one endpoint on the loopback interface for the unmodified
AWS CLI and SDKs. It checks signatures and sessions and evaluates the real
policies before anything happens. IAM, STS, EKS and CloudFormation are its own;
moto_server, which it starts when needed, stands behind EC2, S3 and the rest.

It runs in the foreground until Ctrl-C or SIGTERM. Once ready it prints export
lines for a shell: the endpoint, the region, the keys of the customer's
administrator, and the AWS configuration with the profiles customer, vendor
(the control plane's role), vendor-other and stranger.

Faults are written ` + FaultGrammar + `.
KIND is throttle, error (a 5xx), lost (performed, the answer lost), latency, fail
(what it makes ends as failed), quota, scp (denied by a service control policy) or
expired (the session is over). OPERATION may have *.`,
		Example: `  # In one terminal, on a free port; in another, use it.
  biplane-awsdouble --env-file double.env
  . ./double.env && aws sts get-caller-identity
  aws --profile vendor sts get-caller-identity

  # Keep IAM's objects, keys and port from one run to the next.
  biplane-awsdouble --dir ./double --listen 127.0.0.1:4566

  # Every third EC2 call is throttled; the answer to the first CreateRole is lost.
  biplane-awsdouble --fault throttle:ec2,every=3 --fault lost:iam:CreateRole,count=1

  # A cluster takes nine minutes, as with AWS.
  biplane-awsdouble --time real

  # Every S3 call takes 200 ms more, and IAM shows changes after two seconds.
  biplane-awsdouble --fault latency:s3,delay=200ms --consistency-delay 2s`,
		Args:              noArguments,
		SilenceErrors:     true,
		SilenceUsage:      true,
		Version:           buildinfo.Read().Version,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
		RunE:              func(c *cobra.Command, _ []string) error { return s.run(c.Context(), streams) },
	}
	f := c.Flags()
	f.SortFlags = false
	f.StringVar(&s.dir, "dir", "", "keep IAM's objects, stacks, keys and the profiles in `DIRECTORY` (default one that goes at the end)")
	f.StringVar(&s.listen, "listen", "127.0.0.1:0", "listen on loopback `ADDRESS`; port 0 is a free one")
	f.StringVar(&s.envFile, "env-file", "", "also write the export lines to `FILE` (mode 0600), once ready")
	f.StringVar(&s.region, "region", "", "`REGION` of the profiles; its partition is the double's (default eu-central-1, or the sandbox's)")
	f.StringVar(&s.account, "account", "", "the customer's account `ID` (default 123456789012, or the sandbox's)")
	f.StringVar(&s.vendorProfile, "vendor-profile", "", "vendor profile `FILE`, for the vendor's account and role (default the built-in one)")
	f.StringVar(&s.moto, "moto", "", "`PATH` of moto_server (default that on PATH, else of the repository's environment)")
	f.StringVar(&s.time, "time", strconv.Itoa(DefaultFactor), "let what takes AWS time take as long (real), or run `FACTOR` times as fast")
	f.StringVar(&s.callLog, "call-log", "", "write a line of JSON for each call to `FILE` (default standard error)")
	f.StringArrayVar(&s.faults, "fault", nil, "a fault, `RULE` as described above; may be repeated")
	f.DurationVar(&s.latency, "latency", 0, "let every call take this `DURATION` more")
	f.DurationVar(&s.consistencyDelay, "consistency-delay", 0, "let IAM's changes be seen after this `DURATION` of --time")
	f.StringArrayVar(&s.scp, "scp", nil, "let an organization bound the customer's account by this service control policy, `FILE`; may be repeated")
	f.BoolVar(&s.scpReadable, "scp-readable", false, "let the account read them, as a delegated administrator of its organization")
	f.StringArrayVar(&s.keys, "web-identity", nil, "accept web identity tokens, `ISSUER=FILE` of a JSON Web Key Set; may be repeated")
	f.StringVar(&s.sandbox, "sandbox-dir", "", "have a running sandbox, its folder `DIR`, behind the customer's account")
	f.StringArrayVar(&s.tasks, "ecs-task", nil, "run tasks of ECS with this image as a process, `IMAGE=PROGRAM`; may be repeated")
	f.StringVar(&s.lambdaPython, "lambda-python", "", "run functions of Lambda with this Python, `PATH`, which has botocore (default: none is run)")
	f.StringVar(&s.logLevel, "log-level", "info", "`LEVEL` of the log on standard error: debug, info, warn or error")
	return c
}

func noArguments(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("unknown argument %q: the double takes flags only, see --help", args[0])
	}
	return nil
}

func (s *settings) run(ctx context.Context, streams Streams) (err error) {
	o := Options{
		Dir: s.dir, Addr: s.listen, Region: s.region, CustomerAccount: s.account, Sandbox: s.sandbox,
		Latency: s.latency, ConsistencyDelay: s.consistencyDelay,
	}
	if s.latency < 0 || s.consistencyDelay < 0 {
		return errors.New("--latency and --consistency-delay cannot be negative: give a duration such as 200ms")
	}
	if o.Clock, err = readTime(s.time); err != nil {
		return err
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(s.logLevel)); err != nil {
		return fmt.Errorf("--log-level %q is not one of debug, info, warn and error", s.logLevel)
	}
	o.Log = slog.New(slog.NewTextHandler(streams.Err, &slog.HandlerOptions{Level: level}))
	for _, text := range s.faults {
		fault, err := ParseFault(text)
		if err != nil {
			return err
		}
		o.Faults = append(o.Faults, fault)
	}
	if s.vendorProfile != "" {
		profile, err := vendor.Load(s.vendorProfile)
		if err != nil {
			return err
		}
		o.Vendor = profile
	}
	if o.SCP, err = readSCP(s.scp); err != nil {
		return err
	}
	if o.SCPReadable = s.scpReadable; o.SCPReadable && len(o.SCP) == 0 {
		return errors.New("--scp-readable needs a policy to be read: name one with --scp")
	}
	if o.Tasks, err = readTasks(s.tasks); err != nil {
		return err
	}
	if s.lambdaPython != "" {
		if o.LambdaPython, err = exec.LookPath(s.lambdaPython); err == nil {
			o.LambdaPython, err = filepath.Abs(o.LambdaPython)
		}
		if err != nil {
			return fmt.Errorf("--lambda-python %s cannot be run: name the Python of an environment that has botocore", s.lambdaPython)
		}
	}
	keys := map[string]jose.JSONWebKeySet{}
	for _, text := range s.keys {
		issuer, file, ok := strings.Cut(text, "=")
		if !ok || issuer == "" {
			return fmt.Errorf("--web-identity %q is not ISSUER=FILE", text)
		}
		set, err := readKeys(file)
		if err != nil {
			return err
		}
		keys[issuer] = set
	}
	if o.Moto, err = FindMoto(s.moto); err != nil {
		return err
	}
	o.CallLog = streams.Err
	if s.callLog != "" {
		file, err := os.OpenFile(s.callLog, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return fmt.Errorf("--call-log: %w", err)
		}
		defer file.Close()
		o.CallLog = file
	}

	d, err := Start(ctx, o)
	if err != nil {
		return err
	}
	defer d.Stop()
	for issuer, set := range keys {
		d.Identity().SetKeys(issuer, set)
	}
	if o.Moto == "" {
		o.Log.Warn("no moto_server: IAM and STS work, other services answer 503", "remedy", "run 'make setup', or name it with --moto")
	}
	exports := exportLines(d.Env())
	if s.envFile != "" {
		if err := writeSecret(s.envFile, exports); err != nil {
			return err
		}
	}
	if _, err := io.WriteString(streams.Out, exports); err != nil {
		return fmt.Errorf("writing the export lines: %w", err)
	}
	o.Log.Info("ready", "url", d.URL(), "region", d.region, "customer", d.customer, "dir", d.Dir())
	<-ctx.Done()
	o.Log.Info("stopping")
	return d.Stop()
}

// readTasks reads --ecs-task. An image has = only in a digest's place, never last.
func readTasks(list []string) (map[string]string, error) {
	programs := map[string]string{}
	for _, text := range list {
		at := strings.LastIndexByte(text, '=')
		if at < 1 {
			return nil, fmt.Errorf("--ecs-task %q is not IMAGE=PROGRAM", text)
		}
		program, err := exec.LookPath(text[at+1:])
		if err == nil {
			program, err = filepath.Abs(program)
		}
		if err != nil {
			return nil, fmt.Errorf("--ecs-task %s: %s cannot be run: name a program", text, text[at+1:])
		}
		programs[text[:at]] = program
	}
	return programs, nil
}

// readSCP reads --scp; a policy is called as its file.
func readSCP(files []string) ([]awsidentity.PolicyText, error) {
	var all []awsidentity.PolicyText
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("--scp: %w", err)
		}
		all = append(all, awsidentity.PolicyText{Name: strings.TrimSuffix(filepath.Base(file), ".json"), Text: string(text)})
	}
	return all, nil
}

// readTime reads --time.
func readTime(text string) (clock.Clock, error) {
	if text == "real" {
		return clock.Scaled(1), nil
	}
	factor, err := strconv.ParseFloat(text, 64)
	if err != nil || !(factor >= 1 && factor <= 1e6) {
		return clock.Clock{}, fmt.Errorf("--time %q is neither real nor a factor from 1 to 1000000", text)
	}
	return clock.Scaled(factor), nil
}

// exportLines are for a shell to read.
func exportLines(env []string) string {
	var b strings.Builder
	for _, one := range env {
		name, value, _ := strings.Cut(one, "=")
		b.WriteString("export " + name + "='" + strings.ReplaceAll(value, "'", `'\''`) + "'\n")
	}
	return b.String()
}

// FindMoto returns the path of moto_server: the one that was named, or that on
// PATH, or that of the repository which the running program was built in. It is
// "" where there is none and none was named.
func FindMoto(named string) (string, error) {
	if named != "" {
		path, err := exec.LookPath(named)
		if err != nil {
			return "", fmt.Errorf("--moto %s cannot be run: name the moto_server of an environment that has moto installed", named)
		}
		return filepath.Abs(path)
	}
	if path, err := exec.LookPath("moto_server"); err == nil {
		return filepath.Abs(path)
	}
	self, err := os.Executable()
	if err != nil {
		return "", nil
	}
	path, err := exec.LookPath(filepath.Join(filepath.Dir(self), "..", ".cache", "venv", "bin", "moto_server"))
	if err != nil {
		return "", nil
	}
	return path, nil
}

// readKeys reads a JSON Web Key Set.
func readKeys(file string) (jose.JSONWebKeySet, error) {
	var set jose.JSONWebKeySet
	text, err := os.ReadFile(file)
	if err != nil {
		return set, fmt.Errorf("--web-identity: %w", err)
	}
	if err := json.Unmarshal(text, &set); err != nil || len(set.Keys) == 0 {
		return set, fmt.Errorf("--web-identity: %s is no JSON Web Key Set with keys", file)
	}
	return set, nil
}
