"""What `edgepress bench` was given, turned into the cells of a matrix and what they are judged by."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepress.core.errors import ConfigError, MissingExtraError, suggest

if TYPE_CHECKING:
    from edgepress.core.artifact import Program, Signature
    from edgepress.core.stage import Progress
    from edgepress.data.base import Split
    from edgepress.measure.cell import Cell
    from edgepress.measure.matrix import Judge, Settings
    from edgepress.measure.prepare import Wanted, Workshop

CALIBRATION, GATE = 512, 256
"""Images of the train split that choose ranges, and of the validation split that a new file is proven on."""


@dataclass(frozen=True)
class Source:
    """How a network that is named, not saved, gets its weights and its normalization; see `models.stages.Load`."""

    weights: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Given:
    """One network or bundle of the command line: what was written, a short name that is not taken, the folder of a
    bundle or a saved model, None for a network that has yet to be built."""

    text: str
    name: str
    folder: Path | None
    is_model: bool


@dataclass
class Field:
    """The cells, what they are judged by (None without data), and what a report says about them."""

    cells: "list[Cell]" = field(default_factory=list["Cell"])
    judge: "Judge | None" = None
    score: str = "top1"
    labels: tuple[str, ...] = ()


def look_up(what: tuple[str, ...], runs: Path) -> list[Given]:
    """Return what the words on the command line mean. Raises `ConfigError` with the names there are."""
    from edgepress.cli.targets import numbered

    meant = [(text, *_folder(text, runs)) for text in what]
    names = numbered(_short_name(text, folder) for text, folder, _ in meant)
    return [Given(text, name, folder, is_model) for name, (text, folder, is_model) in zip(names, meant, strict=True)]


def _short_name(text: str, folder: Path | None) -> str:
    base = text.rpartition(":")[2] if folder is None else Path(text).absolute().name
    return (Path(text).absolute().parent.name if base == "bundle" else base).replace(" ", "_")[-40:]


def _folder(text: str, runs: Path) -> tuple[Path | None, bool]:
    """Return the folder that `text` means, and whether a network lies there, not a bundle; None for the name of one."""
    from edgepress.cli.targets import find_target

    if (Path(text) / "structure.json").exists():
        return Path(text), True
    try:
        found = find_target(text, runs)
    except ConfigError as error:
        if is_network(text):
            return None, True
        names = networks()
        near = suggest(text, names) if "/" not in text and not Path(text).exists() else ""
        raise ConfigError(f"{error}" + (f"; of the networks with a name{near}" if near else "")) from None
    return found.folder, found.kind == "stage" and not (found.folder / "bundle").is_dir()


def networks() -> list[str]:
    """Return the registered names of networks, none on a base install."""
    if not has_workshop():
        return []
    from edgepress.models.base import models

    return list(models)


def is_network(text: str) -> bool:
    """Return whether `text` names a network: registered, `timm:name`, `torchvision:name`, `package.module:factory`."""
    scheme, colon, rest = text.partition(":")
    if text in networks():
        return True
    return bool(scheme and colon and rest) and not {"/", "\\"}.intersection(text) and not Path(text).exists()


def has_workshop() -> bool:
    """Return whether networks can be built here, and files made of them."""
    from importlib.util import find_spec

    return find_spec("torch") is not None


def spelled_out(options: dict[str, Any], data: str | None) -> "Wanted":
    """Return what was asked for, `all` spelled out. Raises `ConfigError` where other engines are asked for without
    images to prove their files on."""
    from edgepress.measure.cell import EAGER
    from edgepress.measure.prepare import Wanted, others, runtime_of

    runtimes, precisions = options["runtimes"], options["precisions"]
    if runtimes == ("all",):
        names = dict.fromkeys(runtime_of(format) for format in formats())
        runtimes = (EAGER, *(one for name in names for one in (name, *others(name))))
    if set(runtimes) - {"onnxruntime"} and data is None:
        raise ConfigError("--runtimes: files for other engines are proven on images: give --data NAME, too")
    return Wanted(runtimes, () if precisions == ("all",) else precisions, options["threads"], options["batch"])


def plan(
    given: list[Given], source: Source, data: str | None, split: str, images: int, wanted: "Wanted",
    settings: "Settings", on: str,
) -> dict[str, Any]:  # fmt: skip
    """Return all that makes one matrix another: the networks, as far as their files tell, and how they are measured."""
    from edgepress.cli.given_data import root_of
    from edgepress.measure import environment

    about = {
        "what": [[one.text, *_prints(one.folder)] for one in given],
        "source": [asdict(source), *_prints(Path(source.weights) if source.weights else None)],
        "data": [data, *_prints(root_of(data), everything=True)],
        "images": [split, images],
        "wanted": asdict(wanted),
        "settings": asdict(settings),
        "machine": on or environment.machine(),
        "versions": environment.versions(),
    }
    return json.loads(json.dumps(about))


def _prints(path: Path | None, everything: bool = False) -> list[str]:
    """Return the names, sizes and dates of the files that a network is (or of all) in a folder, or of one file; an
    empty list where `path` is a name for something else. Of many files it is a digest."""
    if path is None or not path.exists():
        return []
    kinds = (".onnx", ".packed", ".safetensors", ".json", ".bin")
    files = sorted(f for f in path.rglob("*") if (everything or f.suffix in kinds) and f.is_file())
    about = [(file, file.stat()) for file in (files if path.is_dir() else [path])]
    told = [f"{file.relative_to(path)} {stat.st_size} {stat.st_mtime_ns}" for file, stat in about]
    return [hashlib.sha256("\n".join(told).encode()).hexdigest()] if everything else told


def check(given: list[Given], source: Source, data: str | None, wanted: "Wanted") -> None:
    """Raise `ConfigError` for what cannot be measured, before anything is written."""
    from edgepress.measure.prepare import check_wanted

    if source != Source() and all(one.folder is not None for one in given):
        raise ConfigError("--weights, --mean and --std are for a network given by name; files hold their own")
    network = next((one for one in given if one.is_model), None)
    if network is not None and data is None:
        raise ConfigError(f"{network.text!r} is a network, no file: give --data, on whose images files are made")
    if wanted.runtimes or wanted.precisions:
        check_wanted(wanted, formats())


def prepare(
    given: list[Given], source: Source, data: str | None, split: str, images: int, wanted: "Wanted", store: Path,
    runs: Path, progress: "Progress",
) -> Field:  # fmt: skip
    """Make every file that is wanted and not there yet; return the cells, and what to judge them by."""
    from edgepress.cli.given_data import load_for
    from edgepress.cli.targets import load_program
    from edgepress.measure import prepare as making
    from edgepress.measure.base import split_of
    from edgepress.tasks.base import tasks

    found = Field()
    signatures: list[Signature] = []
    models: dict[str, dict[str, Path]] = {}
    layers: dict[str, list[str]] = {}
    with making.Workshop(store) as shop:
        for one in given:
            if not one.is_model:
                program, folder = load_program(one.text, runs)
                signatures.append(_alike(given[0], signatures, one, program.signature, data))
                found.cells += _bundle(one, program, folder, data, wanted, shop)
                continue
            assert data is not None, "checked"
            folder = one.folder or build(one, source, data, store, progress)
            signature, precision = _about(folder)
            signatures.append(_alike(given[0], signatures, one, signature, data))
            paths = _images(store, data, signature, one.folder)
            networks = making.networks_of(one.name, folder, precision, paths["calibration"], formats(), wanted, shop)
            models[one.name], layers[one.name] = networks, making.layer_names(one.name, folder, shop)
            found.cells += making.from_model(one.name, networks, paths["gate"], formats(), wanted, shop, progress)
        found.labels, found.score = signatures[0].labels, tasks.get(signatures[0].task).main
        if data is not None:
            loaded = load_for(data, signatures[0], given[0].folder)
            found.judge = _judge(split_of(loaded, split), images, signatures[0], models, layers, shop, progress)
    return found


def build(given: Given, source: Source, data: str, store: Path, progress: "Progress") -> Path:
    """Build the network that `given` names for the classes and images of `data`; return the folder it lies in."""
    from dataclasses import replace

    from edgepress.cli.given_data import source_of
    from edgepress.models.build import new_model
    from edgepress.models.structure import save_model
    from edgepress.models.weights import load_weights

    folder = store / "models" / given.name
    if (folder / "structure.json").exists():
        return folder
    if source.weights is None:
        progress.say(f"{given.text} has random weights: its time and size are real, its score is not (--weights FILE)")
    signature = source_of(data).load().signature
    if source.mean is not None and source.std is not None:
        try:
            signature = replace(signature, input=replace(signature.input, mean=source.mean, std=source.std))
        except ValueError as error:
            raise ConfigError(f"--mean, --std: {error}") from None
    fetched = source.weights == "pretrained"
    model = new_model(given.text, signature, {"pretrained": True} if fetched else {}, seed=0)
    if source.weights is not None and not fetched:
        load_weights(model.module, Path(source.weights))
    save_model(model, folder)
    return folder


def formats() -> list[str]:
    """Return the names of all formats, PyTorch's own and ONNX first. Raises `MissingExtraError` on a base install."""
    if not has_workshop():
        raise MissingExtraError("making files for other engines", "train")
    from edgepress.export.formats import formats as known

    return sorted(known, key=lambda name: (not name.startswith("pt2"), not name.startswith("onnx"), name))


