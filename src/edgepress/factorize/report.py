"""What factorizing did, layer by layer."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Change:
    """What became of one layer: errors are relative Frobenius norms, of the weight as decomposed, and of the outputs
    that the finished factors give (None without images); `saved` holds costs before and after."""

    method: str
    ranks: tuple[int, ...]
    error: float
    output_error: float | None
    saved: dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Report:
    """What factorizing did: layers by path, those left whole with the reason, and the limits measured."""

    changes: dict[str, Change]
    whole: dict[str, str]
    before: dict[str, float] = field(default_factory=dict[str, float])
    after: dict[str, float] = field(default_factory=dict[str, float])
    attempts: int = 0

    def table(self) -> list[str]:
        """Return lines to print: a layer each, with what it became or why it stayed."""
        lines: list[str] = []
        for path, change in self.changes.items():
            shown = "x".join(str(rank) for rank in change.ranks)
            costs = ", ".join(f"{kind} {old:.4g} -> {new:.4g}" for kind, (old, new) in change.saved.items())
            outputs = "" if change.output_error is None else f", outputs {100 * change.output_error:.1f} %"
            lines.append(f"{path}: {change.method} {shown}, {costs}; error {100 * change.error:.1f} %{outputs}")
        return lines + [f"{path}: whole, {reason}" for path, reason in self.whole.items()]
