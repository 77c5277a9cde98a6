//! Checks the machine code of the compiled kernels: the expected tensor-core instructions, weight
//! loads of 128 bits and their order, no spilled registers. Prints registers and shared memory of
//! each kernel (`--nocapture`).

mod flow;
mod order;

use gpu_model::sass::{self, Kernel};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

/// Returns the kernels of this build for all architectures.
fn kernels() -> &'static [Kernel] {
    static KERNELS: OnceLock<Vec<Kernel>> = OnceLock::new();
    KERNELS.get_or_init(|| {
        let Some(library) = option_env!("W4AX_KERNEL_LIBRARY") else {
            panic!(
                "this build has no kernels: run third_party/fetch, or set NVCC and W4AX_CUTLASS_DIR"
            );
        };
        sass::read(Path::new(library), None).unwrap()
    })
}

/// A GEMM kernel and the template arguments in its name:
/// `w4ax::decode_kernel<w4ax::DecodeConfig<4, 128, true, 2, 1> >(..)`.
struct Gemm {
    kernel: &'static Kernel,
    decode: bool,
    bits: u32,
    /// Group size; 0: per channel; [`TWO_LEVEL`].
    group: i32,
    /// The template arguments after bits, group and fused: row tiles and token tiles first.
    tiles: Vec<u32>,
}

/// The template argument of kernels for two-level weights.
const TWO_LEVEL: i32 = -1;

/// Returns every decode and prefill kernel.
fn gemms() -> Vec<Gemm> {
    let gemm = |kernel: &'static Kernel| {
        let decode = kernel.name.contains("::decode_kernel<");
        if !decode && !kernel.name.contains("::prefill_kernel<") {
            return None;
        }
        let (_, arguments) = kernel.name.split_once("Config<")?;
        let (arguments, _) = arguments.split_once('>')?;
        let number = |text: &str| {
            let digits = text.trim().rsplit(')').next().unwrap_or("");
            digits.parse::<i32>().ok()
        };
        let mut arguments = arguments.split(',');
        let (bits, group) = (number(arguments.next()?)?, number(arguments.next()?)?);
        let tiles = arguments.skip(1).filter_map(number);
        Some(Gemm {
            kernel,
            decode,
            bits: bits as u32,
            group,
            tiles: tiles.map(|tile| tile as u32).collect(),
        })
    };
    kernels().iter().filter_map(gemm).collect()
}

fn what(gemm: &Gemm) -> String {
    format!("{} {}", gemm.kernel.arch, gemm.kernel.name)
}

/// 5 engines x (4 groupings and two-level weights) x 3 tiles for both families, for each
/// architecture.
#[test]
fn has_every_kernel() {
    let mut archs: Vec<&str> = kernels().iter().map(|k| k.arch.as_str()).collect();
    archs.sort_unstable();
    archs.dedup();
    assert!(!archs.is_empty());
    for arch in archs {
        for decode in [true, false] {
            let of = |g: &&Gemm| g.kernel.arch == arch && g.decode == decode;
            assert_eq!(gemms().iter().filter(of).count(), 5 * 5 * 3, "{arch}");
        }
    }
}

/// s4 only where it is native, otherwise s8; BF16 for BF16. Two-level weights are bytes above 0,
/// except in prefill kernels with s4. No other instruction multiplies.
#[test]
fn multiplies_by_the_expected_instructions() {
    for gemm in gemms() {
        let k = gemm.kernel;
        let native_s4 = k.arch.starts_with("sm_8");
        let all = k.opcodes().filter(|o| o.contains("MMA")).count();
        let expected = match (gemm.bits, native_s4) {
            (16, _) => k.count(&["HMMA", "16816", "F32", "BF16"]),
            (4, true) if gemm.decode && gemm.group == TWO_LEVEL => {
                k.count(&["IMMA", "16832", "U8"])
            }
            (4, true) if gemm.group == 32 => k.count(&["IMMA", "16832", "S4", "U4"]),
            (4, true) => k.count(&["IMMA", "16864", "S4", "U4"]),
            _ if gemm.group == TWO_LEVEL => k.count(&["IMMA", "16832", "U8"]),
            _ => k.count(&["IMMA", "16832", "S8", "U8"]),
        };
        assert!(expected > 0, "{}: {:?}", what(&gemm), k.histogram());
        assert_eq!(expected, all, "{}: {:?}", what(&gemm), k.histogram());
    }
}

