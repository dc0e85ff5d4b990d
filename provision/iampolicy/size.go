package iampolicy

import "unicode/utf8"

// Limits on a document's Size. IAM counts the documents of one role that are
// inline together, every other one by itself.
const (
	ManagedLimit = 6144  // one version of a managed policy; fixed
	InlineLimit  = 10240 // all inline policies of a role together; fixed
	TrustLimit   = 2048  // a role's trust policy; AWS raises it on request
	SessionLimit = 2048  // a session policy, besides a limit on its packed form
)

// Size counts a document's characters as IAM does: white space outside strings
// is left out, and of what is left each code point is one. An escape that JSON
// does not need (\u003c, \/) counts as the character that it stands for, so
// the text of a careless encoder is not judged larger than the document is;
// one that JSON needs counts as it is shortest written. The text must be JSON;
// the error is a *SyntaxError.
func Size(text []byte) (int, error) {
	root, err := readJSON("", text)
	if err != nil {
		return 0, err
	}
	return root.size(), nil
}

// Size is the Size of the document's Text.
func (d *Document) Size() int {
	return utf8.RuneCount(d.Text())
}

func (n node) size() int {
	switch n.kind {
	case objectKind:
		size := len("{}") + max(0, len(n.members)-1)
		for _, m := range n.members {
			size += stringSize(m.name) + len(":") + m.value.size()
		}
		return size
	case arrayKind:
		size := len("[]") + max(0, len(n.items)-1)
		for _, item := range n.items {
			size += item.size()
		}
		return size
	case stringKind:
		return stringSize(n.text)
	}
	return len(n.text)
}

func stringSize(s string) int {
	size := len(`""`)
	for _, r := range s {
		size += utf8.RuneCountInString(escape(r))
	}
	return size
}
