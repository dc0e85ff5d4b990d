package sdkhash_test

import (
	"bytes"
	"compress/zlib"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"os"
	"testing"

	"google.golang.org/protobuf/proto"

	"biplane.dev/biplane/api/gen/flyteidl2/core"
	"biplane.dev/biplane/api/gen/flyteidl2/task"
	"biplane.dev/biplane/internal/sdkhash"
)

// golden is what the SDK itself answered; golden.py wrote it.
type golden struct {
	SDK    string `json:"sdk"`
	Inputs []struct {
		Name    string   `json:"name"`
		Inputs  []byte   `json:"inputs"`
		Ignored []string `json:"ignored"`
		Hash    string   `json:"hash"`
	} `json:"inputs"`
	Interfaces []struct {
		Name       string `json:"name"`
		Interface  []byte `json:"interface"`
		Hash       string `json:"hash"`
		Key        string `json:"key"`
		InputsHash string `json:"inputsHash"`
	} `json:"interfaces"`
}

func TestGolden(t *testing.T) {
	t.Parallel()
	file, err := os.ReadFile("testdata/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	var want golden
	if err := json.Unmarshal(file, &want); err != nil {
		t.Fatal(err)
	}
	for _, c := range want.Inputs {
		t.Run("it hashes inputs as the SDK does: "+c.Name, func(t *testing.T) {
			t.Parallel()
			var in task.Inputs
			decode(t, c.Inputs, &in)
			if got := sdkhash.Inputs(in.GetLiterals(), c.Ignored); got != c.Hash {
				t.Errorf("got %q, want %q of SDK %s", got, c.Hash, want.SDK)
			}
		})
	}
	for _, c := range want.Interfaces {
		t.Run("it hashes an interface as the SDK does: "+c.Name, func(t *testing.T) {
			t.Parallel()
			var in core.TypedInterface
			decode(t, c.Interface, &in)
			before := proto.CloneOf(&in)
			if got := sdkhash.Interface(&in); got != c.Hash {
				t.Errorf("got %q, want %q of SDK %s", got, c.Hash, want.SDK)
			}
			if got := sdkhash.CacheKey("env.main", c.InputsHash, &in, "v1"); got != c.Key {
				t.Errorf("got the key %q, want %q of SDK %s", got, c.Key, want.SDK)
			}
			if !proto.Equal(&in, before) {
				t.Errorf("got the interface changed to %v, want %v", &in, before)
			}
		})
	}
}

func decode(t *testing.T, compressed []byte, into proto.Message) {
	t.Helper()
	r, err := zlib.NewReader(bytes.NewReader(compressed))
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := proto.Unmarshal(b, into); err != nil {
		t.Fatal(err)
	}
}

func TestUnknownFields(t *testing.T) {
	t.Parallel()
	t.Run("it puts fields that are newer than ours in their places", func(t *testing.T) {
		t.Parallel()
		known := &core.Blob{Metadata: &core.BlobMetadata{}, Uri: "u"} // the fields 1 and 3
		known.ProtoReflect().SetUnknown([]byte{2<<3 | 2, 1, 'x'})
		l := &core.Literal{Value: &core.Literal_Scalar{Scalar: &core.Scalar{Value: &core.Scalar_Blob{Blob: known}}}}
		want := sha256.Sum256([]byte("x:\x0a\x0a\x12\x08\x0a\x00\x12\x01x\x1a\x01u;"))
		if got, want := sdkhash.Inputs([]*task.NamedLiteral{{Name: "x", Value: l}}, nil), base64.StdEncoding.EncodeToString(want[:]); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}
