"""How numbers are split: by the rule, alike in both encoders, exactly undone, and in whatever loads the files."""

import json
import re
from functools import cache

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from pipeline.errors import UserError
from pipeline.experiment import load
from tokenizer import encode, numbers, show
from tokenizer.conditions import MODES, Condition
from tokenizer.encode import Encoder

VOCABULARIES = ("multiplication", "squares", "sums")
SPLITS = [("bpe", None), ("bpe", 3), ("digits", None), *((s, g) for s in numbers.GROUPED for g in (2, 3, 4))]
INVERTIBLE = ("plain", "token", "echo", "mixed")


@cache
def make(mode="plain", split=("right", 3), vocabulary="multiplication", base=4096) -> Encoder:
    scheme, group = split
    return Encoder(Condition("any", mode, vocabulary, base, numbers=scheme, group=group, share=0.5))


RUN = st.text("0123456789", min_size=1, max_size=40)
GLUED = st.tuples(st.sampled_from(["", " ", "  ", "\t", "\n\n", "a", "é", "$", "-", "3.", "1,", "٣", "²", "x "]), RUN,
                  st.sampled_from(["", " ", "  \n", "b", ".5", ",000", "%", "'s", "٣", "½", "日"])).map("".join)  # fmt: skip
FACT = st.sampled_from(
    ["6 * 9 = 54", "3*4=12", "12 × 12 = 144", "6 + 9 = 15", " 9 x 9 = 81.", "<<6*9=54>>54"]
)
CONTROL = st.sampled_from(["<|endoftext|>", "<|reserved_3|>", "<MUL_6_9_54>", "<|unused_1065|>", "<|pad|>12"])
TEXT = st.lists(st.one_of(GLUED, FACT, RUN, st.text(max_size=6)), max_size=8).map("".join)


def by_the_rule(text: str, scheme: str, group: int | None) -> list[str]:
    """The pieces of a run of digits, written down once more and otherwise."""
    if scheme == "digits":
        return list(text)
    start = (len(text) % group or group) if scheme == "right" else group
    return [text[:start], *(text[i : i + group] for i in range(start, len(text), group))]


@pytest.mark.parametrize("split", [split for split in SPLITS if split[0] != "bpe"])
@given(before=st.sampled_from(["", " ", "\n\n", "a", "$", "٣", "7.", "1,"]), run=RUN)
@example(before="", run="0" * 40)
def test_a_number_is_split_by_the_rule_and_stands_alone(split, before, run):
    encoder = make(split=split)
    pieces = [encoder.text[i].decode(errors="replace") for i in encoder.encode(f"{before}{run} 5")]
    rest = by_the_rule(run, *split)
    assert pieces[-2 - len(rest) :] == [*rest, " ", "5"]
    assert encoder.encode(f"{before}{run}")[: -len(rest)] == encoder.encode(before)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=40)
@given(text=TEXT, vocabulary=st.sampled_from(VOCABULARIES))
def test_both_encoders_agree_and_render_is_exact(mode, split, text, vocabulary):
    encoder = make(mode, split, vocabulary)
    condition = encoder.condition
    ids = encoder.encode_facts(text)
    assert not set(ids) & set(encoder.suppressed) and max(ids, default=0) < encoder.size
    if not re.search(r"<\||<[A-Z]", text):
        assert encoder.hf.encode(condition.written(condition.rewrite(text))) == ids
        assert encoder.hf.encode(text) == encoder.encode(text)
    assert encoder.render(encoder.encode(text)) == text
    if mode in INVERTIBLE:
        assert encoder.render(ids) == condition.canonical(text)


@pytest.mark.parametrize("split", SPLITS)
@given(text=st.lists(st.one_of(CONTROL, GLUED), max_size=6).map("".join))
def test_control_strings_stay_text(split, text):
    encoder = make("token", split)
    ids = encoder.encode(text)
    assert all(i < encoder.eos or i in encoder.groups for i in ids) and encoder.render(ids) == text


@pytest.mark.parametrize("split", SPLITS)
def test_digits_of_other_scripts_are_text(split):
    text = "٣٤٥٦ ١٢ ²³ ½ Ⅷ ５６７ 四"
    assert make(split=split).encode(text) == make(split=("bpe", None)).encode(text)


@pytest.mark.parametrize("scheme", numbers.GROUPED)
def test_a_very_long_number_takes_linear_time(scheme):
    run = "0123456789" * 20_000
    encoder = make(split=(scheme, 3))
    ids = encoder.encode(f"a {run} b")
    assert encoder.render(ids) == f"a {run} b" and len(ids) == 66_667 + 3
    assert encoder.hf.encode(f"a {run} b") == ids


def test_ids_of_groups_stand_behind_the_facts_by_length_and_value():
    for split in SPLITS:
        encoder = make("token", split, base=50256)
        ids = sum(10**k for k in range(2, (split[1] or 0) + 1))
        assert encoder.size == len(encoder.hf) == 50349 + ids
    right = make("plain", ("right", 3), base=50256)
    assert right.encode("00") == [50349] and right.encode("99") == [50448]
    assert right.encode("000") == [50449] and right.encode("999") == [51448]
    assert right.encode("7") == make(split=("bpe", None), base=50256).encode("7")
    assert right.encode("6 * 9 = 54")[-1] == 50349 + 54
    assert make("token", ("right", 3), base=50256).encode_facts("6 * 9 = 54") == [50304 + 38]


