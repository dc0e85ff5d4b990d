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
//	template.go   Parse and Bind: a template, checked, and with values
//	resource.go   handlers by type of resource, and how they call services
//	lambda.go     functions, and resources that functions make
package cloudformation
