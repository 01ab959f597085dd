"""Rows of single ops in PyTorch. Each kind is a function (job, inputs) -> (check, run)."""
import torch
import torch.nn.functional as F

NORM_EPS = 1e-6
CHECKED_UPDATES = 3


def compiled(function, variant: str):
    """`function` as the variant's name says: eager, compiled, or compiled with frozen weights."""
    if variant.startswith("eager"):
        return function
    torch._inductor.config.freezing = variant.startswith("frozen")
    return torch.compile(function, dynamic=False)


def op(job: dict, forward, leaves: dict[str, torch.Tensor], dy: torch.Tensor | None):
    """`forward` alone, or with the gradients of `leaves` for the gradient dy of its result."""
    if not job["args"]["backward"]:

        def run():
            with torch.no_grad():
                return forward()

        return lambda: {"y": run()}, run
    tensors = list(leaves.values())

    def both():
        y = forward()
        return y, torch.autograd.grad(y, tensors, dy)

    def check():
        y, gradients = both()
        return {"y": y} | {f"d{name}": g for name, g in zip(leaves, gradients)}

    return check, both


class Linear(torch.nn.Module):
    """A module, so that freezing takes the weight for a constant."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, gelu: bool):
        super().__init__()
        self.weight, self.bias, self.gelu = torch.nn.Parameter(weight), torch.nn.Parameter(bias), gelu

    def forward(self, x):
        y = F.linear(x, self.weight, self.bias)
        return F.gelu(y) if self.gelu else y


def packed(library: str, inputs: dict, gelu: bool):
    """A library's linear with the weight in its own layout, made beforehand, as frozen models have it."""
    x, plain, bias = inputs["x"], inputs["weight"], inputs["bias"]
    if library == "oneDNN":
        weight = torch.ops.mkldnn._reorder_linear_weight(plain, len(x))
        activation, algorithm = ("gelu", "none") if gelu else ("none", "")
        return lambda: torch.ops.mkldnn._linear_pointwise(x, weight, bias, activation, [], algorithm)
    weight = torch.ops.mkl._mkl_reorder_linear_weight(plain, len(x))

    def run():
        y = torch.ops.mkl._mkl_linear(x, weight, plain, bias, len(x))
        return F.gelu(y) if gelu else y

    return run


def linear(job: dict, inputs: dict):
    if job["variant"].startswith("packed"):
        return op(job, packed(job["variant"].split()[1], inputs, job["args"]["gelu"]), {}, None)
    model = compiled(Linear(inputs["weight"], inputs["bias"], job["args"]["gelu"]).eval(), job["variant"])
    x = inputs["x"]
    return op(job, lambda: model(x), {}, None)


def attention(job: dict, inputs: dict):
    heads = job["args"]["heads"]
    qkv = inputs["qkv"].requires_grad_(job["args"]["backward"])

    def work(packed):
        batch, tokens, width = packed.shape
        q, k, v = packed.view(batch, tokens, 3, heads, -1).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, tokens, width // 3)

    function = compiled(work, job["variant"])
    return op(job, lambda: function(qkv), {"qkv": qkv}, inputs["dy"])


def layer_norm(job: dict, inputs: dict):
    leaves = {name: inputs[name].requires_grad_() for name in ("x", "weight", "bias")}
    function = compiled(lambda x, w, b: F.layer_norm(x, (x.shape[-1],), w, b, NORM_EPS), job["variant"])
    return op(job, lambda: function(*leaves.values()), leaves, inputs["dy"])


def gelu(job: dict, inputs: dict):
    x = inputs["x"].requires_grad_()
    function = compiled(lambda x: F.gelu(x), job["variant"])
    return op(job, lambda: function(x), {"x": x}, inputs["dy"])


def filled(count: int, value: float) -> torch.Tensor:
    return (torch.arange(count, dtype=torch.int32) % 7 + 1).float() * value


def adamw(job: dict, _):
    """ "fused": one flat tensor and the fused kernel; "fused many": tensors as a model has them."""
    count = job["args"]["count"]
    sizes = [count] if job["variant"] != "fused many" else [count // 160] * 159 + [count - count // 160 * 159]
    parameters = [torch.nn.Parameter(p) for p in filled(count, 0.01).split(sizes)]
    optimizer = torch.optim.AdamW(parameters, lr=1e-5, weight_decay=1e-4, fused=True)
    state = zip(parameters, *(filled(count, v).split(sizes) for v in (1e-3, 1e-3, 1e-6)))
    for parameter, gradient, first, second in state:
        parameter.grad = gradient
        optimizer.state[parameter] = {"step": torch.zeros(()), "exp_avg": first, "exp_avg_sq": second}

    def check():
        for _ in range(CHECKED_UPDATES):
            optimizer.step()
        states = [optimizer.state[p] for p in parameters]
        return {"param": torch.cat([p.detach() for p in parameters]),
                "m": torch.cat([s["exp_avg"] for s in states]),
                "v": torch.cat([s["exp_avg_sq"] for s in states])}

    return check, optimizer.step


def copy(job: dict, _):
    """Not a row: the bandwidth of PyTorch's own copy, beside onpa's."""
    source = filled(job["args"]["count"], 1)
    target = torch.empty_like(source)
    return lambda: {"copy": target.copy_(source)}, lambda: target.copy_(source)


KINDS = {"linear": linear, "attention": attention, "layer_norm": layer_norm, "gelu": gelu, "adamw": adamw,
         "copy": copy}
