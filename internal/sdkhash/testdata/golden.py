"""Writes golden.json: what Flyte's SDK itself answers for the inputs in it.

    python -m venv /tmp/sdk && /tmp/sdk/bin/pip install flyte==2.12.1
    /tmp/sdk/bin/python internal/sdkhash/testdata/golden.py
"""

import base64
import datetime
import json
import pathlib
import random
import struct
import zlib
from importlib.metadata import version

import msgpack
from flyte._internal.runtime import convert
from flyteidl2.core import interface_pb2, literals_pb2 as lit, types_pb2 as typ
from flyteidl2.task import common_pb2
from google.protobuf.descriptor import FieldDescriptor as field
from google.protobuf import duration_pb2, struct_pb2, timestamp_pb2

L = lit.Literal


def scalar(**kw):
    return L(scalar=lit.Scalar(**kw))


def primitive(**kw):
    return scalar(primitive=lit.Primitive(**kw))


def binary(value, tag="msgpack"):
    return scalar(binary=lit.Binary(value=value, tag=tag))


def pack(value):
    return binary(msgpack.packb(value))


def collection(*literals):
    return L(collection=lit.LiteralCollection(literals=literals))


def mapping(**literals):
    return L(map=lit.LiteralMap(literals=literals))


def union(value, type_):
    return scalar(union=lit.Union(value=value, type=type_))


def struct_of(**kw):
    s = struct_pb2.Struct()
    s.update(kw)
    return s


simple = lambda t: typ.LiteralType(simple=t)
integer, text = simple(typ.SimpleType.INTEGER), simple(typ.SimpleType.STRING)
none = scalar(none_type=lit.Void())
blob = lambda uri, dim: scalar(blob=lit.Blob(uri=uri, metadata=lit.BlobMetadata(
    type=typ.BlobType(format="csv", dimensionality=dim))))
columns = [typ.StructuredDatasetType.DatasetColumn(name="a", literal_type=integer)]
dataset = typ.StructuredDatasetType(columns=columns, format="parquet", external_schema_type="arrow", external_schema_bytes=b"\x00\x01")
enum = typ.LiteralType(enum_type=typ.EnumType(values=["red", "blue"]), metadata=struct_of(a=1), structure=typ.TypeStructure(tag="E"))
hashed = primitive(string_value="not this")
hashed.hash = "this"
offloaded = L(offloaded_metadata=lit.LiteralOffloadedMetadata(uri="s3://b/k", size_bytes=5, inferred_type=enum), metadata={"z": "1", "a": "2", "é": "3"})
hashed_list = collection(hashed, primitive(integer=1))
hashed_list.hash = "all of it"
deep = primitive(integer=1)
for _ in range(30):
    deep = collection(deep)
deep_pack = 1
for _ in range(100):
    deep_pack = {"b": deep_pack, "a": [deep_pack] if not isinstance(deep_pack, dict) else 0}
times = lambda y, us=0: timestamp_pb2.Timestamp(seconds=int(datetime.datetime(y, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc).timestamp()), nanos=us * 1000)

