// Package cloudformation is AWS CloudFormation as far as access templates use
// it: templates, stacks, change sets, events, rollback and drift. What a stack
// has is made by calls to the services, as the caller of the stack's operation.
//
// Start with Parse, and with New for the API. What is where:
//
//	service.go    Service, Call, Serve and the table of operations; when things happen
//	input.go      what requests say, and where templates come from
//	stack.go      a stack, as it is kept, and what is done to a whole one
//	changeset.go  what an update would change, and why
//	work.go       operations, a resource after the other, forth and back
//	policy.go     stack policies
//	detect.go     drift
//	describe.go   the other answers
//	keep.go       the file
//
//	document.go   JSON and YAML, with the short forms of functions
//	template.go   Parse: a template's parts, checked, and its Summary
//	parameters.go what a value has to be
//	functions.go  Ref, Fn::Sub and the others: their form, and their values
//	bound.go      Bind: a template with values; its resources in order, its outputs
//
//	resource.go   handlers by type of resource, and how they call services
//	iamrole.go, iampolicy.go, iamother.go
//	              the handlers of IAM's types
//	lambda.go     functions, and resources that functions make
//	drift.go      how a resource differs from its template
package cloudformation
