"""Reads YAML and JSON into nodes that know their line and their path, so that every refusal can name both.

Knows nothing of what a file is about: job files (cli/jobfile.py) and scenarios (simulation/reading.py) are read
by it. Keys are compared without regard to letter case, as Go's JSON decoder does.
"""

from __future__ import annotations

import difflib
import json
import re
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import yaml

from bacalhau.model.quantities import InvalidQuantity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

MAX_FILE_BYTES = 16 * 1024 * 1024  # as a message of the protocol
MAX_VALUES = 100_000  # aliases can make a small file a huge one
MAX_DEPTH = 50

Value = TypeVar("Value")
FieldKind = TypeVar("FieldKind", bound="Field")

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_SURROGATES = re.compile(r"(?<!\\)((?:\\\\)*)(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})")
_NULL = "tag:yaml.org,2002:null"
_MERGE = "tag:yaml.org,2002:merge"


class FileFailure(Exception):
    """The file cannot be used: names the file, the line, the field, and what to do."""


class Field:
    """A value of the file. `path` is how a person would name it: `Tasks[0].Engine.Type`.

    What is refused is raised as `Failure`; what a parser of a single value raises to say that the text is
    wrong is one of `wrong_texts`. Kinds of files may have their own of both.
    """

    Failure: ClassVar[type[Exception]] = FileFailure
    wrong_texts: ClassVar[tuple[type[Exception], ...]] = (InvalidQuantity,)

    def __init__(
        self, file: str, path: str, node: yaml.Node, budget: list[int], key: yaml.Node | None = None
    ) -> None:
        self._file = file
        self._key = key
        self._node = node
        self._budget = budget
        self.path = path
        budget[0] -= 1
        if budget[0] < 0:
            raise self.failure(f"the file has more than {MAX_VALUES} values")

    @property
    def line(self) -> int:
        return int((self._key or self._node).start_mark.line) + 1

    @property
    def missing(self) -> bool:
        """It is null, as an empty value is."""
        return isinstance(self._node, yaml.ScalarNode) and self._node.tag == _NULL

    @property
    def is_mapping(self) -> bool:
        return isinstance(self._node, yaml.MappingNode)

    def failure(self, text: str) -> Exception:
        """A refusal of this value."""
        return self.Failure(
            f"{self._file}:{self.line}: {self.path}: {text}"
            if self.path
            else f"{self._file}:{self.line}: {text}"
        )

    def keys(self) -> Iterator[tuple[str, Self]]:
        """The entries of a mapping, merge keys (`<<`) resolved."""
        if self.missing:
            return
        if not isinstance(self._node, yaml.MappingNode):
            raise self.failure("should be a mapping of keys to values")
        seen: dict[str, tuple[yaml.ScalarNode, yaml.Node, bool]] = {}
        for key, value, merged in self._entries(self._node, 0):
            if not isinstance(key, yaml.ScalarNode):
                raise self.failure("has a key that is no text")
            if key.value in seen and not merged and not seen[key.value][2]:
                raise self._child(key, key).failure("comes twice")
            if key.value not in seen or not merged:
                seen[key.value] = (key, value, merged)
        for name, (key, value, _) in seen.items():
            yield name, self._child(key, value)

    def known(self, *names: str, refused: dict[str, str] | None = None) -> dict[str, Self]:
        """The entries of a mapping under their proper names; any other key is refused.

        `refused` are keys that the Go Bacalhau knows and this one does not support, with what to do instead.
        Null values are left out.
        """
        refused = refused or {}
        proper = {name.lower(): name for name in names}
        unsupported = {name.lower(): remedy for name, remedy in refused.items()}
        found: dict[str, Self] = {}
        for key, value in self.keys():
            name = proper.get(key.lower())
            if name is None and key.lower() in unsupported:
                if value.is_empty():
                    continue
                raise value.failure(f"is not supported: {unsupported[key.lower()]}")
            if name is None:
                near = difflib.get_close_matches(key.lower(), [*proper, *unsupported], n=1)
                hint = f"; did you mean {proper.get(near[0], key)}?" if near and near[0] in proper else ""
                raise value.failure("unknown key" + (hint or f"; known here: {', '.join(names)}"))
            if name in found:
                raise value.failure(f"comes twice: {name} was there before in other letters")
            if not value.missing:
                found[name] = value
        return found

    def put(self, path: str, text: str) -> None:
        """Sets what `path` (`nodes[0].cpu`) names, as if `text` stood there in the file. What is not there yet is
        added to its mapping; an item of a list may be named by its `name` too. Raises the Failure."""
        steps = [step for step in re.split(r"[.\[\]]+", path) if step]
        if not steps:
            raise self.failure("an empty field name")
        node: yaml.Node = self._node
        for step in steps[:-1]:
            node = self._below(node, step, path)
        value = yaml.compose(text, Loader=_Loader) or yaml.ScalarNode(_NULL, "")
        last = steps[-1]
        if isinstance(node, yaml.SequenceNode):
            node.value[self._place(node, last, path)] = value
        elif isinstance(node, yaml.MappingNode):
            kept = [(key, old) for key, old in node.value if key.value.lower() != last.lower()]
            key = yaml.ScalarNode("tag:yaml.org,2002:str", last, value.start_mark, value.end_mark)
            node.value = [*kept, (key, value)]
        else:
            raise self.failure(f"{path}: there is nothing to set below a single value")

    def _below(self, node: yaml.Node, step: str, path: str) -> yaml.Node:
        if isinstance(node, yaml.SequenceNode):
            found: yaml.Node = node.value[self._place(node, step, path)]
            return found
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value.lower() == step.lower():
                    below: yaml.Node = value
                    return below
            mark = node.start_mark
            added = yaml.MappingNode("tag:yaml.org,2002:map", [], mark, mark)
            node.value.append((yaml.ScalarNode("tag:yaml.org,2002:str", step, mark, mark), added))
            return added
        raise self.failure(f"{path}: {step} is not there")

    def _place(self, node: yaml.SequenceNode, step: str, path: str) -> int:
        if step.isdigit() and int(step) < len(node.value):
            return int(step)
        for index, item in enumerate(node.value):
            if isinstance(item, yaml.MappingNode):
                for key, value in item.value:
                    if key.value == "name" and value.value == step:
                        return index
        raise self.failure(f"{path}: the list has no {step}")

    def is_empty(self) -> bool:
        """Null, an empty text, list or mapping, zero or false: what Go takes for not set."""
        if isinstance(self._node, yaml.ScalarNode):
            return self.missing or self._node.value in ("", "0", "false")
        return not self._node.value

    def items(self) -> list[Self]:
        """The values of a list."""
        if self.missing:
            return []
        if not isinstance(self._node, yaml.SequenceNode):
            raise self.failure("should be a list")
        return [
            type(self)(self._file, f"{self.path}[{index}]", node, self._budget)
            for index, node in enumerate(self._node.value)
        ]

    def text(self) -> str:
        """A text; numbers and truth values are taken as they are written."""
        if not isinstance(self._node, yaml.ScalarNode):
            raise self.failure("should be a text")
        if "\0" in self._node.value:
            raise self.failure("holds a NUL character")
        return "" if self.missing else str(self._node.value)

    def texts(self) -> list[str]:
        """A list of texts."""
        return [item.text() for item in self.items()]

    def integer(self, minimum: int, maximum: int) -> int:
        """A whole number."""
        text = self.text()
        if not re.fullmatch(r"-?[0-9]{1,19}", text) or not minimum <= int(text) <= maximum:
            raise self.failure(f"should be a whole number from {minimum} to {maximum}, not {text!r}")
        return int(text)

    def truth(self) -> bool:
        """true or false."""
        text = self.text().lower()
        if text not in ("true", "false"):
            raise self.failure(f"should be true or false, not {text!r}")
        return text == "true"

    def parsed(self, parse: Callable[[str], Value]) -> Value:
        """The text, read by `parse`; what it raises becomes a refusal of this value."""
        try:
            return parse(self.text())
        except self.wrong_texts as error:
            raise self.failure(str(error)) from error

    def _child(self, key: yaml.ScalarNode, node: yaml.Node) -> Self:
        path = f"{self.path}.{key.value}" if self.path else str(key.value)
        return type(self)(self._file, path, node, self._budget, key)

    def _entries(self, node: yaml.Node, depth: int) -> Iterator[tuple[yaml.Node, yaml.Node, bool]]:
        """Keys and values of a mapping and then of what it merges in, the nearest first."""
        if not isinstance(node, yaml.MappingNode) or depth > MAX_DEPTH:
            raise self.failure("merges in something that is no mapping")
        merges: list[yaml.Node] = []
        for key, value in node.value:
            if key.tag == _MERGE:
                merges.extend(value.value if isinstance(value, yaml.SequenceNode) else [value])
            else:
                yield key, value, depth > 0
        for merge in merges:
            self._budget[0] -= 1
            if self._budget[0] < 0:
                raise self.failure(f"the file has more than {MAX_VALUES} values")
            yield from self._entries(merge, depth + 1)


