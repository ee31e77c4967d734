"""A small residual network that learns the Creatures in about a minute on two cores."""

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812 (the name torch's own documentation gives it)
from jaxtyping import Float
from torch import Tensor, nn

from sightline.demo.creatures import Creatures, encode
from sightline.errors import InputError


class Block(nn.Module):
    """Two 3x3 convolutions and the path around them."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.around = nn.Sequential()
        if stride != 1 or channels_in != channels:
            self.around.append(nn.Conv2d(channels_in, channels, 1, stride, bias=False))
            self.around.append(nn.BatchNorm2d(channels))

    def forward(
        self, x: Float[Tensor, "batch channels_in height width"]
    ) -> Float[Tensor, "batch channels height_out width_out"]:
        """Maps features to features."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out)) + self.around(x)
        return F.relu(out)


class SmallResNet(nn.Module):
    """An ordinary residual network for small pictures; its last features are an eighth of the picture's side.

    Args:
        classes: How many logits it gives.
        width: Channels behind the first convolution; the blocks have two, four and four times as many.
    """

    def __init__(self, classes: int = 4, width: int = 16) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = Block(width, 2 * width, 2)
        self.layer2 = Block(2 * width, 4 * width, 2)
        self.layer3 = Block(4 * width, 4 * width, 1)
        self.fc = nn.Linear(4 * width, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                # In place, because mypy knows no `to` that takes a memory format; convolutions on CPU prefer it.
                module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)

    def forward(self, x: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch classes"]:
        """The logits of encoded pictures of any side."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.fc(x.mean(dim=(2, 3)))
        return logits


def train_on(
    creatures: Creatures,
    epochs: int = 6,
    seed: int = 0,
    progress: Callable[[int, int, float], None] | None = None,
    *,
    width: int = 16,
    batch: int = 64,
    rate: float = 0.004,
) -> SmallResNet:
    """Trains a network on drawn creatures, the same for the same seed, and leaves torch's global generator alone.

    With 12000 pictures of all four classes and the defaults, 97 % of new pictures are told right.

    Args:
        creatures: The training pictures and their labels.
        epochs: How often each picture is seen, each time as it is or mirrored (which keeps its class).
        seed: Chooses the first weights and the order of the pictures.
        progress: Called after each step with the steps done, the steps in all and the loss.
        width: Channels of the network's first stage.
        batch: Pictures in a step.
        rate: The highest learning rate of the one-cycle schedule.

    Returns:
        The network in eval mode.

    Raises:
        InputError: If there are no epochs, or fewer than two pictures.
    """
    if epochs < 1 or len(creatures) < 2:
        raise InputError(
            f"Training needs at least one epoch and two pictures, but {epochs} and {len(creatures)} were given."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = SmallResNet(len(creatures.class_names), width)
    order = torch.Generator().manual_seed(seed)
    # A last, short batch would weigh its few pictures more, and batch statistics need two at least.
    batch = min(batch, len(creatures))
    steps = epochs * (len(creatures) // batch)
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps, pct_start=0.25)
    done = 0
    for _ in range(epochs):
        shuffled = torch.randperm(len(creatures), generator=order)
        for chosen in shuffled[: steps // epochs * batch].split(batch):
            images = encode(creatures.pixels[chosen])
            mirrored = torch.rand(len(chosen), 1, 1, 1, generator=order) < 0.5
            images = torch.where(mirrored, images.flip(3), images).contiguous(memory_format=torch.channels_last)
            loss = F.cross_entropy(model(images), creatures.labels[chosen])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            done += 1
            if progress:
                progress(done, steps, loss.item())
    return model.eval()
