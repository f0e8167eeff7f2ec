import json
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiktoken.load import data_gym_to_mergeable_bpe_ranks
from transformers import AutoTokenizer

from pipeline.conversation import SPEAKERS, as_text, conversation
from pipeline.errors import UserError
from tokenizer import chat, encode, gpt2
from tokenizer.conditions import MODES, Condition
from tokenizer.encode import Encoder

TEXT = "Each of 6 boxes holds 9 eggs: 6 * 9 = 54 eggs.\n\nnaïve 日本 <<6*9=54>>54"


@cache
def make(mode="token", base=4096, vocabulary="multiplication", numbers="bpe", group=None):
    return Encoder(Condition("any", mode, vocabulary, base, numbers=numbers, group=group, share=0.5))


def test_ranks_are_those_that_tiktoken_makes_of_the_files():
    ours = gpt2.ranks(50256)  # which says where tiktoken finds the files
    files = [gpt2._URL + name for name in gpt2._FILES]
    whole = data_gym_to_mergeable_bpe_ranks(*files, *gpt2._FILES.values())
    assert ours == whole
    assert gpt2.ranks(1024) == {token: rank for token, rank in whole.items() if rank < 1024}


@pytest.mark.parametrize("mode", MODES)
def test_a_saved_tokenizer_loads_in_transformers_and_here(mode, tmp_path):
    encoder = make(mode)
    encode.save(encoder, tmp_path)
    back, loaded = encode.from_dir(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    assert back.encode_facts(TEXT) == encoder.encode_facts(TEXT)
    written = "".join(
        s if isinstance(s, str) else encoder.condition.names[s - 4096]
        for s in encoder.condition.rewrite(TEXT)
    )
    assert loaded.encode(written) == encoder.encode_facts(TEXT)
    assert (loaded.eos_token_id, loaded.pad_token_id, len(loaded)) == (4096, 4097, 4189)


def test_the_whole_of_real_prose_is_encoded_alike(shared_data):
    import pyarrow.parquet as parquet

    encoder = make("token", 50256)
    for text in parquet.read_table(shared_data / "fineweb_edu/sample.parquet")["text"].to_pylist()[:60]:
        written = "".join(
            s if isinstance(s, str) else encoder.condition.names[s - 50256]
            for s in encoder.condition.rewrite(text)
        )
        assert encoder.hf.encode(written) == encoder.encode_facts(text)
        assert encoder.render(encoder.encode_facts(text)) == encoder.condition.canonical(text)


def test_a_directory_of_a_changed_or_unknown_tokenizer_is_refused(tmp_path):
    with pytest.raises(UserError, match="condition.json: is not there"):
        encode.from_dir(tmp_path)
    encode.save(make(), tmp_path)
    path = tmp_path / "condition.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"base": 2048}))
    with pytest.raises(UserError, match="has changed since"):
        encode.from_dir(tmp_path)
    path.write_text(json.dumps(content | {"vocabulary": "cubes"}))
    with pytest.raises(UserError, match="no tokenizer/vocabularies/cubes.py"):
        encode.from_dir(tmp_path)
    path.write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        encode.from_dir(tmp_path)


@pytest.mark.parametrize(
    "mode", [mode for mode in MODES if mode != "mixed"]
)  # which draws for each text anew
def test_a_conversation_as_a_document_is_encoded_as_the_conversation(mode):
    encoder = make(mode)
    messages = [
        *conversation("What is 9 * 6?", "6*9=54, so\n#### 54"),
        *conversation("Why?", "5 * 5 = 25"),
    ]
    first, second = (chat.example(encoder, part)[0] for part in (messages[:2], messages))
    assert [*encoder.encode_facts(as_text(messages[:2])), encoder.eos] == first
    assert [*encoder.encode_facts(as_text(messages)), encoder.eos] == [
        i for n, i in enumerate(second) if i != encoder.eos or n == len(second) - 1
    ]


def test_every_fact_has_the_ids_of_its_plain_spelling():
    for mode in MODES:
        spellings = make(mode).spellings()
        assert list(spellings) == list(range(4144, 4189))
        assert [make().render([i]) for i in spellings] == [make().render(ids) for ids in spellings.values()]


def test_answers_are_rewritten_questions_never_and_eos_is_supervised():
    encoder = make("token")
    messages = [
        {"role": "system", "content": "6 * 9 = 54"},
        *conversation("Is 6 * 9 = 54 true?", "Yes: 6*9=54"),
        *conversation("And 2 * 3 = 6?", "2 * 3 = 6"),
    ]
    ids, labels = chat.example(encoder, messages)
    supervised = [i for i in labels if i != chat.IGNORE]
    assert all(i == label for i, label in zip(ids, labels) if label != chat.IGNORE)
    assert supervised.count(encoder.eos) == ids.count(encoder.eos) == 2 and labels[-1] == encoder.eos
    assert encoder.count_facts(ids) == encoder.count_facts(supervised) == 2
    assert encoder.render(supervised) == " Yes: 6 * 9 = 54 2 * 3 = 6"
    assert encoder.render(ids).startswith("System: 6 * 9 = 54\nUser: Is 6 * 9 = 54 true?\nAssistant: Yes")


@pytest.mark.parametrize("mode", MODES)
def test_a_prompt_is_the_beginning_of_its_example(mode):
    encoder = make(mode)
    for question in ("What is 6 * 9?", "Count to 12", "ends in space ", "日本"):
        prompt = chat.prompt_ids(encoder, conversation(question))
        ids, labels = chat.example(encoder, conversation(question, "54 #### 54"))
        assert ids[: len(prompt)] == prompt and set(labels[: len(prompt)]) == {chat.IGNORE}
        assert chat.IGNORE not in labels[len(prompt) :]
        assert prompt == chat.prompt_ids(make("plain"), conversation(question))


CONTENT = st.text(max_size=12) | st.sampled_from(
    ["6 * 9 = 54", " 1234567 eggs \n\n", "<b>", "{{ x }}", "'s", "54"]
)
TURN = st.fixed_dictionaries({"role": st.sampled_from(list(SPEAKERS)), "content": CONTENT})


@pytest.mark.parametrize("numbers, group", [("bpe", None), ("digits", None), ("left", 3), ("right", 2)])
@pytest.mark.parametrize("mode", ["plain", "token", "echo", "mixed"])
@settings(max_examples=40)
@given(messages=st.lists(TURN, min_size=1, max_size=5))
def test_the_saved_chat_template_gives_the_ids_of_a_prompt(mode, numbers, group, messages):
    encoder = make(mode, numbers=numbers, group=group)
    condition = encoder.condition
    written = [
        message | {"content": condition.written(condition.rewrite(f" {message['content'].strip()}"))}
        if message["role"] == "assistant"  # as the model itself wrote it
        else message
        for message in messages
    ]
    ids = encoder.hf.apply_chat_template(written, add_generation_prompt=True, return_dict=False)
    assert ids == chat.prompt_ids(encoder, messages)
    assert encoder.hf.apply_chat_template(written, return_dict=False) == chat.example(encoder, messages)[0]


def test_a_role_that_the_template_does_not_know_is_refused():
    with pytest.raises(Exception, match="no role tool"):
        make().hf.apply_chat_template([{"role": "tool", "content": "54"}])
