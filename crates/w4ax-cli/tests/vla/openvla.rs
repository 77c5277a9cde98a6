//! The small OpenVLA checkpoint.

use super::*;
use test_support::{openvla_copy, vla_data};

#[test]
fn plain_model_gives_the_tokens_and_actions_of_the_reference() {
    for case in cases() {
        for (key, action) in case.reference["actions"].as_object().unwrap() {
            let more = ["--plain", "--unnorm-key", key];
            let step = step(&openvla_folder(), &[&case.arguments()[..], &more].concat());
            assert_eq!(step["tokens"], case.reference["tokens_f32"]);
            assert_eq!(&step["action"], action, "{key}");
            assert_eq!([&step["width_prefill"], &step["width_decode"]], [16, 16]);
        }
    }
}

#[test]
fn unquantized_model_gives_the_tokens_of_the_reference() {
    for case in cases() {
        let step = step(
            &openvla_folder(),
            &[&case.bridge()[..], &["--unquantized"]].concat(),
        );
        assert_eq!(step["tokens"], case.reference["tokens_bf16"]);
    }
}

#[test]
fn json_has_exactly_the_documented_fields() {
    let [case, ..] = cases();
    let step = step(
        &openvla_folder(),
        &[&case.bridge()[..], &["--width", "a4"]].concat(),
    );
    let keys: Vec<&String> = step.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        [
            "action",
            "tokens",
            "width_prefill",
            "width_decode",
            "micros",
            "bytes"
        ]
    );
    assert_eq!(step["action"].as_array().unwrap().len(), 7);
    assert!(step["action"].as_array().unwrap().iter().all(Value::is_f64));
    assert_eq!(step["tokens"].as_array().unwrap().len(), 7);
    assert_eq!([&step["width_prefill"], &step["width_decode"]], [4, 4]);
    for (field, parts) in [
        (
            "micros",
            &["preprocess", "vision", "projector", "prefill", "decode"][..],
        ),
        (
            "bytes",
            &[
                "vision",
                "projector",
                "layers",
                "embeddings",
                "head",
                "cache",
            ],
        ),
    ] {
        let object = step[field].as_object().unwrap();
        let keys: Vec<&String> = object.keys().collect();
        assert_eq!(keys, parts, "{field}");
        assert!(
            object.values().all(|n| n.as_u64().is_some_and(|n| n > 0)),
            "{object:?}"
        );
    }
}

#[test]
fn prints_the_action_by_name_and_the_widths() {
    let [case, ..] = cases();
    let arguments = [&case.bridge()[..], &["--width", "a8"]].concat();
    let (out, steps) = run(&openvla_folder(), &arguments).unwrap();
    for expected in [
        "gripper",
        "prefill a8, decode a8",
        "vision",
        "embeddings",
        "MB",
    ] {
        assert!(out.contains(expected), "`{expected}` is not in: {out}");
    }
    for number in steps[0]["action"].as_array().unwrap() {
        let number = format!("{:.5}", number.as_f64().unwrap());
        assert!(out.contains(&number), "{number} is not in: {out}");
    }
    for token in steps[0]["tokens"].as_array().unwrap() {
        assert!(out.contains(&token.to_string()), "{token} is not in: {out}");
    }
}

#[test]
fn instruction_is_encoded_by_the_tokenizer_of_the_checkpoint() {
    let folder = openvla_copy();
    let copy = folder.path().join("tokenizer.json");
    std::fs::copy(vla_data().join("tokenizer.json"), copy).unwrap();
    let expected = json(&vla_data().join("tokenizer_expected.json"));
    let prompts = expected["prompts"].as_array().unwrap();
    let prompt = prompts.iter().find(|p| p["style"] == "OpenVla").unwrap();
    let [case, ..] = cases();
    let more = [
        "--image",
        text(&case.image),
        "--unnorm-key",
        "bridge_tiny",
        "--width",
        "a8",
    ];
    let run = |prompt: [&str; 2]| step(folder.path(), &[&prompt, &more[..]].concat());
    let by_text = run(["--instruction", prompt["instruction"].as_str().unwrap()]);
    let by_ids = run(["--tokens", &ids(&prompt["ids"])]);
    assert_eq!(by_text["tokens"], by_ids["tokens"]);
    assert_eq!(by_text["action"], by_ids["action"]);
    let other = run(["--instruction", "open the top drawer"]);
    assert_ne!(by_text["tokens"], other["tokens"]);
}

/// Every width, with one thread and with two.
#[test]
fn runs_repeat_bit_for_bit() {
    let [_, case, _] = cases();
    for width in ["a2", "a4", "a8", "bf16"] {
        let run = |threads| {
            let more = ["--width", width, "--threads", threads];
            let step = step(&openvla_folder(), &[&case.bridge()[..], &more].concat());
            let bits = if width == "bf16" { "16" } else { &width[1..] };
            assert_eq!(step["width_decode"].to_string(), bits);
            (step["tokens"].clone(), step["action"].clone())
        };
        let first = run("1");
        assert_eq!(first, run("1"), "{width}");
        assert_eq!(first, run("2"), "{width}");
    }
}

#[test]
fn packing_vision_and_dropping_rows_of_the_head_saves_memory() {
    let [case, ..] = cases();
    let run = |more: &[&str]| step(&openvla_folder(), &[&case.bridge()[..], more].concat());
    let bytes = |step: &Value, part: &str| step["bytes"][part].as_u64().unwrap();
    let (all, packed, rows) = (run(&[]), run(&["--pack-vision"]), run(&["--action-rows"]));
    assert!(bytes(&packed, "vision") < bytes(&all, "vision"));
    // 256 of 32064 rows.
    assert!(bytes(&rows, "head") * 100 < bytes(&all, "head"));
    assert_eq!(all["tokens"], rows["tokens"]);
}