@pytest.mark.parametrize("split", SPLITS)
def test_what_a_split_does_not_use_is_reserved_and_suppressed(split):
    encoder = make("token", split, base=4096)
    names, used = encoder.condition.names, set(encoder.groups)
    groups = range(encoder.condition.first_group, encoder.size)
    assert used == (set(groups) if split[0] in numbers.GROUPED else set())
    for i in groups:
        assert (i in encoder.suppressed) == names[i - 4096].startswith("<|reserved_") == (i not in used)
    untrained = {
        i for i, token in encoder.text.items() if i < 4096 and re.search(rb".[0-9]|[0-9].", token, re.S)
    }
    assert {i for i in encoder.suppressed if i < 4096} == (untrained if split[0] != "bpe" else set())
    shown = encoder.hf.decode(list(encoder.encode("007 apples, 1234")), skip_special_tokens=True)
    assert shown == "007 apples, 1234"


@pytest.mark.parametrize("split", SPLITS)
def test_a_saved_tokenizer_splits_by_itself_and_keeps_its_splits(split, tmp_path):
    encoder = make("token", split, base=4096)
    written = "So <MUL_6_9_54> and  1234567 − 007 = 3,141.59265 of x12."
    ids = encoder.encode_segments(["So ", encoder.fact_ids[38], written.partition("54>")[2]])
    encode.save(encoder, tmp_path / "one", context=64)
    sizes = {"n_embd": 8, "n_layer": 1, "n_head": 1, "vocab_size": encoder.size}
    (tmp_path / "one/config.json").write_text(json.dumps({"model_type": "gpt2", **sizes}))
    config = json.loads((tmp_path / "one/tokenizer_config.json").read_text())
    assert config["model_max_length"] == 64 and "Assistant:" in config["chat_template"]
    first = AutoTokenizer.from_pretrained(tmp_path / "one")
    first.save_pretrained(tmp_path / "two")
    second = AutoTokenizer.from_pretrained(tmp_path / "two")
    for tokenizer in (first, second):
        assert tokenizer.encode(written) == ids and tokenizer.decode(ids) == written
        assert len(tokenizer) == encoder.size and tokenizer.model_max_length == 64
        assert tokenizer.chat_template == encoder.hf.chat_template
    back = encode.from_dir(tmp_path / "one")
    assert back.condition == encoder.condition and back.encode("1234567") == encoder.encode("1234567")


def test_without_numbers_nothing_is_other_than_before():
    """The fingerprint of the published conditions: models that were exported before still open."""
    assert make("token", ("bpe", None), base=50256).fingerprint().startswith("69571c16533dc0aa")
    grouped = {make("plain", split, base=4096).fingerprint() for split in SPLITS}
    assert len(grouped) == len(SPLITS)


def test_every_group_has_the_ids_of_its_digits():
    bpe = make(split=("bpe", None))
    for split in SPLITS:
        spelled = make(split=split).group_spellings()
        assert len(spelled) == len(numbers.groups(split[1]))
        assert all(len(ids) == len(text) for ids, text in zip(spelled.values(), numbers.groups(split[1])))
    right = make(split=("right", 3))
    assert right.group_spellings()[right.encode("407")[0]] == [bpe.encode(digit)[0] for digit in "407"]


def test_show_has_a_share(capsys):
    words = ["6 * 9 = 54 eggs", "--modes", "mixed", "--base", "4096", "--color", "never"]
    shown = []
    for share in ("0.001", "0.999"):
        show.main([*words, "--share", share])
        shown.append(capsys.readouterr().out)
    assert "0 facts" in shown[0] and "<MUL_6_9_54>" in shown[1]
    with pytest.raises(UserError, match="--share 1.0: is a share"):
        show.main([*words, "--share", "1"])


def test_show_has_the_splits_side_by_side(capsys):
    words = ["12345 * 1", "--numbers", "bpe", "digits", "left", "right", "--modes", "plain", "--base", "4096"]
    show.main([*words, "--color", "never"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines[::3]] == ["baseline, numbers"] * 4
    pieces = [[part.strip() for part in line.split("|")] for line in lines[1::3]]
    assert (
        pieces[1][:5] == list("12345") and pieces[2][:2] == ["123", "45"] and pieces[3][:2] == ["12", "345"]
    )


EXPERIMENT = """
vocabulary: multiplication
tokenizer: {{base: 4096{group}}}
conditions: {{baseline: {{mode: plain}}, other: {{mode: plain, numbers: {numbers}}}}}
seeds: [0]
stages:
  tokenizer: {{run: tokenizer}}
"""


@pytest.mark.parametrize(
    "group, scheme, message",
    [
        ("", "right", "conditions.other.numbers: left and right need tokenizer.group"),
        (", group: 1", "left", "tokenizer.group: input should be greater than or equal to 2"),
        (", group: 5", "left", "tokenizer.group: input should be less than or equal to 4"),
        (", group: 3", "digits", "tokenizer.group: no condition splits numbers left or right"),
        (", group: 3", "middle", "conditions.other.numbers"),
    ],
)
def test_an_impossible_split_is_refused_by_key(tmp_path, group, scheme, message):
    (path := tmp_path / "n.yaml").write_text(EXPERIMENT.format(group=group, numbers=scheme))
    with pytest.raises(UserError, match=re.escape(message)):
        load(path)


def test_an_experiment_gives_each_condition_its_split(tmp_path):
    (path := tmp_path / "n.yaml").write_text(EXPERIMENT.format(group=", group: 2", numbers="left"))
    experiment = load(path)
    baseline, other = (encode.for_run(experiment, name) for name in ("baseline", "other"))
    assert baseline.size == other.size == 4189 + 100
    assert [other.render([i]) for i in other.encode("12345")] == ["12", "34", "5"]
    assert baseline.condition.identity() != other.condition.identity()
