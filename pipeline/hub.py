"""Fetch what an experiment names on the Hub, on a machine with network.

python -m pipeline download experiments/gpt2_124m.yaml
"""

import dataclasses
import json
import os
import shutil

from pipeline.errors import UserError
from pipeline.experiment import Experiment
from pipeline.files import data_dir, sha256
from pipeline.rows import SUFFIXES, hub_dir, is_hub_id, is_whole, read_manifest, source_files
from pipeline.sections import Import, Pretrain, Sft, sources
from pipeline.weights import base_directory


@dataclasses.dataclass
class Download:
    """A split of a Hub data set: `files` are {path: (bytes, SHA-256 or None where the Hub has none)}."""

    source: str
    key: str
    revision: str
    files: dict[str, tuple[int, str | None]]

    def missing(self) -> int:
        """Bytes that are not here yet."""
        folder = hub_dir(self.source)
        return sum(size for path, (size, _) in self.files.items() if not is_whole(folder / path, size))


def download(experiment: Experiment) -> None:
    """Fetch all that an experiment names on the Hub. Raises UserError without network, room, or such data."""
    for base in {spec.base for spec in experiment.stages.values() if isinstance(spec, Import)}:
        print(f"{base}: in {base_directory(base)}")
    wanted: set[tuple[str, str | None, str]] = set()
    for spec in (*experiment.stages.values(), experiment.eval):
        wanted.update(sources(spec))
        if isinstance(spec, Pretrain) and spec.hellaswag_every:
            wanted.add((spec.hellaswag, None, "validation"))
        if isinstance(spec, Sft) and spec.eval_every and spec.dev:
            wanted.add((spec.dev, spec.dev_name, "dev"))
    hub = {
        (source, name or "default", "train" if split == "dev" else split)
        for source, name, split in wanted
        if is_hub_id(source)
    }
    if not hub:
        return print(f"{experiment.path}: names no data of the Hub")
    plan = [_resolve(*each) for each in sorted(hub) if not _is_here(*each)]
    for each in plan:
        print(f"{each.source} {each.key}: {len(each.files)} files, {each.missing() / 1e6:,.1f} MB to fetch")
    need = sum(each.missing() for each in plan)
    data_dir().mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(data_dir()).free
    here = f"{len(hub) - len(plan)} of {len(hub)} splits are here"
    print(f"{here}; {need / 1e6:,.1f} MB to fetch, {free / 1e6:,.0f} MB free in {data_dir()}")
    if need > free:
        raise UserError(f"{data_dir()}: {need / 1e6:,.0f} MB do not fit; set DATA_DIR to a larger disk")
    for each in plan:
        _fetch(each)


def _is_here(source: str, name: str, split: str) -> bool:
    try:
        return bool(source_files(source, name, split))
    except UserError:
        return False


def _resolve(source: str, name: str, split: str) -> Download:
    """Ask the Hub which files make up a split, by the rules of `datasets`."""
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    try:
        revision = HfApi().dataset_info(source, revision=read_manifest(source)["revision"], timeout=5).sha
        from datasets import load_dataset_builder  # slow to import, so only once the Hub is known to answer

        builder = load_dataset_builder(source, None if name == "default" else name, revision=revision)
        splits = builder.config.data_files or {}
        paths = [file.split(f"@{revision}/", 1)[1] for file in splits.get(split, ())]
        infos = HfApi().get_paths_info(source, paths, revision=revision, repo_type="dataset") if paths else ()
    except Exception as error:  # httpx, huggingface_hub and datasets raise many kinds; all end the download
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{source} ({name}, {split}): the Hub does not give it: {reason}; check the network, the id and "
            "the name, and use `hf auth login` for a gated data set"
        ) from None
    if not paths:
        there = ", ".join(splits) or "none"
        raise UserError(f"{source} ({name}): has no files of split '{split}', but of {there}; name another")
    if wrong := [path for path in paths if not path.endswith(SUFFIXES)]:
        raise UserError(f"{source}: {wrong[0]} is not one of {', '.join(SUFFIXES)}; convert it into one")
    sizes = {
        info.path: (info.size, info.lfs.sha256 if info.lfs else None)
        for info in infos
        if isinstance(info, RepoFile)
    }
    return Download(source, f"{name}/{split}", str(revision), sizes)


def _fetch(wanted: Download) -> None:
    """Download the files, check them, and only then name them in the manifest."""
    from huggingface_hub import hf_hub_download

    folder, manifest = hub_dir(wanted.source), read_manifest(wanted.source)
    revision = wanted.revision
    for path, (size, known) in wanted.files.items():
        try:
            hf_hub_download(wanted.source, path, repo_type="dataset", revision=revision, local_dir=folder)
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"{wanted.source}: {path}: {reason}; run this again to go on") from None
        digest = sha256(folder / path)
        if not is_whole(folder / path, size) or known not in (None, digest):
            (folder / path).unlink()
            raise UserError(f"{folder / path}: not what the Hub announced, so it was deleted; run this again")
        manifest["files"][path] = {"bytes": size, "sha256": digest}
    manifest["revision"] = revision
    manifest["splits"][wanted.key] = list(wanted.files)
    partial = folder / "manifest.json.part"
    partial.write_text(json.dumps(manifest, indent=1, allow_nan=False), encoding="utf-8")
    os.replace(partial, folder / "manifest.json")
