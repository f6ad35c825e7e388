"""The protocol keeps its style, says what it does, and never breaks an older peer.

Read from descriptors that protoc makes of `proto/`, with comments. `scripts/protos --accept` records the
protocol of today in `tests/data/descriptors.binpb`, as the one that later changes must not break.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import google.rpc
import pytest
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)
from grpc_tools import protoc

REPOSITORY = Path(__file__).parents[1]
BASELINE = REPOSITORY / "tests" / "data" / "descriptors.binpb"
CLIENT_SERVICES = frozenset({"JobService", "NodeService", "IpfsService", "LedgerService"})
# Field numbers of descriptor.proto, of which a source location's path is made.
MESSAGE, ENUM, SERVICE, FIELD, NESTED_MESSAGE, NESTED_ENUM, VALUE, METHOD = 4, 5, 6, 2, 3, 4, 2, 2
REPEATED = FieldDescriptorProto.LABEL_REPEATED


def compile_protos(root: Path, target: Path) -> FileDescriptorSet:
    sources = sorted(str(path) for path in root.rglob("*.proto"))
    google_folder = Path(next(iter(google.rpc.__path__))).parents[1]
    well_known = Path(protoc.__file__).parent / "_proto"
    includes = [f"-I{root}", f"-I{google_folder}", f"-I{well_known}"]
    arguments = ["protoc", *includes, "--include_source_info", f"--descriptor_set_out={target}"]
    assert protoc.main([*arguments, *sources]) == 0, f"protoc refuses the files of {root}"
    return FileDescriptorSet.FromString(target.read_bytes())


def name_of_value_prefix(enum_name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", enum_name).upper() + "_"


@dataclass
class Style:
    """Walks one file and gathers what is against the style, each with the name of the element."""

    file: FileDescriptorProto
    faults: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.comments = {
            tuple(location.path): location.leading_comments.strip() or location.trailing_comments.strip()
            for location in self.file.source_code_info.location
        }

    def check(self) -> list[str]:
        for index, message in enumerate(self.file.message_type):
            self._check_message(message, (MESSAGE, index), message.name)
        for index, enum in enumerate(self.file.enum_type):
            self._check_enum(enum, (ENUM, index), enum.name)
        for index in range(len(self.file.service)):
            self._check_service(index)
        return self.faults

    def _comment(self, path: tuple[int, ...], name: str) -> str:
        comment = self.comments.get(path, "")
        if not comment:
            self.faults.append(f"{name}: has no comment")
        return comment

    def _check_message(self, message: DescriptorProto, path: tuple[int, ...], name: str) -> None:
        if message.options.map_entry:
            return
        self._comment(path, name)
        for index, member in enumerate(message.field):
            self._comment((*path, FIELD, index), f"{name}.{member.name}")
            if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", member.name):
                self.faults.append(f"{name}.{member.name}: is not lower_snake_case")
        for index, nested in enumerate(message.nested_type):
            self._check_message(nested, (*path, NESTED_MESSAGE, index), f"{name}.{nested.name}")
        for index, enum in enumerate(message.enum_type):
            self._check_enum(enum, (*path, NESTED_ENUM, index), f"{name}.{enum.name}")

    def _check_enum(self, enum: EnumDescriptorProto, path: tuple[int, ...], name: str) -> None:
        self._comment(path, name)
        prefix = name_of_value_prefix(enum.name)
        first = enum.value[0]
        if first.name != f"{prefix}UNSPECIFIED" or first.number != 0:
            self.faults.append(f"{name}: does not start with {prefix}UNSPECIFIED = 0")
        for index, value in enumerate(enum.value):
            self._comment((*path, VALUE, index), f"{name}.{value.name}")
            if not value.name.startswith(prefix):
                self.faults.append(f"{name}.{value.name}: does not start with {prefix}")

    def _check_service(self, index: int) -> None:
        service = self.file.service[index]
        self._comment((SERVICE, index), service.name)
        if not service.name.endswith("Service"):
            self.faults.append(f"{service.name}: does not end in Service")
        for position, method in enumerate(service.method):
            name = f"{service.name}.{method.name}"
            comment = self._comment((SERVICE, index, METHOD, position), name)
            if service.name in CLIENT_SERVICES and not re.search(r"CLI: bacalhau [a-z]", comment):
                self.faults.append(f"{name}: its comment names no command (CLI: bacalhau …)")
            own = (
                f".{self.file.package}.{method.name}Request",
                f".{self.file.package}.{method.name}Response",
            )
            if (method.input_type, method.output_type) != own:
                self.faults.append(f"{name}: does not take its own Request and give its own Response")
            if method.name.startswith("List") and not method.server_streaming:
                self._check_paging(name, method.name)

    def _check_paging(self, name: str, stem: str) -> None:
        messages = {message.name: message for message in self.file.message_type}
        wanted = {f"{stem}Request": {"page_size", "page_token"}, f"{stem}Response": {"next_page_token"}}
        for message_name, fields in wanted.items():
            if message_name in messages:
                missing = fields - {member.name for member in messages[message_name].field}
                if missing:
                    self.faults.append(
                        f"{name}: is not paged ({message_name} has no {', '.join(sorted(missing))})"
                    )


def style_faults(descriptors: FileDescriptorSet) -> list[str]:
    faults: list[str] = []
    names: dict[str, str] = {}
    for file in descriptors.file:
        faults += Style(file).check()
        for service in file.service:
            for method in service.method:
                other = names.setdefault(method.name, service.name)
                if other != service.name and method.name != "StreamLogs":
                    faults.append(
                        f"{service.name}.{method.name}: shares its messages with {other}.{method.name}"
                    )
    return faults


def elements(descriptors: FileDescriptorSet) -> dict[str, str]:
    """What a peer of another version relies on: by its name (a number for what is numbered) its form."""
    found: dict[str, str] = {}
    for file in descriptors.file:
        for enum in file.enum_type:
            found |= _enum_elements(enum, f"{file.package}.{enum.name}")
        for message in file.message_type:
            found |= _message_elements(message, f"{file.package}.{message.name}")
        for service in file.service:
            for method in service.method:
                streams = f"{method.client_streaming:d}{method.server_streaming:d}"
                form = f"{method.input_type} -> {method.output_type}, streams {streams}"
                found[f"{file.package}.{service.name}/{method.name}"] = form
    return found


def _enum_elements(enum: EnumDescriptorProto, name: str) -> dict[str, str]:
    return {f"{name} = {value.number}": value.name for value in enum.value} | {name: "enum"}


def _message_elements(message: DescriptorProto, name: str) -> dict[str, str]:
    found = {name: "message"}
    for member in message.field:
        kind = FieldDescriptorProto.Type.Name(member.type)
        repeated = "repeated " if member.label == REPEATED else ""
        choice = message.oneof_decl[member.oneof_index].name if member.HasField("oneof_index") else ""
        found[f"{name} = {member.number}"] = (
            f"{repeated}{kind} {member.type_name} {member.name} {choice}".strip()
        )
    for nested in message.nested_type:
        found |= _message_elements(nested, f"{name}.{nested.name}")
    for enum in message.enum_type:
        found |= _enum_elements(enum, f"{name}.{enum.name}")
    return found


def breaks(before: FileDescriptorSet, after: FileDescriptorSet) -> list[str]:
    """What `after` took away or changed of `before`."""
    now = elements(after)
    return [
        f"{name}: was {form}, {'is ' + now[name] if name in now else 'is gone'}"
        for name, form in elements(before).items()
        if now.get(name) != form
    ]


@pytest.fixture(scope="module")
def descriptors(tmp_path_factory: pytest.TempPathFactory) -> FileDescriptorSet:
    return compile_protos(REPOSITORY / "proto", tmp_path_factory.mktemp("protos") / "all.binpb")


def test_every_service_message_enum_and_field_keeps_the_style(descriptors: FileDescriptorSet) -> None:
    assert style_faults(descriptors) == []


def test_the_protocol_that_was_accepted_is_not_broken(descriptors: FileDescriptorSet) -> None:
    before = FileDescriptorSet.FromString(BASELINE.read_bytes())
    assert elements(before), "the baseline is empty: run scripts/protos --accept"
    assert breaks(before, descriptors) == []


GOOD = """
syntax = "proto3";
package sample;
// Things, for clients.
service JobService {
  // Lists them. CLI: bacalhau list.
  rpc ListThings(ListThingsRequest) returns (ListThingsResponse);
}
// Asks.
message ListThingsRequest {
  // So many.
  int32 page_size = 1;
  // From there.
  string page_token = 2;
}
// Answers.
message ListThingsResponse {
  // Those.
  repeated Kind kinds = 1;
  // Go on.
  string next_page_token = 2;
}
// Kinds.
enum Kind {
  // None.
  KIND_UNSPECIFIED = 0;
  // Big.
  KIND_BIG = 1;
}
"""


def compiled(text: str, folder: Path) -> FileDescriptorSet:
    folder.mkdir()
    (folder / "sample.proto").write_text(text)
    return compile_protos(folder, folder / "sample.binpb")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (("// Things, for clients.", ""), "JobService: has no comment"),
        (("// So many.", ""), "ListThingsRequest.page_size: has no comment"),
        (("// Big.", ""), "Kind.KIND_BIG: has no comment"),
        ((" CLI: bacalhau list.", ""), "JobService.ListThings: its comment names no command"),
        (("KIND_UNSPECIFIED", "KIND_NONE"), "Kind: does not start with KIND_UNSPECIFIED = 0"),
        (("KIND_BIG", "BIG"), "Kind.BIG: does not start with KIND_"),
        (
            ("string page_token = 2;", "string pageToken = 2;"),
            "Request.pageToken: is not lower_snake_case",
        ),
        (
            ("next_page_token", "more"),
            "is not paged (ListThingsResponse has no next_page_token)",
        ),
        (
            ("returns (ListThingsResponse)", "returns (ListThingsRequest)"),
            "does not take its own Request",
        ),
        (("service JobService", "service Jobs"), "Jobs: does not end in Service"),
    ],
)
def test_a_fault_of_style_is_found(change: tuple[str, str], fault: str, tmp_path: Path) -> None:
    assert style_faults(compiled(GOOD, tmp_path / "good")) == []
    faults = style_faults(compiled(GOOD.replace(*change), tmp_path / "bad"))
    assert [found for found in faults if fault in found], faults


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        (("int32 page_size = 1;", "int32 page_size = 7;"), "ListThingsRequest = 1"),
        (("int32 page_size", "int64 page_size"), "ListThingsRequest = 1"),
        (("int32 page_size", "int32 size_of_page"), "ListThingsRequest = 1"),
        (("repeated Kind", "Kind"), "ListThingsResponse = 1"),
        (("KIND_BIG = 1;", "KIND_BIG = 2;"), "Kind = 1"),
        (("returns (", "returns (stream "), "JobService/ListThings"),
        (("rpc ListThings(", "rpc ListAllThings("), "JobService/ListThings"),
    ],
)
def test_a_change_that_breaks_an_older_peer_is_found(
    change: tuple[str, str], broken: str, tmp_path: Path
) -> None:
    before = compiled(GOOD, tmp_path / "before")
    after = compiled(GOOD.replace(*change), tmp_path / "after")
    assert [found for found in breaks(before, after) if found.startswith(f"sample.{broken}: was ")]


def test_an_added_field_breaks_nothing(tmp_path: Path) -> None:
    before = compiled(GOOD, tmp_path / "before")
    more = GOOD.replace("int32 page_size = 1;", "int32 page_size = 1;\n  // New.\n  string filter = 3;")
    assert breaks(before, compiled(more, tmp_path / "after")) == []
