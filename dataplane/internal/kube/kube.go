// Package kube is how a process of the data plane finds the cluster's API server,
// and which kinds it knows there. Start with Config and Scheme.
package kube

import (
	"fmt"
	"os"

	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"biplane.dev/biplane/dataplane/api/v1alpha1"
	"biplane.dev/biplane/internal/buildinfo"
	"biplane.dev/biplane/internal/usererr"
)

// Config is that of the process's service account, or where KUBECONFIG is set, for
// development and tests, of that file. part names the process in audit logs and as
// the manager of the fields that it writes.
func Config(part string) (*rest.Config, error) {
	var config *rest.Config
	var err error
	if file := os.Getenv("KUBECONFIG"); file != "" {
		config, err = clientcmd.BuildConfigFromFlags("", file)
	} else {
		config, err = rest.InClusterConfig()
	}
	if err != nil {
		return nil, usererr.New(usererr.Invalid, "there is no cluster to work in: %v", err).
			WithHint("run it in a pod with a service account, or set KUBECONFIG").Because(err)
	}
	config.UserAgent = fmt.Sprintf("biplane-%s/%s", part, buildinfo.Read().Version)
	// The API server's own fairness decides who waits. client-go's limit of 5 a second
	// for all that a process asks would only hide that.
	config.QPS = -1
	return config, nil
}

// Scheme has Kubernetes' kinds and ours.
func Scheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return nil, err
	}
	return scheme, v1alpha1.AddToScheme(scheme)
}