/// Each lane loads 16 bytes of weights at a time: to registers (decode) or to shared memory
/// (prefill).
#[test]
fn loads_weights_by_128_bits() {
    for gemm in gemms() {
        let load = if gemm.decode { "LDG" } else { "LDGSTS" };
        assert!(
            gemm.kernel.count(&[load, "128"]) > 0,
            "{}: {:?}",
            what(&gemm),
            gemm.kernel.histogram()
        );
    }
}

/// A routed kernel contains the multiplications of every width, and loads weights before it
/// branches. There are 2 fused and 3 packed decode tiles and 3 prefill tiles, for 4 groupings and
/// two-level weights each.
#[test]
fn routed_kernels_contain_all_widths() {
    let routed =
        |k: &&&Kernel, family: &str| k.name.contains(&format!("::routed_{family}_kernel<"));
    let mut archs: Vec<&str> = kernels().iter().map(|k| k.arch.as_str()).collect();
    archs.sort_unstable();
    archs.dedup();
    for arch in archs {
        for (family, tiles) in [("decode", 2 + 3), ("prefill", 3)] {
            let kernels: Vec<&Kernel> = (kernels().iter())
                .filter(|k| k.arch == arch && routed(&k, family))
                .collect();
            assert_eq!(kernels.len(), tiles * 5, "{arch} {family}");
            for k in kernels {
                let s4 = k.count(&["IMMA", "S4", "U4"]);
                let s8 = k.count(&["IMMA", "16832", "U8"]);
                let bf16 = k.count(&["HMMA", "16816", "F32", "BF16"]);
                let all = k.opcodes().filter(|o| o.contains("MMA")).count();
                assert_eq!(
                    s4 + s8 + bf16,
                    all,
                    "{arch} {}: {:?}",
                    k.name,
                    k.histogram()
                );
                // Decode kernels multiply two-level weights as bytes.
                let bytes_only = family == "decode" && k.name.contains("<-1,");
                let has_s4 = arch.starts_with("sm_8") && !bytes_only;
                assert_eq!(s4 > 0, has_s4, "{arch} {}", k.name);
                assert!(s8 > 0 && bf16 > 0, "{arch} {}", k.name);
                if family == "decode" {
                    let first = |part: &str| k.opcodes().position(|o| o.contains(part)).unwrap();
                    assert!(first("128") < first("MMA"), "{arch} {}", k.name);
                }
            }
        }
    }
}

/// Returns the decode kernels that branch on the latched width (`true`) or have one.
fn decode_kernels() -> Vec<(&'static Kernel, bool)> {
    let is_routed = |kernel: &'static Kernel| {
        let routed = kernel.name.contains("::routed_decode_kernel<");
        (routed || kernel.name.contains("::decode_kernel<")).then_some((kernel, routed))
    };
    kernels().iter().filter_map(is_routed).collect()
}

/// With programmatic dependent launch, a decode kernel loads the first weights while the previous
/// launch still runs. That is the gain of such a launch.
#[test]
fn decode_kernels_load_weights_before_they_wait() {
    let mut errors = Vec::new();
    for (kernel, routed) in decode_kernels() {
        // Older architectures have no such launches.
        if kernel.arch.starts_with("sm_8") {
            continue;
        }
        if let Err(error) = order::loads_before_the_wait(kernel, if routed { 3 } else { 1 }) {
            errors.push(format!("{} {}: {error}", kernel.arch, kernel.name));
        }
    }
    assert!(errors.is_empty(), "{}", errors.join("\n"));
}

/// A round of a decode kernel loads the next round's weights before it multiplies, so that memory
/// is not idle meanwhile. Some mainloops multiply first: those of s4, which multiply the loaded
/// registers themselves, and of BF16, in groups of 32, which unpack a tile twice, and with eight
/// tiles of weights in flight, which lack the registers.
#[test]
fn decode_kernels_load_the_next_weights_before_they_multiply() {
    let mut errors = Vec::new();
    for (kernel, routed) in decode_kernels() {
        let has_any = |parts: &[&str]| parts.iter().any(|part| kernel.name.contains(part));
        let bf16_is_late = has_any(&["Config<16, 32,", "Decode<32,"])
            || (has_any(&[
                "Config<16, 128,",
                "Config<16, 0,",
                "Config<16, -1,",
                "Decode<128,",
                "Decode<0,",
                "Decode<-1,",
            ]) && kernel.name.contains(", 2, 1>"));
        let is_late = |product: &str| {
            product.contains(".S4.") || (bf16_is_late && product.starts_with("HMMA"))
        };
        let late = usize::from(kernel.count(&["IMMA", "S4"]) > 0)
            + usize::from(bf16_is_late && kernel.count(&["HMMA"]) > 0);
        let expected = if routed { 3 } else { 1 } - late;
        match order::loads_before_the_products(kernel, is_late) {
            Ok(checked) if checked == expected => {}
            Ok(checked) => errors.push(format!(
                "{} {}: {checked} mainloops load first, expected {expected}",
                kernel.arch, kernel.name
            )),
            Err(error) => errors.push(format!("{} {}: {error}", kernel.arch, kernel.name)),
        }
    }
    assert!(errors.is_empty(), "{}", errors.join("\n"));
}

