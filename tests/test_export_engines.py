"""A bundle becomes engines: ONNX in fp32 and fp16, OpenVINO, TensorRT; needs the extra `train`.

Shapes: N windows, T frames, V = 25, C = 3, E values of an embedding, D features.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from rich.progress import Progress
from typer.testing import CliRunner, Result

torch = pytest.importorskip("torch", reason="export needs the extra `train`")
onnx = pytest.importorskip("onnx", reason="export needs the extra `train`")
pytest.importorskip("onnxscript", reason="export needs the extra `train`")

from edge.config import Model
from edge.model.bundle import DEFAULT_BUNDLE, read_bundle
from edge.model.choose import open_encoder
from edge.model.engines import engine_file
from edge.model.engines.engine_file import Batch
from edge.model.engines.onnx_runtime import OnnxRuntime
from edge.model.engines.parity import fixed_windows
from export.cli import export as export_command
from export.engines import onnx_fp16, tensor_rt
from export.fold import FoldedBranch
from export.frozen import Embedding, FrozenBranch
from streams.errors import BundleError, ConfigError, CrossGLGError, EngineError
from training.model.crossglg import GuidanceConfig
from training.model.infogcn import Input
from training.run.config import TrainConfig

NUM_FRAMES = 32
ALONE = GuidanceConfig(global_to_local=False, local_to_global=False)
needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt-rtx is not installed (no wheel for this machine)"
)


def frozen(
    embedding: Embedding,
    guidance: GuidanceConfig,
    inputs: tuple[Input, ...] = ("places", "deviations", "steps"),
    *,
    sign: float = 1.0,
    cohort: int = 0,
) -> FrozenBranch:
    """Return a branch of width 16 with random weights and statistics.

    `sign`: of some scales of normalizations; `cohort`: known actions.
    """
    torch.manual_seed(0)
    config = TrainConfig(
        windows="device", num_persons=1, num_frames=NUM_FRAMES, width=16, guidance=guidance, inputs=inputs
    )
    branch = FrozenBranch(config.make_branch(20), embedding).eval()
    for layer in branch.modules():
        if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
            layer.weight.data.uniform_(0.5, 1.5)
            layer.weight.data[::3] *= sign
            layer.bias.data.normal_(0, 0.3)
            layer.running_mean.normal_(0, 0.3)
            layer.running_var.uniform_(0.5, 1.5)
        elif isinstance(layer, torch.nn.LayerNorm):
            layer.weight.data.uniform_(0.5, 1.5)
            layer.bias.data.normal_(0, 0.3)
    branch.mean_C = torch.rand(64)
    branch.projection = torch.randn(64, 32)
    if cohort:
        size = 32 * (100 if embedding == "joints" else 1)
        branch.cohort_KE = torch.nn.functional.normalize(torch.randn(cohort, size), dim=1)
    return branch


def call(*args: object) -> Result:
    app = typer.Typer()
    app.command()(export_command)
    return CliRunner().invoke(app, [str(arg) for arg in args])


def refusal(*args: object) -> CrossGLGError:
    error = call(*args).exception
    assert isinstance(error, CrossGLGError), error
    return error


@pytest.fixture(scope="module")
def bundle() -> Path:
    """Return the bundle that is shipped."""
    return DEFAULT_BUNDLE


@pytest.fixture(scope="module")
def fp16(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of what `--to onnx-fp16` writes."""
    out = tmp_path_factory.mktemp("fp16")
    result = call(bundle, "--to", "onnx-fp16", "--out", out)
    assert result.exit_code == 0, result
    assert "cosine 0.9999" in result.stderr
    return out


# Folding


