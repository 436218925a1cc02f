"""The verdict: which file to ship under the user's budget, what was gained, what did not help, where the time goes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgepress.measure.cell import EAGER
from edgepress.measure.matrix import Result, occasion, speedup
from edgepress.measure.tables import ms_text, percent, size_text

TORCH = (EAGER, "pt2")
"""PyTorch as people run it, then as it runs an exported graph: what gains are told against."""

NEAR, MOST = 1.15, 4
"""Files within so much of the fastest, and at most so many, may turn out to be the fastest when timed again."""

EQUAL = 1.02
"""Below this factor two times are taken for equal."""

SLOWER = 0.97
"""Below this factor a smaller arithmetic is told to be slower."""


@dataclass(frozen=True)
class Budget:
    """The most a file may cost: `drop` points of score against the float network (the first that is named, if there are
    several), milliseconds, MB, millijoules; None where anything goes."""

    drop: float | None = 1.0
    ms: float | None = None
    mb: float | None = None
    mj: float | None = None

    def broken(self, result: Result, best: float | None) -> list[str]:
        """Return what of the budget `result` does not keep, in words; `best` is the score of the float network."""
        facts, found = result.facts, list[str]()
        if self.drop is not None and best is not None and "score" in facts and best - facts["score"] > self.drop + 1e-9:
            found.append(f"{best - facts['score']:.2f} points less, {self.drop:g} are allowed")
        if self.ms is not None and (result.ms is None or result.ms > self.ms):
            found.append(f"{ms_text(result.ms)} ms, {self.ms:g} are allowed")
        if self.mb is not None and facts.get("bytes", 0) > self.mb * 1e6:
            found.append(f"{size_text(facts['bytes'])}, {self.mb:g} MB are allowed")
        if self.mj is not None and not facts.get("energy", float("inf")) <= self.mj:
            told = f"{facts['energy']:.3g} mJ" if "energy" in facts else "no energy figure"
            found.append(f"{told}, {self.mj:g} mJ are allowed")
        return found


@dataclass(frozen=True)
class Verdict:
    """The file to ship (None where none keeps the budget), and the sentences about it."""

    chosen: Result | None
    sentences: tuple[str, ...]
    did_not_help: tuple[str, ...] = ()


def judge(results: Sequence[Result], budget: Budget) -> Verdict:
    """Return the verdict on cells of one network, one number of threads and one batch size.

    Of the files within the budget the fastest is chosen; of those within 2 % of it, the smallest. Where those that come
    first in the matrix were timed again (`measure.final`), these times decide.
    """
    good = [result for result in results if not result.error and result.ms is not None]
    if not good:
        return Verdict(None, ("Nothing was measured: no engine ran this network here.",))
    best = float_score(good)
    few = finalists(good, budget)
    if not few:
        files = [result for result in good if result.cell.runtime != EAGER]
        if not files:
            return Verdict(None, ("No file ran here: only the network in PyTorch was measured.",))
        return Verdict(None, _nothing_fits(files, budget, best), tuple(_did_not_help(good)))
    among = occasion([result.cell for result in few])
    times = [result.final_ms(among) for result in few]
    if None in times:
        times = [result.ms for result in few]
    pairs = [(result.facts["bytes"], ms or 0.0, result) for result, ms in zip(few, times, strict=True)]
    fastest = min(ms for _, ms, _ in pairs)
    chosen = min((pair for pair in pairs if pair[1] <= EQUAL * fastest), key=lambda pair: pair[:2])[2]
    sentences = _sentences(chosen, good, best)
    if budget.drop is not None and (best is None or "score" not in chosen.facts):
        sentences.append("Whether it loses accuracy was not checked: no FP32 network was scored.")
    return Verdict(chosen, tuple(sentences), tuple(_did_not_help(good)))


def finalists(results: Sequence[Result], budget: Budget) -> list[Result]:
    """Return the files that keep `budget` and may be the fastest of these, by the times of the matrix.

    Where the fastest was restless, that is every file which its slow calls would reach: a machine with two speeds does
    not slow all files down alike.
    """
    best = float_score(results)
    good = [r for r in results if not r.error and r.ms is not None and r.cell.runtime != EAGER]
    within = sorted((r for r in good if not budget.broken(r, best)), key=lambda result: result.ms or 0.0)
    if not within:
        return []
    leader = within[0]
    reach = leader.timing.ms(0.9) if leader.restless and leader.timing else leader.ms or 0.0
    near = [result for result in within if (result.ms or 0.0) <= NEAR * reach]
    # An engine's fastest file comes before the second of another: files of one engine often compute alike.
    first = {result.cell.runtime: result for result in reversed(near)}
    chosen = sorted(near, key=lambda result: first[result.cell.runtime] is not result)[:MOST]
    return sorted(chosen, key=lambda result: result.ms or 0.0)


def float_score(results: Sequence[Result]) -> float | None:
    """Return the score of the float network: PyTorch's, else the first of any engine, else what the network itself
    answered when files were made of it; None where none was scored."""
    plain = [result for result in results if result.cell.precision == "fp32" and "score" in result.facts]
    of_torch = [result for result in plain if result.cell.runtime in TORCH]
    found = [result.facts["score"] for result in [*of_torch, *plain]]
    return next(iter([*found, *(r.facts["float_score"] for r in results if "float_score" in r.facts)]), None)


def title(result: Result, beside: Sequence[Result] = ()) -> str:
    """Return a cell as people say it: "openvino w8a8", with its network where those `beside` it are of others."""
    kind = f"{result.cell.runtime} {result.cell.precision}"
    several = {other.cell.artifact for other in beside} - {result.cell.artifact}
    return f"{result.cell.artifact} on {kind}" if several else kind


def _sentences(chosen: Result, good: Sequence[Result], best: float | None) -> list[str]:
    facts = chosen.facts
    parts = [f"{ms_text(chosen.ms)} ms", size_text(facts["bytes"])]
    if "score" in facts:
        parts.append(f"{percent(facts['score'])} %" + (f" ({facts['score'] - best:+.2f})" if best is not None else ""))
    if "energy" in facts:
        parts.append(f"{facts['energy']:.3g} mJ" + (" (estimate)" if chosen.estimated else ""))
    found = [f"Ship {title(chosen, good)}: {', '.join(parts)}."]
    if chosen.cell.folder is not None:
        found.append(f"It lies in {chosen.cell.folder}.")
    own = chosen.cell.runtime
    for what, before in (
        ("FP32 PyTorch", next(filter(None, (_float(good, chosen, name) for name in TORCH)), None)),
        (f"FP32 on {own}", _float(good, chosen, own) if own not in TORCH else None),
    ):
        if before is not None and before is not chosen and (factor := speedup(before, chosen)):
            size = before.facts["bytes"] / max(facts["bytes"], 1)
            which = f"{before.cell.artifact} in " if before.cell.artifact != chosen.cell.artifact else ""
            found.append(f"Against {which}{what}: {_times(factor)}, {size:.1f}x smaller.")
    if chosen.restless and chosen.timing:
        found.append(
            f"The machine was restless (p10 to p90 {chosen.timing.spread:.0f} %): measure again when it is quiet."
        )
    if chosen.layers:
        shown = "; ".join(f"{_operation(one)} {one['share']:.0f} %" for one in chosen.layers[:3])
        found.append(f"Its time goes to: {shown}.")
    return found


def _did_not_help(good: Sequence[Result]) -> list[str]:
    """Return a line for every smaller arithmetic that is slower than FP32 on the same engine."""
    found: list[str] = []
    for result in good:
        before = _float(good, result, result.cell.runtime)
        if before is None or before is result or result.cell.precision == "fp32":
            continue
        factor = speedup(before, result)
        if factor is not None and factor < SLOWER:
            slow = "; ".join(f"{kind} {share:.0f} %" for kind, share in _kinds(result)[:3])
            where = f", time goes to {slow}" if slow else ""
            of = f" of {before.cell.artifact}" if before.cell.artifact != result.cell.artifact else ""
            found.append(
                f"{title(result, good)} is {1 / factor:.1f}x slower than FP32{of} on the same engine here{where}."
            )
    return found


def _operation(one: Mapping[str, Any]) -> str:
    """Return an operation as people say it: what belongs to no layer has no name that would tell them anything."""
    return f"{one['name']} ({one['kind']})" if one.get("layer", 0) is not None else one["kind"]


def _kinds(result: Result) -> list[tuple[str, float]]:
    """Return what kinds of operations take the time, the longest first, in percent."""
    shares: dict[str, float] = {}
    for one in result.layers:
        shares[one["kind"]] = shares.get(one["kind"], 0.0) + one["share"]
    return sorted(shares.items(), key=lambda item: -item[1])


def _nothing_fits(good: Sequence[Result], budget: Budget, best: float | None) -> tuple[str, ...]:
    nearest = min(good, key=lambda result: (len(budget.broken(result, best)), result.ms))
    return (
        "No file keeps the budget.",
        f"The nearest is {title(nearest, good)}: {'; '.join(budget.broken(nearest, best))}.",
    )


def _float(results: Sequence[Result], of: Result, runtime: str) -> Result | None:
    """Return the FP32 cell of the network of `of` on an engine; where it has none (the file of an edited network, named
    beside that of the whole one), the first."""
    found = [r for r in results if (r.cell.runtime, r.cell.precision) == (runtime, "fp32")]
    own = [r for r in found if r.cell.artifact == of.cell.artifact]
    return next(iter([*own, *found]), None)


def _times(factor: float) -> str:
    return f"{factor:.1f}x faster" if factor >= 1 else f"{1 / factor:.1f}x slower"
