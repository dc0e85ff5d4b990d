package bootstrap

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"biplane.dev/biplane/internal/sandbox"
	"biplane.dev/biplane/provision/roles"
)

// adminProfile is the account's administrator.
const adminProfile = "admin"

func (c Config) folder() sandbox.Folder { return sandbox.Folder(c.Dir) }

// tokenFile holds the token of an account's profile.
func (c Config) tokenFile(account string) string {
	return filepath.Join(c.folder().AWSTokens(), account)
}

// writeProfiles writes the AWS configuration: the administrator, and one profile for
// each account of the table, which takes its role on as its pods do. It names
// endpoints and roots too, so that the two files are all that a program needs.
//
// A profile without credentials is no profile: AWS's tools would go on and ask the
// environment's next source, on a machine of AWS its own role. So that of an account
// without a role has a source that refuses and says why.
func (c Config) writeProfiles(set *roles.Set) ([]string, error) {
	folder := c.folder()
	for _, dir := range []string{folder.AWS(), folder.AWSTokens()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("making a folder for the AWS configuration: %w", err)
		}
	}

	var b strings.Builder
	b.WriteString("# Written by 'biplane sandbox up', each time. Changes are lost; profiles of your own belong in a file of your own.\n")
	common := func(profile string) {
		fmt.Fprintf(&b, "\n[profile %s]\nregion = %s\nca_bundle = %s\nservices = biplane-sandbox\n", profile, c.Region, c.CABundle)
	}
	profiles := []string{adminProfile}
	common(adminProfile)
	for _, a := range accounts(set) {
		profiles = append(profiles, a.name)
		common(a.name)
		switch {
		case c.Empty:
			fmt.Fprintf(&b, "credential_process = /bin/sh -c \"echo '%s has no role: this sandbox is for a data plane that brings its own' >&2; exit 1\"\n", a.name)
		case a.role == "":
			fmt.Fprintf(&b, "credential_process = /bin/sh -c \"echo '%s has no role, because it has no right in S3' >&2; exit 1\"\n", a.name)
		case c.Kubeconfig == "":
			fmt.Fprintf(&b, "credential_process = /bin/sh -c \"echo '%s needs a token of the cluster, which this sandbox is without' >&2; exit 1\"\n", a.name)
		default:
			fmt.Fprintf(&b, "role_arn = %s\nrole_session_name = %s\nweb_identity_token_file = %s\n", a.role, c.sessionName(a.name), c.tokenFile(a.name))
		}
	}
	b.WriteString("\n[services biplane-sandbox]\n")
	for _, service := range []struct{ name, endpoint string }{{"s3", c.S3}, {"sts", c.STS}, {"iam", c.IAM}} {
		if service.endpoint != "" {
			fmt.Fprintf(&b, "%s =\n  endpoint_url = %s\n", service.name, service.endpoint)
		}
	}
	if err := writeFile(folder.AWSConfig(), b.String()); err != nil {
		return nil, err
	}
	secret := fmt.Sprintf("[%s]\naws_access_key_id = %s\naws_secret_access_key = %s\n", adminProfile, c.Admin.ID, c.Admin.Secret)
	return profiles, writeFile(folder.AWSCredentials(), secret)
}

// sessionName is the name of the sessions of an account's profile. The AWS CLI keeps
// sessions in the home folder by role and name, so the name has the cluster's id: a
// sandbox that was made anew must not be asked with a session of the former one.
func (c Config) sessionName(account string) string {
	id := path.Base(c.Issuer)
	return account + "-" + id[:min(len(id), 8)]
}

// writeFile writes a file that only its owner may read, whole or not at all. One
// that says so already is not touched; one that others may read is closed to them.
func writeFile(name, text string) error {
	const mode = 0o600
	if info, err := os.Lstat(name); err == nil && info.Mode() == mode {
		if have, err := os.ReadFile(name); err == nil && bytes.Equal(have, []byte(text)) {
			return nil
		}
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("file %s cannot be read: %w", name, err)
	}
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-") // mode 0600
	if err != nil {
		return fmt.Errorf("file %s cannot be written: %w", name, err)
	}
	defer os.Remove(f.Name()) // of no effect once it has its name
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("file %s cannot be written: %w", name, err)
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return fmt.Errorf("file %s cannot be written: %w", name, err)
	}
	return nil
}
