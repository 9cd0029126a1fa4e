r"""The deciding table: what is a super-resolution network worth that was trained on these pairs?

Fixed networks, and our student, are trained on pairs of the same HR photographs: of recipes, of the learned degrader,
of one that learns beside the student, and on true pairs; equal steps, several seeds. They are tested on images that
nothing was trained on.

    python examples/deciding_table.py --data data --out runs/results/camera                     # another camera
    python examples/deciding_table.py --data data --out runs/results/hidden --world hidden      # the hidden world
    python examples/deciding_table.py --data data --out runs/results/makes --world makes \
      --degrader runs/makes/{make}/training/degrader                                            # five makes
    python examples/deciding_table.py --data data --out runs/results/hidden-x1 --world hidden --scale 1   # denoising

Of five makes, each is a world of its own. Half of its photographs is tested. The LR of the other half gives the looks,
and its pairs are what the oracle learns from; a further arm learns from the pairs of the other makes, and all others
from the same HR of many cameras. The degrader must not have seen the make: five_makes.py leaves one for each. The
shipped tiny-x4 has learned from pairs of four makes, so it is fair for Sony only, and refused for the others.

The hidden world can be made at scale 2 and at scale 1 too, where LR is as large as HR, so that the networks denoise.
Arms that cannot be made at a scale are named above the table.

Needs the extras ``metrics`` and ``export`` (pyiqa, spandrel) and scikit-image (extra ``examples``, for scipy); with the
extra ``perceptual`` it scores the feature distance too. Run again, it goes on where it stopped. It prints table.md,
which it writes beside curves.png and pictures.png; of makes, tables_by_make.md has a table for each, and the pictures
lie in their folders.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from comparison.arms import ARMS, obstacle
from comparison.makes import MAKES, check_unseen
from comparison.processes import run_all
from comparison.report import write_curves, write_pictures, write_table, write_tables_of_makes
from comparison.runs import POINTS, Run, Setup, Steps, runs_of, train_and_score
from comparison.student import base_student
from comparison.worlds import SCALE

NETWORKS = {"camera": ("small", "student"), "hidden": ("small", "student"), "makes": Steps._fields}
WITHOUT = {"camera": "others", "hidden": "others", "makes": "half"}  # the arm that is not made unless it is asked for
LEARNED = ("learned", "colearned", "both")


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing, score it, and write the tables."""
    given = options().parse_args(arguments)
    setup = Setup(given.data, given.out, given.degrader, given.mixed_precision,
                  Steps(given.steps_small, given.steps_compact, given.steps_student), given.scale)  # fmt: skip
    worlds = given.makes if given.world == "makes" else (given.world,)
    networks = given.networks or (NETWORKS[given.world] if given.scale == SCALE else ("small",))
    arms = given.arms or [n for n in ARMS if n != WITHOUT[given.world] and not obstacle(n, given.scale)]
    check_scale(given.scale, networks, arms)
    runs = runs_of(setup, worlds, networks, arms, given.seeds)
    if given.world == "makes" and any(ARMS[name].kind in LEARNED for name in arms):
        check_unseen(given.degrader, worlds)
    tests = {world: setup.tests(world) for world in worlds}  # before hours of training: it may not be possible
    train_all(runs, given.workers)
    print(write_tables_of_makes(runs, tests) if given.world == "makes" else write_table(runs, *tests.values()))
    write_curves(runs, setup.out / "curves.png")
    write_pictures(runs, tests)


def check_scale(scale: int, networks: Sequence[str], arms: Sequence[str]) -> None:
    """Refuse a scale that a network or an arm does not have.

    Raises:
        ValueError: one of them does not have it.
    """
    if scale != SCALE and "student" in networks:
        raise ValueError(f"our student has scale {SCALE}, not {scale}; give --networks small compact")
    for name in arms:
        if reason := obstacle(name, scale):
            raise ValueError(f"the arm {name} cannot be made at scale {scale} ({reason}); leave it out of --arms")


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with hr, real_pairs, real_lr and iqa")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--world", choices=NETWORKS, default="camera")
    parser.add_argument("--scale", type=int, choices=[1, 2, 4], default=SCALE,
                        help="HR side / LR side; 1 and 2 of --world hidden only, and without our student")  # fmt: skip
    parser.add_argument("--makes", nargs="+", choices=MAKES, default=tuple(MAKES), help="of --world makes")
    parser.add_argument("--degrader", default="tiny-x4", metavar="NAME|DIR",
                        help="that makes ours; {make} in it stands for the make. tiny-x4 has seen RealSRSet, and pairs "
                        "of four makes: of --world makes it is fair for Sony only")  # fmt: skip
    parser.add_argument("--networks", nargs="+", choices=Steps._fields, help="default: small and student; "
                        "makes: all; of scale 1 and 2: small")  # fmt: skip
    parser.add_argument("--arms", nargs="+", choices=ARMS, help="default: all but others; makes: all but half; "
                        "at each scale, those that can be made at it")  # fmt: skip
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    for network, steps in Steps._field_defaults.items():
        parser.add_argument(f"--steps-{network}", type=steps_of, default=steps, help=f"a multiple of {POINTS}")
    parser.add_argument("--workers", type=int, default=2, help="trainings at once, one thread each")
    parser.add_argument("--mixed-precision", choices=["no", "bf16"], default="no")
    return parser


def steps_of(text: str) -> int:
    steps = int(text)
    if steps < POINTS or steps % POINTS:
        raise argparse.ArgumentTypeError(f"{steps} is not a multiple of {POINTS}, for a score after each quarter")
    return steps


def train_all(runs: Sequence[Run], workers: int) -> None:
    """Make the pairs, and train and score what is not finished."""
    for run in {(run.shards, run.stored_arm): run for run in runs}.values():
        run.make_pairs()
    # The fixed networks learn from the degraders that the students' runs leave.
    late = [run for run in runs if run.arm == "colearned" and run.network != "student"]
    early = list(dict.fromkeys([*(run.beside for run in late), *(run for run in runs if run not in late)]))
    students = [run for run in early if run.network == "student"]
    if students:
        base_student(students[0].world, students[0].setup.out, students[0].setup.mixed_precision)
    run_all(train_and_score, [(run,) for run in early], workers=workers, title="arms")
    for run in {run.beside: run for run in late}.values():
        run.make_learned_pairs()
    run_all(train_and_score, [(run,) for run in late], workers=workers, title="arms")


if __name__ == "__main__":
    try:
        main()
    except ValueError as err:
        raise SystemExit(f"error: {err}") from None
