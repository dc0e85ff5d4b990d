package spec

import _ "embed"

// The JSON schema of the file, for editors and for programs that write one. It is made
// from the types of this package by TestSchema, their comments and the forms in
// validate.go; `make generate` makes it again. What depends on two keys at once, such
// as ranges that overlap, it does not know: Load does.
//
//go:embed schema.json
var schema []byte

// Schema is the JSON schema (draft 2020-12) of the file.
func Schema() []byte { return schema }
