#!/usr/bin/env python3
"""Makes the checkpoints of this folder with the tools that write such files, and what each tool reads back from them.

    make.py FOLDER      everything but act-order/compressed-tensors
    make.py FOLDER --act-order    compressed_tensors_act_order alone, under the last version that wrote it

README.md beside this file has the versions and how to install them. A case is a folder with a configuration, one or more
safetensors files, and expected.safetensors: the tool's own dequantized values, `[N, K]`, in the type in which it multiplies.
"""
import importlib.util
import json
import os
import sys
import types
from pathlib import Path

import torch
from safetensors.torch import save_file

OUT = Path(sys.argv[1])


def rng(seed):
    return torch.Generator().manual_seed(seed)


def write(case, tensors, expected, configs, shards=None):
    folder = OUT / case
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: t.detach().contiguous().clone() for name, t in tensors.items()}
    expected = {name: t.detach().contiguous().clone() for name, t in expected.items()}
    if shards is None:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    else:
        names = [f"model-{i + 1:05}-of-{shards:05}.safetensors" for i in range(shards)]
        parts = [{} for _ in names]
        weight_map = {}
        for i, (name, tensor) in enumerate(sorted(tensors.items())):
            parts[i % shards][name] = tensor
            weight_map[name] = names[i % shards]
        for name, part in zip(names, parts):
            save_file(part, folder / name, metadata={"format": "pt"})
        total = sum(t.numel() * t.element_size() for t in tensors.values())
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")
    save_file(expected, folder / "expected.safetensors")
    for name, config in configs.items():
        (folder / name).write_text(json.dumps(config, indent=1) + "\n")


def linear(n, k, seed, bias=False):
    layer = torch.nn.Linear(k, n, bias=bias)
    layer.weight.data = torch.randn(n, k, generator=rng(seed)) * 0.1
    if bias:
        layer.bias.data = torch.randn(n, generator=rng(seed + 1000))
    return layer


