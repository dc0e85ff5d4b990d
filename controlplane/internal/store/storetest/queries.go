package storetest

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/controlplane/internal/store"
)

func testQueries(t *testing.T, b Backend) {
	ctx := t.Context()
	w := newWorld(t, b)
	many := make([]string, 201)
	for _, c := range []struct {
		name  string
		query store.Query
		says  string
	}{
		{"a field that is not there", store.Query{Filters: []*common.Filter{filter("colour", common.Filter_EQUAL, "red")}}, "colour"},
		{"SQL for a field", store.Query{Filters: []*common.Filter{filter("name = 'x' OR 1", common.Filter_EQUAL, "red")}}, "cannot filter by"},
		{"a phase that is none", store.Query{Filters: []*common.Filter{filter("phase", common.Filter_EQUAL, "DONE")}}, "SUCCEEDED"},
		{"a time that is none", store.Query{Filters: []*common.Filter{filter("created_at", common.Filter_EQUAL, "yesterday")}}, "2026-01-31T15:04:05Z"},
		{"two values for one", store.Query{Filters: []*common.Filter{filter("name", common.Filter_EQUAL, "a", "b")}}, "VALUE_IN"},
		{"no value", store.Query{Filters: []*common.Filter{filter("name", common.Filter_VALUE_IN)}}, "no values"},
		{"text functions on numbers", store.Query{Filters: []*common.Filter{filter("phase", common.Filter_CONTAINS, "1")}}, "not text"},
		{"a function without a number", store.Query{Filters: []*common.Filter{filter("name", 8, "1")}}, "not known"},
		{"comparing labels", store.Query{Filters: []*common.Filter{filter("labels.a", common.Filter_GREATER_THAN, "1")}}, "labels"},
		{"too many filters", store.Query{Filters: make([]*common.Filter, 33)}, "at most 32"},
		{"too many values", store.Query{Filters: []*common.Filter{filter("name", common.Filter_VALUE_IN, many...)}}, "at most 200"},
		{"a value that is too long", store.Query{Filters: []*common.Filter{filter("name", common.Filter_EQUAL, strings.Repeat("a", 2000))}}, "longer than"},
		{"filters in another language", store.Query{Raw: []string{"name = 'x'"}}, "raw_filters"},
		{"sorting by what is not sorted", store.Query{Sort: []*common.Sort{{Key: "phase"}}}, "created_at"},
		{"sorting in two directions", store.Query{Sort: []*common.Sort{{Key: "name"}, {Key: "created_at", Direction: common.Sort_ASCENDING}}}, "direction"},
		{"sorting by too much", store.Query{Sort: make([]*common.Sort, 5)}, "at most 4"},
	} {
		_, _, err := w.ListRuns(ctx, store.RunScope{Organization: "acme"}, c.query)
		wantError[*store.QueryError](t, err)
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got error %v, want one that says %q", c.name, err, c.says)
		}
	}
	t.Run("takes values for values whatever is in them", func(t *testing.T) {
		get(w.CreateRun(ctx, newRun(runKey("r%_'1"))))(t)
		for _, c := range []struct {
			filter *common.Filter
			want   string
		}{
			{filter("name", common.Filter_CONTAINS, "%_'"), "r%_'1"},
			{filter("name", common.Filter_CONTAINS, "_1"), ""},
			{filter("name", common.Filter_CONTAINS, "R"), ""},
			{filter("name", common.Filter_CONTAINS, ""), "r%_'1"},
			{filter("name", common.Filter_ENDS_WITH, "'1"), "r%_'1"},
			{filter("name", common.Filter_ENDS_WITH, "longer than the name"), ""},
			{filter("name", common.Filter_ENDS_WITH, ""), "r%_'1"},
			{filter("name", common.Filter_NOT_ENDS_WITH, "2"), "r%_'1"},
			{filter("name", common.Filter_EQUAL, "' OR '1'='1"), ""},
			{filter("labels.x' OR '1'='1", common.Filter_EXISTS), ""},
		} {
			runs, _ := page(w.ListRuns(ctx, store.RunScope{Organization: "acme"}, store.Query{Filters: []*common.Filter{c.filter}}))(t)
			equal(t, fmt.Sprint(c.filter), names(runs, runName), c.want)
		}
	})
}

