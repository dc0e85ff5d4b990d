package storetest

import (
	"bytes"
	"database/sql"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	clusterv1 "biplane.dev/biplane/api/gen/biplane/cluster/v1"
	tunnelv1 "biplane.dev/biplane/api/gen/biplane/tunnel/v1"
	"biplane.dev/biplane/api/gen/flyteidl2/workflow"
	"biplane.dev/biplane/controlplane/internal/store"
)

// mayBeKept are the texts of an ActionState that may rest in the store: names, URIs,
// digests and words. A new field of the messages is none of them until it is decided
// that it is, so this test fails then.
var mayBeKept = map[string]bool{
	"id.name": true, "id.run.org": true, "id.run.project": true, "id.run.domain": true, "id.run.name": true,
	"parent": true, "group": true, "name": true, "task_type": true, "short_name": true, "environment": true,
	"task_id.org": true, "task_id.project": true, "task_id.domain": true, "task_id.name": true, "task_id.version": true,
	"input_uri": true, "output_uri": true, "abort_reason": true,
	"condition.name": true, "condition.prompt": true, "condition.description": true, "condition.type": true,
	"recovered_from.name": true, "recovered_from.run.org": true, "recovered_from.run.project": true,
	"recovered_from.run.domain": true, "recovered_from.run.name": true,

	"attempts.log_info": true, "attempts.outputs": true, "attempts.cluster": true, "attempts.log_context": true, "attempts.cache_metadata": true,
}

// kept says whether the path of a field, or one that it is below, may be kept.
func kept(path string) bool {
	for ; path != ""; path = path[:max(strings.LastIndex(path, "."), 0)] {
		if mayBeKept[path] {
			return true
		}
	}
	return false
}

func testTexts(t *testing.T, b Backend) {
	w := newWorld(t, b)
	key := runKey("r1")
	get(w.CreateRun(t.Context(), newRun(key)))(t)

	full := &tunnelv1.ActionState{}
	texts := map[string]string{} // by path
	fill(full.ProtoReflect(), "", 0, texts)
	for _, path := range []string{"attempts.error_info.message", "attempts.cluster_events.message", "condition.webhook.url", "task_spec_digest", "error_code"} {
		if texts[path] == "" {
			t.Fatalf("got no text at %s, want one: the messages have changed, and this test with them", path)
		}
	}
	full.Position, full.Version = 1, 1
	full.Id = state(key, "c1", 1, failed).GetId()
	full.Phase = failed
	// What a newer data plane may send that this program has no name for.
	const unknown = "unknown-text"
	for _, m := range []proto.Message{full.GetAttempts()[0], full.GetAttempts()[0].GetErrorInfo(), full.GetAttempts()[0].GetLogContext(), full.GetCondition()} {
		field := append([]byte{0xfa, 0xff, 0x7f, byte(len(unknown))}, unknown...)
		m.ProtoReflect().SetUnknown(field)
	}
	w.apply(t, full)
	wide := state(key, "c2", 2, failed)
	wide.Group, wide.ErrorCode, wide.OutputUri = strings.Repeat("é", 4000), "a sentence with a value of 42", strings.Repeat("u", 9000)
	w.apply(t, wide)

	report := &tunnelv1.HeartbeatRequest{Version: "1", Peers: []*clusterv1.Peer{{Name: "proxy", Message: strings.Repeat("long", 1000)}}, DataPlane: &tunnelv1.DataPlane{}}
	for _, m := range []proto.Message{report, report.GetPeers()[0], report.GetDataPlane()} {
		m.ProtoReflect().SetUnknown(append([]byte{0xfa, 0xff, 0x7f, byte(len(unknown))}, unknown...))
	}
	must(t, w.Heartbeat(t.Context(), "acme", "east", report))
	equal(t, "why a peer is not ready", len(get(w.GetCluster(t.Context(), "acme", "east"))(t).Report.GetPeers()[0].GetMessage()), 1024)

	everything := dump(t, b, w.url)
	t.Run("keeps what it may and nothing else", func(t *testing.T) {
		for path, text := range texts {
			if strings.HasPrefix(path, "id.") {
				continue // set by this test
			}
			if got := bytes.Contains(everything, []byte(text)); got != kept(path) {
				t.Errorf("%s: got kept %v, want %v", path, got, kept(path))
			}
		}
		if bytes.Contains(everything, []byte(unknown)) {
			t.Error("got a field without a name kept, want it dropped")
		}
	})
	t.Run("keeps the kind of an error", func(t *testing.T) {
		attempt := w.action(t, key, "c1").Attempts[0]
		equal(t, "kind", attempt.GetErrorInfo().GetKind(), workflow.ErrorInfo_KIND_USER)
		equal(t, "message", attempt.GetErrorInfo().GetMessage(), "")
		equal(t, "events", len(attempt.GetClusterEvents()), 0)
	})
	t.Run("cuts what is too long, and takes a sentence for no code", func(t *testing.T) {
		action := w.action(t, key, "c2")
		equal(t, "group", action.Group, strings.Repeat("é", 512))
		equal(t, "code", action.ErrorCode, "")
		equal(t, "output", len(action.OutputURI), 2048)
	})
	t.Run("keeps a join token as a hash", func(t *testing.T) {
		token := store.NewJoinToken()
		get(w.AddCluster(t.Context(), "acme", "west", token, w.action(t, key, "c1").UpdatedAt))(t)
		secret := token.String()[16:]
		if bytes.Contains(dump(t, b, w.url), []byte(secret)) {
			t.Error("got the secret of a join token kept, want its hash")
		}
	})
}

