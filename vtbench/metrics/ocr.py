"""Reading engines: text of given line boxes, or of a page. Deterministic, offline, readings kept by content.

EasyOCR's reader is that of the language that is asked for (vtbench.metrics.languages).

An engine's id names package, version, weights' sha256 and decoding: whatever a reading depends on. Readings lie under
the cache folder by the hash of (engine id, pixels, boxes): the originals of a suite are read once, whatever the number
of models. Lines are read one at a time: padded to a common width, EasyOCR's readings would depend on their neighbours.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import importlib.metadata
import io
import json
import os
import shutil
import subprocess
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vtbench.metrics import weights
from vtbench.metrics.languages import ENGLISH, reading_model, right_to_left
from vtbench.results.cache_files import read_checked, write_checked
from vtbench.types.environment import cache_dir
from vtbench.types.errors import MissingExtra, Unavailable

Box = tuple[int, int, int, int]
"""left, top, right, bottom in pixels of the scored image; right and bottom are outside."""


class Engine(ABC):
    """`scripts`: what it can read, in the words of Item.meta["script"]. `code`: its language, of engines that have
    several. `device`: where it works."""

    name: str
    scripts: frozenset[str]
    id: str
    code = ENGLISH
    device = "cpu"

    @abstractmethod
    def load(self, device: str) -> None:
        """Raises Unavailable with the reason."""

    @abstractmethod
    def lines(self, image: Any, boxes: Sequence[Box]) -> list[str]:
        """uint8 RGB (H, W, 3) -> the reading of each box; "" where nothing was read."""

    right_to_left = False
    """Whether the rows of a page are read from the right."""

    def page(self, image: Any) -> list[tuple[Box, str]]:
        """What a detector finds and the recognizer reads there, in the order of `reading_order`."""
        raise Unavailable(f"{self.name} is used without its detector here")

    def of_language(self, language: str) -> Engine:
        """The engine that reads a language: this one, where it makes no difference between languages."""
        return self


def reading_order(boxes: Sequence[tuple[Box, Any]], right_to_left: bool = False) -> list[tuple[Box, Any]]:
    """Rows from the top, each from the left (or the right). A box joins the row whose first box covers its vertical
    centre."""
    rows: list[list[tuple[Box, Any]]] = []
    for box, text in sorted(boxes, key=lambda b: (b[0][1] + b[0][3], b[0][0])):
        centre = (box[1] + box[3]) / 2
        for row in rows:
            if row[0][0][1] <= centre < row[0][0][3]:
                row.append((box, text))
                break
        else:
            rows.append([(box, text)])
    return [b for row in rows for b in sorted(row, key=lambda b: -b[0][2] if right_to_left else b[0][0])]


class EasyOCR(Engine):
    """EasyOCR's recognizer of a language (greedy, not quantized) and, for pages, its CRAFT detector."""

    name = "easyocr"

    def __init__(self, language: str = ENGLISH) -> None:
        self.model, self.code = reading_model(language)
        self.scripts = self.model.scripts
        self.right_to_left = right_to_left(self.model)
        self._reader: Any = None
        self._detects = False

    def of_language(self, language: str) -> Engine:
        return self if reading_model(language)[1] == self.code else engine(self.name, self.device, language)

    def load(self, device: str) -> None:
        if self._reader is not None:
            return
        model = weights.find(self.model.weights)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import easyocr

            facts = easyocr.config.recognition_models[f"gen{self.model.generation}"][self.model.name]
            _same_md5(model, facts)
            languages = [self.code] if self.code == ENGLISH else [self.code, ENGLISH]
            with contextlib.redirect_stdout(None), contextlib.redirect_stderr(None):
                # Without its networks: it would unpickle their files.
                off = dict.fromkeys(("gpu", "detector", "recognizer", "download_enabled", "quantize", "verbose"), False)
                folders = dict.fromkeys(("model_storage_directory", "user_network_directory"), str(model.parent))
                reader = easyocr.Reader(languages, **off, **folders)
        self._reader = self._with_recognizer(reader, facts, device)
        self.device = device
        version = importlib.metadata.version("easyocr")
        # Of English the readings that were kept before there were other languages hold on.
        language = "" if self.code == ENGLISH else f"/{self.code}"
        self.id = f"easyocr-{version}/{weights.identity(self.model.weights)}/greedy/line-by-line{language}"

    def _with_recognizer(self, reader: Any, facts: Mapping[str, Any], device: str) -> Any:
        from easyocr.utils import CTCLabelConverter

        reader.character = facts["characters"]
        reader.converter = CTCLabelConverter(reader.character, {}, {})
        # Of input, of output, hidden: EasyOCR's network_params of its generations.
        file, channels = {1: ("model", (1, 512, 512)), 2: ("vgg_model", (1, 256, 256))}[self.model.generation]
        module = importlib.import_module(f"easyocr.model.{file}")
        network = module.Model(*channels, len(reader.converter.character))
        state = weights.load_state(self.model.weights)
        # The file was saved from DataParallel.
        network.load_state_dict({k.removeprefix("module."): v for k, v in state.items()})
        reader.recognizer = network.requires_grad_(False).eval().to(device)
        reader.device = device
        return reader

    def lines(self, image: Any, boxes: Sequence[Box]) -> list[str]:
        grey = _grey(image)
        out = []
        with warnings.catch_warnings():
            # torch speaks of pinned memory on machines without an accelerator.
            warnings.simplefilter("ignore")
            for left, top, right, bottom in boxes:
                pieces = self._reader.recognize(
                    grey,
                    horizontal_list=[[left, right, top, bottom]],
                    free_list=[],
                    decoder="greedy",
                    batch_size=1,
                    workers=0,
                    reformat=False,
                )
                out.append(" ".join(str(text) for _, text, _ in pieces))
        return out

    def page(self, image: Any) -> list[tuple[Box, str]]:
        self._add_detector()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Tilted boxes (the second list) are read too; both by their upright hull.
            upright, tilted = self._reader.detect(image)
        boxes = [(int(a), int(c), int(b), int(d)) for a, b, c, d in upright[0]]
        for corners in tilted[0]:
            xs, ys = zip(*corners, strict=True)
            boxes.append((int(min(xs)), int(min(ys)), int(max(xs)) + 1, int(max(ys)) + 1))
        height, width = image.shape[:2]
        inside = [(max(0, a), max(0, b), min(width, c), min(height, d)) for a, b, c, d in boxes]
        whole = [box for box in inside if box[2] > box[0] and box[3] > box[1]]
        return reading_order(list(zip(whole, self.lines(image, whole), strict=True)), self.right_to_left)

    def _add_detector(self) -> None:
        if self._detects:
            return
        from easyocr import config, detection
        from easyocr.craft import CRAFT

        _same_md5(weights.find("easyocr-craft"), config.detection_models["craft"])
        network = CRAFT()
        state = weights.load_state("easyocr-craft")
        network.load_state_dict({k.removeprefix("module."): v for k, v in state.items()})
        self._reader.detector = network.requires_grad_(False).eval().to(self.device)
        self._reader.get_textbox = detection.get_textbox
        self._detects = True


