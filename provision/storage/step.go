package storage

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"biplane.dev/biplane/provision/ownership"
	"biplane.dev/biplane/provision/step"
)

// bucketStep keeps one bucket with its settings.
type bucketStep struct {
	s3        S3
	set       *Set
	bucket    string
	logicalID string
	purpose   string
}

func (s *bucketStep) Name() string    { return "bucket " + s.bucket }
func (s *bucketStep) Needs() []string { return nil }

// account pins every call to buckets of the account: names are shared by all accounts.
func (s *bucketStep) account() *string { return &s.set.config.Account }

func (s *bucketStep) tags() map[string]string { return s.set.owner().Tags(component, s.logicalID) }

// Check asks that all of it is seen.
func (s *bucketStep) Check(ctx context.Context) error { return step.Settled(ctx, s) }

// foundBucket is the bucket as it is.
type foundBucket struct {
	*bucketStep
	goal    step.Goal
	there   bool
	taken   bool   // there is one of that name which this caller may not look at
	region  string // where it is
	tags    map[string]string
	differ  []setting // with what is there
	have    map[string]string
	missing []string // settings that the endpoint does not implement
}

func (s *bucketStep) Look(ctx context.Context, goal step.Goal) (step.Found, error) {
	found := &foundBucket{bucketStep: s, goal: goal, have: map[string]string{}}
	location, err := s.s3.GetBucketLocation(ctx, &s3.GetBucketLocationInput{Bucket: &s.bucket, ExpectedBucketOwner: s.account()})
	switch {
	case noSuchBucket(err):
		return found, nil
	case status(err) == http.StatusForbidden && code(err) == "AccessDenied":
		found.there, found.taken = true, true
		return found, nil
	case err != nil:
		return nil, err
	}
	found.there, found.region = true, regionOf(location.LocationConstraint)

	tagging, err := s.s3.GetBucketTagging(ctx, &s3.GetBucketTaggingInput{Bucket: &s.bucket, ExpectedBucketOwner: s.account()})
	switch {
	case noSuchBucket(err):
		return &foundBucket{bucketStep: s, goal: goal}, nil // it went meanwhile
	case err != nil && !unset(err):
		return nil, err
	case err == nil:
		found.tags = tagMap(tagging.TagSet)
	}
	if goal == step.Absent || found.region != s.set.config.Region {
		return found, nil
	}
	for _, one := range s.settings() {
		have, err := one.get(ctx)
		switch {
		case notImplemented(err):
			found.missing = append(found.missing, one.name)
			continue
		case err != nil && !unset(err):
			return nil, fmt.Errorf("reading its %s: %w", one.name, err)
		}
		if found.have[one.name] = have; have != one.want {
			found.differ = append(found.differ, one)
		}
	}
	return found, nil
}

// Drift implements step.Drifter.
func (s *bucketStep) Drift(ctx context.Context) ([]step.Drift, error) {
	looked, err := s.Look(ctx, step.Present)
	if err != nil {
		return nil, err
	}
	f := looked.(*foundBucket)
	differs := func(field, want, got string) step.Drift {
		return step.Drift{Resource: s.bucket, Field: field, Want: want, Got: got}
	}
	switch {
	case !f.there:
		return []step.Drift{differs("existence", "there", "missing")}, nil
	case f.taken:
		return []step.Drift{differs("owner", "account "+s.set.config.Account, "somebody else, or it may not be looked at")}, nil
	case f.region != s.set.config.Region:
		return []step.Drift{differs("region", s.set.config.Region, f.region)}, nil
	}
	var drift []step.Drift
	missing := ownership.Missing(f.tags, s.tags())
	for _, key := range ownership.Keys(missing) {
		drift = append(drift, differs("tag "+key, missing[key], f.tags[key]))
	}
	for _, one := range f.differ {
		drift = append(drift, differs(one.name, one.want, f.have[one.name]))
	}
	return drift, nil
}

// regionOf turns a location into a region: the oldest has none, the second has its
// continent.
func regionOf(location types.BucketLocationConstraint) string {
	switch location {
	case "":
		return "us-east-1"
	case types.BucketLocationConstraintEu:
		return "eu-west-1"
	}
	return string(location)
}

func (f *foundBucket) Plan() step.Change {
	owner := f.set.owner()
	relation := owner.Of(f.tags, component)
	switch {
	case f.goal == step.Absent:
		return f.planRemoval(relation)
	case !f.there:
		details := []string{f.purpose, "in " + f.set.config.Region}
		for _, one := range f.settings() {
			details = append(details, one.name+": "+one.want)
		}
		return step.Change{Action: step.Create, Details: details}
	case f.taken:
		return step.Change{Action: step.Refuse,
			Details: []string{"there is one of that name which this caller may not look at: it is another account's, or the right s3:GetBucketLocation is missing"},
			Hint:    "give the data plane another name, or its buckets another suffix"}
	case f.region != f.set.config.Region:
		return step.Change{Action: step.Refuse, Details: []string{fmt.Sprintf("it is in %s, wanted in %s", f.region, f.set.config.Region)},
			Hint: "give the data plane another name, or its buckets another suffix"}
	case relation == ownership.Other:
		return step.Change{Action: step.Refuse, Details: []string{"it belongs to data plane " + owner.DataPlaneOf(f.tags)},
			Hint: "give this data plane another name"}
	case relation == ownership.Foreign && !f.set.config.Adopt:
		return step.Change{Action: step.Refuse, Details: []string{"somebody else made it: it does not carry the tag " + f.set.config.Vendor.ManagedByKey()},
			Hint: "give the data plane another name, or ask for the bucket to be adopted"}
	case relation == ownership.Foreign:
		return step.Change{Action: step.Adopt, Details: append(append([]string{"it is in this account; from now on it belongs to this data plane"}, f.changes()...), f.unsupported()...)}
	}
	if changes := f.changes(); len(changes) > 0 {
		action := step.Finish
		for _, one := range f.differ {
			if f.have[one.name] != "" {
				action = step.Update
			}
		}
		return step.Change{Action: action, Details: append(changes, f.unsupported()...)}
	}
	return step.Change{Action: step.Keep, Details: f.unsupported()}
}

