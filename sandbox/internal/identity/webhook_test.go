package identity

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	admissionv1 "k8s.io/api/admission/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
)

const testRole = "arn:aws:iam::123456789012:role/executor"

// admit puts a pod through the webhook, as the API server would.
func admit(t *testing.T, h *webhook, pod *v1.Pod) *v1.Pod {
	t.Helper()
	raw, err := json.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	review, err := json.Marshal(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{UID: "1", Namespace: "union", Operation: admissionv1.Create,
			Resource: metav1.GroupVersionResource{Version: "v1", Resource: "pods"}, Object: runtime.RawExtension{Raw: raw}},
	})
	if err != nil {
		t.Fatal(err)
	}
	recorder := httptest.NewRecorder()
	h.ServeHTTP(recorder, httptest.NewRequest(http.MethodPost, webhookPath, bytes.NewReader(review)))
	var said admissionv1.AdmissionReview
	if err := json.Unmarshal(recorder.Body.Bytes(), &said); err != nil {
		t.Fatalf("got %d %s: %v", recorder.Code, recorder.Body, err)
	}
	if said.Response.UID != "1" || !said.Response.Allowed || len(said.Response.Warnings) > 0 {
		t.Fatalf("got %+v, want the pod allowed without a warning", said.Response)
	}
	if said.Response.Patch == nil {
		return pod
	}
	patches, err := jsonpatch.DecodePatch(said.Response.Patch)
	if err != nil {
		t.Fatal(err)
	}
	patched, err := patches.Apply(raw)
	if err != nil {
		t.Fatal(err)
	}
	out := &v1.Pod{}
	if err := json.Unmarshal(patched, out); err != nil {
		t.Fatal(err)
	}
	return out
}

func testWebhook(t *testing.T, annotations map[string]string) (*webhook, *fake.Clientset) {
	t.Helper()
	bundle := filepath.Join(t.TempDir(), "roots")
	if err := os.WriteFile(bundle, []byte("the roots"), 0o600); err != nil {
		t.Fatal(err)
	}
	client := fake.NewClientset(&v1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "union", Name: "executor", Annotations: annotations}})
	h := webhookOn(client, Config{
		Region: "eu-central-1", S3Endpoint: "https://127.0.0.1:1", STSEndpoint: "https://127.0.0.1:2", IAMEndpoint: "https://127.0.0.1:3",
		WebhookAddress: "127.0.0.1:4", CAFile: bundle, CABundleFile: bundle, Log: slog.New(slog.DiscardHandler),
	})
	return h, client
}

func testPod(change func(*v1.Pod)) *v1.Pod {
	pod := &v1.Pod{Spec: v1.PodSpec{
		ServiceAccountName: "executor",
		InitContainers:     []v1.Container{{Name: "init"}},
		Containers:         []v1.Container{{Name: "main", Env: []v1.EnvVar{{Name: "MINE", Value: "1"}}}, {Name: "side"}},
		Volumes:            []v1.Volume{{Name: "data"}},
	}}
	if change != nil {
		change(pod)
	}
	return pod
}

