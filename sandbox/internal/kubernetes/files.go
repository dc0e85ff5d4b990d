package kubernetes

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiserver "k8s.io/apiserver/pkg/apis/apiserver/v1"
	audit "k8s.io/apiserver/pkg/apis/audit/v1"
	clientcmd "k8s.io/client-go/tools/clientcmd/api/v1"
	"sigs.k8s.io/yaml"

	"biplane.dev/biplane/internal/sandbox"
	"biplane.dev/biplane/sandbox/internal/pki"
)

// files is what the control plane reads, by path.
type files struct {
	apiServer, controllerManager, scheduler pki.Pair
	kubeletClient, frontProxy               pki.Pair
	serviceAccountKey, serviceAccountPublic string
	encryption, authentication, audit       string
	tokens                                  string
	admin                                   string // kubeconfigs from here on
	controllerManagerConfig                 string
	schedulerConfig                         string
}

// write makes all of them.
func (c Config) write() (f files, err error) {
	var first error
	note := func(err error) {
		if first == nil {
			first = err
		}
	}
	pair := func(name string, subject pki.Subject) pki.Pair {
		pair, err := c.PKI.Pair(name, subject)
		note(err)
		return pair
	}
	local := pki.Subject{IPs: []string{"127.0.0.1", "::1"}, Names: []string{"localhost"}}
	serving := func(user string) pki.Subject {
		s := local
		s.User = user
		return s
	}
	api := serving("kube-apiserver")
	api.IPs = append(api.IPs[:2:2], firstAddress(c.Services))
	if c.Advertise != "" {
		api.IPs = append(api.IPs, c.Advertise)
	}
	api.Names = append(api.Names[:1:1], "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")

	f.apiServer = pair("kube-apiserver", api)
	f.controllerManager = pair("kube-controller-manager", serving("system:kube-controller-manager"))
	f.scheduler = pair("kube-scheduler", serving("system:kube-scheduler"))
	f.kubeletClient = pair("kubelet-client", pki.Subject{User: "kube-apiserver-kubelet-client", Groups: []string{"system:masters"}})
	f.frontProxy = pair("front-proxy-client", pki.Subject{User: "front-proxy-client"})
	admin := pair("admin", pki.Subject{User: "kubernetes-admin", Groups: []string{"system:masters"}})
	f.serviceAccountKey, f.serviceAccountPublic, err = c.PKI.ServiceAccountKey()
	note(err)
	f.encryption, err = c.PKI.EncryptionConfig()
	note(err)
	if first != nil {
		return f, first
	}

	context := "biplane-sandbox-" + c.Folder.Name()
	f.admin = c.Folder.Kubeconfig()
	f.controllerManagerConfig = c.PKI.Path("kube-controller-manager.kubeconfig")
	f.schedulerConfig = c.PKI.Path("kube-scheduler.kubeconfig")
	note(c.PKI.Kubeconfig(f.admin, context, c.Server(), admin))
	note(c.PKI.Kubeconfig(f.controllerManagerConfig, context, c.Server(), f.controllerManager))
	note(c.PKI.Kubeconfig(f.schedulerConfig, context, c.Server(), f.scheduler))
	f.authentication, err = c.writeYAML("authentication.yaml", authentication())
	note(err)
	f.audit, err = c.writeYAML("audit.yaml", auditPolicy())
	note(err)
	f.tokens, err = c.writeYAML("tokens.yaml", c.tokenWebhook())
	note(err)
	return f, first
}

// authentication lets nobody in without a certificate or a token, except where
// that is of use before one has either: health, and what verifies tokens.
func authentication() apiserver.AuthenticationConfiguration {
	anonymous := &apiserver.AnonymousAuthConfig{Enabled: true}
	for _, path := range []string{"/healthz", "/livez", "/readyz", "/.well-known/openid-configuration", "/openid/v1/jwks"} {
		anonymous.Conditions = append(anonymous.Conditions, apiserver.AnonymousAuthCondition{Path: path})
	}
	return apiserver.AuthenticationConfiguration{
		TypeMeta:  metav1.TypeMeta{APIVersion: apiserver.SchemeGroupVersion.String(), Kind: "AuthenticationConfiguration"},
		Anonymous: anonymous,
	}
}

// tokenWebhook is a kubeconfig, in which the API server is the client.
func (c Config) tokenWebhook() clientcmd.Config {
	const name = "tokens"
	return clientcmd.Config{
		APIVersion: clientcmd.SchemeGroupVersion.String(), Kind: "Config", CurrentContext: name,
		Clusters:  []clientcmd.NamedCluster{{Name: name, Cluster: clientcmd.Cluster{Server: c.Tokens, CertificateAuthority: c.PKI.CA()}}},
		AuthInfos: []clientcmd.NamedAuthInfo{{Name: name}},
		Contexts:  []clientcmd.NamedContext{{Name: name, Context: clientcmd.Context{Cluster: name, AuthInfo: name}}},
	}
}

// auditPolicy says who asked for what, and never what a secret or a token is.
func auditPolicy() audit.Policy {
	return audit.Policy{
		TypeMeta:   metav1.TypeMeta{APIVersion: audit.SchemeGroupVersion.String(), Kind: "Policy"},
		OmitStages: []audit.Stage{audit.StageRequestReceived},
		Rules: []audit.PolicyRule{
			{Level: audit.LevelNone, NonResourceURLs: []string{"/healthz*", "/livez*", "/readyz*", "/version", "/openapi/*"}},
			{Level: audit.LevelNone, Resources: []audit.GroupResources{{Group: "coordination.k8s.io", Resources: []string{"leases"}}, {Resources: []string{"events"}}, {Group: "events.k8s.io", Resources: []string{"events"}}}},
			{Level: audit.LevelMetadata},
		},
	}
}

func (c Config) writeYAML(name string, object any) (string, error) {
	path := c.PKI.Path(name)
	content, err := yaml.Marshal(object)
	if err != nil {
		return "", fmt.Errorf("encoding %s: %w", name, err)
	}
	return path, sandbox.WriteFile(path, content, 0o600)
}