@pytest.mark.parametrize(
    ("sign", "cohort"), [(1.0, 0), (-1.0, 3), (1.0, 9)], ids=["no cohort", "negative scales, few known", "many known"]
)
@pytest.mark.parametrize(
    ("embedding", "guidance", "inputs"),
    [
        ("joints", ALONE, ("places", "deviations", "steps")),
        ("joints", ALONE, ("bones",)),
        ("pooled", ALONE, ("bones", "places")),
        ("joints", GuidanceConfig(), ("places",)),
        ("joints", GuidanceConfig(num_pre=9, key_joints="sigmoid"), ("places",)),
        ("pooled", GuidanceConfig(), ("places",)),
        ("pooled", GuidanceConfig(project=False), ("places",)),
    ],
)
def test_a_folded_branch_gives_what_the_branch_gives(
    embedding: Embedding, guidance: GuidanceConfig, inputs: tuple[Input, ...], sign: float, cohort: int
) -> None:
    branch = frozen(embedding, guidance, inputs, sign=sign, cohort=cohort)
    before = {name: tensor.clone() for name, tensor in branch.state_dict().items()}
    folded = FoldedBranch(branch)
    windows = torch.randn(3, NUM_FRAMES, 25, 3) * 0.5
    with torch.inference_mode():
        for ours, theirs in zip(folded(windows), branch(windows), strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-5 * float(theirs.abs().max()), rtol=1e-5)
    for name, tensor in branch.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


def test_a_folded_onnx_file_has_no_batch_normalization_and_takes_any_number_of_windows(bundle: Path) -> None:
    model = onnx.load(bundle / "encoder.onnx")
    kinds = [node.op_type for node in model.graph.node]
    assert "BatchNormalization" not in kinds
    # Of each block: one attention for all heads.
    assert kinds.count("Softmax") == 9
    engine = OnnxRuntime(bundle / "encoder.onnx")
    windows_NTVC = fixed_windows(read_bundle(bundle)[0].num_frames)
    together = engine.run(windows_NTVC)
    for i in range(len(windows_NTVC)):
        for one, all_of_them in zip(engine.run(windows_NTVC[i : i + 1]), together, strict=True):
            np.testing.assert_allclose(one[0], all_of_them[i], atol=1e-5 * float(np.abs(all_of_them).max()))


# ONNX


def test_the_fp32_file_is_the_bundles_own(bundle: Path, tmp_path: Path) -> None:
    result = call(bundle, "--to", "onnx", "--out", tmp_path)
    assert result.exit_code == 0, result
    assert (tmp_path / "encoder.onnx").read_bytes() == (bundle / "encoder.onnx").read_bytes()
    info, _ = read_bundle(bundle)
    assert engine_file.verify(tmp_path / "encoder.onnx", info, "onnx").precision == "fp32"
    assert f"{tmp_path}/encoder.onnx: " in result.stderr


def test_the_fp16_file_has_float32_ends_and_norms_and_half_products(bundle: Path, fp16: Path) -> None:
    model = onnx.shape_inference.infer_shapes(onnx.load(fp16 / "encoder-fp16.onnx"))
    single, half = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16
    graph = model.graph
    assert {v.type.tensor_type.elem_type for v in (*graph.input, *graph.output)} == {single}
    types = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.output)}
    types |= {constant.name: constant.data_type for constant in graph.initializer}
    for kind, wanted in {
        "Gemm": half,
        "MatMul": half,
        "Conv": half,
        "LayerNormalization": single,
        "Softmax": single,
        "ReduceMean": single,
        "ReduceL2": single,
    }.items():
        assert {types[node.output[0]] for node in graph.node if node.op_type == kind} == {wanted}, kind
    big = [constant for constant in graph.initializer if np.prod(constant.dims) > 2_000]
    assert big
    assert {constant.data_type for constant in big} == {half}


