import math

import numpy as np
import pytest
import torch

from eval import bpb
from eval.models import open_model
from pipeline.errors import UserError


def write(directory, documents, facts):
    """Prepared validation data in two stretches; documents as (ids with EOS, source bytes)."""
    half = len(documents) // 2
    for number, part in enumerate((slice(0, half), slice(half, None))):
        stretch = directory / f"{number:05}"
        stretch.mkdir()
        np.save(stretch / "val.npy", np.concatenate([ids for ids, _ in documents[part]]).astype(np.uint16))
        docs = [(len(ids), size, count, len(ids)) for (ids, size), count in zip(documents[part], facts[part])]
        np.save(stretch / "val.docs.npy", np.array(docs, np.uint32))


@pytest.fixture
def prepared(model_dir, tmp_path):
    """(model, encoder, directory, documents): of 5 to 300 tokens, the longest over three windows."""
    model, encoder = open_model(model_dir)
    generator = np.random.default_rng(0)
    lengths = (5, 40, 127, 128, 129, 300)
    documents = [([*generator.integers(0, 1000, n - 1), encoder.eos], 4 * n) for n in lengths]
    write(tmp_path, documents, [0, 3, 0, 1, 0, 0])
    return model, encoder, tmp_path, documents


def measured(model, encoder, directory):
    texts, counts = bpb.load(directory)
    return bpb.bits_per_byte(bpb.document_nats(model, texts, encoder.eos, lambda n: None), texts, counts)


def test_against_a_document_at_a_time(prepared):
    """Every token is scored once, behind an EOS, in windows of the context's length."""
    model, encoder, directory, documents = prepared
    bits = []
    for ids, _ in documents:
        text, total = [encoder.eos, *ids], 0.0
        for start in range(0, len(ids), 128):
            window = torch.tensor([text[start : start + 129]])
            with torch.inference_mode():
                logits = model(window[:, :-1]).log_softmax(-1)
            total -= logits.gather(2, window[:, 1:, None]).sum().item()
        bits.append(total / math.log(2))
    found = measured(model, encoder, directory)
    sizes = [size for _, size in documents]
    without = [0, 2, 4, 5]
    assert found["all"]["bits_per_byte"] == pytest.approx(sum(bits) / sum(sizes), rel=1e-5)
    expected = sum(bits[i] for i in without) / sum(sizes[i] for i in without)
    assert found["without_facts"]["bits_per_byte"] == pytest.approx(expected, rel=1e-5)
    assert (found["all"]["documents"], found["without_facts"]["documents"]) == (6, 4)
    assert found["all"]["tokens"] == sum(len(ids) for ids, _ in documents) and found["all"]["bytes"] == sum(
        sizes
    )


def test_the_batching_changes_nothing(prepared, monkeypatch):
    model, encoder, directory, _ = prepared
    large = measured(model, encoder, directory)
    monkeypatch.setattr(bpb, "BATCH_TOKENS", 1)
    small = measured(model, encoder, directory)
    assert small["all"]["bits_per_byte"] == pytest.approx(large["all"]["bits_per_byte"], rel=1e-6)


def test_bad_data(prepared, tmp_path):
    model, encoder, directory, _ = prepared
    with pytest.raises(UserError, match="holds no validation documents"):
        bpb.load(directory / "00000")
    tokens = np.load(directory / "00001/val.npy")
    np.save(directory / "00001/val.npy", tokens[:-1])
    with pytest.raises(UserError, match="are not those of val.docs.npy"):
        bpb.load(directory)
    (directory / "00001/val.npy").write_bytes(b"")
    with pytest.raises(UserError, match="cannot be read"):
        bpb.load(directory)


def test_nan_logits(prepared):
    model, encoder, directory, _ = prepared
    with torch.no_grad():
        model.ln_f.bias.fill_(torch.nan)
    with pytest.raises(UserError, match="NaN"):
        measured(model, encoder, directory)