/// The wgmma family: 2 engines x (4 groupings and two-level weights) x 2 tiles, and 2 more tiles
/// where integer sums cover whole rows, with code for sm_90a only. It multiplies by
/// warpgroup mma only; bulk copies load weights and codes, tensor copies load BF16 activations, and
/// registers are reallocated to the consumer warps.
#[test]
fn wgmma_kernels_use_tma_and_warpgroup_mma_only() {
    let wgmma = |k: &&Kernel| k.name.contains("::wgmma_kernel<");
    for k in kernels().iter().filter(wgmma) {
        let what = format!("{} {}: {:?}", k.arch, k.name, k.histogram());
        let all = k.opcodes().filter(|o| o.contains("MMA")).count();
        if k.arch != "sm_90a" {
            assert_eq!(all, 0, "{what}");
            assert!(k.opcodes().count() < 64, "{what}");
            continue;
        }
        let bf16 = k.name.contains("Config<16,") || k.name.contains("Config<(int)16,");
        let tokens = if k.name.contains(", 80, ") {
            "64x80"
        } else {
            "64x128"
        };
        let expected = if bf16 {
            k.count(&["HGMMA", &format!("{tokens}x16"), "F32", "BF16"])
        } else {
            // s8 x u8, or u8 x u8 of two-level weights.
            k.count(&["IGMMA", &format!("{tokens}x32"), "U8"])
        };
        assert!(expected > 0, "{what}");
        assert_eq!(expected, all, "{what}");
        assert!(k.count(&["UBLKCP"]) > 0, "{what}");
        assert_eq!(k.count(&["UTMALDG", "2D"]) > 0, bf16, "{what}");
        assert_eq!(k.count(&["USETMAXREG"]), 2, "{what}");
        // The consumer warps allocate what the producer warps deallocate. More would wait forever.
        assert_eq!(k.registers, 168, "{what}");
        // Each lane loads 16 bytes of weights per tile from shared memory.
        assert!(k.count(&["LDS", "128"]) > 0, "{what}");
    }
    let archs: std::collections::BTreeSet<&str> =
        kernels().iter().map(|k| k.arch.as_str()).collect();
    if archs.contains("sm_90a") {
        let of = kernels()
            .iter()
            .filter(wgmma)
            .filter(|k| k.arch == "sm_90a");
        assert_eq!(of.count(), 2 * 5 * 2 + 2 * 2);
    }
}

/// A routed kernel of the wgmma family, with code for sm_90a only, contains the kernels of BF16 and
/// of codes: both copy by TMA, multiply by warpgroup mma and reallocate registers.
#[test]
fn routed_wgmma_kernels_contain_both_kernels() {
    let mut of_sm90a = 0;
    for k in (kernels().iter()).filter(|k| k.name.contains("::routed_wgmma_kernel<")) {
        let what = format!("{} {}: {:?}", k.arch, k.name, k.histogram());
        let all = k.opcodes().filter(|o| o.contains("MMA")).count();
        if k.arch != "sm_90a" {
            assert_eq!(all, 0, "{what}");
            continue;
        }
        of_sm90a += 1;
        let (codes, rows) = (
            k.count(&["IGMMA", "U8"]),
            k.count(&["HGMMA", "F32", "BF16"]),
        );
        assert!(codes > 0 && rows > 0 && codes + rows == all, "{what}");
        assert!(
            k.count(&["UBLKCP"]) > 0 && k.count(&["UTMALDG", "2D"]) > 0,
            "{what}"
        );
        assert_eq!(k.count(&["USETMAXREG"]), 4, "{what}");
        assert_eq!((k.registers, k.spills()), (168, 0), "{what}");
    }
    let has_code = kernels().iter().any(|k| k.arch == "sm_90a");
    assert_eq!(of_sm90a, if has_code { 5 * 2 } else { 0 });
}

