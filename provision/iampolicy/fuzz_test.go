package iampolicy

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"
)

// FuzzParse: no input makes the reader panic; what Parse accepts is written as
// a document of the same meaning; what Scan salvages can be worked with.
func FuzzParse(f *testing.F) {
	for _, c := range problemCases {
		f.Add([]byte(c.text))
	}
	for _, text := range validCases {
		f.Add([]byte(text))
	}
	for _, name := range []string{"main", "private", "ecs-task", "ecs-task-trust"} {
		f.Add(seedText(f, name, "us-east-1"))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		d, problems, err := Scan("fuzz", text)
		if err != nil {
			var syntax *SyntaxError
			if !errors.As(err, &syntax) || syntax.Position.Line < 1 || syntax.Position.Column < 1 {
				t.Fatalf("got %v, want a SyntaxError with a position", err)
			}
			return
		}
		for _, p := range problems {
			if p.Position.Line < 1 || p.Position.Column < 1 || p.Position.Line > bytes.Count(text, []byte("\n"))+1 {
				t.Errorf("got %+v, want a position in the text", p)
			}
		}
		if !json.Valid(bytes.TrimPrefix(text, byteOrderMark)) {
			t.Errorf("got a document from what encoding/json does not take")
		}
		if len(text) > 4096 { // the rest grows with the square
			return
		}
		Canonical(d)
		Minify(d)
		if len(problems) > 0 {
			return
		}
		again, err := Parse("fuzz", d.Text())
		if err != nil {
			t.Fatalf("got %v for %s", err, d.Text())
		}
		if !bytes.Equal(again.Text(), d.Text()) || !Equal(d, again) {
			t.Errorf("got %s, want %s", again.Text(), d.Text())
		}
		if m := Minify(d); !Equal(d, m) || m.Size() > d.Size() {
			t.Errorf("got %s from Minify, want what %s means, no longer", m.Text(), d.Text())
		}
	})
}
