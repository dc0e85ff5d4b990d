package chart

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"regexp"
	"strings"
	"sync"

	"helm.sh/helm/v3/pkg/action"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"biplane.dev/biplane/internal/usererr"
)

// cluster is one Kubernetes and the namespace of the data plane in it.
type cluster struct {
	namespace string
	server    string // for messages
	getter    genericclioptions.RESTClientGetter
	kube      kubernetes.Interface
	dynamic   dynamic.Interface
	helm      *action.Configuration
	tell      func(string)
}

func connect(t Target) (*cluster, error) {
	c := &cluster{namespace: cmp.Or(t.Namespace, DefaultNamespace), tell: t.Progress}
	log := t.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	c.getter = c.getterOf(t)
	config, err := c.getter.ToRESTConfig()
	if err != nil {
		return nil, usererr.New(usererr.Invalid, "no Kubernetes to install into: %v", err).
			WithHint("name its kubeconfig with --kubeconfig FILE, or in the variable KUBECONFIG").Because(err)
	}
	c.server = config.Host
	if c.kube, err = kubernetes.NewForConfig(config); err != nil {
		return nil, fmt.Errorf("making a client of %s: %w", c.server, err)
	}
	if c.dynamic, err = dynamic.NewForConfig(config); err != nil {
		return nil, fmt.Errorf("making a client of %s: %w", c.server, err)
	}
	c.helm = new(action.Configuration)
	debug := func(format string, args ...any) { log.Debug("helm", "says", fmt.Sprintf(format, args...)) }
	if err := c.helm.Init(c.getter, c.namespace, "secret", debug); err != nil {
		return nil, fmt.Errorf("setting up Helm: %w", err)
	}
	return c, nil
}

// getterOf is what Helm and kubectl make their clients by.
func (c *cluster) getterOf(t Target) genericclioptions.RESTClientGetter {
	const qps, burst = 50, 100 // the chart is some forty objects
	if t.Config != nil {
		config := rest.CopyConfig(t.Config)
		config.QPS, config.Burst = qps, burst
		return &given{config: config, namespace: c.namespace}
	}
	flags := genericclioptions.NewConfigFlags(true).
		WithWrapConfigFn(func(config *rest.Config) *rest.Config {
			config.QPS, config.Burst = qps, burst
			return config
		})
	flags.Namespace = &c.namespace
	if t.Kubeconfig != "" {
		flags.KubeConfig = &t.Kubeconfig
	}
	return flags
}

// given is a getter of what was handed in, with nothing on the disk.
type given struct {
	config    *rest.Config
	namespace string

	once      sync.Once
	discovery discovery.CachedDiscoveryInterface
	err       error
}

func (g *given) ToRESTConfig() (*rest.Config, error) { return rest.CopyConfig(g.config), nil }

func (g *given) ToDiscoveryClient() (discovery.CachedDiscoveryInterface, error) {
	g.once.Do(func() {
		var client *discovery.DiscoveryClient
		if client, g.err = discovery.NewDiscoveryClientForConfig(g.config); g.err == nil {
			g.discovery = memory.NewMemCacheClient(client)
		}
	})
	return g.discovery, g.err
}

func (g *given) ToRESTMapper() (meta.RESTMapper, error) {
	client, err := g.ToDiscoveryClient()
	if err != nil {
		return nil, err
	}
	return restmapper.NewDeferredDiscoveryRESTMapper(client), nil
}

func (g *given) ToRawKubeConfigLoader() clientcmd.ClientConfig {
	overrides := &clientcmd.ConfigOverrides{Context: api.Context{Namespace: g.namespace}}
	return clientcmd.NewDefaultClientConfig(*api.NewConfig(), overrides)
}

func (c *cluster) progress(line string) {
	if c.tell != nil {
		c.tell(line)
	}
}

// cannot makes a sentence of Kubernetes' no; nil for nil.
func (c *cluster) cannot(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled):
		return err
	case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
		return usererr.New(usererr.Denied, "the cluster does not let you %s: %s", what, said(err)).
			WithHint("an administrator of the cluster can install; see 'kubectl auth whoami'").Because(err)
	case isStatus(err):
		return usererr.New(usererr.Refused, "the cluster refused to %s: %s", what, said(err)).Because(err)
	}
	return usererr.New(usererr.Unavailable, "cannot %s: the cluster at %s does not answer: %s", what, c.server, said(err)).
		WithHint("see whether 'kubectl version' reaches it, or name another with --kubeconfig FILE").Because(err)
}

func isStatus(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status)
}

// said is what the API server or the network said, without what Helm and Kubernetes'
// client have put around it.
func said(err error) string {
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		return status.Status().Message
	}
	var network *url.Error
	if errors.As(err, &network) {
		return network.Err.Error()
	}
	return err.Error()
}

// notOurs is how Helm says, in its words alone, that an object is not of the release.
var notOurs = regexp.MustCompile(`(\w+) "([^"]+)" in namespace "([^"]*)" exists and cannot be imported into the current release`)

// refused makes a sentence of Helm's no. Helm wraps errors so that their types are
// gone in places, hence the look at its text.
func (c *cluster) refused(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return err
	}
	if found := notOurs.FindStringSubmatch(err.Error()); found != nil {
		sentence := usererr.New(usererr.Refused, "%s %s is there already, and is not of the release %s in namespace %s", found[1], found[2], ReleaseName, c.namespace).Because(err)
		if found[1] == "ServiceAccount" {
			return sentence.WithHint("with the value serviceAccounts.create: false the accounts that are there are used")
		}
		return sentence.WithHint("it may be of a data plane in another namespace, of which a cluster has one: see 'helm ls --all-namespaces'")
	}
	if found := tooOld.FindStringSubmatch(err.Error()); found != nil {
		return usererr.New(usererr.Refused, "the cluster has Kubernetes %s, and the chart needs %s", found[2], strings.TrimSuffix(found[1], "-0")).
			WithHint("upgrade the cluster, or name another with --kubeconfig FILE").Because(err)
	}
	var network *url.Error
	if !isStatus(err) && !errors.As(err, &network) {
		return usererr.New(usererr.Refused, "cannot install the chart: %v", err).Because(err)
	}
	return c.cannot("install the chart", err)
}

// tooOld is how Helm says that the chart is for newer clusters.
var tooOld = regexp.MustCompile(`chart requires kubeVersion: (\S+) which is incompatible with Kubernetes (\S+)`)
