"""Weights fit exactly or are refused, and a refusal changes nothing."""

import hashlib
import re
import shutil
import zipfile

import pytest
import safetensors.torch
import torch
from torch import nn

from sightline import InputError
from sightline.models import load_weights


def network():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def snapshot(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(model, state):
    return all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


@pytest.fixture
def source():
    torch.manual_seed(1)
    model = network()
    model[1].running_mean.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    return model


@pytest.fixture
def model():
    torch.manual_seed(2)
    return network()


WRAPPINGS = {
    "bare": lambda state: state,
    "state_dict": lambda state: {"epoch": 3, "state_dict": state},
    "model": lambda state: {"model": state, "optimizer": {}},
    "model_state_dict": lambda state: {"model_state_dict": state},
    "module.": lambda state: {f"module.{name}": value for name, value in state.items()},
    "model.": lambda state: {"state_dict": {f"model.{name}": value for name, value in state.items()}},
    "module.model.": lambda state: {f"module.model.{name}": value for name, value in state.items()},
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_wrappings_are_taken_off(tmp_path, source, model, wrapping):
    file = tmp_path / "weights.pt"
    torch.save(WRAPPINGS[wrapping](source.state_dict()), file)
    load_weights(model, file)
    assert same(model, source.state_dict())


def test_a_prefix_that_the_model_has_too_is_kept(tmp_path):
    inside, outside = nn.Module(), nn.Module()
    inside.model, outside.model = nn.Linear(2, 2), nn.Linear(2, 2)
    torch.save(inside.state_dict(), tmp_path / "weights.pt")
    load_weights(outside, tmp_path / "weights.pt")
    assert same(outside, inside.state_dict())


def test_description_names_file_tensors_and_digest(tmp_path, source, model):
    file = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(source.state_dict(), file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
    assert load_weights(model, file) == f"weights.safetensors, 9 tensors, sha256 {digest}"
    assert same(model, source.state_dict())


def test_half_precision_becomes_the_models_own(tmp_path, source, model):
    torch.save({name: value.half() for name, value in source.state_dict().items()}, tmp_path / "half.pth")
    load_weights(model, tmp_path / "half.pth")
    assert {value.dtype for value in model.parameters()} == {torch.float32}
    assert torch.equal(model[3].weight, source[3].weight.half().float())


def test_absent_batch_counters_are_fine(tmp_path, source, model):
    state = source.state_dict()
    del state["1.num_batches_tracked"]
    torch.save(state, tmp_path / "weights.pt")
    load_weights(model, tmp_path / "weights.pt")
    assert torch.equal(model[1].running_mean, torch.tensor([1.0, 2.0, 3.0, 4.0]))


def test_every_misfit_is_listed_and_nothing_is_loaded(tmp_path, source, model):
    state = source.state_dict()
    del state["0.bias"]
    state["3.weight"] = torch.zeros(2, 5)
    state["extra.weight"] = torch.zeros(1)
    torch.save(state, tmp_path / "weights.pt")
    before = snapshot(model)
    with pytest.raises(InputError) as caught:
        load_weights(model, tmp_path / "weights.pt")
    text = str(caught.value)
    assert "1 missing: 0.bias" in text
    assert "1 unexpected: extra.weight" in text
    assert re.search(r"\b1 .*shape: 3\.weight \(file 2x5, model 2x4\)", text)
    assert same(model, before)


def test_long_lists_show_eight_and_a_count(tmp_path, source, model):
    state = dict(source.state_dict()) | {f"extra.{i}": torch.zeros(1) for i in range(11)}
    torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(InputError, match=r"11 unexpected.*extra\.0, .*extra\.7\b.*\b3 more"):
        load_weights(model, tmp_path / "weights.pt")


def test_a_pickle_that_would_run_code_is_refused_by_name(tmp_path, model):
    torch.save({"state_dict": model.state_dict(), "run": shutil.rmtree}, tmp_path / "evil.pt")
    before = snapshot(model)
    with pytest.raises(InputError, match=r"needs shutil\.rmtree"):
        load_weights(model, tmp_path / "evil.pt")
    assert same(model, before)


def test_a_whole_pickled_model_is_refused_by_its_class(tmp_path, model):
    torch.save(model, tmp_path / "model.pt")
    with pytest.raises(InputError, match=r"needs torch\.nn\.modules\.container\.Sequential"):
        load_weights(model, tmp_path / "model.pt")


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not weights at all", b"\x80\x02garbage", b"PK\x03\x04 cut off"])
def test_damaged_files_are_refused_in_a_sentence(tmp_path, model, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=name):
        load_weights(model, tmp_path / name)


def test_a_checkpoint_cut_short_is_refused(tmp_path, source, model):
    torch.save(source.state_dict(), tmp_path / "whole.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:-500])
    before = snapshot(model)
    with pytest.raises(InputError, match=r"cut\.pt"):
        load_weights(model, tmp_path / "cut.pt")
    assert same(model, before)


@pytest.mark.parametrize(
    ("content", "said"),
    [(torch.zeros(3), "one Tensor"), ({"epoch": 3}, "dictionary.*epoch"), ({}, "an empty dictionary")],
)
def test_files_without_named_tensors_are_refused(tmp_path, model, content, said):
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(InputError, match=said):
        load_weights(model, tmp_path / "weights.pt")


def test_a_missing_file_is_refused(tmp_path, model):
    with pytest.raises(InputError, match=r"nowhere\.pt.*not a file"):
        load_weights(model, tmp_path / "nowhere.pt")


def test_a_torchscript_program_is_named_without_torchs_own_advice(tmp_path, model):
    with zipfile.ZipFile(tmp_path / "jit.pt", "w") as archive:
        archive.writestr("jit/data.pkl", b"")
        archive.writestr("jit/constants.pkl", b"")
    with pytest.raises(InputError, match=r"TorchScript program.*state_dict\(\)") as caught:
        load_weights(model, tmp_path / "jit.pt")
    assert "weights_only" not in str(caught.value)
