import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenizer.conditions import MODES, Condition, _fingerprint
from tokenizer.encode import Encoder

BASES = (4096, 50256)
ENCODERS = {(m, b): Encoder(Condition(m, m, "multiplication", b, share=0.5)) for m in MODES for b in BASES}

FACT = st.builds(
    "{0}{s}{op}{s}{1}{s}={s}{2}".format,
    st.integers(1, 9), st.integers(1, 9), st.integers(1, 99), s=st.sampled_from(["", " "]), op=st.sampled_from("*×·"),
)  # fmt: skip
TRUE_FACT = st.tuples(
    st.integers(1, 9), st.integers(1, 9), st.sampled_from(["*", " * ", " x ", "×", r" \times "])
).map(lambda t: f"{t[0]}{t[2]}{t[1]} = {t[0] * t[1]}")
SOUP = st.text(alphabet="0123456789*×x=+-/.,:$% \n()<>_|éA日🧮", max_size=20)
TEXT = st.lists(st.one_of(FACT, TRUE_FACT, SOUP, st.text(max_size=8), st.just(" ")), max_size=8).map("".join)


@pytest.mark.parametrize(
    "mode, base", [(m, b) for m in MODES for b in BASES if ENCODERS[m, b].condition.invertible]
)
@given(text=TEXT)
def test_render_is_the_inverse_up_to_the_canonical_spelling(mode, base, text):
    encoder = ENCODERS[mode, base]
    assert encoder.render(encoder.encode_facts(text)) == encoder.condition.canonical(text)


@given(text=TEXT)
def test_no_digit_is_created_or_lost(text):
    def digits(t):
        return sorted(c for c in t if c.isdigit())

    assert digits(ENCODERS["plain", 4096].condition.canonical(text)) == digits(text)


@given(text=TEXT)
def test_rewriting_twice_changes_nothing_and_text_without_facts_is_the_same_in_every_condition(text):
    canonical = ENCODERS["plain", 4096].condition.canonical
    assert canonical(canonical(text)) == canonical(text)
    written = {m: ENCODERS[m, 4096].encode_facts(text) for m in MODES}
    if not ENCODERS["plain", 4096].condition.facts.find(text):
        assert len({tuple(ids) for ids in written.values()}) == 1


@given(text=st.text(max_size=60))
def test_a_source_cannot_make_a_control_id(text):
    for mode in MODES:
        encoder = ENCODERS[mode, 4096]
        for literal in ("<|endoftext|>", "<|pad|>", "<MUL_6_9_54>", "<|reserved_3|>"):
            assert max(encoder.encode(text + literal + text)) < encoder.eos
        controls = [i for i in encoder.encode_facts("<MUL_6_9_54> <|endoftext|> 6*9=54") if i >= encoder.eos]
        if mode == "mixed":  # draws for each text anew
            assert set(controls) <= set(encoder.fact_ids) and len(controls) <= 1
            continue
        assert controls == [
            i for i in encoder.encode_facts("6*9=54") if i >= encoder.eos
        ]  # of the fact alone
        assert len(controls) == bool(encoder.fact_ids)


@pytest.mark.parametrize("mode", MODES)
@given(text=st.one_of(TEXT, st.text(max_size=40)).filter(lambda t: "<" not in t))
def test_hugging_face_agrees_token_for_token(mode, text):
    encoder = ENCODERS[mode, 4096]
    condition = encoder.condition
    assert encoder.hf.encode(condition.written(condition.rewrite(text))) == encoder.encode_facts(text)


def test_ids_are_the_fixed_ones():
    for mode in MODES:
        encoder = ENCODERS[mode, 50256]
        assert (encoder.eos, encoder.pad, encoder.size) == (50256, 50257, 50349)
        assert (
            encoder.hf.eos_token_id == 50256 and encoder.hf.pad_token_id == 50257 and len(encoder.hf) == 50349
        )
    token = ENCODERS["token", 50256]
    assert token.encode_facts("1*1=1") == [50304] and token.encode_facts("9*9=81") == [50348]
    assert token.encode_facts("9 x 6 = 54") == token.encode_facts("6 * 9 = 54")
    small = ENCODERS["token", 4096]
    assert (small.eos, small.encode_facts("1*1=1")) == (4096, [4144])