def test_the_fp16_file_agrees_with_fp32_and_says_how_well(bundle: Path, fp16: Path) -> None:
    info, file = read_bundle(bundle)
    about = engine_file.verify(fp16 / "encoder-fp16.onnx", info, "onnx")
    assert about.precision == "fp16"
    assert about.parity is not None
    assert 0 < about.parity.largest < 1e-2
    windows_NTVC = (
        np.random.default_rng(1).normal(0, 0.5, (5, read_bundle(bundle)[0].num_frames, 25, 3)).astype(np.float32)
    )
    ours = OnnxRuntime(fp16 / "encoder-fp16.onnx").run(windows_NTVC)
    for half, single in zip(ours, OnnxRuntime(file).run(windows_NTVC), strict=True):
        np.testing.assert_allclose(half, single, atol=1e-2 * float(np.abs(single).max()))


def test_an_encoder_that_is_too_large_in_fp16_is_refused() -> None:
    with pytest.raises(BundleError, match="takes 3,600,001 bytes in fp16: expected at most 3,600,000"):
        onnx_fp16.check_size(3_600_001)
    onnx_fp16.check_size(3_600_000)


def test_a_bundle_that_torch_knows_nothing_of_has_fp16_too(tiny_bundle: Path, tmp_path: Path) -> None:
    result = call(tiny_bundle, "--to", "onnx-fp16", "--out", tmp_path)
    assert result.exit_code == 0, result
    info, _ = read_bundle(tiny_bundle)
    assert engine_file.verify(tmp_path / "encoder-fp16.onnx", info, "onnx").precision == "fp16"


@pytest.mark.parametrize("is_both", [False, True])
def test_a_half_product_is_given_out_as_float32_and_still_goes_on_as_half(is_both: bool) -> None:
    single, half = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16
    nodes = [
        onnx.helper.make_node("MatMul", ["x", "weight"], ["product"]),
        onnx.helper.make_node("Relu", ["product"], ["positive"]),
        onnx.helper.make_node("ReduceMean", ["positive"], ["mean"], keepdims=0),
    ]
    outputs = [onnx.helper.make_tensor_value_info("mean", single, [])]
    if is_both:
        outputs.append(onnx.helper.make_tensor_value_info("product", single, [2, 3]))
    inputs = [onnx.helper.make_tensor_value_info("x", single, [2, 4])]
    weight = onnx.numpy_helper.from_array(np.ones((4, 3), np.float32), "weight")
    graph = onnx.helper.make_graph(nodes, "graph", inputs, outputs, [weight])
    model = onnx.helper.make_model(graph, ir_version=8, opset_imports=[onnx.helper.make_opsetid("", 17)])
    made = onnx_fp16.half_precision(model)
    onnx.checker.check_model(made, full_check=True)
    assert [each.data_type for each in made.graph.initializer] == [half]
    assert [output.type.tensor_type.elem_type for output in made.graph.output] == [single] * len(outputs)
    assert [node.op_type for node in made.graph.node].count("Cast") == 2 + is_both
    assert [node.op_type for node in model.graph.node] == ["MatMul", "Relu", "ReduceMean"], "it is left as it was"


