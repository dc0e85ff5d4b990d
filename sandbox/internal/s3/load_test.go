package s3_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
)

// under is how long TestUnderLoad asks for.
const under = 6 * time.Second

// TestUnderLoad asks in parallel for what is allowed and what is refused, with
// bodies that S3 does not read before it refuses, while policies change and the
// identity program is killed again and again. Every answer has to be a right one
// of S3's.
func TestUnderLoad(t *testing.T) {
	w := ownWorld(t)
	bucket := w.bucket(t, "load")
	w.put(t, w.s3As(w.adminKey()), bucket, "there", "something")
	everything := policy(`{"Effect":"Allow","Action":"s3:*","Resource":"*"}`)
	reading := policy(`{"Effect":"Allow","Action":["s3:GetObject","s3:ListBucket"],"Resource":"*"}`)
	as := func(name, policy string) *awss3.Client {
		arn := w.role(t, name, trust("StringEquals", "union:"+name), policy)
		return w.s3As(w.session(t, arn, w.keys.token("union:"+name).signed(t)))
	}
	writer, reader, changing := as("writer", everything), as("reader", reading), as("changing", everything)

	ctx, cancel := context.WithTimeout(t.Context(), under)
	defer cancel()
	var lock sync.Mutex
	seen := map[string]int{} // "who operation: code"
	var running sync.WaitGroup
	for worker := range 12 {
		running.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				who, client := "writer", writer
				switch (worker + i) % 3 {
				case 1:
					who, client = "reader", reader
				case 2:
					who, client = "changing", changing
				}
				operation, err := loadOnce(client, bucket, fmt.Sprint(worker), i)
				lock.Lock()
				seen[who+" "+operation+": "+code(err)]++
				lock.Unlock()
			}
		})
	}
	kills, changes := 0, 0
	for ; ctx.Err() == nil; kills++ {
		for range 5 {
			text := everything
			if changes%2 == 0 {
				text = reading
			}
			changes++
			w.grant(t, "changing", text)
		}
		w.identity.kill()
		if err := w.start(w.identity, w.sts+"/readyz"); err != nil {
			t.Fatal(err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(under / 20): // some requests between two faults
		}
	}
	running.Wait()
	total := 0
	for _, key := range slices.Sorted(maps.Keys(seen)) {
		total += seen[key]
		t.Logf("%6d %s", seen[key], key)
		who, rest, _ := strings.Cut(key, " ")
		operation, got, _ := strings.Cut(rest, ": ")
		reads := operation == "get" || operation == "list"
		switch {
		case got == "ServiceUnavailable": // the identity program was away
		case got == "" && (reads || who != "reader"):
		case got == "AccessDenied" && !reads && who != "writer":
		default:
			t.Errorf("%s of %s: got %q", operation, who, got)
		}
	}
	t.Logf("%d requests, %d changes of a policy, %d kills of the identity program", total, changes, kills)

	// Nothing that was written there is lost.
	for _, name := range []string{"writer", "reader", "changing"} {
		out, err := w.iamAs(w.adminKey()).GetRolePolicy(t.Context(), &iam.GetRolePolicyInput{RoleName: &name, PolicyName: aws.String("s3")})
		if err != nil || *out.PolicyDocument == "" {
			t.Errorf("the policy of %s: %v", name, err)
		}
	}
}

// loadOnce does one operation in turn.
func loadOnce(client *awss3.Client, bucket, worker string, i int) (operation string, err error) {
	ctx, key := context.Background(), aws.String("w/"+worker)
	switch i % 5 {
	case 0:
		_, err = client.DeleteObject(ctx, &awss3.DeleteObjectInput{Bucket: &bucket, Key: key})
		return "delete", err
	case 1:
		// From a byte to more than is read of a body that nobody wants.
		size := []int{1, 8 << 10, 70 << 10, 600 << 10}[i/5%4]
		_, err = client.PutObject(ctx, &awss3.PutObjectInput{Bucket: &bucket, Key: key, Body: strings.NewReader(strings.Repeat("x", size))}, func(o *awss3.Options) {
			o.ContinueHeaderThresholdBytes = []int64{-1, 1}[i/20%2]
		})
		return "put", err
	case 2:
		out, failed := client.GetObject(ctx, &awss3.GetObjectInput{Bucket: &bucket, Key: aws.String("there")})
		if failed == nil {
			_, failed = io.Copy(io.Discard, out.Body)
			out.Body.Close()
		}
		return "get", failed
	case 3:
		_, err = client.DeleteObject(ctx, &awss3.DeleteObjectInput{Bucket: &bucket, Key: key})
		return "delete", err
	}
	_, err = client.ListObjectsV2(ctx, &awss3.ListObjectsV2Input{Bucket: &bucket})
	return "list", err
}