literals = {
    "an integer": primitive(integer=42),
    "zero": primitive(integer=0),
    "a negative integer": primitive(integer=-(2**63)),
    "a float": primitive(float_value=0.1),
    "a negative zero": primitive(float_value=-0.0),
    "not a number": primitive(float_value=float("nan")),
    "infinity": primitive(float_value=float("-inf")),
    "a small float": primitive(float_value=5e-324),
    "a text": primitive(string_value="hello"),
    "an empty text": primitive(string_value=""),
    "a text of all scripts": primitive(string_value="ünïcödé 漢字 🙂 \x00;:"),
    "true": primitive(boolean=True),
    "false": primitive(boolean=False),
    "a time": primitive(datetime=times(2026, 123456)),
    "a time before 1970": primitive(datetime=times(1910, 1)),
    "a duration": primitive(duration=duration_pb2.Duration(seconds=3, nanos=500)),
    "a negative duration": primitive(duration=duration_pb2.Duration(seconds=-3, nanos=-500)),
    "none": none,
    "nothing at all": L(),
    "a file": blob("s3://b/k", 0),
    "a directory": blob("s3://b/k/", 1),
    "a structured dataset": scalar(structured_dataset=lit.StructuredDataset(uri="s3://b/k", metadata=lit.StructuredDatasetMetadata(structured_dataset_type=dataset))),
    "a schema": scalar(schema=lit.Schema(uri="s3://b/k", type=typ.SchemaType(columns=[typ.SchemaType.SchemaColumn(name="c", type=1)]))),
    "a generic struct": scalar(generic=struct_of(z=1, a=[1, "b", None, {"y": True, "x": 2.5}], ü="é")),
    "an error": scalar(error=typ.Error(failed_node_id="n", message="m")),
    "a union": union(primitive(integer=1), integer),
    "a union of an enum": union(primitive(string_value="red"), enum),
    "a union of none": union(none, typ.LiteralType(union_type=typ.UnionType(variants=[integer, simple(typ.SimpleType.NONE)]), structure=typ.TypeStructure(tag="u", dataclass_type={"b": text, "a": integer}))),
    "a union of msgpack, which stays as it is": union(binary(b"\x82\xa1b\x01\xa1a\x02"), simple(typ.SimpleType.STRUCT)),
    "an offloaded literal with metadata": offloaded,
    "an empty list": collection(),
    "a list": collection(primitive(integer=1), primitive(integer=2), none),
    "a list of lists": collection(collection(primitive(string_value="a")), collection()),
    "a deep list": deep,
    "an empty map": mapping(),
    "a map": L(map=lit.LiteralMap(literals={"b": primitive(integer=1), "a": collection(primitive(integer=2)), "": none, "é": none, "z": mapping(y=none, x=hashed), "\U0001f642": none, "\uffee": none})),
    "a hash": hashed,
    "a list with a hash in it": collection(primitive(integer=7), hashed),
    "a list with a hash": hashed_list,
    "a map with a hash in it": mapping(k=hashed, j=hashed_list),
    "metadata": L(scalar=lit.Scalar(primitive=lit.Primitive(integer=1)), metadata={"b": "1", "a": "2"}),
    "metadata of keys that begin with each other": L(metadata={k: "1" for k in ("a", "", "ab", "b", "aa", "é", "éa", "a\x00")}),
    "a struct of keys that begin with each other": scalar(generic=struct_of(x=1, x1=2, x11={"y": 1, "yy": 2})),
    "an artifact": L(scalar=lit.Scalar(primitive=lit.Primitive(integer=1)), artifact_id=None),
    "binary of another kind": binary(b"\x82\xa1b\x01\xa1a\x02", tag="cbor"),
    "binary of no kind": binary(b"\x00\xff", tag=""),
    "msgpack in a list": collection(binary(b"\x82\xa1b\x01\xa1a\x02")),
    "msgpack beside metadata": L(scalar=lit.Scalar(binary=lit.Binary(value=b"\x82\xa1b\x01\xa1a\x02", tag="msgpack")), metadata={"b": "1", "a": "2"}),
    "msgpack": pack({"z": 1, "a": [1, 2.5, "é", None, True, {"y": 1, "x": b"\x00"}]}),
    "msgpack of a scalar": pack("x"),
    "msgpack of integers": pack([0, 127, 128, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**64 - 1, -1, -32, -33, -128, -129, -(2**15), -(2**15) - 1, -(2**31), -(2**31) - 1, -(2**63)]),
    "msgpack of keys of all kinds": pack({1: 1, "1": 2, 2.5: 3, None: 4, b"1": 5, -1: 6, 300: 7, -40000: 8, False: 9}),
    "msgpack of long texts": pack({"a" * n: "b" * n for n in (0, 31, 32, 255, 256, 65535, 65536)}),
    "msgpack of long bytes": pack([b"b" * n for n in (0, 31, 255, 256, 65535, 65536)]),
    "msgpack of long lists and maps": pack([list(range(15)), list(range(16)), [0] * 65536, {str(n): n for n in range(15)}, {str(n): n for n in range(16)}]),
    "msgpack of depth": pack(deep_pack),
    "msgpack of the time": pack([msgpack.Timestamp(1, 0), msgpack.Timestamp(2**32, 0), msgpack.Timestamp(1, 5), msgpack.Timestamp(-1, 5), msgpack.Timestamp(2**34, 999999999)]),
    "msgpack of the time as a key": pack({msgpack.Timestamp(9, 0): 1, "a": 2}),
    "msgpack of an extension": pack({"b": msgpack.ExtType(5, b"xyz"), "a": msgpack.ExtType(0, b"z" * 300)}),
    "msgpack of extensions as keys": pack({msgpack.ExtType(5, b"z" * n): n for n in (0, 1, 2, 3, 4, 5, 8, 16, 17, 300, 70000)}),
    "msgpack of integers that are written long": binary(b"\x95\xcd\x00\x01\xcf" + struct.pack(">Q", 5) + b"\xd3" + struct.pack(">q", -5) + b"\xd1\x00\x07\xd0\x05"),
    "msgpack of texts that are written long": binary(b"\x92\xdb\x00\x00\x00\x01a\xc6\x00\x00\x00\x01a"),
    "msgpack of lists that are written long": binary(b"\xdd\x00\x00\x00\x01\xdf\x00\x00\x00\x01\xa1a\xde\x00\x00"),
    "msgpack of a short float": binary(b"\xca" + struct.pack(">f", 0.1)),
    "msgpack of a short float that is no number": binary(b"\xca\x7f\xc0\x00\x00"),
    "msgpack of an extension that is written long": binary(b"\xc9\x00\x00\x00\x01\x05a"),
    "msgpack of the time in another length": binary(b"\xd7\xff" + struct.pack(">Q", 7)),
    "msgpack of the time in a wrong length": binary(b"\xd5\xff\x00\x00"),
    "msgpack of a time of too many nanoseconds": binary(b"\xc7\x0c\xff" + struct.pack(">Iq", 1000000000, 1)),
    "msgpack of an extension that Python reserves": binary(b"\x82\xa1b\xd4\xfea\xa1a\x01"),
    "msgpack of one key twice": binary(b"\x83\xa1b\x01\xa1a\x02\xa1b\x03"),
    "msgpack of keys that are equal": binary(b"\x84\x01\x01\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00\x02\xc3\x03\x00\x04"),
    "msgpack of zeros as keys": binary(b"\x83\xcb\x80\x00\x00\x00\x00\x00\x00\x00\x01\xc2\x02\x00\x03"),
    "msgpack of a large float as a key": binary(b"\x83\xcb\x43\xf0\x00\x00\x00\x00\x00\x00\x01\xcf\xff\xff\xff\xff\xff\xff\xff\xff\x02\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00\x03"),
    "msgpack of no numbers as keys": binary(b"\x82\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00\x02\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00\x01"),
    "msgpack of a list as a key": binary(b"\x82\x91\x01\x01\xa1a\x02"),
    "msgpack of a map as a key": binary(b"\x82\x80\x01\xa1a\x02"),
    "msgpack that is cut": binary(b"\x82\xa1b\x01\xa1a"),
    "msgpack that lies about its length": binary(b"\xdf\xff\xff\xff\xff\xa1b\x01"),
    "msgpack with something behind it": binary(b"\x82\xa1b\x01\xa1a\x02\x00"),
    "msgpack of a text that is none": binary(b"\x82\xa1b\x01\xa1\xff\x02"),
    "msgpack of a lone surrogate": binary(b"\x82\xa1b\x01\xa3\xed\xa0\x80\x02"),
    "msgpack of the byte that means nothing": binary(b"\x82\xa1b\x01\xa1a\xc1"),
    "msgpack of no bytes": binary(b""),
}


