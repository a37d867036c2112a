"""Networks by name: how they are built for every size, how large they are, and what is refused."""

from __future__ import annotations

import functools
import sys

import pytest
import torch
from torch import nn

from fastcore.signals.networks import last_linear
from fastcore.train import networks
from tests.train import torchvision_schemas

SIZES = ((1, 28, 28), (3, 32, 32), (3, 64, 64), (3, 224, 224))
OURS = {"mlp", "lenet", "wrn16_8", "wrn28_10", "wrn28_2"}  # at every size
# A size changes in the deeper ones what it changes in the shallow ones of the family.
DEEP = {"vgg13", "vgg16", "vgg19", "resnet34", "resnet101", "resnet152", "wrn28_10", "wrn50_2", "wrn101_2"}

# At 3 x 32 x 32 with 10 classes. ResNet-18, VGG-16 and the WRNs are the counts that papers and code agree on.
PARAMETERS = {
    "mlp": 411_146,
    "lenet": 62_006,
    "alexnet": 1_872_202,
    "vgg11": 9_231_114,
    "vgg13": 9_416_010,
    "vgg16": 14_728_266,
    "vgg19": 20_040_522,
    "inception_v3": 21_806_058,
    "resnet18": 11_173_962,
    "resnet34": 21_282_122,
    "resnet50": 23_520_842,
    "resnet101": 42_512_970,
    "resnet152": 58_156_618,
    "wrn16_8": 10_961_370,
    "wrn28_10": 36_479_194,
    "wrn28_2": 1_467_610,
    "wrn50_2": 66_847_050,
    "wrn101_2": 124_850_506,
    "mobilenet_v3_large": 4_214_842,
    "mobilenet_v3_small": 1_528_106,
}


@functools.cache
def on_meta(name: str, shape: tuple[int, int, int], classes: int = 10) -> nn.Module:
    """A network without numbers: its shapes cost nothing."""
    with torch.device("meta"):
        return networks.build(name, shape=shape, classes=classes)


def count(network: nn.Module) -> int:
    return sum(each.numel() for each in network.parameters())


def test_the_names_are_those_of_the_protocol():
    assert networks.names() == list(PARAMETERS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_at_32_pixels(name):
    assert count(on_meta(name, (3, 32, 32))) == PARAMETERS[name]


@pytest.mark.parametrize(
    ("name", "shape"),
    [(name, shape) for name in PARAMETERS for shape in SIZES if name not in DEEP or shape[1] in (32, 224)],
    ids=str,
)
def test_every_network_at_every_size(name, shape):
    if shape[1] == 224 and name not in OURS:
        torchvision_schemas.models()
    network = on_meta(name, shape)
    h = network.embedding(torch.empty(2, *shape, device="meta"))
    assert h.shape == (2, network.head.in_features)
    logits = network.head(h)
    assert logits.shape == (2, 10)
    logits.sum().backward()
    assert all(each.grad is not None for each in network.parameters())
    # Adaptive pooling to more than one pixel, or of the maximum, has no deterministic backward pass on CUDA.
    for module in network.modules():
        assert not isinstance(module, nn.AdaptiveMaxPool2d)
        if isinstance(module, nn.AdaptiveAvgPool2d):
            assert module.output_size in (1, (1, 1))


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 1, 1), (2, 33, 47), (4, 95, 20)], ids=str)
@pytest.mark.parametrize(
    "name", ["mlp", "lenet", "alexnet", "vgg11", "inception_v3", "resnet18", "wrn28_2", "mobilenet_v3_small"]
)
def test_other_sizes(name, shape):
    assert on_meta(name, shape, 3)(torch.empty(2, *shape, device="meta")).shape == (2, 3)


def test_64_pixels_cost_a_resnet_what_32_do():
    maps = []
    for side in (32, 64):
        stem = on_meta("resnet18", (3, side, side)).body[0]
        maps.append(stem(torch.empty(1, 3, side, side, device="meta")).shape)
    assert maps[0] == maps[1] == (1, 64, 32, 32)


