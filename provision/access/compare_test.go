package access

import (
	"slices"
	"testing"
)

func TestDocumentDifferences(t *testing.T) {
	t.Parallel()
	const wanted = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["s3:GetObject","s3:PutObject"],"Resource":"arn:aws:s3:::b/*"},{"Effect":"Deny","Action":"iam:PassRole","Resource":"*"}]}`
	for name, c := range map[string]struct {
		have string
		want []string
	}{
		"it finds none between two spellings of the same": {
			`{ "Statement":[{"Sid":"x","Effect":"Deny","Action":["IAM:PassRole"],"Resource":["*"]},
			   {"Effect":"Allow","Action":"s3:PutObject","Resource":"arn:aws:s3:::b/*"},{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::b/*"}],"Version":"2012-10-17"}`, nil},
		"it names an action too many": {
			`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["s3:GetObject","s3:PutObject","s3:DeleteObject"],"Resource":"arn:aws:s3:::b/*"},{"Effect":"Deny","Action":"iam:PassRole","Resource":"*"}]}`,
			[]string{"the document is another one", "  it has, and should not: Allow s3:DeleteObject on arn:aws:s3:::b/*"}},
		"it names an action that is missing": {
			`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::b/*"},{"Effect":"Deny","Action":"iam:PassRole","Resource":"*"}]}`,
			[]string{"the document is another one", "  it lacks: Allow s3:PutObject on arn:aws:s3:::b/*"}},
		"it names a Deny that is missing": {
			`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["s3:GetObject","s3:PutObject"],"Resource":"arn:aws:s3:::b/*"}]}`,
			[]string{"the document is another one", "  it lacks: Deny iam:PassRole on *"}},
		"it names a Deny too many": {
			`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["s3:GetObject","s3:PutObject"],"Resource":"arn:aws:s3:::b/*"},{"Effect":"Deny","Action":["iam:PassRole","iam:CreateRole"],"Resource":"*"}]}`,
			[]string{"the document is another one", "  it has, and should not: Deny iam:CreateRole on *"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := documentDifferences("the document", []byte(c.have), []byte(wanted)); !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}

	t.Run("it says that a document cannot be read", func(t *testing.T) {
		t.Parallel()
		if got := documentDifferences("the document", []byte(`{"Statement":`), []byte(wanted)); len(got) != 1 {
			t.Errorf("got %q, want one line", got)
		}
	})
}

func TestThousands(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]string{0: "0", 999: "999", 6144: "6,144", 10395: "10,395", 1234567: "1,234,567"} {
		if got := thousands(n); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
