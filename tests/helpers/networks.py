"""Networks whose trained weights are among the real data, and a small one with weights of chance."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline import Preprocessing

CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def squeezenet1_1() -> nn.Module:
    from torchvision.models import squeezenet1_1

    return squeezenet1_1()


squeezenet1_1.preprocessing = Preprocessing(
    size=(227, 227), mean=(123.0, 117.0, 104.0), std=(1.0, 1.0, 1.0), value_range=(0.0, 255.0)
)


def mobilenet_v2() -> nn.Module:
    from torchvision.models import mobilenet_v2

    return mobilenet_v2()


mobilenet_v2.preprocessing = Preprocessing(
    size=(224, 224), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), value_range=(-1.0, 1.0)
)


class SamePadding(nn.Conv2d):
    """A 3 x 3 convolution of stride 2 that pads even inputs as TensorFlow's "SAME" does: right and below only."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (0, 1, 0, 1)))


def mobilenet_v2_same() -> nn.Module:
    model = mobilenet_v2()
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.stride == (2, 2):
            module.padding = (0, 0)
            module.__class__ = SamePadding
    return model


mobilenet_v2_same.preprocessing = mobilenet_v2.preprocessing


class BasicBlock(nn.Module):
    """Two convolutions beside a shortcut without parameters (option A)."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.stride = 1 if inside == outside else 2
        self.conv1 = nn.Conv2d(inside, outside, 3, self.stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.stride == 2:
            padding = out.shape[1] // 4
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, padding, padding))
        return F.relu(out + x)


class ResNet20(nn.Module):
    """The CIFAR-10 ResNet-20 with functional ReLUs and residual adds."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(*(BasicBlock(16, 16) for _ in range(3)))
        self.layer2 = nn.Sequential(BasicBlock(16, 32), BasicBlock(32, 32), BasicBlock(32, 32))
        self.layer3 = nn.Sequential(BasicBlock(32, 64), BasicBlock(64, 64), BasicBlock(64, 64))
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(torch.flatten(F.avg_pool2d(x, x.shape[-1]), 1))


def resnet20_cifar() -> nn.Module:
    return ResNet20()


resnet20_cifar.preprocessing = Preprocessing(size=(32, 32), resize=None)
resnet20_cifar.class_names = CIFAR_CLASSES


def small(side: int = 12) -> nn.Module:
    """Three classes of pictures of `side` pixels."""
    torch.manual_seed(0)
    last = (side - 3) // 2 + 1
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3, stride=2), nn.ReLU(),
        nn.Flatten(), nn.Linear(6 * last * last, 3),
    ).eval()  # fmt: skip
