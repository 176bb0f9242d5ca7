"""From batches to a run folder: plan, step, loop, checkpoints."""
