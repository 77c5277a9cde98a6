//! Predicted times of a model's linear layers on GPUs.
//!
//! The times come from a static model of the CUDA kernels (`crates/gpu-model`), which writes the
//! table that this module reads. No GPU has run them. They cover the linear layers of the language
//! model's decoder, each of which is a call of its own; attention, norms, the vision towers,
//! projector and heads are not predicted. `docs/results/gpu-predicted.md` lists the assumptions.

use super::ModelShape;
use crate::step::StepPart;
use serde::Deserialize;
use std::time::Duration;
use w4ax::Width;

/// The table, as `gpu-model vla` writes it.
const TABLE: &str = include_str!("predicted.csv");

/// A predicted time, not a measured one: the linear layers of a part of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PredictedTime {
    /// The name of the GPU.
    pub device: String,
    /// The width.
    pub width: Width,
    /// The prefill, or the decode of the six tokens after it.
    pub part: StepPart,
    /// The time of the part's linear layers in all layers and passes.
    pub time: Duration,
}

/// A row of the table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    model: String,
    device: String,
    width: String,
    part: String,
    ms: f64,
}

/// Returns the predicted times of a shape by device, part and width.
///
/// ```
/// use w4ax::Width;
/// use w4ax_vla::measure::{ModelShape, predictions};
/// use w4ax_vla::step::StepPart;
///
/// let a4 = predictions(ModelShape::Oft7b).into_iter().find(|predicted| {
///     predicted.device == "RTX 4090" && predicted.width == Width::A4
/// });
/// assert_eq!(a4.unwrap().part, StepPart::Prefill);
/// ```
pub fn predictions(shape: ModelShape) -> Vec<PredictedTime> {
    parse(TABLE, shape).expect("the table of this crate is valid")
}

/// Returns the times of a shape. Lines of `table` that begin with `#` are comments.
fn parse(table: &str, shape: ModelShape) -> Result<Vec<PredictedTime>, String> {
    let mut reader = csv::ReaderBuilder::new()
        .comment(Some(b'#'))
        .from_reader(table.as_bytes());
    let mut times = Vec::new();
    for row in reader.deserialize() {
        let row: Row = row.map_err(|error| error.to_string())?;
        let of = row.shape()?;
        let predicted = row.predicted()?;
        if of == shape {
            times.push(predicted);
        }
    }
    Ok(times)
}

impl Row {
    fn shape(&self) -> Result<ModelShape, String> {
        let shapes = [ModelShape::OpenVla7b, ModelShape::Oft7b];
        let named = |shape: &ModelShape| shape.name() == self.model;
        (shapes.into_iter().find(named)).ok_or_else(|| {
            format!(
                "unknown model `{}`: expected openvla-7b or oft-7b",
                self.model
            )
        })
    }

