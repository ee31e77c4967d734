import torch
from torch import nn

from sightline.operations._notes import Note, carry_over

PLAIN = Note[int]("test_plain")
SHARED = Note[int]("test_shared", on_memory=True)
HOOKED = Note[int]("test_hooked", through_hooks=True)


def test_a_plain_note_is_on_the_tensor_alone():
    x = torch.zeros(4)
    PLAIN.put(x, 3)
    assert (PLAIN.of(x), PLAIN.of(x[:2]), PLAIN.of(x.detach())) == (3, None, None)


def test_a_note_on_memory_is_on_every_view():
    x = torch.zeros(4)
    SHARED.put(x[:2], 3)
    assert SHARED.of(x) == SHARED.of(x[2:]) == 3
    assert SHARED.on(x.view(2, 2))
    SHARED.drop(x[1:])
    assert not SHARED.on(x)
    SHARED.drop(x)


def test_a_note_dies_with_the_result_and_does_not_go_on_to_the_next():
    x = torch.zeros(4)
    SHARED.put(x, 3)
    assert not SHARED.on(x + 1)


def test_a_note_is_found_behind_the_hooks_of_a_module():
    noted = []

    class Inner(nn.Module):
        def forward(self, x):
            made = x * 2
            HOOKED.put(made, 5)
            PLAIN.put(made, 6)
            noted.append(made.grad_fn)
            return made

    layer = Inner()
    layer.register_full_backward_hook(lambda *_: None)
    result = layer(torch.ones(2, requires_grad=True))
    assert not HOOKED.on(result)
    carry_over(result, noted[0])
    assert HOOKED.of(result) == 5
    assert not PLAIN.on(result)
