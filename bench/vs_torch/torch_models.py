"""Rows of whole models in PyTorch: training steps, evaluations, epochs."""
import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from torch_kernels import compiled

HEADS, WIDTH, DEPTH, PATCH, STRIDE, PREFIX = 12, 768, 12, 16, 10, 2
NORM_EPS, HEAD_NORM_EPS = 1e-6, 1e-5
PASST_RATE, DENSE_RATE, WEIGHT_DECAY = 1e-5, 1e-3, 1e-4
DENSE_BATCH = 512
CHECKED_PASST_STEPS, CHECKED_DENSE_STEPS = 2, 20
CHECKED_GRADIENTS = ("patch_embed.proj.weight", "blocks.5.attn.qkv.weight", "head.1.weight")


class Block(torch.nn.Module):
    def __init__(self, queries: int):
        super().__init__()
        self.queries = queries  # 0: all
        self.norm1, self.norm2 = torch.nn.LayerNorm(WIDTH, NORM_EPS), torch.nn.LayerNorm(WIDTH, NORM_EPS)
        self.attn, self.mlp = torch.nn.Module(), torch.nn.Module()
        self.attn.qkv, self.attn.proj = torch.nn.Linear(WIDTH, 3 * WIDTH), torch.nn.Linear(WIDTH, WIDTH)
        self.mlp.fc1, self.mlp.fc2 = torch.nn.Linear(WIDTH, 4 * WIDTH), torch.nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x):
        batch, tokens, _ = x.shape
        q, k, v = self.attn.qkv(self.norm1(x)).view(batch, tokens, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        if self.queries:  # the head reads the leading tokens only
            q, x = q[:, :, : self.queries], x[:, : self.queries]
        mixed = F.scaled_dot_product_attention(q, k, v)
        x = x + self.attn.proj(mixed.transpose(1, 2).flatten(2))
        return x + self.mlp.fc2(F.gelu(self.mlp.fc1(self.norm2(x))))


class Passt(torch.nn.Module):
    """passt-s as nn::Passt: kept patches only, parameters by their published names."""

    def __init__(self, args: dict):
        super().__init__()
        self.checkpointed = False  # blocks keep their input alone and run again in backward
        columns, table = (args["frames"] - PATCH) // STRIDE + 1, args["table_t"]
        keep = torch.tensor(args["keep"] or range(12 * columns))
        self.row, self.column = keep // columns, keep % columns
        for name, shape in (("cls_token", (1, 1, WIDTH)), ("dist_token", (1, 1, WIDTH)),
                            ("new_pos_embed", (1, PREFIX, WIDTH)), ("freq_new_pos_embed", (1, WIDTH, 12, 1)),
                            ("time_new_pos_embed", (1, WIDTH, 1, table))):
            self.register_parameter(name, torch.nn.Parameter(torch.empty(shape)))
        self.patch_embed = torch.nn.Module()
        self.patch_embed.proj = torch.nn.Conv2d(1, WIDTH, PATCH, STRIDE)
        self.blocks = torch.nn.ModuleList(Block(PREFIX if i + 1 == DEPTH else 0) for i in range(DEPTH))
        self.norm = torch.nn.LayerNorm(WIDTH, NORM_EPS)
        self.head = torch.nn.Sequential(torch.nn.LayerNorm(WIDTH, HEAD_NORM_EPS), torch.nn.Linear(WIDTH, 1))

    def forward(self, mel):
        patches = mel.unfold(1, PATCH, STRIDE).unfold(2, PATCH, STRIDE)[:, self.row, self.column].flatten(2)
        x = F.linear(patches, self.patch_embed.proj.weight.view(WIDTH, -1), self.patch_embed.proj.bias)
        x = x + self.freq_new_pos_embed.view(WIDTH, -1).t()[self.row]
        x = x + self.time_new_pos_embed.view(WIDTH, -1).t()[self.column]
        prefix = torch.cat([self.cls_token, self.dist_token], 1) + self.new_pos_embed
        x = torch.cat([prefix.expand(len(mel), -1, -1), x], 1)
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if self.checkpointed else block(x)
        features = self.norm(x).mean(1)
        return self.head(features), features


def passt_model(job: dict, inputs: dict) -> Passt:
    model = Passt(job["args"])
    parameters = {n: v for n, v in inputs.items() if n not in ("mel", "target")}
    model.load_state_dict(parameters, assign=True)
    return model.requires_grad_()


def passt_evaluate(job: dict, inputs: dict):
    model = compiled(passt_model(job, inputs).eval(), job["variant"])

    def run():
        with torch.no_grad():
            return model(inputs["mel"])

    return lambda: dict(zip(("logits", "features"), run())), run


def passt_train(job: dict, inputs: dict):
    plain = passt_model(job, inputs)
    plain.checkpointed = job["variant"].endswith("checkpointed")
    model = compiled(plain, job["variant"])
    optimizer = torch.optim.AdamW(plain.parameters(), lr=PASST_RATE, weight_decay=WEIGHT_DECAY, fused=True)

    def step():
        loss = F.mse_loss(model(inputs["mel"])[0], inputs["target"])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.item()

    def check():
        losses = [step()]
        gradients = {f"gradient of {n}": plain.get_parameter(n).grad.clone() for n in CHECKED_GRADIENTS}
        losses += [step() for _ in range(CHECKED_PASST_STEPS - 1)]
        return gradients | {"losses": torch.tensor(losses)}

    return check, step


class Dense(torch.nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.layers = torch.nn.ModuleList([torch.nn.Linear(10, width), torch.nn.Linear(width, width),
                                           torch.nn.Linear(width, 1)])

    def forward(self, x):
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


def module_step(model: Dense, variant: str):
    """A step as most programs have it: the model, its loss, the fused optimizer."""
    forward = compiled(model, variant)
    optimizer = torch.optim.AdamW(model.parameters(), lr=DENSE_RATE, weight_decay=WEIGHT_DECAY, fused=True)

    def step(x, y):
        loss = F.mse_loss(forward(x), y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss

    return step


def whole_step(model: Dense):
    """Forward, backward and update as one compiled graph."""
    names = [n for n, _ in model.named_parameters()]
    values = [p.detach() for p in model.parameters()]
    first, second = [torch.zeros_like(p) for p in values], [torch.zeros_like(p) for p in values]
    count = torch.zeros(())

    def loss_of(parameters, x, y):
        return F.mse_loss(torch.func.functional_call(model, dict(zip(names, parameters)), (x,)), y)

    def update(values, first, second, count, x, y):
        gradients, loss = torch.func.grad_and_value(loss_of)(values, x, y)
        count.add_(1)
        first_scale, second_scale = 1 - 0.9**count, 1 - 0.999**count
        for p, g, m, v in zip(values, gradients, first, second):
            m.lerp_(g, 0.1)
            v.mul_(0.999).addcmul_(g, g, value=0.001)
            p.mul_(1 - DENSE_RATE * WEIGHT_DECAY)
            p.sub_(DENSE_RATE * (m / first_scale) / ((v / second_scale).sqrt() + 1e-8))
        return loss

    step = torch.compile(update, dynamic=False)

    def run(x, y):
        with torch.no_grad():
            return step(values, first, second, count, x, y)

    return run


def dense(job: dict, inputs: dict):
    model = Dense(job["args"]["width"])
    x, y = inputs.pop("x"), inputs.pop("y")
    model.load_state_dict(inputs, assign=True)
    model.requires_grad_()
    step = whole_step(model) if job["variant"].startswith("whole step") else module_step(model, job["variant"])

    def ordered_step(index: int) -> float:
        begin = index * DENSE_BATCH % (len(x) - DENSE_BATCH + 1)
        return step(x[begin : begin + DENSE_BATCH], y[begin : begin + DENSE_BATCH]).item()

    def epoch():
        for chosen in torch.randperm(len(x)).split(DENSE_BATCH):
            if len(chosen) == DENSE_BATCH:
                step(x[chosen], y[chosen]).item()

    def check():
        return {"losses": torch.tensor([ordered_step(i) for i in range(CHECKED_DENSE_STEPS)])}

    return check, epoch if job["args"]["epoch"] else lambda: ordered_step(0)


KINDS = {"passt_evaluate": passt_evaluate, "passt_train": passt_train, "dense": dense}
