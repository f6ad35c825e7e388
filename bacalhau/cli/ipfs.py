"""`bacalhau ipfs …`: the node's IPFS store, with the verbs and the output of Kubo's `ipfs`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from bacalhau.cli.failures import OK, UsageFailure
from bacalhau.cli.parsing import Subparsers, add_group, add_switch, add_verb
from bacalhau.rpc.limits import ADD_CHUNK_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bacalhau.cli.connection import Node
    from bacalhau.v1.ipfs_service_pb2 import AddOptions, DirectoryEntry, ImportCarRequest

READ_BYTES = 1024 * 1024


def register(verbs: Subparsers) -> None:
    group = add_group(
        verbs,
        "ipfs",
        help="work with the node's IPFS store",
        example="bacalhau ipfs add -r ./data\nbacalhau ipfs cat CID",
    )
    _register_add(group)
    parser = add_verb(
        group, "get", run_get, help="fetch a file or folder", example="bacalhau ipfs get -o data CID"
    )
    parser.add_argument("path", metavar="CID[/PATH]")
    parser.add_argument("-o", "--output", metavar="NAME", help="where to (the last part of the path, here)")
    add_switch(parser, "-q", "--quiet", help="print no progress")
    parser = add_verb(group, "cat", run_cat, help="print files", example="bacalhau ipfs cat CID/stdout")
    parser.add_argument("paths", metavar="CID[/PATH]", nargs="+")
    parser = add_verb(group, "ls", run_ls, help="list a folder", example="bacalhau ipfs ls CID")
    parser.add_argument("paths", metavar="CID[/PATH]", nargs="+")
    parser = add_verb(group, "stat", run_stat, help="say what a CID is", example="bacalhau ipfs stat CID")
    parser.add_argument("path", metavar="CID[/PATH]")
    parser.add_argument("--output", choices=("table", "json", "yaml"), default="table", help="(table)")
    parser = add_verb(
        group, "import", run_import, help="store a CAR file", example="bacalhau ipfs import data.car"
    )
    parser.add_argument("files", metavar="FILE", nargs="*", default=["-"], help="CAR v1; - is stdin")
    parser = add_verb(
        group,
        "export",
        run_export,
        help="write a CID with all that it links to as a CAR file",
        example="bacalhau ipfs export -o data.car CID",
    )
    parser.add_argument("cid", metavar="CID")
    parser.add_argument("-o", "--output", default="-", metavar="FILE", help="where to (stdout)")
    pins = add_group(group, "pin", help="keep content, or let it go", example="bacalhau ipfs pin add CID")
    for name, what in (("add", "keep content, fetching it where it is not here"), ("rm", "let content go")):
        parser = add_verb(pins, name, run_pin, help=what, example=f"bacalhau ipfs pin {name} CID")
        parser.add_argument("cids", metavar="CID", nargs="+")
        parser.set_defaults(remove=name == "rm")
    add_verb(group, "gc", run_gc, help="delete what no pin keeps", example="bacalhau ipfs gc")


def _register_add(group: Subparsers) -> None:
    parser = add_verb(
        group,
        "add",
        run_add,
        help="add files and folders",
        example="bacalhau ipfs add hello.txt\nbacalhau ipfs add -rQ --cid-version 1 ./data",
    )
    parser.add_argument(
        "paths", metavar="PATH", nargs="*", default=["-"], help="files and folders; - is stdin"
    )
    add_switch(parser, "-r", "--recursive", help="folders with all that is in them")
    add_switch(parser, "-q", "--quiet", help="print CIDs only")
    add_switch(parser, "-Q", "--quieter", help="print the last CID only")
    add_switch(parser, "-H", "--hidden", help="with names that begin with a dot")
    add_switch(parser, "--pin", default=True, help="keep it (the default)")
    parser.add_argument("--cid-version", type=int, choices=(0, 1), default=0, help="0 or 1 (0)")
    parser.add_argument(
        "--raw-leaves",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="leaves are raw blocks (with --cid-version 1 unless said otherwise)",
    )
    parser.add_argument(
        "-s",
        "--chunker",
        default="size-262144",
        metavar="size-BYTES",
        help="size of the chunks (size-262144)",
    )


def run_add(args: argparse.Namespace) -> int:
    from bacalhau.cli.connection import Node
    from bacalhau.cli.uploads import Counter, Source, add_bytes, add_source

    options = _options(args)
    for path in args.paths:
        if os.path.isdir(path) and not args.recursive:
            raise UsageFailure(f"{path} is a folder: add folders with -r")
        if path != "-" and not os.path.lexists(path):
            raise UsageFailure(f"{path} does not exist")
    node = Node.of(args)
    cid = ""
    for path in args.paths:
        if path == "-":
            cid = add_bytes(node, iter(lambda: sys.stdin.buffer.read(READ_BYTES), b""), options).cid
            _print_added(args, cid, cid)
            continue
        with Counter(f"adding {path}", quiet=args.quiet or args.quieter) as counter:
            cid = add_source(node, Source(path, hidden=args.hidden), options, sent=counter).cid
        name = os.path.basename(os.path.abspath(path))
        if os.path.isdir(path) and not args.quieter:
            for inner_name, inner_cid in _tree(node, cid, name):
                _print_added(args, inner_cid, inner_name)
        _print_added(args, cid, name)
    if args.quieter:
        print(cid)
    return OK


def _options(args: argparse.Namespace) -> AddOptions:
    from bacalhau.v1.ipfs_service_pb2 import AddOptions

    size = args.chunker.removeprefix("size-")
    if not args.chunker.startswith("size-") or not size.isdigit() or not 0 < int(size) <= ADD_CHUNK_BYTES_MAX:
        raise UsageFailure(
            f"the chunker {args.chunker!r} is not supported: use size-BYTES up to size-{ADD_CHUNK_BYTES_MAX}"
        )
    return AddOptions(
        cid_version=args.cid_version, raw_leaves=args.raw_leaves, chunk_bytes=int(size), no_pin=not args.pin
    )


def _print_added(args: argparse.Namespace, cid: str, name: str) -> None:
    if not args.quieter:
        print(cid if args.quiet else f"added {cid} {name}")


def _tree(node: Node, cid: str, name: str) -> Iterator[tuple[str, str]]:
    """Names and CIDs of all that is in a folder, what is inside before what it is in, as Kubo prints them."""
    from bacalhau.v1.ipfs_service_pb2 import ENTRY_TYPE_DIRECTORY

    for entry in _list(node, cid):
        inner = f"{name}/{entry.name}"
        if entry.type == ENTRY_TYPE_DIRECTORY:
            yield from _tree(node, entry.cid, inner)
        yield inner, entry.cid


def _list(node: Node, path: str) -> Iterator[DirectoryEntry]:
    from bacalhau.v1.ipfs_service_pb2 import ListRequest

    return node.listed(node.ipfs.List, ListRequest(path=path), "entries", page_size=10_000)


def ipfs_path(text: str) -> str:
    """A CID, or CID/path, from what people paste: /ipfs/CID/… and ipfs://CID/… too."""
    return text.removeprefix("ipfs://").removeprefix("/ipfs/").strip("/")


