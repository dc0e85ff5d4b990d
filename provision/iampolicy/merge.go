package iampolicy

import "slices"

// Merge returns one document with the statements of all, in order, that means
// what they mean together. A Sid that an earlier statement has is dropped. It
// keeps the first document's Name. Minify makes the outcome short.
func Merge(documents ...*Document) *Document {
	out := &Document{Version: currentVersion, Statements: []Statement{}}
	if len(documents) > 0 {
		out.Name = documents[0].Name
	}
	sids := map[string]bool{}
	for _, d := range documents {
		for _, st := range asCurrent(d).Statements {
			if sids[st.Sid] {
				st.Sid = ""
			}
			sids[st.Sid] = true
			out.Statements = append(out.Statements, st.clone())
		}
	}
	return out
}

// clone copies a statement so that the copy's lists can be changed. Principals
// are never changed in place and stay shared.
func (st Statement) clone() Statement {
	for _, list := range []*[]string{&st.Action, &st.NotAction, &st.Resource, &st.NotResource} {
		*list = slices.Clone(*list)
	}
	st.Condition = slices.Clone(st.Condition)
	return st
}
