package iampolicy

import "testing"

func TestMerge(t *testing.T) {
	t.Parallel()
	first := mustParse(t, `{"Version":"2012-10-17","Id":"x","Statement":[{"Sid":"A","Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::${aws:username}"}]}`)
	second := mustParse(t, `{"Statement":[{"Sid":"A","Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::${aws:username}"},{"Sid":"B","Effect":"Deny","Action":"*","Resource":"*"}]}`)
	first.Name = "first"
	got := Merge(first, second)

	// The second document's Version makes its ${ plain text; its Sid A is taken.
	want := `{"Version":"2012-10-17","Statement":[{"Sid":"A","Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::${aws:username}"},` +
		`{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::${$}{aws:username}"},{"Sid":"B","Effect":"Deny","Action":"*","Resource":"*"}]}`
	if string(got.Text()) != want || got.Name != "first" {
		t.Errorf("got  %s %s\nwant first %s", got.Name, got.Text(), want)
	}
	got.Statements[0].Action[0] = "changed"
	if first.Statements[0].Action[0] != "s3:GetObject" {
		t.Error("got a change in the merged document in its source, want a copy")
	}
	if empty := Merge(); len(empty.Statements) != 0 {
		t.Errorf("got %s, want no statements", empty.Text())
	}
}
