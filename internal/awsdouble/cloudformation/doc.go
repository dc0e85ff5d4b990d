// Package cloudformation is AWS CloudFormation as far as access templates use
// it: templates, stacks, change sets, events, rollback and drift. What a stack
// has is made by calls to the services, as the caller of the stack's operation.
//
// Start with Parse, and with New for the API. What is where:
//
//	template.go   Parse and Bind: a template, checked, and with values
//	resource.go   handlers by type of resource, and how they call services
package cloudformation
