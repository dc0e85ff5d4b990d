package sandbox

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"biplane.dev/biplane/internal/usererr"
)

// DefaultName is the sandbox that is meant when none is named.
const DefaultName = "default"

// Folder is where a sandbox keeps everything, as an absolute path: the folder
// of its name under --dir. It is 0700, and every secret in it 0600.
type Folder string

// names are those of a DNS label, which node names and contexts of a
// kubeconfig are made with, and short enough to leave room for both.
var names = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)

// FolderOf returns the folder of the sandbox called name under parent. It does
// not look whether it is there.
func FolderOf(parent, name string) (Folder, error) {
	if !names.MatchString(name) {
		return "", usererr.New(usererr.Invalid, "a sandbox cannot be called %q", name).
			WithHint("give --name up to 32 lower-case letters, digits and hyphens, with no hyphen at either end")
	}
	if parent == "" {
		return "", usererr.New(usererr.Invalid, "--dir is empty").WithHint("name the folder that holds sandboxes, or leave --dir out")
	}
	absolute, err := filepath.Abs(parent)
	if err != nil {
		return "", usererr.New(usererr.Unavailable, "there is no current folder, which --dir %q is meant to be in", parent).
			WithHint("give --dir as an absolute path").Because(err)
	}
	return Folder(filepath.Join(absolute, name)), nil
}

// DefaultDir returns where sandboxes lie when --dir names no place: below the
// XDG state folder. The parameter is os.Getenv.
func DefaultDir(getenv func(string) string) (string, error) {
	state := getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(state) { // the XDG specification: a relative path is to be ignored
		home := getenv("HOME")
		if !filepath.IsAbs(home) {
			return "", usererr.New(usererr.Invalid, "neither XDG_STATE_HOME nor HOME names a folder, so there is no place for a sandbox").
				WithHint("name one with --dir")
		}
		state = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(state, "biplane", "sandbox"), nil
}

// Name is what the sandbox is called.
func (f Folder) Name() string { return filepath.Base(string(f)) }

// Exists says whether there is a sandbox there, up or not.
func (f Folder) Exists() (bool, error) {
	info, err := os.Lstat(string(f))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, usererr.New(usererr.Unavailable, "cannot look into the folder %s: %v", f, reason(err)).Because(err)
	case !info.IsDir():
		return false, usererr.New(usererr.Invalid, "%s is not a folder", f).WithHint("name another place with --dir")
	}
	return true, nil
}

func (f Folder) at(elements ...string) string {
	return filepath.Join(append([]string{string(f)}, elements...)...)
}

// What lies where. Run is the working directory of every component, so that
// sockets in it are named by their last element, which is never too long.
func (f Folder) RecordFile() string          { return f.at(recordName) }   // options, ports and ids: a Record
func (f Folder) LockFile() string            { return f.at("lock") }       // held by the supervisor as long as it lives
func (f Folder) Run() string                 { return f.at("run") }        // sockets
func (f Folder) PKI() string                 { return f.at("pki") }        // certificates and keys
func (f Folder) Kubeconfig() string          { return f.at("kubeconfig") } // the administrator's
func (f Folder) Logs() string                { return f.at("logs") }       // a file for each component
func (f Folder) Log(component string) string { return f.at("logs", component+".log") }
func (f Folder) Etcd() string                { return f.at("etcd") }                 // what the API server keeps
func (f Folder) S3() string                  { return f.at("s3") }                   // objects
func (f Folder) Identity() string            { return f.at("identity") }             // roles, policies, sessions
func (f Folder) Node(name string) string     { return f.at("node", name) }           // pods of a node
func (f Folder) ImageFile() string           { return f.at("images.yaml") }          // which image is which root directory
func (f Folder) ControlPlane() string        { return f.at("controlplane") }         // its configuration, keys and database
func (f Folder) DataPlane() string           { return f.at("dataplane") }            // the image of its processes
func (f Folder) DataPlaneCA() string         { return f.at("dataplane", "ca.crt") }  // what its proxy is trusted by
func (f Folder) FlyteConfig() string         { return f.at("flyte.yaml") }           // what Flyte's clients read
func (f Folder) Images() string              { return f.at("images") }               // what was imported
func (f Folder) AWS() string                 { return f.at("aws") }                  // what the AWS tools and SDKs read:
func (f Folder) AWSConfig() string           { return f.at("aws", "config") }        // profiles
func (f Folder) AWSCredentials() string      { return f.at("aws", "credentials") }   // the administrator's key
func (f Folder) AWSTokens() string           { return f.at("aws", "tokens") }        // a service account's token for each profile
func (f Folder) CABundle() string            { return f.at("aws", "ca-bundle.crt") } // the system's roots and those of the sandbox

// NodeMemory is where a process node, whose folder this is, keeps what must not
// lie on a disk: on the memory file system that the machine has for everybody, in
// a folder of that node alone. A node removes it when it ends and when it starts;
// one that was killed leaves it.
func NodeMemory(nodeDir string) string {
	of := sha256.Sum256([]byte(nodeDir))
	return filepath.Join("/dev/shm", "biplane-"+hex.EncodeToString(of[:8]))
}

// Purge deletes the sandbox. Its supervisor must be down; a folder that no
// sandbox was in is refused.
func (f Folder) Purge() error {
	exists, err := f.Exists()
	if err != nil || !exists {
		return err
	}
	if _, err := os.Lstat(f.LockFile()); errors.Is(err, fs.ErrNotExist) {
		return usererr.New(usererr.Refused, "%s is not the folder of a sandbox, so it is not deleted", f).
			WithHint("look what is in it, and delete it by hand")
	}
	if Dial(f).running() {
		return usererr.New(usererr.Refused, "sandbox %s is up, so it is not deleted", f.Name()).
			WithHint("run 'biplane sandbox down' first")
	}
	nodes, err := filepath.Glob(f.Node("*"))
	if err != nil {
		return usererr.New(usererr.Unavailable, "cannot look for nodes in %s: %v", f, reason(err)).Because(err)
	}
	for _, node := range nodes {
		memory := NodeMemory(node)
		if err := RemoveAll(memory); err != nil {
			return usererr.New(usererr.Unavailable, "cannot delete all of %s: %v", memory, reason(err)).Because(err)
		}
	}
	if err := RemoveAll(string(f)); err != nil {
		return usererr.New(usererr.Unavailable, "cannot delete all of %s: %v", f, reason(err)).Because(err)
	}
	return nil
}

// RemoveAll is os.RemoveAll, also of folders that nobody may write to, as there
// are in unpacked images.
func RemoveAll(path string) error {
	if os.RemoveAll(path) == nil {
		return nil
	}
	err := filepath.WalkDir(path, func(path string, entry fs.DirEntry, _ error) error {
		if entry != nil && entry.IsDir() {
			os.Chmod(path, 0o700) // where that fails, so does what follows
		}
		return nil
	})
	return errors.Join(err, os.RemoveAll(path))
}

// reason is the last cause, without the path that an os error repeats.
func reason(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}