// fill sets every field of a message, and every text to one of its own.
func fill(m protoreflect.Message, path string, depth int, texts map[string]string) {
	if depth > 7 {
		return // a type may be of itself, such as a list of lists
	}
	for i := range m.Descriptor().Fields().Len() {
		field := m.Descriptor().Fields().Get(i)
		at := strings.TrimPrefix(path+"."+string(field.Name()), ".")
		if oneof := field.ContainingOneof(); oneof != nil && m.WhichOneof(oneof) != nil || field.IsMap() {
			continue
		}
		var value protoreflect.Value
		switch field.Kind() {
		case protoreflect.StringKind:
			texts[at] = fmt.Sprintf("<%s is secret>", at)
			value = protoreflect.ValueOfString(texts[at])
		case protoreflect.BytesKind:
			texts[at] = fmt.Sprintf("<%s is secret>", at)
			value = protoreflect.ValueOfBytes([]byte(texts[at]))
		case protoreflect.MessageKind:
			if field.IsList() {
				fill(m.Mutable(field).List().AppendMutable().Message(), at, depth+1, texts)
			} else {
				fill(m.Mutable(field).Message(), at, depth+1, texts)
			}
			continue
		case protoreflect.EnumKind:
			value = protoreflect.ValueOfEnum(field.Enum().Values().Get(min(1, field.Enum().Values().Len()-1)).Number())
		case protoreflect.BoolKind:
			value = protoreflect.ValueOfBool(true)
		case protoreflect.Uint32Kind:
			value = protoreflect.ValueOfUint32(1)
		case protoreflect.Uint64Kind:
			value = protoreflect.ValueOfUint64(1)
		case protoreflect.Int32Kind:
			value = protoreflect.ValueOfInt32(1)
		case protoreflect.Int64Kind:
			value = protoreflect.ValueOfInt64(1)
		case protoreflect.DoubleKind:
			value = protoreflect.ValueOfFloat64(1)
		default:
			panic("no value for a " + field.Kind().String())
		}
		if field.IsList() {
			m.Mutable(field).List().Append(value)
		} else {
			m.Set(field, value)
		}
	}
}

// dump is every value of every row of a database.
func dump(t *testing.T, b Backend, url string) []byte {
	t.Helper()
	db := get(sql.Open(b.Driver, b.DataSource(url)))(t)
	defer db.Close()
	var all bytes.Buffer
	for _, table := range tables(t, b, db) {
		rows := get(db.Query("SELECT * FROM " + table))(t)
		columns := get(rows.Columns())(t)
		for rows.Next() {
			values := make([]sql.RawBytes, len(columns))
			into := make([]any, len(columns))
			for i := range values {
				into[i] = &values[i]
			}
			must(t, rows.Scan(into...))
			for _, value := range values {
				all.Write(value)
				all.WriteByte('\n')
			}
		}
		must(t, rows.Close())
	}
	return all.Bytes()
}

// tables are all there are, those that come with a later migration too.
func tables(t *testing.T, b Backend, db *sql.DB) (names []string) {
	t.Helper()
	query := "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
	if b.Driver == "sqlite" {
		query = "SELECT name FROM sqlite_master WHERE type = 'table'"
	}
	rows := get(db.Query(query))(t)
	defer rows.Close()
	for rows.Next() {
		var name string
		must(t, rows.Scan(&name))
		names = append(names, name)
	}
	must(t, rows.Err())
	return names
}
