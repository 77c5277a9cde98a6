//! The properties of the device and of the build.

use cudarc::driver::sys::CUdevice_attribute as Attribute;
use gpu_model::device::MmaRates;
use w4ax::Width;
use w4ax::cuda::{Family, Gpu, build_info, cudarc, driver_version, runtime_version};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Returns the properties of the device and of the build as JSON.
pub fn describe(ordinal: usize) -> Result<serde_json::Value> {
    let gpu = Gpu::new(ordinal)?;
    let context = gpu.context();
    let attribute = |attribute| context.attribute(attribute);
    let info = build_info()?;
    let version = |v: Option<w4ax::CudaVersion>| v.map(|v| v.to_string());
    let mut mma = serde_json::Map::new();
    for family in [Family::Decode, Family::Prefill] {
        for width in Width::ALL {
            let name = format!("{family} {width}");
            mma.insert(name, gpu.mma(width, family)?.to_string().into());
        }
    }
    // The version of the kernel module, such as 580.65.06, where the system shows it.
    let module = std::fs::read_to_string("/proc/driver/nvidia/version").unwrap_or_default();
    let (major, minor) = gpu.compute_capability();
    let sms = attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
    let clock_khz = attribute(Attribute::CU_DEVICE_ATTRIBUTE_CLOCK_RATE)?;
    // The roofs of the model, if it knows the rates of the architecture.
    let tops = |rate: f64| rate * f64::from(sms) * f64::from(clock_khz) / 1e9;
    let mut dense_tops = serde_json::Map::new();
    if let Some(rates) = MmaRates::of(major, minor, gpu.name()) {
        for (mma, rate) in [
            ("s4", rates.s4),
            ("s8", Some(rates.s8)),
            ("bf16", Some(rates.bf16)),
        ] {
            if let Some(rate) = rate {
                dense_tops.insert(mma.into(), tops(rate).into());
            }
        }
    }
    let kernels: Vec<serde_json::Value> = (gpu.kernels()?.into_iter())
        .map(|k| {
            serde_json::json!({
                "name": k.name,
                "mma": k.mma.to_string(),
                "registers": k.registers,
                "shared_bytes": k.shared_bytes,
                "local_bytes": k.local_bytes,
                "threads": k.threads,
                "binary": k.binary_version,
                "ptx": k.ptx_version,
            })
        })
        .collect();
    Ok(serde_json::json!({
        "name": gpu.name(),
        "devices": w4ax::cuda::device_count()?,
        "capability": format!("{major}.{minor}"),
        "sms": sms,
        "clock_khz": clock_khz,
        "dense_tops": dense_tops,
        "l2_bytes": attribute(Attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)?,
        "memory_bytes": context.total_mem()?,
        "driver_cuda": version(driver_version()),
        "driver_module": module.lines().next(),
        "runtime_cuda": version(runtime_version()),
        "nvcc": info.nvcc, "cutlass": info.cutlass, "built_for": info.archs,
        "mma": mma,
        "kernels": kernels,
    }))
}