def grid(weight, group, seed, sym, lowest=0):
    """Scales and zero points `[N, K/g]` that a min-max quantizer would choose, with zero points down to `lowest`."""
    n, k = weight.shape
    size = k if group == -1 else group
    groups = -(-k // size)
    padded = torch.nn.functional.pad(weight, (0, groups * size - k)).reshape(n, groups, size)
    if sym:
        scales = (padded.abs().amax(2) / 7.5).half().float()
        return scales, torch.full((n, groups), 8)
    scales = ((padded.amax(2) - padded.amin(2)) / 15).half().float()
    return scales, torch.randint(lowest, 16, (n, groups), generator=rng(seed))


def plain():
    """Tensors that no quantizer touches."""
    return {
        "lm_head.weight": torch.randn(8, 16, generator=rng(90)).bfloat16(),
        "model.norm.weight": torch.randn(17, generator=rng(91)).bfloat16(),
        "model.steps": torch.arange(3),
        "model.flags": torch.tensor([1, 0, 1], dtype=torch.uint8),
    }


def make_awq():
    # The package's own __init__ imports every model that it knows and fails with today's transformers: the module that packs is
    # imported without it.
    spec = importlib.util.find_spec("awq")
    stub = types.ModuleType("awq")
    stub.__path__ = list(spec.submodule_search_locations)
    sys.modules["awq"] = stub
    for name in ["modules", "modules.linear", "modules.triton", "utils"]:
        part = types.ModuleType(f"awq.{name}")
        part.__path__ = [os.path.join(stub.__path__[0], *name.split("."))]
        sys.modules[f"awq.{name}"] = part
    from awq.modules.linear.gemm import WQLinear_GEMM
    from awq.utils.packing_utils import dequantize_gemm

    tensors, expected = plain(), {}
    for name, n, k, seed in [("model.a", 32, 192, 1), ("model.b", 64, 64, 2)]:
        layer = linear(n, k, seed, bias=name == "model.a")
        scales, zeros = grid(layer.weight.data, 64, seed, sym=False)
        # What the quantizer hands on: the weight rounded to the grid.
        wide, zero = scales.repeat_interleave(64, 1), zeros.repeat_interleave(64, 1)
        codes = (layer.weight.data / wide + zero).round().clamp(0, 15)
        layer.weight.data = (codes - zero) * wide
        packed = WQLinear_GEMM.from_linear(layer, 4, 64, scales=scales.t().contiguous(), zeros=zeros.t().contiguous())
        for part in ["qweight", "qzeros", "scales", "bias"]:
            if getattr(packed, part) is not None:
                tensors[f"{name}.{part}"] = getattr(packed, part)
        expected[name] = dequantize_gemm(packed.qweight, packed.qzeros, packed.scales, 4, 64).t()
    config = {"bits": 4, "group_size": 64, "modules_to_not_convert": ["lm_head"], "quant_method": "awq", "version": "gemm",
              "zero_point": True}
    write("awq_gemm", tensors, expected, {"config.json": {"model_type": "llama", "quantization_config": config}})


def make_gptqmodel():
    from gptqmodel.nn_modules.qlinear import PackableQuantLinear
    from gptqmodel.nn_modules.qlinear.torch import TorchLinear
    from gptqmodel.quantization import QuantizeConfig
    from gptqmodel.utils.model import convert_gptq_v1_to_v2_format_module, convert_gptq_v2_to_v1_format_module
    from gptqmodel.version import __version__

    def case(name, layers, group, sym, version, desc_act=False, shards=None, configs=None):
        tensors, expected = plain(), {}
        for at, (module, n, k) in enumerate(layers):
            seed = 10 * len(name) + at
            layer = linear(n, k, seed, bias=at == 0)
            scales, zeros = grid(layer.weight.data, group, seed, sym)
            if not sym and group != -1:
                zeros[0, 0], zeros[1, 0], zeros[7, 0] = 0, 0, 0
            size = k if group == -1 else group
            g_idx = torch.arange(k, dtype=torch.int32) // size
            if desc_act:
                g_idx = g_idx[torch.randperm(k, generator=rng(seed))]
            packed = TorchLinear(bits=4, group_size=group, sym=sym, desc_act=desc_act, in_features=k, out_features=n,
                                 bias=layer.bias is not None, pack_dtype=torch.int32)
            packed.pack_original(layer, scales, zeros, g_idx)
            if version == 1:
                convert_gptq_v2_to_v1_format_module(packed, QuantizeConfig(bits=4, group_size=group))
            for part in ["qweight", "qzeros", "scales", "g_idx", "bias"]:
                if getattr(packed, part, None) is not None:
                    tensors[f"{module}.{part}"] = getattr(packed, part).clone()
            if version == 1:
                convert_gptq_v1_to_v2_format_module(packed, 4, torch.int32)
            packed.eval()
            packed._init_wf_unsqueeze_buffers()
            expected[module] = PackableQuantLinear.dequantize_weight(packed).t()
        form = "gptq" if version == 1 else "gptq_v2"
        config = {"bits": 4, "group_size": group, "desc_act": desc_act, "sym": sym, "lm_head": False, "quant_method": "gptq",
                  "method": "gptq", "format": form, "checkpoint_format": form, "pack_dtype": "int32",
                  "meta": {"quantizer": [f"gptqmodel:{__version__}"]}}
        if configs is None:
            configs = {"config.json": {"model_type": "llama", "quantization_config": config}, "quantize_config.json": config}
        write(name, tensors, expected, configs, shards)

    legacy = {"bits": 4, "group_size": 128, "desc_act": False, "sym": True, "damp_percent": 0.01, "model_name_or_path": None}
    case("gptq_v1_sym", [("model.a", 24, 256)], 128, True, 1, configs={"quantize_config.json": legacy})
    case("gptq_v1_asym", [("model.a", 24, 192), ("model.b", 8, 100)], 64, False, 1)
    case("gptq_v2_asym", [("model.a", 20, 100)], 32, False, 2)
    case("gptq_v2_desc_act", [("model.a", 20, 136), ("model.b", 8, 64)], 32, False, 2, desc_act=True, shards=2)
    case("gptq_v2_channel", [("model.a", 20, 100)], -1, False, 2)
    case("gptq_v2_g256", [("model.a", 8, 512)], 256, True, 2)


def make_autogptq():
    # The module that packs, without its package, whose __init__ looks for CUDA.
    spec = importlib.util.find_spec("auto_gptq")
    path = Path(spec.submodule_search_locations[0]) / "nn_modules/qlinear/qlinear_cuda.py"
    spec = importlib.util.spec_from_file_location("autogptq_cuda", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    n, k, group = 32, 128, 64
    layer = linear(n, k, 5)
    scales, zeros = grid(layer.weight.data, group, 5, sym=False)
    zeros[3, 0], zeros[7, 1], zeros[17, 1] = 0, 0, 0
    layer.weight.data = layer.weight.data.half().float()
    packed = module.QuantLinear(4, group, k, n, False, weight_dtype=torch.float16)
    packed.pack(layer, scales, zeros.float())
    packed.scales = packed.scales.half()
    # What a forward pass of its torch path multiplies by: the identity brings it out.
    packed.autogptq_cuda_available = False
    weights = packed(torch.eye(k).half()).t()
    tensors = plain() | {f"model.a.{part}": getattr(packed, part) for part in ["qweight", "qzeros", "scales", "g_idx"]}
    config = {"bits": 4, "group_size": group, "damp_percent": 0.01, "desc_act": True, "static_groups": False, "sym": False,
              "true_sequential": True, "model_name_or_path": None, "model_file_base_name": None, "quant_method": "gptq",
              "checkpoint_format": "gptq"}
    write("gptq_v1_autogptq", tensors, {"model.a": weights}, {"quantize_config.json": config})


def make_compressed_tensors(act_order=False):
    from compressed_tensors import __version__
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

    def case(name, n, k, group, sym, dtype, seed, g_idx=None):
        weight = (torch.randn(n, k, generator=rng(seed)) * 0.1).to(dtype)
        size = k if group == -1 else group
        order = torch.argsort(g_idx, stable=True) if g_idx is not None else torch.arange(k)
        groups = weight.float()[:, order].reshape(n, k // size, size)
        if sym:
            scale = (groups.abs().amax(2) / 7.5).to(dtype)
            zero = torch.zeros(n, k // size, dtype=torch.int8)
        else:
            scale = ((groups.amax(2) - groups.amin(2)) / 15).to(dtype)
            zero = (-8 - (groups.amin(2) / scale.float()).round()).clamp(-8, 7).to(torch.int8)
        kind = {"num_bits": 4, "type": "int", "symmetric": sym, "strategy": "channel" if group == -1 else "group"}
        if group != -1:
            kind["group_size"] = group
        if g_idx is not None:
            kind["actorder"] = "group"
        args = QuantizationArgs(**kind)
        if act_order:
            from compressed_tensors.compressors.quantized_compressors.pack_quantized import PackedQuantizationCompressor
            tensors = PackedQuantizationCompressor().compress_weight(weight, scale, args, zero, g_idx)
            tensors |= {"weight_scale": scale, "weight_g_idx": g_idx}
            expected = PackedQuantizationCompressor().decompress_weight(tensors, args)
        else:
            from compressed_tensors.compressors.pack_quantized import PackedQuantizationCompressor
            scheme = QuantizationScheme(targets=["Linear"], weights=args)
            state = {"weight": weight, "weight_scale": scale, "weight_zero_point": zero}
            tensors = PackedQuantizationCompressor.compress(state, scheme)
            expected = PackedQuantizationCompressor.decompress(tensors, scheme)["weight"]
        tensors = plain() | {f"model.a.{part}": t for part, t in tensors.items()}
        kind = args.model_dump(mode="json")
        config = {
            "config_groups": {"group_0": {"targets": ["Linear"], "weights": kind, "input_activations": None,
                                          "output_activations": None, "format": "pack-quantized"}},
            "format": "pack-quantized", "ignore": ["lm_head", "re:.*vision.*"], "kv_cache_scheme": None,
            "quant_method": "compressed-tensors", "quantization_status": "compressed", "version": __version__,
        }
        write(name, tensors, {"model.a": expected}, {"config.json": {"quantization_config": config}})

    if act_order:
        g_idx = (torch.arange(128, dtype=torch.int32) // 32)[torch.randperm(128, generator=rng(7))]
        case("compressed_tensors_act_order", 24, 128, 32, True, torch.bfloat16, 60, g_idx)
        return
    case("compressed_tensors_sym", 24, 256, 128, True, torch.bfloat16, 61)
    case("compressed_tensors_asym", 19, 96, 32, False, torch.float16, 62)
    case("compressed_tensors_channel", 19, 70, -1, True, torch.float32, 63)
    case("compressed_tensors_channel_asym", 21, 77, -1, False, torch.bfloat16, 64)


if "--act-order" in sys.argv:
    make_compressed_tensors(act_order=True)
else:
    make_awq()
    make_gptqmodel()
    make_autogptq()
    make_compressed_tensors()
