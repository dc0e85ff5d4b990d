// Package iampolicy reads, decides, explains, compares, lints and packs AWS
// policy documents, with no AWS account and no network. It is for whoever has a
// document and a question; it does not fetch documents and holds none of
// Biplane's own (see provision/access).
//
// Start with Parse, then:
//
//	Parse, Scan        text to Document, strictly; Scan goes on after a problem
//	Text, Indented     Document to text, for IAM and for people
//	Canonical, Equal   the same meaning in the same form
//	Size, Minify       what IAM counts, and the shortest text of the same meaning
//	Compile            Policies to an Evaluator: Decide and Explain a Request
//	Diff               what one document allows and another does not
//	Merge              several documents as one
//	Pack, PackFewest   one document as several that fit: stable, or as few as can be
//	Lint               what a careful reader would object to
//	MatchARN, Covers   one pattern and one ARN, or two patterns
//	sar                the service authorization facts that Lint and Diff need
//
// Canonical, Minify, Diff and Equal all take a document apart into cells of
// scope, action and resource; matrix.go is where that is done.
package iampolicy
