package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/access"
	"biplane.dev/biplane/provision/iampolicy"
	"biplane.dev/biplane/provision/iampolicy/sar"
	"biplane.dev/biplane/provision/operations"
)

// explainFlags are what a decision is made from.
type explainFlags struct {
	set       setFlags
	role      string
	principal string
	resource  string
	context   []string

	documents      []string
	boundary       string
	session        string
	scps           []string
	resourcePolicy string
}

func (a *app) accessExplain() *cobra.Command {
	var f explainFlags
	cmd := &cobra.Command{
		Use:   "explain ACTION",
		Short: "Say which statement allows or denies a call, and which step needs it",
		Long: `Say which statement allows or denies a call, which statements nearly applied and
why they did not, and which step of Biplane needs the call.

With --document only the documents given count. Without, those of --policy and
--role do, for --account and --region. With --resource-policy alone, only that
policy is asked: a caller of another account needs its own permission as well.

The context of the call is what --context gives and nothing else, save that
--principal also sets aws:PrincipalArn and aws:PrincipalAccount. A key that is
given twice has two values; KEY= is there and empty. aws:ResourceAccount says
whose a resource is where its ARN does not, as a bucket's. Several --scp are one level
of an organization: one must allow, none may deny.

Exit status: 0 allowed; 1 denied; 2 a document cannot be used.`,
		Example: `  # May the vendor make a role without the boundary?
  biplane access explain iam:CreateRole --account 123456789012 --region eu-central-1 \
    --resource arn:aws:iam::123456789012:role/union-worker

  # Does my own policy allow this?
  biplane access explain s3:GetObject --document policy.json \
    --resource arn:aws:s3:::bucket/key --context aws:SourceVpc=vpc-1

  # Who gets through this trust policy?
  biplane access explain sts:AssumeRole --resource-policy trust.json \
    --principal arn:aws:iam::479331373192:role/biplane-controlplane --context sts:ExternalId=Ab3dEf6h`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				return checkAction(args[0])
			}
			return usererr.New(usererr.Invalid, "%q needs one action, got %d", cmd.CommandPath(), len(args)).
				WithHint("name the call, such as ec2:CreateVpc")
		},
		ValidArgsFunction: completeAction,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.explain(cmd.Context(), cmd, args[0], f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.resource, "resource", "*", "`ARN` of the resource that the call is about")
	flags.StringArrayVar(&f.context, "context", nil, "condition `KEY=VALUE` of the call; again for more keys, or more values of one")
	flags.StringVar(&f.principal, "principal", "", "`ARN` of the caller")
	flags.StringArrayVar(&f.documents, "document", nil, "identity policy `FILE` of the caller; again for more ('-' is stdin)")
	flags.StringVar(&f.boundary, "boundary", "", "permissions boundary `FILE` of the caller")
	flags.StringVar(&f.session, "session-policy", "", "session policy `FILE` that the role was assumed with")
	flags.StringArrayVar(&f.scps, "scp", nil, "service control policy `FILE`; again for more of the same level")
	flags.StringVar(&f.resourcePolicy, "resource-policy", "", "policy `FILE` of the resource: a bucket's, a key's, a role's trust")
	flags.StringVar(&f.role, "role", "provision", "whose documents: provision, operate, observe, teardown, break-glass, ecs-execution, ecs-task, or a role's name")
	f.set.addAccount(cmd)
	f.set.add(cmd)
	f.set.addExternalID(cmd, "the external ID in the generated documents")
	complete(cmd, "role", func() []string {
		return []string{"provision", "operate", "observe", "teardown", "break-glass", "ecs-execution", "ecs-task"}
	})
	return cmd
}

// explanation is the JSON of the command. Its arrays are never null.
type explanation struct {
	Decision   string                   `json:"decision"`
	Statements []iampolicy.StatementRef `json:"statements"`
	NearMisses []iampolicy.NearMiss     `json:"nearMisses"`
	Steps      []neededBy               `json:"steps"`
}

// neededBy is one row of the operations table that needs the right.
type neededBy struct {
	Phase   string   `json:"phase"`
	Call    string   `json:"call"`
	Roles   []string `json:"roles"` // who makes the call; empty where nobody may
	Purpose string   `json:"purpose"`
	Omitted string   `json:"omitted,omitempty"` // why strict gives nobody the right
}

