"""The drafters under the hook as compiled kernels: whole batches of texts at a time, in blocks of one array."""
