// Package matrix asks a whole sandbox the question that it is for: does each service
// account of the published table have exactly the rights that the table gives it,
// from outside by the AWS profiles and from inside by pods, with AWS's own SDK as it
// comes? Its test has the table written down on its own, so nothing that made the
// roles is believed. It starts the sandbox by bin/biplane, as a person does; 'make
// build setup' makes that, and the Python with boto3.
//
// It does not look at how a decision is made, which is for the tests of the parts.
//
// Start with matrix_test.go.
package matrix

import _ "embed"

// Script prints a cell a line, for whoever runs it; see its first lines.
//
//go:embed cells.py
var Script string
