"""MetaSD inside vLLM beside vLLM's own n-gram and suffix speculation, and beside no speculation: the same prompts.

Run it as ``tox run -e bench-vllm -- --out FOLDER``, which makes an environment of its own (suffix drafts need a
compiler to build ``arctic-inference``). Every contender at every concurrency is an engine in a process of its own that
has seen no prompt before; a finished one stays in FOLDER, and the same command goes on from there. Greedy, float32,
``enforce_eager``; without asynchronous scheduling, but for the contender that says so.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from metasd.core.prompts import bundled, load_prompts

CUSTOM = {"method": "custom_class", "model": "metasd.serve.vllm.MetaSDProposer"}
POOL = ["lookup", "suffix", "table:path=code", "table:path=math", "table:path=chat"]
CONTENDERS: dict[str, dict[str, Any]] = {
    "none": {},
    "none, asynchronous": {"async_scheduling": True},
    "ngram": {"speculative": {"method": "ngram"}},
    "ngram 1-4": {"speculative": {"method": "ngram", "prompt_lookup_min": 1, "prompt_lookup_max": 4}},
    "suffix": {"speculative": {"method": "suffix"}},
    "metasd": {"speculative": CUSTOM, "metasd": {"pool": POOL}},
    "metasd, full length": {"speculative": CUSTOM, "metasd": {"pool": POOL, "goodput": False}},
    "head": {"speculative": {"method": "eagle3"}},
}
"""As their makers ship them, all with the same number of draft tokens. The second metasd never shortens a draft; head
is vLLM's own EAGLE-3 class on the folder ``--head``, as ``metasd distill`` writes it."""
BASE = "none"


def texts(per_domain: int, domains: Sequence[str]) -> list[tuple[str, str, list[int]]]:
    """(id, domain, tokens) of the first evaluation prompts of every domain, domains taking turns."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model())
    by_domain = defaultdict(list)
    for prompt in load_prompts(bundled("eval")):
        by_domain[prompt.domain].append(prompt)
    chosen = [by_domain[d][i] for i in range(per_domain) for d in domains]
    made = [tokenizer.apply_chat_template(p.messages(), add_generation_prompt=True)["input_ids"] for p in chosen]
    return [(p.id, p.domain, list(tokens)) for p, tokens in zip(chosen, made, strict=True)]


def model() -> str:
    """The folder of the target."""
    import torch

    from metasd.runtime.locate import locate

    return locate("smollm2", torch.float32)[0]


def engine(contender: dict[str, Any], given: argparse.Namespace) -> Any:
    """An engine of vLLM for at most ``given.at`` requests at once."""
    from vllm import LLM

    own: dict[str, Any] = {"async_scheduling": contender.get("async_scheduling", False)}
    if "speculative" in contender:
        own["speculative_config"] = contender["speculative"] | {"num_speculative_tokens": given.most}
        if given.one == "head":
            own["speculative_config"]["model"] = given.head
    if "metasd" in contender:
        stats = {"stats": str(stats_of(given)), "log_every": 5}
        own["additional_config"] = {"metasd": contender["metasd"] | stats}
    own |= {"max_num_seqs": given.at[0], "max_model_len": 1024}
    return LLM(model(), dtype="float32", enforce_eager=True, seed=0, **own)


def stats_of(given: argparse.Namespace) -> Path:
    """Where the adapter writes its counters."""
    return given.out / f"{given.one}-{given.at[0]}-stats.json"


def answer(llm: Any, prompts: Sequence[tuple[str, str, list[int]]], at: int, tokens: int) -> dict[str, Any]:
    """Every prompt answered, ``at`` of them at a time, and how many passes each took behind the one that read it."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    how = SamplingParams(temperature=0, max_tokens=tokens, detokenize=False, output_kind=RequestOutputKind.DELTA)
    core, waiting, running = llm.llm_engine, list(range(len(prompts))), 0
    said: dict[str, list[int]] = {str(i): [] for i in waiting}
    passes = dict.fromkeys(said, -1)
    began = time.perf_counter()
    while waiting or running:
        while waiting and running < at:
            i = waiting.pop(0)
            core.add_request(str(i), {"prompt_token_ids": prompts[i][2]}, how)
            running += 1
        for out in core.step():
            said[out.request_id] += out.outputs[0].token_ids
            passes[out.request_id] += 1
            running -= out.finished
    seconds = time.perf_counter() - began
    rows = [
        {"id": p[0], "domain": p[1], "tokens": said[str(i)], "passes": passes[str(i)]} for i, p in enumerate(prompts)
    ]
    return {"seconds": seconds, "texts": rows}


