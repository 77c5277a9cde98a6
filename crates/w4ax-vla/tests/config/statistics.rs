//! Statistics of data sets.

use crate::{folder, json};
use serde_json::{Value, json};
use w4ax_vla::VlaError;
use w4ax_vla::config::{DatasetStats, NormStats, Stats};

#[test]
fn numbers_are_read_to_the_bit() {
    let stats = NormStats::load(folder("oft-tiny")).unwrap();
    let (name, dataset) = stats.get(None).unwrap();
    assert_eq!(name, "libero_spatial_no_noops");
    assert_eq!(dataset.action.q01()[0], -0.34238528558022696);
    assert_eq!(dataset.action.q99()[6], 1.0);
    assert_eq!(dataset.action.max().unwrap()[1], 0.09196057739696423);
    let proprio = dataset.proprio.as_ref().unwrap();
    assert_eq!(proprio.dims(), 8);
    assert_eq!(proprio.min().unwrap()[7], -1.215039423846205);
}

#[test]
fn missing_mask_normalizes_all_dimensions() {
    let stats = NormStats::load(folder("openvla-tiny")).unwrap();
    let mask = |key| stats.get(Some(key)).unwrap().1.action.mask().to_vec();
    assert_eq!(mask("nomask_tiny"), [true; 7]);
    assert_eq!(
        mask("bridge_tiny"),
        [true, true, true, true, true, true, false]
    );
    assert_eq!(
        mask("fractal_tiny"),
        [true, true, false, true, true, true, false]
    );
}

#[test]
fn statistics_of_the_data_set_replace_those_of_the_model() {
    let folder = tempfile::tempdir().unwrap();
    let copy = |model: &str, file: &str| {
        std::fs::copy(crate::folder(model).join(file), folder.path().join(file)).unwrap();
    };
    copy("openvla-tiny", "config.json");
    let stats = NormStats::load(folder.path()).unwrap();
    let keys: Vec<_> = stats.keys().collect();
    assert_eq!(keys, ["bridge_tiny", "fractal_tiny", "nomask_tiny"]);

    copy("oft-tiny", "dataset_statistics.json");
    let stats = NormStats::load(folder.path()).unwrap();
    let keys: Vec<_> = stats.keys().collect();
    assert_eq!(keys, ["libero_spatial_no_noops"]);
}

#[test]
fn both_files_have_the_same_statistics() {
    let text = json("config.json")["norm_stats"].to_string();
    let from_config = NormStats::from_json("", &text).unwrap();
    let text = json("dataset_statistics.json").to_string();
    assert_eq!(from_config, NormStats::from_json("", &text).unwrap());
}

#[test]
fn errors_list_the_data_sets() {
    let stats = NormStats::load(folder("openvla-tiny")).unwrap();
    for (key, reason) in [
        (
            Some("libero_spatial"),
            "no statistics of data set `libero_spatial`",
        ),
        (None, "no key for 3 data sets"),
    ] {
        let error = stats.get(key).unwrap_err().to_string();
        assert!(error.contains("dataset_statistics.json: "), "{error}");
        let list = "expected one of bridge_tiny, fractal_tiny, nomask_tiny";
        assert!(error.ends_with(&format!("{reason}: {list}")), "{error}");
    }
}

/// Parses the statistics of one data set with one field replaced.
fn with(field: &str, value: Value) -> Result<NormStats, VlaError> {
    let mut stats = json("dataset_statistics.json");
    let mut stats = json!({"d": stats["bridge_tiny"].take()});
    stats["d"]["action"][field] = value;
    NormStats::from_json("s.json", &stats.to_string())
}

#[test]
fn rejects_vectors_of_other_lengths() {
    for (field, value) in [
        ("q99", json!([1.0])),
        ("min", json!([1.0])),
        ("max", json!([0, 0, 0, 0, 0, 0, 0, 0])),
        ("mask", json!([true, false])),
    ] {
        let n = value.as_array().unwrap().len();
        let error = with(field, value).unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "s.json: `d.action.{field}` is a list of {n} values: expected 7 values, as in q01"
            )
        );
    }
    assert!(with("q01", json!([])).is_err());
}

#[test]
fn rejects_statistics_that_are_missing() {
    for (field, value) in [("q01", Value::Null), ("q99", json!("none"))] {
        let error = with(field, value).unwrap_err();
        assert!(
            matches!(&error, VlaError::Field { field, .. } if field == "d"),
            "{error}"
        );
    }
    for text in ["{}", "{\"d\": {\"proprio\": null}}", "{\"d\": null}"] {
        assert!(NormStats::from_json("s.json", text).is_err(), "{text}");
    }
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.json");
    std::fs::write(&config, "{\"norm_stats\": null}").unwrap();
    let error = NormStats::load(folder.path()).unwrap_err().to_string();
    assert!(
        error.contains("`norm_stats` is empty or missing"),
        "{error}"
    );
    assert!(error.contains("dataset_statistics.json"), "{error}");
    assert!(with("max", Value::Null).is_ok());
}

#[test]
fn rejects_numbers_that_are_not_finite() {
    for value in [f64::NAN, f64::INFINITY] {
        assert!(Stats::new(vec![0.0, value], vec![1.0, 1.0]).is_err());
        let stats = Stats::new(vec![0.0], vec![1.0]).unwrap();
        let error = stats.with_min_max(vec![0.0], vec![value]).unwrap_err();
        assert!(
            error.to_string().starts_with("statistics is max: "),
            "{error}"
        );
    }
    let text = "{\"d\": {\"action\": {\"q01\": [NaN], \"q99\": [1.0]}}}";
    assert!(matches!(
        NormStats::from_json("s.json", text),
        Err(VlaError::Json { .. })
    ));
}

#[test]
fn statistics_can_be_made() {
    let action = Stats::new(vec![-1.0; 7], vec![1.0; 7]).unwrap();
    let dataset = DatasetStats::new(action, None);
    let stats = NormStats::new("random", vec![("random".to_owned(), dataset.clone())]);
    assert_eq!(stats.get(None).unwrap(), ("random", &dataset));
    assert!(Stats::new(vec![], vec![]).is_err());
    assert!(Stats::new(vec![0.0], vec![]).is_err());
}
