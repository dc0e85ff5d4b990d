package identity

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	webhookName = "pod-identity-webhook" // as EKS calls it
	webhookPath = "/mutate"
	maxReview   = 8 << 20
	hookEvery   = time.Minute // to see whether somebody removed the registration
)

// webhook gives pods of annotated service accounts what EKS gives them.
type webhook struct {
	set      settings
	url      string
	caFile   string
	bundle   string // file
	client   kubernetes.Interface
	accounts corelisters.ServiceAccountLister
	bundles  corelisters.ConfigMapLister // those called bundleConfigMap
	follow   []informers.SharedInformerFactory
	log      *slog.Logger

	lock       sync.Mutex
	registered bool
	last       error
}

func newWebhook(cfg Config) (*webhook, error) {
	if cfg.Kubeconfig == "" {
		return &webhook{log: cfg.Log}, nil
	}
	config, err := clientcmd.BuildConfigFromFlags("", cfg.Kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig %s: %w", cfg.Kubeconfig, err)
	}
	config.QPS, config.Burst = 200, 400 // a namespace may get many pods at once
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("making a client of the API server: %w", err)
	}
	return webhookOn(client, cfg), nil
}

func webhookOn(client kubernetes.Interface, cfg Config) *webhook {
	accounts := informers.NewSharedInformerFactory(client, 0)
	bundles := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTweakListOptions(func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, bundleConfigMap).String()
	}))
	return &webhook{
		set: settings{region: cfg.Region, s3: cfg.S3Endpoint, sts: cfg.STSEndpoint, iam: cfg.IAMEndpoint},
		url: "https://" + cfg.WebhookAddress + webhookPath, caFile: cfg.CAFile, bundle: cfg.CABundleFile,
		client: client, log: cfg.Log,
		accounts: accounts.Core().V1().ServiceAccounts().Lister(), bundles: bundles.Core().V1().ConfigMaps().Lister(),
		follow: []informers.SharedInformerFactory{accounts, bundles},
	}
}

// missing says what there is to wait for.
func (h *webhook) missing() string {
	h.lock.Lock()
	defer h.lock.Unlock()
	switch {
	case h.client == nil || h.registered:
		return ""
	case h.last != nil:
		return "the webhook's registration: " + h.last.Error()
	}
	return "the webhook is not registered yet"
}

// keep registers the webhook, and again where somebody changed that.
func (h *webhook) keep(ctx context.Context) error {
	if h.client == nil {
		return nil
	}
	for _, factory := range h.follow {
		factory.Start(ctx.Done())
		defer factory.Shutdown()
	}
	for _, factory := range h.follow {
		factory.WaitForCacheSync(ctx.Done())
	}
	wait := 100 * time.Millisecond
	for ctx.Err() == nil {
		err := h.register(ctx)
		h.lock.Lock()
		h.registered, h.last = h.registered || err == nil, err
		h.lock.Unlock()
		next := hookEvery
		if err != nil && ctx.Err() == nil {
			h.log.Warn("the webhook was not registered", "error", err)
			next, wait = wait, min(2*wait, 5*time.Second)
		}
		select {
		case <-ctx.Done():
		case <-time.After(next):
		}
	}
	return nil
}

// register makes the registration what it should be. Where nobody answers, a
// pod is made without: as with EKS, a cluster goes on without its webhook.
func (h *webhook) register(ctx context.Context) error {
	ca, err := os.ReadFile(h.caFile)
	if err != nil {
		return fmt.Errorf("reading the CA: %w", err)
	}
	ignore, none, seconds := admissionregistrationv1.Ignore, admissionregistrationv1.SideEffectClassNoneOnDryRun, int32(5)
	again := admissionregistrationv1.IfNeededReinvocationPolicy
	wanted := []admissionregistrationv1.MutatingWebhook{{
		Name:         webhookName + ".amazonaws.com",
		ClientConfig: admissionregistrationv1.WebhookClientConfig{URL: &h.url, CABundle: ca},
		Rules: []admissionregistrationv1.RuleWithOperations{{
			Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
			Rule:       admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
		}},
		FailurePolicy: &ignore, SideEffects: &none, TimeoutSeconds: &seconds, ReinvocationPolicy: &again,
		AdmissionReviewVersions: []string{"v1"},
	}}
	all := h.client.AdmissionregistrationV1().MutatingWebhookConfigurations()
	have, err := all.Get(ctx, webhookName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		_, err = all.Create(ctx, &admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: webhookName}, Webhooks: wanted}, metav1.CreateOptions{})
		return err
	}
	if err != nil {
		return err
	}
	// What the API server filled in by default is not a difference.
	if len(have.Webhooks) == 1 {
		filled := wanted[0]
		filled.MatchPolicy, filled.NamespaceSelector, filled.ObjectSelector = have.Webhooks[0].MatchPolicy, have.Webhooks[0].NamespaceSelector, have.Webhooks[0].ObjectSelector
		filled.Rules = slices.Clone(filled.Rules)
		if len(have.Webhooks[0].Rules) == 1 {
			filled.Rules[0].Scope = have.Webhooks[0].Rules[0].Scope
		}
		if equality.Semantic.DeepEqual(have.Webhooks[0], filled) {
			return nil
		}
	}
	have.Webhooks = wanted
	_, err = all.Update(ctx, have, metav1.UpdateOptions{})
	return err
}

