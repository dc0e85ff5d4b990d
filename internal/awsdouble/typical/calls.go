package typical

import "time"

// calls are those that AWS does not do at once.
var calls = map[string]time.Duration{
	"eks:CreateCluster":             CreateCluster,
	"eks:DeleteCluster":             DeleteCluster,
	"eks:UpdateClusterVersion":      UpdateClusterVersion,
	"eks:UpdateClusterConfig":       UpdateClusterConfig,
	"eks:AssociateEncryptionConfig": AssociateEncryption,
	"eks:CreateNodegroup":           CreateNodegroup,
	"eks:DeleteNodegroup":           DeleteNodegroup,
	"eks:UpdateNodegroupVersion":    UpdateNodegroupVersion,
	"eks:UpdateNodegroupConfig":     UpdateNodegroupConfig,
	"eks:CreateAddon":               CreateAddon,
	"eks:UpdateAddon":               UpdateAddon,
	"eks:DeleteAddon":               DeleteAddon,

	"ec2:CreateNatGateway":                              CreateNATGateway,
	"ec2:DeleteNatGateway":                              DeleteNATGateway,
	"ec2:CreateVpcEndpoint":                             CreateInterfaceEndpoint,
	"ec2:DeleteVpcEndpoints":                            DeleteInterfaceEndpoint,
	"ec2:CreateVpcEndpointServiceConfiguration":         CreateEndpointService,
	"ec2:StartVpcEndpointServicePrivateDnsVerification": VerifyPrivateDNS,
	"ec2:AcceptVpcEndpointConnections":                  ConnectEndpoint,

	"elbv2:CreateLoadBalancer": CreateNetworkLoadBalancer,
	"elbv2:DeleteLoadBalancer": DeleteNetworkLoadBalancer,
	"ecs:CreateService":        StartTask,
	"ecs:DeleteService":        StopTask,
}

// Of is how long AWS takes until what a call asked for is there, or gone; 0 when it is
// at once. The call is named as in provision/operations: "eks:CreateCluster".
func Of(call string) time.Duration { return calls[call] }