func testPages(t *testing.T, b Backend) {
	ctx := t.Context()
	scope := store.RunScope{Organization: "acme", Project: "alpha", Domain: "development"}
	t.Run("has every row once, in either direction, whatever it is sorted by", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, b)
		for i := range 23 {
			get(w.CreateRun(ctx, newRun(runKey(fmt.Sprintf("r%02d", i)))))(t)
		}
		// Many have the same end.
		w.apply(t, state(runKey("r03"), "a0", 1, succeeded), state(runKey("r07"), "a0", 2, failed))
		for _, by := range []string{"created_at", "updated_at", "end_time", "name"} {
			for _, direction := range []common.Sort_Direction{common.Sort_ASCENDING, common.Sort_DESCENDING} {
				for _, s := range []store.RunScope{scope, {Organization: "acme"}} {
					whole, _ := page(w.ListRuns(ctx, s, store.Query{Sort: []*common.Sort{{Key: by, Direction: direction}}}))(t)
					var paged []store.Run
					q := store.Query{Sort: []*common.Sort{{Key: by, Direction: direction}}, Limit: 5}
					for {
						rows, next := page(w.ListRuns(ctx, s, q))(t)
						paged = append(paged, rows...)
						if q.Token = next; next == "" {
							break
						}
						equal(t, "rows of a page", len(rows), 5)
					}
					equal(t, fmt.Sprint(by, direction, s), names(paged, runName), names(whole, runName))
					equal(t, "rows", len(whole), 23)
				}
			}
		}
	})
	t.Run("goes on where it was while rows come and go", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, b)
		for i := range 9 {
			get(w.CreateRun(ctx, newRun(runKey(fmt.Sprintf("r%02d", 2*i)))))(t)
		}
		byName := store.Query{Sort: []*common.Sort{{Key: "name", Direction: common.Sort_ASCENDING}}, Limit: 4}
		first, next := page(w.ListRuns(ctx, scope, byName))(t)
		equal(t, "first page", names(first, runName), "r00 r02 r04 r06")
		get(w.CreateRun(ctx, newRun(runKey("r01"))))(t) // before the place
		get(w.CreateRun(ctx, newRun(runKey("r07"))))(t) // behind it
		w.apply(t, state(runKey("r06"), "a0", 1, succeeded))
		get(w.Prune(ctx, "acme", first[0].CreatedAt.AddDate(1, 0, 0), 10))(t) // the very last row of the page
		byName.Token = next
		second, _ := page(w.ListRuns(ctx, scope, byName))(t)
		equal(t, "second page", names(second, runName), "r07 r08 r10 r12")
	})
	t.Run("is bounded, and 100 long unless asked", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, b)
		key := runKey("r1")
		get(w.CreateRun(ctx, newRun(key)))(t)
		var all []string
		for i := range 1100 {
			all = append(all, fmt.Sprint("c", i))
		}
		batch := states()
		for i, name := range all {
			batch = append(batch, state(key, name, uint64(i+1), running))
		}
		w.apply(t, batch...)
		for limit, want := range map[int]int{0: 100, 1: 1, 1000: 1000, 5000: 1000, -1: 100} {
			rows, _ := page(w.ListActions(ctx, key, store.Query{Limit: limit}))(t)
			equal(t, fmt.Sprint("rows of limit ", limit), len(rows), want)
		}
	})
	t.Run("refuses a token of another list, or one that was changed", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, b)
		for i := range 4 {
			get(w.CreateRun(ctx, newRun(runKey(fmt.Sprint("r", i)))))(t)
		}
		_, token := page(w.ListRuns(ctx, scope, store.Query{Limit: 2}))(t)
		rows, _ := page(w.ListRuns(ctx, scope, store.Query{Limit: 1, Token: token}))(t) // another limit is another page of the same
		equal(t, "row", names(rows, runName), "r2")

		decoded := get(base64.RawURLEncoding.DecodeString(token))(t)
		decoded[len(decoded)-2] ^= 1
		refuse := func(what string, scope store.RunScope, q store.Query) {
			t.Helper()
			_, _, err := w.ListRuns(ctx, scope, q)
			if err == nil {
				t.Errorf("%s: got no error, want one", what)
			}
			wantError[*store.QueryError](t, err)
		}
		refuse("a changed token", scope, store.Query{Token: base64.RawURLEncoding.EncodeToString(decoded)})
		refuse("half a token", scope, store.Query{Token: token[:len(token)/2]})
		refuse("no token at all", scope, store.Query{Token: "not a token"})
		refuse("a token without end", scope, store.Query{Token: strings.Repeat("A", 1<<20)})
		refuse("another sort", scope, store.Query{Token: token, Sort: []*common.Sort{{Key: "name"}}})
		refuse("another filter", scope, store.Query{Token: token, Filters: []*common.Filter{filter("phase", common.Filter_EQUAL, "1")}})
		refuse("another scope", store.RunScope{Organization: "acme"}, store.Query{Token: token})
		refuse("another organisation", store.RunScope{Organization: "globex", Project: "alpha", Domain: "development"}, store.Query{Token: token})
		_, _, err := w.ListActions(ctx, runKey("r1"), store.Query{Token: token})
		wantError[*store.QueryError](t, err)
	})
	t.Run("reads a list request as the SDK sends it", func(t *testing.T) {
		t.Parallel()
		byName, byNothing := &common.ListRequest{Limit: 3, Token: "x"}, &common.ListRequest{}
		//lint:ignore SA1019 the SDK sends it
		byName.SortBy, byNothing.SortBy = &common.Sort{Key: "name"}, &common.Sort{}
		q := store.QueryOf(byName)
		equal(t, "query", fmt.Sprint(q.Limit, q.Token, len(q.Sort)), "3x1")
		equal(t, "sort without a key", len(store.QueryOf(byNothing).Sort), 0)
		equal(t, "empty request", len(store.QueryOf(nil).Sort), 0)
	})
}
