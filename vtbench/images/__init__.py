"""Shim: until the sweep."""

from vtbench.images.fits import Fit as Fit
from vtbench.images.fits import fit_adm as fit_adm
from vtbench.images.protocols import PROTOCOLS as PROTOCOLS
from vtbench.images.reading import BACKGROUND as BACKGROUND
from vtbench.images.reading import FORMATS as FORMATS
from vtbench.images.reading import PIXEL_LIMIT as PIXEL_LIMIT
from vtbench.images.reading import BadImage as BadImage
from vtbench.images.reading import decode as decode
from vtbench.images.reading import header_size as header_size
from vtbench.images.reading import rgb_sha256 as rgb_sha256
from vtbench.images.rounding import extremes as extremes
from vtbench.images.rounding import to_float as to_float
from vtbench.images.rounding import to_uint8 as to_uint8
from vtbench.images.serving import Service as Service
from vtbench.images.serving import serve as serve
from vtbench.images.views import View as View

FITS = {p.name: p.crop for p in PROTOCOLS.values() if p.crop is not None}
