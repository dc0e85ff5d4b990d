package identity

import (
	"slices"
	"strconv"
	"strings"

	v1 "k8s.io/api/core/v1"
)

// Annotations that EKS gives a meaning to, of a service account; the token's
// lifetime and the containers to leave alone are a pod's too.
const (
	roleAnnotation     = "eks.amazonaws.com/role-arn"
	audienceAnnotation = "eks.amazonaws.com/audience"
	lifetimeAnnotation = "eks.amazonaws.com/token-expiration"
	regionalAnnotation = "eks.amazonaws.com/sts-regional-endpoints"
	skipAnnotation     = "eks.amazonaws.com/skip-containers"
)

// As EKS has them.
const (
	tokenVolume     = "aws-iam-token"
	tokenFolder     = "/var/run/secrets/eks.amazonaws.com/serviceaccount"
	tokenAudience   = "sts.amazonaws.com"
	tokenLifetime   = 86400
	shortestToken   = 600
	longestToken    = 86400
	bundleFile      = "ca-bundle.crt" // ours, beside the token
	bundleConfigMap = "aws-ca-bundle" // of each namespace with such pods
)

// injection is what pods of one service account get.
type injection struct {
	role     string
	audience string
	lifetime int64
	regional string // of AWS_STS_REGIONAL_ENDPOINTS: "regional", "legacy"
	skip     []string
	set      *settings
}

// settings are the same for all pods.
type settings struct {
	region, s3, sts, iam string
}

// injectionFor reads the annotations. ok is false for a service account that
// has no role.
func injectionFor(account *v1.ServiceAccount, pod *v1.Pod, set *settings) (in injection, ok bool) {
	role := strings.TrimSpace(account.Annotations[roleAnnotation])
	if role == "" {
		return in, false
	}
	in = injection{role: role, audience: tokenAudience, lifetime: tokenLifetime, regional: "regional", set: set}
	if audience := account.Annotations[audienceAnnotation]; audience != "" {
		in.audience = audience
	}
	for _, annotations := range []map[string]string{account.Annotations, pod.Annotations} {
		if seconds, err := strconv.ParseInt(annotations[lifetimeAnnotation], 10, 64); err == nil {
			in.lifetime = min(max(seconds, shortestToken), longestToken)
		}
	}
	if regional, err := strconv.ParseBool(account.Annotations[regionalAnnotation]); err == nil && !regional {
		in.regional = "legacy"
	}
	for name := range strings.SplitSeq(pod.Annotations[skipAnnotation], ",") {
		if name = strings.TrimSpace(name); name != "" {
			in.skip = append(in.skip, name)
		}
	}
	return in, true
}

// patch is one operation of a JSON patch.
type patch struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value"`
}

// patches adds the volume, and to each container its variables and the mount.
// What the pod has already stays as it is.
func (in *injection) patches(pod *v1.Pod) []patch {
	var out []patch
	if !slices.ContainsFunc(pod.Spec.Volumes, func(v v1.Volume) bool { return v.Name == tokenVolume }) {
		out = append(out, patch{"add", "/spec/volumes", append(slices.Clone(pod.Spec.Volumes), in.volume())})
	}
	for kind, containers := range map[string][]v1.Container{"containers": pod.Spec.Containers, "initContainers": pod.Spec.InitContainers} {
		for i := range containers {
			one := &containers[i]
			if slices.Contains(in.skip, one.Name) {
				continue
			}
			path := "/spec/" + kind + "/" + strconv.Itoa(i)
			if more := in.environment(one); len(more) > 0 {
				out = append(out, patch{"add", path + "/env", append(slices.Clone(one.Env), more...)})
			}
			taken := func(m v1.VolumeMount) bool { return m.Name == tokenVolume || m.MountPath == tokenFolder }
			if !slices.ContainsFunc(one.VolumeMounts, taken) {
				mount := v1.VolumeMount{Name: tokenVolume, MountPath: tokenFolder, ReadOnly: true}
				out = append(out, patch{"add", path + "/volumeMounts", append(slices.Clone(one.VolumeMounts), mount)})
			}
		}
	}
	return out
}

// volume is the token that EKS projects, and beside it the roots to trust.
func (in *injection) volume() v1.Volume {
	return v1.Volume{Name: tokenVolume, VolumeSource: v1.VolumeSource{Projected: &v1.ProjectedVolumeSource{Sources: []v1.VolumeProjection{
		{ServiceAccountToken: &v1.ServiceAccountTokenProjection{Audience: in.audience, ExpirationSeconds: &in.lifetime, Path: "token"}},
		{ConfigMap: &v1.ConfigMapProjection{
			LocalObjectReference: v1.LocalObjectReference{Name: bundleConfigMap},
			Items:                []v1.KeyToPath{{Key: bundleFile, Path: bundleFile}},
		}},
	}}}}
}

// environment is the variables that a container lacks. Those that only make
// sense together are given together or not at all: a pod that names another
// role is not to get this one's token.
func (in *injection) environment(container *v1.Container) []v1.EnvVar {
	bundle := tokenFolder + "/" + bundleFile
	var out []v1.EnvVar
	for _, group := range [][]v1.EnvVar{
		{{Name: "AWS_STS_REGIONAL_ENDPOINTS", Value: in.regional}},
		{{Name: "AWS_DEFAULT_REGION", Value: in.set.region}, {Name: "AWS_REGION", Value: in.set.region}},
		{{Name: "AWS_ROLE_ARN", Value: in.role}, {Name: "AWS_WEB_IDENTITY_TOKEN_FILE", Value: tokenFolder + "/token"}},
		{{Name: "AWS_ENDPOINT_URL_S3", Value: in.set.s3}},
		{{Name: "AWS_ENDPOINT_URL_STS", Value: in.set.sts}},
		{{Name: "AWS_ENDPOINT_URL_IAM", Value: in.set.iam}},
		{{Name: "AWS_CA_BUNDLE", Value: bundle}},      // botocore, and the SDKs of Go and Rust
		{{Name: "SSL_CERT_FILE", Value: bundle}},      // whatever is built on OpenSSL, rustls or Go
		{{Name: "REQUESTS_CA_BUNDLE", Value: bundle}}, // Python's requests
	} {
		given := func(e v1.EnvVar) bool {
			return slices.ContainsFunc(group, func(g v1.EnvVar) bool { return g.Name == e.Name })
		}
		if !slices.ContainsFunc(container.Env, given) {
			out = append(out, group...)
		}
	}
	return out
}
