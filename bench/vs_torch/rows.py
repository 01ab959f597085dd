"""The rows of the comparison: what is run, by which peers, and what it is held against."""
import dataclasses
import math

HEADS, HEAD_WIDTH, WIDTH, HIDDEN = 12, 64, 768, 3072


SIDES = {"onpa": "onpa", "libtorch": "C++", "python": "Python"}


@dataclasses.dataclass
class Peer:
    worker: str  # onpa, libtorch or python
    variant: str
    threads: int | None = None  # None: as the row

    @property
    def title(self) -> str:
        threads = f", {self.threads} thread" if self.threads else ""
        return f"{SIDES[self.worker]} {self.variant}{threads}".strip()


@dataclasses.dataclass
class Row:
    name: str
    kind: str
    args: dict
    peers: list[Peer]
    ours: list[Peer] = dataclasses.field(default_factory=lambda: [Peer("onpa", "")])  # the first is checked against
    target: float = 1.0  # least PyTorch's time / onpa's
    bound: float = 1e-4  # results agree within this part of the largest value
    threads: int | None = None  # None: all
    flops: float = 0
    bytes: float = 0
    audio_seconds: float = 0
    want_realtime: float = 0  # least audio seconds per second
    want_copy_share: float = 0  # least bytes per second as a share of the measured copy
    memory: float = 0  # least PyTorch's peak memory / onpa's, in a row of its own
    recompute: tuple[Peer, Peer] | None = None  # onpa's and PyTorch's way that trades time for memory
    note: str = ""


CPP, PY = "libtorch", "python"
EQUAL = 1e-12  # the same bits; sums of them are added in another order


