"""Tables over several makes: means over makes, and what differs from the recipes image by image over all makes."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from comparison.arms import RECIPES
from comparison.scores import Scores
from comparison.table import DIGITS, Row, against, combs_of, holm, in_words, markdown, mean_and_spread, metrics_of

BEST = "the best recipe of each make"
JUDGED = ("ours-looks", "ours-range", "colearned")  # against the recipes

RowsOfMakes = Mapping[str, Mapping[str, Row]]  # by make and arm


def finished_everywhere(rows: RowsOfMakes) -> list[str]:
    """List the arms that have scores for every make, in their order."""
    first, *others = rows.values()
    return [name for name in first if all(name in each for each in others)]


def best_recipes(rows: RowsOfMakes) -> dict[str, str]:
    """Choose the recipe with the highest PSNR-Y for each make; {} when no recipe has scores for every make."""
    names = [name for name in finished_everywhere(rows) if name in RECIPES]
    if not names:
        return {}
    return {
        make: max(names, key=lambda name, each=each: mean_and_spread(each[name].pairs, "psnr_y")[0])
        for make, each in rows.items()
    }


def table_of_means(rows: RowsOfMakes) -> str:
    """Write a line for each arm: the mean over makes of its mean over images and seeds, ± the spread over makes."""
    names = finished_everywhere(rows)
    everything = [each[name] for each in rows.values() for name in names]
    metrics, combs = metrics_of(everything), combs_of(everything)
    lines = []
    for name in names:
        of_makes = [each[name] for each in rows.values()]
        cells = [of_makes[0].title]
        cells += [_cell([mean_and_spread(row.pairs, m)[0] for row in of_makes], DIGITS[m]) for m in metrics]
        cells += [_cell([np.mean([each[m] for each in row.sets]) for row in of_makes], DIGITS[m], "+") for m in combs]
        seconds = np.mean([row.seconds for row in of_makes])
        seeds = min(len(row.pairs) for row in of_makes)
        lines.append([*cells, str(seeds), f"{seconds:.0f}" if seconds else ""])
    return markdown(["", *metrics.values(), *combs.values(), "seeds", "seconds"], lines)


def table_of_differences(rows: RowsOfMakes) -> str:
    """Write how ours differ from the best recipe of each make and from every recipe, and how p is corrected."""
    names, best = finished_everywhere(rows), best_recipes(rows)
    ours = [name for name in JUDGED if name in names]
    if not (ours and best):
        return ""
    others = {BEST: best} | {name: dict.fromkeys(rows, name) for name in names if name in RECIPES}
    pairs = [(one, other) for one in ours for other in others]
    compared = [_compared(rows, one, others[other]) for one, other in pairs]
    metrics = metrics_of(each[name] for each in rows.values() for name in names)
    columns = [_corrected(compared, metric) for metric in metrics]
    titles = {BEST: BEST} | {name: row.title for name, row in next(iter(rows.values())).items()}
    lines = [
        [f"{titles[one]} over {titles[other]}", *cells] for (one, other), *cells in zip(pairs, *columns, strict=True)
    ]
    text = (
        f"Differences over the {len(compared[0][0][0])} images of all makes, image by image after the mean over seeds, "
        "± their standard error over images; p is of Wilcoxon's signed-rank test, with Holm's correction for the "
        f"{len(pairs)} rows of this table, in each column by itself. The best recipe of each make is chosen on the "
        "tested images, by PSNR-Y, which favours it: "
    )
    text += "; ".join(f"{make}: {titles[name]}" for make, name in best.items())
    return f"{text}.\n\n" + markdown(["", *metrics.values()], lines)


def share_of_the_way(rows: RowsOfMakes, oracle: str) -> str:
    """Write how far each arm gets from the best recipe of each make to true pairs of that make, in PSNR-Y."""
    names, best = finished_everywhere(rows), best_recipes(rows)
    if oracle not in names or not best:
        return ""

    def level(arm_of: Mapping[str, str]) -> float:
        return float(np.mean([mean_and_spread(rows[make][arm].pairs, "psnr_y")[0] for make, arm in arm_of.items()]))

    low, high = level(best), level(dict.fromkeys(rows, oracle))
    way = f"from the best recipe of each make ({low:.2f} dB) to true pairs of the same make ({high:.2f} dB), in PSNR-Y"
    if high <= low:
        return f"There is no way {way}: the true pairs are not better.\n"
    title = {name: row.title for name, row in next(iter(rows.values())).items()}
    arms = [name for name in names if name and name not in (*RECIPES, oracle)]
    shares = (f"{title[name]}: {(level(dict.fromkeys(rows, name)) - low) / (high - low):.0%}" for name in arms)
    return f"Share of the way {way}: {'; '.join(shares)}.\n"


def pooled(rows: Sequence[Row]) -> list[Scores]:
    """Join the scores of all images of all makes, for each seed that every make has; images are numbered anew."""
    by_seed = zip(*(row.pairs for row in rows), strict=False)
    return [{str(number): image for number, image in enumerate(_in_order(runs))} for runs in by_seed]


def _in_order(runs: Iterable[Scores]) -> list[dict[str, float]]:
    return [image for run in runs for _, image in sorted(run.items(), key=lambda item: int(item[0]))]


def _compared(rows: RowsOfMakes, one: str, other_of: Mapping[str, str]) -> tuple[list[Scores], list[Scores]]:
    """Join the scores of an arm, and those of the arm that it is compared with on each make."""
    return (
        pooled([each[one] for each in rows.values()]),
        pooled([each[other_of[make]] for make, each in rows.items()]),
    )


def _corrected(compared: Sequence[tuple[list[Scores], list[Scores]]], metric: str) -> list[str]:
    """Write the differences of one metric, with p corrected for their number."""
    found = [against(one, other, metric) for one, other in compared]
    corrected = holm([apart["p"] for apart in found])
    return [in_words({**apart, "p": p}, DIGITS[metric]) for apart, p in zip(found, corrected, strict=True)]


def _cell(of_makes: Sequence[float], digits: int, sign: str = "") -> str:
    spread = f" ± {np.std(of_makes, ddof=1):.{digits}f}" if len(of_makes) > 1 else ""
    return f"{np.mean(of_makes):{sign}.{digits}f}{spread}"