class RapidOCR(Engine):
    """RapidOCR's recognizer alone: PP-OCRv6 (small) in ONNX Runtime on the CPU."""

    name = "rapidocr"
    scripts = frozenset({"latin", "han", "hiragana", "katakana"})

    def __init__(self) -> None:
        self._read: Callable[[Any], str] | None = None

    def load(self, device: str) -> None:
        if self._read is not None:
            return
        try:
            import rapidocr
        except ImportError as absent:
            raise MissingExtra("rapidocr", "offline", "the reader RapidOCR") from absent
        path = weights.find("rapidocr-ppocrv6-rec")
        engine = rapidocr.RapidOCR(
            params={
                "Global.use_det": False,
                "Global.use_cls": False,
                "Global.log_level": "critical",
                "Rec.model_path": str(path),
                "Rec.rec_batch_num": 1,
                # Sums of several threads may come in any order.
                "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            }
        )

        def read(crop: Any) -> str:
            texts = engine.recognize_txt([crop]).txts
            return str(texts[0]) if texts else ""

        self._read = read
        version = importlib.metadata.version("rapidocr")
        self.id = f"rapidocr-{version}/{weights.identity('rapidocr-ppocrv6-rec')}"

    def lines(self, image: Any, boxes: Sequence[Box]) -> list[str]:
        import numpy as np

        assert self._read is not None
        # BGR, as OpenCV reads.
        return [self._read(np.ascontiguousarray(image[t:b, le:r, ::-1])) for le, t, r, b in boxes]


class Tesseract(Engine):
    """The `tesseract` program, if installed: one line of English at a time (--psm 7)."""

    name = "tesseract"
    scripts = frozenset({"latin"})

    def load(self, device: str) -> None:
        program = shutil.which("tesseract")
        if program is None:
            raise Unavailable("the program tesseract is not installed: install tesseract-ocr with its English data")
        version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
        languages = subprocess.run([program, "--list-langs"], capture_output=True, text=True, check=True).stdout
        folder = languages.partition('"')[2].partition('"')[0]
        model = Path(folder) / "eng.traineddata"
        if not model.is_file():
            raise Unavailable(f"tesseract {version} has no English data in {folder}: install eng.traineddata")
        self._program = program
        self.id = f"tesseract-{version}/eng@{weights.sha256(model)[:16]}/psm7"

    def lines(self, image: Any, boxes: Sequence[Box]) -> list[str]:
        from PIL import Image

        out = []
        for left, top, right, bottom in boxes:
            picture = io.BytesIO()
            Image.fromarray(image[top:bottom, left:right]).save(picture, "PNG")
            process = subprocess.run(
                [self._program, "stdin", "stdout", "--psm", "7", "-l", "eng"],
                input=picture.getvalue(),
                capture_output=True,
                check=True,
                env={**os.environ, "OMP_THREAD_LIMIT": "1"},
            )
            out.append(process.stdout.decode("utf-8").strip())
        return out


ENGINES: dict[str, Callable[..., Engine]] = {e.name: e for e in (EasyOCR, RapidOCR, Tesseract)}


@functools.cache
def _loaded(name: str, device: str, *language: str) -> Engine:
    reader = ENGINES[name](*language)
    reader.load(device)
    return reader


def engine(name: str, device: str = "cpu", language: str = ENGLISH) -> Engine:
    """The engine, of a language where it has several, loaded once a process. Raises Unavailable with the reason."""
    return _loaded(name, device, *(() if language == ENGLISH else (reading_model(language)[1],)))


def _grey(image: Any) -> Any:
    """Luma as EasyOCR's own reformat_input makes it."""
    import cv2

    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)


