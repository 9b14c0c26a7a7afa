"""A language model that is a table: its passes take microseconds and the law of its texts can be written down.

What comes next depends on the last two tokens alone, read from a real cache of transformers: a cache that is cropped
wrongly gives wrong texts.
"""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import tiny
import torch
from transformers import LlamaConfig, PreTrainedModel

from metasd.runtime.load import Target, as_target


class TableModel(PreTrainedModel):
    """A causal LM with the logits ``table`` [V, V, V]: of what follows (the token before last, the last)."""

    config_class = LlamaConfig

    def __init__(self, table: np.ndarray) -> None:
        size = len(table)
        heads = {"hidden_size": 2, "num_attention_heads": 1, "num_key_value_heads": 1, "num_hidden_layers": 1}
        super().__init__(LlamaConfig(vocab_size=size, **heads, eos_token_id=None, bos_token_id=None))
        self.table = torch.nn.Parameter(torch.as_tensor(table, dtype=torch.float64), requires_grad=False)

    def forward(
        self, input_ids: torch.Tensor, past_key_values: Any = None, use_cache: bool = True, return_dict: bool = True
    ) -> SimpleNamespace:
        """Logits [1, w, V]; a first token counts as its own predecessor."""
        new = input_ids.to(self.table.dtype)[:, None, :, None]
        read = past_key_values.update(new, new, 0)[0][0, 0, :, 0].long()
        before = torch.cat([read[:1], read[:-1]])
        return SimpleNamespace(logits=self.table[before, read][None, -input_ids.shape[1] :])


def target(table: np.ndarray, *eos_ids: int) -> Target:
    """The target of ``table``, whose texts end at ``eos_ids``."""
    made = as_target(TableModel(table), tiny.tokenizer(len(table)), "toy")
    return dataclasses.replace(made, eos_ids=frozenset(eos_ids))
