package server

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"biplane.dev/biplane/controlplane/internal/refusal"
)

// instead says, for a service of Flyte's that is not served, what there is.
var instead = map[string]string{
	"flyteidl2.trigger.TriggerService":             "triggers come with a later version; start runs with 'flyte run'",
	"flyteidl2.secret.SecretService":               "secrets come with a later version; until then give a task its secrets by a pod template",
	"flyteidl2.app.AppService":                     "apps come with a later version",
	"flyteidl2.app.AppLogsService":                 "apps come with a later version",
	"flyteidl2.imagebuilder.ImageService":          "images are not built here yet; build with the builder 'local', or name an image that exists",
	"flyteidl2.artifact.ArtifactService":           "artifacts come with a later version",
	"flyteidl2.settings.SettingsService":           "settings come with a later version; the server's are in its configuration",
	"flyteidl2.workflow.TranslatorService":         "launch forms come with the console, in a later version",
	"flyteidl2.workflow.TrackedRunService":         "runs on your own machine are not tracked yet; run without tracking",
	"flyteidl2.workflow.QueueService":              "call flyteidl2.actions.ActionsService (_U_USE_ACTIONS=1)",
	"flyteidl2.workflow.StateService":              "call flyteidl2.actions.ActionsService (_U_USE_ACTIONS=1)",
	"flyteidl2.workflow.RunLogsService":            "call flyteidl2.dataproxy.DataProxyService/TailLogs",
	"flyteidl2.workflow.InternalRunService":        "data planes report through their tunnel",
	"flyteidl2.workflow.EventsProxyService":        "data planes report through their tunnel",
	"flyteidl2.cacheservice.CacheService":          "results are cached in the data plane",
	"flyteidl2.cacheservice.v2.CacheService":       "results are cached in the data plane",
	"flyteidl2.org.DomainService":                  "the domains are those of every project; call flyteidl2.project.ProjectService/GetProject",
	"flyteidl2.connector.AsyncConnectorService":    "connectors come with a later version",
	"flyteidl2.connector.ConnectorMetadataService": "connectors come with a later version",
}

// unserved answers for everything that is not mounted, in the protocol that the
// caller speaks.
func (s *Server) unserved(w http.ResponseWriter, r *http.Request) {
	service, method, ok := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if !ok || !strings.Contains(service, ".") {
		http.Error(w, "there is no such page here", http.StatusNotFound)
		return
	}
	sentence := fmt.Sprintf("this server does not serve %s; it may be older than the client", clip(service))
	if what, later := instead[service]; later {
		sentence = fmt.Sprintf("this server does not serve %s: %s", service, what)
	} else if slices.Contains(s.services, service) {
		sentence = fmt.Sprintf("this server's %s has no %s; it may be older than the client", service, clip(method))
	}
	if !s.errors.IsSupported(r) {
		http.Error(w, sentence, http.StatusNotFound)
		return
	}
	// Not the path as it came: a caller must not choose what metrics there are.
	s.metrics.calls.WithLabelValues("unserved", connect.CodeUnimplemented.String()).Inc()
	s.options.Log.Debug("unserved", "service", clip(service), "method", clip(method))
	if err := s.errors.Write(w, r, refusal.New(connect.CodeUnimplemented, "%s", sentence)); err != nil {
		s.options.Log.Debug("answering failed", "error", err)
	}
}

func clip(text string) string {
	const most = 100
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

// methods are those that a generated service has.
func methods(service string) map[string]bool {
	known := map[string]bool{}
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service))
	if described, ok := found.(protoreflect.ServiceDescriptor); err == nil && ok {
		for i := range described.Methods().Len() {
			known[string(described.Methods().Get(i).Name())] = true
		}
	}
	return known
}
