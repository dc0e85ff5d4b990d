// Package identity is Flyte's IdentityService and AuthMetadataService as they are
// while clients do not log in: nobody is known, and there is no place to log in.
//
// It authenticates nobody. Start with Service.
package identity

import (
	"context"

	"connectrpc.com/connect"

	"biplane.dev/biplane/api/gen/flyteidl2/auth"
	"biplane.dev/biplane/api/gen/flyteidl2/auth/authconnect"
	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/controlplane/internal/caller"
	"biplane.dev/biplane/controlplane/internal/refusal"
)

// Service implements both.
type Service struct{}

var (
	_ authconnect.IdentityServiceHandler     = Service{}
	_ authconnect.AuthMetadataServiceHandler = Service{}
)

// UserInfo says who calls: nobody, or a service account of a data plane.
func (Service) UserInfo(ctx context.Context, _ *auth.UserInfoRequest) (*auth.UserInfoResponse, error) {
	from, ok := caller.From(ctx)
	if !ok {
		return &auth.UserInfoResponse{}, nil
	}
	return &auth.UserInfoResponse{Subject: from.ServiceAccount, Name: from.ServiceAccount}, nil
}

// GetOAuth2Metadata has nothing to tell.
func (Service) GetOAuth2Metadata(context.Context, *auth.GetOAuth2MetadataRequest) (*auth.GetOAuth2MetadataResponse, error) {
	return nil, noLogin()
}

// GetPublicClientConfig has nothing to tell.
func (Service) GetPublicClientConfig(context.Context, *auth.GetPublicClientConfigRequest) (*auth.GetPublicClientConfigResponse, error) {
	return nil, noLogin()
}

// Principal is who is recorded as the one who did something: nil for clients,
// which do not log in yet.
func Principal(ctx context.Context) *common.EnrichedIdentity {
	from, ok := caller.From(ctx)
	if !ok {
		return nil
	}
	return &common.EnrichedIdentity{Principal: &common.EnrichedIdentity_Application{Application: &common.Application{
		Id:   &common.ApplicationIdentifier{Subject: from.ServiceAccount},
		Spec: &common.AppSpec{Name: from.ServiceAccount, Organization: from.Organization},
	}}}
}

func noLogin() error {
	return refusal.New(connect.CodeUnimplemented, "this server has no login yet; call it without one")
}
