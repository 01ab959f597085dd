"""Golden values of the dense regressor: a torch.nn.Sequential of Linear and ReLU with the same
hashed weights and inputs as tests/nn/dense_test.cpp. Stored: predictions, MSE loss, gradients.

usage: python make_dense.py [OUT_FOLDER]
"""

import sys
from pathlib import Path

import numpy as np
import torch
from make_passt import hash_uniform


def hashed(name, *shape):
    values = np.float32(0.5) * hash_uniform(name, int(np.prod(shape)))
    return torch.from_numpy(values.reshape(shape)).double()


def main():
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    sizes, rows = [10, 17, 8, 2], 5
    layers = []
    for i, (fan_in, fan_out) in enumerate(zip(sizes, sizes[1:])):
        layer = torch.nn.Linear(fan_in, fan_out).double()
        with torch.no_grad():
            layer.weight.copy_(hashed(f"layers.{i}.weight", fan_out, fan_in))
            layer.bias.copy_(hashed(f"layers.{i}.bias", fan_out))
        layers += [layer, torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])
    y = model(2 * hashed("x", rows, sizes[0]))
    loss = torch.nn.functional.mse_loss(y, hashed("target", rows, sizes[-1]))
    loss.backward()
    gradients = [p.grad.flatten() for p in model.parameters()]
    values = torch.cat([y.detach().flatten(), loss.detach()[None], *gradients])
    np.save(out / "dense_train.npy", values.float().numpy())


if __name__ == "__main__":
    main()
