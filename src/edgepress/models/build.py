"""From the name of a network to the network: our registry, timm, torchvision, smp, or the user's own code."""

import importlib
import inspect
import json
import sys
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn

from edgepress.core.artifact import Builder, Model, Signature
from edgepress.core.config import short
from edgepress.core.errors import ConfigError, EdgepressError, MissingExtraError, UnknownNameError, suggest
from edgepress.models.base import models
from edgepress.models.bounds import bounded
from edgepress.models.predictor import evaluating
from edgepress.models.smp import smp_model

WEIGHT_SOURCES = (
    *("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "weights", "weights_backbone", "encoder_weights"),
)
"""Arguments that choose the first weights, not the structure; a saved model is rebuilt without them."""


def new_model(name: str, signature: Signature, arguments: dict[str, Any], seed: int) -> Model:
    """Return a freshly initialized network named `name` (see `Builder`) as a `Model`.

    The same seed gives the same weights, and the caller's random state is left as it was. Arguments that choose
    pretrained weights take effect here and are not recorded: the builder of a model describes its structure.
    """
    builder = Builder(name, _plain(name, arguments))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = build(builder, signature)
    return Model(module, structure_only(builder), signature)


def build(builder: Builder, signature: Signature) -> nn.Module:
    """Return the network `builder` describes, made for the classes, channels and size of `signature`.

    Raises `UnknownNameError` for a name nobody knows, `ConfigError` for arguments that the factory does not take or
    that make a network larger than this machine's memory, `MissingExtraError` where its library is absent,
    `EdgepressError` where pretrained weights cannot be had.
    """
    with bounded(builder.name):
        module = _built(builder, signature)
    if not isinstance(module, nn.Module):
        raise ConfigError(f"model {builder.name!r} gave a {type(module).__name__}, not a torch.nn.Module")
    return module


def _built(builder: Builder, signature: Signature) -> Any:
    scheme, colon, rest = builder.name.partition(":")
    if not colon:
        return _registered(builder.name, signature, builder.arguments)
    if scheme == "timm":
        return _timm(rest, signature, builder.arguments)
    if scheme == "torchvision":
        return _torchvision(rest, signature, builder.arguments)
    if scheme == "smp":
        return smp_model(rest, len(signature.labels), signature.input.channels, builder.arguments)
    return _call(builder.name, _own(builder.name), signature, builder.arguments)


def require_outputs(model: Model) -> None:
    """Raise `ConfigError` where a network does not take an image of its signature, or does not give one tensor with a
    value per class (and pixel, for class maps): found by one image."""
    shape, classes = model.signature.input.shape, len(model.signature.labels)
    wanted = (1, classes, *shape[1:]) if model.signature.task == "segmentation" else (1, classes)
    device = next(model.module.parameters(), torch.zeros(())).device
    try:  # no inference mode: what a network keeps from its first image has to serve in a training
        with evaluating(model.module), torch.no_grad(), torch.random.fork_rng(devices=[]):
            found = model.module(torch.zeros(1, *shape, device=device))
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        raise ConfigError(f"model {model.builder.name!r} does not run on an image {shape}: {error}") from error
    if isinstance(found, torch.Tensor) and tuple(found.shape) == wanted:
        return
    given = f"a tensor {tuple(found.shape)}" if isinstance(found, torch.Tensor) else f"a {type(found).__name__}"
    raise ConfigError(
        f"model {model.builder.name!r} gives {given} for one image; {classes} classes need a tensor {wanted}: "
        "build it for these classes, and let it give nothing else"
    )


def structure_only(builder: Builder) -> Builder:
    """Return `builder` without the arguments that fetch weights."""
    return Builder(builder.name, {k: v for k, v in builder.arguments.items() if k not in WEIGHT_SOURCES})


def _offered(signature: Signature) -> dict[str, Any]:
    classes, spec = len(signature.labels), signature.input
    return {
        **dict.fromkeys(("classes", "num_classes"), classes),
        **dict.fromkeys(("channels", "in_channels", "in_chans"), spec.channels),
        "size": (spec.height, spec.width),
    }


def _registered(name: str, signature: Signature, arguments: Mapping[str, Any]) -> Any:
    """Call a factory of the registry, whose annotations say what its arguments may be."""
    factory = models.get(name)
    parameters, hints = inspect.signature(factory).parameters, get_type_hints(factory)
    errors: list[str] = []
    for key, value in arguments.items():
        if key not in parameters or key not in hints:
            continue
        default = parameters[key].default
        try:
            TypeAdapter(hints[key]).validate_json(json.dumps(value), strict=True)
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            errors.append(f"model {name!r}: argument {key!r}: {reason[:1].lower()}{reason[1:]}, got {short(value)}")
        else:
            if type(default) is int and default > 0 and isinstance(value, int) and value < 1:
                errors.append(f"model {name!r}: argument {key!r} must be at least 1, got {value!r}")
    if errors:
        raise ConfigError(errors)
    return _call(name, factory, signature, arguments)


def _call(name: str, factory: Callable[..., Any], signature: Signature, arguments: Mapping[str, Any]) -> Any:
    """Call `factory` with `arguments`, and with what it asks for by name among classes, channels and size."""
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        raise ConfigError(f"model {name!r}: {factory!r} cannot be called with keyword arguments") from None
    keywords = {k: p for k, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    given = {k: v for k, v in _offered(signature).items() if k in keywords} | dict(arguments)
    problems = [] if takes_any else [k for k in arguments if k not in keywords]
    own = [k for k in keywords if k not in _offered(signature)]
    errors = [f"model {name!r} takes no argument {k!r}{suggest(k, own)}" for k in problems]
    errors += [
        f"model {name!r} needs a value for its argument {k!r}"
        for k, p in keywords.items()
        if p.default is p.empty and k not in given
    ]
    if errors:
        raise ConfigError(errors)
    return factory(**given)


def _own(name: str) -> Callable[..., Any]:
    dotted, _, attribute = name.partition(":")
    if dotted.partition(".")[0] in sys.stdlib_module_names:  # a saved model must not be able to call `os:system`
        raise ConfigError(f"model {name!r}: {dotted!r} belongs to Python itself and holds no networks")
    try:
        module = importlib.import_module(dotted)
    except ModuleNotFoundError as error:
        if error.name is None or not (dotted == error.name or dotted.startswith(error.name + ".")):
            raise EdgepressError(f"model {name!r}: importing {dotted!r} failed: {error}") from error
        raise ConfigError(
            f"model {name!r}: there is no module {error.name!r}; is its folder on PYTHONPATH, or the package installed?"
        ) from None
    except (ValueError, TypeError):
        raise ConfigError(f"model {name!r}: write it as 'package.module:factory'") from None
    factory = getattr(module, attribute, None)
    if factory is None:
        callables = [k for k, v in vars(module).items() if callable(v) and not k.startswith("_")]
        raise ConfigError(f"model {name!r}: module {dotted!r} has no {attribute!r}{suggest(attribute, callables)}")
    if not callable(factory):
        raise ConfigError(f"model {name!r}: {attribute!r} is a {type(factory).__name__}, not a function or class")
    if not _builds_networks(factory, dotted):
        raise ConfigError(
            f"model {name!r}: {attribute!r} does not say that it builds networks, and a saved model must not be able "
            "to call anything else: give it the annotation `-> nn.Module`, or name a function of yours that has it"
        )
    return factory


def _builds_networks(factory: Callable[..., Any], dotted: str) -> bool:
    """Return whether `factory` is a class of networks, or a function of that package annotated to return one."""
    if isinstance(factory, type):
        return issubclass(factory, nn.Module)
    if not inspect.isfunction(factory) or factory.__module__.partition(".")[0] != dotted.partition(".")[0]:
        return False
    try:
        given = get_type_hints(factory).get("return")
    except (NameError, TypeError, AttributeError):  # an annotation that cannot be resolved here
        return False
    return isinstance(given, type) and issubclass(given, nn.Module)


def _timm(name: str, signature: Signature, arguments: Mapping[str, Any]) -> nn.Module:
    try:
        import timm
    except ModuleNotFoundError:
        raise MissingExtraError(f"model 'timm:{name}'", "train") from None
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        raise UnknownNameError("timm model", name, timm.list_models())
    try:  # asked of timm itself: it has tags without weights, too
        if tag:
            timm.get_pretrained_cfg(name)
    except RuntimeError:
        known = [other.partition(".")[2] for other in timm.list_pretrained(f"{architecture}.*")]
        raise UnknownNameError(f"weights of timm:{architecture}", tag, known) from None
    if "checkpoint_path" in arguments:
        raise ConfigError(
            f"model 'timm:{name}' takes no 'checkpoint_path' here: give the file to the `weights` of a `load` stage"
        )
    fixed: dict[str, Any] = {"num_classes": len(signature.labels), "in_chans": signature.input.channels}
    try:
        return timm.create_model(name, **(fixed | dict(arguments)))
    except (TypeError, ValueError, AssertionError) as error:
        raise ConfigError(f"model 'timm:{name}' does not take these arguments: {error}") from error
    except (OSError, RuntimeError) as error:
        raise _no_weights("timm", name, arguments, error) from error


def _torchvision(name: str, signature: Signature, arguments: Mapping[str, Any]) -> nn.Module:
    try:
        from torchvision import models as zoo
    except ModuleNotFoundError:
        raise MissingExtraError(f"model 'torchvision:{name}'", "train") from None
    if name not in zoo.list_models():
        raise UnknownNameError("torchvision model", name, zoo.list_models())
    keywords = dict(arguments)
    pretrained = keywords.pop("pretrained", False)
    weights = keywords.pop("weights", "DEFAULT" if pretrained else None)
    try:
        # Published weights have their own number of classes: they are loaded first, the head is exchanged after.
        classes = {} if weights else {"num_classes": len(signature.labels)}
        module = zoo.get_model(name, weights=weights, **classes, **keywords)
    except (TypeError, ValueError, KeyError, AssertionError) as error:
        raise ConfigError(f"model 'torchvision:{name}' does not take these arguments: {error}") from error
    except (OSError, RuntimeError) as error:
        raise _no_weights("torchvision", name, arguments, error) from error
    if weights:
        _new_head(module, len(signature.labels))
    if signature.input.channels != 3:
        _new_stem(module, signature.input.channels)
    return module


def head_of(module: nn.Module) -> str:
    """Return the name of the last linear layer or convolution, from which a network's classes come.

    Raises `EdgepressError` where there is none.
    """
    names = [name for name, part in module.named_modules() if isinstance(part, nn.Linear | nn.Conv2d)]
    if not names:
        raise EdgepressError(
            f"this {type(module).__name__} has no linear layer and no convolution to be its last layer"
        )
    return names[-1]


def _new_head(module: nn.Module, classes: int) -> None:
    name = head_of(module)
    last = module.get_submodule(name)
    if isinstance(last, nn.Linear) and last.out_features != classes:
        module.set_submodule(name, nn.Linear(last.in_features, classes, last.bias is not None))
    elif isinstance(last, nn.Conv2d) and last.out_channels != classes:
        module.set_submodule(name, _like(last, last.in_channels, classes))


def _new_stem(module: nn.Module, channels: int) -> None:
    name, first = next((n, m) for n, m in module.named_modules() if isinstance(m, nn.Conv2d))
    stem = _like(first, channels, first.out_channels)
    with torch.no_grad():
        # Filters summed over color answer a gray image as the original answers the same image in gray RGB.
        stem.weight.copy_(first.weight.sum(1, keepdim=True).expand_as(stem.weight) / channels)
        if first.bias is not None and stem.bias is not None:
            stem.bias.copy_(first.bias)
    module.set_submodule(name, stem)


def _like(conv: nn.Conv2d, inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(
        inputs,
        outputs,
        conv.kernel_size,  # pyright: ignore[reportArgumentType]  (torch types it as a tuple of any length)
        conv.stride,  # pyright: ignore[reportArgumentType]
        conv.padding,  # pyright: ignore[reportArgumentType]
        conv.dilation,  # pyright: ignore[reportArgumentType]
        bias=conv.bias is not None,
    )


def _no_weights(library: str, name: str, arguments: Mapping[str, Any], error: Exception) -> Exception:
    if not any(arguments.get(k) for k in WEIGHT_SOURCES):
        return error
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return EdgepressError(
        f"the pretrained weights of '{library}:{name}' could not be had ({reason}); "
        "download them on a machine with network and give the file to a `load` stage, or leave `pretrained` out"
    )


def _plain(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return `arguments` as JSON gives them back, so that a saved builder equals the one it was saved from."""
    try:
        return json.loads(json.dumps(dict(arguments), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"model {name!r}: its arguments must be plain JSON values: {error}") from error
