"""A side of training.py: transformers' BertForPreTraining under torch, its output layer on masked positions alone.

transformers' own loss computes the vocabulary's scores of every position, which takes several times a small model.
"""

import json
import sys
from typing import Any

import torch
import transformers
from torch.nn.functional import cross_entropy
from turns import random_batches, take_turns

IGNORED = -100  # a label that cross_entropy leaves out


def main(job: dict[str, Any]) -> None:
    """Take turns with the job's shape, `compile`d or not, with transformers' `attention`, in the job's precision."""
    torch.manual_seed(1)
    config = transformers.BertConfig(**job["config"], attn_implementation=job["attention"])
    model = transformers.BertForPreTraining(config).train()
    # The original's weight decay, on all but biases and layer normalisations.
    decayed = [weight for name, weight in model.named_parameters() if "LayerNorm" not in name and "bias" not in name]
    others = [weight for name, weight in model.named_parameters() if "LayerNorm" in name or "bias" in name]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-4, eps=1e-6, fused=True)
    batches = [tensors_of(batch) for batch in random_batches(job)]
    lower = torch.autocast("cpu", torch.bfloat16, enabled=job["precision"] == "mixed_bfloat16")

    def loss_of(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        with lower:
            return pretraining_loss(model, batch)

    forward = torch.compile(loss_of) if job["compile"] else loss_of

    def step(number: int) -> float:
        loss = forward(batches[number % len(batches)])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss)

    take_turns(step)


def pretraining_loss(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """The mean over masked positions plus the mean over examples."""
    sequence, pooled = model.bert(batch["input_ids"], batch["input_mask"], batch["segment_ids"], return_dict=False)[:2]
    positions = batch["masked_lm_positions"][..., None].expand(-1, -1, sequence.shape[-1])
    masked = model.cls.predictions(torch.gather(sequence, 1, positions))
    is_next = model.cls.seq_relationship(pooled)
    mlm_loss = cross_entropy(masked.flatten(0, 1).float(), batch["masked_lm_ids"].flatten(), ignore_index=IGNORED)
    return mlm_loss + cross_entropy(is_next.float(), batch["next_sentence_labels"])


def tensors_of(batch: dict[str, Any]) -> dict[str, torch.Tensor]:
    """A batch with int64 ids, and labels that leave filling out."""
    tensors = {name: torch.from_numpy(values).long() for name, values in batch.items()}
    tensors["masked_lm_ids"][tensors.pop("masked_lm_weights") == 0] = IGNORED
    return tensors


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