// changes says what would be set, and what it is now.
func (f *foundBucket) changes() []string {
	var lines []string
	if tags := ownership.Missing(f.tags, f.bucketStep.tags()); len(tags) > 0 {
		lines = append(lines, "set tags "+strings.Join(ownership.Keys(tags), ", "))
	}
	for _, one := range f.differ {
		line := "set " + one.name + ": " + one.want
		if have := f.have[one.name]; have != "" {
			line += " (it is: " + have + ")"
		}
		lines = append(lines, line)
	}
	return lines
}

func (f *foundBucket) unsupported() []string {
	if len(f.missing) == 0 {
		return nil
	}
	return []string{"not supported by this endpoint: " + strings.Join(f.missing, ", ")}
}

func (f *foundBucket) Make(ctx context.Context) error {
	if !f.there {
		if err := f.create(ctx); err != nil {
			return passing(err)
		}
		// What a new bucket has is for the endpoint to say.
		looked, err := f.Look(ctx, step.Present)
		if err != nil {
			return passing(err)
		}
		f = looked.(*foundBucket)
		if !f.there {
			return fmt.Errorf("%s was made and is not seen: %w", f.Name(), step.ErrConflict)
		}
	}
	if tags := ownership.Missing(f.tags, f.bucketStep.tags()); len(tags) > 0 {
		// The call replaces all tags, so those of others are written back.
		all := f.bucketStep.tags()
		for key, value := range f.tags {
			if _, ours := all[key]; !ours {
				all[key] = value
			}
		}
		_, err := f.s3.PutBucketTagging(ctx, &s3.PutBucketTaggingInput{Bucket: &f.bucket, ExpectedBucketOwner: f.account(), Tagging: &types.Tagging{TagSet: tagList(all)}})
		if err != nil {
			return passing(err)
		}
	}
	for _, one := range f.differ {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := one.put(ctx); err != nil {
			return passing(fmt.Errorf("setting its %s: %w", one.name, err))
		}
	}
	return nil
}

// create makes the bucket with its tags, so that it is never there without its
// owner's name on it. us-east-1 must not be named.
func (f *foundBucket) create(ctx context.Context) error {
	in := &s3.CreateBucketInput{Bucket: &f.bucket, CreateBucketConfiguration: &types.CreateBucketConfiguration{Tags: tagList(f.bucketStep.tags())}}
	if region := f.set.config.Region; region != "us-east-1" {
		in.CreateBucketConfiguration.LocationConstraint = types.BucketLocationConstraint(region)
	}
	_, err := f.s3.CreateBucket(ctx, in)
	return err
}

func (f *foundBucket) planRemoval(relation ownership.Relation) step.Change {
	switch {
	case !f.there:
		return step.Change{Action: step.None}
	case f.taken:
		return step.Change{Action: step.Leave, Details: []string{"this caller may not look at it"}}
	case relation == ownership.Other:
		return step.Change{Action: step.Leave, Details: []string{"it belongs to data plane " + f.set.owner().DataPlaneOf(f.tags)}}
	case relation == ownership.Foreign:
		return step.Change{Action: step.Leave, Details: []string{"somebody else made it: it does not carry the tag " + f.set.config.Vendor.ManagedByKey()}}
	case !f.set.config.DeleteData:
		return step.Change{Action: step.Leave, Details: []string{"it stays, with what is in it: nobody asked for data to be deleted"}}
	}
	return step.Change{Action: step.Remove, Details: []string{"with all that is in it, every version of it"}}
}

// Remove empties the bucket, which S3 asks for, and deletes it.
func (f *foundBucket) Remove(ctx context.Context) error {
	if err := f.empty(ctx); err != nil {
		return unlessGone(err)
	}
	_, err := f.s3.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: &f.bucket, ExpectedBucketOwner: f.account()})
	return unlessGone(err)
}

// unlessGone is for removing: what is not there any more is as good as removed.
func unlessGone(err error) error {
	if noSuchBucket(err) {
		return nil
	}
	return passing(err)
}

func tagMap(tags []types.Tag) map[string]string {
	m := make(map[string]string, len(tags))
	for _, t := range tags {
		m[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	return m
}

func tagList(tags map[string]string) []types.Tag {
	var list []types.Tag
	for _, key := range ownership.Keys(tags) {
		list = append(list, types.Tag{Key: aws.String(key), Value: aws.String(tags[key])})
	}
	return list
}

// errUndeleted is returned when S3 took a list of objects and left some.
var errUndeleted = errors.New("not every object could be deleted")
