//! Llama-2's own vocabulary, which is not part of the repository.

use serde::Deserialize;
use std::io::Write;
use std::path::PathBuf;
use w4ax_vla::text::{PromptStyle, Tokenizer};

#[derive(Deserialize)]
struct Reference {
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    prompt: String,
    ids: Vec<u32>,
}

/// The folder with the tokenizer. `None`, with a message, if it does not exist.
fn folder() -> Option<PathBuf> {
    let shared = std::env::var_os("W4AX_SHARED").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        PathBuf::from,
    );
    let folder = shared.join("data/openvla/openvla-tiny");
    if folder.join("tokenizer.json").is_file() {
        return Some(folder);
    }
    // Not captured, unlike the output of a test that passes.
    let folder = folder.display();
    let _ = writeln!(
        std::io::stderr(),
        "left out: no Llama vocabulary in {folder}"
    );
    None
}

#[test]
fn ids_equal_those_of_transformers() {
    let Some(folder) = folder() else { return };
    let tokenizer = Tokenizer::load(&folder).unwrap();
    let text = std::fs::read_to_string(folder.join("tokenizer_reference.json")).unwrap();
    let reference: Reference = serde_json::from_str(&text).unwrap();
    assert_eq!(reference.rows.len(), 20);
    for row in reference.rows {
        assert_eq!(
            tokenizer.encode(&row.prompt).unwrap(),
            row.ids,
            "{:?}",
            row.prompt
        );
    }
}

#[test]
fn ids_of_instructions_are_the_inputs_of_the_reference() {
    let Some(folder) = folder() else { return };
    let tokenizer = Tokenizer::load(&folder).unwrap();
    for model in ["openvla-tiny", "oft-tiny"] {
        let text = std::fs::read_to_string(crate::data().join(model).join("reference.json"));
        let reference: serde_json::Value = serde_json::from_str(&text.unwrap()).unwrap();
        for case in reference["cases"].as_array().unwrap() {
            let instruction = case["instruction"].as_str().unwrap();
            let ids = tokenizer.encode_prompt(instruction, PromptStyle::OpenVla);
            let (last, head) = ids.as_ref().unwrap().split_last().unwrap();
            assert_eq!(case["prompt_ids"], serde_json::json!(head));
            assert_eq!(*last, 29871);
        }
    }
}

#[test]
fn appended_piece_is_29871() {
    let Some(folder) = folder() else { return };
    let tokenizer = Tokenizer::load(&folder).unwrap();
    // 32000 pieces and the token of the padding.
    assert_eq!(tokenizer.vocab_size(), 32001);
    assert_eq!((tokenizer.bos(), tokenizer.space()), (1, 29871));
    let ids = tokenizer.encode("In: ").unwrap();
    let mut appended = ids.clone();
    tokenizer.append_space(&mut appended);
    assert_eq!(ids, appended);
}
