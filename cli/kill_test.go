package cli_test

import (
	"context"
	"encoding/json"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"

	"biplane.dev/biplane/internal/awsdouble"
	"biplane.dev/biplane/provision/step/killtest"
)

const externalID = "5Zq0v3l1x8mTfKcW2hYbNg"

// TestKill kills grant and revoke, loses responses of theirs, and finishes them. Compat,
// which has a fifth of strict's calls, is also interrupted.
func TestKill(t *testing.T) {
	t.Parallel()
	biplane := program(t)
	for _, profile := range []struct {
		name        string
		flags       []string
		interrupted int
	}{
		{"strict", []string{"--private-endpoint", "--delete-permissions"}, 0},
		{"compat", []string{"--policy", "compat", "--private-endpoint"}, 2},
	} {
		grant := append([]string{"access", "grant", "--method", "iam", "--external-id", externalID, "--yes", "--quiet"}, profile.flags...)
		t.Run("it finishes granting "+profile.name, func(t *testing.T) {
			t.Parallel()
			killtest.Run(t, killtest.Program{
				Path: biplane, Args: grant, Sample: 40, Interrupted: profile.interrupted,
				World: func(ctx context.Context) (*killtest.World, error) { return newWorld(ctx, "") },
			})
		})
		t.Run("it finishes revoking "+profile.name, func(t *testing.T) {
			t.Parallel()
			granted := grantedAccount(t, biplane, grant)
			killtest.Run(t, killtest.Program{
				Path: biplane, Args: []string{"access", "revoke", "--yes", "--quiet"}, Sample: 40, Interrupted: profile.interrupted,
				World: copyOf(granted),
			})
		})
	}
}

// TestKillRotate kills both ends of a rotation of the external ID, and loses responses.
func TestKillRotate(t *testing.T) {
	t.Parallel()
	biplane := program(t)
	begin := []string{"access", "rotate-external-id", "--external-id", "8Rk2mQ0sZ4vJtYpLxW9cAe", "--yes", "--quiet"}
	finish := []string{"access", "rotate-external-id", "--finish", "--yes", "--quiet"}
	for method, flags := range map[string][]string{"iam": {"--delete-permissions"}, "cloudformation": {"--policy", "compat"}} {
		grant := append([]string{"access", "grant", "--method", method, "--external-id", externalID, "--yes", "--quiet"}, flags...)
		t.Run("it finishes to let both values in by "+method, func(t *testing.T) {
			t.Parallel()
			killtest.Run(t, killtest.Program{Path: biplane, Args: begin, Sample: 16, Interrupted: 2, World: copyOf(grantedAccount(t, biplane, grant))})
		})
		t.Run("it finishes to leave one alone by "+method, func(t *testing.T) {
			t.Parallel()
			killtest.Run(t, killtest.Program{Path: biplane, Args: finish, Sample: 16, Interrupted: 2, World: copyOf(grantedAccount(t, biplane, grant, begin))})
		})
	}
}

// TestKillBreakGlass kills the opening and the closing of the break-glass role, and loses
// responses.
func TestKillBreakGlass(t *testing.T) {
	t.Parallel()
	biplane := program(t)
	grant := []string{"access", "grant", "--method", "iam", "--external-id", externalID, "--yes", "--quiet"}
	open := []string{"access", "break-glass", "open", "--for", "1h", "--reason", "TICKET-1", "--source-identity", "ada", "--yes", "--quiet"}
	close := []string{"access", "break-glass", "close", "--yes", "--quiet"}
	for name, c := range map[string]struct {
		before [][]string
		args   []string
	}{
		"it finishes opening":                      {[][]string{grant}, open},
		"it finishes opening again":                {[][]string{grant, open, close}, open},
		"it finishes moving the end":               {[][]string{grant, open}, open},
		"it finishes closing":                      {[][]string{grant, open}, close},
		"it finishes closing what nobody has open": {[][]string{grant}, close},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			killtest.Run(t, killtest.Program{Path: biplane, Args: c.args, Sample: 16, Interrupted: 2, World: copyOf(grantedAccount(t, biplane, c.before...))})
		})
	}
}

