// The list of all kernels: families, modes, widths, groupings and tile variants. The instances, the registry and the
// kernels' names come from it, for a GPU as for the emulator.
//
// A file of instances/ compiles one row of W4AX_KERNEL_FILES; CuTe kernels compile slowly, so there is one file per
// family, width and mode. W4AX_KERNELS_<file>(KERNEL) lists the kernels of a file as KERNEL(function, tile, Config...):
// the template of the kernel, the number of the tile variant in its family, and the Config that describes the kernel.
#pragma once

#define W4AX_KERNEL_FILES(FILE) \
    FILE(decode_a4_fused)       \
    FILE(decode_a4_packed)      \
    FILE(decode_a8_fused)       \
    FILE(decode_a8_packed)      \
    FILE(decode_bf16)           \
    FILE(prefill_a4_fused)      \
    FILE(prefill_a4_packed)     \
    FILE(prefill_a8_fused)      \
    FILE(prefill_a8_packed)     \
    FILE(prefill_bf16)          \
    FILE(quantize_pack)         \
    FILE(row_op)                \
    FILE(plain)                 \
    FILE(wgmma_a8)              \
    FILE(wgmma_bf16)            \
    FILE(wgmma_routed)          \
    FILE(routed_decode_fused)   \
    FILE(routed_decode_packed)  \
    FILE(routed_prefill)        \
    FILE(latch)                 \
    FILE(latch_graph)           \
    FILE(gather)                \
    FILE(skip)

// Expands TILES(KERNEL, group, ...) for every grouping; 0 is per channel. Two-level weights of all group sizes share a
// kernel.
#define W4AX_GROUPINGS(TILES, KERNEL, ...) \
    TILES(KERNEL, 0, __VA_ARGS__)          \
    TILES(KERNEL, 32, __VA_ARGS__)         \
    TILES(KERNEL, 64, __VA_ARGS__)         \
    TILES(KERNEL, 128, __VA_ARGS__)        \
    TILES(KERNEL, kTwoLevelGroups, __VA_ARGS__)

// ---- decode: DecodeConfig<bits, group, fused, NT, MT>

#define W4AX_DECODE_TILES(KERNEL, group, bits, fused)                \
    KERNEL(decode_kernel, 1, DecodeConfig<bits, group, fused, 1, 1>) \
    KERNEL(decode_kernel, 2, DecodeConfig<bits, group, fused, 2, 1>) \
    KERNEL(decode_kernel, 3, DecodeConfig<bits, group, fused, 2, 2>)

#define W4AX_KERNELS_decode_a4_fused(KERNEL) W4AX_GROUPINGS(W4AX_DECODE_TILES, KERNEL, 4, true)
#define W4AX_KERNELS_decode_a4_packed(KERNEL) W4AX_GROUPINGS(W4AX_DECODE_TILES, KERNEL, 4, false)
#define W4AX_KERNELS_decode_a8_fused(KERNEL) W4AX_GROUPINGS(W4AX_DECODE_TILES, KERNEL, 8, true)
#define W4AX_KERNELS_decode_a8_packed(KERNEL) W4AX_GROUPINGS(W4AX_DECODE_TILES, KERNEL, 8, false)
#define W4AX_KERNELS_decode_bf16(KERNEL) W4AX_GROUPINGS(W4AX_DECODE_TILES, KERNEL, 16, true)

// ---- prefill: PrefillConfig<bits, group, fused, NT, MT, warps along M, stages>
//
// `medium` and `large` are the activation tiles of a warp. BF16 needs the most registers and spills with 8 on sm_90;
// quantization inside the kernel needs shared memory.

#define W4AX_PREFILL_TILES(KERNEL, group, bits, fused, medium, large)             \
    KERNEL(prefill_kernel, 1, PrefillConfig<bits, group, fused, 1, 4, 1, 4>)      \
    KERNEL(prefill_kernel, 2, PrefillConfig<bits, group, fused, 2, medium, 1, 3>) \
    KERNEL(prefill_kernel, 3, PrefillConfig<bits, group, fused, 2, large, 2, 3>)

#define W4AX_KERNELS_prefill_a4_fused(KERNEL) W4AX_GROUPINGS(W4AX_PREFILL_TILES, KERNEL, 4, true, 8, 4)
#define W4AX_KERNELS_prefill_a4_packed(KERNEL) W4AX_GROUPINGS(W4AX_PREFILL_TILES, KERNEL, 4, false, 8, 8)
#define W4AX_KERNELS_prefill_a8_fused(KERNEL) W4AX_GROUPINGS(W4AX_PREFILL_TILES, KERNEL, 8, true, 8, 4)
#define W4AX_KERNELS_prefill_a8_packed(KERNEL) W4AX_GROUPINGS(W4AX_PREFILL_TILES, KERNEL, 8, false, 8, 8)
#define W4AX_KERNELS_prefill_bf16(KERNEL) W4AX_GROUPINGS(W4AX_PREFILL_TILES, KERNEL, 16, true, 4, 4)

// ---- wgmma: WgmmaConfig<bits, group, tokens of a block, NT>
//
// Where sums cover whole rows, a warp can have two weight tiles: a block of 256 channels reads fewer bytes of
// activations for its operations.

#define W4AX_WGMMA_TILES(KERNEL, group, bits)                \
    KERNEL(wgmma_kernel, 1, WgmmaConfig<bits, group, 80, 1>) \
    KERNEL(wgmma_kernel, 2, WgmmaConfig<bits, group, 128, 1>)

#define W4AX_WGMMA_WHOLE_ROW_TILES(KERNEL, group, bits)      \
    KERNEL(wgmma_kernel, 3, WgmmaConfig<bits, group, 80, 2>) \
    KERNEL(wgmma_kernel, 4, WgmmaConfig<bits, group, 128, 2>)

