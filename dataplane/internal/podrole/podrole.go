// Package podrole is how a process of the data plane is its role in AWS: by the
// token that EKS, or a sandbox, mounts for its service account. It is not for
// task pods, whose own libraries do the same.
//
// Start with Credentials.
package podrole

import (
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"biplane.dev/biplane/dataplane/config"
)

// Credentials come from what environment names: a role and its token
// (AWS_ROLE_ARN, AWS_WEB_IDENTITY_TOKEN_FILE), as EKS gives them to a pod, or else
// a key. session is the name that the role's sessions have in the account's trail;
// cache says when they are renewed, if not at their end.
func Credentials(storage config.Storage, environment func(string) string, session string, cache ...func(*aws.CredentialsCacheOptions)) aws.CredentialsProvider {
	role, file := environment("AWS_ROLE_ARN"), environment("AWS_WEB_IDENTITY_TOKEN_FILE")
	if role == "" || file == "" {
		return credentials.NewStaticCredentialsProvider(
			environment("AWS_ACCESS_KEY_ID"), environment("AWS_SECRET_ACCESS_KEY"), environment("AWS_SESSION_TOKEN"))
	}
	client := sts.New(sts.Options{
		Region: storage.Region, BaseEndpoint: Endpoint(storage.STSEndpoint), Credentials: aws.AnonymousCredentials{},
	})
	return aws.NewCredentialsCache(stscreds.NewWebIdentityRoleProvider(client, role, stscreds.IdentityTokenFile(file),
		func(o *stscreds.WebIdentityRoleOptions) { o.RoleSessionName = session }), cache...)
}

// Endpoint is an address of the configuration as the SDK wants it: nil where it
// is empty, which is AWS's own.
func Endpoint(address string) *string {
	if address == "" {
		return nil
	}
	return &address
}
