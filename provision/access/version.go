package access

// PolicyVersion is the version of the documents that Generate makes of strict and
// compat, as a tag on every role says it (vendor.Profile.TagPrefix + "policy-version"):
// the patch number changes with words, the minor one with rights that are added or
// moved, the major one with rights that are taken.
const PolicyVersion = "1.0.0"
