//! The headers compared with Rust: every function with its signature, every structure with its
//! fields, every constant.
//!
//! The test writes the Rust side as C, and the compiler compares: `_Generic` on the types of
//! functions and fields, and a program that prints sizes, offsets and values. Names are compared in
//! both directions, so that none can be missing here.

use std::collections::BTreeSet;
use std::ffi::c_void;
use std::fmt::Write;
use std::mem::offset_of;

use half::bf16;
use w4ax_capi::consistency::*;
use w4ax_capi::cpu::*;
use w4ax_capi::dispatch::*;
use w4ax_capi::file::*;
use w4ax_capi::flag::*;
use w4ax_capi::gemm::*;
use w4ax_capi::gpu::*;
use w4ax_capi::pool::*;
use w4ax_capi::row_op::*;
use w4ax_capi::status::*;
use w4ax_capi::version::*;
use w4ax_capi::weight::*;
use w4ax_capi::{enums, limits};

use crate::program::{Language, Link, Program, run};

/// Both headers.
const HEADERS: &str = concat!(
    include_str!("../../include/w4ax.h"),
    include_str!("../../include/w4ax_gpu.h")
);

/// A Rust type with its name in C.
trait CType {
    fn name() -> String;
}

macro_rules! c_types {
    ($($rust:ty = $c:literal;)*) => { $(
        impl CType for $rust {
            fn name() -> String {
                $c.into()
            }
        }
    )* };
}

