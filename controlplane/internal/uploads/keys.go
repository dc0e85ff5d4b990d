package uploads

import (
	"crypto/md5"
	"crypto/rand"
	"encoding/base32"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"

	"biplane.dev/biplane/controlplane/internal/refusal"
)

const (
	maxFilename = 255  // what file systems take
	maxKey      = 1024 // what S3 takes
)

// Location is where an upload is put, and the name by which tasks will read it.
type Location struct {
	FastRegistration bool   // put it into that bucket, and not into the metadata bucket
	Key              string // the same in both
}

// Locate decides where a file of a workspace goes:
// uploads/PROJECT/DOMAIN/{the MD5 in base 32, or root}/FILENAME. A bundle of code
// is put into the fast-registration bucket, from where the executor copies it
// before the first pod that names it.
func Locate(project, domain, root, filename string, sum []byte) (*Location, error) {
	if err := checkFilename(filename); err != nil {
		return nil, err
	}
	folder := root
	switch {
	case root != "":
		if err := checkRoot(root); err != nil {
			return nil, err
		}
	case len(sum) == md5.Size:
		folder = base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum)
	case len(sum) == 0:
		folder = rand.Text()
	}
	if len(sum) != 0 && len(sum) != md5.Size {
		return nil, refusal.Invalid("content_md5 has %d bytes, and an MD5 has %d", len(sum), md5.Size)
	}
	key := path.Join("uploads", project, domain, folder, filename)
	if len(key) > maxKey {
		return nil, refusal.Invalid("the upload's key has %d bytes, and S3 takes %d; choose a shorter filename or filename_root", len(key), maxKey)
	}
	return &Location{FastRegistration: codeBundle(filename), Key: key}, nil
}

// codeBundle tells the archives that the SDK makes of a project's code by the
// names that it gives them.
func codeBundle(filename string) bool {
	return filename == "code_bundle.pkl.gz" || strings.HasPrefix(filename, "fast") && strings.HasSuffix(filename, ".tar.gz")
}

// CheckInputsKey refuses a key that is not below the offloaded inputs of the
// workspace: it is all that a proxy may have signed.
func CheckInputsKey(organization, project, domain, key string) error {
	prefix := path.Join("uploads", organization, project, domain, "offloaded-inputs") + "/"
	rest, below := strings.CutPrefix(key, prefix)
	if !below || len(key) > maxKey {
		return refusal.Invalid("the key %q is not below %s, and no other may be signed for", short(key), prefix)
	}
	return checkPath("the key", rest)
}

// checkFilename takes a name, or a path below the upload's own folder: those of
// a directory come with theirs.
func checkFilename(name string) error {
	if name == "" {
		return refusal.Invalid("filename is empty")
	}
	return checkPath("filename", name)
}

func checkRoot(root string) error { return checkPath("filename_root", strings.TrimSuffix(root, "/")) }

// checkPath refuses whatever could end anywhere else than below where it is put.
func checkPath(what, name string) error {
	if !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) || strings.Contains(name, `\`) {
		return refusal.Invalid("%s %q has characters that no key may have; use letters, digits and - _ . /", what, short(name))
	}
	for segment := range strings.SplitSeq(name, "/") {
		switch {
		case segment == "" || segment == "." || segment == "..":
			return refusal.Invalid("%s %q leaves its folder; leave out empty parts, . and ..", what, short(name))
		case len(segment) > maxFilename:
			return refusal.Invalid("%s %q has a part of %d bytes; choose names of at most %d", what, short(name), len(segment), maxFilename)
		}
	}
	return nil
}

func short(text string) string {
	const most = 80
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}