def inputs(**named):
    return [common_pb2.NamedLiteral(name=k, value=v) for k, v in named.items()]


cases = [{"name": name, "literals": inputs(x=value)} for name, value in literals.items()]
cases += [
    {"name": "no inputs", "literals": []},
    {"name": "several inputs", "literals": inputs(b=primitive(integer=1), a=primitive(string_value="a;b:c"), ü=none)},
    {"name": "the same in another order", "literals": inputs(a=primitive(string_value="a;b:c"), b=primitive(integer=1), ü=none)},
    {"name": "an ignored input", "literals": inputs(b=primitive(integer=1), a=none), "ignored": ["b", "absent"]},
    {"name": "ignored inputs only", "literals": inputs(b=primitive(integer=1)), "ignored": ["b"]},
]


def interface(ins, outs):
    # The SDK's own variables are entries of a list, with keys.
    entries = lambda vs: interface_pb2.VariableMap(variables=[interface_pb2.VariableEntry(key=k, value=interface_pb2.Variable(type=t, description=d)) for k, t, d in vs])
    return interface_pb2.TypedInterface(inputs=entries(ins), outputs=entries(outs))


interfaces = {
    "none": interface_pb2.TypedInterface(),
    "no inputs and no outputs": interface([], []),
    "some": interface([("b", integer, "the b"), ("a", text, "")], [("o1", integer, ""), ("o0", text, "")]),
    "an enum": interface([("e", enum, "")], []),
    "a dataclass": interface([("d", typ.LiteralType(simple=typ.SimpleType.STRUCT, metadata=struct_of(type="object", title="D", properties={"x": {}, "x1": {}, "": {}})), "")], []),
    "a data frame": interface([("d", typ.LiteralType(structured_dataset_type=dataset, metadata=struct_of(b=2, a=1)), "")], []),
    "a list, a map and a union": interface([
        ("l", typ.LiteralType(collection_type=integer), ""), ("m", typ.LiteralType(map_value_type=text), ""),
        ("u", typ.LiteralType(union_type=typ.UnionType(variants=[integer, text]), annotation=typ.TypeAnnotation(annotations=struct_of(z=1, y=2))), "")], []),
}


