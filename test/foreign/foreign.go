// Package foreign compares the policy engine with two others, minio's and
// versitygw's, on what all of them can read: identity policies on S3. It is a
// module of its own, so that their dependencies, and the licence of minio's
// (AGPL), reach no release. They are witnesses, not authorities: where they
// depart from IAM a named difference says so, and any other disagreement fails
// the test.
//
// Start with compare_test.go. One command runs it all:
//
//	cd test/foreign && go test ./...
//
// More decisions: go test -run Foreign -decisions 1000000. Open-ended:
// go test -fuzz FuzzMinio, FuzzVersitygw. Speed: go test -bench Decision -benchmem.
package foreign
