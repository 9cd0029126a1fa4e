"""Share: which shards of a plan are one node's, when several work without a cluster manager."""

from collections.abc import Mapping
from dataclasses import dataclass

# who started the processes: the variables with the number of this one, and of all
_LAUNCHERS = {
    "Slurm": ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),  # of srun alone: SLURM_NTASKS also stands in a batch script
    "torchrun": ("RANK", "WORLD_SIZE"),
}


@dataclass(frozen=True)
class Share:
    """Every ``count``-th shard from ``rank`` on.

    Attributes:
        rank: of this node, from 0.
        count: of nodes.
        said_by: who said so, for people.

    Raises:
        ValueError: no such node.
    """

    rank: int = 0
    count: int = 1
    said_by: str = ""

    def __post_init__(self) -> None:
        if self.count < 1 or not 0 <= self.rank < self.count:
            raise ValueError(f"node rank {self.rank} of {self.count} nodes: ranks go from 0 to the number of nodes - 1")

    def __contains__(self, shard: int) -> bool:
        return shard % self.count == self.rank

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Share":
        """What ``srun`` or ``torchrun`` told this process; all shards when neither started it.

        Raises:
            ValueError: the variables are no numbers, or no such node.
        """
        for launcher, (rank, count) in _LAUNCHERS.items():
            if rank in environment and count in environment:
                try:
                    return cls(int(environment[rank]), int(environment[count]), f"{launcher}'s {rank} and {count}")
                except ValueError as error:
                    told = f"{rank}={environment[rank]!r} and {count}={environment[count]!r}"
                    raise ValueError(
                        f"{told} do not say which node this is; unset them, or give --node-rank and --num-nodes"
                    ) from error
        return cls()