def test_each_mode_writes_a_fact_as_documented():
    def written(mode):
        encoder = ENCODERS[mode, 50256]
        return [
            (text, token and encoder.condition.names[token - 50256])
            for text, token in encoder.pieces(encoder.encode_facts("6*9=54"))
        ]

    assert written("plain") == [("6 * 9 = 54", None)]
    assert written("token") == [("6 * 9 = 54", "<MUL_6_9_54>")]
    assert written("echo") == [("6 * 9 =", "<MUL_6_9_54>"), (" 54", None)]
    assert written("placebo") == [("", "<MUL_1_1_1>"), (" 54", None)]
    assert written("value") == [("54", None)]
    assert written("mixed") in (written("plain"), written("token"))


def test_a_slip_stays_visible_under_echo():
    encoder = ENCODERS["echo", 50256]
    (fact,) = [i for i in encoder.encode_facts("6*9=54") if i in encoder.fact_ids]
    assert encoder.render([fact, *encoder.encode(" 55")]) == "6 * 9 = 55"
    assert encoder.render([fact]) == "6 * 9 ="


def test_ids_that_are_never_trained_are_reserved_and_suppressed():
    for mode, trained in (
        ("plain", 0),
        ("token", 45),
        ("echo", 45),
        ("placebo", 1),
        ("value", 0),
        ("mixed", 45),
    ):
        encoder = ENCODERS[mode, 4096]
        assert len(encoder.fact_ids) == trained
        assert set(encoder.suppressed) | set(encoder.fact_ids) | {encoder.eos} == set(
            range(4096, encoder.size)
        )
        assert sum(name.startswith("<|reserved_") for name in encoder.condition.names) == 45 - trained
        kept = encoder.hf.decode(range(4096, encoder.size), skip_special_tokens=True)
        assert kept.count("<MUL_") == trained and "reserved" not in kept and "filler" not in kept


def test_the_fingerprint_tells_conditions_apart_and_follows_behaviour(monkeypatch):
    prints = {mode: ENCODERS[mode, 4096].fingerprint() for mode in MODES}
    assert len(set(prints.values())) == len(MODES)
    vocabulary = ENCODERS["plain", 4096].condition.facts
    try:
        monkeypatch.setattr(vocabulary, "find", lambda text, weak=False: [])
        _fingerprint.cache_clear()
        assert ENCODERS["plain", 4096].fingerprint() != prints["plain"]
    finally:
        _fingerprint.cache_clear()


PRINTS = {
    "plain": "93fb0809",
    "token": "9fc516e3",
    "echo": "749bd1b1",
    "placebo": "cf9bccfe",
    "value": "d9837e4f",
}


def test_the_published_fingerprints_stay(monkeypatch):
    """What is trained already is held against them."""
    for mode, start in PRINTS.items():
        assert Condition("any", mode, "multiplication", 512).fingerprint().startswith(start)
    split = Condition("any", "token", "multiplication", 512, numbers="right", group=2)
    assert split.fingerprint().startswith("5b0e7ae0")
    shares = {Condition("any", "mixed", "multiplication", 512, share=p).fingerprint() for p in (0.5, 0.51)}
    assert len(shares) == 2


def drawn(text: str, share: float) -> list[str]:
    """token or plain, for every fact of a text."""
    condition = Condition("any", "mixed", "multiplication", 4096, share=share)
    return ["token" if isinstance(written[0], int) else "plain" for _, _, written in condition.rewrites(text)]


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
@pytest.mark.parametrize("facts", [1, 40])  # in a text; the first fact of an answer often opens it
def test_mixed_writes_a_share_of_its_facts_as_tokens_and_every_fact_in_both_ways(share, facts):
    ways = {}
    for n in range(8000 // facts):
        pairs = [(1 + (n + i) % 9, 1 + (n + i) // 9 % 9) for i in range(facts)]
        text = "".join(f"{a} * {b} = {a * b}, " for a, b in pairs) + f"so {n} eggs"
        for pair, way in zip(pairs, drawn(text, share)):
            ways.setdefault(tuple(sorted(pair)), []).append(way)
    every = [way for each in ways.values() for way in each]
    assert every.count("token") / len(every) == pytest.approx(share, abs=0.02)  # 3.6 standard errors
    assert len(ways) == 45 and all({"token", "plain"} == set(each) for each in ways.values())


@given(text=TEXT)
def test_mixed_draws_by_the_canonical_text_and_a_larger_share_takes_more(text):
    condition = ENCODERS["mixed", 4096].condition
    assert condition.rewrite(text) == condition.rewrite(condition.canonical(text))
    for small, large in zip(drawn(text, 0.25), drawn(text, 0.75)):
        assert large == "token" or small == "plain"
