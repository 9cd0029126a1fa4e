import pytest
from click.testing import CliRunner

from cli.degrade_commands import main
from degrade.synth.plan import Share

SRUN = {"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "8"}
TORCHRUN = {"RANK": "1", "WORLD_SIZE": "2"}


@pytest.mark.parametrize("count", [1, 2, 3, 7, 64])
def test_every_shard_is_exactly_one_nodes(count):
    nodes = [Share(rank, count) for rank in range(count)]
    assert all(sum(shard in node for node in nodes) == 1 for shard in range(200))
    sizes = [sum(shard in node for shard in range(200)) for node in nodes]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(("rank", "count"), [(-1, 2), (2, 2), (0, 0), (5, -1)])
def test_a_node_that_does_not_exist_is_refused(rank, count):
    with pytest.raises(ValueError, match=f"node rank {rank} of {count} nodes: ranks go from 0"):
        Share(rank, count)


def test_one_process_makes_all_shards():
    assert Share() == Share.from_environment({"PATH": "/bin"}) and all(shard in Share() for shard in range(10))


def test_srun_and_torchrun_say_which_node_this_is():
    assert Share.from_environment(SRUN) == Share(3, 8, "Slurm's SLURM_PROCID and SLURM_STEP_NUM_TASKS")
    assert Share.from_environment(TORCHRUN) == Share(1, 2, "torchrun's RANK and WORLD_SIZE")
    assert Share.from_environment({**TORCHRUN, **SRUN}).count == 8  # torchrun inside srun would be a process in a task


def test_a_batch_script_without_srun_makes_all_shards():
    batch = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "8", "SLURM_PROCID": "0", "SLURM_NNODES": "8"}
    assert Share.from_environment(batch) == Share()


@pytest.mark.parametrize(
    "nonsense", [("a", "2"), ("", ""), ("1", "0"), ("8", "8"), ("-1", "8"), ("0", "1.5"), ("0x1", "2")]
)
@pytest.mark.parametrize("names", [tuple(SRUN), tuple(TORCHRUN)])
def test_nonsense_in_the_environment_is_one_sentence_that_names_it(names, nonsense):
    with pytest.raises(ValueError) as told:
        Share.from_environment(dict(zip(names, nonsense, strict=True)))
    first, second = (f"{name}={value!r}" for name, value in zip(names, nonsense, strict=True))
    assert str(told.value).startswith(f"{first} and {second} do not say which node this is; unset them, or give")


@pytest.fixture
def synth(photo_folder, tmp_path):
    """Run the command on the photographs, with variables of a launcher; its status and what it said."""

    def run(*options, **environment):
        arguments = ["synth", "-i", photo_folder, "-o", tmp_path / "out", "--degrader", "none", "--preset", "bicubic",
                     "--crop-size", 128, "--shard-size", 9, "--workers", 0, *options]  # fmt: skip
        result = CliRunner().invoke(main, [str(argument) for argument in arguments], env=environment)
        return result.exit_code, result.output

    return run


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--node-rank", 0), "--node-rank and --num-nodes go together"),
        (("--num-nodes", 2), "--node-rank and --num-nodes go together"),
        (("--node-rank", 0, "--num-nodes", 2, "--engine", "ray"), "--engine ray divides the shards itself"),
        (("--node-rank", 0, "--num-nodes", 2, "--overwrite"), "--overwrite would remove what other nodes make"),
        (("--node-rank", 2, "--num-nodes", 2), "node rank 2 of 2 nodes"),
        (("--address", "auto"), "give --engine ray too"),
    ],
)
def test_options_of_nodes_that_contradict_are_refused_before_anything_is_written(synth, tmp_path, options, told):
    status, output = synth(*options)
    assert status != 0 and told in output and not (tmp_path / "out").exists()


@pytest.mark.parametrize("launcher", [SRUN, TORCHRUN])
def test_a_launcher_counts_as_the_options_do(synth, tmp_path, launcher):
    status, output = synth("--overwrite", **launcher)
    assert status != 0 and "--overwrite would remove what other nodes make" in output
    rank, count = map(int, launcher.values())
    status, output = synth(**launcher)
    assert status == 0 and f"node {rank} of {count} (" in output
    made = {int(path.stem[6:]) for path in (tmp_path / "out").glob("pairs-*.tar")}
    assert made == set(range(rank, 6, count)) and f"{6 - len(made)} shards are still missing" in output


def test_nonsense_of_a_launcher_is_one_sentence_of_the_command(synth, tmp_path):
    status, output = synth(RANK="none", WORLD_SIZE="2")
    assert status == 1 and output.startswith("Error: RANK='none' and WORLD_SIZE='2'") and output.count("\n") == 1
    assert synth("--node-rank", 0, "--num-nodes", 1, RANK="none", WORLD_SIZE="2")[0] == 0  # as it advises
