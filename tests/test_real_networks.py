"""The three trained networks of the real data recognise as many of its photographs as its README counts.

A wrong crop, mean, channel order or padding costs each of these counts far more than the three pictures allowed.
"""

import pytest
import torch

from sightline import load_images, load_model

ALLOWED = 3


def correct(model, images, truth, k):
    with torch.no_grad():
        scores = torch.cat([model(chunk) for chunk in images.tensor.split(25)])
    hits = scores.topk(k).indices == torch.tensor(truth)[:, None]
    return int(hits.any(1).sum())


@pytest.mark.parametrize(
    ("factory", "weights", "top1", "top5"),
    [
        ("squeezenet1_1", "squeezenet1_1_imagenet_fp16.pt", 163, 208),
        ("mobilenet_v2_same", "mobilenet_v2_imagenet_fp16.pt", 219, 244),
    ],
)
def test_imagenet_counts(data_dir, networks_file, factory, weights, top1, top5):
    pytest.importorskip("torchvision")
    model = load_model(f"{networks_file}:{factory}", weights=data_dir / "weights" / weights)
    images = load_images(data_dir / "images" / "imagenet", model)
    truth = [int(name.split("_")[0]) for name in images.names]
    assert len(images) == 250
    assert correct(model, images, truth, 1) == pytest.approx(top1, abs=ALLOWED)
    assert correct(model, images, truth, 5) == pytest.approx(top5, abs=ALLOWED)


def test_cifar_count(data_dir, networks_file):
    model = load_model(f"{networks_file}:resnet20_cifar", weights=data_dir / "weights" / "resnet20_cifar10.pt")
    images = load_images(data_dir / "images" / "cifar10" / "val", model)
    truth = [model.sightline_info.class_names.index(label) for label in images.labels]
    assert len(images) == 912
    assert correct(model, images, truth, 1) == pytest.approx(685, abs=ALLOWED)
