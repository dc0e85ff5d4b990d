package operations

// Template is a resource's ARN, as a pattern and as an example at once.
// ${Partition}, ${Region} and the like are names that Names knows. What stands
// in {braces} is free: a pattern has * for it, an example has it as it is.
type Template string

// everything is for actions that know no resource.
const everything Template = "*"

// What is in the customer's network, and EC2's other things.
const (
	ec2 = "arn:${Partition}:ec2:${Region}:${Account}:"

	vpc               Template = ec2 + "vpc/{vpc-0a1}"
	subnet            Template = ec2 + "subnet/{subnet-0a1}"
	internetGateway   Template = ec2 + "internet-gateway/{igw-0a1}"
	natGateway        Template = ec2 + "natgateway/{nat-0a1}"
	elasticIP         Template = ec2 + "elastic-ip/{eipalloc-0a1}"
	routeTable        Template = ec2 + "route-table/{rtb-0a1}"
	securityGroup     Template = ec2 + "security-group/{sg-0a1}"
	securityGroupRule Template = ec2 + "security-group-rule/{sgr-0a1}"
	networkACL        Template = ec2 + "network-acl/{acl-0a1}"
	dhcpOptions       Template = ec2 + "dhcp-options/{dopt-0a1}"
	networkInterface  Template = ec2 + "network-interface/{eni-0a1}"
	flowLog           Template = ec2 + "vpc-flow-log/{fl-0a1}"
	vpcEndpoint       Template = ec2 + "vpc-endpoint/{vpce-0a1}"
	endpointService   Template = ec2 + "vpc-endpoint-service/{vpce-svc-0a1}"
	instance          Template = ec2 + "instance/{i-0a1}"
	volume            Template = ec2 + "volume/{vol-0a1}"
	launchTemplate    Template = ec2 + "launch-template/{lt-0a1}"

	image      Template = "arn:${Partition}:ec2:${Region}::image/{ami-0a1}" // images have no account
	hostedZone Template = "arn:${Partition}:route53:::hostedzone/{Z1}"
)

// What IAM holds. Made roles and policies are those that the vendor makes for
// the cluster and its workloads; access roles are those that let the vendor in.
const (
	iam = "arn:${Partition}:iam::${Account}:"

	accessRole       Template = iam + "role${AccessPath}${RoleName}{}"
	accessPolicy     Template = iam + "policy${AnyPolicy}{acme-x}"
	madeRole         Template = iam + "role${Made}{acme-x}"
	madePolicy       Template = iam + "policy${Policy}{acme-x}"
	instanceProfile  Template = iam + "instance-profile${Made}{acme-x}"
	oidcProvider     Template = iam + "oidc-provider/oidc.eks.${Region}.${DNSSuffix}/id/{ABC}"
	eksLinkedRole    Template = iam + "role/aws-service-role/{eks.amazonaws.com/AWSServiceRoleForAmazonEKS}"
	ecsLinkedRole    Template = iam + "role/aws-service-role/{ecs.amazonaws.com/AWSServiceRoleForECS}"
	ecsTaskRole      Template = iam + "role/${Endpoint}${Region}-ecs-task-role"
	ecsExecutionRole Template = iam + "role/${Endpoint}${Region}-ecs-execution-role"
	workloadRole     Template = iam + "role${AccessPath}${AdminRole}"
)

// The cluster. EKS makes the scaling groups of node groups and names them itself.
const (
	eks = "arn:${Partition}:eks:${Region}:${Account}:"

	eksCluster         Template = eks + "cluster/${Cluster}{acme}"
	nodeGroup          Template = eks + "nodegroup/${Cluster}{acme}/{${Cluster}acme-default}/{1-2-3}"
	addon              Template = eks + "addon/${Cluster}{acme}/{vpc-cni}/{1-2-3}"
	accessEntry        Template = eks + "access-entry/${Cluster}{acme}/role/${Account}/{x}/{1-2}"
	podIdentity        Template = eks + "podidentityassociation/${Cluster}{acme}/{a-1}"
	nodeImageParameter Template = "arn:${Partition}:ssm:${Region}::parameter/aws/service/eks/optimized-ami/{1.33/x}" // AWS's own
	scalingGroup       Template = "arn:${Partition}:autoscaling:${Region}:${Account}:autoScalingGroup:{1-2}:autoScalingGroupName/{${Cluster}acme}"
	queue              Template = "arn:${Partition}:sqs:${Region}:${Account}:${Queue}{-${Cluster}acme}"
	rule               Template = "arn:${Partition}:events:${Region}:${Account}:rule/${Queue}{-${Cluster}acme-spot}"
	anyRule            Template = "arn:${Partition}:events:${Region}:${Account}:rule/{*}"
)

