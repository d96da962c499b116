"""Weights out of an ONNX file without the onnx package: initializers, and the nodes that say what they are.

The file is a protocol buffer; read are the fields of onnx.proto3 that are named below, all others are passed over.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

GRAPH = 7
NODE, INITIALIZER = 1, 5
INPUT, NODE_NAME, OPERATION = 1, 3, 4
DIMENSIONS, DATA_TYPE, FLOATS, TENSOR_NAME, RAW = 1, 2, 4, 8, 9
TYPES = {1: "<f4", 6: "<i4", 7: "<i8", 9: "?", 10: "<f2", 11: "<f8"}


@dataclass(frozen=True)
class Node:
    name: str
    operation: str
    inputs: tuple[str, ...]


def read_onnx(path: Path) -> tuple[dict[str, np.ndarray[Any, Any]], list[Node]]:
    """(initializers by name, nodes in the graph's order)."""
    tensors, nodes = {}, []
    graph = next(value for field, value in fields(memoryview(path.read_bytes())) if field == GRAPH)
    for field, value in fields(graph):
        if field == INITIALIZER:
            name, array = _tensor(value)
            tensors[name] = array
        elif field == NODE:
            parts = [(f, bytes(v).decode()) for f, v in fields(value) if f in (INPUT, NODE_NAME, OPERATION)]
            name, operation = (next((v for f, v in parts if f == wanted), "") for wanted in (NODE_NAME, OPERATION))
            nodes.append(Node(name, operation, tuple(v for f, v in parts if f == INPUT)))
    return tensors, nodes


def _tensor(message: memoryview) -> tuple[str, np.ndarray[Any, Any]]:
    shape: list[int] = []
    name, kind, raw, floats = "", 1, b"", b""
    for field, value in fields(message):
        if field == DIMENSIONS:
            shape += [value] if isinstance(value, int) else list(_integers(value))
        elif field == DATA_TYPE:
            kind = value
        elif field == FLOATS:
            floats += bytes(value) if not isinstance(value, int) else struct.pack("<I", value)
        elif field == TENSOR_NAME:
            name = bytes(value).decode()
        elif field == RAW:
            raw = bytes(value)
    return name, np.frombuffer(raw or floats, TYPES[kind]).reshape(shape)


def fields(message: memoryview) -> Iterator[tuple[int, Any]]:
    """(number, value) of a message's fields: an int, or the bytes of what has a length."""
    place = 0
    while place < len(message):
        key, place = _integer(message, place)
        if key & 7 == 0:
            value, place = _integer(message, place)
            yield key >> 3, value
        else:
            size = {1: 8, 5: 4}.get(key & 7)
            if size is None:
                size, place = _integer(message, place)
            part = message[place : place + size]
            yield key >> 3, int.from_bytes(part, "little") if key & 7 == 5 else part
            place += size


def _integer(message: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[place]
        place += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, place


def _integers(message: memoryview) -> Iterator[int]:
    place = 0
    while place < len(message):
        value, place = _integer(message, place)
        yield value
