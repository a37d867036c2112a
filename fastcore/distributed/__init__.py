"""Selection with the rows spread over several processes, one GPU or one part of the CPU each."""

from fastcore.distributed.communication import Ranks, on_every_rank
from fastcore.distributed.source import ShardedSource, fingerprint

__all__ = ["Ranks", "ShardedSource", "fingerprint", "on_every_rank"]
