// Package iampolicy reads, decides, explains, compares, lints and packs AWS
// policy documents, with no AWS account and no network. It is for whoever has a
// document and a question; it does not fetch documents and holds none of
// Biplane's own (see provision/access).
//
// Start with Parse, then:
//
//	Parse, Scan       text to Document, strictly; Scan goes on after a problem
//	Canonical, Equal  the same meaning in the same form
//	Size, Minify      what IAM counts, and the shortest text of the same meaning
//	Compile           Policies to an Evaluator: Decide and Explain a Request
//	Diff              what one document allows and another does not
//	Merge, Pack       several documents as one; one as several that fit
//	Lint              what a careful reader would object to
//	sar               the service authorization facts that Lint and Diff need
package iampolicy
