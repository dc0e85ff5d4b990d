// Command protogen makes the Go types and Connect handlers below api/gen: of the
// parts of Flyte 2's interface that are served, out of its descriptor set, and of
// our own .proto files, which import them.
//
// Flyte publishes no .proto files, so there is no source to compile with protoc
// or buf: both want one, and cannot let a file import a descriptor set.
//
//	protogen -set api/flyteidl2.binpb -proto api/proto -out api/gen PACKAGE…
//
// A PACKAGE is a folder of the descriptor set, such as flyteidl2/task; what its
// files import is generated too.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

// goModule is where the generated packages lie.
const goModule = "biplane.dev/biplane/api/gen/"

func main() {
	log.SetFlags(0)
	log.SetPrefix("protogen: ")
	set := flag.String("set", "", "the descriptor set to import")
	protos := flag.String("proto", "", "the folder of our own .proto files")
	out := flag.String("out", "", "the folder to write; what is in it goes")
	flag.Parse()
	if err := run(*set, *protos, *out, flag.Args()); err != nil {
		log.Fatal(err)
	}
}

func run(set, protos, out string, packages []string) error {
	imported, err := load(set)
	if err != nil {
		return fmt.Errorf("reading %s: %w", set, err)
	}
	var roots []string
	imported.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		if slices.Contains(packages, path.Dir(file.Path())) {
			roots = append(roots, file.Path())
		}
		return true
	})
	err = filepath.WalkDir(protos, func(name string, entry fs.DirEntry, err error) error {
		if err == nil && path.Ext(name) == ".proto" {
			name, err = filepath.Rel(protos, name)
			roots = append(roots, filepath.ToSlash(name))
		}
		return err
	})
	if err != nil {
		return err
	}
	slices.Sort(roots)

	compiler := protocompile.Compiler{
		SourceInfoMode: protocompile.SourceInfoStandard, // comments become Go's
		Resolver: protocompile.CompositeResolver{
			protocompile.ResolverFunc(func(name string) (protocompile.SearchResult, error) {
				file, err := imported.FindFileByPath(name)
				return protocompile.SearchResult{Desc: file}, err
			}),
			&protocompile.SourceResolver{ImportPaths: []string{protos}},
		},
	}
	compiled, err := compiler.Compile(context.Background(), roots...)
	if err != nil {
		return err
	}

	request := &pluginpb.CodeGeneratorRequest{Parameter: proto.String("paths=source_relative")}
	seen := map[string]bool{}
	for _, file := range compiled {
		collect(file, seen, request)
	}
	if err := os.RemoveAll(out); err != nil {
		return err
	}
	if err := generate("protoc-gen-go", request, out); err != nil {
		return err
	}
	// simple: handlers take and return messages, without wrappers.
	request.Parameter = proto.String("paths=source_relative,simple")
	return generate("protoc-gen-connect-go", request, out)
}

func load(name string) (*protoregistry.Files, error) {
	content, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	set := new(descriptorpb.FileDescriptorSet)
	if err := proto.Unmarshal(content, set); err != nil {
		return nil, err
	}
	return protodesc.NewFiles(set)
}

// collect adds a file behind those that it imports, and asks for it to be
// generated unless it has a published Go package.
func collect(file protoreflect.FileDescriptor, seen map[string]bool, request *pluginpb.CodeGeneratorRequest) {
	if seen[file.Path()] {
		return
	}
	seen[file.Path()] = true
	for i := range file.Imports().Len() {
		collect(file.Imports().Get(i).FileDescriptor, seen, request)
	}
	described := protodesc.ToFileDescriptorProto(file)
	if !strings.HasPrefix(file.Path(), "google/") {
		folder := path.Dir(file.Path())
		if described.Options == nil {
			described.Options = &descriptorpb.FileOptions{}
		}
		described.Options.GoPackage = proto.String(goModule + folder + ";" + packageName(folder))
		request.FileToGenerate = append(request.FileToGenerate, file.Path())
	}
	request.ProtoFile = append(request.ProtoFile, described)
}

// packageName is the last word of a folder, with the word before it where the
// last is only a version: cluster/v1 is clusterv1.
func packageName(folder string) string {
	name := path.Base(folder)
	if len(name) > 1 && name[0] == 'v' && strings.Trim(name[1:], "0123456789") == "" {
		name = path.Base(path.Dir(folder)) + name
	}
	return name
}

func generate(plugin string, request *pluginpb.CodeGeneratorRequest, out string) error {
	input, err := proto.Marshal(request)
	if err != nil {
		return err
	}
	command := exec.Command("go", "tool", plugin)
	command.Stdin = bytes.NewReader(input)
	command.Stderr = os.Stderr
	output, err := command.Output()
	if err != nil {
		return fmt.Errorf("running %s: %w", plugin, err)
	}
	response := new(pluginpb.CodeGeneratorResponse)
	if err := proto.Unmarshal(output, response); err != nil {
		return fmt.Errorf("reading what %s says: %w", plugin, err)
	}
	if response.Error != nil {
		return fmt.Errorf("%s: %w", plugin, errors.New(response.GetError()))
	}
	files := map[string]string{}
	for _, file := range response.File {
		files[file.GetName()] = file.GetContent()
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		target := filepath.Join(out, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(target, []byte(files[name]), 0o644); err != nil {
			return err
		}
	}
	return nil
}
