"""Runs that differ only by seed or fold, taken as one: their scores, and the difference of two such groups."""

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from leyden.runs.metrics import final_scores, run_title
from leyden.runs.statistics import Difference, decimals, paired_difference, unpaired_difference

REPEATED = ("seed_everything", "data.fold", "name")  # options that may differ within a group, and all of `wandb`

Key = tuple[str, str, int]  # seed, fold, and which of the runs with both


@dataclass
class Group:
    """Runs of one configuration.

    Args:
        config: What they have in common, {option: value}.
        runs: Their directories.
        scores: {seed, fold and number: {score: value}}.
    """

    config: dict[str, str]
    runs: list[Path] = field(default_factory=list)
    scores: dict[Key, dict[str, float]] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The title in the table."""
        if len(self.runs) == 1:
            return run_title(self.runs[0])
        return f"{self.runs[0].parent.name} and {len(self.runs) - 1} more"

    @property
    def score_names(self) -> list[str]:
        """The scores that all runs have, without the epoch."""
        common = set.intersection(*(set(found) for found in self.scores.values()))
        return sorted(common - {"epoch"})

    def independent(self, score: str) -> dict[object, float]:
        """Return a score of each independent measurement: the mean of each fold, or else that of each run."""
        values: dict[object, list[float]] = {}
        for key, found in self.scores.items():
            fold = key[1]
            values.setdefault(fold if fold != "null" else key, []).append(found[score])
        return {unit: statistics.mean(some) for unit, some in values.items()}

    def cells(self) -> dict[str, str]:
        """Return what the table shows: the mean of each score, ± the standard deviation of the runs."""
        shown = {"runs": str(len(self.runs))}
        for name in self.score_names:
            values = [found[name] for found in self.scores.values()]
            sd = statistics.stdev(values) if len(values) > 1 else 0.0
            digits = f".{decimals(sd)}f" if sd else ".4g"
            shown[name] = f"{statistics.mean(values):{digits}}" + (f" ± {sd:{digits}}" if len(values) > 1 else "")
        return shown


def group_runs(configs: Mapping[Path, Mapping[str, str]]) -> list[Group]:
    """Return the groups of runs whose options differ by no more than seed and fold, in the order of the first runs.

    Args:
        configs: {run: its options}.
    """
    groups: list[Group] = []
    for run, config in configs.items():
        common = {k: v for k, v in config.items() if k not in REPEATED and not k.startswith("wandb.")}
        group = next((group for group in groups if group.config == common), None)
        if group is None:
            groups.append(group := Group(common))
        seed, fold = config.get("seed_everything", "null"), config.get("data.fold", "null")
        number = sum(key[:2] == (seed, fold) for key in group.scores)
        group.runs.append(run)
        group.scores[seed, fold, number] = final_scores(run, config)
    return groups


def difference(ours: Group, theirs: Group, score: str) -> Difference | None:
    """Return how a score of one group differs from another's; None if one has too few runs.

    Runs of the same seed and fold are compared in pairs, as they begin alike: what a seed brings to both cancels out.
    """
    one, other = ours.independent(score), theirs.independent(score)
    if one.keys() == other.keys() and len(one) > 1:
        return paired_difference([one[unit] - other[unit] for unit in one])
    if min(len(one), len(other)) > 1:
        return unpaired_difference([*one.values()], [*other.values()])
    return None


def difference_lines(ours: Group, theirs: Group, name: str) -> Iterator[str]:
    """Yield a line for each score that both groups have: the difference, its 95 % interval, and whether it decides.

    Args:
        ours: The one group.
        theirs: The group that it is compared with.
        name: What the line says of the two, such as `lr 0.1 - lr 0.2`.
    """
    for score in (score for score in ours.score_names if score in theirs.score_names):
        found = difference(ours, theirs, score)
        if found is None:
            continue
        digits = f".{decimals(found.half_width)}f" if found.half_width else ".4g"
        low, high = found.mean - found.half_width, found.mean + found.half_width
        how = f"{found.pairs} pairs" if found.pairs else "not in pairs"
        interval = f"{found.mean:+{digits}}, 95 % interval {low:+{digits}} to {high:+{digits}} ({how})"
        yield f"{score}  {name}: {interval}: {verdict(found)}"


def verdict(found: Difference) -> str:
    """Return what an interval says, in words."""
    if found.more == 0:
        return "above zero" if found.mean > 0 else "below zero"
    needed = "more than 1 000 more seeds" if found.more is None else f"about {found.more:,} more seeds"
    return f"not decided; {needed} for each would decide it, if it stays as it is"
