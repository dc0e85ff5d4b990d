"""Writes api/flyteidl2.binpb: the interface of Flyte 2 as one descriptor set.

The published package has no .proto files, but every module of it holds the
descriptor that it was generated from. Options that are extensions (rules of
validation, HTTP routes, OpenAPI) are left out with the files that define them:
the server enforces its own limits, since clients rely on some of those rules
not being enforced (an empty organisation, for one).

  python descriptors.py OUT
"""

import importlib
import pkgutil
import sys

import flyteidl2
from google.protobuf import descriptor_pb2

# What an option of a message may keep; all else in it is an extension.
EXTENSION_FILES = ("buf/validate/", "google/api/annotations", "google/api/http", "protoc_gen_openapiv2/")


def strip(message):
    """Drops extension options, known and unknown, from every level."""
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if field.name == "options":
            for option, _ in value.ListFields():
                if option.is_extension:
                    value.ClearExtension(option)
            value.DiscardUnknownFields()
            if not value.ListFields():
                message.ClearField("options")
        elif field.is_repeated:
            for item in value:
                strip(item)
        else:
            strip(value)


def collect(descriptor, into):
    if descriptor.name in into or descriptor.name.startswith(EXTENSION_FILES):
        return
    proto = descriptor_pb2.FileDescriptorProto()
    descriptor.CopyToProto(proto)
    kept = [name for name in proto.dependency if not name.startswith(EXTENSION_FILES)]
    del proto.dependency[:], proto.public_dependency[:], proto.weak_dependency[:]
    proto.dependency.extend(kept)
    strip(proto)
    for dependency in descriptor.dependencies:
        collect(dependency, into)
    into[descriptor.name] = proto  # after its dependencies, as a compiler wants them


def main(out):
    files = {}
    for module in sorted(m.name for m in pkgutil.walk_packages(flyteidl2.__path__, "flyteidl2.")):
        if module.endswith("_pb2"):
            collect(importlib.import_module(module).DESCRIPTOR, files)
    with open(out, "wb") as f:
        f.write(descriptor_pb2.FileDescriptorSet(file=files.values()).SerializeToString(deterministic=True))


main(sys.argv[1])