// stepsThatNeed are the rows that need the action on the resource. Names are the
// vendor's, so the vendor profile has a say.
func (a *app) stepsThatNeed(action, resource string) ([]neededBy, error) {
	names, err := a.vendor()
	if err != nil {
		return nil, err
	}
	steps := []neededBy{}
	for _, o := range operations.Steps(names, action, resource) {
		steps = append(steps, neededBy{Phase: string(o.Phase), Call: o.Call, Roles: o.Roles.Names(), Purpose: o.Purpose, Omitted: o.Omitted})
	}
	return steps, nil
}

func (a *app) explain(ctx context.Context, cmd *cobra.Command, action string, f explainFlags) error {
	request := iampolicy.Request{Action: action, Resource: f.resource, Context: iampolicy.Context{}}
	if err := checkResource(f.resource); err != nil {
		return err
	}
	if err := addContext(request.Context, f.context); err != nil {
		return err
	}
	policies, generated, err := a.policies(ctx, cmd, f)
	if err != nil {
		return err
	}
	if request.Principal, err = principalOf(f, generated, request.Context); err != nil {
		return err
	}
	if owner, given := request.Context.Get("aws:ResourceAccount"); given && len(owner) == 1 {
		request.ResourceAccount = owner[0] // a bucket's ARN does not say whose it is
	}
	a.doubt(action, f.resource)

	// Without documents of the caller, the owner of a resource asks whom its
	// policy lets in. That is the question of two accounts, where both must
	// allow, with a caller who may do anything.
	resourceAlone := len(f.documents) == 0 && generated == nil
	if resourceAlone {
		policies.Identity = []*iampolicy.Document{anything}
		request.ResourceAccount = "not the caller's"
	}
	evaluator, err := iampolicy.Compile(policies)
	if err != nil {
		return usererr.New(usererr.Invalid, "%v", err).
			WithHint("a policy with a Principal goes to --resource-policy, one without to --document").Because(err)
	}
	why := evaluator.Explain(&request)
	result := explanation{Decision: why.Decision.String(), Statements: []iampolicy.StatementRef{}, NearMisses: []iampolicy.NearMiss{}}
	for _, statement := range why.Statements {
		if !resourceAlone || statement.Part != iampolicy.IdentityPart {
			result.Statements = append(result.Statements, statement)
		}
	}
	for _, miss := range why.NearMisses {
		if !resourceAlone || miss.Part != iampolicy.IdentityPart {
			result.NearMisses = append(result.NearMisses, miss)
		}
	}
	if result.Steps, err = a.stepsThatNeed(action, f.resource); err != nil {
		return err
	}
	if err := a.print(result, func(w io.Writer) { explainTable(w, request, why.MissingPart, result) }); err != nil {
		return err
	}
	if resourceAlone && why.Decision == iampolicy.Allowed {
		fmt.Fprintln(a.Err, "note: only the resource's policy was asked; a caller of another account needs its own permission too (--document)")
	}
	if why.Decision != iampolicy.Allowed {
		return errFound
	}
	return nil
}

// anything stands for a caller's own permissions where nobody asks about them.
var anything = &iampolicy.Document{
	Version:    "2012-10-17",
	Statements: []iampolicy.Statement{{Effect: iampolicy.Allow, Action: []string{"*"}, Resource: []string{"*"}}},
}

