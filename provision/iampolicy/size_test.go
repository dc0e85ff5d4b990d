package iampolicy

import (
	"fmt"
	"testing"
	"unicode/utf8"
)

// The seed's documents were measured independently in seven regions; the size
// follows from the length of the region's name.
func TestSizeOfSeed(t *testing.T) {
	t.Parallel()
	measured := map[string][3]int{ // main, main without Sids, private
		"us-east-1": {10395, 9873, 5461}, "us-east-2": {10395, 9873, 5461}, "us-west-2": {10395, 9873, 5461},
		"eu-west-1": {10395, 9873, 5461}, "eu-west-2": {10395, 9873, 5461},
		"eu-central-1": {10515, 9993, 5512}, "ap-northeast-1": {10595, 10073, 5546},
	}
	size := func(text []byte) int {
		t.Helper()
		n, err := Size(text)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	for _, region := range seedRegions {
		main, private := seedText(t, "main", region), seedText(t, "private", region)
		// The published text keeps one-entry lists, so its Sids are taken out of
		// the count by their own length: "Sid":"…",
		bare := size(main)
		for _, st := range seedDocument(t, "main", region).Statements {
			if st.Sid != "" {
				bare -= len(`"Sid":"",`) + utf8.RuneCountInString(st.Sid)
			}
		}
		got := [3]int{size(main), bare, size(private)}
		t.Logf("%-14s main %d, without Sids %d, private %d", region, got[0], got[1], got[2])
		if got != measured[region] {
			t.Errorf("%s: got %v, want %v", region, got, measured[region])
		}
		extra := len(region) - len("us-east-1")
		if law := [3]int{10395 + 40*extra, 9873 + 40*extra, 5461 + 17*extra}; got != law {
			t.Errorf("%s: got %v, want %v by the law of the region's length", region, got, law)
		}
	}
}

func TestSize(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text string
		want int
	}{
		"leaves out white space outside strings":                    {" {\n\t\"a\" : [ 1 , true ] }\r\n", len(`{"a":[1,true]}`)},
		"counts white space inside strings":                         {`{"a":" b\tc "}`, len(`{"a":" b\tc "}`)},
		"counts an escape that JSON does not need as its character": {`{"a":"\u003c\u003e\u0026\/\u0041"}`, len(`{"a":"<>&/A"}`)},
		"counts an escape that JSON needs as written":               {`{"a":"\"\\\n"}`, len(`{"a":"\"\\\n"}`)},
		"counts a needed escape in its shortest form":               {`{"a":"\u0022\u000a"}`, len(`{"a":"\"\n"}`)},
		"counts a control character without a short form in full":   {`{"a":"\u0001"}`, len(`{"a":"\u0001"}`)},
		"counts code points, not bytes":                             {`{"a":"ÿ€😀"}`, len(`{"a":"xxx"}`)},
		"counts a surrogate pair as one":                            {`{"a":"\ud83d\ude00"}`, len(`{"a":"x"}`)},
		"counts a number as it is written":                          {`{"a":1.50e3}`, len(`{"a":1.50e3}`)},
		"counts empty lists and objects":                            {`{"a":[ ],"b":{ }}`, len(`{"a":[],"b":{}}`)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := Size([]byte(c.text))
			if err != nil || got != c.want {
				t.Errorf("got %d, %v, want %d", got, err, c.want)
			}
		})
	}
	t.Run("refuses what is no JSON", func(t *testing.T) {
		t.Parallel()
		if n, err := Size([]byte(`{"a":1} x`)); err == nil {
			t.Errorf("got %d, want an error", n)
		}
	})
}

func ExampleSize() {
	n, err := Size([]byte(`{
		"Version": "2012-10-17",
		"Statement": {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::b\/*"}
	}`))
	fmt.Println(n, err)
	// Output: 109 <nil>
}

func FuzzSize(f *testing.F) {
	for _, seed := range []string{`{}`, `{"a":"\u003c\n"}`, `[1, 2]`, `"\ud800"`, "\ufeff{}", `{"a":{"b":[null,true,-1e9]}}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		n, err := Size(text)
		if err == nil && (n < 1 || n > utf8.RuneCount(text)) {
			t.Errorf("got %d for %d bytes", n, len(text))
		}
		if d, err := Parse("", text); err == nil {
			if m, err := Size(d.Text()); err != nil || m != d.Size() {
				t.Errorf("got %d, %v, want %d, the size of the same document", m, err, d.Size())
			}
		}
	})
}
