"""The experiments of the MetaSD paper on recorded traces: what was measured, beside what the paper says."""
