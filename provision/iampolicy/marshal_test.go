package iampolicy

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"
)

func TestTextOrdersElements(t *testing.T) {
	t.Parallel()
	d := mustParse(t, `{"Statement":[{"Condition":{"StringEquals":{"sts:ExternalId":["a","b"],"aws:x":"c"},"Bool":{"aws:y":true}},"NotAction":["s3:GetObject"],
		"NotPrincipal":{"Service":"a.b","AWS":["123456789012"]},"Effect":"Deny","NotResource":["arn:aws:s3:::b","arn:aws:s3:::c"],"Sid":"s"}],"Id":"i","Version":"2012-10-17"}`)
	want := `{"Version":"2012-10-17","Id":"i","Statement":[{"Sid":"s","Effect":"Deny","NotPrincipal":{"AWS":"123456789012","Service":"a.b"},` +
		`"NotAction":"s3:GetObject","NotResource":["arn:aws:s3:::b","arn:aws:s3:::c"],` +
		`"Condition":{"StringEquals":{"sts:ExternalId":["a","b"],"aws:x":"c"},"Bool":{"aws:y":"true"}}}]}`
	if got := string(d.Text()); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, d.Indented()); err != nil || compact.String() != want {
		t.Errorf("got %s, %v from Indented, want the same document", compact.String(), err)
	}
}

func TestTextEscapesOnlyWhatItMust(t *testing.T) {
	t.Parallel()
	d := &Document{Version: "2012-10-17", ID: "<&>\u2028/\"\\\n\x01é", Statements: []Statement{}}
	if got, want := string(d.Text()), "{\"Version\":\"2012-10-17\",\"Id\":\"<&>\u2028/\\\"\\\\\\n\\u0001é\",\"Statement\":[]}"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	var out bytes.Buffer
	plain := json.NewEncoder(&out)
	plain.SetEscapeHTML(false)
	if err := plain.Encode(&Document{ID: "<&>"}); err != nil || out.String() != "{\"Id\":\"<&>\",\"Statement\":[]}\n" {
		t.Errorf("got %s, %v, want no escapes from an Encoder that was told so", out.String(), err)
	}
}

func TestUnmarshalIsParse(t *testing.T) {
	t.Parallel()
	var holder struct{ Document *Document }
	if err := json.Unmarshal([]byte(`{"Document":`+allowing("")+`}`), &holder); err != nil {
		t.Fatal(err)
	}
	if got := string(holder.Document.Text()); got != allowing("") {
		t.Errorf("got %s, want %s", got, allowing(""))
	}
	var form *FormError
	if err := json.Unmarshal([]byte(`{"Document":{"Statement":[]}}`), &holder); !errors.As(err, &form) {
		t.Errorf("got %v, want a FormError", err)
	}
}