func env(c v1.Container) string {
	var out []string
	for _, e := range c.Env {
		out = append(out, e.Name+"="+e.Value)
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

const fullEnvironment = `AWS_CA_BUNDLE=/var/run/secrets/eks.amazonaws.com/serviceaccount/ca-bundle.crt
AWS_DEFAULT_REGION=eu-central-1
AWS_ENDPOINT_URL_IAM=https://127.0.0.1:3
AWS_ENDPOINT_URL_S3=https://127.0.0.1:1
AWS_ENDPOINT_URL_STS=https://127.0.0.1:2
AWS_REGION=eu-central-1
AWS_ROLE_ARN=arn:aws:iam::123456789012:role/executor
AWS_STS_REGIONAL_ENDPOINTS=regional
AWS_WEB_IDENTITY_TOKEN_FILE=/var/run/secrets/eks.amazonaws.com/serviceaccount/token
REQUESTS_CA_BUNDLE=/var/run/secrets/eks.amazonaws.com/serviceaccount/ca-bundle.crt
SSL_CERT_FILE=/var/run/secrets/eks.amazonaws.com/serviceaccount/ca-bundle.crt`

func TestPodsOfAnAnnotatedAccount(t *testing.T) {
	t.Parallel()
	h, client := testWebhook(t, map[string]string{roleAnnotation: testRole})
	pod := admit(t, h, testPod(nil))
	for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers[1:]) {
		if got := env(c); got != fullEnvironment {
			t.Errorf("%s: got\n%s\nwant\n%s", c.Name, got, fullEnvironment)
		}
	}
	if got := env(pod.Spec.Containers[0]); got != strings.Replace(fullEnvironment, "REQUESTS", "MINE=1\nREQUESTS", 1) {
		t.Errorf("main: got\n%s\nwant its own variable too", got)
	}
	for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		if len(c.VolumeMounts) != 1 || c.VolumeMounts[0].MountPath != tokenFolder || !c.VolumeMounts[0].ReadOnly {
			t.Errorf("%s: got mounts %+v, want the token's, read-only", c.Name, c.VolumeMounts)
		}
	}
	if len(pod.Spec.Volumes) != 2 || pod.Spec.Volumes[1].Name != "aws-iam-token" {
		t.Fatalf("got volumes %+v, want the pod's own and aws-iam-token", pod.Spec.Volumes)
	}
	token := pod.Spec.Volumes[1].Projected.Sources[0].ServiceAccountToken
	if token.Audience != "sts.amazonaws.com" || *token.ExpirationSeconds != 86400 || token.Path != "token" {
		t.Errorf("got %+v, want a token for sts.amazonaws.com of a day", token)
	}
	made, err := client.CoreV1().ConfigMaps("union").Get(t.Context(), bundleConfigMap, metav1.GetOptions{})
	if err != nil || made.Data[bundleFile] != "the roots" {
		t.Errorf("got %v (%v), want the roots in the namespace", made, err)
	}
	again := admit(t, h, pod)
	if fmt.Sprint(again.Spec) != fmt.Sprint(pod.Spec) {
		t.Errorf("got another pod when asked again:\n%v\nwant\n%v", again.Spec, pod.Spec)
	}
}

