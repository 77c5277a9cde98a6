//! Checks that `src/cuda/sys/bindings.rs` is what bindgen generates from the headers of `kernels/api`. The
//! file is checked in, so that building the crate needs no libclang. `W4AX_BLESS=1` writes it.

use std::path::Path;
use std::process::Command;

const HEADERS: [&str; 4] = [
    concat!(env!("CARGO_MANIFEST_DIR"), "/kernels/api/w4ax_kernels.h"),
    concat!(env!("CARGO_MANIFEST_DIR"), "/kernels/api/w4ax_order.h"),
    concat!(env!("CARGO_MANIFEST_DIR"), "/kernels/api/w4ax_row_op.h"),
    concat!(env!("CARGO_MANIFEST_DIR"), "/kernels/api/w4ax_skip.h"),
];
const BINDINGS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/cuda/sys/bindings.rs");

#[test]
fn bindings_match_the_headers() {
    let fresh = generate();
    if std::env::var_os("W4AX_BLESS").is_some_and(|value| value == "1") {
        std::fs::write(BINDINGS, &fresh).expect("the bindings can be written");
    }
    let kept = std::fs::read_to_string(BINDINGS).expect("the bindings are checked in");
    let changed = fresh
        .lines()
        .zip(kept.lines())
        .position(|(fresh, kept)| fresh != kept);
    assert!(
        kept == fresh,
        "src/cuda/sys/bindings.rs differs from what bindgen generates, from line {} on: \
         W4AX_BLESS=1 cargo test --features cuda --test bindings writes it",
        changed.unwrap_or_else(|| fresh.lines().count().min(kept.lines().count())) + 1
    );
}

fn generate() -> String {
    // Without libclang bindgen panics, with a message that lacks this project's remedy.
    std::panic::catch_unwind(bindgen::clang_version).unwrap_or_else(|_| {
        panic!(
            "bindgen did not find libclang: run `third_party/fetch libclang`, or set LIBCLANG_PATH"
        )
    });
    let bindings = bindgen::Builder::default()
        .headers(HEADERS)
        // The wheel of libclang has no stdint.h.
        .clang_arg(format!("-I{}", compiler_headers()))
        .allowlist_item("[Ww]4[Aa][Xx][Kk]_.*")
        // Constants, so that an unknown status or width is a number and not undefined behavior.
        .default_enum_style(bindgen::EnumVariation::Consts)
        .prepend_enum_name(false)
        .derive_default(true)
        .merge_extern_blocks(true)
        .use_core()
        // bindgen would attach C's trailing comments to the next field.
        .generate_comments(false)
        .disable_header_comment()
        .rust_edition(bindgen::RustEdition::Edition2024)
        .rust_target(bindgen::RustTarget::stable(89, 0).expect("bindgen knows the crate's oldest Rust"))
        .formatter(bindgen::Formatter::Prettyplease)
        .raw_line("//! What the headers of `kernels/` declare. Written by bindgen: see tests/bindings.rs.")
        .raw_line("")
        .generate()
        .expect("bindgen reads the headers");
    bindings.to_string()
}

/// Returns GCC's own header folder.
fn compiler_headers() -> String {
    let output = Command::new("gcc")
        .arg("-print-file-name=include")
        .output()
        .unwrap_or_else(|error| {
            panic!("gcc cannot be run ({error}), and bindgen needs its headers: install gcc")
        });
    let folder = String::from_utf8(output.stdout)
        .expect("a path in UTF-8")
        .trim()
        .to_owned();
    assert!(
        Path::new(&folder).is_dir(),
        "gcc reports the header folder {folder}, which does not exist"
    );
    folder
}
