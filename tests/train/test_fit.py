"""The loop: it learns, it resumes to the bit, it stops on a loss that is no number."""

import dataclasses

import pytest
import torch

from edgepress.core.errors import ConfigError, TrainingError
from edgepress.train import training
from edgepress.train.stages import Train
from train.helpers import NET, Kept, context, same_weights, tiny_data

STAGE = Train(epochs=3, model=NET, batch=32, lr=0.05, augment={"pad": 1}, precision="fp32")


def test_it_learns_and_logs(tmp_path):
    log: list = []
    STAGE(None, context(tmp_path, log=log))
    assert [record["epoch"] for record in log] == [1, 2, 3]
    assert log[-1]["val"]["top1"] > 90
    assert log[-1]["loss"] == pytest.approx(sum(log[-1]["terms"].values()))
    assert log[-1]["lr"] == pytest.approx(0)


@pytest.mark.parametrize("ema", [0.0, 0.9])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("dies_at", [1, 7, 8, 13])
def test_killed_and_started_again_it_ends_bit_identical(tmp_path, monkeypatch, dies_at, optimizer, ema):
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)  # a checkpoint after every step
    stage = dataclasses.replace(STAGE, ema=ema, optimizer=optimizer, lr=0.01, clip=1.0)
    undisturbed = stage(None, context(tmp_path))
    checkpoint = Kept(dies_at)
    log: list = []
    with pytest.raises(KeyboardInterrupt):
        stage(None, context(tmp_path, checkpoint))
    torch.manual_seed(1234)  # another process has another random state
    resumed = stage(None, context(tmp_path, checkpoint, log=log))
    assert same_weights(undisturbed.module, resumed.module)
    assert [record["epoch"] for record in log] == [1, 2, 3]


@pytest.mark.parametrize("dies_at", [1, 2, 3, 4])
def test_stopped_while_the_average_is_shown_it_ends_bit_identical(tmp_path, monkeypatch, dies_at):
    stage = dataclasses.replace(STAGE, ema=0.9, lr=0.01)
    undisturbed = stage(None, context(tmp_path))
    loads: list[None] = []
    load = torch.nn.Module.load_state_dict

    def dying(module, state, *rest, **more):
        loads.append(None)
        if len(loads) == dies_at:
            raise KeyboardInterrupt
        return load(module, state, *rest, **more)

    checkpoint = Kept()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(torch.nn.Module, "load_state_dict", dying)
        stage(None, context(tmp_path, checkpoint))
    assert same_weights(undisturbed.module, stage(None, context(tmp_path, checkpoint)).module)


def test_zeros_that_stay_are_those_of_the_start(tmp_path, monkeypatch):
    """A weight that is just passing through 0 at a checkpoint is not held there after a resume."""
    model = STAGE(None, context(tmp_path))
    with torch.no_grad():
        model.module[0].weight[0] = 0.0
    stage = dataclasses.replace(STAGE, model=None, keep_zeros=True)
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    checkpoint = Kept(2)
    with pytest.raises(KeyboardInterrupt):
        stage(model, context(tmp_path, checkpoint))
    checkpoint.state["module"]["6.weight"][0, 0] = 0.0
    found = stage(model, context(tmp_path, checkpoint)).module
    assert found[6].weight[0, 0] != 0 and not found[0].weight[0].any() and found[0].weight[1].all()


def test_a_resumed_run_does_only_the_rest(tmp_path):
    checkpoint = Kept(dies_at=2)
    with pytest.raises(KeyboardInterrupt):
        STAGE(None, context(tmp_path, checkpoint))
    before = checkpoint.saves
    STAGE(None, context(tmp_path, checkpoint))
    assert checkpoint.saves - before == 1


def test_a_loss_rises_over_its_warmup(tmp_path):
    still = dataclasses.replace(STAGE, lr=1e-9)
    logs: list[list] = [[], []]
    for log, fields in zip(logs, ({}, {"warmup": 0.5}), strict=True):
        dataclasses.replace(still, losses=({"supervised": fields},))(None, context(tmp_path, log=log))
    shares = [risen["loss"] / plain["loss"] for plain, risen in zip(*logs, strict=True)]
    steps = 256 // 32
    expected = [sum(min((e * steps + i + 1) / (1.5 * steps), 1) for i in range(steps)) / steps for e in range(3)]
    assert shares == pytest.approx(expected, rel=0.02)  # batches differ


