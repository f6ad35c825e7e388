"""Joining data segments changes how long a module compiles, and nothing that it means."""

from __future__ import annotations

import wasmtime
from hypothesis import given
from hypothesis import strategies as st

from bacalhau.runtime.wasm_data import MAX_GAP_BYTES, join_data_segments

Segments = list[tuple[int, bytes]]


def module_of(segments: Segments, *, rest: str = "", pages: int = 2) -> bytes:
    data = "".join(
        f'(data (i32.const {offset}) "' + "".join(f"\\{byte:02x}" for byte in content) + '")'
        for offset, content in segments
    )
    return bytes(wasmtime.wat2wasm(f'(module (memory (export "m") {pages}) {rest} {data})'))


def memory_of(module: bytes) -> bytes | None:
    """What the memory holds at the start, None where a segment does not fit in it."""
    store = wasmtime.Store()
    try:
        instance = wasmtime.Instance(store, wasmtime.Module(store.engine, module), [])
    except wasmtime.Trap:
        return None
    memory = instance.exports(store)["m"]
    assert isinstance(memory, wasmtime.Memory)
    return bytes(memory.read(store))


@given(st.lists(st.tuples(st.integers(0, 131_080), st.binary(max_size=80)), max_size=12))
def test_the_memory_at_the_start_is_the_same(segments: Segments) -> None:
    module = module_of(segments)
    assert memory_of(join_data_segments(module)) == memory_of(module)


@given(st.lists(st.tuples(st.integers(0, 300), st.binary(min_size=1, max_size=9)), min_size=1, max_size=40))
def test_it_is_the_same_for_segments_that_lie_close(steps: Segments) -> None:
    segments, at = [], 0
    for gap, content in steps:
        segments.append((at + gap, content))
        at += gap + len(content)
    joined = join_data_segments(module_of(segments[::-1]))
    assert memory_of(joined) == memory_of(module_of(segments))
    assert join_data_segments(joined) == joined


def test_thousands_of_close_segments_become_one() -> None:
    module = module_of([(index * 10, b"abc") for index in range(5000)])
    assert join_data_segments(module) == module_of([(0, b"abc\0\0\0\0\0\0\0" * 4999 + b"abc")])


def test_segments_far_apart_stay_apart() -> None:
    module = module_of([(0, b"a"), (MAX_GAP_BYTES + 2, b"b")])
    assert join_data_segments(module) == module


def test_a_segment_at_a_high_address_keeps_it() -> None:
    module = module_of([(0x8000_0000, b"a"), (0x8000_0002, b"b")], pages=32769)
    assert join_data_segments(module) == module_of([(0x8000_0000, b"a\0b")], pages=32769)


def test_modules_whose_segments_are_not_simple_come_back_unchanged() -> None:
    overlapping = module_of([(0, b"abc"), (1, b"x")])
    counted = module_of([(0, b"a"), (2, b"b")], rest="(func (data.drop 0))")
    passive = module_of([(0, b"a"), (2, b"b")], rest='(data "passive")')
    imported = bytes(
        wasmtime.wat2wasm(
            '(module (import "e" "m" (memory 1)) (data (i32.const 0) "a") (data (i32.const 2) "b"))'
        )
    )
    computed = bytes(
        wasmtime.wat2wasm(
            '(module (global $g (import "e" "g") i32) (memory 1) (data (i32.const 0) "a")'
            '(data (offset (global.get $g)) "b"))'
        )
    )
    for module in (overlapping, counted, passive, imported, computed):
        assert join_data_segments(module) == module


@given(st.binary(max_size=200))
def test_garbage_comes_back_unchanged_or_as_bytes(tail: bytes) -> None:
    for module in (tail, b"\0asm\1\0\0\0" + tail, b"\0asm\1\0\0\0\5\3\1\0\1\x0b" + tail):
        assert isinstance(join_data_segments(module), bytes)


@given(st.integers(8, 200), st.integers(0, 255))
def test_a_damaged_module_is_refused_by_the_compiler_before_and_after(at: int, byte: int) -> None:
    """A rewrite must not make a valid module of one that is not."""
    module = bytearray(module_of([(0, b"abc"), (6, b"d" * 70), (90, b"e" * 90)]))
    module[at % len(module)] = byte
    engine = wasmtime.Engine()

    def valid(candidate: bytes) -> bool:
        try:
            wasmtime.Module.validate(engine, candidate)
        except wasmtime.WasmtimeError:
            return False
        return True

    damaged = bytes(module)
    if not valid(damaged):
        assert not valid(join_data_segments(damaged))
