package iampolicy

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// lintDocument looks at what belongs to the whole document, and at elements
// that this kind of document must or must not have.
func (l *linter) lintDocument() {
	switch {
	case l.doc.Version == "" && !l.places.has("Version"):
		l.report("missing-version", -1, "", "the document has no Version, so IAM reads it as 2008-10-17, in which ${…} is plain text",
			`add "Version": "2012-10-17"`)
	case l.doc.Version == "2008-10-17":
		l.report("old-version", -1, "Version", "the Version 2008-10-17 has no policy variables and none of what came later",
			`write "Version": "2012-10-17"`)
	}
	var found []string
	for _, text := range l.texts() {
		for _, name := range placeholders(text.value) {
			if !slices.Contains(found, name) {
				found = append(found, name)
			}
		}
		for _, name := range variables(text.value) {
			l.lintVariable(text, name)
		}
	}
	if len(found) > 0 {
		l.report("template", -1, "", "the document is a template: it has the placeholders "+some(found)+", which IAM would take as they are",
			"fill them in before you give the document to IAM")
	}
	if l.kind == identityKind {
		return
	}
	for i := range l.doc.Statements {
		s := &l.doc.Statements[i]
		for n, action := range s.Action {
			if l.kind == trustKind && !isSTS(action) && actionFault(action) == "" {
				l.report("action-in-trust", i, l.entry(i, "Action", n), "a trust policy is about assuming its role, and IAM refuses "+action+" in it",
					"keep sts:AssumeRole and its like only")
			}
		}
		if l.kind == trustKind && (s.Resource != nil || s.NotResource != nil) {
			element := "Resource"
			if s.Resource == nil {
				element = "NotResource"
			}
			l.report("resource-in-trust", i, fmt.Sprintf("Statement[%d].%s", i, element),
				"a trust policy is about its own role, and IAM refuses a "+element+" in it", "remove the "+element)
		}
		if s.Principal == nil && s.NotPrincipal == nil && (s.Action != nil || s.NotAction != nil) {
			l.report("missing-principal", i, fmt.Sprintf("Statement[%d]", i),
				"the statement has no Principal, and others of the document have one", "say who it is about, or move it to an identity policy")
		}
	}
}

// lintVariable looks at one policy variable.
func (l *linter) lintVariable(at documentText, name string) {
	key, _, _ := strings.Cut(name, ",")
	key = strings.TrimSpace(key)
	if l.doc.Version != "2012-10-17" {
		l.report("variable-in-old-version", at.statement, at.path,
			"${"+name+"} is plain text in a document without Version 2012-10-17", `add "Version": "2012-10-17"`)
		return
	}
	if known := l.knownKey(key); !known {
		l.report("unknown-variable", at.statement, at.path,
			"${"+name+"} is no policy variable: there is no condition key "+quote(key)+", so the text never matches", l.nearestKey(key))
	}
}

// documentText is a value in which variables and placeholders may stand.
type documentText struct {
	statement int
	path      string
	value     string
}

func (l *linter) texts() []documentText {
	var all []documentText
	for i := range l.doc.Statements {
		s := &l.doc.Statements[i]
		add := func(element string, values []string) {
			for n, value := range values {
				all = append(all, documentText{i, l.entry(i, element, n), value})
			}
		}
		if p := s.Principal; p != nil {
			add("Principal.AWS", p.AWS)
			add("Principal.Federated", p.Federated)
			add("Principal.Service", p.Service)
		}
		add("Resource", s.Resource)
		add("NotResource", s.NotResource)
		for c := range s.Condition {
			condition := &s.Condition[c]
			path := l.condition(i, condition)
			all = append(all, documentText{i, path, condition.Key})
			for _, value := range condition.Values {
				all = append(all, documentText{i, path, value})
			}
		}
	}
	return all
}

// A template's placeholder is not a policy variable: ${AWS::Region} and ${Name}
// of CloudFormation and others, <REGION>, <<REGION>>. A variable names a
// condition key and so has one colon inside: ${aws:username}.
var (
	angled = regexp.MustCompile(`<<?[A-Za-z][A-Za-z0-9_-]*>>?`)
	dollar = regexp.MustCompile(`\$\{([^}]*)\}`)
)

func placeholders(text string) []string {
	if !strings.ContainsAny(text, "<$") {
		return nil
	}
	found := angled.FindAllString(text, -1)
	for _, m := range dollar.FindAllStringSubmatch(text, -1) {
		if isPlaceholder(m[1]) {
			found = append(found, m[0])
		}
	}
	return found
}

func variables(text string) []string {
	var found []string
	for _, m := range dollar.FindAllStringSubmatch(text, -1) {
		if _, escaped := escapedChar(m[1]); !escaped && !isPlaceholder(m[1]) {
			found = append(found, m[1])
		}
	}
	return found
}

