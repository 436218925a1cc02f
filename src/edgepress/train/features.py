"""Features of a network by module path: named or paired automatically, taken by forward hooks, connected for training.

The hooks and the connectors belong to the training alone: afterwards the student is what it was before, with other
weights.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from edgepress.core.errors import ConfigError, suggest
from edgepress.core.inputs import InputSpec
from edgepress.train.objectives.base import FeatureTerm, Pair, objectives
from edgepress.train.pairing import Site, arranged, dry_run, pair, part_pairs

Sites = tuple[tuple[Site, Site], ...]


class Tap:
    """Takes the features of one network while `open`; `values` holds those of its latest run, by path."""

    def __init__(self, module: nn.Module, sites: Sequence[Site]) -> None:
        self.module, self.sites = module, list({site.path: site for site in sites}.values())
        self.values: dict[str, Tensor] = {}
        self.open = False

    @contextlib.contextmanager
    def attached(self) -> Iterator[None]:
        """Hook the modules for the block. Activations then leave their input alone, and what a module gives is copied:
        a feature would change after it was taken, as where a residual block adds to it in place."""
        parts = dict(self.module.named_modules())
        hooks = [parts[site.path.removesuffix(":in")].register_forward_hook(self._hook(site)) for site in self.sites]
        changed = [part for part in parts.values() if getattr(part, "inplace", False) is True]
        for part in changed:
            part.inplace = False  # pyright: ignore[reportArgumentType]
        try:
            yield
        finally:
            for part in changed:
                part.inplace = True  # pyright: ignore[reportArgumentType]
            for hook in hooks:
                hook.remove()

    def _hook(self, site: Site) -> Callable[..., None]:
        taken_before = site.path.endswith(":in")

        def hook(part: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if self.open:
                taken = inputs[0] if taken_before else output.clone()
                self.values[site.path] = arranged(taken, site.layout)

        return hook

    def take(self, path: str) -> Tensor:
        """Return the features at `path`, float32."""
        return self.values[path].float()


class Taps:
    """Features of student and teacher for the batch at hand, and the connectors between them.

    `pairs` says which modules each loss compares. Raises `ConfigError` with every module that does not exist and every
    pair that no connector joins.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        specs: tuple[InputSpec, InputSpec],
        terms: Sequence[FeatureTerm],
        seed: int,
    ) -> None:
        ours, theirs = dry_run(student, specs[0]), dry_run(teacher, specs[1])
        self.pairs: dict[FeatureTerm, Sites] = {}
        problems: list[str] = []
        for term in terms:
            try:
                self.pairs[term] = _pairs(term, ours, theirs)
            except ConfigError as error:
                problems += error.problems
        if problems:
            raise ConfigError(list(dict.fromkeys(problems)))
        self.student = Tap(student, [a for pairs in self.pairs.values() for a, _ in pairs])
        self.teacher = Tap(teacher, [b for pairs in self.pairs.values() for _, b in pairs])
        self.connectors, self._places = nn.ModuleList(), dict[FeatureTerm, int]()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for term, pairs in self.pairs.items():
                made = term.connector(tuple(Pair(a.path, b.path, a.shape, b.shape) for a, b in pairs))
                if made is not None:
                    self._places[term] = len(self.connectors)
                    self.connectors.append(made)
        self.arithmetic: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext
        """The precision that the connectors compute in."""

    @property
    def vectors(self) -> bool:
        """True where no loss looks at a map of the teacher."""
        return all(site.layout == "vector" for site in self.teacher.sites)

    def require_batch(self, batch: int) -> None:
        """Raise `ConfigError` where connectors normalize vectors, of which so small a batch has one value each."""
        for term, place in self._places.items():
            vectors = any(len(a.shape) == 1 for a, _ in self.pairs[term])
            if batch < 2 and vectors and any(isinstance(x, nn.BatchNorm2d) for x in self.connectors[place].modules()):
                raise ConfigError(f"batch: {batch}, allowed is 2 or more: {_name(term)!r} normalizes over the batch")

    def connector(self, term: FeatureTerm) -> nn.Module:
        """Return what is trained for `term` between the networks."""
        return self.connectors[self._places[term]]

    def joined(self, term: FeatureTerm) -> tuple[list[Tensor], list[Tensor]]:
        """Return the features that `term` compares, through its connector."""
        ours = [self.student.take(a.path) for a, _ in self.pairs[term]]
        theirs = [self.teacher.take(b.path) for _, b in self.pairs[term]]
        if term in self._places:
            with self.arithmetic():
                ours, theirs = self.connectors[self._places[term]](ours, theirs)
            ours, theirs = [_evenly(x).float() for x in ours], [x.float() for x in theirs]
        return ours, theirs

    def words(self) -> list[str]:
        """Return one line per loss that says what it compares."""
        return [
            f"{_name(term)}: " + ", ".join(f"{a.path} {_size(a.shape)} <- {b.path} {_size(b.shape)}" for a, b in pairs)
            for term, pairs in self.pairs.items()
        ]