c_types! {
    () = "void"; c_void = "void"; i8 = "char"; u8 = "char"; bf16 = "uint16_t";
    u32 = "uint32_t"; usize = "size_t"; f32 = "float"; f64 = "double";
    Status = "w4ax_status"; Weight = "w4ax_weight"; File = "w4ax_file"; Cpu = "w4ax_cpu";
    Workspace = "w4ax_workspace"; Dispatcher = "w4ax_dispatcher"; Flag = "w4ax_flag";
    QuantizeArgs = "w4ax_quantize_args"; PackArgs = "w4ax_pack_args";
    WeightInfo = "w4ax_weight_info"; CallerTable = "w4ax_pool"; GemmArgs = "w4ax_gemm_args";
    Config = "w4ax_dispatch_config"; Decision = "w4ax_decision"; Piece = "w4ax_piece";
    Consistency = "w4ax_consistency"; ConsistencyConfig = "w4ax_consistency_config";
    ConsistencyDecision = "w4ax_consistency_decision"; ConsistencyCheck = "w4ax_consistency_check";
    Gpu = "w4ax_gpu"; GpuInfo = "w4ax_gpu_info"; GpuWeight = "w4ax_gpu_weight";
    GpuProblem = "w4ax_gpu_problem"; GpuPlan = "w4ax_gpu_plan";
    GpuGatherArgs = "w4ax_gpu_gather_args"; GpuGemmArgs = "w4ax_gpu_gemm_args";
    GpuQuantizeArgs = "w4ax_gpu_quantize_args"; Activations = "w4ax_activations";
    ActivationArgs = "w4ax_activation_args"; RmsNormArgs = "w4ax_rms_norm_args";
    SiluMulArgs = "w4ax_silu_mul_args"; GpuRmsNormArgs = "w4ax_gpu_rms_norm_args";
    GpuSiluMulArgs = "w4ax_gpu_silu_mul_args";
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

/// A function pointer with its type in C.
trait CFunction {
    fn name(&self) -> String;
}

macro_rules! c_functions {
    ($($($argument:ident)*;)*) => { $(
        impl<R: CType, $($argument: CType),*> CFunction
            for unsafe extern "C" fn($($argument),*) -> R
        {
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

c_functions! { ; A; A B; A B C; A B C D; A B C D E; A B C D E F; A B C D E F G; A B C D E F G H I; }

macro_rules! functions {
    ($($name:ident($($any:tt)*);)*) => {
        vec![$({
            let function = $name as unsafe extern "C" fn($($any)*) -> _;
            (stringify!($name), function.name())
        }),*]
    };
}

/// Name, offset and C type.
type Field = (&'static str, usize, String);

/// A structure of the headers.
struct Structure {
    name: String,
    size: usize,
    align: usize,
    fields: Vec<Field>,
}

/// What the headers must declare.
struct Abi {
    functions: Vec<(&'static str, String)>,
    structures: Vec<Structure>,
    constants: Vec<(&'static str, u64)>,
}

/// All fields of each structure. A missing field does not compile.
macro_rules! structures {
    ($($rust:ident { $($field:ident)* })*) => { vec![$({
        let _ = |$rust { $($field: _),* }: $rust| ();
        fn type_of<T: CType>(_: fn(&$rust) -> T) -> String {
            T::name()
        }
        Structure {
            name: <$rust as CType>::name(),
            size: size_of::<$rust>(),
            align: align_of::<$rust>(),
            fields: vec![$((
                stringify!($field),
                offset_of!($rust, $field),
                type_of(|s| s.$field),
            )),*],
        }
    }),*] };
}

fn rust_side() -> Abi {
    let functions = functions! {
        w4ax_version();
        w4ax_version_text();
        w4ax_status_text(_);
        w4ax_last_error();
        w4ax_weight_quantize(_, _);
        w4ax_weight_quantize_as(_, _, _, _);
        w4ax_weight_pack(_, _);
        w4ax_weight_pack_two_level(_, _, _, _);
        w4ax_weight_get_info(_, _);
        w4ax_weight_get_scheme(_, _);
        w4ax_weight_get_order(_, _, _);
        w4ax_weight_dequantize(_, _, _);
        w4ax_weight_unpack(_, _, _, _, _, _, _);
        w4ax_weight_unpack_two_level(_, _, _, _, _, _, _, _, _);
        w4ax_weight_free(_);
        w4ax_file_create(_);
        w4ax_file_load(_, _, _);
        w4ax_file_save(_, _);
        w4ax_file_insert(_, _, _);
        w4ax_file_count(_, _);
        w4ax_file_name(_, _, _);
        w4ax_file_get(_, _, _);
        w4ax_file_free(_);
        w4ax_cpu_create(_, _, _);
        w4ax_cpu_create_with_pool(_, _, _);
        w4ax_cpu_isa(_, _);
        w4ax_cpu_threads(_, _);
        w4ax_cpu_free(_);
        w4ax_workspace_create(_, _, _, _);
        w4ax_workspace_bytes(_, _);
        w4ax_workspace_free(_);
        w4ax_cpu_gemm(_, _, _);
        w4ax_activations_create(_, _, _, _);
        w4ax_activations_bytes(_, _);
        w4ax_activations_free(_);
        w4ax_cpu_quantize(_, _, _);
        w4ax_cpu_rms_norm(_, _, _);
        w4ax_cpu_silu_mul(_, _, _);
        w4ax_cpu_gemm_quantized(_, _, _, _);
        w4ax_dispatch_config_init(_);
        w4ax_dispatch_config_load(_, _, _);
        w4ax_layout_dim(_, _);
        w4ax_dispatcher_create(_, _);
        w4ax_dispatcher_create_with_layout(_, _, _);
        w4ax_dispatcher_load(_, _, _);
        w4ax_dispatcher_action_dim(_, _);
        w4ax_dispatcher_keep_scale_online(_);
        w4ax_useful_widths(_, _, _);
        w4ax_dispatcher_set_costs(_, _);
        w4ax_dispatcher_scale(_, _, _);
        w4ax_dispatcher_observe(_, _, _);
        w4ax_dispatcher_observe_f32(_, _, _);
        w4ax_dispatcher_decide(_, _);
        w4ax_dispatcher_active(_, _);
        w4ax_dispatcher_reset(_);
        w4ax_dispatcher_free(_);
        w4ax_consistency_config_init(_);
        w4ax_consistency_create(_, _, _);
        w4ax_consistency_load(_, _, _, _, _);
        w4ax_consistency_keep_uncertainty_online(_);
        w4ax_consistency_action_dim(_, _);
        w4ax_consistency_floors(_, _, _, _);
        w4ax_consistency_decide(_, _);
        w4ax_consistency_verify(_, _, _, _);
        w4ax_consistency_verify_f32(_, _, _, _);
        w4ax_consistency_command(_, _, _, _);
        w4ax_consistency_observe(_, _, _, _, _, _);
        w4ax_consistency_observe_f32(_, _, _, _, _, _);
        w4ax_consistency_reset(_);
        w4ax_consistency_free(_);
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
        w4ax_gpu_plan_problem(_, _);
        w4ax_gpu_workspace_bytes(_, _);
        w4ax_gpu_tiles(_, _);
        w4ax_gpu_gemm(_, _, _);
        w4ax_gpu_plan_gemm(_, _, _);
        w4ax_gpu_gather(_, _, _);
        w4ax_gpu_quantized_bytes(_, _, _, _, _, _);
        w4ax_gpu_quantize(_, _, _);
        w4ax_gpu_rms_norm(_, _, _);
        w4ax_gpu_silu_mul(_, _, _);
    };
    let structures = structures! {
        QuantizeArgs {
            w w_len w_stride n k w_type grouping symmetry scale_type threads reserved
        }
        PackArgs {
            q q_len q_stride scales scales_len zeros zeros_len order order_len n k
            grouping scale_type threads reserved
        }
        WeightInfo { n k groups bytes grouping symmetry scale_type has_order }
        CallerTable { run context threads reserved }
        GemmArgs {
            weight x x_len x_stride bias bias_len y y_len y_stride m n k width flags
        }
        ActivationArgs { weight x x_len x_stride m k width flags }
        RmsNormArgs {
            weight x x_len x_stride addend addend_len addend_stride norm norm_len y y_len y_stride m
            k width x_type eps reserved
        }
        SiluMulArgs {
            weight gate gate_len gate_stride up up_len up_stride y y_len y_stride m k width
            reserved
        }
        Config {
            lambda mu_max nu_max theta_24 theta_48 theta_fp window_macro window_micro k algorithm
        }
        Decision { sensitivity target active reason held_count held_pending reserved }
        ConsistencyConfig {
            mu_max nu_max lambda d_acc eta tau_max tau gate alpha uncertainty_low
            uncertainty_high window_macro window_micro refresh max_chunk low high
        }
        ConsistencyDecision { profile width reason reserved }
        ConsistencyCheck { distance tolerance accepted reserved }
        GpuInfo { name ordinal major minor driver_major driver_minor reserved }
        GpuProblem {
            m n k grouping width family mode tile flags has_order reserved
        }
        GpuPlan {
            kernel workspace_bytes blocks tile_n tile_m family mode tile launches mma
            slow_x slow_y gathers
        }
        GpuGemmArgs {
            weight x x_len x_stride quantized quantized_bytes bias bias_len y y_len y_stride
            workspace workspace_bytes m n k width family mode tile flags reserved
        }
        GpuGatherArgs {
            weight x x_len x_stride gathered gathered_len gathered_stride m k flags reserved
        }
        GpuQuantizeArgs {
            x x_len x_stride quantized quantized_bytes m k width grouping family flags
        }
        GpuRmsNormArgs {
            x x_len x_stride addend addend_len addend_stride norm norm_len y y_len y_stride quantized
            quantized_bytes m k width grouping family x_type eps flags
        }
        GpuSiluMulArgs {
            gate gate_len gate_stride up up_len up_stride y y_len y_stride quantized
            quantized_bytes m k width grouping family flags
        }
    };
    let enumerators = enums::table().into_iter();
    let constants = enumerators
        .map(|(_, name, number)| (name, number.into()))
        .chain(limits::TABLE.iter().copied())
        .collect();
    Abi {
        functions,
        structures,
        constants,
    }
}

/// The headers without their comments.
fn code() -> String {
    let mut pieces = HEADERS.split("/*");
    let mut code = pieces.next().unwrap().to_owned();
    for piece in pieces {
        code += piece.split_once("*/").unwrap().1;
    }
    code
}

/// Returns the identifiers of the headers with a prefix, each with the text after it.
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
fn headers_declare_what_rust_defines() {
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
    let mut structures = names(abi.structures.iter().map(|s| s.name.as_str()));
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
    assert_eq!(names(constants), names(abi.constants.iter().map(|c| c.0)));
}

/// Each enumeration of the table has a type in the headers, directly before its enumerators.
#[test]
fn headers_group_enumerators_by_type() {
    let (table, code) = (enums::table(), code());
    for c_type in names(table.iter().map(|row| row.0)) {
        let declaration = format!("typedef uint32_t {c_type};");
        let (_, rest) = code.split_once(&declaration).expect(c_type);
        let rest = rest.trim_start();
        let body = rest.strip_prefix("enum {").and_then(|r| r.split_once("};"));
        let (body, _) = body.unwrap_or_else(|| panic!("no enum follows {c_type}"));
        let rows = table.iter().filter(|row| row.0 == c_type);
        assert_eq!(
            names(identifiers(body, "W4AX_").map(|(name, _)| name)),
            names(rows.map(|row| row.1)),
            "{c_type}"
        );
    }
}

/// Returns the comparison as a C program, and its expected output.
fn program(abi: &Abi) -> (String, String) {
    let (mut c, mut expected) = (String::new(), String::new());
    let mut value = |expression: &str, value: u64| {
        writeln!(expected, "{expression} = {value}").unwrap();
        format!(
            "    printf(\"%s = %llu\\n\", \"{expression}\", (unsigned long long)({expression}));\n"
        )
    };
    // `c_char` is i8 or u8 in Rust, so char, int8_t and uint8_t have the same type here.
    c += "#include <stdint.h>\n#include <stdio.h>\n\
          #define int8_t char\n#define uint8_t char\n#include \"w4ax_gpu.h\"\n\n";
    c += "#define IS(type, expression) \
          _Static_assert(_Generic((expression), type: 1, default: 0), #expression)\n";
    for (name, signature) in &abi.functions {
        writeln!(c, "IS({signature}, &{name});").unwrap();
    }
    for structure in &abi.structures {
        for (field, _, c_type) in &structure.fields {
            writeln!(c, "IS({c_type}, (({} *)0)->{field});", structure.name).unwrap();
        }
    }
    c += "IS(uint64_t, ((w4ax_flag *)0)->word);\n";
    c += "void (*const volatile all[])(void) = {\n";
    for (name, _) in &abi.functions {
        writeln!(c, "    (void (*)(void)){name},").unwrap();
    }
    c += "};\n\nint main(void) {\n";
    c += "    for (size_t i = 0; i < sizeof all / sizeof *all; i++) if (!all[i]) return 1;\n";
    for structure in &abi.structures {
        let name = &structure.name;
        c += &value(&format!("sizeof({name})"), structure.size as u64);
        c += &value(&format!("_Alignof({name})"), structure.align as u64);
        for (field, offset, _) in &structure.fields {
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
fn headers_match_types_layouts_and_values() {
    let (source, expected) = program(&rust_side());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("abi.c");
    std::fs::write(&path, source).unwrap();
    for link in [Link::Static, Link::Shared] {
        let program = Program::build(&path, Language::C11, link, &[]);
        let output = run(&mut program.command(&[])).stdout;
        assert_eq!(String::from_utf8(output).unwrap(), expected);
    }
}

/// The comparison finds a signature, a field's type, an offset and a value that differ.
#[test]
fn finds_planted_differences() {
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
        let built = Program::try_build(&path, Language::C11, Link::Shared, &[]);
        let errors = built.err().expect("the planted difference is an error");
        assert!(errors.contains("static assertion failed"), "{errors}");
    }
    let mut abi = rust_side();
    abi.structures[0].fields.swap(0, 1);
    abi.constants[3].1 += 1;
    let (_, other) = program(&abi);
    assert_ne!(expected, other);
}

#[test]
fn header_has_the_version_of_the_crate() {
    for (part, value) in [
        ("MAJOR", env!("CARGO_PKG_VERSION_MAJOR")),
        ("MINOR", env!("CARGO_PKG_VERSION_MINOR")),
        ("PATCH", env!("CARGO_PKG_VERSION_PATCH")),
    ] {
        let line = format!("#define W4AX_VERSION_{part} {value}\n");
        assert!(HEADERS.contains(&line), "{line}");
    }
}
