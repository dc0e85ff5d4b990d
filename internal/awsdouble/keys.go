package awsdouble

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"biplane.dev/biplane/provision/iampolicy"
)

// moto's keys do all that is asked, whatever state they are in. What may be asked of
// which is the table of AWS KMS's Developer Guide, Key states of AWS KMS keys.
var (
	// keyUses need a key that is enabled.
	keyUses = []string{"Encrypt", "Decrypt", "ReEncrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "GenerateDataKeyPair",
		"GenerateDataKeyPairWithoutPlaintext", "Sign", "Verify", "GenerateMac", "VerifyMac", "CreateGrant", "EnableKeyRotation", "DisableKeyRotation"}
	// keyChanges need one that is not about to be deleted, and so do the uses.
	keyChanges = []string{"EnableKey", "DisableKey", "ScheduleKeyDeletion", "CreateAlias", "UpdateAlias", "UpdateKeyDescription", "TagResource", "UntagResource"}
)

// kms performs a decided call of KMS.
func (d *Double) kms(ctx context.Context, c *call) (*http.Response, error) {
	p := c.params
	if name := p.one("AliasName"); c.Operation == "CreateAlias" && strings.HasPrefix(name, "alias/aws/") {
		return nil, &refusal{"NotAuthorizedException", "Aliases that start with alias/aws/ are reserved.", http.StatusBadRequest}
	}
	if days := p.one("PendingWindowInDays"); c.Operation == "ScheduleKeyDeletion" && days != "" {
		if n, err := strconv.Atoi(days); err != nil || n < 7 || n > 30 {
			return nil, &refusal{"ValidationException", "PendingWindowInDays must be between 7 and 30 days (inclusive)", http.StatusBadRequest}
		}
	}
	if c.Operation == "PutKeyPolicy" || c.Operation == "CreateKey" {
		if err := d.keyPolicy(ctx, p.one("Policy")); err != nil {
			return nil, err
		}
	}
	uses := slices.Contains(keyUses, c.Operation)
	if uses || slices.Contains(keyChanges, c.Operation) || c.Operation == "CancelKeyDeletion" {
		id := p.one("KeyId")
		if id == "" {
			id = p.one("TargetKeyId")
		}
		if err := d.keyState(ctx, c, id, uses); err != nil {
			return nil, err
		}
	}
	return d.forward(ctx, c)
}

// keyState refuses what a key in its state is not for. One that is not named, or not
// there, is moto's to speak of.
func (d *Double) keyState(ctx context.Context, c *call, id string, uses bool) error {
	if id == "" {
		return nil
	}
	key, err := d.world.ask(ctx, c, want{service: "kms", operation: "DescribeKey", target: "TrentService", json: map[string]any{"KeyId": id}})
	if err != nil {
		return err
	}
	arn, state := key.one("KeyMetadata.Arn"), key.one("KeyMetadata.KeyState")
	switch {
	case c.Operation == "CancelKeyDeletion":
		if state != "" && state != "PendingDeletion" {
			return &refusal{"KMSInvalidStateException", arn + " is not pending deletion.", http.StatusBadRequest}
		}
	case state == "PendingDeletion":
		return &refusal{"KMSInvalidStateException", arn + " is pending deletion.", http.StatusBadRequest}
	case state == "Disabled" && uses:
		return &refusal{"DisabledException", arn + " is disabled.", http.StatusBadRequest}
	}
	return nil
}

// keyPolicy refuses what is no policy, and principals that are not there, or not to be
// seen yet (AWS KMS Developer Guide, Key policies: the principal must exist).
func (d *Double) keyPolicy(ctx context.Context, text string) error {
	if text == "" {
		return nil // the default
	}
	document, err := iampolicy.Parse("the key policy", []byte(text))
	if err != nil {
		return &refusal{"MalformedPolicyDocumentException", capital(err.Error()) + ".", http.StatusBadRequest}
	}
	for _, statement := range document.Statements {
		if statement.Principal == nil {
			continue
		}
		for _, arn := range statement.Principal.AWS {
			there, err := d.principalThere(ctx, arn)
			if err != nil {
				return err
			}
			if !there {
				return &refusal{"MalformedPolicyDocumentException", "Policy contains a statement with one or more invalid principals.", http.StatusBadRequest}
			}
		}
	}
	return nil
}
