package cli

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

func (a *app) accessNewExternalID() *cobra.Command {
	return &cobra.Command{
		Use:   "new-external-id",
		Short: "Make a random external ID for one customer",
		Long: `Make a random external ID for one customer: 22 characters, 128 random bits.

The vendor makes it, one for each customer, and keeps it with the customer's
account number. It is not a secret, but nobody else may choose it: it stops
another customer of the vendor from naming this customer's role.`,
		Example: `  biplane access new-external-id

  # Use it in the customer's trust policy
  biplane access policy --account 123456789012 --region eu-central-1 --external-id "$(biplane access new-external-id)"`,
		Args: noArguments,
		RunE: func(*cobra.Command, []string) error {
			id, err := newExternalID(rand.Reader)
			if err != nil {
				return err
			}
			result := struct {
				ExternalID string `json:"externalId"`
			}{id}
			return a.print(result, func(w io.Writer) { fmt.Fprintln(w, id) })
		},
	}
}

// newExternalID returns 16 random bytes as 22 characters that a shell, a URL
// and IAM take as they are. One that starts with '-' is thrown away, because it
// would be read as a flag where it is typed as a flag's value.
func newExternalID(random io.Reader) (string, error) {
	var bytes [16]byte
	for {
		if _, err := io.ReadFull(random, bytes[:]); err != nil {
			return "", fmt.Errorf("reading random bytes: %w", err)
		}
		if id := base64.RawURLEncoding.EncodeToString(bytes[:]); id[0] != '-' {
			return id, nil
		}
	}
}
