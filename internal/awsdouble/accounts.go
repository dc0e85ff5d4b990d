package awsdouble

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"biplane.dev/biplane/internal/awsidentity"
	"biplane.dev/biplane/internal/clock"
)

// Accounts are those that a double starts with. Each is a profile of the AWS
// configuration that it writes.
type Accounts struct {
	Customer    Account // its administrator
	Vendor      Account // the control plane's role, which the customer's roles trust
	VendorOther Account // another role of the vendor's account, which they do not
	Stranger    Account // the administrator of an account that has nothing to do with them

	vendorAdministrator awsidentity.Credentials
}

// Account is an account and the credentials of somebody in it.
type Account struct {
	ID          string
	Profile     string
	Credentials awsidentity.Credentials
}

const (
	otherRole = "biplane-support" // of the vendor's account
	// sessionLength is long enough for the vendor's sessions to outlive what
	// anybody does with a double.
	sessionLength = 30 * 24 * time.Hour
)

func (a *Accounts) list() []Account {
	return []Account{a.Customer, a.Vendor, a.VendorOther, a.Stranger}
}

// administrators are the keys that may look into each account.
func (a *Accounts) administrators() map[string]awsidentity.Credentials {
	return map[string]awsidentity.Credentials{
		a.Customer.ID: a.Customer.Credentials,
		a.Vendor.ID:   a.vendorAdministrator,
		a.Stranger.ID: a.Stranger.Credentials,
	}
}

// makeAccounts makes what is not there yet.
func (d *Double) makeAccounts(o Options) (*Accounts, error) {
	partition := partitionOf(o.Region)
	vendorID := o.Vendor.Accounts[partition]
	if vendorID == "" {
		return nil, fmt.Errorf("the vendor profile has no account in partition %s: add it under accounts, or choose a region of another partition", partition)
	}
	if vendorID == o.CustomerAccount {
		return nil, fmt.Errorf("account %s is the vendor's already: choose another one for the customer", vendorID)
	}
	strangerID := ""
	for _, id := range []string{"999999999999", "888888888888", "777777777777"} {
		if id != vendorID && id != o.CustomerAccount {
			strangerID = id
			break
		}
	}
	a := &Accounts{
		Customer:    Account{ID: o.CustomerAccount, Profile: "customer"},
		Vendor:      Account{ID: vendorID, Profile: "vendor"},
		VendorOther: Account{ID: vendorID, Profile: "vendor-other"},
		Stranger:    Account{ID: strangerID, Profile: "stranger"},
	}
	options := awsidentity.AccountOptions{Partition: partition}
	var err error
	if a.Customer.Credentials, err = d.identity.CreateAccount(o.CustomerAccount, options); err != nil {
		return nil, err
	}
	if a.vendorAdministrator, err = d.identity.CreateAccount(vendorID, options); err != nil {
		return nil, err
	}
	if a.Stranger.Credentials, err = d.identity.CreateAccount(strangerID, options); err != nil {
		return nil, err
	}
	other := otherRole
	if other == o.Vendor.ControlPlaneRole {
		other = "biplane-other"
	}
	for name, account := range map[string]*Account{o.Vendor.ControlPlaneRole: &a.Vendor, other: &a.VendorOther} {
		inline := map[string]string{"assume": `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["sts:AssumeRole","sts:SetSourceIdentity"],"Resource":"*"}]}`}
		if account == &a.Vendor {
			// The vendor's side of private endpoints: its own networks, and the zones of its names.
			inline["own-network"] = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["ec2:*","route53:*"],"Resource":"*"}]}`
		}
		arn, err := d.identity.SeedRole(vendorID, awsidentity.Role{Name: name, Inline: inline})
		if err != nil {
			return nil, err
		}
		if account.Credentials, err = d.identity.Session(arn, "double", sessionLength); err != nil {
			return nil, err
		}
	}
	return a, nil
}

func (d *Double) configFile() string      { return filepath.Join(d.dir, "config") }
func (d *Double) credentialsFile() string { return filepath.Join(d.dir, "credentials") }

// writeProfiles writes the AWS configuration, a profile for each account.
func (d *Double) writeProfiles() error {
	var config, credentials strings.Builder
	for _, a := range d.accounts.list() {
		fmt.Fprintf(&config, "[profile %s]\nregion = %s\nendpoint_url = %s\n\n", a.Profile, d.region, d.url)
		fmt.Fprintf(&credentials, "[%s]\naws_access_key_id = %s\naws_secret_access_key = %s\n", a.Profile, a.Credentials.AccessKeyID, a.Credentials.SecretAccessKey)
		if a.Credentials.SessionToken != "" {
			fmt.Fprintf(&credentials, "aws_session_token = %s\n", a.Credentials.SessionToken)
		}
		credentials.WriteString("\n")
	}
	if err := writeSecret(d.configFile(), config.String()); err != nil {
		return err
	}
	return writeSecret(d.credentialsFile(), credentials.String())
}

// writeSecret writes a file that only its owner may read, whole or not at all.
func writeSecret(file, text string) error {
	f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+"-") // mode 0600
	if err != nil {
		return fmt.Errorf("file %s cannot be written: %w", file, err)
	}
	defer os.Remove(f.Name()) // of no effect once it has its name
	if _, err := f.WriteString(text); err != nil {
		f.Close()
		return fmt.Errorf("file %s cannot be written: %w", file, err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("file %s cannot be written: %w", file, err)
	}
	if err := os.Rename(f.Name(), file); err != nil {
		return fmt.Errorf("file %s cannot be written: %w", file, err)
	}
	return nil
}

// Env is what a process needs to use the double as the customer's
// administrator, as NAME=VALUE. The AWS CLI's first version reads
// AWS_DEFAULT_REGION, everything else AWS_REGION.
func (d *Double) Env() []string {
	key := d.accounts.Customer.Credentials
	return []string{
		"AWS_ENDPOINT_URL=" + d.url,
		"AWS_REGION=" + d.region,
		"AWS_DEFAULT_REGION=" + d.region,
		"AWS_ACCESS_KEY_ID=" + key.AccessKeyID,
		"AWS_SECRET_ACCESS_KEY=" + key.SecretAccessKey,
		"AWS_CONFIG_FILE=" + d.configFile(),
		"AWS_SHARED_CREDENTIALS_FILE=" + d.credentialsFile(),
		"AWS_EC2_METADATA_DISABLED=true",
		clock.Variable + "=" + d.clock.Environment(),
	}
}

// signIAM signs a request to the identity service.
func signIAM(r *http.Request, body, region string, key awsidentity.Credentials, now time.Time) error {
	hash := sha256.Sum256([]byte(body))
	return v4.NewSigner().SignHTTP(context.Background(),
		aws.Credentials{AccessKeyID: key.AccessKeyID, SecretAccessKey: key.SecretAccessKey, SessionToken: key.SessionToken},
		r, hex.EncodeToString(hash[:]), "iam", region, now)
}