def test_without_the_package_onnx_the_error_says_how_else_the_file_is_got(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    error = refusal(bundle, "--to", "onnx-fp16", "--out", tmp_path)
    assert (type(error), error.code) == (EngineError, "not_installed")
    assert str(bundle / "encoder.onnx") in error.message
    assert "pip install onnx" in error.hint
    assert str(bundle / "engines") in error.hint


# OpenVINO


def test_openvino_gets_its_own_format_that_agrees(bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed")
    result = call(bundle, "--to", "openvino", "--out", tmp_path)
    assert result.exit_code == 0, result
    info, file = read_bundle(bundle)
    about = engine_file.verify(tmp_path / "encoder.xml", info, "openvino")
    assert about.parity is not None
    assert about.parity.cosine > 0.9999
    assert (tmp_path / "encoder.bin").stat().st_size < 0.6 * file.stat().st_size
    assert "cosine 0.9999" in result.stderr


# TensorRT


@needs_rtx
def test_the_shipped_bundle_becomes_a_real_fp16_engine_of_tensorrt_for_rtx(fp16: Path, tmp_path: Path) -> None:
    shutil.copytree(fp16, tmp_path, dirs_exist_ok=True)
    result = call("--to", "tensorrt-rtx", "--compute-capability", "8.6", "--out", tmp_path)
    assert result.exit_code == 0, result
    info, _ = read_bundle()
    (engine,) = tmp_path.glob("*.rtx")
    about = engine_file.verify(engine, info, "tensorrt-rtx", compute_capability="8.6")
    assert (about.precision, about.compute_capabilities, about.batch) == ("fp16", ("8.6",), Batch(min=1, opt=5, max=64))
    assert about.parity is None
    assert "it is compared with ONNX Runtime before its first use" in " ".join(result.stderr.split())
    with pytest.raises(EngineError, match=r"its GPUs are 8\.6, expected 8\.7"):
        engine_file.verify(engine, info, "tensorrt-rtx", compute_capability="8.7")
    # The library's own account: windows and embeddings are float, the weights half.
    layers = engine.with_name(engine.name + ".layers.txt").read_text(encoding="utf-8")
    assert f"MinShape: [1,{info.num_frames},25,3], OptShape: [5,{info.num_frames},25,3], MaxShape: [64" in layers
    assert "Name: embeddings, IOMode: Output, DataType: Float" in layers
    assert "Datatype: Half" in layers


@needs_rtx
def test_an_engine_is_built_for_every_gpu_that_the_library_knows(bundle: Path, fp16: Path, tmp_path: Path) -> None:
    shutil.copytree(fp16, tmp_path, dirs_exist_ok=True)
    assert call(bundle, "--to", "tensorrt-rtx", "--out", tmp_path).exit_code == 0
    (engine,) = tmp_path.glob("*.rtx")
    assert {"8.6", "8.9"} < set(engine_file.read(engine).compute_capabilities)


@needs_rtx
def test_a_gpu_that_the_library_does_not_know_is_refused(bundle: Path, fp16: Path) -> None:
    error = refusal(bundle, "--to", "tensorrt-rtx", "--compute-capability", "8.7", "--out", fp16)
    assert "compute capability 8.7: TensorRT for RTX" in error.message
    assert "8.6, 8.9" in error.message
    assert list(fp16.glob("*.rtx")) == []


@needs_rtx
@pytest.mark.parametrize("keep", [0, 2, 5_000], ids=["nothing", "two bytes", "half a file"])
def test_what_tensorrt_complains_of_is_in_the_error(fp16: Path, keep: int) -> None:
    content = (fp16 / "encoder-fp16.onnx").read_bytes()[:keep]
    library = tensor_rt.load_library("tensorrt_rtx")
    with pytest.raises(EngineError, match=r"tensorrt_rtx cannot read the ONNX file: .*(parse|getNbInputs)"):
        tensor_rt.build(library, content, Progress(disable=True), compute_capabilities=["8.6"])


def test_a_damaged_fp16_file_is_made_anew_not_built_from(fp16: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    info, file = read_bundle(tiny_bundle)
    shutil.copytree(fp16, tmp_path, dirs_exist_ok=True)  # of another model
    made = tensor_rt.fp16_onnx(info, file.parent, tmp_path)
    assert engine_file.verify(made, info, "onnx").precision == "fp16"
    assert tensor_rt.fp16_onnx(info, file.parent, tmp_path) == made == tmp_path / "encoder-fp16.onnx"


@pytest.mark.parametrize("target", ["tensorrt", "torch-tensorrt"])
def test_a_library_that_is_missing_is_named_with_the_command_that_brings_it(
    bundle: Path, tmp_path: Path, target: str
) -> None:
    module = target.replace("-", "_")
    if importlib.util.find_spec(module):
        pytest.skip(f"{module} is installed")
    error = refusal(bundle, "--to", target, "--out", tmp_path)
    assert (type(error), error.code) == (EngineError, "not_installed")
    assert f"No module named '{module}'" in error.message
    assert "nstall" in error.hint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.gpu
@pytest.mark.parametrize("target", ["tensorrt", "torch-tensorrt"])
def test_on_a_gpu_the_engine_is_built_and_agrees(bundle: Path, tmp_path: Path, target: str) -> None:
    pytest.importorskip("tensorrt")
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    copied = shutil.copytree(bundle, tmp_path / "bundle")
    result = call(copied, "--to", target, "--out", copied / "engines")
    assert result.exit_code == 0, result
    report = open_encoder(copied, Model(engine="tensorrt")).report()
    assert report.details["precision"] == "fp16"


# What cannot be exported


def test_a_call_that_says_neither_target_nor_run_is_refused(bundle: Path, tmp_path: Path) -> None:
    for args in ((), (bundle,), (bundle, "--out", tmp_path)):
        assert "without --to, export makes a bundle" in refusal(*args).message


def test_a_training_run_is_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}", encoding="utf-8")
    error = refusal(tmp_path, "--to", "onnx", "--out", tmp_path / "out")
    assert isinstance(error, ConfigError)
    assert "is a training run: expected a bundle" in error.message


def test_a_damaged_bundle_is_refused_before_anything_is_written(bundle: Path, tmp_path: Path) -> None:
    damaged = shutil.copytree(bundle, tmp_path / "damaged")
    content = (damaged / "encoder.onnx").read_bytes()
    (damaged / "encoder.onnx").write_bytes(content[:-1])
    assert isinstance(refusal(damaged, "--to", "onnx", "--out", tmp_path / "out"), BundleError)
    assert isinstance(refusal(damaged, "--to", "onnx-fp16", "--out", tmp_path / "out"), BundleError)
    assert not (tmp_path / "out").exists()


def test_a_file_where_a_folder_is_expected_is_refused(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        error = refusal(bundle, "--to", "onnx", "--out", out)
        assert isinstance(error, EngineError)
        assert f"{out} cannot be written to" in error.message
    assert (tmp_path / "file").read_bytes() == b"mine"


def test_a_folder_that_has_the_engines_name_is_not_replaced(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "encoder.onnx").mkdir()
    assert "cannot be written: " in refusal(bundle, "--to", "onnx", "--out", tmp_path).message
    assert [path.name for path in tmp_path.iterdir()] == ["encoder.onnx"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc")
def test_a_folder_that_may_not_be_written_to_is_refused(bundle: Path) -> None:
    # Not even root may.
    assert "/proc/1 cannot be written to" in refusal(bundle, "--to", "onnx", "--out", "/proc/1").message


def test_options_of_other_targets_are_refused(bundle: Path, tmp_path: Path) -> None:
    error = refusal(bundle, "--to", "onnx", "--compute-capability", "8.6", "--out", tmp_path)
    assert "--compute-capability is of --to tensorrt-rtx" in error.message
    assert "--to triton needs --out" in refusal(bundle, "--to", "triton").message


def test_a_triton_repository_holds_the_model(bundle: Path, tmp_path: Path) -> None:
    result = call(bundle, "--to", "triton", "--out", tmp_path)
    assert result.exit_code == 0, result
    assert (tmp_path / read_bundle(bundle)[0].name / "1" / "model.onnx").read_bytes() == (
        bundle / "encoder.onnx"
    ).read_bytes()


def test_the_engine_files_of_a_gpu_are_made_without_torch(tmp_path: Path) -> None:
    # A Jetson has no torch: what builds there may not import it.
    code = f"""
import sys
sys.modules["torch"] = None
from pathlib import Path
import export.cli
from edge.model import read_bundle
from export.engines import tensor_rt
info, onnx = read_bundle()
print(tensor_rt.fp16_onnx(info, onnx.parent, Path({str(tmp_path)!r})))
"""
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "encoder-fp16.onnx")
