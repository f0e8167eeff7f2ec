import math

import pytest
import torch

from eval import likelihood
from eval.models import open_model
from eval.tasks import hellaswag
from eval.tasks.task import MultipleChoice, load, read
from pipeline.formats import usable
from tokenizer.conditions import Condition
from tokenizer.encode import Encoder

ROW = {
    "activity_label": "Baking",
    "ctx": "A man bakes. he",
    "endings": ["eats it.", "sings.", "runs home.", "is a cow."],
    "label": "2",
}


def item(row):
    """What is asked of a row; None where it is skipped."""
    checked = usable(row, hellaswag.FORMAT)
    items, _ = read(hellaswag.TASK, [] if isinstance(checked, str) else [checked])
    return items[0] if items else None


def test_rows_as_the_harness_reads_them():
    row = item(ROW | {"ctx_a": "A man [step] bakes [title] Bread.", "ctx_b": "he"})
    assert row.context == "Baking: A man bakes. Bread. He" and row.label == 2
    assert item(ROW).context == "Baking: A man bakes. he"
    assert item(ROW | {"endings": [" a [x] b.", "c", "d", "e"]}).endings[0] == "a b."


@pytest.mark.parametrize(
    "change",
    [{"label": ""}, {"label": 4}, {"endings": ["a"]}, {"endings": None}, {"endings": ["a", "b", "c", "[d]"]}]
    + [{"endings": "abcd"}, {"endings": ["a", "b", "c", None]}, {"ctx": None}, {"activity_label": 5}],
)
def test_malformed_rows(change):
    assert item(ROW | change) is None


def test_real_rows(shared_data, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(shared_data))
    rows, skipped = load(hellaswag.TASK, "hellaswag/validation.parquet", "validation")
    assert len(rows) == 10042 and not skipped


def test_the_space_belongs_to_the_ending():
    encoder = Encoder(Condition("c", "token", "multiplication", 4096))
    row = item(ROW | {"ctx": "6 * 9 = 54. he", "endings": ["6 * 9 = 54.", "sings.", "runs.", "is."]})
    for (context, ending), text in zip(row.requests(encoder), row.endings):
        assert encoder.render(context) == row.context and encoder.render(ending) == f" {text}"
        assert not encoder.count_facts(context + ending)  # text as it stands


def test_three_normalisations(model_dir, monkeypatch):
    """acc by the sum, acc_norm by characters, acc_per_token by tokens: endings 0, 1 and 2 here."""
    model, encoder = open_model(model_dir)
    row = MultipleChoice("So", ("no", "internationalisation", "a b c d e", "x"), 0)
    scores = [[-2.0, -2.0], [-0.9] * 6, [-0.6] * 10, [-8.0]]
    monkeypatch.setattr(likelihood, "logprobs", lambda *_: scores)
    for label, right in enumerate(("acc", "acc_norm", "acc_per_token")):
        (outcome,) = likelihood.score(model, encoder, [row._replace(label=label)], 4)
        assert {key: outcome[key] for key in ("acc", "acc_norm", "acc_per_token")} == {
            key: key == right for key in ("acc", "acc_norm", "acc_per_token")
        }
        assert outcome["answer"] == "1" and outcome["loglikelihoods"] == pytest.approx(
            [-4.0, -5.4, -6.0, -8.0]
        )


def test_loglikelihoods_are_the_models(model_dir):
    model, encoder = open_model(model_dir)
    row = item(ROW)
    (outcome,) = likelihood.score(model, encoder, [row], 3)
    for (context, ending), found in zip(row.requests(encoder), outcome["loglikelihoods"]):
        with torch.inference_mode():
            logits = model(torch.tensor([context + ending]))[0].log_softmax(-1)
        expected = sum(logits[len(context) + i - 1, token].item() for i, token in enumerate(ending))
        assert math.isclose(found, expected, abs_tol=1e-3)


def test_a_row_longer_than_the_context_is_not_scored(model_dir):
    model, encoder = open_model(model_dir)
    long = item(ROW | {"endings": ["word " * 200, "b", "c", "d"]})
    assert [outcome is None for outcome in likelihood.score(model, encoder, [item(ROW), long], 8)] == [
        False,
        True,
    ]


def test_endings_have_to_fit_however_numbers_are_split():
    bpe, digits = (
        Encoder(Condition("arm", "plain", "multiplication", 1024, numbers=n)) for n in ("bpe", "digits")
    )
    row = item(ROW | {"endings": ["a", "b", "c", " 1000" * 20]})
    longest = max(len(context) + len(ending) for context, ending in row.requests(bpe))
    assert row.fits([bpe], longest) and not row.fits([bpe], longest - 1)
    assert not row.fits([bpe, digits], longest)
