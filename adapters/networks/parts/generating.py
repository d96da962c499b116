"""Shim: until the sweep."""

from vtbench.models.native_generator import NativeGenerator as NativeGenerator
from vtbench.models.native_generator import Sample as Sample
from vtbench.models.native_generator import build as build
from vtbench.models.native_generator import text_features as text_features