// policies reads the documents that were given, or generates those of the role.
// The role is nil unless they were generated.
func (a *app) policies(ctx context.Context, cmd *cobra.Command, f explainFlags) (iampolicy.Policies, *generatedRole, error) {
	var p iampolicy.Policies
	var role *generatedRole
	var err error
	switch {
	case len(f.documents) > 0:
		for _, name := range f.documents {
			document, err := a.readPolicy(ctx, name)
			if err != nil {
				return p, nil, err
			}
			p.Identity = append(p.Identity, document)
		}
	case f.resourcePolicy != "" && f.set.account == "":
	default:
		if f.set.account == "" {
			return p, nil, usererr.New(usererr.Invalid, "no documents to explain by").
				WithHint("give --document FILE, or --account and --region for the documents of --policy %s", f.set.policy.value)
		}
		if role, err = a.generatedRole(ctx, cmd, f); err != nil {
			return p, nil, err
		}
		p.Identity, p.Boundary = role.identity, role.boundary
	}
	for _, part := range []struct {
		file string
		set  func(*iampolicy.Document)
	}{
		{f.boundary, func(d *iampolicy.Document) { p.Boundary = d }},
		{f.session, func(d *iampolicy.Document) { p.Session = []*iampolicy.Document{d} }},
		{f.resourcePolicy, func(d *iampolicy.Document) { p.Resource = d }},
	} {
		if part.file == "" {
			continue
		}
		document, err := a.readPolicy(ctx, part.file)
		if err != nil {
			return p, nil, err
		}
		part.set(document)
	}
	var level []*iampolicy.Document
	for _, name := range f.scps {
		document, err := a.readPolicy(ctx, name)
		if err != nil {
			return p, nil, err
		}
		level = append(level, document)
	}
	if len(level) > 0 {
		p.SCP = [][]*iampolicy.Document{level}
	}
	return p, role, nil
}

// generatedRole is one role of a set, with its documents ready to decide by.
type generatedRole struct {
	arn      string
	account  string
	identity []*iampolicy.Document
	boundary *iampolicy.Document
}

func (a *app) generatedRole(ctx context.Context, cmd *cobra.Command, f explainFlags) (*generatedRole, error) {
	options, err := f.set.options(ctx, a, cmd)
	if err != nil {
		return nil, err
	}
	set, err := access.Generate(options)
	if err != nil {
		return nil, err
	}
	role, err := roleNamed(set, options.Vendor, f.role)
	if err != nil {
		return nil, err
	}
	for _, arn := range role.Attached {
		fmt.Fprintf(a.Err, "note: role %s also carries %s, AWS's own document, which is not asked\n", role.Name, arn)
	}
	g := &generatedRole{arn: fmt.Sprintf("arn:%s:iam::%s:role%s%s", set.Partition, set.Account, role.Path, role.Name), account: set.Account}
	for _, policy := range role.Policies {
		document, err := iampolicy.Parse(policy.Name, policy.Document)
		if err != nil {
			return nil, fmt.Errorf("reading our own document: %w", err)
		}
		g.identity = append(g.identity, document)
	}
	if role.Boundary != nil && set.Boundary != nil && *role.Boundary == set.Boundary.Name {
		if g.boundary, err = iampolicy.Parse(set.Boundary.Name, set.Boundary.Document); err != nil {
			return nil, fmt.Errorf("reading our own boundary: %w", err)
		}
	}
	return g, nil
}

// readPolicy reads one document strictly.
func (a *app) readPolicy(ctx context.Context, name string) (*iampolicy.Document, error) {
	text, err := a.readInput(ctx, name)
	if err != nil {
		return nil, err
	}
	document, err := iampolicy.Parse(name, text)
	if err != nil {
		var form *iampolicy.FormError
		if errors.As(err, &form) {
			return nil, usererr.New(usererr.Invalid, "%v", err).Because(err).
				WithHint("run 'biplane access lint %s' for everything that is wrong with it", name)
		}
		return nil, notJSON(err)
	}
	return document, nil
}

var actionForm = regexp.MustCompile(`^[A-Za-z0-9-]+:[A-Za-z0-9]+$`)

func checkAction(action string) error {
	if actionForm.MatchString(action) {
		return nil
	}
	err := usererr.New(usererr.Invalid, "%q is not one action", action)
	if strings.ContainsAny(action, "*?") {
		return err.WithHint("a call has no wildcard: ask about one action at a time, such as ec2:CreateVpc")
	}
	return err.WithHint("write it as service:Action, such as ec2:CreateVpc")
}

func checkResource(resource string) error {
	if resource == "*" {
		return nil
	}
	if _, ok := iampolicy.ParseARN(resource); ok {
		return nil
	}
	return usererr.New(usererr.Invalid, "--resource %q is not an ARN", resource).
		WithHint("write it as arn:aws:s3:::bucket/key, or leave it out for a call without a resource")
}

