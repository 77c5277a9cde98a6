//! The times on GPUs that a static model predicts, beside the measured ones.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};
use w4ax::Width;
use w4ax_robot::table::table;
use w4ax_vla::measure::{ModelShape, predictions};
use w4ax_vla::step::StepPart;

/// The predicted times of a device.
struct DeviceTimes {
    device: String,
    /// By part, and by width in the order of [`Width::ALL`].
    parts: BTreeMap<StepPart, [Duration; 4]>,
}

impl DeviceTimes {
    /// Returns the times of a shape, device by device.
    fn of(shape: ModelShape) -> Vec<Self> {
        let mut devices: Vec<Self> = Vec::new();
        for predicted in predictions(shape) {
            let known = devices.iter().position(|d| d.device == predicted.device);
            let at = known.unwrap_or_else(|| {
                devices.push(Self {
                    device: predicted.device,
                    parts: BTreeMap::new(),
                });
                devices.len() - 1
            });
            let widths = devices[at].parts.entry(predicted.part).or_default();
            widths[predicted.width.index()] = predicted.time;
        }
        devices
    }

    /// Returns the time of all parts at a width.
    fn sum(&self, width: Width) -> Duration {
        self.parts.values().map(|times| times[width.index()]).sum()
    }

    /// Returns the rows of the table: each part, the sum of several, and what the width saves.
    fn rows(&self) -> Vec<Vec<String>> {
        let millis = |time: Duration| format!("{:.2}", 1e3 * time.as_secs_f64());
        let row = |name: &str, value: &dyn Fn(Width) -> String| {
            let mut row = vec![format!("{}: {name}", self.device)];
            row.extend(Width::ALL.map(value));
            row
        };
        let mut rows: Vec<Vec<String>> = (self.parts.iter())
            .map(|(part, times)| row(part.name(), &|width| millis(times[width.index()])))
            .collect();
        if self.parts.len() > 1 {
            rows.push(row("all", &|width| millis(self.sum(width))));
        }
        let full = self.sum(Width::Bf16).as_secs_f64();
        rows.push(row("times faster than W4A16", &|width| {
            format!("{:.2}", full / self.sum(width).as_secs_f64())
        }));
        rows
    }
}

/// Prints the predicted times of a shape.
pub fn print(shape: ModelShape) {
    let widths = Width::ALL.map(|width| width.to_string());
    let mut header = vec!["ms, predicted"];
    header.extend(widths.iter().map(String::as_str));
    let rows = DeviceTimes::of(shape)
        .into_iter()
        .flat_map(|device| device.rows());
    println!(
        "\nGPUs: predicted by a static model of the CUDA kernels, not measured; only the linear \
         layers of the language model, without attention, norms, vision and heads\n{}",
        table(&header, rows)
    );
}

/// Returns the predicted times of a shape as JSON: a list of devices and widths.
pub fn to_json(shape: ModelShape) -> Value {
    let of = |device: &DeviceTimes, width: Width| {
        let parts = device.parts.iter();
        let micros: Map<String, Value> = parts
            .map(|(part, times)| {
                let micros = times[width.index()].as_micros() as u64;
                (part.to_string(), json!(micros))
            })
            .collect();
        json!({ "device": device.device, "width": width.bits(), "micros": micros })
    };
    let devices = DeviceTimes::of(shape);
    let rows = devices
        .iter()
        .flat_map(|device| Width::ALL.map(|width| of(device, width)));
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Returns the names of the parts that each entry has, after a check of its numbers.
    fn parts(shape: ModelShape) -> BTreeSet<BTreeSet<String>> {
        let json = to_json(shape);
        let entries = json.as_array().unwrap();
        let keys: BTreeSet<(&str, u64)> = (entries.iter())
            .map(|e| (e["device"].as_str().unwrap(), e["width"].as_u64().unwrap()))
            .collect();
        assert_eq!((entries.len(), keys.len()), (16, 16));
        for device in [
            "A100-SXM-80GB",
            "Jetson AGX Orin 64GB",
            "RTX 4090",
            "H100-SXM",
        ] {
            for width in [2, 4, 8, 16] {
                assert!(keys.contains(&(device, width)), "{device} {width}");
            }
        }
        let names = |entry: &Value| {
            let micros = entry["micros"].as_object().unwrap();
            assert!(micros.values().all(|n| n.as_u64().unwrap() > 0), "{entry}");
            micros.keys().cloned().collect()
        };
        entries.iter().map(names).collect()
    }

    #[test]
    fn json_has_four_devices_at_four_widths() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let both = names(&["prefill", "decode"]);
        assert_eq!(parts(ModelShape::OpenVla7b), BTreeSet::from([both]));
        let prefill = names(&["prefill"]);
        assert_eq!(parts(ModelShape::Oft7b), BTreeSet::from([prefill]));
    }

    #[test]
    fn json_has_the_times_of_the_model() {
        let json = to_json(ModelShape::OpenVla7b);
        for predicted in predictions(ModelShape::OpenVla7b) {
            let entry = (json.as_array().unwrap().iter())
                .find(|e| {
                    e["device"] == predicted.device.as_str() && e["width"] == predicted.width.bits()
                })
                .unwrap();
            let micros = predicted.time.as_micros() as u64;
            assert_eq!(entry["micros"][predicted.part.name()], micros, "{entry}");
        }
    }

    /// The gain of a step with a decode is that of the sum, not the sum or the mean of gains.
    #[test]
    fn gain_is_that_of_all_parts() {
        let millis = |of: [u64; 4]| of.map(Duration::from_millis);
        let mut device = DeviceTimes {
            device: "GPU".into(),
            parts: BTreeMap::from([(StepPart::Prefill, millis([10, 10, 20, 30]))]),
        };
        let one_pass = device.rows();
        assert_eq!(one_pass[0][..2], ["GPU: prefill", "10.00"]);
        assert_eq!(one_pass[1][1..], ["3.00", "3.00", "1.50", "1.00"]);
        device
            .parts
            .insert(StepPart::Decode, millis([10, 10, 10, 10]));
        let rows = device.rows();
        assert_eq!(rows[2][0], "GPU: all");
        assert_eq!(rows[2][1..], ["20.00", "20.00", "30.00", "40.00"]);
        assert_eq!(rows[3][1..], ["2.00", "2.00", "1.33", "1.00"]);
    }
}