def kept_patches(frames: int, drop_f: int, drop_t: int) -> list[int]:
    """Evenly spread rows and columns of the grid; empty for all."""
    columns = (frames - 16) // 10 + 1
    if not drop_f and not drop_t:
        return []
    keep_f = [i * 12 // (12 - drop_f) for i in range(12 - drop_f)]
    keep_t = [i * columns // (columns - drop_t) for i in range(columns - drop_t)]
    return [f * columns + t for f in keep_f for t in keep_t]


def passt_flops(patches: int, training: bool) -> float:
    """Two per multiply-add of layers and attention, without what a backward pass works out again."""
    n = patches + 2
    full = n * (4 * WIDTH * WIDTH + 2 * WIDTH * HIDDEN) + 2 * n * n * WIDTH
    last = n * 3 * WIDTH * WIDTH + 2 * (WIDTH * WIDTH + 2 * WIDTH * HIDDEN) + 4 * n * WIDTH
    embed, rest = patches * 256 * WIDTH, 11 * full + last
    return 2.0 * (2 * embed + 3 * rest if training else embed + rest)


def passt_row(training: bool, seconds: int, drop_f: int, drop_t: int, small: bool) -> Row:
    frames = 100 * seconds
    if small:
        frames, drop_t = 200, min(drop_t, 9)
    keep = kept_patches(frames, drop_f, drop_t)
    patches = len(keep) or 12 * ((frames - 16) // 10 + 1)
    kind = "passt_train" if training else "passt_evaluate"
    variants = [Peer(CPP, "eager"), Peer(PY, "eager"), Peer(PY, "compiled")]
    if not training:
        variants.append(Peer(PY, "frozen"))
    return Row(f"{kind}/{seconds}s", kind,
               {"frames": frames, "table_t": 99 if seconds == 10 else 300, "keep": keep}, variants,
               ours=[Peer("onpa", "norm_gelu"), Peer("onpa", "")] if training else [Peer("onpa", "")],
               target=1.3 if training or seconds == 30 else 1.0, bound=2e-3, flops=passt_flops(patches, training),
               memory=2.0 if training else 1.0,
               recompute=(Peer("onpa", "block"), Peer(PY, "eager checkpointed")) if training else None,
               note=f"N = {patches + 2}" + ("; forward, backward, AdamW" if training else ""))


def attention_row(tokens: int, backward: bool, small: bool) -> Row:
    name = f"attention_{'forward_backward' if backward else 'forward'}/N={tokens}"
    tokens = tokens // 8 if small else tokens
    flops = 4.0 * tokens * tokens * HEAD_WIDTH * HEADS
    return Row(name, "attention",
               {"tokens": tokens, "heads": HEADS, "backward": backward},
               [Peer(CPP, "packed"), Peer(CPP, "split"), Peer(PY, "compiled")],
               target=1.5 if backward else 1.0, bound=1e-4, flops=flops * (3.5 if backward else 1),
               note="12 heads of 64")


def linear_row(name: str, m: int, n: int, k: int, gelu: bool, small: bool) -> Row:
    title = f"gemm/{name}/M={m}"
    m = m // 20 if small else m
    return Row(title, "linear", {"m": m, "n": n, "k": k, "gelu": gelu, "backward": False},
               [Peer(CPP, "eager"), Peer(PY, "packed oneDNN"), Peer(PY, "packed MKL"), Peer(PY, "compiled"),
                Peer(PY, "frozen")],
               flops=2.0 * m * n * k, bound=2e-5, note=f"{m} x {n} x {k}, bias" + (" and GELU" if gelu else ""))


def elementwise_row(kind: str, cols: int, backward: bool, small: bool) -> Row:
    rows = 64 if small else 1434
    return Row(f"{kind}_{'forward_backward' if backward else 'forward'}", kind,
               {"rows": rows, "cols": cols, "backward": backward}, [Peer(CPP, "eager"), Peer(PY, "compiled")],
               bytes=4.0 * rows * cols * (5 if backward else 2), note=f"{rows} x {cols}")


def dense_peers() -> list[Peer]:
    return [Peer(CPP, "eager"), Peer(CPP, "eager", 1), Peer(PY, "compiled", 1), Peer(PY, "whole step"),
            Peer(PY, "whole step", 1)]


def dense_row(width: int, epoch: bool, small: bool) -> Row:
    rows = (32 if small else 1953) * 512 if epoch else 512
    steps = rows // 512
    macs = 512 * (2 * 10 * width + 3 * width * width + 3 * width)
    return Row(f"dense_{'epoch' if epoch else 'step'}/10-{width}-{width}-1", "dense",
               {"width": width, "rows": rows, "epoch": epoch}, dense_peers(),
               ours=[Peer("onpa", "autograd"), Peer("onpa", "fused"), Peer("onpa", "fused", 1)],
               target=6.0 if width == 64 else 2.0, bound=1e-3, flops=2.0 * macs * steps, memory=0 if epoch else 1.0,
               note=f"{rows:,} rows in {steps} shuffled batches of 512" if epoch else "batch 512")


def mel_row(name: str, batch: int, threads: int | None, peers: list[Peer], target: float, small: bool) -> Row:
    seconds = 2 if small else 30
    return Row(f"mel/{name}", "mel", {"batch": batch, "samples": 32000 * seconds}, peers, target=target,
               threads=threads, bound=1e-3, audio_seconds=seconds * batch, want_realtime=6000 if threads == 1 else 0,
               note=f"{batch} x {seconds} s" + (", one core" if threads == 1 else ""))


def all_rows(small: bool) -> list[Row]:
    """Most important first: a run that is cut off has those. `small`: sizes that only try it out."""
    stft = [Peer(CPP, "stft"), Peer(PY, "eager"), Peer(PY, "compiled"), Peer(PY, "torchaudio")]
    count = 1_000_003 if small else 86_000_000
    seconds = 4 if small else 30
    rows = [passt_row(True, 30, 4, 120, small), passt_row(True, 10, 4, 40, small), passt_row(False, 30, 0, 0, small)]
    rows += [attention_row(tokens, True, small) for tokens in (474, 899, 1434, 3590)]
    rows += [dense_row(64, False, small), dense_row(256, False, small)]
    rows += [mel_row("torchaudio", 1, 1, [Peer(PY, "torchaudio")], 4.0, small),
             mel_row("any", 1, 1, stft, 1.0, small),
             mel_row("public_front_end", 1, 1, [Peer(PY, "hear21passt")], 1.0, small),
             mel_row("any_all_cores", 8, None, stft, 1.0, small)]
    rows.append(Row("mp3_decode", "decode", {"seconds": seconds}, [Peer(PY, "torchcodec"), Peer(PY, "torchaudio")],
                    target=1.3, bound=0.02, threads=1, audio_seconds=seconds, want_realtime=600,
                    note=f"{seconds} s at 128 kbit/s to 32 kHz mono, one core; resamplers differ, hence the bound"))
    rows.append(Row("adamw/86M", "adamw", {"count": count},
                    [Peer(CPP, "fused"), Peer(PY, "fused"), Peer(PY, "fused many")], bytes=28.0 * count, bound=1e-5,
                    want_copy_share=0.9, note="28 bytes a parameter"))
    rows += [dense_row(64, True, small), dense_row(256, True, small)]
    shapes = (("fc1_gelu", HIDDEN, WIDTH, True), ("fc2", WIDTH, HIDDEN, False), ("qkv", 3 * WIDTH, WIDTH, False),
              ("proj", WIDTH, WIDTH, False))
    rows += [linear_row(name, m, n, k, gelu, small) for m in (1434, 474) for name, n, k, gelu in shapes]
    rows += [attention_row(tokens, False, small) for tokens in (474, 899, 1434, 3590)]
    rows += [elementwise_row("layer_norm", WIDTH, backward, small) for backward in (False, True)]
    rows += [elementwise_row("gelu", HIDDEN, backward, small) for backward in (False, True)]
    rows.append(passt_row(False, 10, 0, 0, small))
    synced = [Peer(PY, "torch.save synced"), Peer(PY, "safetensors synced"), Peer(CPP, "synced")]
    rows.append(Row("checkpoint_save", "checkpoint_save", {}, synced, bytes=4.0 * 86e6, bound=EQUAL,
                    note="passt-s, synced to the disk on both sides; onpa also hashes and refuses values that are not finite"))
    loads = [Peer(PY, "torch.load"), Peer(PY, "torch.load mmap"), Peer(PY, "safetensors"), Peer(CPP, "archive")]
    rows.append(Row("checkpoint_load", "checkpoint_load", {}, loads, bytes=4.0 * 86e6, bound=EQUAL,
                    note="into a model's parameters; onpa also verifies the hash"))
    return rows


def shortfall(value: float, want: float) -> float:
    """By which part a value that should reach `want` is too small; 0 if it is not."""
    return 0.0 if value >= want or not math.isfinite(want) else 1 - value / want
