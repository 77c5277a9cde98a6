//! The header against the Rust side: every function with its signature, every structure with its fields, every constant.
//!
//! The Rust side is written out as C and the compiler compares: `_Generic` on the types of functions and fields, and
//! a program that prints sizes, offsets and values. Names are compared both ways, so nothing can be left out here.

use std::collections::BTreeSet;
use std::ffi::c_void;
use std::fmt::Write;
use std::mem::{align_of, offset_of, size_of};

use half::bf16;
use w4ax::dispatch::{ACTION_DIM, DispatchConfig};
use w4ax::weights::MAX_PER_CHANNEL_K;
use w4ax::{Grouping, Width};
use w4ax_capi::cpu::*;
use w4ax_capi::dispatch::*;
use w4ax_capi::file::*;
use w4ax_capi::flag::*;
use w4ax_capi::gemm::*;
use w4ax_capi::gpu::*;
use w4ax_capi::order::*;
use w4ax_capi::pool::*;
use w4ax_capi::status::*;
use w4ax_capi::version::*;
use w4ax_capi::weight::*;
use w4ax_capi::{MAX_THREADS, gpu, types};

use crate::cc::{Language, Link, Program, run};

/// Both headers.
const HEADER: &str = concat!(
    include_str!("../../include/w4ax.h"),
    include_str!("../../include/w4ax_gpu.h")
);

/// A Rust type's name in C.
trait CType {
    fn name() -> String;
}

macro_rules! c_types {
    ($($rust:ty = $c:literal;)*) => { $(impl CType for $rust { fn name() -> String { $c.into() } })* };
}

c_types! {
    () = "void"; c_void = "void"; i8 = "char"; u8 = "char"; bf16 = "uint16_t"; u32 = "uint32_t"; usize = "size_t"; f32 = "float"; f64 = "double";
    Status = "w4ax_status"; Weight = "w4ax_weight"; File = "w4ax_file"; Cpu = "w4ax_cpu"; Workspace = "w4ax_workspace";
    Dispatcher = "w4ax_dispatcher"; Flag = "w4ax_flag"; QuantizeArgs = "w4ax_quantize_args"; PackArgs = "w4ax_pack_args";
    WeightInfo = "w4ax_weight_info"; CallerTable = "w4ax_pool"; GemmArgs = "w4ax_gemm_args";
    Config = "w4ax_dispatch_config"; Decision = "w4ax_decision"; Piece = "w4ax_piece";
    Gpu = "w4ax_gpu"; GpuInfo = "w4ax_gpu_info"; GpuWeight = "w4ax_gpu_weight"; GpuProblem = "w4ax_gpu_problem";
    Order = "w4ax_order"; GatherArgs = "w4ax_gather_args"; GpuOrder = "w4ax_gpu_order"; GpuGatherArgs = "w4ax_gpu_gather_args";
    GpuPlan = "w4ax_gpu_plan"; GpuGemmArgs = "w4ax_gpu_gemm_args"; GpuPackArgs = "w4ax_gpu_pack_args";
    Option<Run> = "void (*)(void *, uint32_t, w4ax_piece, void *)";
}

impl<T: CType> CType for *const T {
    fn name() -> String {
        format!("{} const *", T::name())
    }
}

impl<T: CType> CType for *mut T {
    fn name() -> String {
        format!("{} *", T::name())
    }
}

/// A function pointer's type in C.
trait CFunction {
    fn name(&self) -> String;
}

macro_rules! c_functions {
    ($($($argument:ident)*;)*) => { $(
        impl<R: CType, $($argument: CType),*> CFunction for unsafe extern "C" fn($($argument),*) -> R {
            fn name(&self) -> String {
                let arguments: Vec<String> = vec![$($argument::name()),*];
                let arguments = match arguments.is_empty() {
                    true => "void".to_owned(),
                    false => arguments.join(", "),
                };
                format!("{} (*)({arguments})", R::name())
            }
        }
    )* };
}

c_functions! { ; A; A B; A B C; A B C D; A B C D E; A B C D E F; A B C D E F G; }

macro_rules! functions {
    ($($name:ident($($any:tt)*);)*) => {
        vec![$((stringify!($name), ($name as unsafe extern "C" fn($($any)*) -> _).name())),*]
    };
}

