package image

import (
	"math"
	"strconv"
	"strings"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/sandbox/internal/container"
)

// User resolves Config.User, or a name in its form, in the image's own passwd
// and group files. A group that is not named is the user's first one, 0 when
// the image does not know the user.
func (i Image) User(user string) (uid, gid int, err error) {
	name, group, hasGroup := strings.Cut(user, ":")
	if name == "" {
		name = "0"
	}
	entry := i.lookup("passwd", name)
	if uid, err = number(name); err != nil {
		if len(entry) < 4 {
			return 0, 0, i.noSuch("user", name)
		}
		if uid, err = number(entry[2]); err != nil {
			return 0, 0, i.noSuch("user", name)
		}
	}
	if len(entry) >= 4 {
		gid, _ = number(entry[3])
	}
	if !hasGroup || group == "" {
		return uid, gid, nil
	}
	if gid, err = number(group); err != nil {
		entry := i.lookup("group", group)
		if len(entry) < 3 {
			return 0, 0, i.noSuch("group", group)
		}
		if gid, err = number(entry[2]); err != nil {
			return 0, 0, i.noSuch("group", group)
		}
	}
	return uid, gid, nil
}

func (i Image) noSuch(kind, name string) error {
	return usererr.New(usererr.NotFound, "the image %s has no %s %q", i.Name, kind, name).
		WithHint("set runAsUser and runAsGroup to numbers in the pod's securityContext")
}

func number(text string) (int, error) {
	n, err := strconv.ParseUint(text, 10, 32)
	if err == nil && n > math.MaxUint32-1 {
		err = strconv.ErrRange
	}
	return int(n), err
}

// lookup returns the fields of the line of a file in /etc that has this name, or
// this number as its third field.
func (i Image) lookup(file, name string) []string {
	text := "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:\n" // as package container has it for this machine
	if file == "group" {
		text = "root:x:0:\nnogroup:x:65534:\n"
	}
	if i.Root.Dir != "" {
		var err error
		if text, err = container.ReadInRoot(i.Root.Dir, "etc/"+file); err != nil {
			return nil
		}
	}
	for line := range strings.Lines(text) {
		f := strings.Split(strings.TrimRight(line, "\r\n"), ":")
		if len(f) >= 3 && (f[0] == name || f[2] == name) {
			return f
		}
	}
	return nil
}