# Messages of any shape, in which every field of a literal and of a type comes up
# beside others.
dice = random.Random(1)
TEXTS = ["", "a", "ab", "b", "é漢🙂", "x" * 200]
NUMBERS = {
    field.CPPTYPE_BOOL: [False, True], field.CPPTYPE_DOUBLE: [0.0, -0.0, 1.5, float("inf")], field.CPPTYPE_FLOAT: [0.0, 1.5],
    field.CPPTYPE_INT32: [0, 1, -(2**31)], field.CPPTYPE_INT64: [0, 1, -(2**63)], field.CPPTYPE_UINT32: [0, 2**32 - 1], field.CPPTYPE_UINT64: [0, 2**64 - 1],
}


def value_of(f):
    if f.type == field.TYPE_STRING:
        return dice.choice(TEXTS)
    if f.type == field.TYPE_BYTES:
        return dice.randbytes(dice.randrange(8))
    if f.enum_type:
        return dice.choice(f.enum_type.values).number
    return dice.choice(NUMBERS[f.cpp_type])


def filled(m, depth=0):
    for f in m.DESCRIPTOR.fields:
        if dice.random() < 0.5 + depth * 0.05 or f.full_name == "flyteidl2.core.Literal.hash" and dice.random() < 0.8:
            continue
        if f.message_type and f.message_type.GetOptions().map_entry:
            key, value = f.message_type.fields
            for _ in range(dice.randrange(4)):
                if value.message_type:
                    filled(getattr(m, f.name)[value_of(key)], depth + 1)
                else:
                    getattr(m, f.name)[value_of(key)] = value_of(value)
        elif f.is_repeated:
            for _ in range(dice.randrange(3)):
                if f.message_type:
                    filled(getattr(m, f.name).add(), depth + 1)
                else:
                    getattr(m, f.name).append(value_of(f))
        elif f.message_type:
            getattr(m, f.name).SetInParent()
            filled(getattr(m, f.name), depth + 1)
        else:
            setattr(m, f.name, value_of(f))
    return m


for n in range(100):
    cases.append({"name": f"anything, {n}", "literals": [common_pb2.NamedLiteral(name=dice.choice(TEXTS), value=filled(lit.Literal())) for _ in range(3)]})
    interfaces[f"anything, {n}"] = filled(interface_pb2.TypedInterface())


def encoded(m):
    # Some are long, to have lengths of 32 bits, and all zeros.
    return base64.b64encode(zlib.compress(m.SerializeToString(deterministic=True), 9)).decode()


def main():
    out = {"sdk": version("flyte"), "inputs": [], "interfaces": []}
    for case in cases:
        message, ignored = common_pb2.Inputs(literals=case["literals"]), case.get("ignored", [])
        out["inputs"].append({
            "name": case["name"], "inputs": encoded(message), "ignored": ignored,
            "hash": convert.generate_filtered_inputs_hash(message, ignored) if ignored else convert.generate_inputs_hash_from_proto(message),
        })
    some = common_pb2.Inputs(literals=inputs(a=primitive(integer=1), b=none))
    for name, i in interfaces.items():
        out["interfaces"].append({
            "name": name, "interface": encoded(i), "hash": convert.generate_interface_hash(i),
            "key": convert.generate_cache_key_hash("env.main", convert.generate_inputs_hash_from_proto(some), i, "v1", [], some),
            "inputsHash": convert.generate_inputs_hash_from_proto(some),
        })
    pathlib.Path(__file__).with_name("golden.json").write_text(json.dumps(out, indent=1, ensure_ascii=False) + "\n")


main()