// ServeHTTP answers the API server. It never refuses a pod: what cannot be
// added is left out, and said in a warning that the person at kubectl sees.
func (h *webhook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var review admissionv1.AdmissionReview
	body, err := io.ReadAll(io.LimitReader(r.Body, maxReview))
	if err == nil {
		err = json.Unmarshal(body, &review)
	}
	if err != nil || review.Request == nil || h.client == nil {
		http.Error(w, "not an AdmissionReview of a pod", http.StatusBadRequest)
		return
	}
	answer := &admissionv1.AdmissionResponse{UID: review.Request.UID, Allowed: true}
	patches, err := h.review(r.Context(), review.Request)
	if err == nil && len(patches) > 0 {
		kind := admissionv1.PatchTypeJSONPatch
		answer.PatchType = &kind
		answer.Patch, err = json.Marshal(patches)
	}
	if err != nil {
		h.log.Error("a pod got no role", "namespace", review.Request.Namespace, "error", err)
		answer.Patch, answer.PatchType = nil, nil
		answer.Warnings = []string{"the pod has no AWS role, because its service account could not be read: " + err.Error()}
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(admissionv1.AdmissionReview{TypeMeta: review.TypeMeta, Response: answer})
}

func (h *webhook) review(ctx context.Context, request *admissionv1.AdmissionRequest) ([]patch, error) {
	if request.Resource.Resource != "pods" || request.SubResource != "" {
		return nil, nil
	}
	var pod v1.Pod
	if err := json.Unmarshal(request.Object.Raw, &pod); err != nil {
		return nil, fmt.Errorf("reading the pod: %w", err)
	}
	name := pod.Spec.ServiceAccountName
	if name == "" {
		name = "default"
	}
	account, err := h.account(ctx, request.Namespace, name)
	if err != nil {
		return nil, err
	}
	in, ok := injectionFor(account, &pod, &h.set)
	if !ok {
		return nil, nil
	}
	if request.DryRun == nil || !*request.DryRun {
		if err := h.publish(ctx, request.Namespace); err != nil {
			return nil, err
		}
	}
	return in.patches(&pod), nil
}

// account asks the API server where the one that was just made is not here yet.
func (h *webhook) account(ctx context.Context, namespace, name string) (*v1.ServiceAccount, error) {
	account, err := h.accounts.ServiceAccounts(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		account, err = h.client.CoreV1().ServiceAccounts(namespace).Get(ctx, name, metav1.GetOptions{})
	}
	return account, err
}

// publish puts the roots into the namespace, as its kube-root-ca.crt is there.
func (h *webhook) publish(ctx context.Context, namespace string) error {
	pem, err := os.ReadFile(h.bundle)
	if err != nil {
		return fmt.Errorf("reading the CA bundle: %w", err)
	}
	have, err := h.bundles.ConfigMaps(namespace).Get(bundleConfigMap)
	if err == nil && have.Data[bundleFile] == string(pem) {
		return nil
	}
	wanted := &v1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: bundleConfigMap, Namespace: namespace,
			Annotations: map[string]string{"kubernetes.io/description": "The roots that AWS's clients in pods trust: the machine's, and the sandbox's CA."}},
		Data: map[string]string{bundleFile: string(pem)},
	}
	all := h.client.CoreV1().ConfigMaps(namespace)
	if _, err = all.Create(ctx, wanted, metav1.CreateOptions{}); apierrors.IsAlreadyExists(err) {
		_, err = all.Update(ctx, wanted, metav1.UpdateOptions{})
	}
	if err != nil {
		return fmt.Errorf("writing the CA bundle into namespace %s: %w", namespace, err)
	}
	return nil
}