def _same_md5(path: Path, facts: Any) -> None:
    """Refuses a file that EasyOCR itself would not take."""
    digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    if digest != facts["md5sum"]:
        raise Unavailable(f"{path} has md5 {digest}, EasyOCR's own config wants {facts['md5sum']}: replace the file")


def kept(reader: Engine, image: Any, question: Any, make: Callable[[], Any]) -> Any:
    """`make()`'s JSON from the cache of readings, by engine, pixels and `question` (boxes, or "page")."""
    digest = hashlib.sha256(f"{reader.id}\0{json.dumps(question)}\0{image.shape}\0".encode())
    digest.update(image.tobytes())
    key = digest.hexdigest()
    path = cache_dir() / "readings" / key[:2] / f"{key}.json"
    reading = read_checked(path)
    if reading is None:
        reading = make()
        write_checked(path, reading)
    return reading


def read_lines(reader: Engine, image: Any, boxes: Sequence[Box]) -> list[str]:
    """The reading of each box of one image, kept."""
    return [str(t) for t in kept(reader, image, [list(b) for b in boxes], lambda: reader.lines(image, boxes))]


def read_page(reader: Engine, image: Any) -> str:
    """The whole page's text: detected boxes in reading order, joined by spaces; kept."""
    return str(kept(reader, image, "page", lambda: " ".join(text for _, text in reader.page(image))))