def read_root(text: str, file: str, kind: type[FieldKind], *, begins_with: str) -> FieldKind:
    """The root of a YAML or JSON document. Raises the Failure of `kind`; `begins_with` is for an empty file."""
    failure = kind.Failure
    if len(text) > MAX_FILE_BYTES:
        raise failure(f"{file} is larger than {MAX_FILE_BYTES // 1024 // 1024} MiB: add data as an input")
    if text.lstrip().startswith("{"):
        text = _as_yaml(text)
    try:
        _check_depth(text, file, failure)
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{file}:{mark.line + 1}: " if mark is not None else f"{file}: "
        raise failure(f"{place}this is no YAML or JSON: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise failure(f"{file} is no YAML or JSON: {error}") from error
    if node is None:
        raise failure(f"{file} is empty: {begins_with}")
    return kind(file, "", node, [MAX_VALUES])


def _as_yaml(text: str) -> str:
    """JSON is YAML but for two things: it may be indented by tabs, and escapes by surrogate pairs."""
    # No line break is inside a value of a JSON text, so what begins a line is indentation.
    text = re.sub(r"(?m)^[ \t]+", lambda indent: " " * len(indent[0]), text)
    return _SURROGATES.sub(lambda pair: pair[1] + json.loads(f'"{pair[2]}"'), text)


def _check_depth(text: str, file: str, failure: type[Exception]) -> None:
    """Refuses nesting that would exhaust the stack of the composer, which recurses."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise failure(f"{file}: values are nested deeper than {MAX_DEPTH}")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