/// Name, offset and C type.
type Field = (&'static str, usize, String);

/// What the header must hold.
struct Abi {
    functions: Vec<(&'static str, String)>,
    /// Name, size, alignment, and (field, offset, type) of each.
    structures: Vec<(String, usize, usize, Vec<Field>)>,
    constants: Vec<(String, u64)>,
}

/// All fields of a structure: one that is left out does not compile.
macro_rules! structure {
    ($rust:ident { $($field:ident),* $(,)? }) => {{
        let _ = |$rust { $($field: _),* }: $rust| ();
        fn type_of<T: CType>(_: fn(&$rust) -> T) -> String { T::name() }
        let fields = vec![$((stringify!($field), offset_of!($rust, $field), type_of(|s| s.$field))),*];
        (<$rust as CType>::name(), size_of::<$rust>(), align_of::<$rust>(), fields)
    }};
}

fn rust_side() -> Abi {
    let functions = functions! {
        w4ax_version();
        w4ax_version_text();
        w4ax_status_text(_);
        w4ax_last_error();
        w4ax_weight_quantize(_, _);
        w4ax_weight_pack(_, _);
        w4ax_weight_get_info(_, _);
        w4ax_weight_dequantize(_, _, _);
        w4ax_weight_unpack(_, _, _, _, _, _, _);
        w4ax_weight_free(_);
        w4ax_file_create(_);
        w4ax_file_load(_, _, _);
        w4ax_file_save(_, _);
        w4ax_file_insert(_, _, _);
        w4ax_file_count(_, _);
        w4ax_file_name(_, _, _);
        w4ax_file_get(_, _, _);
        w4ax_file_get_act_order(_, _, _, _);
        w4ax_file_insert_act_order(_, _, _, _);
        w4ax_file_free(_);
        w4ax_order_create(_, _, _);
        w4ax_order_k(_, _);
        w4ax_order_get(_, _, _);
        w4ax_order_gather(_, _);
        w4ax_order_free(_);
        w4ax_cpu_create(_, _, _);
        w4ax_cpu_create_with_pool(_, _, _);
        w4ax_cpu_isa(_, _);
        w4ax_cpu_threads(_, _);
        w4ax_cpu_free(_);
        w4ax_workspace_create(_, _, _, _);
        w4ax_workspace_bytes(_, _);
        w4ax_workspace_free(_);
        w4ax_cpu_gemm(_, _, _);
        w4ax_dispatch_config_init(_);
        w4ax_dispatch_config_load(_, _, _);
        w4ax_dispatcher_create(_, _);
        w4ax_dispatcher_observe(_, _, _);
        w4ax_dispatcher_observe_f32(_, _, _);
        w4ax_dispatcher_decide(_, _);
        w4ax_dispatcher_active(_, _);
        w4ax_dispatcher_reset(_);
        w4ax_dispatcher_free(_);
        w4ax_flag_store(_, _, _);
        w4ax_flag_clear(_);
        w4ax_flag_load(_, _, _);
        w4ax_flag_read(_, _, _);
        w4ax_gpu_count(_);
        w4ax_gpu_create(_, _);
        w4ax_gpu_get_info(_, _);
        w4ax_gpu_get_mma(_, _, _, _);
        w4ax_gpu_free(_);
        w4ax_gpu_weight_upload(_, _, _);
        w4ax_gpu_weight_get_info(_, _);
        w4ax_gpu_weight_free(_);
        w4ax_gpu_order_upload(_, _, _);
        w4ax_gpu_order_free(_);
        w4ax_gpu_gather(_, _, _);
        w4ax_gpu_plan_problem(_, _);
        w4ax_gpu_workspace_bytes(_, _);
        w4ax_gpu_tiles(_, _);
        w4ax_gpu_gemm(_, _, _);
        w4ax_gpu_plan_gemm(_, _, _);
        w4ax_gpu_packed_bytes(_, _, _, _, _, _);
        w4ax_gpu_quantize_pack(_, _, _);
    };
    let structures = vec![
        structure!(QuantizeArgs {
            w,
            w_len,
            w_stride,
            n,
            k,
            w_type,
            grouping,
            symmetry,
            scale_type,
            threads,
            reserved
        }),
        structure!(PackArgs {
            q,
            q_len,
            q_stride,
            scales,
            scales_len,
            zeros,
            zeros_len,
            n,
            k,
            grouping,
            scale_type,
            threads,
            reserved
        }),
        structure!(WeightInfo {
            n,
            k,
            groups,
            bytes,
            grouping,
            symmetry,
            scale_type,
            reserved
        }),
        structure!(GatherArgs {
            x,
            x_len,
            x_stride,
            gathered,
            gathered_len,
            gathered_stride,
            m,
            k
        }),
        structure!(GpuGatherArgs {
            order,
            x,
            x_len,
            x_stride,
            gathered,
            gathered_len,
            gathered_stride,
            m,
            k,
            flags,
            reserved
        }),
        structure!(CallerTable {
            run,
            context,
            threads,
            reserved
        }),
        structure!(GemmArgs {
            weight,
            x,
            x_len,
            x_stride,
            bias,
            bias_len,
            y,
            y_len,
            y_stride,
            m,
            n,
            k,
            width,
            reserved
        }),
        structure!(Config {
            lambda,
            mu_max,
            nu_max,
            theta_24,
            theta_48,
            theta_fp,
            window_macro,
            window_micro,
            k,
            algorithm
        }),
        structure!(Decision {
            sensitivity,
            target,
            active,
            reason,
            held_count,
            held_pending,
            reserved
        }),
        structure!(GpuInfo {
            name,
            ordinal,
            major,
            minor,
            driver_major,
            driver_minor,
            reserved
        }),
        structure!(GpuProblem {
            m,
            n,
            k,
            grouping,
            width,
            family,
            mode,
            tile,
            flags
        }),
        structure!(GpuPlan {
            kernel,
            workspace_bytes,
            blocks,
            tile_n,
            tile_m,
            family,
            mode,
            tile,
            launches,
            mma,
            slow_x,
            slow_y,
            reserved
        }),
        structure!(GpuGemmArgs {
            weight,
            x,
            x_len,
            x_stride,
            packed,
            packed_bytes,
            bias,
            bias_len,
            y,
            y_len,
            y_stride,
            workspace,
            workspace_bytes,
            m,
            n,
            k,
            width,
            family,
            mode,
            tile,
            flags,
            reserved
        }),
        structure!(GpuPackArgs {
            x,
            x_len,
            x_stride,
            packed,
            packed_bytes,
            m,
            k,
            width,
            grouping,
            family,
            flags
        }),
    ];
    let mut constants: Vec<(String, u64)> = vec![
        ("W4AX_VERSION".into(), VERSION.into()),
        ("W4AX_MAX_THREADS".into(), MAX_THREADS.into()),
        ("W4AX_MAX_PER_CHANNEL_K".into(), MAX_PER_CHANNEL_K as u64),
        ("W4AX_ACTION_DIM".into(), ACTION_DIM as u64),
        ("W4AX_MAX_WINDOW".into(), DispatchConfig::MAX_WINDOW as u64),
        ("W4AX_GPU_MAX_EXTENT".into(), gpu::MAX_EXTENT as u64),
        ("W4AX_GPU_MAX_STRIDE".into(), gpu::MAX_STRIDE as u64),
        ("W4AX_GPU_DECODE_MAX_M".into(), gpu::DECODE_MAX_M as u64),
        ("W4AX_GPU_ALIGNMENT".into(), gpu::ALIGNMENT as u64),
    ];
    constants.extend(Width::ALL.map(|p| {
        let name = format!("W4AX_{}", p.to_string().to_uppercase());
        (name, p.bits().into())
    }));
    constants.extend(Grouping::ALL.map(|g| match g.size() {
        Some(size) => (format!("W4AX_G{size}"), size as u64),
        None => ("W4AX_PER_CHANNEL".into(), types::PER_CHANNEL.into()),
    }));
    for (status, name, _) in Status::ALL {
        constants.push((name.to_string(), *status as u64));
    }
    macro_rules! same_name {
        ($($name:ident)*) => { $(constants.push((concat!("W4AX_", stringify!($name)).into(), types::$name.into()));)* };
    }
    same_name!(SYMMETRIC ASYMMETRIC TYPE_F32 TYPE_F16 TYPE_BF16 SATURATING_COUNTER WINDOW REASON_START REASON_FAULT
        REASON_STEADY REASON_ROSE REASON_HELD REASON_STEPPED_DOWN FAMILY_AUTO FAMILY_DECODE FAMILY_PREFILL FAMILY_PLAIN FAMILY_WGMMA
        MODE_AUTO MODE_FUSED MODE_PACKED MMA_NONE MMA_S4 MMA_S8 MMA_BF16 MMA_WGMMA_S8 MMA_WGMMA_BF16 GPU_PDL);
    Abi {
        functions,
        structures,
        constants,
    }
}

/// The header without its comments.
fn code() -> String {
    let mut pieces = HEADER.split("/*");
    let mut code = pieces.next().unwrap().to_owned();
    for piece in pieces {
        code += piece.split_once("*/").unwrap().1;
    }
    code
}

/// Identifiers of the header that start so, with what follows each.
fn identifiers<'a>(
    code: &'a str,
    prefix: &'a str,
) -> impl Iterator<Item = (&'a str, &'a str)> + 'a {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    code.match_indices(prefix)
        .filter(move |(at, _)| !code[..*at].ends_with(word))
        .map(move |(at, _)| {
            let rest = &code[at..];
            rest.split_at(rest.find(|c| !word(c)).unwrap_or(rest.len()))
        })
}

