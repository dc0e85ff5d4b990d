package template

import (
	"slices"

	"biplane.dev/biplane/provision/access"
	"biplane.dev/biplane/provision/access/announce"
)

// AnnounceURLParameter is where the stack says its role; empty, as by default, nowhere.
const AnnounceURLParameter = "AnnounceUrl"

// AnnouncedOutput is what came of it: "200 received", or why not.
const AnnouncedOutput = "Announced"

const (
	// announces is the condition of everything here.
	announces = "Announce"

	// announcing starts the ids of what is no part of a set: it grants nothing.
	announcing       = "Announce"
	announceRole     = announcing + "Role"
	announceFunction = announcing + "Function"
	announcement     = announcing + "ment"
)

// Seconds that the function has for its three tries, and that CloudFormation waits for
// it: an hour otherwise.
const (
	functionPatience = 90
	stackPatience    = 120
)

// announcer is what announces a stack: a function, its role, which may do nothing, and
// the resource that calls it, once every role is there. resources are those of the set.
func announcer(resources object, roles []string, profile access.ProfileName) object {
	provision := child(child(resources, ProvisionRole), "Properties")
	path, _ := get(provision, "Path")
	tags, _ := get(provision, "Tags")
	after := list{}
	for _, id := range roles {
		if id != ProvisionRole { // which is waited for by its ARN
			after = append(after, id)
		}
	}
	resource := func(kind string, properties object, more ...member) object {
		return slices.Concat(object{{Key: "Type", Value: kind}, {Key: "Condition", Value: announces}}, more, object{{Key: "Properties", Value: properties}})
	}
	sub := func(text string) object { return object{{Key: "Fn::Sub", Value: text}} }
	arn := func(id string) object { return object{{Key: "Fn::GetAtt", Value: list{id, "Arn"}}} }
	var dependsOn []member
	if len(after) > 0 {
		dependsOn = append(dependsOn, member{Key: "DependsOn", Value: after})
	}
	return object{
		{Key: announceRole, Value: resource("AWS::IAM::Role", object{
			{Key: "RoleName", Value: sub("${" + RoleNameParameter + "}" + announce.RoleSuffix)},
			{Key: "Path", Value: path},
			{Key: "Description", Value: "signs the announcement of the provision role's ARN, and may do nothing"},
			{Key: "AssumeRolePolicyDocument", Value: object{
				{Key: "Version", Value: "2012-10-17"},
				{Key: "Statement", Value: object{
					{Key: "Effect", Value: "Allow"}, {Key: "Principal", Value: object{{Key: "Service", Value: "lambda.amazonaws.com"}}}, {Key: "Action", Value: "sts:AssumeRole"},
				}},
			}},
			{Key: "Tags", Value: tags},
		})},
		{Key: announceFunction, Value: resource("AWS::Lambda::Function", object{
			{Key: "Description", Value: "Announces the provision role's ARN, when the stack is made or changed"},
			{Key: "Runtime", Value: "python3.13"},
			{Key: "Handler", Value: announce.Handler},
			{Key: "Timeout", Value: functionPatience},
			{Key: "Role", Value: arn(announceRole)},
			{Key: "Code", Value: object{{Key: "ZipFile", Value: announce.Function}}},
		})},
		{Key: announcement, Value: resource("Custom::BiplaneAnnouncement", object{
			{Key: "ServiceToken", Value: arn(announceFunction)},
			{Key: "ServiceTimeout", Value: stackPatience},
			{Key: "Url", Value: ref(AnnounceURLParameter)},
			{Key: "Sts", Value: sub("sts.${AWS::Region}.${AWS::URLSuffix}")},
			{Key: "RoleArn", Value: arn(ProvisionRole)},
			{Key: "ExternalId", Value: ref(ExternalIDParameter)},
			{Key: "Profile", Value: string(profile)},
			{Key: "PolicyVersion", Value: access.PolicyVersion},
		}, dependsOn...)},
	}
}
