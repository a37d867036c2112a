"""What networks compute: their numbers, gradients, layouts and precisions, beside torchvision's and your own."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from fastcore.signals.networks import last_linear
from fastcore.train import networks
from tests.train import torchvision_schemas

FAMILIES = (
    "mlp",
    "lenet",
    "alexnet",
    "vgg11",
    "inception_v3",
    "resnet18",
    "resnet50",
    "wrn28_2",
    "mobilenet_v3_small",
)


def side(name: str) -> int:
    """ResNets take any size: a small one keeps the tests fast."""
    return 16 if "res" in name or "wrn" in name else 32


def made(name: str, channels: int = 3) -> tuple[nn.Module, torch.Tensor]:
    shape = (channels, side(name), side(name))
    generator = torch.Generator().manual_seed(0)
    return networks.build(name, shape=shape, classes=5, seed=1), torch.randn(4, *shape, generator=generator)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_step_is_finite_and_reaches_every_parameter(name):
    network, images = made(name)
    loss = nn.functional.cross_entropy(network(images), torch.tensor([0, 1, 2, 3]))
    loss.backward()
    assert loss.isfinite()
    assert loss < 20  # initialised, logits are of the order of one
    for each in network.parameters():
        assert each.grad.isfinite().all()
    # What a bias adds before batch norm is taken away again: only weights must matter.
    weights = [each for each in network.modules() if isinstance(each, nn.Conv2d | nn.Linear)]
    assert all(each.weight.grad.abs().max() > 0 for each in weights)


@pytest.mark.parametrize("name", FAMILIES)
def test_in_eval_mode_a_row_does_not_depend_on_its_batch(name):
    network, images = made(name)
    network.eval()
    with torch.no_grad():
        logits = network(images)
        alone = torch.cat([network(images[i : i + 1]) for i in range(len(images))])
        assert last_linear(network, images) is network.head
        assert torch.equal(logits, network.head(network.embedding(images)))
    torch.testing.assert_close(alone, logits, rtol=1e-3, atol=1e-4 * float(logits.abs().max()))


@pytest.mark.parametrize("name", FAMILIES)
def test_channels_last_gives_the_same(name):
    network, images = made(name)
    network.eval()
    with torch.no_grad():
        expected = network(images)
        network = network.to(memory_format=torch.channels_last)
        logits = network(images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("name", ["lenet", "vgg11", "inception_v3", "resnet18", "mobilenet_v3_small"])
def test_autocast_trains(name):
    network, images = made(name)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = network(images)
    assert logits.dtype == torch.bfloat16
    logits.float().logsumexp(1).sum().backward()
    assert all(each.grad.isfinite().all() for each in network.parameters())


@pytest.mark.parametrize("name", ["mlp", "lenet", "alexnet", "resnet18", "wrn28_2", "mobilenet_v3_small"])
def test_a_state_goes_from_one_network_to_another(name):
    network, images = made(name)
    network(images)  # the running means of batch norm are a part of the state
    shape = (3, side(name), side(name))
    other = networks.build(name, shape=shape, classes=5, seed=2)
    other.load_state_dict(copy.deepcopy(network.state_dict()))
    with torch.no_grad():
        assert torch.equal(network.eval()(images), other.eval()(images))


@pytest.mark.parametrize("name", ["vgg11", "resnet18", "resnet50", "inception_v3", "mobilenet_v3_large"])
def test_small_forms_are_torchvision_with_other_strides(name):
    models = torchvision_schemas.models()
    network, images = made(name)
    network(images)  # batch norm gets means and variances that matter
    options = {"aux_logits": False, "init_weights": False} if name == "inception_v3" else {}
    theirs = getattr(models, name + "_bn" * ("vgg" in name))(weights=None, num_classes=5, **options)
    if "resnet" in name:
        theirs.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        theirs.maxpool = nn.Identity()
    elif name == "inception_v3":
        theirs.maxpool1 = theirs.maxpool2 = nn.Identity()
    elif "vgg" in name:
        theirs.avgpool, theirs.classifier = nn.AdaptiveAvgPool2d(1), nn.Linear(512, 5)
    for kind in (nn.Conv2d, nn.BatchNorm2d):
        ours = [each for each in network.modules() if isinstance(each, kind)]
        for mine, their in zip(ours, (each for each in theirs.modules() if isinstance(each, kind))):
            if kind is nn.Conv2d:
                their.stride, their.padding = mine.stride, mine.padding
            else:
                their.eps = mine.eps
    values = list(network.state_dict().values())
    names = list(theirs.state_dict())
    assert len(values) == len(names)
    theirs.load_state_dict(dict(zip(names, values)))
    with torch.no_grad():
        expected = theirs.eval()(images)
        torch.testing.assert_close(network.eval()(images), expected, rtol=1e-4, atol=1e-5)


def test_wide_resnets_follow_their_paper():
    """One block by hand: norm, ReLU, convolution, twice; the shortcut starts after the first ReLU."""
    network, _ = made("wrn28_2")
    block = network.body[1]  # 16 -> 32 maps
    maps = torch.randn(2, 16, 8, 8)
    with torch.no_grad():
        active = maps.sub(maps.mean((0, 2, 3), keepdim=True))
        active = (active / (active.square().mean((0, 2, 3), keepdim=True) + 1e-5).sqrt()).relu()
        first = nn.functional.conv2d(active, block.branch[0].weight, padding=1)
        first = first.sub(first.mean((0, 2, 3), keepdim=True))
        first = (first / (first.square().mean((0, 2, 3), keepdim=True) + 1e-5).sqrt()).relu()
        expected = nn.functional.conv2d(first, block.branch[2].weight, padding=1)
        expected += nn.functional.conv2d(active, block.shortcut.weight)
        torch.testing.assert_close(block(maps), expected, rtol=1e-4, atol=1e-4)
        same = network.body[2]  # 32 -> 32 maps: the input itself is added
        for parameter in same.branch.parameters():
            parameter.zero_()
        maps = torch.randn(2, 32, 8, 8)
        assert torch.equal(same(maps), maps)


OWN = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        first = nn.Conv2d(shape[0], 4, 3), nn.BatchNorm2d(4)
        self.layers = nn.Sequential(*first, nn.Flatten(), nn.LazyLinear(classes))
    def forward(self, x):
        return {"logits": self.layers(x)}

class Nets:
    small = Net

def make(shape, classes):
    return Net(shape, classes)

def wrong_classes(shape, classes):
    return Net(shape, classes + 1)

def wrong_shape(shape, classes):
    return Net((shape[0] + 1, 8, 8), classes)

def no_module(shape, classes):
    return "a network"
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_networks.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)


def test_a_network_of_your_own(own):
    network = networks.build("own_networks:make", shape=(1, 8, 8), classes=3, seed=0)
    again = networks.build("own_networks:Nets.small", shape=(1, 8, 8), classes=3, seed=0)
    assert type(network).__name__ == "Net"
    assert network.training
    norm = network.layers[1]
    assert norm.num_batches_tracked == 0
    assert torch.equal(norm.running_var, torch.ones(4))  # the trial batch left no trace
    first, second = network.state_dict(), again.state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert network(torch.zeros(2, 1, 8, 8))["logits"].shape == (2, 3)


@pytest.mark.parametrize(
    ("function", "error", "words"),
    [
        ("wrong_classes", ValueError, r"must give logits of shape \(2, 3\) .*got \(2, 4\)"),
        ("wrong_shape", ValueError, r"fails for images of shape \(1, 8, 8\)"),
        ("no_module", TypeError, "must make a torch.nn.Module, got str"),
    ],
)
def test_a_network_of_your_own_that_cannot_work(own, function, error, words):
    with pytest.raises(error, match=words) as caught:
        networks.build(f"own_networks:{function}", shape=(1, 8, 8), classes=3)
    assert "\n" not in str(caught.value)


def test_a_network_of_your_own_whose_module_is_broken(tmp_path, monkeypatch):
    """An error of the user's code is the user's to see, whole."""
    (tmp_path / "broken_networks.py").write_text("raise ValueError('mine')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="^mine$"):
        networks.build("broken_networks:make", shape=(1, 8, 8), classes=3)