    fn predicted(self) -> Result<PredictedTime, String> {
        let parts = [StepPart::Prefill, StepPart::Decode];
        let part = (parts.into_iter().find(|part| part.name() == self.part))
            .ok_or_else(|| format!("unknown part `{}`: expected prefill or decode", self.part))?;
        // The table has microseconds in three decimals.
        let micros = (1e3 * self.ms).round();
        if !(1.0..1e9).contains(&micros) {
            return Err(format!(
                "invalid time {} ms: expected .001 to 1000000",
                self.ms
            ));
        }
        Ok(PredictedTime {
            device: self.device,
            width: self.width.parse::<Width>().map_err(|e| e.to_string())?,
            part,
            time: Duration::from_micros(micros as u64),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const DEVICES: [&str; 4] = [
        "A100-SXM-80GB",
        "Jetson AGX Orin 64GB",
        "RTX 4090",
        "H100-SXM",
    ];

    type Times = BTreeMap<(String, StepPart, Width), Duration>;

    /// Returns the times of a shape, none of them twice.
    fn times(shape: ModelShape) -> Times {
        let mut times = Times::new();
        for PredictedTime {
            device,
            width,
            part,
            time,
        } in predictions(shape)
        {
            let row = format!("{device}, {part}, {width}");
            assert!(!time.is_zero(), "{row}");
            let before = times.insert((device, part, width), time);
            assert_eq!(before, None, "{row}");
        }
        times
    }

    #[test]
    fn table_has_every_device_part_and_width() {
        let both = [StepPart::Prefill, StepPart::Decode];
        for (shape, parts) in [
            (ModelShape::OpenVla7b, &both[..]),
            (ModelShape::Oft7b, &both[..1]),
        ] {
            let times = times(shape);
            for device in DEVICES {
                for &part in parts {
                    for width in Width::ALL {
                        let key = (device.to_owned(), part, width);
                        assert!(times.contains_key(&key), "{shape:?}: {key:?}");
                    }
                }
            }
            assert_eq!(times.len(), DEVICES.len() * parts.len() * Width::ALL.len());
        }
    }

    /// No kernel reads 3.2 GB of INT4 weights in less time than the device's memory does, and 600
    /// tokens take longer than 281.
    #[test]
    fn times_are_physical() {
        let [one_by_one, one_pass] = [ModelShape::OpenVla7b, ModelShape::Oft7b].map(times);
        // 202,375,168 weights of a layer.
        let bytes = 32.0 * 202_375_168.0 / 2.0;
        let gb_per_s = [2039.0, 204.8, 1008.0, 3352.0];
        for (device, gb_per_s) in DEVICES.into_iter().zip(gb_per_s) {
            for width in Width::ALL {
                let key = |part| (device.to_owned(), part, width);
                let prefill = one_by_one[&key(StepPart::Prefill)];
                let decode = one_by_one[&key(StepPart::Decode)];
                let least = bytes / (1e9 * gb_per_s);
                assert!(
                    decode.as_secs_f64() > 6.0 * least,
                    "{device} {width}: {decode:?}"
                );
                assert!(prefill.as_secs_f64() > least, "{device} {width}");
                assert!(
                    one_pass[&key(StepPart::Prefill)] > prefill,
                    "{device} {width}"
                );
            }
        }
    }

    /// On devices whose kernels use `mma.sync`. The H100 multiplies BF16 by wgmma, where rescaling
    /// the groups of A8 costs more than it saves at 281 tokens.
    #[test]
    fn narrower_widths_have_shorter_prefills_on_devices_without_wgmma() {
        for shape in [ModelShape::OpenVla7b, ModelShape::Oft7b] {
            let times = times(shape);
            for device in &DEVICES[..3] {
                let prefill = Width::ALL
                    .map(|width| times[&((*device).to_owned(), StepPart::Prefill, width)]);
                assert!(prefill.is_sorted(), "{shape:?} {device}: {prefill:?}");
                assert!(prefill[1] < prefill[2] && prefill[2] < prefill[3]);
            }
        }
    }

    #[test]
    fn rejects_invalid_tables() {
        let header = "model,device,width,part,ms\n";
        let valid = "openvla-7b,A100,a4,prefill,1.5\n";
        let times = parse(
            &format!("# a comment\n{header}{valid}"),
            ModelShape::OpenVla7b,
        );
        assert_eq!(times.unwrap()[0].time, Duration::from_micros(1500));
        for (row, reason) in [
            ("openvla,A100,a4,prefill,1.5", "unknown model `openvla`"),
            ("oft-7b,A100,a3,prefill,1.5", "`a3`"),
            ("oft-7b,A100,a4,vision,1.5", "unknown part `vision`"),
            ("oft-7b,A100,a4,prefill,0", "invalid time 0 ms"),
            ("oft-7b,A100,a4,prefill,-1", "invalid time -1 ms"),
            ("oft-7b,A100,a4,prefill,NaN", "invalid time NaN ms"),
            ("oft-7b,A100,a4,prefill,", "empty string"),
            ("oft-7b,A100,a4,prefill", "4 fields"),
        ] {
            // Rows of the other shape are checked too.
            let error = parse(&format!("{header}{row}\n"), ModelShape::OpenVla7b).unwrap_err();
            assert!(error.contains(reason), "{row}: {error}");
        }
        let error = parse("model,device,width,part\na,b,a4,d\n", ModelShape::Oft7b).unwrap_err();
        assert!(error.contains("missing field `ms`"), "{error}");
    }
}
