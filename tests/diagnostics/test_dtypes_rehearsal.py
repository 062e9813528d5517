import threading
import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from trainlab.diagnostics.dtypes import rehearsal
from trainlab.diagnostics.dtypes.rehearsal import DIFFERENCES, cuda_policy, policy, rehearse_cuda, unrehearsed
from trainlab.errors import UsageError

DTYPES = (torch.float16, torch.bfloat16)


@pytest.fixture
def study():
    from benchmarks import dtypes_rehearsal

    return dtypes_rehearsal


def state():
    names = torch._C._dispatch_get_registrations_for_dispatch_key("AutocastCPU")
    return (
        [torch._C._dispatch_dump(name) for name in sorted(names)],
        torch.is_autocast_enabled("cpu"),
        torch.get_autocast_dtype("cpu"),
        torch.is_autocast_cache_enabled(),
        torch.is_autocast_enabled,
        torch.clear_autocast_cache,
        torch.autocast.__init__,
        torch.cuda.is_available,
        torch.overrides._get_current_function_mode_stack(),
    )


# --- the lists


def test_the_header_lists_what_torch_registers_for_cuda():
    registered = torch._C._dispatch_get_registrations_for_dispatch_key("AutocastCUDA")
    listed = {f"aten::{name}" for name in cuda_policy().keys() - set(policy.RECURRENT)}
    assert set(registered) - listed <= {
        "aten::cudnn_convolution",
        "aten::cudnn_convolution_transpose",
        "aten::_cudnn_rnn",
    }
    assert listed <= set(registered)
    assert unrehearsed() == ()


def test_a_list_is_read_with_overloads_and_quoted_names():
    text = (
        "#define AT_FORALL_FP32(_) \\\n  _(exp)   \\\n  _(pow, Tensor_Scalar)\n\n#define OTHER(_) _(add)\n"
        '#define AT_FORALL_DIFFERENT_REDISPATCH_SIGNATURE(_) \\\n  _(ADD_NS(norm), \\\n    "norm.Scalar", \\\n   fp32)\n'
    )
    assert policy.read_policy(text) == {
        "exp": "fp32",
        "pow.Tensor_Scalar": "fp32",
        "norm.Scalar": "fp32_append_dtype",
    }


def test_a_missing_header_is_an_error_that_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(policy.torch, "__file__", str(tmp_path / "__init__.py"))
    policy.cuda_policy.cache_clear()
    try:
        with pytest.raises(UsageError, match="without the header") as caught, rehearse_cuda(torch.float16):
            pass
        assert "try:  install torch from a wheel" in str(caught.value)
        header = tmp_path / "include" / "ATen" / "autocast_mode.h"
        header.parent.mkdir(parents=True)
        header.write_text("#define AT_FORALL_FP32(_) _(exp)\n")
        with (
            pytest.raises(UsageError, match="no list AT_FORALL_LOWER_PRECISION_FP"),
            rehearse_cuda(torch.float16),
        ):
            pass
    finally:
        policy.cuda_policy.cache_clear()


# --- the rules


