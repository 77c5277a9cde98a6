//! What the machine and this build have.

use serde::Serialize;
use w4ax::cpu::{Cpu, Isa};

/// The machine, and this build of w4ax.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Of w4ax.
    pub version: String,
    /// Features of this build.
    pub features: Vec<String>,
    /// Architecture and operating system.
    pub platform: String,
    /// The CPU's name, if the system gives it.
    pub cpu: Option<String>,
    /// Threads that the system runs at a time.
    pub threads: usize,
    /// Instruction sets that w4ax can use here.
    pub instruction_sets: Vec<String>,
    /// The instruction set that `Cpu::new` picks, or why it fails.
    pub instruction_set: String,
    /// The CUDA half.
    pub cuda: Cuda,
}

/// Kernels, driver and devices.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Cuda {
    /// Why there are no checks on a device; `None` if there are.
    pub not_available: Option<String>,
    /// Architectures with machine code or PTX in this build.
    pub kernels: Option<String>,
    /// Compilers and libraries of the kernels, with their versions.
    pub libraries: Vec<String>,
    /// The newest CUDA that the driver supports.
    pub driver: Option<String>,
    /// Name and compute capability of each device.
    pub devices: Vec<String>,
}

impl Machine {
    /// This machine.
    pub fn detect() -> Self {
        let available = |isa: &Isa| isa.is_available();
        let names = Isa::ALL.into_iter().filter(available);
        let features = [
            ("cuda", cfg!(feature = "cuda")),
            ("candle", cfg!(feature = "candle")),
            ("train", cfg!(feature = "train")),
        ];
        let features = features.into_iter().filter(|(_, on)| *on);
        Self {
            version: env!("CARGO_PKG_VERSION").into(),
            features: features.map(|(name, _)| name.into()).collect(),
            platform: format!("{} {}", std::env::consts::ARCH, std::env::consts::OS),
            cpu: cpu_name(),
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            instruction_sets: names.map(|isa| isa.name().into()).collect(),
            instruction_set: match Cpu::new() {
                Ok(cpu) => cpu.isa().name().into(),
                Err(error) => error.to_string(),
            },
            cuda: Cuda::detect(),
        }
    }

    /// Lines of a name and a value.
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let list = |names: &[String]| match names {
            [] => "none".to_owned(),
            names => names.join(", "),
        };
        let optional = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".into());
        let cpu = self.cpu.as_deref().unwrap_or("unknown");
        vec![
            (
                "w4ax",
                format!("{}, features: {}", self.version, list(&self.features)),
            ),
            ("platform", self.platform.clone()),
            ("cpu", format!("{cpu}, {} threads", self.threads)),
            ("instruction sets", list(&self.instruction_sets)),
            ("default", self.instruction_set.clone()),
            ("cuda kernels", optional(&self.cuda.kernels)),
            ("cuda libraries", list(&self.cuda.libraries)),
            ("cuda driver", optional(&self.cuda.driver)),
            ("cuda devices", list(&self.cuda.devices)),
        ]
    }
}

/// Linux's name of the first CPU.
fn cpu_name() -> Option<String> {
    let info = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

#[cfg(not(feature = "cuda"))]
impl Cuda {
    fn detect() -> Self {
        Self {
            not_available: Some("this program was built without feature cuda".into()),
            ..Self::default()
        }
    }
}

#[cfg(feature = "cuda")]
impl Cuda {
    fn detect() -> Self {
        use w4ax::cuda::{build_info, device_count, driver_version, runtime_version};
        let mut found = Self {
            driver: driver_version().map(|version| format!("CUDA {version}")),
            ..Self::default()
        };
        match build_info() {
            Ok(build) => {
                found.kernels = Some(build.archs.into());
                let runtime = runtime_version().map(|version| format!("CUDA runtime {version}"));
                found.libraries = runtime.into_iter().collect();
                if build.emulated {
                    let emulated = "kernels and driver emulated on the CPU, for tests only";
                    found.libraries.push(emulated.into());
                } else {
                    found.libraries.push(format!("nvcc {}", build.nvcc));
                    found.libraries.push(format!("CUTLASS {}", build.cutlass));
                }
            }
            Err(error) => found.not_available = Some(error.to_string()),
        }
        match device_count() {
            Ok(count) => found.devices = (0..count).map(device).collect(),
            Err(error) => {
                found.not_available.get_or_insert(error.to_string());
            }
        }
        found
    }
}

#[cfg(feature = "cuda")]
fn device(ordinal: usize) -> String {
    match w4ax::cuda::Gpu::new(ordinal) {
        Ok(gpu) => {
            let (major, minor) = gpu.compute_capability();
            let name = gpu.name();
            format!(
                "{ordinal}: {name}, sm_{major}{minor}, {} multiprocessors",
                gpu.props().multiprocessors
            )
        }
        Err(error) => format!("{ordinal}: {error}"),
    }
}
