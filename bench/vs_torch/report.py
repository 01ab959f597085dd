"""Tables of the comparison with PyTorch, from the JSON that it leaves."""
import json
import pathlib
import re

FILE = "vs_torch.json"
# README.md shows these rows, of the device that its marker names.
SHOWN = re.compile(r"^(passt_|peak_memory/passt_train/(10|30)s$|attention_forward_backward|dense_|mel/torchaudio|"
                   r"mel/public|mp3|adamw|gemm/(fc1_gelu|qkv)/M=1434|checkpoint|startup|build|size)")
MARK = re.compile(r"(<!-- from (bench/results/[^ ]+) by \./dev bench --vs-torch -->\n).*?(<!-- end -->)", re.DOTALL)
BUSY_CORES = 0.2  # a row that was disturbed by more says so
HEAD = ["| row | onpa | PyTorch's best | ratio (95 %) | target | met | onpa's rate | PyTorch's rate |",
        "|---|---|---|---|---|---|---|---|"]


def number(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def rate(result: dict, side: str) -> str:
    if "rate" not in result[side]:
        return ""
    share = result[side].get("share_of_limit")
    text = f"{number(result[side]['rate'])} {result['rate_unit']}"
    return text if share is None else f"{text}, {100 * share:.0f} %"


def met(result: dict) -> str:
    parts = ["yes" if result["met"] else f"short by {100 * result['short_by']:.0f} %"]
    if not result["met"] and "ratio_at_limit" in result:
        parts.append(f"{result['ratio_at_limit']:.2f} at the machine's limit")
    for want in result.get("also", []):
        wanted = "" if want["met"] else f", want {number(want['want'])}"
        parts.append(f"{number(want['value'])} {want['what']}{wanted}")
    busy = result["machine"].get("cores_busy_with_others", 0) if "machine" in result else 0
    if busy > BUSY_CORES:
        parts.append(f"other processes kept {busy:.1f} cores busy")
    return "; ".join(parts)


def line(result: dict) -> str:
    if "failed" in result:
        reason = " ".join(result["failed"].replace("|", "/").split())[:300]
        return f"| {result['name']} | failed: {reason} | | | {number(result['target'])} | no | | |"
    unit = result["unit"]
    interval = result.get("interval")
    spread = f" ({interval[0]:.2f} to {interval[1]:.2f})" if interval else ""
    way = result.get("our_best", "").removeprefix("onpa").strip()
    return (f"| {result['name']} | {number(result['ours']['median'])} {unit}{': ' + way if way else ''} | "
            f"{number(result['theirs']['median'])} {unit}: {result['best']} | {result['ratio']:.2f}{spread} | "
            f"{number(result['target'])} | {met(result)} | {rate(result, 'ours')} | {rate(result, 'theirs')} |")


def readme_lines(data: dict) -> list[str]:
    lines = ["| | onpa | PyTorch's best | ratio (95 %) | at least | most possible |", "|---|---|---|---|---|---|"]
    for row in data["rows"]:
        if SHOWN.match(row["name"]) and "failed" not in row:
            most = f"{row['ratio_at_limit']:.2f}" if "ratio_at_limit" in row else ""
            spread = f" ({row['interval'][0]:.2f} to {row['interval'][1]:.2f})" if row.get("interval") else ""
            lines.append(f"| {row['name']} | {number(row['ours']['median'])} {row['unit']} | "
                         f"{number(row['theirs']['median'])} {row['unit']} | {row['ratio']:.2f}{spread} | "
                         f"{number(row['target'])} | {most} |")
    return lines


def with_table(readme: str, root: pathlib.Path) -> str:
    """README.md with the table between its markers made anew from the JSON that they name, where it is there."""
    def fresh(match: re.Match) -> str:
        if not (root / match[2]).exists():
            return match[0]
        return match[1] + "\n".join(readme_lines(json.loads((root / match[2]).read_text()))) + "\n" + match[3]

    return MARK.sub(fresh, readme)


def growth_lines(growth: dict) -> list[str]:
    lines = []
    for name, part in growth.items():
        if not isinstance(part, dict):
            continue
        columns = list(part["rows"][0])
        lines += ["", f"Growth: {name.replace('_', ' ')}." + (
            f" Fit of a step: {number(part['fit']['constant_ms'])} ms + {number(part['fit']['us_per_token'])} us x N + "
            f"{number(part['fit']['ns_per_token_squared'])} ns x N^2." if "fit" in part else ""), "",
            "| " + " | ".join(c.replace("_", " ") for c in columns) + " |", "|" + "---|" * len(columns)]
        lines += ["| " + " | ".join(number(row[c]) for c in columns) + " |" for row in part["rows"]]
    return lines


def table(data: dict) -> list[str]:
    """One device's comparison as Markdown."""
    versions = data["versions"]
    packages = ", ".join(f"{n} {versions[n]}" for n in ("torch", "torchaudio", "torchcodec") if versions.get(n))
    limits = data["limits"]
    commits = sorted({row["commit"] for row in data["rows"]})
    busy = [row["machine"].get("cores_busy_with_others", 0) for row in data["rows"] if "machine" in row]
    lines = [f"{packages}; {data['threads']} threads on each side unless the row says otherwise; commit "
             f"{', '.join(commits)}. At the start the machine did {limits['gflops']:.0f} GFLOP/s of multiply-adds, copy "
             f"{limits['copy_gbytes']:.1f} GB/s (PyTorch's own {limits['torch_copy_gbytes']:.1f}). Other processes kept up "
             f"to {max(busy, default=0):.2f} cores busy during a row.", "", *HEAD]
    lines += [line(row) for row in data["rows"]]
    return lines + growth_lines(data.get("growth", {}))


def section(results: pathlib.Path) -> list[str]:
    """The part of bench/results/README.md."""
    lines = ["## Against PyTorch on the CPU", "",
             "From `./dev bench --vs-torch`: onpa and the newest PyTorch alternate on the same inputs, after their",
             "results were found equal. Theirs is the fastest of the ways tried (C++ or Python, eager or compiled,",
             "threads; the JSON has all). The ratio is their median over ours, with a bootstrap interval over rounds;",
             "a percentage beside a rate is the share of what the machine could do in the same rounds (multiply-adds in",
             "registers, or a copy): a ratio cannot exceed 100 % over theirs.", ""]
    found = sorted(results.glob(f"*/{FILE}"))
    for path in found:
        lines += [f"### {path.parent.name}", "", *table(json.loads(path.read_text())), ""]
    return lines if found else lines + ["No run yet.", ""]