#define W4AX_KERNELS_wgmma_a8(KERNEL)           \
    W4AX_GROUPINGS(W4AX_WGMMA_TILES, KERNEL, 8) \
    W4AX_WGMMA_WHOLE_ROW_TILES(KERNEL, 0, 8)    \
    W4AX_WGMMA_WHOLE_ROW_TILES(KERNEL, kTwoLevelGroups, 8)
#define W4AX_KERNELS_wgmma_bf16(KERNEL) W4AX_GROUPINGS(W4AX_WGMMA_TILES, KERNEL, 16)

// ---- routed: RoutedDecode<group, fused, NT, MT>
//              RoutedPrefill<group, NT, quantized MT, BF16 MT, warps along M, stages>
//              RoutedWgmma<group, tokens of a block>
//
// The tile variants have the numbers, and the blocks, of those of a single width. Fused ones take one token or two.

#define W4AX_ROUTED_DECODE_FUSED_TILES(KERNEL, group, ...)           \
    KERNEL(routed_decode_kernel, 1, RoutedDecode<group, true, 1, 1>) \
    KERNEL(routed_decode_kernel, 2, RoutedDecode<group, true, 2, 1>)

#define W4AX_ROUTED_DECODE_PACKED_TILES(KERNEL, group, ...)           \
    KERNEL(routed_decode_kernel, 1, RoutedDecode<group, false, 1, 1>) \
    KERNEL(routed_decode_kernel, 2, RoutedDecode<group, false, 2, 1>) \
    KERNEL(routed_decode_kernel, 3, RoutedDecode<group, false, 2, 2>)

#define W4AX_ROUTED_PREFILL_TILES(KERNEL, group, ...)                     \
    KERNEL(routed_prefill_kernel, 1, RoutedPrefill<group, 1, 4, 4, 1, 4>) \
    KERNEL(routed_prefill_kernel, 2, RoutedPrefill<group, 2, 8, 4, 1, 3>) \
    KERNEL(routed_prefill_kernel, 3, RoutedPrefill<group, 2, 8, 4, 2, 3>)

#define W4AX_ROUTED_WGMMA_TILES(KERNEL, group, ...)        \
    KERNEL(routed_wgmma_kernel, 1, RoutedWgmma<group, 80>) \
    KERNEL(routed_wgmma_kernel, 2, RoutedWgmma<group, 128>)

#define W4AX_KERNELS_routed_decode_fused(KERNEL) W4AX_GROUPINGS(W4AX_ROUTED_DECODE_FUSED_TILES, KERNEL, )
#define W4AX_KERNELS_routed_decode_packed(KERNEL) W4AX_GROUPINGS(W4AX_ROUTED_DECODE_PACKED_TILES, KERNEL, )
#define W4AX_KERNELS_routed_prefill(KERNEL) W4AX_GROUPINGS(W4AX_ROUTED_PREFILL_TILES, KERNEL, )
#define W4AX_KERNELS_wgmma_routed(KERNEL) W4AX_GROUPINGS(W4AX_ROUTED_WGMMA_TILES, KERNEL, )

// ---- one kernel for all widths

#define W4AX_KERNELS_quantize_pack(KERNEL)                    \
    KERNEL(quantize_pack_rows, 1, QuantizeRowsConfig)         \
    KERNEL(quantize_pack_groups, 1, QuantizeGroupsConfig<32>) \
    KERNEL(quantize_pack_groups, 1, QuantizeGroupsConfig<64>) \
    KERNEL(quantize_pack_groups, 1, QuantizeGroupsConfig<128>)

// Quantized or BF16; the reference kernels: BF16.
#define W4AX_KERNELS_row_op(KERNEL)                            \
    KERNEL(row_op_rows, 1, RowOpConfig<Role::RmsNorm, 0>)      \
    KERNEL(row_op_rows, 1, RowOpConfig<Role::RmsNorm, 32>)     \
    KERNEL(row_op_rows, 1, RowOpConfig<Role::RmsNorm, 64>)     \
    KERNEL(row_op_rows, 1, RowOpConfig<Role::RmsNorm, 128>)    \
    KERNEL(row_op_rows, 1, RowOpConfig<Role::SiluMul, 0>)      \
    KERNEL(row_op_groups, 1, RowOpConfig<Role::SiluMul, 32>)   \
    KERNEL(row_op_groups, 1, RowOpConfig<Role::SiluMul, 64>)   \
    KERNEL(row_op_groups, 1, RowOpConfig<Role::SiluMul, 128>)  \
    KERNEL(rms_norm_plain, 2, RowOpPlainConfig<Role::RmsNorm>) \
    KERNEL(silu_mul_plain, 2, RowOpPlainConfig<Role::SiluMul>)

#define W4AX_KERNELS_plain(KERNEL) KERNEL(plain_kernel, 1, PlainConfig)
#define W4AX_KERNELS_latch(KERNEL) KERNEL(latch_kernel, 1, LatchConfig<false>)
#define W4AX_KERNELS_latch_graph(KERNEL) KERNEL(latch_kernel, 1, LatchConfig<true>)

#define W4AX_KERNELS_gather(KERNEL)        \
    KERNEL(gather_kernel, 1, GatherConfig) \
    KERNEL(gather_plain_kernel, 2, GatherPlainConfig)

#define W4AX_KERNELS_skip(KERNEL)                 \
    KERNEL(skip_begin_kernel, 1, SkipBeginConfig) \
    KERNEL(skip_decide_kernel, 1, SkipDecideConfig)

namespace w4ax {

// The tile variants of a family: valid numbers are 1..count.
constexpr int kDecodeTiles = 3;
constexpr int kPrefillTiles = 3;
constexpr int kWgmmaTiles = 4;

}  // namespace w4ax
