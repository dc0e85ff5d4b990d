package dataplane

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/endpoint"
	"biplane.dev/biplane/provision/network"
	"biplane.dev/biplane/provision/plane"
	"biplane.dev/biplane/provision/resource"
	"biplane.dev/biplane/provision/roles"
	"biplane.dev/biplane/provision/runtime"
	"biplane.dev/biplane/provision/spec"
	"biplane.dev/biplane/provision/step"
)

// Exported is a data plane as a CloudFormation template.
type Exported struct {
	Template map[string]any
	// Left are the steps that CloudFormation does not do, with the reason.
	Left map[string]string
}

// leftOut are steps that have no form in CloudFormation.
var leftOut = map[string]string{
	"default security group": "the account's owner closes it: CloudFormation does not change what AWS made",
	runtime.StepName:         "it is in the cluster: 'biplane dataplane chart install' installs it",
	"service-linked roles":   "AWS makes them when their services are first used; 'aws iam create-service-linked-role' does so before",
}

// Export is the graph of the steps as a CloudFormation template, for people who must
// use a pipeline of their own: each step's things, in the order of their needs.
// Its errors are *usererr.Error.
func Export(p *plane.Plane) (*Exported, error) {
	if p.Spec.Access.Policy == spec.Compat {
		return nil, usererr.New(usererr.Invalid, "spec.access.policy is compat, whose grants say who makes what").
			WithHint("export the file with policy: strict: whoever deploys the template needs no grant of the vendor's")
	}
	steps, err := Steps(p)
	if err != nil {
		return nil, err
	}
	out := &Exported{Left: map[string]string{}}
	things, names := map[string]any{}, map[string][]string{} // names by step
	buckets, err := bucketTemplates(p)
	if err != nil {
		return nil, err
	}
	workloads, err := roleTemplates(p)
	if err != nil {
		return nil, err
	}
	maps.Copy(buckets, workloads)
	for _, s := range steps {
		var templates []resource.Template
		switch s := s.(type) {
		case *resource.Resource:
			if s.Templates != nil {
				templates = s.Templates()
			}
		default:
			templates = buckets[s.Name()]
		}
		if len(templates) == 0 {
			// What is not wanted has nothing to be made of.
			if r, ok := s.(*resource.Resource); ok && r.Component == endpoint.Component {
				out.Left["private endpoint"] = "it has a side in the vendor's account, and connections and a proof that no template can wait for; 'biplane private-endpoint apply' makes it"
			} else if why := leftOut[s.Name()]; why != "" {
				out.Left[s.Name()] = why
			} else if strings.HasPrefix(s.Name(), "access of ") {
				out.Left[s.Name()] = "EKS takes no role that is not there, and who removes data planes may not be granted; 'biplane dataplane apply' lets it in"
			} else if _, wanted := s.(*resource.Resource); wanted {
				return nil, fmt.Errorf("%s has no form in CloudFormation", s.Name())
			}
			continue
		}
		for _, t := range templates {
			names[s.Name()] = append(names[s.Name()], t.Name)
			thing := map[string]any{"Type": t.Type, "Properties": t.Properties}
			if t.Keeps {
				thing["DeletionPolicy"], thing["UpdateReplacePolicy"] = "Retain", "Retain"
			}
			things[t.Name] = thing
		}
	}
	for _, s := range steps {
		for _, name := range names[s.Name()] {
			thing := things[name].(map[string]any)
			if after := waitsFor(s, name, thing, things, names); len(after) > 0 {
				thing["DependsOn"] = after
			}
		}
	}
	out.Template = map[string]any{
		"AWSTemplateFormatVersion": "2010-09-09",
		"Description":              "Data plane " + p.Name + " in " + p.Place.Region,
		"Resources":                things,
		"Outputs": map[string]any{
			"ClusterEndpoint": map[string]any{"Value": resource.Attribute("cluster", "Endpoint")},
			"ClusterIssuer":   map[string]any{"Value": resource.Attribute("cluster", "OpenIdConnectIssuerUrl")},
		},
	}
	if n := p.Spec.Network.Create; n != nil && len(n.ZoneIDs) == 0 {
		out.Template["Parameters"] = map[string]any{network.ZonesParameter: map[string]any{"Type": "List<AWS::EC2::AvailabilityZone::Name>",
			"Description": fmt.Sprintf("%d zones of the region in which EKS puts control planes", n.Zones)}}
	}
	return out, nil
}

// waitsFor are the things of the steps that a step needs, but for those that CloudFormation
// waits for anyway, because they are referred to.
func waitsFor(s step.Step, name string, thing map[string]any, things map[string]any, names map[string][]string) []string {
	// What is referred to, and what that refers to.
	implied, todo := map[string]bool{}, referred(thing)
	for len(todo) > 0 {
		next := todo[0]
		todo = todo[1:]
		if !implied[next] && things[next] != nil {
			implied[next] = true
			todo = append(todo, referred(things[next])...)
		}
	}
	var after []string
	for _, need := range s.Needs() {
		for _, other := range names[need] {
			if !implied[other] && other != name && !slices.Contains(after, other) {
				after = append(after, other)
			}
		}
	}
	slices.Sort(after)
	return after
}

// referred are the things that a value refers to, by Ref, Fn::GetAtt and the variables
// of Fn::Sub.
func referred(v any) []string {
	var out []string
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			switch of := value.(type) {
			case string:
				if key == "Ref" {
					out = append(out, of)
				}
			case []any:
				if key == "Fn::GetAtt" {
					out = append(out, of[0].(string))
				}
			}
			out = append(out, referred(value)...)
		}
	case []any:
		for _, one := range v {
			out = append(out, referred(one)...)
		}
	}
	return out
}

