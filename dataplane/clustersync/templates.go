package clustersync

import (
	"bufio"
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"text/template"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

//go:embed templates/*.yaml
var builtin embed.FS

// Bounds of templates: a workspace is a dozen small objects.
const (
	maxFiles   = 100
	maxText    = 1 << 20 // of one file, and of what it becomes
	maxObjects = 100
)

// templates are text/template files of YAML documents, in the order of their
// names. They find the values of values.data.
type templates []*template.Template

// loadTemplates reads those of the program, and over them those of the folder:
// one of the same name replaces, an empty one takes away.
func loadTemplates(folder string) (templates, error) {
	texts := map[string]string{}
	inside, err := fs.Sub(builtin, "templates")
	if err != nil {
		return nil, err
	}
	if err := readTemplates(inside, texts); err != nil {
		return nil, err
	}
	if folder != "" {
		if err := readTemplates(os.DirFS(folder), texts); err != nil {
			return nil, fmt.Errorf("reading the templates in %s: %w", folder, err)
		}
	}
	names := make([]string, 0, len(texts))
	for name, text := range texts {
		if strings.TrimSpace(text) != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var all templates
	for _, name := range names {
		one, err := template.New(name).Option("missingkey=error").Funcs(template.FuncMap{"quote": quote}).Parse(texts[name])
		if err != nil {
			return nil, err // it names the file and the line
		}
		all = append(all, one)
	}
	return all, nil
}

func readTemplates(folder fs.FS, texts map[string]string) error {
	entries, err := fs.ReadDir(folder, ".")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		name := entry.Name()
		// A mounted ConfigMap has folders of its own, with dots before their names.
		if strings.HasPrefix(name, ".") || path.Ext(name) != ".yaml" {
			continue
		}
		if len(texts) >= maxFiles {
			return fmt.Errorf("there are more than %d files", maxFiles)
		}
		file, err := folder.Open(name)
		if err != nil {
			return err
		}
		text, err := io.ReadAll(io.LimitReader(file, maxText+1))
		file.Close()
		if err != nil {
			return err
		}
		if len(text) > maxText {
			return fmt.Errorf("%s is larger than %d bytes", name, maxText)
		}
		texts[name] = string(text)
	}
	return nil
}

// quote is a YAML string, whatever is in it: JSON's are YAML's.
func quote(value any) (string, error) {
	text, err := json.Marshal(fmt.Sprint(value))
	return string(text), err
}

// values are what templates find, as .project and so on.
type values struct {
	organization, project, domain string
	namespace                     string
	suspended                     bool
	ca                            string            // PEM, of the data plane
	operatorEndpoint              string            // host:port
	tokenFile                     string            // in a task pod
	dataplaneNamespace            string            // of the four processes
	taskRoleARN, pullSecret       string            // or ""
	values                        map[string]string // of the configuration
}

func (v values) data() map[string]any {
	return map[string]any{
		"organization": v.organization, "project": v.project, "domain": v.domain, "namespace": v.namespace,
		"suspended": v.suspended, "ca": v.ca, "operatorEndpoint": v.operatorEndpoint, "tokenFile": v.tokenFile,
		"dataplaneNamespace": v.dataplaneNamespace, "taskRoleARN": v.taskRoleARN, "pullSecret": v.pullSecret,
		"values": v.values,
	}
}

// render returns the objects of a workspace: its Namespace first, and what is in
// it, in the order of the files.
func (t templates) render(v values) ([]*unstructured.Unstructured, error) {
	var all []*unstructured.Unstructured
	for _, one := range t {
		text := &limited{left: maxText}
		if err := one.Execute(text, v.data()); err != nil {
			return nil, err
		}
		objects, err := parse(text.Bytes())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", one.Name(), err)
		}
		for _, object := range objects {
			if err := place(object, v.namespace); err != nil {
				return nil, fmt.Errorf("%s: %w", one.Name(), err)
			}
		}
		if all = append(all, objects...); len(all) > maxObjects {
			return nil, fmt.Errorf("%s: there are more than %d objects", one.Name(), maxObjects)
		}
	}
	slices.SortStableFunc(all, func(a, b *unstructured.Unstructured) int {
		switch first, second := isNamespace(a), isNamespace(b); {
		case first && !second:
			return -1
		case second && !first:
			return 1
		}
		return 0
	})
	if len(all) == 0 || !isNamespace(all[0]) {
		return nil, errors.New("no template makes the Namespace")
	}
	return all, nil
}

// parse reads YAML documents, of which some may be empty.
func parse(text []byte) ([]*unstructured.Unstructured, error) {
	var all []*unstructured.Unstructured
	reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for number := 1; ; number++ {
		document, err := reader.Read()
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		object := map[string]any{}
		if err := yaml.UnmarshalStrict(document, &object); err != nil {
			return nil, fmt.Errorf("document %d: %w", number, err)
		}
		if len(object) > 0 {
			all = append(all, &unstructured.Unstructured{Object: object})
		}
	}
}

// place puts an object into the namespace, and refuses one that is elsewhere:
// templates make what a workspace has, and nothing of anybody else.
func place(object *unstructured.Unstructured, namespace string) error {
	switch {
	case object.GetAPIVersion() == "" || object.GetKind() == "":
		return errors.New("an object has no apiVersion or no kind")
	case object.GetName() == "":
		return fmt.Errorf("a %s has no metadata.name", object.GetKind())
	case isNamespace(object):
		if object.GetName() != namespace {
			return fmt.Errorf("the namespace %s is not the workspace's, which is %s", object.GetName(), namespace)
		}
	case object.GetNamespace() == "":
		object.SetNamespace(namespace)
	case object.GetNamespace() != namespace:
		return fmt.Errorf("%s %s is in namespace %s, and not in the workspace's, which is %s", object.GetKind(), object.GetName(), object.GetNamespace(), namespace)
	}
	return nil
}

func isNamespace(object *unstructured.Unstructured) bool {
	return object.GetAPIVersion() == "v1" && object.GetKind() == "Namespace"
}

// limited is a buffer that a template in a loop cannot fill for ever.
type limited struct {
	bytes.Buffer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	if l.left -= len(p); l.left < 0 {
		return 0, fmt.Errorf("it is more than %d bytes", maxText)
	}
	return l.Buffer.Write(p)
}