def test_lenet_frames_mnist_as_its_first_convolution_would_pad_it():
    network = networks.build("lenet", shape=(1, 28, 28), classes=10, seed=0)
    images = torch.randn(3, 1, 28, 28)
    convolution = network.body[1]
    padded = nn.functional.conv2d(images, convolution.weight, convolution.bias, padding=2)
    assert torch.equal(network.body[:2](images), padded)


def test_a_seed_alone_decides_the_initialisation():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = networks.build("lenet", shape=(1, 28, 28), classes=10, seed=5).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again = networks.build("lenet", shape=(1, 28, 28), classes=10, seed=5).state_dict()
    other = networks.build("lenet", shape=(1, 28, 28), classes=10, seed=6).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not any(torch.equal(first[key], other[key]) for key in first)


def test_without_a_seed_the_global_generator_decides():
    made = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        made.append(networks.build("mlp", shape=(1, 8, 8), classes=10).head.weight)
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


def test_convolutions_are_drawn_by_fan_out():
    weight = networks.build("resnet18", shape=(3, 32, 32), classes=10, seed=0).body[-3].branch[1][0].weight
    assert weight.std().item() == pytest.approx((2 / (512 * 9)) ** 0.5, rel=0.01)


def test_torchvision_networks_keep_their_own_parts():
    torchvision_schemas.models()
    expected = {"alexnet": 4096, "mobilenet_v3_large": 1280, "resnet50": 2048, "inception_v3": 2048}
    published = {"alexnet": 61_100_840, "resnet50": 25_557_032, "mobilenet_v3_large": 5_483_032}
    for name, width in expected.items():
        network = on_meta(name, (3, 224, 224), 1000)
        assert network.head.in_features == width
        assert count(network) == published.get(name, count(network))


def test_a_torchvision_network_gives_head_of_embedding():
    torchvision_schemas.models()
    network = networks.build("mobilenet_v3_small", shape=(3, 96, 96), classes=5, seed=0).eval()
    again = networks.build("mobilenet_v3_small", shape=(3, 96, 96), classes=5, seed=0).eval()
    images = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        assert torch.equal(network(images), again(images))
        assert torch.equal(network(images), network.head(network.embedding(images)))
        assert last_linear(network, images) is network.head


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"name": "resnet19"}, ValueError, "did you mean 'resnet18'"),
        ({"name": "zebra"}, ValueError, "got 'zebra': there are mlp, lenet"),
        ({"name": None}, ValueError, "got None"),
        ({"shape": (32, 32)}, ValueError, r"shape must be .* got \(32, 32\)"),
        ({"shape": (3, 0, 32)}, ValueError, "shape must be an integer of at least 1, got 0"),
        ({"classes": 0}, ValueError, "classes must be an integer of at least 1, got 0"),
        ({"classes": 2.0}, TypeError, "classes must be an integer, got 2.0"),
        ({"seed": -1}, ValueError, "seed must be an integer of at least 0, got -1"),
        ({"name": "nowhere_at_all:make"}, ValueError, "cannot import 'nowhere_at_all'.*PYTHONPATH"),
        ({"name": "math:nothing"}, ValueError, "math has no 'nothing'"),
        ({"name": "math:pi"}, TypeError, "must name a function, got float"),
        ({"name": "math:"}, ValueError, "package.module:function"),
        ({"name": ":make"}, ValueError, "package.module:function"),
    ],
)
def test_refused(arguments, error, words):
    with pytest.raises(error, match=words) as caught:
        networks.build(**{"name": "mlp", "shape": (3, 32, 32), "classes": 10, **arguments})
    assert "\n" not in str(caught.value)


def test_without_torchvision_large_images_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(ValueError, match=r"'resnet18' at 3 x 224 x 224.*pip install torchvision$"):
        networks.build("resnet18", shape=(3, 224, 224), classes=10)
    with torch.device("meta"):
        for name in OURS:
            networks.build(name, shape=(3, 224, 224), classes=10)


def test_torchvision_networks_take_three_channels():
    torchvision_schemas.models()
    with pytest.raises(
        ValueError, match="'resnet18' takes images of 3 channels at this size, got 1 x 224 x 224"
    ):
        networks.build("resnet18", shape=(1, 224, 224), classes=10)