// bucketTemplates are the buckets, by the names of their steps.
func bucketTemplates(p *plane.Plane) (map[string][]resource.Template, error) {
	set, err := Buckets(p)
	if err != nil {
		return nil, err
	}
	origins := p.Spec.Buckets.Origins
	if len(origins) == 0 {
		origins = []string{"*"}
	}
	out := map[string][]resource.Template{}
	for id, bucket := range map[string]string{"metadata": set.Metadata, "fast-registration": set.FastRegistration} {
		name := resource.LogicalName("bucket-" + id)
		arn := "arn:" + p.Place.Partition + ":s3:::" + bucket
		out["bucket "+bucket] = []resource.Template{
			{Name: name, Type: "AWS::S3::Bucket", Keeps: true, Properties: map[string]any{"BucketName": bucket,
				"PublicAccessBlockConfiguration": map[string]any{"BlockPublicAcls": true, "BlockPublicPolicy": true, "IgnorePublicAcls": true, "RestrictPublicBuckets": true},
				"OwnershipControls":              map[string]any{"Rules": []any{map[string]any{"ObjectOwnership": "BucketOwnerEnforced"}}},
				"BucketEncryption": map[string]any{"ServerSideEncryptionConfiguration": []any{map[string]any{"BucketKeyEnabled": true,
					"ServerSideEncryptionByDefault": map[string]any{"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": resource.Attribute("key", "Arn")}}}},
				"VersioningConfiguration": map[string]any{"Status": "Enabled"},
				"LifecycleConfiguration": map[string]any{"Rules": []any{map[string]any{"Id": "biplane", "Status": "Enabled",
					"AbortIncompleteMultipartUpload": map[string]any{"DaysAfterInitiation": 7}, "NoncurrentVersionExpiration": map[string]any{"NoncurrentDays": 30}}}},
				"CorsConfiguration": map[string]any{"CorsRules": []any{map[string]any{"Id": "biplane", "AllowedOrigins": origins, "AllowedMethods": []any{"GET", "HEAD", "PUT"},
					"AllowedHeaders": []any{"*"}, "ExposedHeaders": []any{"ETag"}, "MaxAge": 3600}}},
				"Tags": resource.TagList(p.Owner.Tags("storage", id))}},
			// Here it is the account's owner who writes it.
			{Name: name + "Policy", Type: "AWS::S3::BucketPolicy", Properties: map[string]any{"Bucket": map[string]any{"Ref": name}, "PolicyDocument": map[string]any{"Version": "2012-10-17",
				"Statement": []any{map[string]any{"Sid": "TLSOnly", "Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": []any{arn, arn + "/*"},
					"Condition": map[string]any{"Bool": map[string]any{"aws:SecureTransport": "false"}}}}}}},
		}
	}
	return out, nil
}

// roleTemplates are the identity providers and the roles of the service accounts, by the
// names of their steps. What is known once there is a cluster CloudFormation fills in: a
// key of a condition cannot be a function, so the documents are texts.
func roleTemplates(p *plane.Plane) (map[string][]resource.Template, error) {
	set, err := Roles(p)
	if err != nil {
		return nil, err
	}
	steps := roles.Steps(p.AWS.IAM, set)
	out := map[string][]resource.Template{}
	tags := func(id string) []any { return resource.TagList(p.Owner.Tags("roles", id)) }
	for i, issuer := range set.Providers {
		if i == 0 {
			out[providerName] = []resource.Template{{Name: "IdentityProvider", Type: "AWS::IAM::OIDCProvider", Properties: map[string]any{
				"Url": resource.Attribute("cluster", "OpenIdConnectIssuerUrl"), "ClientIdList": []any{"sts.amazonaws.com"}, "Tags": tags("oidc-provider")}}}
			continue
		}
		out[steps[i].Name()] = []resource.Template{{Name: "ControlPlaneIdentityProvider", Type: "AWS::IAM::OIDCProvider", Properties: map[string]any{
			"Url": "https://" + issuer, "ClientIdList": []any{"sts.amazonaws.com"}, "Tags": tags("oidc-provider")}}}
	}
	known := strings.NewReplacer(set.Providers[0], "${Issuer}", p.ARN("kms", "key/"+NotYet), "${KeyARN}")
	fill := func(document json.RawMessage) any {
		text := known.Replace(regexp.MustCompile(`\$\{`).ReplaceAllString(string(document), "$${!"))
		variables := map[string]any{}
		if strings.Contains(text, "${Issuer}") {
			variables["Issuer"] = map[string]any{"Fn::Select": []any{1, map[string]any{"Fn::Split": []any{"//", resource.Attribute("cluster", "OpenIdConnectIssuerUrl")}}}}
		}
		if strings.Contains(text, "${KeyARN}") {
			variables["KeyARN"] = resource.Attribute("key", "Arn")
		}
		if len(variables) == 0 {
			return resource.JSON(string(document))
		}
		return map[string]any{"Fn::Sub": []any{text, variables}}
	}
	for _, r := range set.Roles {
		properties := map[string]any{"RoleName": r.Name, "Path": r.Path, "Description": r.Purpose, "MaxSessionDuration": 3600, "AssumeRolePolicyDocument": fill(r.Trust),
			"Policies": []any{map[string]any{"PolicyName": roles.PolicyName, "PolicyDocument": fill(r.Policy)}}, "Tags": tags(set.LogicalID(r))}
		if r.Boundary != "" {
			properties["PermissionsBoundary"] = r.Boundary
		}
		out["role "+r.Name] = []resource.Template{{Name: resource.LogicalName("workload-" + set.LogicalID(r)), Type: "AWS::IAM::Role", Properties: properties}}
	}
	return out, nil
}
