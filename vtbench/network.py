"""Shim: until the sweep."""

from vtbench.models.native import NetworkTokenizer as NetworkTokenizer
from vtbench.models.network import Encoded as Encoded
from vtbench.models.network import Network as Network
from vtbench.models.network import build_network as build_network
from vtbench.models.network import load_class as load_class
