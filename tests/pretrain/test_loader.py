"""The loader: every token once an epoch, the batch a function of the step alone, damage refused."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import UserError
from pretrain import prepare, shards
from pretrain.loader import Documents, Windows
from tokenizer.conditions import Condition

CONDITION = Condition("mul_tokens", "token", "multiplication", 1024)


def write(directory, stretches: list[list[list[int]]]) -> None:
    """Prepared data of the given documents, the same for both splits."""
    done = {}
    for number, documents in enumerate(stretches):
        docs = np.array([(len(ids), len(ids), 0, len(ids)) for ids in documents], np.uint32)
        tokens = np.array([token for ids in documents for token in ids], np.uint16)
        block = shards.Arrays(tokens, docs, np.empty((0, 2), np.uint32), [])
        with shards.Writer(directory, number) as writer:
            writer.append(shards.Encoded(dict.fromkeys(shards.SPLITS, block), Counter()))
            done[f"{number:05}"] = writer.close()
    prepare.write_index(directory, CONDITION, done)


def numbered(lengths: list[list[int]]) -> list[list[list[int]]]:
    """Documents of the given lengths in which no two tokens are equal."""
    count = iter(range(60_000))
    return [[[next(count) for _ in range(length)] for length in stretch] for stretch in lengths]


def opened(directory) -> Documents:
    return Documents(directory, "train", CONDITION.fingerprint())


lengths = st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=12), min_size=1, max_size=4)


@settings(max_examples=30, deadline=None)
@given(lengths, st.integers(1, 33), st.integers(0, 5), st.integers(0, 3))
def test_every_token_of_an_epoch_is_predicted_once_but_those_said_to_be_left_out(
    tmp_path_factory, lengths, length, seed, epoch
):
    directory, documents = tmp_path_factory.mktemp("loader"), numbered(lengths)
    write(directory, documents)
    data = opened(directory)
    if data.tokens <= length:
        with pytest.raises(UserError, match="block_size"):
            Windows(data, length, seed)
        return
    windows = Windows(data, length, seed)
    batch = windows.batch(epoch * windows.per_epoch, windows.per_epoch)
    assert (batch[1:, 0] == batch[:-1, -1]).all()  # each window's first input is the last target before it
    stream = [batch[0, 0], *batch[:, 1:].flatten()]
    flat = [document for stretch in documents for document in stretch]
    order, _ = windows.order(epoch)
    assert sorted(order) == list(range(len(flat)))
    assert stream == [token for i in order for token in flat[i]][: len(stream)]
    assert windows.left_out == data.tokens - len(stream) < length


@settings(max_examples=30, deadline=None)
@given(lengths, st.integers(1, 33), st.integers(1, 60))
def test_a_budget_in_documents_ends_with_the_window_that_holds_the_last(
    tmp_path_factory, lengths, length, budget
):
    directory = tmp_path_factory.mktemp("loader")
    write(directory, numbered(lengths))
    data = opened(directory)
    if data.tokens <= length:
        return
    windows = Windows(data, length, 0)
    epochs, rest = divmod(budget, len(data))
    last = range(epochs * windows.per_epoch, windows.holding(budget))  # windows of the last epoch
    asked = set(windows.order(epochs)[0][:rest].tolist())
    seen = {document for number in last for document, *_ in windows.pieces(number)}
    assert len(last) <= windows.per_epoch and (asked <= seen or len(last) == windows.per_epoch)
    assert not rest or sum(data.lengths[d] for d in asked) > (len(last) - 1) * length
    assert rest or not last


def test_a_batch_is_the_same_however_it_is_divided(tmp_path):
    write(tmp_path, numbered([[7, 30, 1, 12], [5, 21, 9]]))
    windows = Windows(opened(tmp_path), 8, seed=3)
    whole = windows.batch(0, 40)  # several epochs
    assert windows.per_epoch < 20
    for parts in (2, 4, 8):
        divided = [
            Windows(opened(tmp_path), 8, seed=3).batch(first, 40 // parts)
            for first in range(0, 40, 40 // parts)
        ]
        assert (np.concatenate(divided) == whole).all()


def test_epochs_and_seeds_differ_in_order_and_conditions_do_not(tmp_path):
    for name, length in (("a", 3), ("b", 9)):
        (tmp_path / name).mkdir()
        write(tmp_path / name, numbered([[length] * 40, [length] * 40]))
    one, other = (Windows(opened(tmp_path / name), 16, seed=1) for name in "ab")
    orders = [one.order(0)[0], one.order(1)[0], Windows(one.documents, 16, seed=2).order(0)[0]]
    assert len({tuple(order) for order in orders}) == 3
    for epoch in range(3):
        assert (one.order(epoch)[0] == other.order(epoch)[0]).all()


def test_another_tokenizers_data_is_refused(tmp_path):
    write(tmp_path, numbered([[5, 5]]))
    other = Condition("squares", "token", "squares", 1024)
    with pytest.raises(UserError, match="prepared with another tokenizer"):
        Documents(tmp_path, "train", other.fingerprint())


@pytest.mark.parametrize("name", ["train.npy", "train.docs.npy"])
def test_truncated_arrays_are_refused_by_name(tmp_path, name):
    write(tmp_path, numbered([[50, 50], [50, 50]]))
    path = tmp_path / "00001" / name
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(UserError, match="00001: cannot be read"):
        opened(tmp_path)


def test_arrays_that_are_whole_but_not_the_indexs_are_refused(tmp_path):
    write(tmp_path, numbered([[50, 50]]))
    np.save(tmp_path / "00000" / "train.npy", np.zeros(90, np.uint16))
    with pytest.raises(UserError, match="its arrays and its index disagree"):
        opened(tmp_path)


def test_pickled_arrays_are_never_loaded(tmp_path):
    write(tmp_path, numbered([[5]]))
    np.save(tmp_path / "00000" / "train.npy", np.array([{}] * 5, dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match="cannot be read"):
        opened(tmp_path)
