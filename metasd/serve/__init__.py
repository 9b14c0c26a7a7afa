"""MetaSD's policies inside a serving engine: requests are lanes. Importing it loads neither vLLM nor torch."""
