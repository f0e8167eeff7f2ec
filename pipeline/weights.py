"""Public weights that an import stage starts from: a directory under DATA_DIR, or the Hub client's own cache."""

from pathlib import Path

from pipeline.errors import UserError
from pipeline.files import cached_sha256, data_dir

FILES = ["config.json", "model.safetensors", "vocab.json", "tokenizer.json"]  # what is fetched of them


def base_directory(base: str, fetch: bool = True) -> Path:
    """The directory of public weights; what the Hub has of them is fetched, once. Raises UserError if it is nowhere."""
    path = data_dir() / base
    if path.is_dir():
        return path
    if base.startswith(("/", ".")) or base.count("/") > 1:
        raise UserError(f"{path}: no such directory; base is relative to DATA_DIR, absolute, or a Hub id")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(base, allow_patterns=FILES, local_files_only=not fetch))
    except Exception as error:  # the Hub's client raises its own, its network layer's and OSErrors
        reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
        raise UserError(f"base {base}: not in {data_dir()}, and the Hub has not given it: {reason}") from None


def base_digest(base: str, fetch: bool) -> str:
    """SHA-256 of the weights."""
    return cached_sha256(base_directory(base, fetch) / "model.safetensors")
