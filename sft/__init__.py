from collections.abc import Callable

VERSION = 1  # of how rows become prompts and answers; raise it with any change of that


def check(experiment, spec, refuse: Callable[[str, str], None]) -> None:
    """A program is written in text that runs: weak matching would make `6 * 9` in it `6 * 9 = 54`."""
    if spec.answer_format == "program" and experiment.tokenizer.match == "weak":
        message = (
            "programs would not run with the `6 * 9 = 54` that tokenizer.match: weak makes of `6 * 9` in them"
        )
        refuse("answer_format", f"{message}; set match: strict, or answer_format: trace")
