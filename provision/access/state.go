package access

import (
	"context"
	"time"

	"biplane.dev/biplane/provision/vendor"
)

// State is what an account says of its own access, in few words and with no secret. Its
// JSON is read by other programs.
type State struct {
	Profile       ProfileName `json:"profile"`
	Region        string      `json:"region"`
	PolicyVersion string      `json:"policyVersion"` // of the documents; empty: granted before there were versions
	Method        string      `json:"method"`        // iam or cloudformation
	Stack         string      `json:"stack"`         // which made the roles; empty with iam

	ExternalIDs int `json:"externalIds"` // that are valid: two while they are rotated

	PrivateEndpoint   bool `json:"privateEndpoint"`
	DeletePermissions bool `json:"deletePermissions"`

	BreakGlass BreakGlassState `json:"breakGlass"`
}

// BreakGlassState is whether the break-glass role lets anybody in.
type BreakGlassState struct {
	State  string    `json:"state"` // none, closed, open, or unknown: the trust is none that Biplane writes
	Until  time.Time `json:"until,omitzero"`
	Reason string    `json:"reason,omitempty"`
}

// ReadState reads what is granted now; nil is nothing. now says whether a window is over.
func ReadState(ctx context.Context, api IAM, partition, account string, v *vendor.Profile, now time.Time) (*State, error) {
	g, err := ReadGranted(ctx, api, partition, account, v)
	if err != nil || g == nil {
		return nil, err
	}
	s := &State{
		Profile: g.Profile, Region: g.Region, PolicyVersion: g.PolicyVersion, Method: "iam", Stack: g.Stack,
		PrivateEndpoint: g.PrivateEndpoint, DeletePermissions: g.DeletePermissions, BreakGlass: BreakGlassState{State: "none"},
	}
	if g.Stack != "" {
		s.Method = "cloudformation"
	}
	for _, id := range []string{g.PreviousExternalID, g.ExternalID} {
		if id != "" {
			s.ExternalIDs++
		}
	}
	if g.Profile != Strict {
		return s, nil
	}
	role, err := readRoleItself(ctx, api, BreakGlassRole(v))
	if err != nil || role == nil {
		return s, err
	}
	set, err := Generate(g.Options(account, v))
	if err != nil {
		s.BreakGlass.State = "unknown" // the tags are none that we write, so it cannot be compared
		return s, nil
	}
	window := set.OpenWindow(role.trust)
	wanted := set.Roles[0].Trust.Document
	for _, r := range set.Roles {
		if r.Name == BreakGlassRole(v) {
			wanted = r.Trust.Document
		}
	}
	switch {
	case window != nil && now.Before(window.Until):
		s.BreakGlass = BreakGlassState{State: "open", Until: window.Until, Reason: window.Reason}
	case window != nil || len(documentDifferences("the trust policy", role.trust, wanted)) == 0:
		s.BreakGlass.State = "closed"
	default:
		s.BreakGlass.State = "unknown"
	}
	return s, nil
}
