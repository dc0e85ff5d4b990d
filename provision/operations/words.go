package operations

import (
	"slices"
	"strings"
)

// Grant is one right that a call needs: the actions, on each of the resources,
// when all the conditions hold. The conditions are strict's; the published
// grants have none.
type Grant struct {
	Actions   []string
	Resources []Template
	When      []Condition
}

// Condition is one element of a statement's Condition. Values are templates of
// Names.
type Condition struct {
	Operator string
	Key      string
	Values   []string
}

// op is a row whose call is made.
func op(call string, by Roles, purpose string, needs ...Grant) Operation {
	return Operation{Call: call, Roles: by, Purpose: purpose, Grants: named(call, needs)}
}

// omitted is a row whose call strict does without, and why.
func omitted(call, purpose, because string, needs ...Grant) Operation {
	return Operation{Call: call, Purpose: purpose, Omitted: because, Grants: named(call, needs)}
}

// strictly is op, of a call that the published way does without.
func strictly(call string, by Roles, purpose string, needs ...Grant) Operation {
	row := op(call, by, purpose, needs...)
	row.StrictOnly = true
	return row
}

// in puts rows in a phase.
func in(phase Phase, rows ...Operation) []Operation {
	for i := range rows {
		rows[i].Phase = phase
	}
	return rows
}

// named fills in the actions of grants that name none: the call's own.
func named(call string, needs []Grant) []Grant {
	service, operation, _ := strings.Cut(Name(call), ":")
	switch service {
	case "elbv2":
		service = "elasticloadbalancing"
	case "service-quotas":
		service = "servicequotas"
	case "resourcegroupstaggingapi":
		service = "tag"
	}
	for i := range needs {
		if needs[i].Actions == nil {
			needs[i].Actions = []string{service + ":" + operation}
		}
	}
	return needs
}

// Name is the call without what is in brackets.
func Name(call string) string {
	name, _, _ := strings.Cut(call, "(")
	return name
}

// on is the call's own right on resources.
func on(resources ...Template) Grant { return Grant{Resources: resources} }

// allow is a right of another name than the call's; say where with on.
func allow(actions ...string) Grant { return Grant{Actions: actions} }

func (g Grant) on(resources ...Template) Grant { g.Resources = resources; return g }

func (g Grant) when(operator, key string, values ...string) Grant {
	g.When = append(slices.Clip(g.When), Condition{operator, key, values})
	return g
}

// created demands the ownership tag in the request that makes the thing.
func (g Grant) created() Grant {
	return g.when("StringEquals", "aws:RequestTag/${Owner}", "${OwnerValue}")
}

// owned demands the ownership tag on the thing.
func (g Grant) owned() Grant {
	return g.when("StringEquals", "aws:ResourceTag/${Owner}", "${OwnerValue}")
}

// ofCluster demands the tag by which EKS or a controller in the cluster marks
// what it made, with the name of one of our clusters in it.
func (g Grant) ofCluster(key string) Grant {
	return g.when("StringLike", "aws:ResourceTag/"+key, "${Prefix}*")
}

// tagging allows tags only in the call that makes the thing, so that nothing of
// the customer's can be tagged as ours and then be managed.
func (g Grant) tagging(call string) Grant { return g.when("StringEquals", "ec2:CreateAction", call) }

// namedTags refuses a call that names no tag, which would drop them all.
func (g Grant) namedTags() Grant { return g.when("Null", "aws:TagKeys", "false") }

// unnamed demands a key without an alias, as a key is when it is made. KMS has
// no CreateAction; without this, a key of the customer's could be tagged as ours.
func (g Grant) unnamed() Grant { return g.when("Null", "kms:ResourceAliases", "true") }

// forService demands that an AWS service asks, for a thing that it runs for us.
func (g Grant) forService() Grant { return g.when("Bool", "kms:GrantIsForAWSResource", "true") }

// fromTemplate demands that an instance starts from a launch template; the
// template itself must be ours.
func (g Grant) fromTemplate() Grant {
	return g.when("ArnLike", "ec2:LaunchTemplate", "arn:${Partition}:ec2:${Region}:${Account}:launch-template/*")
}

// bounded demands the boundary on the role.
func (g Grant) bounded() Grant {
	return g.when("StringEquals", "iam:PermissionsBoundary", "${Boundary}")
}

// ofMadeRole demands that the entry is for a role under our path.
func (g Grant) ofMadeRole() Grant {
	return g.when("ArnLike", "eks:principalArn", "arn:${Partition}:iam::${Account}:role${Path}*")
}

// listed allows the policies that a role made by the vendor may carry: AWS's own
// for cluster, nodes and drivers, and those that the vendor makes.
func (g Grant) listed() Grant {
	values := []string{"arn:${Partition}:iam::${Account}:policy${Policy}*"}
	for _, name := range AttachablePolicies() {
		values = append(values, "arn:${Partition}:iam::aws:policy/"+name)
	}
	return g.when("ArnLike", "iam:PolicyARN", values...)
}

// AttachablePolicies are AWS's own policies, with their path, that a role made by
// the vendor may carry. The boundary caps them.
func AttachablePolicies() []string {
	return []string{
		"AmazonEKSClusterPolicy",             // the cluster's role
		"AmazonEKSWorkerNodePolicy",          // the nodes' role
		"AmazonEKS_CNI_Policy",               // the nodes' role: addresses for pods
		"AmazonEC2ContainerRegistryReadOnly", // the nodes' role: images
		"AmazonEC2ContainerRegistryPullOnly", // the same, narrower
		"AmazonSSMManagedInstanceCore",       // the nodes' role: sessions
		"service-role/AmazonEBSCSIDriverPolicy",
	}
}

// passedTo demands that a role is handed to one of these services.
func (g Grant) passedTo(services ...string) Grant {
	return g.when("StringEquals", "iam:PassedToService", principals(services)...)
}

// linked demands that a service-linked role is for one of these services. They
// have the same name in every partition.
func (g Grant) linked(services ...string) Grant {
	var values []string
	for _, service := range services {
		values = append(values, service+".amazonaws.com")
	}
	return g.when("StringEquals", "iam:AWSServiceName", values...)
}

// principals are the services' names; in China some end in .cn and some do not,
// so both are accepted there.
func principals(services []string) []string {
	var values []string
	for _, service := range services {
		values = append(values, service+".${ServiceSuffix}")
	}
	return values
}

// fromSources demands that a rule watches for what these services say, and not
// for all that happens in the account.
func (g Grant) fromSources(sources ...string) Grant {
	return g.when("StringEquals", "events:source", sources...)
}

// ownSession demands that the session to end is the caller's own.
func (g Grant) ownSession() Grant {
	return g.when("StringLike", "ssm:resourceTag/aws:ssmmessages:session-id", "${aws:userid}")
}
