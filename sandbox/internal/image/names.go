package image

import (
	"strings"

	names "github.com/distribution/reference"

	"biplane.dev/biplane/internal/usererr"
)

// A reference is an image's name in full.
type reference struct {
	repository  string // docker.io/library/busybox
	tag, digest string // one of both at least
}

func (r reference) String() string {
	if r.digest == "" {
		return r.repository + ":" + r.tag
	}
	if r.tag == "" {
		return r.repository + "@" + r.digest
	}
	return r.repository + ":" + r.tag + "@" + r.digest
}

// parseName reads a name as container engines do: without a registry it is
// Docker's, without a tag the tag is latest.
func parseName(text string) (reference, error) {
	refuse := func(err error) error {
		return usererr.New(usererr.Invalid, "%q is no name of an image", text).
			WithHint("write it as REGISTRY/REPOSITORY:TAG, in lower-case letters: example.com/team/tool:1").Because(err)
	}
	var r reference
	named, err := names.ParseNormalizedNamed(text)
	if err != nil {
		return r, refuse(err)
	}
	named = names.TagNameOnly(named)
	r.repository = named.Name()
	if t, ok := named.(names.Tagged); ok {
		r.tag = t.Tag()
	}
	if d, ok := named.(names.Digested); ok {
		r.digest = d.Digest().String()
	}
	return r, nil
}

// parsePattern writes a name with stars in full. A star stands for anything,
// slashes too; a pattern without a tag is for every tag.
func parsePattern(text string) (string, error) {
	if !strings.Contains(text, "*") {
		r, err := parseName(text)
		return r.String(), err
	}
	// Whether it is well-formed shows with a letter in place of each star.
	if strings.ContainsAny(text, " \t\n@") {
		return "", usererr.New(usererr.Invalid, "%q is no pattern of image names", text).
			WithHint("write it as REGISTRY/REPOSITORY:TAG with stars: 'example.com/team/*'")
	}
	if text == "*" {
		return text, nil
	}
	if _, err := parseName(strings.ReplaceAll(text, "*", "x")); err != nil {
		return "", err
	}
	first, rest, slash := strings.Cut(text, "/")
	switch {
	case !slash && strings.HasPrefix(first, "*"):
	case !slash:
		text = "docker.io/library/" + text
	case !strings.ContainsAny(first, ".:*") && first != "localhost":
		text = "docker.io/" + text
	case first == "index.docker.io":
		text = "docker.io/" + rest
	}
	if last := text[strings.LastIndexByte(text, '/')+1:]; !strings.Contains(last, ":") && !strings.HasSuffix(last, "*") {
		text += ":*"
	}
	return text, nil
}

// find returns the entry that fits best: an exact name before any pattern, of
// two patterns the one with more letters, of two alike the later one.
func (f *file) find(asked reference) *entry {
	var best *entry
	weight := -1
	for n := range f.Images {
		e := &f.Images[n]
		w := len(e.full) - strings.Count(e.full, "*")
		if !strings.Contains(e.full, "*") {
			w += 1 << 20
		}
		if w >= weight && e.fits(asked) {
			best, weight = e, w
		}
	}
	return best
}

func (e *entry) fits(asked reference) bool {
	if asked.digest != "" && e.Imported != "" {
		// Who asks for a digest gets that one or none.
		if asked.digest != e.Digest && asked.digest != e.Imported {
			return false
		}
		own, err := parseName(e.Name)
		return err == nil && own.repository == asked.repository
	}
	if match(e.full, asked.repository+":"+asked.tag) {
		return true
	}
	return asked.digest != "" && (match(e.full, asked.String()) || match(e.full, asked.repository+"@"+asked.digest))
}

// match says whether text fits a pattern with stars.
func match(pattern, text string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == text
	}
	rest, ok := strings.CutPrefix(text, parts[0])
	if !ok {
		return false
	}
	last := parts[len(parts)-1]
	for _, part := range parts[1 : len(parts)-1] {
		at := strings.Index(rest, part)
		if at < 0 {
			return false
		}
		rest = rest[at+len(part):]
	}
	return strings.HasSuffix(rest, last)
}