@pytest.mark.parametrize("name", ["casting", "encoder", "lstm", "regions", "losses"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_op_gives_the_dtype_that_the_lists_prescribe(study, name, dtype):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ran, should = study.trace(study.MODELS[name], dtype)
    assert len(ran) > 4
    assert ran == should


def test_the_oracle_hears_a_wrong_rule(study, monkeypatch):
    wrong = {**cuda_policy(), "linear": "fp32"}
    monkeypatch.setattr("trainlab.diagnostics.dtypes.rehearsal.kernels.cuda_policy", lambda: wrong)
    ran, should = study.trace(study.MODELS["regions"], torch.float16)
    assert ran != should


def test_torchs_own_tests_of_cuda_autocast_pass(study, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert study.tested_by_torch() == 0
    assert "164 of 164" in capsys.readouterr().out


def test_gradients_reach_float32_weights_through_the_casts():
    torch.manual_seed(0)
    layer, x = nn.Linear(8, 4), torch.randn(3, 8, requires_grad=True)
    with rehearse_cuda(torch.float16):
        out = layer(x)
        (out * 1.5).sum().backward()
    assert (out.dtype, layer.weight.grad.dtype, x.grad.dtype) == (torch.float16, torch.float32, torch.float32)
    assert torch.equal(layer.weight.grad, layer.weight.grad.half().float())  # it was computed in half
    assert torch.allclose(layer.weight.grad, 1.5 * x.detach().sum(0).expand(4, 8), atol=1e-2)


@pytest.mark.parametrize(
    "net", [nn.LSTM(4, 6, 2, bidirectional=True), nn.LSTM(4, 6, proj_size=3), nn.GRU(4, 6), nn.RNN(4, 6)]
)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_recurrent_nets_run_in_half_as_cudnn_does(net, dtype):
    with rehearse_cuda(dtype):
        out = net(torch.randn(5, 3, 4))[0]
        out.float().sum().backward()
        with torch.backends.cudnn.flags(enabled=False):
            assert net(torch.randn(5, 3, 4))[0].dtype == dtype
    assert out.dtype == torch.float16
    assert {each.grad.dtype for each in net.parameters()} == {torch.float32}


def test_double_is_left_alone_and_a_third_dtype_is_refused_where_dtypes_are_promoted():
    wide, low = torch.ones(3, dtype=torch.float64), torch.ones(3, dtype=torch.bfloat16)
    with rehearse_cuda(torch.float16):
        assert torch.dot(wide, wide).dtype == torch.float64
        assert wide.sum().dtype == torch.float64
        assert torch.dot(torch.ones(3), low).dtype == torch.float32
        with pytest.raises(RuntimeError, match="Unexpected floating ScalarType"):
            torch.dot(low, low)


def test_a_dtype_that_the_call_names_is_respected():
    x = torch.ones(2, 3)
    with rehearse_cuda(torch.float16):
        assert x.half().sum().dtype == torch.float32
        assert x.half().sum(dtype=torch.float16).dtype == torch.float16
        assert x.half().softmax(-1, torch.float16).dtype == torch.float16
        assert x.half().softmax(-1, None).dtype == torch.float32
        assert torch.ops.aten.norm(x.half(), 2, [1]).dtype == torch.float32


def test_binary_cross_entropy_is_banned():
    with rehearse_cuda(torch.float16), pytest.raises(RuntimeError, match="unsafe to autocast"):
        F.binary_cross_entropy(torch.full((2,), 0.5), torch.ones(2))


# --- the cache of casts


def casts_of(layer, uses):
    """How often the weight is cast."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Casts(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.count += func is torch.ops.aten._to_copy.default and args[0].shape == layer.weight.shape
            return func(*args, **(kwargs or {}))

    with Casts() as casts:
        uses()
    return casts.count


@pytest.mark.parametrize(("cache", "casts"), [(True, 1), (False, 3)])
def test_a_weight_is_cast_once_where_casts_are_kept(cache, casts):
    layer, x = nn.Linear(4, 3), torch.randn(2, 4)
    with rehearse_cuda(torch.float16, cache=cache):
        assert casts_of(layer, lambda: [layer(x) for _ in range(3)]) == casts


def test_casts_are_dropped_where_the_outermost_autocast_ends():
    layer, x = nn.Linear(4, 3), torch.randn(2, 4)

    def steps():
        for _ in range(3):
            with torch.autocast("cuda"):
                layer(x)
                layer(x)

    with rehearse_cuda():
        assert casts_of(layer, steps) == 3


def test_a_cast_made_without_gradients_carries_them_later():
    layer, x = nn.Linear(4, 3), torch.randn(2, 4)
    with rehearse_cuda(torch.float16):
        with torch.no_grad():
            layer(x)
        layer(x).sum().backward()
    assert layer.weight.grad is not None


def test_the_first_dtype_of_a_nest_keeps_the_weight_as_in_torch():
    layer, x = nn.Linear(4, 3), torch.randn(2, 4)
    for outer in (lambda: torch.autocast("cpu", torch.bfloat16), lambda: rehearse_cuda(torch.bfloat16)):
        with outer():
            layer(x)
            with torch.autocast("cpu", torch.float16), pytest.raises(RuntimeError, match="same dtype"):
                layer(x)


# --- code that says cuda


def test_code_that_says_cuda_runs_on_the_cpu():
    with rehearse_cuda(torch.bfloat16):
        made = [
            torch.zeros(2, device="cuda"),
            torch.ones(1).cuda(),
            torch.ones(1).to("cuda:1", torch.float64),
        ]
        made += [torch.ones(1).to(0), torch.ones(1).new_ones(2, device=torch.device("cuda", 0))]
        made += [nn.Linear(2, 2, device="cuda").to("cuda").cuda().weight]
        with torch.device("cuda"):
            made.append(torch.ones(2))
        assert {each.device.type for each in made} == {"cpu"}
        assert torch.cuda.is_available()
        assert torch.is_autocast_enabled()
        assert torch.get_autocast_dtype("cuda") == torch.get_autocast_gpu_dtype() == torch.bfloat16
        with torch.autocast("cuda", enabled=False):
            assert not torch.is_autocast_enabled("cuda")
            torch.set_autocast_enabled(True)
            assert torch.is_autocast_enabled("cpu")


def test_a_training_script_with_its_own_autocast_and_scaler_runs_as_it_is():
    model = nn.Linear(4, 4)
    before = model.weight.detach().clone()
    with rehearse_cuda():
        assert not torch.is_autocast_enabled("cuda")
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        scaler = torch.amp.GradScaler("cuda", init_scale=256.0)  # at 65536 an unlucky batch overflows
        assert scaler.is_enabled()
        with torch.autocast("cuda"):
            out = model(torch.randn(3, 4, device="cuda"))
            loss = out.square().mean()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
    assert (out.dtype, loss.dtype) == (torch.float16, torch.float32)
    assert not torch.equal(model.weight, before)


def test_an_autograd_function_with_custom_fwd_gets_its_inputs_cast():
    seen = []

    class Double(torch.autograd.Function):
        @staticmethod
        @torch.amp.custom_fwd(device_type="cuda", cast_inputs=torch.float32)
        def forward(ctx, x):
            seen.append((x.dtype, torch.is_autocast_enabled("cuda")))
            return x * 2

        @staticmethod
        @torch.amp.custom_bwd(device_type="cuda")
        def backward(ctx, grad):
            seen.append((grad.dtype, torch.is_autocast_enabled("cuda")))
            return grad * 2

    with rehearse_cuda(torch.float16):
        Double.apply(torch.ones(2, dtype=torch.half, requires_grad=True)).sum().backward()
    assert seen == [(torch.float32, False)] * 2


# --- undone


def test_everything_is_as_before_also_after_an_error():
    before = state()
    with rehearse_cuda(torch.float16):
        assert state()[0] != before[0]
    assert state() == before
    with pytest.raises(KeyError), rehearse_cuda(torch.bfloat16, cache=False):
        raise KeyError
    assert state() == before


def test_an_autocast_around_it_is_put_back():
    with torch.autocast("cpu", torch.bfloat16):
        with rehearse_cuda():
            assert torch.mm(torch.ones(2, 2), torch.ones(2, 2)).dtype == torch.float32
        assert torch.mm(torch.ones(2, 2), torch.ones(2, 2)).dtype == torch.bfloat16


def test_stock_autocast_gives_afterwards_what_it_gave(study, monkeypatch, capfd):
    monkeypatch.setattr(study, "DTYPES", (torch.bfloat16,))
    monkeypatch.setattr(study, "SHAPES", ((4, 4), (2, 3, 4, 4)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert study.unchanged() == 0
    assert "differ inside" in capfd.readouterr().out


def test_a_second_rehearsal_is_refused_inside_and_beside_the_first():
    caught = []

    def beside():
        try:
            with rehearse_cuda(torch.float16):
                pass
        except UsageError as error:
            caught.append(error)

    with rehearse_cuda(torch.float16):
        beside()
        thread = threading.Thread(target=beside)
        thread.start()
        thread.join()
        assert torch.mm(torch.ones(2, 2), torch.ones(2, 2)).dtype == torch.float16
    assert len(caught) == 2
    assert "leave the first one" in str(caught[0])
    with rehearse_cuda(torch.float16):
        pass


def test_another_dtype_is_refused():
    with pytest.raises(UsageError, match="float16 or bfloat16"), rehearse_cuda(torch.float32):
        pass


def test_no_warning_is_shown():
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        with rehearse_cuda(torch.float16):
            torch.mm(torch.ones(2, 2), torch.ones(2, 2))
    assert shown == []


# --- known differences


def test_the_known_differences_hold_on_this_side():
    x, weight = torch.randn(2, 4, 4).half(), torch.ones(4)
    assert F.layer_norm(x, (4,), weight, weight).dtype == torch.float16
    assert F.group_norm(x, 2, weight, weight).dtype == torch.float16
    with pytest.raises(RuntimeError, match="Unsupported dtype Half"):
        torch.fft.rfft(x)
    assert hasattr(torch.backends.cuda.matmul, "allow_fp16_reduced_precision_reduction")
    assert all(each.source and hasattr(torch.ops.aten, op) for each in DIFFERENCES for op in each.ops)
    assert rehearsal.Difference is type(DIFFERENCES[0])