// copyOf makes worlds that begin as a directory of a double is.
func copyOf(granted string) func(context.Context) (*killtest.World, error) {
	return func(ctx context.Context) (*killtest.World, error) {
		dir, err := os.MkdirTemp(filepath.Dir(granted), "trial")
		if err != nil {
			return nil, err
		}
		if err := os.CopyFS(dir, os.DirFS(granted)); err != nil {
			return nil, err
		}
		return newWorld(ctx, dir)
	}
}

// grantedAccount is a directory of a double in whose account access is granted, and what
// else the commands do.
func grantedAccount(t *testing.T, biplane string, commands ...[]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "granted")
	world, err := newWorld(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer world.Close()
	for _, args := range commands {
		cmd := exec.CommandContext(t.Context(), biplane, args...)
		cmd.Env = world.Env
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", strings.Join(args, " "), err, out)
		}
	}
	return dir
}

// program is this test binary under the name by which it is `biplane`, see TestMain.
func program(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "biplane")
	if err := os.Symlink(self, link); err != nil {
		t.Fatal(err)
	}
	return link
}

// newWorld is a double that keeps its accounts in dir, or in none that lasts.
func newWorld(ctx context.Context, dir string) (*killtest.World, error) {
	double, err := awsdouble.Start(ctx, awsdouble.Options{Dir: dir})
	if err != nil {
		return nil, err
	}
	state, err := os.MkdirTemp("", "history")
	if err != nil {
		double.Stop()
		return nil, err
	}
	customer := double.Accounts().Customer
	client := iam.New(iam.Options{
		Region: "us-east-1", BaseEndpoint: ptr(double.URL()),
		Credentials: credentials.NewStaticCredentialsProvider(customer.Credentials.AccessKeyID, customer.Credentials.SecretAccessKey, ""),
	})
	return &killtest.World{
		Endpoint: double.URL(),
		Env:      append(double.Env(), "XDG_STATE_HOME="+state, "GOGC=off", "GOMAXPROCS=1"), // its life is short, and there are hundreds
		State:    func(ctx context.Context) (string, error) { return accountDetails(ctx, client) },
		Close:    func() { double.Stop(); os.RemoveAll(state) },
	}, nil
}

func ptr[T any](v T) *T { return &v }

// accountDetails is get-account-authorization-details as text, without what
// differs between two runs anyway: ids, times and the order of lists.
func accountDetails(ctx context.Context, client *iam.Client) (string, error) {
	var all []any
	pages := iam.NewGetAccountAuthorizationDetailsPaginator(client, &iam.GetAccountAuthorizationDetailsInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return "", err
		}
		all = append(all, page.GroupDetailList, page.UserDetailList, page.RoleDetailList, page.Policies)
	}
	text, err := json.Marshal(all)
	if err != nil {
		return "", err
	}
	var details any
	if err := json.Unmarshal(text, &details); err != nil {
		return "", err
	}
	text, err = json.MarshalIndent(lasting(details), "", " ")
	return string(text) + "\n", err
}

// times are those in documents.
var times = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`)

// lasting leaves out ids and times, and sorts lists.
func lasting(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			if strings.HasSuffix(key, "Date") || slices.Contains([]string{"RoleId", "PolicyId", "UserId", "GroupId", "InstanceProfileId", "RoleLastUsed"}, key) {
				delete(v, key)
				continue
			}
			v[key] = lasting(value)
		}
	case []any:
		text := func(v any) string { b, _ := json.Marshal(v); return string(b) }
		for i := range v {
			v[i] = lasting(v[i])
		}
		slices.SortFunc(v, func(a, b any) int { return strings.Compare(text(a), text(b)) })
	case string:
		if decoded, err := url.PathUnescape(v); err == nil {
			return times.ReplaceAllString(decoded, "a time")
		}
	}
	return v
}
