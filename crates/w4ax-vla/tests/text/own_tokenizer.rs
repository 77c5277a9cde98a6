//! A small tokenizer of Llama-2's kind, made for these tests. Its expected ids were computed by a
//! separate implementation of byte-pair encoding.

use serde::Deserialize;
use w4ax_vla::VlaError;
use w4ax_vla::text::{PromptStyle, Tokenizer};

#[derive(Deserialize)]
struct Expected {
    prompts: Vec<Prompt>,
    texts: Vec<Text>,
}

#[derive(Deserialize)]
struct Prompt {
    instruction: String,
    style: String,
    ids: Vec<u32>,
}

#[derive(Deserialize)]
struct Text {
    text: String,
    ids: Vec<u32>,
}

fn expected() -> Expected {
    let file = crate::data().join("tokenizer_expected.json");
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

fn tokenizer() -> Tokenizer {
    Tokenizer::load(crate::data()).unwrap()
}

#[test]
fn ids_of_prompts_equal_the_expected_ones() {
    let tokenizer = tokenizer();
    for row in expected().prompts {
        let style = match row.style.as_str() {
            "OpenVla" => PromptStyle::OpenVla,
            _ => PromptStyle::V01,
        };
        let ids = tokenizer.encode_prompt(&row.instruction, style).unwrap();
        assert_eq!(ids, row.ids, "{:?} {style:?}", row.instruction);
        assert_eq!(ids.last(), Some(&tokenizer.space()));
    }
}

#[test]
fn ids_of_texts_equal_the_expected_ones() {
    let tokenizer = tokenizer();
    for row in expected().texts {
        assert_eq!(
            tokenizer.encode(&row.text).unwrap(),
            row.ids,
            "{:?}",
            row.text
        );
    }
}

#[test]
fn appends_the_space_once() {
    let tokenizer = tokenizer();
    let (bos, space) = (tokenizer.bos(), tokenizer.space());
    let mut ids = tokenizer.encode("a ").unwrap();
    assert_eq!(ids.last(), Some(&space));
    let before = ids.clone();
    tokenizer.append_space(&mut ids);
    assert_eq!(ids, before);

    // Several spaces at the end are another piece.
    let mut ids = tokenizer.encode("a  ").unwrap();
    assert_ne!(ids.last(), Some(&space));
    tokenizer.append_space(&mut ids);
    assert_eq!(ids.last(), Some(&space));

    let mut ids = vec![bos];
    tokenizer.append_space(&mut ids);
    assert_eq!(ids, [bos, space]);
}

#[test]
fn does_not_depend_on_padding_truncation_or_post_processor_of_the_file() {
    let text = std::fs::read_to_string(crate::data().join("tokenizer.json")).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
    json["truncation"] = serde_json::json!({
        "direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0
    });
    json["padding"] = serde_json::json!({
        "strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": null,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "<unk>"
    });
    json["post_processor"] = serde_json::Value::Null;
    let other = Tokenizer::from_bytes("other.json", json.to_string().as_bytes()).unwrap();
    let instruction = "pick up the red block";
    assert_eq!(
        other
            .encode_prompt(instruction, PromptStyle::OpenVla)
            .unwrap(),
        tokenizer()
            .encode_prompt(instruction, PromptStyle::OpenVla)
            .unwrap()
    );
}

#[test]
fn rejects_files_that_are_no_llama_tokenizer() {
    let folder = tempfile::tempdir().unwrap();
    let missing = Tokenizer::load(folder.path()).unwrap_err();
    assert!(matches!(&missing, VlaError::Io { file, .. } if file.ends_with("tokenizer.json")));

    let invalid = Tokenizer::from_bytes("t.json", b"{").unwrap_err();
    assert!(matches!(&invalid, VlaError::Tokenizer { file, .. } if file == "t.json"));

    // A model without the piece of a space, or without the token that begins a sequence.
    let text = std::fs::read_to_string(crate::data().join("tokenizer.json")).unwrap();
    for (piece, other) in [("\"▁\":", "\"_space\":"), ("\"<s>\":1", "\"<begin>\":1")] {
        let json: String = text.replacen(piece, other, 1);
        let mut json: serde_json::Value = serde_json::from_str(&json).unwrap();
        json["model"]["merges"] = serde_json::json!([]);
        json["added_tokens"] = serde_json::json!([]);
        json["post_processor"] = serde_json::Value::Null;
        let error = Tokenizer::from_bytes("t.json", json.to_string().as_bytes()).unwrap_err();
        let name = piece.split('"').nth(1).unwrap();
        assert_eq!(
            error.to_string(),
            format!("t.json: no piece `{name}`: expected a Llama tokenizer")
        );
    }
}