def _alike(first: Given, known: "list[Signature]", one: Given, signature: "Signature", data: str | None) -> "Signature":
    """Return `signature`; raise `ConfigError` where `data` cannot score it together with that of the first network."""
    if data is not None and known:
        told = {
            "task": lambda of: of.task,
            "image shape": lambda of: "x".join(str(side) for side in of.input.shape),
            "classes": lambda of: of.labels,
        }
        for what, of in told.items():
            if of(known[0]) != of(signature):
                a, b = (f" ({of(each)})" if what != "classes" else "" for each in (known[0], signature))
                raise ConfigError(
                    f"{one.text!r}{b} has another {what} than {first.text!r}{a}, in which --data is read:"
                    " bench them one by one"
                )
    return signature


def _bundle(
    given: Given, program: "Program", folder: Path, data: str | None, wanted: "Wanted", shop: "Workshop"
) -> "list[Cell]":
    from edgepress.measure.prepare import from_bundle

    gate, able = None, list[str]()
    if data and wanted.runtimes:
        from edgepress.export.convert import conversions

        gate, able = _images(shop.store, data, program.signature, folder)["gate"], list(conversions)
    return from_bundle(given.name, folder, program.runtime, program.precision, gate, able, wanted, shop)


def _judge(
    split: "Split", images: int, signature: "Signature", models: dict[str, dict[str, Path]],
    layers: dict[str, list[str]], shop: "Workshop", progress: "Progress",
) -> "Judge":  # fmt: skip
    import numpy as np

    from edgepress.core.files import write_array
    from edgepress.data.base import spread
    from edgepress.measure.matrix import SEEN, TARGETS, Judge
    from edgepress.measure.prepare import references

    seen, targets = split.read(spread(split, images or len(split)))
    write_array(shop.store / SEEN, seen)
    write_array(shop.store / TARGETS, targets)
    known: dict[str, Any] = {}
    for name, networks in models.items():
        files = references(name, networks, shop.store / SEEN, shop, progress)
        known |= {network: np.load(path) for network, path in files.items()}
    return Judge(seen, targets, signature.task, len(signature.labels), known, layers)


def _images(store: Path, data: str, signature: "Signature", network: Path | None) -> dict[str, Path]:
    """Return the files of the images that a network is calibrated and its files are proven on."""
    from edgepress.cli.given_data import load_for
    from edgepress.core.files import write_array
    from edgepress.data.base import spread
    from edgepress.export.parity import enough

    size = f"{signature.input.width}x{signature.input.height}"
    paths = {what: store / f"{what}-{size}.npy" for what in ("calibration", "gate")}
    if not all(path.exists() for path in paths.values()):
        loaded = load_for(data, signature, network)
        split = loaded.val if len(loaded.val) else loaded.test
        write_array(paths["calibration"], loaded.calibration(CALIBRATION, 0))
        write_array(paths["gate"], split.read(spread(split, enough(signature, GATE)))[0])
    return paths


def _about(folder: Path) -> "tuple[Signature, str]":
    from edgepress.models.structure import load_model

    model = load_model(folder)
    return model.signature, model.precision