def test_mixup_resumes_too_and_changes_the_result(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    stage = dataclasses.replace(STAGE, augment={"mixup": 0.4})
    undisturbed = stage(None, context(tmp_path))
    checkpoint = Kept(dies_at=5)
    with pytest.raises(KeyboardInterrupt):
        stage(None, context(tmp_path, checkpoint))
    assert same_weights(undisturbed.module, stage(None, context(tmp_path, checkpoint)).module)
    plain = dataclasses.replace(STAGE, augment={})(None, context(tmp_path))
    assert not same_weights(undisturbed.module, plain.module)


def test_the_seed_decides(tmp_path):
    first, again, other = (STAGE(None, context(tmp_path, seed=seed)).module for seed in (1, 1, 2))
    assert same_weights(first, again) and not same_weights(first, other)


def test_the_model_given_stays_untouched(tmp_path):
    first = STAGE(None, context(tmp_path))
    before = {name: value.clone() for name, value in first.module.state_dict().items()}
    more = dataclasses.replace(STAGE, model=None, epochs=1)(first, context(tmp_path))
    assert all(torch.equal(value, first.module.state_dict()[name]) for name, value in before.items())
    assert not same_weights(first.module, more.module)


def test_a_loss_that_is_no_number_says_where_and_what_to_try(tmp_path):
    stage = dataclasses.replace(STAGE, lr=1e30, optimizer="sgd", warmup=0.0, schedule="constant")
    with pytest.raises(TrainingError, match=r"epoch \d+, step \d+, at a learning rate of 1e\+30; try a lower `lr`"):
        stage(None, context(tmp_path))


def test_a_network_for_other_classes_is_refused(tmp_path):
    model = STAGE(None, context(tmp_path))
    other = dataclasses.replace(tiny_data(), labels=("rows", "columns", "dots"))
    with pytest.raises(ConfigError, match="number of classes: the network has 2, the data set 'stripes' has 3"):
        dataclasses.replace(STAGE, model=None)(model, context(tmp_path, data=other))


@pytest.mark.parametrize(
    ("field", "value"), [("epochs", 0), ("batch", 0), ("lr", 0.0), ("warmup", 1.0), ("ema", 1.0), ("clip", -1.0)]
)
def test_fields_out_of_range_are_named(field, value):
    problems = dataclasses.replace(STAGE, **{field: value}).check()
    assert len(problems) == 1 and repr(field) in problems[0] and str(value) in problems[0]


def test_mixed_precision_leaves_no_trace_and_learns(tmp_path):
    log: list = []
    stage = dataclasses.replace(STAGE, model="train.helpers:depthwise_net", precision="mixed")
    model = stage(None, context(tmp_path, log=log))
    assert log[-1]["val"]["top1"] > 90
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.module.modules())
    assert not torch.is_autocast_enabled("cpu")


def test_only_depthwise_convolutions_stay_in_fp32():
    from edgepress.train.precision import Mode
    from train.helpers import depthwise_net

    module, seen = depthwise_net(2), {}
    for name, part in module.named_modules():
        part.register_forward_hook(lambda m, i, output, name=name: seen.update({name: output.dtype}))
    mode = Mode("mixed", True)
    with mode.applied(module), mode.autocast(torch.device("cpu")):
        module(torch.randn(2, 3, 8, 8))
    assert (seen["0"], seen["1"], seen["3"]) == (torch.bfloat16, torch.float32, torch.bfloat16)


def test_a_misspelt_augmentation_is_told_before_any_training():
    [problem] = dataclasses.replace(STAGE, augment={"padd": 4}).check()
    assert problem == "field 'augment': unknown field 'padd'; did you mean 'pad'?"


@pytest.mark.parametrize(
    ("asked", "fp32", "told"), [("bf16", 90.0, True), ("bf16", 40.0, False), ("auto", 90.0, False)]
)
def test_a_precision_that_this_processor_only_emulates_is_told_of(tmp_path, monkeypatch, asked, fp32, told):
    from edgepress.train import precision

    def timed(module, spec, batch, mode, device, seconds):
        return dataclasses.replace(mode, speed=fp32 if mode.precision == "fp32" else 30.0)

    monkeypatch.setattr(precision, "_timed", timed)
    said: list[str] = []
    ctx = context(tmp_path)
    monkeypatch.setattr(ctx.progress, "say", said.append)
    dataclasses.replace(STAGE, epochs=1, precision=asked)(None, ctx)
    slow = [line for line in said if "is slow on this processor, 30 images a second; 'fp32' does 90" in line]
    assert len(slow) == told


@pytest.mark.parametrize(("inputs", "asked", "kept"), [(6, "auto", False), (6, "bf16", False), (8, "auto", True)])
def test_a_narrow_strided_shortcut_is_not_trained_in_channels_last(tmp_path, monkeypatch, inputs, asked, kept):
    from edgepress.core.inputs import InputSpec
    from edgepress.train import precision

    tried: list = []
    monkeypatch.setattr(precision, "_timed", lambda module, spec, batch, mode, *rest: tried.append(mode) or mode)
    monkeypatch.setattr(precision, "with_passes", lambda mode, *rest: mode)
    module = torch.nn.Sequential(torch.nn.Conv2d(3, inputs, 3), torch.nn.Conv2d(inputs, 8, 1, stride=2))
    precision.choose(module, InputSpec(8, 8), 4, asked, torch.device("cpu"), tmp_path)
    assert any(mode.channels_last for mode in tried) == kept
    tried.clear()  # a graph, as quantization trains it, has convolutions without modules
    graph = torch.export.export(module, (torch.zeros(4, 3, 8, 8),), strict=True).module()
    precision.choose(graph, InputSpec(8, 8), 4, asked, torch.device("cpu"), tmp_path)
    assert any(mode.channels_last for mode in tried) == kept


def test_the_choice_of_another_process_is_taken(tmp_path, monkeypatch):
    """Two that measure at the same time must train alike: the one that is ready later takes what is there."""
    from edgepress.core.files import write_json
    from edgepress.core.inputs import InputSpec
    from edgepress.train import precision

    module = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3))
    timed = precision._timed

    def meanwhile(*given):
        path = tmp_path / "precision" / f"{precision._fingerprint(*given[:3], 'fp32', torch.device('cpu'))}.json"
        write_json(path, dataclasses.asdict(precision.Mode("fp32", False, 123.0)))
        return timed(*given)

    monkeypatch.setattr(precision, "_timed", meanwhile)
    assert precision.choose(module, InputSpec(8, 8), 4, "fp32", torch.device("cpu"), tmp_path).speed == 123.0
