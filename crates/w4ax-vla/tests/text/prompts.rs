//! The text around an instruction.

use std::path::Path;
use w4ax_vla::text::{PromptStyle, prompt};

#[test]
fn prompts_equal_the_reference() {
    for model in ["openvla-tiny", "oft-tiny"] {
        let text = std::fs::read_to_string(crate::data().join(model).join("reference.json"));
        let reference: serde_json::Value = serde_json::from_str(&text.unwrap()).unwrap();
        for case in reference["cases"].as_array().unwrap() {
            let instruction = case["instruction"].as_str().unwrap();
            assert_eq!(case["prompt"], prompt(instruction, PromptStyle::OpenVla));
        }
    }
}

#[test]
fn lowers_an_instruction_as_python_does() {
    // Python 3.11: `str.lower` of the same text. The final sigma depends on its neighbors.
    for (instruction, lower) in [
        ("Pick Up ÄPFEL", "pick up äpfel"),
        ("ΟΔΟΣ", "οδος"),
        ("ΟΔΟΣ ΣΟΣ.", "οδος σος."),
        ("Σ", "σ"),
        ("ΑΣΑ", "ασα"),
        ("İstanbul", "i\u{307}stanbul"),
        ("STRASSE ẞ", "strasse ß"),
        ("КУБ", "куб"),
        ("🤖 ON", "🤖 on"),
    ] {
        let expected = format!("In: What action should the robot take to {lower}?\nOut:");
        assert_eq!(prompt(instruction, PromptStyle::OpenVla), expected);
    }
}

#[test]
fn changes_nothing_but_the_case() {
    let text = prompt("  lift  it. ", PromptStyle::OpenVla);
    assert!(text.contains("take to   lift  it. ?\n"), "{text}");
}

#[test]
fn release_0_1_has_a_conversation() {
    assert_eq!(
        prompt("Lift it", PromptStyle::V01),
        "A chat between a curious user and an artificial intelligence assistant. The assistant \
         gives helpful, detailed, and polite answers to the user's questions. USER: What action \
         should the robot take to lift it? ASSISTANT:"
    );
}

#[test]
fn style_follows_from_the_name_of_the_folder() {
    let style = |folder: &str| PromptStyle::of_folder(Path::new(folder));
    assert_eq!(style("models/openvla-7b"), PromptStyle::OpenVla);
    assert_eq!(style("models/openvla-v01-7b"), PromptStyle::V01);
    assert_eq!(style("models/openvla-v01-7b/"), PromptStyle::V01);
    // A folder that contains the checkpoint's folder is no part of its name.
    assert_eq!(style("v01/openvla-7b"), PromptStyle::OpenVla);

    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("openvla-v01-7b");
    std::fs::create_dir_all(folder.join("sub")).unwrap();
    assert_eq!(
        PromptStyle::of_folder(folder.join("sub/..")),
        PromptStyle::V01
    );
}