// What holds data, or records what happens. A log group's ARN has a colon and
// more behind it for some actions and not for others; one pattern fits both.
const (
	logs = "arn:${Partition}:logs:${Region}:${Account}:log-group:"
	kms  = "arn:${Partition}:kms:${Region}:${Account}:"

	key             Template = kms + "key/{1-2}"
	keyAlias        Template = kms + "alias/${Cluster}{acme}"
	bucket          Template = "arn:${Partition}:s3:::${Prefix}{acme-metadata}"
	bucketObject    Template = "arn:${Partition}:s3:::${Prefix}{acme-metadata}/{run/output.pb}"
	repository      Template = "arn:${Partition}:ecr:${Region}:${Account}:repository/${Repository}{acme}"
	clusterLogs     Template = logs + "/aws/eks/${Cluster}{acme/cluster:log-stream:}"
	clusterLogGroup Template = logs + "/aws/eks/${Cluster}{acme/cluster}"
	flowLogs        Template = logs + "${Cluster}{acme-vpc-flow-1:log-stream:}"
	flowLogGroup    Template = logs + "${Cluster}{acme-vpc-flow-1}"
	proxyLogs       Template = logs + "${ProxyLogs}{acme:log-stream:}"
	proxyLogStream  Template = logs + "${ProxyLogs}{acme:log-stream:x}"
	proxyLogGroup   Template = logs + "${ProxyLogs}{acme}"

	// DescribeLogGroups knows no resource, yet IAM is asked about this one.
	anyLogGroup Template = "{" + logs + ":log-stream:}"
)

// The private endpoint.
const (
	ecs = "arn:${Partition}:ecs:${Region}:${Account}:"
	elb = "arn:${Partition}:elasticloadbalancing:${Region}:${Account}:"

	ecsCluster          Template = ecs + "cluster/${Endpoint}{acme}"
	ecsService          Template = ecs + "service/${Endpoint}{acme}/{proxy}"
	ecsTask             Template = ecs + "task/${Endpoint}{acme}/{abc}"
	taskDefinition      Template = ecs + "task-definition/${Endpoint}{acme}:{1}"
	loadBalancer        Template = elb + "loadbalancer/net/${Endpoint}{acme}/{50dc}"
	listener            Template = elb + "listener/net/${Endpoint}{acme}/{50dc}/{0467}"
	targetGroup         Template = elb + "targetgroup/${Endpoint}{acme}/{73e2}"
	clusterLoadBalancer Template = elb + "loadbalancer/net/k8s-{${Namespace}-proxy}/{50dc}"
	session             Template = "arn:${Partition}:ssm:${Region}:${Account}:session/{x}"
	certificate         Template = "arn:${Partition}:acm:${Region}:${Account}:certificate/{1-2}"
	anyCertificate      Template = "arn:${Partition}:acm:${Region}:${Account}:certificate/{*}"
)

// What is not made here: the stack is the customer's, the rest is of former tools.
const (
	stack Template = "arn:${Partition}:cloudformation:${Region}:${Account}:stack/${Stack}/{*}"
	// Where a template is while CloudFormation reads it; the name is out of the vendor's reach.
	templates       Template = "arn:${Partition}:s3:::biplane-access-template-${Account}-${Region}"
	templateObject  Template = "arn:${Partition}:s3:::biplane-access-template-${Account}-${Region}/{x}"
	databaseSubnets Template = "arn:${Partition}:rds:${Region}:${Account}:subgrp:${Cluster}{acme}"
	cacheSubnets    Template = "arn:${Partition}:elasticache:${Region}:${Account}:subnetgroup:${Cluster}{acme}"
	table           Template = "arn:${Partition}:dynamodb:${Region}:${Account}:table/${Cluster}{tf-state}"
)
