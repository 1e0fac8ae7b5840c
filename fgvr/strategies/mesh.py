"""How many of a run's processes share a copy of a model."""

from __future__ import annotations

from fgvr.errors import UserError, refuse_below


def shards_of(world: int, replicate: int = 1, shard: int | None = None) -> int:
    """Of `world` processes those that share a copy between them; without `shard` as many as `replicate` copies leave.

    Raises UserError for numbers that do not make up all processes, with those that would.
    """
    refuse_below(1, "strategy", replicate=replicate, shard=shard)
    if shard is None:
        if world % replicate:
            raise UserError(
                f"strategy.replicate must divide the {world} processes of the run into equal shares, got {replicate}: "
                f"set it to {_listed(world)}, or set trainer.devices and trainer.num_nodes to match."
            )
        return world // replicate
    if replicate * shard != world:
        fits = [f"shard to {world // replicate}"] if world % replicate == 0 else []
        fits += [f"replicate to {world // shard}"] if world % shard == 0 else []
        instead = f"set {' or '.join(fits)}, or set" if fits else "set"
        raise UserError(
            f"strategy.replicate x strategy.shard must be the {world} processes of the run, got {replicate} x {shard}: "
            f"{instead} trainer.devices and trainer.num_nodes to match."
        )
    return shard


def _listed(world: int) -> str:
    """The numbers that divide `world`."""
    *others, last = [str(number) for number in range(1, world + 1) if world % number == 0]
    return f"{', '.join(others)} or {last}" if others else last
