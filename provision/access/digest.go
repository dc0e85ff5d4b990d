package access

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"biplane.dev/biplane/provision/iampolicy"
)

// documentTag says of which documents we are the author: on a policy the digest of its
// own, on a role those of its trust and its inline policies. By it an edit by hand is told
// from a document of an older version. While one is changed, both are named, the new
// one first, so that a run that is killed in between has not left an edit.
const documentTag = "document"

// digest is short for what a document means: 16 hexadecimal digits of the SHA-256 of its
// canonical form. The external IDs of a trust are left out, because a rotation changes them.
func digest(document []byte) string {
	text := document
	if d, err := iampolicy.Parse("", document); err == nil {
		for _, s := range d.Statements {
			for i := range s.Condition {
				if strings.EqualFold(s.Condition[i].Key, "sts:ExternalId") {
					s.Condition[i].Values = []string{PlaceholderExternalID}
				}
			}
		}
		text = iampolicy.Canonical(d).Text()
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

// digests are those of the documents that are in a role itself.
func (r Role) digests() []string {
	all := []string{digest(r.Trust.Document)}
	for _, p := range r.Policies {
		if p.Kind == inline {
			all = append(all, digest(p.Document))
		}
	}
	return all
}

// digestTag marks what has these digests.
func (p place) digestTag(digests ...string) types.Tag {
	return types.Tag{Key: aws.String(p.vendor.TagPrefix + documentTag), Value: aws.String(strings.Join(digests, " "))}
}

// written are the digests that tags name; none where there were no such tags yet.
func (p place) written(tags []types.Tag) []string {
	return strings.Fields(tagValue(tags, p.vendor.TagPrefix+documentTag))
}

// isEdited reports whether a document is none that we wrote. Of what has no digest nobody
// knows; it passes for an older version.
func (p place) isEdited(tags []types.Tag, document []byte) bool {
	written := p.written(tags)
	return len(written) > 0 && !slices.Contains(written, digest(document))
}
