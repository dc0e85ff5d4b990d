// Package awsidentity is AWS's identity as a service of our own: IAM's objects
// and API with AWS's limits, versions, tags, paging and errors; STS; sessions;
// and decisions by provision/iampolicy's evaluator on the documents that it
// keeps. It is for tests, for the demo and for the sandbox, where every request
// has to be decided as AWS would decide it. It is not for the internet: its
// store holds secret access keys, because checking a signature needs them.
//
// It knows nothing of other services or proxies. Start with Open:
//
//	s, err := awsidentity.Open(awsidentity.Options{File: "identity.db"})
//	admin, err := s.CreateAccount("111122223333", awsidentity.AccountOptions{})
//	http.ListenAndServe(addr, s) // IAM and STS; or, in front of another service:
//	caller, err := s.Authenticate(r)
//	err = s.Authorize(caller, requests, bucketPolicy)
//
// Where things are:
//
//	service.go      Options, Open, and the pieces in order
//	store.go        one file, a bucket per account and kind, a transaction a call
//	objects.go      what is kept of a role, a policy, a user, a session
//	seed.go         CreateAccount, SeedRole, Session: what a test starts from
//	caller.go       Authenticate: a signature to a Caller
//	scp.go          the service control policies above an account
//	decide.go       Decide, Explain, Authorize: a Caller's policies and keys
//	holder.go       Holder: the same for a service in another process
//	query.go        ServeHTTP: the Query protocol
//	operations.go   the one table: operation, what it needs, what it does
//	roles.go, policies.go, profiles.go, users.go, oidc.go, account.go,
//	simulate.go     the operations of IAM, by object
//	tags.go         tagging, which is alike for all of them
//	sts.go, webidentity.go  the operations of STS
//	limits.go       names, sizes, quotas, in AWS's words
//	managed.go      the policies that AWS itself keeps
//
// Eventual consistency: with a ConsistencyDelay, what was written to IAM is not
// yet seen by reads, decisions, sign-in and AssumeRole until that much time has
// passed by the clock. Writes check against the newest state always, so that a
// name is taken at once, and a policy can be attached as soon as it was made.
// The delay is one number for the whole service; AWS's differs from place to
// place. Sessions that STS issues work at once, as they do with AWS.
package awsidentity
