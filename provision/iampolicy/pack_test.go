package iampolicy

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestPackFewestSeed(t *testing.T) {
	t.Parallel()
	for _, region := range seedRegions {
		main, private := seedDocument(t, "main", region), seedDocument(t, "private", region)
		if len(region) == len("us-east-1") && region != "us-east-1" {
			continue // the same lengths
		}
		for name, c := range map[string]struct {
			document *Document
			want     int
		}{
			"main": {main, 2}, "main minified": {Minify(main), 2}, "private": {private, 1},
			"both": {Merge(main, private), 3}, "both minified": {Minify(Merge(main, private)), 3},
		} {
			packed, err := PackFewest("p", c.document, ManagedLimit)
			if err != nil {
				t.Fatal(err)
			}
			if len(packed) != c.want {
				t.Errorf("%s in %s: got %d policies, want %d", name, region, len(packed), c.want)
			}
			if region == "eu-central-1" {
				checkPacked(t, c.document, packed, ManagedLimit)
			}
		}
	}
}

// checkPacked fails unless packed mean d together and each is within limit.
func checkPacked(t *testing.T, d *Document, packed []Packed, limit int) {
	t.Helper()
	var documents []*Document
	names := map[string]bool{}
	for _, p := range packed {
		if size, err := Size(p.Document.Text()); err != nil || size != p.Size || size > limit {
			t.Errorf("got %s of %d characters (%v), said to be %d, want at most %d", p.Name, size, err, p.Size, limit)
		}
		if _, err := Parse(p.Name, p.Document.Text()); err != nil {
			t.Error(err)
		}
		if names[p.Name] {
			t.Errorf("got two policies called %s", p.Name)
		}
		names[p.Name] = true
		documents = append(documents, p.Document)
	}
	if !Equal(Merge(documents...), d) {
		t.Error("got policies that together mean something else than the document")
	}
}

// where says in which policy each statement is, with the region left out.
func where(packed []Packed, region string) map[string]string {
	out := map[string]string{}
	for _, p := range packed {
		for _, st := range p.Document.Statements {
			out[strings.ReplaceAll(statementText(&st), region, "R")] = p.Name
		}
	}
	return out
}

func TestPackIsStable(t *testing.T) {
	t.Parallel()
	const limit = 3000
	pack := func(region string, change func(*Document)) []Packed {
		d := Merge(seedDocument(t, "main", region))
		change(d)
		packed, err := Pack([]Group{{"main", d}, {"private", seedDocument(t, "private", region)}}, limit)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range packed {
			if p.Size > limit || p.Size != p.Document.Size() {
				t.Errorf("got %s of %d characters, said to be %d, want at most %d", p.Name, p.Document.Size(), p.Size, limit)
			}
		}
		return packed
	}
	before := pack("us-east-1", func(*Document) {})
	checkPacked(t, Merge(seedDocument(t, "main", "us-east-1"), seedDocument(t, "private", "us-east-1")), before, limit)
	for _, p := range before {
		t.Logf("%s: %d characters, %d statements", p.Name, p.Size, len(p.Document.Statements))
	}

	t.Run("packs alike in every region", func(t *testing.T) {
		for _, region := range append(seedRegions, "ap-southeast-1", "us-gov-west-1", "cn-northwest-1") {
			if got := where(pack(region, func(*Document) {}), region); !maps.Equal(got, where(before, "us-east-1")) {
				t.Errorf("%s: got another distribution than in us-east-1", region)
			}
		}
	})
	for i := range seedDocument(t, "main", "us-east-1").Statements {
		t.Run(fmt.Sprintf("leaves all others where they are when statement %d grows", i), func(t *testing.T) {
			after := pack("us-east-1", func(d *Document) {
				st := &d.Statements[i]
				for n := range 20 {
					st.Action = append(st.Action, fmt.Sprintf("ec2:NewAction%02d", n))
				}
			})
			old := where(before, "us-east-1")
			changed := map[string]bool{} // policies that others have left
			for statement, name := range where(after, "us-east-1") {
				if was, ok := old[statement]; ok && was != name {
					changed[was] = true
					if !strings.HasPrefix(name, was) {
						t.Errorf("got %s in %s, want it in %s or a half of that", statement, name, was)
					}
				}
			}
			if len(changed) > 1 {
				t.Errorf("got changes in %v, want them in one policy", slices.Collect(maps.Keys(changed)))
			}
		})
	}
}

func TestPackKeepsGroupsThatFit(t *testing.T) {
	t.Parallel()
	main := seedDocument(t, "main", "us-east-1")
	groups := []Group{{"first", main.holding(main.Statements[:10]...)}, {"second", main.holding(main.Statements[10:]...)}}
	packed, err := Pack(groups, InlineLimit)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range packed {
		got = append(got, p.Name)
	}
	if want := []string{"first", "second"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	checkPacked(t, main, packed, InlineLimit)
}

func TestPackCutsAStatement(t *testing.T) {
	t.Parallel()
	st := Statement{Sid: "Large", Effect: Allow}
	for i := range 300 {
		st.Action = append(st.Action, fmt.Sprintf("ec2:DescribeSomething%d", i))
	}
	byActions := st
	byActions.Resource = []string{"*"}
	byResources := Statement{Effect: Deny, NotAction: []string{"s3:*"}}
	for i := range 300 {
		byResources.Resource = append(byResources.Resource, fmt.Sprintf("arn:aws:s3:::bucket-%d/*", i))
	}
	for name, st := range map[string]Statement{"cuts its actions": byActions, "cuts its resources": byResources} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := &Document{Version: currentVersion, Statements: []Statement{st}}
			packed, err := Pack([]Group{{"g", d}}, 2048)
			if err != nil {
				t.Fatal(err)
			}
			checkPacked(t, d, packed, 2048)
			fewest, err := PackFewest("g", d, 2048)
			if err != nil {
				t.Fatal(err)
			}
			checkPacked(t, d, fewest, 2048)
			if want := (longestSize(d) + 1900) / 1900; len(fewest) > want {
				t.Errorf("got %d policies for %d characters, want at most %d", len(fewest), longestSize(d), want)
			}
		})
	}
}

func TestPackRefusesWhatCannotBeCut(t *testing.T) {
	t.Parallel()
	st := Statement{Effect: Allow, Resource: []string{"*"}}
	for i := range 200 {
		st.NotAction = append(st.NotAction, fmt.Sprintf("ec2:DescribeSomething%d", i))
	}
	d := &Document{Version: currentVersion, Statements: []Statement{{Effect: Allow, Action: []string{"s3:*"}, Resource: []string{"*"}}, st}}
	_, err := Pack([]Group{{"g", d}}, 2048)
	_, fewestErr := PackFewest("g", d, 2048)
	for _, err := range []error{err, fewestErr} {
		var large *TooLargeError
		if !errors.As(err, &large) || large.Statement != 1 || large.Limit != 2048 || large.Size < 2049 {
			t.Errorf("got %v, want a TooLargeError on statement 1", err)
		}
	}
}