func isPlaceholder(name string) bool {
	if _, escaped := escapedChar(name); escaped {
		return false
	}
	return strings.Contains(name, "::") || !strings.Contains(name, ":")
}

// starPlaceholders replaces placeholders by *, so that a template is judged by
// what it can become.
func starPlaceholders(text string) string {
	if !strings.ContainsAny(text, "<$") {
		return text
	}
	text = angled.ReplaceAllString(text, "*")
	return dollar.ReplaceAllStringFunc(text, func(found string) string {
		if isPlaceholder(found[2 : len(found)-1]) {
			return "*"
		}
		return found
	})
}

// commercialRegions are the regions of the partition aws. A template's size is looked at
// in each of them.
var commercialRegions = []string{
	"af-south-1", "ap-east-1", "ap-east-2", "ap-northeast-1", "ap-northeast-2", "ap-northeast-3", "ap-south-1",
	"ap-south-2", "ap-southeast-1", "ap-southeast-2", "ap-southeast-3", "ap-southeast-4", "ap-southeast-5",
	"ap-southeast-6", "ap-southeast-7", "ca-central-1", "ca-west-1", "eu-central-1", "eu-central-2", "eu-north-1",
	"eu-south-1", "eu-south-2", "eu-west-1", "eu-west-2", "eu-west-3", "il-central-1", "me-central-1", "me-south-1",
	"mx-central-1", "sa-east-1", "us-east-1", "us-east-2", "us-west-1", "us-west-2",
}

var (
	regionPlaceholder    = regexp.MustCompile(`(?i)<<?region>>?|\$\{(aws::)?region\}`)
	accountPlaceholder   = regexp.MustCompile(`(?i)<<?(aws[_-]?)?account([_-]?id)?>>?|\$\{(aws::)?account_?(id)?\}`)
	partitionPlaceholder = regexp.MustCompile(`(?i)<<?partition>>?|\$\{(aws::)?partition\}`)
)

// lintSize compares the document with IAM's limits. Placeholders of account and
// partition count as what they become; one of the region as each region. It is
// false for a document that is larger than any policy: nothing else is worth
// looking for.
func (l *linter) lintSize() bool {
	if size, err := Size(l.src); err != nil || size > largestPolicy {
		l.report("size-any", -1, "", fmt.Sprintf("the document has %d characters, and no AWS service takes a policy of more than %d; nothing but its form was looked at", size, largestPolicy),
			"check that this is the right file")
		return false
	}
	code, limit, what := "size-inline", InlineLimit, "all inline policies of a role together"
	switch {
	case l.kind == trustKind:
		code, limit, what = "size-trust", TrustLimit, "a role's trust policy"
	case l.kind == resourceKind:
		return true // each service has its own limit
	case l.options.Session:
		code, limit, what = "size-session", SessionLimit, "a session policy"
	}
	src := accountPlaceholder.ReplaceAll(l.src, []byte("123456789012"))
	src = partitionPlaceholder.ReplaceAll(src, []byte("aws"))
	if !l.sizeOver(src, code, limit, what) && code == "size-inline" {
		l.sizeOver(src, "size-managed", ManagedLimit, "a managed policy")
	}
	return true
}

// sizeOver reports the document if it has more characters than the limit in
// some region.
func (l *linter) sizeOver(src []byte, code string, limit int, what string) bool {
	remedy := "run 'biplane access policy' for one that is split, or move statements to another policy"
	switch code {
	case "size-managed":
		remedy = "split it if it is to be a managed policy; inline it fits, alone"
	case "size-trust":
		remedy = "move principals to a role of their own, or ask AWS for a higher quota"
	case "size-session":
		remedy = "name fewer actions and resources, or put them into the role's own policies"
	}
	if !regionPlaceholder.Match(src) {
		size, err := Size(src)
		if err != nil || size <= limit {
			return false
		}
		l.report(code, -1, "", fmt.Sprintf("the document has %d characters, %d over the limit of %d for %s", size, size-limit, limit, what), remedy)
		return true
	}
	var over []string
	largest := 0
	sizes := map[int]int{} // by the length of the region's name, which is all that matters
	for _, region := range commercialRegions {
		size, ok := sizes[len(region)]
		if !ok {
			var err error
			if size, err = Size(regionPlaceholder.ReplaceAll(src, []byte(region))); err != nil {
				return false
			}
			sizes[len(region)] = size
		}
		if size > limit {
			over = append(over, fmt.Sprintf("%s (%d)", region, size))
			largest = max(largest, size)
		}
	}
	if len(over) == 0 {
		return false
	}
	where := fmt.Sprintf("in %d of %d regions: %s", len(over), len(commercialRegions), strings.Join(over, ", "))
	l.report(code, -1, "", fmt.Sprintf("the document has up to %d characters, over the limit of %d for %s, %s", largest, limit, what, where), remedy)
	return true
}
