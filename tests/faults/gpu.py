"""Memory that the GPU's driver refuses, on the device and pinned on the host. The device is simulated: it counts what is asked of it."""
import itertools
import socket

from harness import fault

REFUSED = "simulated GPU: "
CALLS = ("cudaMalloc", "cudaMallocHost")


def settings(kind: str) -> tuple:
    return ("train.max_steps=3", "train.checkpoint_steps=2") if kind == "passt" else \
        ("train.max_steps=24", "train.epochs=3", "average.kind=none", "model.dropout=0")


def command(t, kind: str, run: str) -> list[str]:
    make = t.passt if kind == "passt" else t.dense
    return [*make(run, *settings(kind)), "--device", "cuda"]


def free_port() -> str:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return str(s.getsockname()[1])


def train(t, words, ranks: int, refuse: str = "", odd: int = 0) -> list:
    """Ends of the ranks; rank `odd` is refused memory."""
    port, jobs = free_port(), []
    for rank in range(ranks):
        env = {"RANK": str(rank), "WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
               "LOCAL_RANK": str(rank)} if ranks > 1 else {}
        if refuse and rank == odd:
            env["SIM_REFUSE"] = refuse
        jobs.append(t.start(*words, env=env, program=t.tools.sim))
    return [t.end(job) for job in jobs]


def refuse_each(t, kind: str, ranks: int, fast: tuple) -> None:
    """Refuses each request in turn, until there is none left to refuse."""
    make = t.audio_data if kind == "passt" else t.dense_data
    make()
    for end in train(t, command(t, kind, "whole"), ranks):
        t.code(end, 0)
    for call in CALLS:
        refused = 0
        for n in itertools.count(1) if t.exhaustive else fast:
            t.forget("a")
            odd = n % ranks
            ends = train(t, command(t, kind, "a"), ranks, f"{call}:{n}", odd)
            if REFUSED not in ends[odd].err:
                break
            t.tries += 1
            refused += 1
            codes = [end.code for end in ends]
            if codes == [0] * ranks:  # done without that memory
                t.same_run("whole", "a", call, n)
                continue
            t.check(codes == [81] * ranks, call, n, "ends with", codes, *(end.err[-800:] for end in ends))
            t.says(ends[odd], "memory")
            t.clean("a", call, n)
        t.check(refused > 0, "no", call, "was ever refused")


@fault("memory of the GPU or pinned memory is refused (each cudaMalloc and cudaMallocHost in turn), PaSST",
       "out of memory is said, or done without: same bits", "81, or 0", needs=("sim",))
def passt(t):
    refuse_each(t, "passt", 1, (1, 4))


@fault("the same, Dense", "out of memory is said, or done without: same bits", "81, or 0", needs=("sim",))
def dense(t):
    refuse_each(t, "dense", 1, (1, 4))


@fault("the same, on one of two ranks", "all ranks end; or done without: same bits", "81, or 0", needs=("sim",))
def ranks(t):
    refuse_each(t, "passt", 2, (1, 4))