func TestInjection(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name        string
		annotations map[string]string
		pod         func(*v1.Pod)
		check       func(*v1.Pod) (got, want string)
	}{
		{"leaves pods of other accounts alone", nil, nil, func(p *v1.Pod) (string, string) {
			return fmt.Sprint(len(p.Spec.Volumes), len(p.Spec.Containers[1].Env)), "1 0"
		}},
		{"asks for another audience", map[string]string{audienceAnnotation: "vault"}, nil, func(p *v1.Pod) (string, string) {
			return p.Spec.Volumes[1].Projected.Sources[0].ServiceAccountToken.Audience, "vault"
		}},
		{"asks for another lifetime", map[string]string{lifetimeAnnotation: "3600"}, nil, func(p *v1.Pod) (string, string) {
			return fmt.Sprint(*p.Spec.Volumes[1].Projected.Sources[0].ServiceAccountToken.ExpirationSeconds), "3600"
		}},
		{"takes the pod's lifetime before the account's", map[string]string{lifetimeAnnotation: "3600"}, func(p *v1.Pod) { p.Annotations = map[string]string{lifetimeAnnotation: "7200"} }, func(p *v1.Pod) (string, string) {
			return fmt.Sprint(*p.Spec.Volumes[1].Projected.Sources[0].ServiceAccountToken.ExpirationSeconds), "7200"
		}},
		{"asks for ten minutes at least", map[string]string{lifetimeAnnotation: "5"}, nil, func(p *v1.Pod) (string, string) {
			return fmt.Sprint(*p.Spec.Volumes[1].Projected.Sources[0].ServiceAccountToken.ExpirationSeconds), "600"
		}},
		{"says legacy where the account does", map[string]string{regionalAnnotation: "false"}, nil, func(p *v1.Pod) (string, string) {
			return strings.Split(env(p.Spec.Containers[1]), "\n")[7], "AWS_STS_REGIONAL_ENDPOINTS=legacy"
		}},
		{"skips the containers that the pod names", map[string]string{}, func(p *v1.Pod) { p.Annotations = map[string]string{skipAnnotation: "side, init"} }, func(p *v1.Pod) (string, string) {
			return fmt.Sprint(len(p.Spec.Containers[1].Env), len(p.Spec.InitContainers[0].Env), len(p.Spec.Containers[0].Env) > 1), "0 0 true"
		}},
		{"does not overwrite a region", map[string]string{}, func(p *v1.Pod) {
			p.Spec.Containers[1].Env = []v1.EnvVar{{Name: "AWS_REGION", Value: "us-east-1"}}
		}, func(p *v1.Pod) (string, string) {
			text := env(p.Spec.Containers[1])
			return fmt.Sprint(strings.Contains(text, "AWS_REGION=us-east-1"), strings.Contains(text, "AWS_DEFAULT_REGION")), "true false"
		}},
		{"gives a container with another role no token", map[string]string{}, func(p *v1.Pod) {
			p.Spec.Containers[1].Env = []v1.EnvVar{{Name: "AWS_ROLE_ARN", Value: "arn:aws:iam::123456789012:role/other"}}
		}, func(p *v1.Pod) (string, string) {
			text := env(p.Spec.Containers[1])
			return fmt.Sprint(strings.Contains(text, "role/other"), strings.Contains(text, "AWS_WEB_IDENTITY_TOKEN_FILE")), "true false"
		}},
		{"does not mount over what is there", map[string]string{}, func(p *v1.Pod) {
			p.Spec.Containers[1].VolumeMounts = []v1.VolumeMount{{Name: "data", MountPath: tokenFolder}}
		}, func(p *v1.Pod) (string, string) { return fmt.Sprint(len(p.Spec.Containers[1].VolumeMounts)), "1" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if c.annotations != nil {
				c.annotations[roleAnnotation] = testRole
			}
			h, _ := testWebhook(t, c.annotations)
			if got, want := c.check(admit(t, h, testPod(c.pod))); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}

func TestRegistration(t *testing.T) {
	t.Parallel()
	h, client := testWebhook(t, nil)
	all := client.AdmissionregistrationV1().MutatingWebhookConfigurations()
	for range 2 { // and once more, when it is there
		if err := h.register(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	made, err := all.Get(t.Context(), webhookName, metav1.GetOptions{})
	if err != nil || *made.Webhooks[0].ClientConfig.URL != "https://127.0.0.1:4/mutate" {
		t.Fatalf("got %v (%v), want the webhook's address", made, err)
	}
	made.Webhooks[0].ClientConfig.URL = new(string)
	if _, err := all.Update(t.Context(), made, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := h.register(t.Context()); err != nil {
		t.Fatal(err)
	}
	if made, err = all.Get(t.Context(), webhookName, metav1.GetOptions{}); err != nil || *made.Webhooks[0].ClientConfig.URL != "https://127.0.0.1:4/mutate" {
		t.Errorf("got %v (%v), want what somebody changed to be as it was", made, err)
	}
	if got := (&webhook{}).missing(); got != "" {
		t.Errorf("got %q missing without a cluster, want nothing", got)
	}
	if got := h.missing(); got == "" {
		t.Error("got nothing missing, want the registration until it is kept")
	}
	ended := make(chan error, 1)
	ctx := t.Context()
	go func() { ended <- h.keep(ctx) }()
	for deadline := time.Now().Add(time.Minute); h.missing() != ""; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("got %q missing after a minute, want nothing", h.missing())
		}
	}
}