def run_get(args: argparse.Namespace) -> int:
    from bacalhau.cli.connection import Node
    from bacalhau.cli.downloads import fetch
    from bacalhau.cli.uploads import Counter

    path = ipfs_path(args.path)
    target = Path(args.output or os.path.basename(path) or path)
    with Counter(f"fetching {path}", quiet=args.quiet) as counter:
        fetch(Node.of(args), path, target, received=counter, coming=counter.coming)
    if not args.quiet:
        print(f"saved to {target}", file=sys.stderr)
    return OK


def run_cat(args: argparse.Namespace) -> int:
    from bacalhau.cli.connection import Node
    from bacalhau.cli.downloads import copy
    from bacalhau.v1.ipfs_service_pb2 import GetRequest

    node = Node.of(args)
    for path in args.paths:
        copy(node.stream(node.ipfs.Get, GetRequest(path=ipfs_path(path))), sys.stdout.buffer)
    sys.stdout.buffer.flush()
    return OK


def run_ls(args: argparse.Namespace) -> int:
    from bacalhau.cli.connection import Node
    from bacalhau.v1.ipfs_service_pb2 import ENTRY_TYPE_DIRECTORY

    node = Node.of(args)
    for number, path in enumerate(args.paths):
        if len(args.paths) > 1:
            print(f"{'' if number == 0 else chr(10)}{path}:")
        for entry in _list(node, ipfs_path(path)):
            is_folder = entry.type == ENTRY_TYPE_DIRECTORY
            name = "".join(letter if letter.isprintable() else "?" for letter in entry.name)
            print(f"{entry.cid} {'-' if is_folder else entry.size_bytes} {name}{'/' if is_folder else ''}")
    return OK


