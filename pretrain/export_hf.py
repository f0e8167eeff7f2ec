"""Export a pretrained model as a Hugging Face directory, and prove that it computes the same.

    python -m pretrain.export_hf experiments/quickstart.yaml mul_tokens 0
    python -m pretrain.export_hf experiments/gpt2_124m.yaml mul_tokens 0 export_2000    # step: 2000, a milestone

GPT-2's Conv1D holds the transpose of nn.Linear's weight, the square `c_proj` too, so shapes prove nothing: the export
is refused, and nothing is left, unless GPT2LMHeadModel reads every tensor back and computes the same logits. The two
are compared in float64 on the fp32 weights: a wrong tensor shows as plainly, while in fp32 rounding alone reached
1.1e-5 on a trained model.

What other tools need is in the directory: the chat template, the context (`model_max_length`, `n_ctx`), the ids that
are never to be sampled (`suppress_tokens` in generation_config.json). vLLM ignores those: give it
`logit_bias={id: -100, …}` of them. `pipeline("text-generation")` cuts a prompt that is too long on the left if it is
called with `handle_long_generation="hole"`. llama.cpp's convert_hf_to_gguf.py takes models of the full BPE with
GPT-2's numbers, chat template and all; it refuses other pre-tokenizers, those of digits, left and right among them.
"""

import json
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from model import GPT, GPTConfig, to_hf
from pipeline import stage
from pipeline.errors import UserError, cli
from pipeline.files import obey_umask, sha256
from pretrain import checkpoint
from tokenizer import encode
from tokenizer.encode import Encoder

TOLERANCE = 1e-5  # greatest difference of two logits


def export(model: GPT, encoder: Encoder, directory: Path, card: str = "") -> list[str]:
    """Write `model` and its tokenizer into a new directory that transformers loads; the names of its files.

    Raises UserError, leaving nothing behind, if the vocabulary does not fit or the logits differ.
    """
    from transformers import GPT2Config

    config = model.config
    if config.vocab_size != encoder.size:
        why = f"the model has {config.vocab_size} ids and {encoder.condition.name} {encoder.size}"
        raise UserError(f"{directory}: {why}; train it with this experiment's tokenizer")
    tensors = to_hf({name: t.detach().float().cpu() for name, t in model.state_dict().items()}, config)
    aside = directory.with_name(f".{directory.name}.aside")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
        GPT2Config(
            vocab_size=config.vocab_size, n_positions=config.block_size, n_embd=config.n_embd, n_layer=config.n_layer,
            n_head=config.n_head, n_ctx=config.block_size, use_cache=True, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=encoder.eos,
            eos_token_id=encoder.eos, pad_token_id=encoder.pad, architectures=["GPT2LMHeadModel"], dtype="float32",
        ).save_pretrained(aside)  # fmt: skip
        save_file(tensors, aside / "model.safetensors", {"format": "pt"})
        obey_umask(aside / "model.safetensors")
        files = ["config.json", "model.safetensors", *encode.save(encoder, aside, config.block_size)]
        if card:
            (aside / "README.md").write_text(card, encoding="utf-8")
            files.append("README.md")
        compare(model, aside)
        shutil.rmtree(directory, ignore_errors=True)
        aside.rename(directory)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return files


@torch.no_grad()
def compare(model: GPT, directory: Path) -> None:
    """Raises UserError unless GPT2LMHeadModel loads the directory whole and gives the model's logits."""
    from transformers import GPT2LMHeadModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    theirs, loading = GPT2LMHeadModel.from_pretrained(directory, output_loading_info=True)
    unmapped = {key: sorted(names) for key, names in loading.items() if names}
    if unmapped:
        raise UserError(f"{directory}: GPT2LMHeadModel does not map every tensor: {unmapped}")
    config = model.config
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(config.vocab_size, (2, min(config.block_size, 256)), generator=generator)
    ours = GPT.from_tensors(
        {n: t.detach().cpu() for n, t in model.state_dict().items()}, config, dtype=torch.float64
    )
    difference = (ours.eval()(ids) - theirs.eval().double()(ids).logits).abs().max().item()
    if not difference <= TOLERANCE:
        raise UserError(
            f"{directory}: logits differ by {difference:.2g}, more than {TOLERANCE:.0e}: the export is wrong"
        )


def read(directory: Path, weights: Path | None = None) -> GPT:
    """The model that pretraining left in a directory, with other `weights` if given.

    Raises UserError if it cannot be read or does not fit.
    """
    try:
        config = GPTConfig(**json.loads((directory / "config.json").read_text()))
        tensors = load_file(weights or directory / "model.safetensors")
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise UserError(
            f"{directory}: cannot be read as a pretrained model ({error}); rerun pretrain"
        ) from None
    return GPT.from_tensors(tensors, config)


def milestone(run: stage.Run) -> tuple[Path, dict[str, float]]:
    """The weights of the step that an export asks for, and what training had taken by then.

    Raises UserError where pretraining, finished though it is, has not kept them, or they are damaged.
    """
    step, pretrained = run.spec.step, run.parent_record
    kept, path = pretrained.get("milestones", {}), checkpoint.milestone(run.parent, step)
    if str(step) not in kept:
        message = f"{run.parent} has the weights of {', '.join(kept) or 'no other step than the last'}"
        remedy = f"list {step} in its milestones and pretrain again with --overwrite, or remove {run.name}"
        run.refuse("step", f"{message}; {remedy}")
    if not path.exists() or sha256(path) != kept[str(step)]:
        raise UserError(f"{path}: damaged since it was written; rerun its stage with --overwrite")
    share = step / pretrained["steps"]
    return path, {"steps": step, "tokens": pretrained["tokens"] * share, "flops": pretrained["flops"] * share}


def main(argv: list[str] | None = None) -> None:
    with stage.begin("export", argv, __doc__) as run:
        if run is not None:
            weights, record = milestone(run) if run.spec.step else (None, {})
            encoder = encode.for_run(run.experiment, run.condition)
            files = export(read(run.parent, weights), encoder, run.dir / "model", run.card())
            run.finish([f"model/{name}" for name in files], **record)


if __name__ == "__main__":
    cli(main)