fn names<'a>(names: impl IntoIterator<Item = &'a str>) -> BTreeSet<&'a str> {
    names.into_iter().collect()
}

#[test]
fn the_header_declares_what_rust_defines() {
    let (abi, code) = (rust_side(), code());
    let declared = identifiers(&code, "w4ax_").filter(|(_, rest)| rest.starts_with('('));
    assert_eq!(
        names(declared.map(|(name, _)| name)),
        names(abi.functions.iter().map(|f| f.0))
    );
    let bodies = code
        .split("typedef struct ")
        .skip(1)
        .filter_map(|rest| rest.split_once(" {"))
        .map(|(name, _)| name)
        .filter(|name| !name.contains(';'));
    let mut structures = names(abi.structures.iter().map(|s| s.0.as_str()));
    structures.insert("w4ax_flag");
    assert_eq!(names(bodies), structures);
    let parts = [
        "W4AX_VERSION_MAJOR",
        "W4AX_VERSION_MINOR",
        "W4AX_VERSION_PATCH",
        "W4AX_H",
        "W4AX_GPU_H",
    ];
    let constants = identifiers(&code, "W4AX_").map(|(name, _)| name);
    let constants = constants.filter(|name| !parts.contains(name));
    assert_eq!(
        names(constants),
        names(abi.constants.iter().map(|c| c.0.as_str()))
    );
}

