package gateway_test

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/emptypb"

	tunnelv1 "biplane.dev/biplane/api/gen/biplane/tunnel/v1"
	"biplane.dev/biplane/controlplane/internal/caller"
	"biplane.dev/biplane/tunnel"
)

// Every service account of the seed, and a task's pod, against every call of
// LinkService.
func TestWhoMayCallWhat(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	session := w.join(t, clusterName).dial(t, tunnel.Handlers{})
	may := map[string]string{
		"Heartbeat": "operator-system", "WatchConfig": "operator-system",
		"GetPosition": "executor", "ReportStates": "executor", "RecordTaskSpecs": "executor",
		"SignUpload": "proxy-system",
	}
	methods := tunnelv1.File_biplane_tunnel_v1_tunnel_proto.Services().ByName("LinkService").Methods()
	for i := range methods.Len() {
		if name := string(methods.Get(i).Name()); may[name] == "" {
			t.Errorf("got LinkService.%s, want somebody who may call it", name)
		}
	}
	for _, method := range slices.Sorted(maps.Keys(may)) {
		for _, account := range []string{"operator-system", "executor", "proxy-system", "clustersync-system", "default", "task"} {
			t.Run(method+" by "+account, func(t *testing.T) {
				t.Parallel()
				header := map[string]string{"Biplane-Service-Account": "union/" + account}
				if account == "task" { // even one whose account is called as ours
					header = map[string]string{"Biplane-Service-Account": "p-development/" + may[method], "Biplane-Project": "p", "Biplane-Domain": "development"}
				}
				client := connect.NewClient[emptypb.Empty, emptypb.Empty](&http.Client{Transport: as{session, header}},
					"http://controlplane/biplane.tunnel.v1.LinkService/"+method)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				var err error
				if method == "WatchConfig" {
					var stream *connect.ServerStreamForClient[emptypb.Empty]
					if stream, err = client.CallServerStream(ctx, connect.NewRequest(&emptypb.Empty{})); err == nil {
						stream.Receive()
						err = stream.Err()
						cancel()
						stream.Close()
					}
				} else {
					_, err = client.CallUnary(ctx, connect.NewRequest(&emptypb.Empty{}))
				}
				if refused := connect.CodeOf(err) == connect.CodePermissionDenied; refused == (account == may[method]) {
					t.Errorf("got %v, want it refused: %t", err, account != may[method])
				}
			})
		}
	}
}

func TestCalls(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	session := w.join(t, clusterName).dial(t, tunnel.Handlers{})
	call := func(t *testing.T, header map[string]string) (caller.Caller, http.Header, string) {
		t.Helper()
		w.mu.Lock()
		w.callers, w.headers = nil, nil
		w.mu.Unlock()
		answer, err := get(t.Context(), as{session, header}, "http://controlplane/flyteidl2.workflow.RunService/CreateRun")
		if err != nil {
			t.Fatal(err)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(w.callers) == 0 {
			return caller.Caller{}, nil, answer
		}
		return w.callers[0], w.headers[0], answer
	}

	t.Run("come to the API with the certificate's organisation and cluster", func(t *testing.T) {
		got, header, _ := call(t, map[string]string{
			"Biplane-Service-Account": "p-development/default", "Biplane-Project": "p", "Biplane-Domain": "development",
			"Biplane-Organization": "other", "Biplane-Cluster": "c2", "Authorization": "Bearer of-the-pod",
		})
		if got.Organization != organization || got.Cluster != clusterName || got.ServiceAccount != "p-development/default" ||
			got.Workspace == nil || *got.Workspace != (caller.Workspace{Project: "p", Domain: "development"}) {
			t.Errorf("got %+v, want the pod of this cluster", got)
		}
		for _, name := range []string{"Biplane-Service-Account", "Biplane-Project", "Biplane-Domain", "Authorization"} {
			if header.Get(name) != "" {
				t.Errorf("got the header %s, want it removed", name)
			}
		}
	})

	t.Run("of the data plane's own have no workspace", func(t *testing.T) {
		if got, _, _ := call(t, map[string]string{"Biplane-Service-Account": "union/proxy-system"}); got.Workspace != nil || got.ServiceAccount != "union/proxy-system" {
			t.Errorf("got %+v, want the proxy", got)
		}
	})

	for name, header := range map[string]map[string]string{
		"are refused without an account":           {},
		"are refused without an account's space":   {"Biplane-Service-Account": "executor"},
		"are refused with a project and no domain": {"Biplane-Service-Account": "p/default", "Biplane-Project": "p"},
		"are refused with a domain that is none":   {"Biplane-Service-Account": "p/default", "Biplane-Project": "p", "Biplane-Domain": "../x"},
	} {
		t.Run(name, func(t *testing.T) {
			if got, _, answer := call(t, header); got.Cluster != "" || !strings.HasPrefix(answer, "401 ") {
				t.Errorf("got %q and the caller %+v at the API, want 401 and no call", answer, got)
			}
		})
	}
}
