package store

import (
	"biplane.dev/biplane/api/gen/flyteidl2/common"
)

// Query says which rows of a list, in which order, and which page of them.
type Query struct {
	Filters []*common.Filter // all must be met; at most 32, of 100 values each
	Sort    []*common.Sort   // all in one direction; empty: the list's default
	Limit   int              // 0: 100; more than 1,000 gives 1,000
	Token   string           // of the page before, for the same filters and sort
}

// QueryOf reads a list request. An empty or nil one asks for the first page.
func QueryOf(r *common.ListRequest) Query {
	sort := r.GetSortByFields()
	if len(sort) == 0 && r.GetSortBy().GetKey() != "" {
		sort = []*common.Sort{r.GetSortBy()}
	}
	return Query{Filters: r.GetFilters(), Sort: sort, Limit: int(r.GetLimit()), Token: r.GetToken()}
}
