"""Weights that travel: safetensors out and in, and files that are not what they claim."""

from __future__ import annotations

import pickle

import pytest
import torch

from fexgan_lit.runs.weights import load_weights, save_weights
from fexgan_lit.systems.checkpoints import read_checkpoint
from fexgan_lit.systems.fexgan.config import FExGANSettings
from fexgan_lit.systems.fexgan.losses import FExGANLossSettings
from fexgan_lit.systems.fexgan.system import DualOptimizerSettings, FExGAN
from fexgan_lit.utils.errors import UserError


def make_system(seed: int = 0, width: float = 0.05) -> FExGAN:
    torch.manual_seed(seed)
    model = FExGANSettings(image_size=32, width=width, latent_size=8)
    return FExGAN(model, FExGANLossSettings(), DualOptimizerSettings(), ["a", "b", "c"]).eval()


def test_round_trip_keeps_every_answer_and_the_fitted_prior(tmp_path):
    first, second = make_system(0), make_system(1)
    first.prior.fit(torch.randn(60, 8, generator=torch.Generator().manual_seed(0)))
    save_weights(first, tmp_path)
    load_weights(second, tmp_path)
    x, want = torch.rand(2, 3, 32, 32), first.expression([0, 2])
    assert torch.equal(first.synthesize(x, None, want), second.synthesize(x, None, want))
    assert torch.equal(first.classify(x).affect, second.classify(x).affect)
    draws = [s.sample(4, s.expression([0] * 4), "fitted", torch.Generator().manual_seed(3)) for s in (first, second)]
    assert torch.equal(*draws)


def test_fitted_prior_follows_the_codes():
    system = make_system()
    g = torch.Generator().manual_seed(0)
    codes = torch.cat([5 + torch.randn(200, 8, generator=g), -5 + torch.randn(200, 8, generator=g)])
    system.prior.fit(codes)
    drawn = system.prior.sample(2000, g)
    assert drawn.mean().abs() < 0.5
    assert (drawn.mean(1).abs() > 3).float().mean() > 0.99, "nothing between the two clusters"
    assert 0.4 < (drawn.mean(1) > 0).float().mean() < 0.6


def test_files_that_do_not_fit_are_named(tmp_path):
    save_weights(make_system(), tmp_path)
    with pytest.raises(UserError, match=r"encoder\.safetensors belongs to networks of another size"):
        load_weights(make_system(width=0.1), tmp_path)
    (tmp_path / "decoder.safetensors").write_bytes(b"not tensors")
    with pytest.raises(UserError, match=r"decoder\.safetensors is not a complete safetensors file"):
        load_weights(make_system(), tmp_path)
    (tmp_path / "decoder.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r"decoder\.safetensors is not a complete .* file: it is empty \(0 bytes\)"):
        load_weights(make_system(), tmp_path)
    (tmp_path / "decoder.safetensors").unlink()
    with pytest.raises(UserError, match=r"decoder\.safetensors is missing"):
        load_weights(make_system(), tmp_path)


class Bomb:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code ran')",))


def test_a_checkpoint_cannot_run_code(tmp_path):
    path, bomb = tmp_path / "last.ckpt", {"state_dict": Bomb(), "iteration": 1}
    for write in (lambda: torch.save(bomb, path), lambda: path.write_bytes(pickle.dumps(bomb))):
        write()
        with pytest.raises(UserError, match=r"last\.ckpt is not a training checkpoint"):
            read_checkpoint(path)
    torch.save({"weights": torch.zeros(1)}, path)
    with pytest.raises(UserError, match="weights or the iteration count are missing"):
        read_checkpoint(path)