def one(given: argparse.Namespace) -> None:
    """One contender at one concurrency, in this process."""
    prompts = texts(given.per_domain, given.domains)
    llm = engine(CONTENDERS[given.one], given)
    warm = [("warm", "warm", list(range(100, 120)))] * given.at[0]
    answer(llm, warm, given.at[0], 8)
    made = answer(llm, prompts, given.at[0], given.tokens)
    file_of(given.out, given.one, given.at[0]).write_text(json.dumps(made))


def file_of(out: Path, name: str, at: int) -> Path:
    return out / f"{name}-{at}.json"


def measure(given: argparse.Namespace) -> None:
    """Run what has no result yet, a process each; the order of contenders turns from one concurrency to the next."""
    names = list(given.contenders)
    for turn, at in enumerate(given.at):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            if file_of(given.out, name, at).exists():
                continue
            sys.stderr.write(f"{name}, {at} at once\n")
            told = ["--per-domain", given.per_domain, "--tokens", given.tokens, "--most", given.most]
            told += ["--head", given.head] if given.head else []
            command = [sys.executable, __file__, "--one", name, "--out", given.out, "--at", at, *told]
            with (given.out / f"{name}-{at}.log").open("w") as log:
                quiet = {"stdout": log, "stderr": subprocess.STDOUT}
                subprocess.run([*map(str, command), "--domains", *given.domains], check=False, **quiet)


def table(given: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each result: tokens a second, tokens a pass overall and by domain, texts that are those without."""
    rows = []
    for at in given.at:
        base = file_of(given.out, BASE, at)
        plain = json.loads(base.read_text()) if base.exists() else None
        for name in given.contenders:
            file = file_of(given.out, name, at)
            if not file.exists():
                rows.append({"contender": name, "at": at, "failed": True})
                continue
            made = json.loads(file.read_text())
            counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
            for text in made["texts"]:
                for key in (text["domain"], "all"):
                    counts[key][0] += len(text["tokens"]) - 1
                    counts[key][1] += text["passes"]
            tokens = sum(len(t["tokens"]) for t in made["texts"])
            row = {"contender": name, "at": at, "tokens_per_second": tokens / made["seconds"]}
            row["tokens_per_pass"] = {key: a / b for key, (a, b) in counts.items()}
            if plain is not None:
                pairs = zip(made["texts"], plain["texts"], strict=True)
                row["equal"] = sum(a["tokens"] == b["tokens"] for a, b in pairs)
                row["texts"] = len(plain["texts"])
            stats = given.out / f"{name}-{at}-stats.json"
            if stats.exists():
                row["adapter_microseconds"] = json.loads(stats.read_text())["adapter_microseconds"]
            rows.append(row)
    return rows


def main() -> None:
    """See the module docstring."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--out", type=Path, required=True)
    asked.add_argument("--at", nargs="+", type=int, default=[1, 8, 32], help="requests at once")
    asked.add_argument("--per-domain", type=int, default=8)
    asked.add_argument("--tokens", type=int, default=64)
    asked.add_argument("--most", type=int, default=4, help="draft tokens a pass")
    asked.add_argument("--domains", nargs="+", default=["code", "math", "translation", "summary", "qa", "chat"])
    asked.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=[c for c in CONTENDERS if c != "head"])
    asked.add_argument("--head", help="folder of an EAGLE-3 head for the contender head")
    asked.add_argument("--one", choices=CONTENDERS, help=argparse.SUPPRESS)
    given = asked.parse_args()
    given.out = given.out.resolve()
    given.out.mkdir(parents=True, exist_ok=True)
    # Engine and caller in one process: where two of them fight for two cores, every pass takes twice as long.
    os.environ |= {"HF_HUB_OFFLINE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    if given.one:
        one(given)
        return
    measure(given)
    rows = table(given)
    (given.out / "rows.json").write_text(json.dumps(rows, indent=1))
    for row in rows:
        if "failed" in row:
            sys.stdout.write(f"{row['at']:3} {row['contender']:22} failed: see its log\n")
            continue
        by = "  ".join(f"{d} {v:.2f}" for d, v in row["tokens_per_pass"].items())
        line = f"{row['at']:3} {row['contender']:22} {row['tokens_per_second']:6.1f} tokens/s  a pass: {by}"
        line += f"  equal {row['equal']}/{row['texts']}" if "equal" in row else ""
        line += f"  adapter {row['adapter_microseconds']:.0f} us" if "adapter_microseconds" in row else ""
        sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