def resolve(patterns: Sequence[str], sites: Sequence[Site], network: str, where: str) -> list[Site]:
    """Return the sites that the paths and globs name, in the order of the patterns, matches of one as they occur.

    Raises `ConfigError` with the nearest path for every pattern that names nothing.
    """
    found: list[Site] = []
    problems: list[str] = []
    for pattern in patterns:
        matches = [site for site in sites if fnmatchcase(site.path, pattern)]
        if not matches:
            near = suggest(pattern, [site.path for site in sites])
            problems.append(f"{where}: the {network} has no module {pattern!r} that gives features{near}")
        found += [site for site in matches if site not in found]
    if problems:
        raise ConfigError(problems)
    return found


def _pairs(term: FeatureTerm, ours: list[Site], theirs: list[Site]) -> Sites:
    where = f"objective {_name(term)!r}"
    if not term.student:
        found = part_pairs(ours, theirs, term.where) if term.where else pair(ours, theirs, term.place)
    else:
        problems: list[str] = []
        named: list[list[Site]] = []
        for patterns, sites, network in ((term.student, ours, "student"), (term.teacher, theirs, "teacher")):
            try:
                named.append(resolve(patterns, sites, network, where))
            except ConfigError as error:
                problems += error.problems
        if problems:
            raise ConfigError(problems)
        if len(named[0]) != len(named[1]):
            counts = " and ".join(f"{len(s)} of the {n}" for s, n in zip(named, ("student", "teacher"), strict=True))
            raise ConfigError(f"{where}: modules are compared in pairs, but {counts} are named")
        found = list(zip(*named, strict=True))
    wrong = [f"{where}: {reason}" for a, b in found if (reason := _unjoinable(term, a, b))]
    if wrong:
        raise ConfigError(wrong)
    return tuple(found)


def _unjoinable(term: FeatureTerm, a: Site, b: Site) -> str | None:
    """Return why no connector joins two features, None where one does."""
    both = f"{a.path} {_size(a.shape)} of the student and {b.path} {_size(b.shape)} of the teacher"
    if term.joins == "maps" and not len(a.shape) == len(b.shape) == 3:
        return f"it compares maps, channels x height x width: no connector joins {both}"
    if term.joins == "alike" and len(a.shape) != len(b.shape):
        return f"no connector joins a map and a vector, {both}"
    return None


def _evenly(x: Tensor) -> Tensor:
    """Return `x`; its gradient comes back in the order of memory that `x` has.

    Losses that pool give it in another, and the batch norm before them then takes several times as long.
    """
    if x.requires_grad and x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last):
        x.register_hook(lambda gradient: gradient.contiguous(memory_format=torch.channels_last))
    return x


def _name(term: FeatureTerm) -> str:
    return objectives.name_of(type(term))


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(str(side) for side in shape)