/// The comparison as C, and what it prints.
fn program(abi: &Abi) -> (String, String) {
    let (mut c, mut expected) = (String::new(), String::new());
    let mut value = |expression: &str, value: u64| {
        writeln!(expected, "{expression} = {value}").unwrap();
        format!(
            "    printf(\"%s = %llu\\n\", \"{expression}\", (unsigned long long)({expression}));\n"
        )
    };
    // `c_char` is i8 or u8 in Rust, so that char and int8_t cannot be told apart.
    c +=
        "#include <stdint.h>\n#include <stdio.h>\n#define int8_t char\n#include \"w4ax_gpu.h\"\n\n";
    c += "#define IS(type, expression) _Static_assert(_Generic((expression), type: 1, default: 0), #expression)\n";
    for (name, signature) in &abi.functions {
        writeln!(c, "IS({signature}, &{name});").unwrap();
    }
    for (name, _, _, fields) in &abi.structures {
        for (field, _, c_type) in fields {
            writeln!(c, "IS({c_type}, (({name} *)0)->{field});").unwrap();
        }
    }
    c += "IS(uint64_t, ((w4ax_flag *)0)->word);\n";
    c += "void (*const volatile all[])(void) = {\n";
    for (name, _) in &abi.functions {
        writeln!(c, "    (void (*)(void)){name},").unwrap();
    }
    c += "};\n\nint main(void) {\n";
    c += "    for (size_t i = 0; i < sizeof all / sizeof *all; i++) if (!all[i]) return 1;\n";
    for (name, size, align, fields) in &abi.structures {
        c += &value(&format!("sizeof({name})"), *size as u64);
        c += &value(&format!("_Alignof({name})"), *align as u64);
        for (field, offset, _) in fields {
            c += &value(&format!("offsetof({name}, {field})"), *offset as u64);
        }
    }
    c += &value("sizeof(w4ax_flag)", size_of::<Flag>() as u64);
    for (name, number) in &abi.constants {
        c += &value(name, *number);
    }
    c += "    return 0;\n}\n";
    (c, expected)
}

#[test]
fn the_header_means_what_rust_means() {
    let (source, expected) = program(&rust_side());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("abi.c");
    std::fs::write(&path, source).unwrap();
    for link in [Link::Static, Link::Shared] {
        let program = Program::build(&path, Language::C11, link, &[]);
        let said = run(&mut program.command(&[])).stdout;
        assert_eq!(String::from_utf8(said).unwrap(), expected);
    }
}

/// That the comparison can fail: a signature, a field's type, an offset, a value that are not the header's.
#[test]
fn a_difference_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("abi.c");
    let (source, expected) = program(&rust_side());
    for (from, to) in [
        (
            "IS(w4ax_status (*)(w4ax_cpu const *, uint32_t *)",
            "IS(w4ax_status (*)(w4ax_cpu *, uint32_t *)",
        ),
        (
            "IS(size_t, ((w4ax_gemm_args *)0)->m)",
            "IS(uint32_t, ((w4ax_gemm_args *)0)->m)",
        ),
    ] {
        assert!(source.contains(from), "{from}");
        std::fs::write(&path, source.replace(from, to)).unwrap();
        let said = Program::try_build(&path, Language::C11, Link::Shared, &[]);
        let said = said.err().expect("the planted difference is found");
        assert!(said.contains("static assertion failed"), "{said}");
    }
    let mut abi = rust_side();
    abi.structures[0].3.swap(0, 1);
    abi.constants[3].1 += 1;
    let (_, other) = program(&abi);
    assert_ne!(expected, other);
}
