"""From a source of pictures to batches: what there is, what is kept, how it is divided, how it is read."""
