"""Many policies on many traces, with intervals: what ``metasd compare`` runs."""
