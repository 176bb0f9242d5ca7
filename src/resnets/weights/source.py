"""Where weights come from: a model file of ours, a model in memory, or a file of another program."""

from dataclasses import dataclass, replace
from pathlib import Path

from resnets.base.errors import UsageError
from resnets.base.files import sha256_of
from resnets.data.imagenet import imagenet_head
from resnets.labels import LABEL, Head
from resnets.networks import ResNetSpec
from resnets.networks.unet import UNet
from resnets.weights import modelfile
from resnets.weights.catalogue import Published, of_hash
from resnets.weights.header import shown
from resnets.weights.layouts import Named, by_our_names, outputs_of
from resnets.weights.modelfile import LICENCE, UNNAMED, Model
from resnets.weights.presets import CIFAR10_CLASSES, IMAGENET_CLASSES, cifar10_head
from resnets.weights.tensorfile import TensorFile, read_tensors

AS_IMAGENET = "its 1,000 classes are ImageNet's, in the order of WordNet ids"
AS_CIFAR10 = "its 10 classes are CIFAR-10's, in the order of that data set"


@dataclass(frozen=True, kw_only=True)
class Source:
    """Tensors under our names, and what is known of them: `base` for models of ours, `file` for other files.

    published: what the catalogue says of a file with this hash.
    """

    path: Path
    named: Named
    sha256: str
    licence: str | None
    base: Model | None = None
    file: TensorFile | None = None
    published: Published | None = None

    @property
    def spec(self) -> ResNetSpec | None:
        """The network's, where the source states it."""
        spec = None if self.base is None else getattr(self.base.network, "spec", None)
        return spec if isinstance(spec, ResNetSpec) else None

    @property
    def outputs(self) -> dict[str, int]:
        """Head name -> number of classes."""
        return dict(self.spec.heads) if self.spec is not None else outputs_of(self.named.tensors)

    def head(self, name: str) -> tuple[Head, str] | None:
        """The classes of a head and what was assumed for them (nothing: empty); None where they are not known."""
        if self.base is not None:
            unnamed = name in self.base.origin.get(UNNAMED, []) or name not in self.base.heads
            return None if unnamed else (self.base.heads[name], "")
        classes = self.outputs.get(name)
        if name == LABEL and classes == IMAGENET_CLASSES:
            return imagenet_head(), "" if self.published else AS_IMAGENET
        if name == LABEL and classes == len(CIFAR10_CLASSES) and self.named.akamaster:
            return cifar10_head(), AS_CIFAR10
        return None


def read_source(path: Path, *, prefix: str | None = None) -> Source:
    """Read weights of any kind that is known; `prefix` says which of several networks. Raises ModelFileError."""
    if modelfile.is_model_file(path):
        model = modelfile.load(path)
        if isinstance(model.network, UNet):
            raise UsageError(f"{shown(path)} holds a U-Net; take its encoder: resnets.load(path).network.encoder")
        return replace(from_model(model), path=path, sha256=sha256_of(path))
    file = read_tensors(path)
    named = by_our_names(file.tensors, path, prefix=prefix)
    known = of_hash(file.sha256)
    licence = known.licence if known else file.licence
    return Source(path=path, named=named, sha256=file.sha256, licence=licence, file=file, published=known)


def from_model(model: Model) -> Source:
    """A model in memory as a source of weights."""
    tensors = {name: value.detach().cpu() for name, value in model.network.state_dict().items()}
    return Source(
        path=Path("model"),
        named=Named(tensors=tensors, sources={name: name for name in tensors}, layout="a model of resnets"),
        sha256=modelfile.tensors_sha256(tensors),
        licence=model.origin.get(LICENCE),
        base=model,
    )
