import pytest
import torch

from sightline.operations import avoids, nodes_behind


@pytest.fixture
def diamond():
    """x * 2 feeds a sine and a cosine, whose sum is the value."""
    x = torch.ones(3, requires_grad=True)
    h = x * 2
    one, other = h.sin(), h.cos()
    return x, h, one, other, one + other


def names(nodes):
    return [type(node).__name__.removesuffix("Backward0") for node in nodes]


def test_each_node_is_met_once_from_the_value_down(diamond):
    *_, value = diamond
    assert names(nodes_behind(value)) == ["Add", "Cos", "Mul", "AccumulateGrad", "Sin"]


def test_the_walk_does_not_go_on_past_where_it_is_told_to_stop(diamond):
    _, h, *_, value = diamond
    assert names(nodes_behind(value, beyond=lambda node: node is not h.grad_fn)) == ["Add", "Cos", "Mul", "Sin"]


def test_nodes_that_were_seen_are_left_out_and_new_ones_added(diamond):
    _, h, one, other, value = diamond
    seen = {h.grad_fn, one.grad_fn}
    assert list(nodes_behind(value, seen=seen)) == [value.grad_fn, other.grad_fn]
    assert seen == {h.grad_fn, one.grad_fn, value.grad_fn, other.grad_fn}


def test_nothing_is_behind_a_value_without_a_graph():
    assert list(nodes_behind(torch.ones(2))) == []


def test_a_node_on_every_way_cannot_be_avoided_and_one_of_two_branches_can(diamond):
    x, h, one, _, value = diamond
    leaf = h.grad_fn.next_functions[0][0]
    assert leaf.variable is x
    assert not avoids(value, h.grad_fn, leaf)
    assert avoids(value, one.grad_fn, leaf)
    assert not avoids(one, one.grad_fn, leaf)
