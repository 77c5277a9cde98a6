//! Predicted times of the linear layers of OpenVLA-7B and OpenVLA-OFT, as a table.
//!
//! A layer of the language model (Llama-2-7B) has seven linear layers, each of which is a call of
//! its own on activations in BF16. The time of a part is the sum of its calls. Attention, norms,
//! the vision towers and the head are not predicted.
//!
//! The rows of devices of generation 8 are predicted from the machine code of sm_80 with the limits
//! and rates of the device, those of generation 9 from the machine code of sm_90a. A build without
//! one of them leaves its rows as they are, and so does a build with code of the device's own
//! architecture, which the model prefers.

use std::fmt::Write as _;
use std::path::Path;

use w4ax::cuda::Problem;
use w4ax::{Grouping, Width};

use crate::device::{DEVICES, DeviceSpec};
use crate::error::{Error, Result};
use crate::kernels::KernelLibrary;
use crate::predict::{predict, with_table_choice};

/// The names of the devices of the table, as [`DEVICES`] has them.
pub const TABLE_DEVICES: [&str; 4] = [
    "A100-SXM-80GB",
    "Jetson AGX Orin 64GB",
    "RTX 4090",
    "H100-SXM",
];

/// The architectures whose machine code the table is predicted from.
const MACHINES: [&str; 2] = ["sm_80", "sm_90a"];

/// Decoder layers of Llama-2-7B.
const LAYERS: usize = 32;

/// `[N, K]` of a layer's calls: q, k, v, o, gate, up and down.
const LINEARS: [(usize, usize); 7] = [
    (4096, 4096),
    (4096, 4096),
    (4096, 4096),
    (4096, 4096),
    (11008, 4096),
    (11008, 4096),
    (4096, 11008),
];

/// A part of a model's step, named as `w4ax-vla` names it.
struct ModelPart {
    model: &'static str,
    part: &'static str,
    /// Tokens of a pass through the layers.
    tokens: usize,
    passes: usize,
}

const PARTS: [ModelPart; 3] = [
    // BOS, 256 tokens of the image and 24 of the prompt.
    ModelPart {
        model: "openvla-7b",
        part: "prefill",
        tokens: 281,
        passes: 1,
    },
    // The prefill has the first of seven tokens.
    ModelPart {
        model: "openvla-7b",
        part: "decode",
        tokens: 1,
        passes: 6,
    },
    // Two images, the prompt, the state, 56 tokens of actions and the end.
    ModelPart {
        model: "oft-7b",
        part: "prefill",
        tokens: 600,
        passes: 1,
    },
];

/// A row of the table.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct PartTime {
    /// Name of the model on the command line of `w4ax vla bench`.
    pub model: String,
    /// Name of the device.
    pub device: String,
    /// Name of the width.
    pub width: String,
    /// Name of the part.
    pub part: String,
    /// Predicted time of the part's linear layers in milliseconds, rounded to a microsecond.
    pub ms: f64,
}

/// Returns the devices of the table that this build predicts from the table's machine code.
fn devices(kernels: &KernelLibrary) -> impl Iterator<Item = &'static DeviceSpec<'static>> {
    DEVICES.iter().filter(|device| {
        let machine = kernels.arch(&device.arch).unwrap_or_default();
        TABLE_DEVICES.contains(&device.name) && MACHINES.contains(&machine.as_str())
    })
}

/// Predicts the rows of the devices whose machine code this build has.
///
/// # Errors
/// If a kernel does not exist or does not fit on a device.
pub fn part_times(kernels: &mut KernelLibrary) -> Result<Vec<PartTime>> {
    let devices: Vec<_> = devices(kernels).collect();
    let mut rows = Vec::new();
    for device in devices {
        for part in &PARTS {
            for width in Width::ALL {
                let mut layer_us = 0.0;
                for (n, k) in LINEARS {
                    let case = Problem::new((part.tokens, n, k), width, Grouping::G128);
                    let case = with_table_choice(device, &case)?;
                    layer_us += predict(kernels, device, &case)?.us;
                }
                let us = layer_us * (LAYERS * part.passes) as f64;
                rows.push(PartTime {
                    model: part.model.to_owned(),
                    device: device.name.to_owned(),
                    width: width.to_string(),
                    part: part.part.to_owned(),
                    ms: us.round() / 1e3,
                });
            }
        }
    }
    Ok(rows)
}

/// Reads the rows of a table. Lines that begin with `#` are comments.
///
/// # Errors
/// If a row is invalid.
pub fn parse(text: &str) -> std::result::Result<Vec<PartTime>, csv::Error> {
    let mut reader = csv::ReaderBuilder::new()
        .comment(Some(b'#'))
        .from_reader(text.as_bytes());
    reader.deserialize().collect()
}

/// Predicts the rows of this build's devices and writes them to a table. The rows of other devices
/// in an existing file remain.
///
/// # Errors
/// As [`part_times`], and if the file is invalid or cannot be written.
pub fn write(kernels: &mut KernelLibrary, path: &Path) -> Result<()> {
    let failed = |source: csv::Error| Error::Table {
        path: path.to_owned(),
        source,
    };
    let existing = match std::fs::read_to_string(path) {
        Ok(text) => parse(&text).map_err(failed)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(failed(error.into())),
    };
    let predicted = part_times(kernels)?;
    let of_device = |rows: &[PartTime], device: &str| -> Vec<PartTime> {
        (rows.iter().filter(|row| row.device == device))
            .cloned()
            .collect()
    };
    let mut text = String::new();
    let nvcc = w4ax::cuda::build_info()?.nvcc;
    let _ = writeln!(
        text,
        "# Predicted by a static model, not measured: milliseconds of the linear layers of the \
         language model, nvcc {nvcc}. W4AX_CUDA_ARCHS=\"80;90a\" cargo run -p gpu-model \
         --features cuda -- vla crates/w4ax-vla/src/measure/predicted.csv"
    );
    let mut writer = csv::Writer::from_writer(Vec::new());
    for device in TABLE_DEVICES {
        let mut rows = of_device(&predicted, device);
        if rows.is_empty() {
            eprintln!("unchanged: {device}: this build has other machine code");
            rows = of_device(&existing, device);
        }
        for row in rows {
            writer.serialize(row).map_err(failed)?;
        }
    }
    let rows = (writer.into_inner()).expect("writing to memory does not fail");
    text += &String::from_utf8(rows).expect("the names are UTF-8");
    std::fs::write(path, text).map_err(|error| failed(error.into()))
}