def run_stat(args: argparse.Namespace) -> int:
    from bacalhau.cli.connection import Node
    from bacalhau.cli.names import enum_name
    from bacalhau.cli.output import plain, print_plain
    from bacalhau.v1.ipfs_service_pb2 import EntryType, StatRequest

    node = Node.of(args)
    answer = node.call(node.ipfs.Stat, StatRequest(path=ipfs_path(args.path)))
    if args.output != "table":
        print_plain(plain(answer), args.output)
        return OK
    print(answer.cid)
    print(f"Size: {answer.size_bytes}")
    print(f"CumulativeSize: {answer.dag_bytes}")
    print(f"ChildBlocks: {answer.link_count}")
    print(f"Type: {enum_name(EntryType, answer.type).lower()}")
    print(f"Local: {'yes' if answer.local else 'no'}")
    print(f"Pinned: {'yes' if answer.pinned else 'no'}")
    return OK


def run_import(args: argparse.Namespace) -> int:
    from bacalhau.cli.connection import Node

    node = Node.of(args)
    for name in args.files:
        if name == "-":
            answer = node.call(node.ipfs.ImportCar, _car(sys.stdin.buffer), timeout=None)
        else:
            with open(name, "rb") as file:
                answer = node.call(node.ipfs.ImportCar, _car(file), timeout=None)
        for root in answer.roots:
            print(f"Pinned root\t{root}\tsuccess")
    return OK


def _car(file: BinaryIO) -> Iterator[ImportCarRequest]:
    from bacalhau.v1.ipfs_service_pb2 import ImportCarRequest

    while chunk := file.read(READ_BYTES):
        yield ImportCarRequest(chunk=chunk)


def run_export(args: argparse.Namespace) -> int:
    from bacalhau.cli.connection import Node
    from bacalhau.cli.downloads import refuse_existing, writing
    from bacalhau.v1.ipfs_service_pb2 import ExportCarRequest

    node = Node.of(args)
    stream = node.stream(node.ipfs.ExportCar, ExportCarRequest(cid=ipfs_path(args.cid)))
    if args.output == "-":
        if sys.stdout.isatty():
            raise UsageFailure("a CAR file is not for a terminal: name a file with -o, or send it to a pipe")
        for answer in stream:
            sys.stdout.buffer.write(answer.chunk)
        sys.stdout.buffer.flush()
        return OK
    target = Path(args.output)
    refuse_existing(target)
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with writing(target), open(partial, "xb") as file:
            for answer in stream:
                file.write(answer.chunk)
        os.rename(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    return OK


def run_pin(args: argparse.Namespace) -> int:
    from bacalhau.cli.connection import Node
    from bacalhau.v1.ipfs_service_pb2 import PinRequest

    node = Node.of(args)
    for cid in args.cids:
        node.call(node.ipfs.Pin, PinRequest(cid=ipfs_path(cid), remove=args.remove), timeout=None)
        print(f"unpinned {cid}" if args.remove else f"pinned {cid} recursively")
    return OK


def run_gc(args: argparse.Namespace) -> int:
    from bacalhau.cli.connection import Node
    from bacalhau.model.units import size_text
    from bacalhau.v1.ipfs_service_pb2 import CollectGarbageRequest

    node = Node.of(args)
    answer = node.call(node.ipfs.CollectGarbage, CollectGarbageRequest(), timeout=None)
    print(f"removed {answer.blocks} blocks, {size_text(answer.freed_bytes)}")
    return OK