// addContext reads KEY=VALUE, each cut at its first '='.
func addContext(context iampolicy.Context, pairs []string) error {
	for _, pair := range pairs {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return usererr.New(usererr.Invalid, "--context %q is not KEY=VALUE", pair).
				WithHint("write it as aws:RequestedRegion=eu-central-1; KEY= is a key that is there and empty")
		}
		before, _ := context.Get(key)
		context.Set(key, append(before, value)...)
	}
	return nil
}

// principalOf is the caller: as --principal says, else a session of the
// generated role, else somebody in the account of the resource.
func principalOf(f explainFlags, role *generatedRole, context iampolicy.Context) (iampolicy.Principal, error) {
	if f.principal == "" {
		if role != nil {
			return sessionOf(role.arn), nil
		}
		if arn, ok := iampolicy.ParseARN(f.resource); ok {
			return iampolicy.Principal{Type: iampolicy.AWS, Account: arn.Account}, nil
		}
		return iampolicy.Principal{Type: iampolicy.AWS, Account: f.set.account}, nil
	}

	wrong := usererr.New(usererr.Invalid, "--principal %q is not a caller", f.principal).
		WithHint("give the ARN of a role, role session or user, such as arn:aws:iam::123456789012:role/name, or the name of a service or provider")
	arn, ok := iampolicy.ParseARN(f.principal)
	if !ok {
		if kind := principalNamed(f.principal); kind != "" {
			return iampolicy.Principal{Type: kind, ARN: f.principal}, nil
		}
		return iampolicy.Principal{}, wrong
	}
	if arn.Account == "" {
		return iampolicy.Principal{}, wrong
	}
	principal := iampolicy.Principal{Type: iampolicy.AWS, ARN: f.principal, Account: arn.Account}
	roleARN := ""
	kind, _, _ := strings.Cut(arn.Resource, "/")
	switch arn.Service + ":" + kind {
	case "iam:role":
		principal, roleARN = sessionOf(f.principal), f.principal
	case "sts:assumed-role":
		name := strings.Split(arn.Resource, "/")
		if len(name) != 3 {
			return iampolicy.Principal{}, wrong
		}
		// The role's path is not in the session's ARN, so the engine goes by its name.
		roleARN = fmt.Sprintf("arn:%s:iam::%s:role/%s", arn.Partition, arn.Account, name[1])
	case "iam:oidc-provider", "iam:saml-provider":
		principal.Type = iampolicy.Federated
		return principal, nil
	case "iam:user", "iam:root", "sts:federated-user":
	default:
		return iampolicy.Principal{}, wrong
	}
	for key, value := range map[string]string{"aws:PrincipalArn": cmp.Or(roleARN, principal.ARN), "aws:PrincipalAccount": principal.Account} {
		if _, given := context.Get(key); !given {
			context.Set(key, value)
		}
	}
	return principal, nil
}

var (
	canonicalUser = regexp.MustCompile(`^[0-9a-f]{64}$`)
	domainName    = regexp.MustCompile(`^[a-z0-9-]+(\.[a-z0-9-]+)+$`)
)

// principalNamed is the kind of a caller that has no ARN; "" for a name of none.
func principalNamed(name string) iampolicy.PrincipalType {
	switch {
	case name == "*":
		return iampolicy.Anonymous
	case name == "cognito-identity.amazonaws.com": // an identity provider, although it has a service's name
		return iampolicy.Federated
	case strings.HasSuffix(name, ".amazonaws.com"), strings.HasSuffix(name, ".amazonaws.com.cn"):
		return iampolicy.Service
	case canonicalUser.MatchString(name):
		return iampolicy.CanonicalUser
	case domainName.MatchString(name): // accounts.google.com and the like
		return iampolicy.Federated
	}
	return ""
}

// sessionOf is who calls with a role: some session of it, of which only the role
// is known. Session and role have one name then.
func sessionOf(role string) iampolicy.Principal {
	arn, _ := iampolicy.ParseARN(role)
	return iampolicy.Principal{Type: iampolicy.AWS, Account: arn.Account, ARN: role, RoleARN: role}
}