/// The latch accesses the words that it shares with the host at system scope: one load in the code,
/// or two with spinning.
#[test]
fn latch_accesses_host_words_at_system_scope() {
    let latches: Vec<&Kernel> = (kernels().iter())
        .filter(|k| k.name.contains("::latch_kernel<"))
        .collect();
    assert!(!latches.is_empty());
    for k in latches {
        let shared = |access: &str| k.count(&[access, "64", "STRONG", "SYS"]);
        assert!(shared("LD") + shared("LDG") >= 1, "{:?}", k.histogram());
        assert_eq!(shared("ST") + shared("STG"), 1, "{:?}", k.histogram());
        assert_eq!(k.count(&["LDG", "CONSTANT"]), 0, "{:?}", k.histogram());
    }
}

/// No kernel accesses local memory.
#[test]
fn no_kernel_spills() {
    let spilling: Vec<String> = kernels()
        .iter()
        .filter(|k| k.spills() > 0 || k.stack > 0)
        .map(|k| format!("{} {}: {} bytes of stack", k.arch, k.name, k.stack))
        .collect();
    assert!(spilling.is_empty(), "{}", spilling.join("\n"));
}

/// Counts instructions by what they do, under names that are common to all architectures.
fn kinds(instructions: &[&str]) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for text in instructions {
        let opcode = text.split_whitespace().next().unwrap_or("");
        if opcode == "MOV" || opcode.starts_with("IMAD.MOV") {
            continue;
        }
        let kind = match opcode.split('.').next().unwrap_or("") {
            "LOP3" => "lop3",
            "SHF" => "shift",
            "IMAD" if opcode.contains(".SHL") => "shift",
            "HADD2" | "HFMA2" if opcode.contains(".BF16") => "bf16 subtraction",
            _ => opcode,
        };
        *kinds.entry(kind.to_owned()).or_default() += 1;
    }
    kinds
}

/// Between the load of weights and the multiplication, an A fragment of a lane takes exactly these
/// instructions:
/// - s8, 16 weights: a lop3 for each register, and a shift for two of the four (three instructions
///   for eight weights);
/// - BF16, 8 weights: a lop3 and a subtraction for two weights, and a shift for three pairs of
///   four;
/// - s4: none.
///
/// Moves are not counted: decode kernels carry weights that they have loaded ahead over a round.
///
/// A fragment serves all token tiles of its warp. Prefill with groups of 32 is excluded: its code
/// jumps between the halves of a tile, so reading the listing upwards does not find the loads. The
/// steps of two-level weights are operands of the unpacking, which is not counted here.
#[test]
fn unpacks_weights_by_the_designed_instructions() {
    for gemm in gemms()
        .iter()
        .filter(|g| g.group != TWO_LEVEL && (g.decode || g.group != 32))
    {
        let k = gemm.kernel;
        let fragments = k.opcodes().filter(|o| o.contains("MMA")).count() / gemm.tiles[1] as usize;
        assert!(fragments > 0, "{}", what(gemm));
        let designed: &[(&str, usize)] = match gemm.bits {
            16 => &[("lop3", 4), ("shift", 3), ("bf16 subtraction", 4)],
            4 if k.arch.starts_with("sm_8") => &[],
            _ => &[("lop3", 4), ("shift", 2)],
        };
        let designed: BTreeMap<String, usize> = designed
            .iter()
            .map(|&(kind, count)| (kind.to_owned(), count * fragments))
            .collect();
        let unpacking =
            flow::unpacking(k).unwrap_or_else(|error| panic!("{}: {error}", what(gemm)));
        assert_eq!(
            kinds(&unpacking),
            designed,
            "{}, {fragments} fragments: {unpacking:#?}",
            what(gemm)
        );
    }
}

/// Prints the table of each kernel's registers and shared memory.
#[test]
fn resources() {
    let mut rows: Vec<String> = kernels()
        .iter()
        .map(|k| {
            let name = k.name.split('(').next().unwrap_or(&k.name);
            let name = name.replace("w4ax::", "").replace("void ", "");
            format!("{:8} {:60} {:4} {:6}", k.arch, name, k.registers, k.shared)
        })
        .collect();
    rows.sort();
    println!("arch     kernel{:54} regs static shared bytes", "");
    rows.iter().for_each(|row| println!("{row}"));
    assert!(kernels().iter().all(|k| (1..=255).contains(&k.registers)));
}
