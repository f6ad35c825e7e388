"""`bacalhau wasm run` and `wasm validate`: programs for WASI, from a local file or a CID."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from bacalhau.cli.failures import OK, UsageFailure
from bacalhau.cli.parsing import Subparsers, add_group, add_verb, refuse

if TYPE_CHECKING:
    from bacalhau.v1.job_pb2 import JobSpec, WasmImport

_EXAMPLE = """\
bacalhau wasm run hello.wasm
bacalhau wasm run -i ./data:/inputs -e LEVEL=3 count.wat /inputs
bacalhau wasm run -I env=library.wasm QmfKJT13h5k1b23ja3ZCVg5nFL9oKz2bVXc8oXgtwiwhjz"""


def register(verbs: Subparsers) -> None:
    group = add_group(verbs, "wasm", help="run WASM programs", example=_EXAMPLE)
    parser = add_verb(
        group,
        "run",
        run,
        help="run a WASM program on the network",
        description="Run a WASM program (WASI) on a node of the network, and stay with it: its output "
        "comes here as it "
        "is written, its exit code is this command's. Flags stand before the module.",
        example=_EXAMPLE,
    )
    from bacalhau.cli.runflags import add_run_flags

    add_flags(parser)
    add_run_flags(parser)
    check = add_verb(
        group,
        "validate",
        validate,
        help="check that a file is a WASM program that can run",
        example="bacalhau wasm validate hello.wasm",
        node=False,
    )
    check.add_argument("file", metavar="FILE", help="a .wasm or .wat file")
    check.add_argument(
        "--entry-point", default="_start", metavar="NAME", help="the exported function (_start)"
    )


def add_flags(parser: argparse.ArgumentParser) -> None:
    """What makes the job: of every verb that takes a module from the command line."""
    from bacalhau.cli.jobflags import add_job_flags

    parser.add_argument(
        "module",
        metavar="MODULE",
        help="a .wasm or .wat file, which is added to IPFS first, or the CID of one",
    )
    parser.add_argument(
        "arguments", metavar="ARGUMENT", nargs=argparse.REMAINDER, help="the program's arguments"
    )
    add_job_flags(parser)
    parser.add_argument(
        "--entry-point", default="", metavar="NAME", help="the exported function to call (_start)"
    )
    parser.add_argument(
        "-I",
        "--import-modules",
        "--import-module-volumes",
        "-U",
        "--import-module-urls",
        dest="import_modules",
        action="append",
        default=[],
        metavar="[NAME=]MODULE",
        help="a module that the program imports from: a file or a CID, under NAME; repeatable",
    )
    refuse(parser, "--engine", harmless=("wasm",), instead="for containers use `bacalhau docker run`")


def run(args: argparse.Namespace) -> int:
    from bacalhau.cli.follow import run_job

    return run_job(args, spec_of(args))


def spec_of(args: argparse.Namespace) -> JobSpec:
    """The draft of the job. Raises UsageFailure."""
    from bacalhau.cli.jobflags import common_spec

    spec = common_spec(args)
    spec.wasm.module_cid = _module(args.module)
    spec.wasm.entry_point = args.entry_point
    spec.wasm.arguments.extend(args.arguments[1:] if args.arguments[:1] == ["--"] else args.arguments)
    spec.wasm.import_modules.extend(_import(text) for text in args.import_modules)
    return spec


def validate(args: argparse.Namespace) -> int:
    """Compiles nothing that runs: validation is the engine's own."""
    import wasmtime

    from bacalhau.cli.failures import CommandFailure

    with open(args.file, "rb") as file:
        content: bytes = file.read()
    engine = wasmtime.Engine()
    try:
        module = wasmtime.Module(
            engine, content if content.startswith(b"\0asm") else bytes(wasmtime.wat2wasm(content))
        )
    except (wasmtime.WasmtimeError, UnicodeDecodeError) as error:
        raise CommandFailure(f"{args.file} is no WASM program: {error}") from error
    functions = [export.name for export in module.exports if isinstance(export.type, wasmtime.FuncType)]
    if args.entry_point not in functions:
        exported = ", ".join(functions) or "none"
        raise CommandFailure(
            f"{args.file} exports no function {args.entry_point!r} (it exports: {exported}): name one of "
            "them with "
            "--entry-point, or compile it as a command"
        )
    print("OK")
    return OK


def _module(text: str) -> str:
    from bacalhau.cli.mounts import FILE_REFERENCE, content_reference

    reference = content_reference(text)
    if reference.startswith(FILE_REFERENCE) and os.path.isdir(reference.removeprefix(FILE_REFERENCE)):
        raise UsageFailure(f"{text} is a folder: name the .wasm or .wat file in it")
    return reference


def _import(text: str) -> WasmImport:
    from bacalhau.v1.job_pb2 import WasmImport

    name, equals, module = text.partition("=")
    if not equals:
        reference = _module(text)
        # A file's own name is what its importer knows it by; a CID goes by itself.
        name = "" if reference == text else os.path.splitext(os.path.basename(text))[0]
        return WasmImport(name=name, cid=reference)
    if not name:
        raise UsageFailure(f"{text!r} has no name before the '=': write NAME=MODULE")
    return WasmImport(name=name, cid=_module(module))
