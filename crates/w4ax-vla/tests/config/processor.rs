//! `preprocessor_config.json`.

use crate::{folder, json};
use serde_json::{Value, json};
use w4ax_vla::VlaError;
use w4ax_vla::config::ProcessorConfig;
use w4ax_vla::image::ResizeStrategy;

/// Parses the configuration of the small checkpoint with some fields replaced. `null` removes.
fn with(fields: &[(&str, Value)]) -> Result<ProcessorConfig, VlaError> {
    let mut config = json("preprocessor_config.json");
    for (field, value) in fields {
        config[field] = value.clone();
    }
    ProcessorConfig::from_json("p.json", &config.to_string())
}

/// As [`with`], without the stored parameters of the transforms.
fn derived(fields: &[(&str, Value)]) -> Result<ProcessorConfig, VlaError> {
    let mut all: Vec<_> = [
        "tvf_do_letterbox",
        "tvf_letterbox_fill",
        "tvf_resize_params",
        "tvf_crop_params",
        "tvf_normalize_params",
    ]
    .map(|field| (field, Value::Null))
    .to_vec();
    all.extend_from_slice(fields);
    with(&all)
}

#[test]
fn loads_the_small_checkpoint() {
    let config = ProcessorConfig::load(folder("openvla-tiny")).unwrap();
    assert_eq!(config, ProcessorConfig::openvla_7b());
    assert_eq!(config.size, 224);
    assert_eq!(config.strategy, ResizeStrategy::ResizeNaive);
    // Rounded to BF16, unlike `means` and `stds` of the same file.
    assert_eq!(
        config.towers[0].mean.map(f64::from),
        [0.484375, 0.455078125, 0.40625]
    );
    assert_eq!(
        config.towers[0].std.map(f64::from),
        [0.228515625, 0.2236328125, 0.224609375]
    );
    assert_eq!(config.towers[1].mean, [0.5; 3]);
}

#[test]
fn normalized_bytes_equal_the_reference_to_the_bit() {
    let file = folder("openvla-tiny").join("reference.safetensors");
    let bytes = std::fs::read(file).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let table = tensors.tensor("pixel_lut").unwrap();
    assert_eq!(table.shape(), [6, 256]);
    let expected = table.data().chunks_exact(4);
    let expected: Vec<u32> = expected
        .map(|b| u32::from_le_bytes(b.try_into().unwrap()))
        .collect();

    let config = ProcessorConfig::load(folder("openvla-tiny")).unwrap();
    let processor = config.processor().unwrap();
    assert_eq!((processor.size(), processor.channels()), (224, 6));
    let values = processor.pixel_table().iter().flatten();
    assert_eq!(values.map(|v| v.to_bits()).collect::<Vec<_>>(), expected);
}

#[test]
fn normalization_follows_from_means_if_it_is_not_stored() {
    let config = derived(&[]).unwrap();
    assert_eq!(config.towers[0].mean, [0.485f32, 0.456, 0.406]);
    assert_eq!(config.towers[0].std, [0.229f32, 0.224, 0.225]);
}

#[test]
fn strategy_follows_from_its_name_if_it_is_not_stored() {
    let resize = |fields: &[(&str, Value)]| derived(fields).unwrap().strategy;
    let strategy = |name: &str| resize(&[("image_resize_strategy", json!(name))]);
    assert_eq!(strategy("resize-naive"), ResizeStrategy::ResizeNaive);
    assert_eq!(strategy("resize-crop"), ResizeStrategy::ResizeCrop);
    // The color is the mean of the last tower, not rounded.
    let letterbox = |fill| ResizeStrategy::Letterbox { fill };
    assert_eq!(strategy("letterbox"), letterbox([127; 3]));
    assert_eq!(
        resize(&[("image_resize_strategy", Value::Null)]),
        letterbox([127; 3])
    );
    let imagenet = [
        ("image_resize_strategy", json!("letterbox")),
        ("means", json!([[0.5, 0.5, 0.5], [0.485, 0.456, 0.406]])),
    ];
    assert_eq!(resize(&imagenet), letterbox([123, 116, 103]));
}

#[test]
fn stored_transforms_replace_the_strategy() {
    let sides = |size: Value| {
        let tower = json!({"size": size, "interpolation": 3, "antialias": true});
        json!([tower, tower])
    };
    let config = with(&[("tvf_resize_params", sides(json!(224)))]).unwrap();
    assert_eq!(config.strategy, ResizeStrategy::ResizeCrop);
    let config = with(&[
        ("tvf_resize_params", sides(json!(224))),
        ("tvf_do_letterbox", json!(true)),
        ("tvf_letterbox_fill", json!([1, 2, 3])),
    ]);
    let fill = [1, 2, 3];
    assert_eq!(config.unwrap().strategy, ResizeStrategy::Letterbox { fill });
    let config = with(&[
        ("image_resize_strategy", json!("letterbox")),
        ("tvf_resize_params", Value::Null),
    ]);
    // `tvf_do_letterbox` of the file is false.
    assert_eq!(config.unwrap().strategy, ResizeStrategy::ResizeCrop);
}

#[test]
fn rejects_what_is_not_supported() {
    let resize = |key: &str, value: Value| {
        let mut tower = json!({"size": [224, 224], "interpolation": 3, "max_size": null});
        tower[key] = value;
        json!([tower, tower])
    };
    for (field, value) in [
        ("image_resize_strategy", json!("stretch")),
        ("interpolations", json!(["bicubic", "bilinear"])),
        ("input_sizes", json!([[3, 224, 224], [3, 384, 384]])),
        ("input_sizes", json!([[1, 224, 224], [1, 224, 224]])),
        ("input_sizes", json!([])),
        ("tvf_resize_params", resize("interpolation", json!(2))),
        ("tvf_resize_params", resize("max_size", json!(512))),
        ("tvf_resize_params", resize("size", json!([224, 256]))),
        ("tvf_resize_params", json!([])),
        (
            "tvf_crop_params",
            json!([{"output_size": [224, 224]}, {"output_size": [200, 200]}]),
        ),
        ("tvf_do_letterbox", json!(true)),
        (
            "tvf_normalize_params",
            json!([{"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}]),
        ),
    ] {
        let error = with(&[(field, value.clone())]).unwrap_err();
        let VlaError::Field {
            file, field: found, ..
        } = &error
        else {
            panic!("{error}");
        };
        assert_eq!(file, "p.json");
        assert!(found.starts_with(field), "{error}");
    }
    let zero = json!([[0.0, 0.2, 0.2], [0.5, 0.5, 0.5]]);
    assert!(derived(&[("stds", zero)]).is_err());
    assert!(derived(&[("means", json!([[0.5, 0.5, 0.5]]))]).is_err());
}