// doubt says on stderr that the question is odd, and leaves the answer alone:
// AWS may be newer than our copy of its reference.
func (a *app) doubt(action, resource string) {
	reference := sar.Default()
	known, ok := reference.Action(action)
	if ok {
		if resource != "*" && reference.CanMatch(known, resource) == sar.Never {
			var kinds []string
			for _, r := range known.Resources {
				kinds = append(kinds, r.Type)
			}
			if len(kinds) == 0 {
				fmt.Fprintf(a.Err, "note: %s acts on no resource of its own: leave --resource out\n", known)
			} else {
				fmt.Fprintf(a.Err, "note: %s does not act on %s: it takes a resource of kind %s\n", known, resource, list(kinds))
			}
		}
		return
	}
	prefix, name, _ := strings.Cut(action, ":")
	service, ok := reference.Service(prefix)
	if !ok {
		fmt.Fprintf(a.Err, "note: AWS had no service %q on %s%s\n", prefix, sar.Date, suggestion(meant(prefix, reference.Services())))
		return
	}
	var names []string
	for _, action := range service.Actions {
		names = append(names, action.Name)
	}
	near := meant(name, names)
	if near != "" {
		near = service.Prefix + ":" + near
	}
	fmt.Fprintf(a.Err, "note: %s had no action %q on %s%s\n", service.Prefix, name, sar.Date, suggestion(near))
}

func suggestion(near string) string {
	if near == "" {
		return ""
	}
	return "; did you mean " + near + "?"
}

// completeAction offers services, then the actions of one.
func completeAction(_ *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	reference := sar.Default()
	prefix, _, cut := strings.Cut(typed, ":")
	if !cut {
		var services []cobra.Completion
		for _, name := range reference.Services() {
			services = append(services, name+":")
		}
		return services, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	}
	var actions []cobra.Completion
	for _, action := range reference.Expand(prefix + ":*") {
		actions = append(actions, action.String())
	}
	return actions, cobra.ShellCompDirectiveNoFileComp
}

func explainTable(w io.Writer, request iampolicy.Request, missing iampolicy.Part, e explanation) {
	on := ""
	if request.Resource != "*" {
		on = " on " + request.Resource
	}
	switch e.Decision {
	case "allowed":
		fmt.Fprintf(w, "allowed: %s%s\n", request.Action, on)
	case "explicitDeny":
		fmt.Fprintf(w, "denied by a statement: %s%s\n", request.Action, on)
	default:
		fmt.Fprintf(w, "denied because nothing allows it: %s%s\n", request.Action, on)
		if missing != "" {
			fmt.Fprintf(w, "\nNo %s allows it.\n", partName(missing))
		}
	}
	if len(e.Statements) > 0 {
		fmt.Fprint(w, "\nDecided by\n")
		for _, s := range e.Statements {
			fmt.Fprintf(w, "  %s\n", statementName(s))
		}
	}
	if len(e.NearMisses) > 0 {
		fmt.Fprint(w, "\nNearly applied\n")
		for _, miss := range e.NearMisses {
			fmt.Fprintf(w, "  %s, but for %s\n    %s\n", statementName(miss.StatementRef), miss.Element, miss.Reason)
		}
	}
	if len(e.Steps) == 0 {
		fmt.Fprint(w, "\nNo step of Biplane needs it.\n")
		return
	}
	fmt.Fprint(w, "\nNeeded by\n")
	for _, s := range e.Steps {
		_, phase, _ := strings.Cut(s.Phase, " ") // without the letter that orders it
		fmt.Fprintf(w, "  %s: %s %s", phase, s.Call, s.Purpose)
		if len(s.Roles) > 0 {
			fmt.Fprintf(w, " (%s)", strings.Join(s.Roles, ", "))
		}
		if s.Omitted != "" {
			fmt.Fprintf(w, "\n    strict gives nobody the right: %s", s.Omitted)
		}
		fmt.Fprintln(w)
	}
}

// statementName is how a person finds it: counted from 0, as JSON does.
func statementName(s iampolicy.StatementRef) string {
	name := fmt.Sprintf("%s, statement %d", s.Document, s.Index)
	if s.Sid != "" {
		name += fmt.Sprintf(" (%s)", s.Sid)
	}
	if s.Part != iampolicy.IdentityPart {
		name += ", " + partName(s.Part)
	}
	return name
}

// partName is what AWS's documentation calls a part.
func partName(part iampolicy.Part) string {
	switch part {
	case iampolicy.BoundaryPart:
		return "permissions boundary"
	case iampolicy.SCPPart:
		return "service control policy"
	}
	return string(part) + " policy"
}
