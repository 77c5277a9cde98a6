// Checks the emulated fragment layouts against CuTe's traits: each mma, partitioned by a TiledMMA, against a scalar
// product; each ldmatrix, partitioned by a TiledCopy, against the tile in shared memory.
#include "test.h"

using namespace cute;

namespace {

test::Random numbers(7);

template <class T>
struct Range {
    static constexpr int low = std::is_same<T, uint4b_t>::value || std::is_same<T, uint8_t>::value ? 0
                               : std::is_same<T, int4b_t>::value                                   ? -8
                                                                                                   : -128;
    static constexpr int high = std::is_same<T, uint4b_t>::value  ? 15
                                : std::is_same<T, uint8_t>::value ? 255
                                : std::is_same<T, int4b_t>::value ? 7
                                                                  : 127;
};

// Returns the coordinates (n,k) of a thread's values of B.
template <class Operation, class Thread>
auto b_coordinates(Thread const& thread) {
    using Traits = MMA_Traits<Operation>;
    constexpr int K = size<2>(typename Traits::Shape_MNK{});
    if constexpr (std::is_same<typename Traits::ValTypeA, int4b_t>::value && K == 32) {
        // CUTLASS 4.2's BLayout of the s4 m16n8k32 has a stride of 32 in place of 64: lanes t and t + 1 would share
        // values of k, and no lane would have k = 20..31. This is the PTX ISA's layout: n = g, k = 8 * t + i.
        static_assert(cosize(typename Traits::BLayout{}) == 8 * 20, "CuTe's trait is fixed: use it");
        return make_tensor(
            make_inttuple_iter(make_tuple(int(threadIdx.x) / 4, 8 * (int(threadIdx.x) % 4))),
            make_layout(Shape<Shape<_8>, _1, _1>{}, make_stride(make_stride(ScaledBasis<_1, 1>{}), _0{}, _0{})));
    } else {
        return thread.partition_B(make_identity_tensor(Shape<Int<8>, Int<K>>{}));
    }
}

template <class Operation>
void check_mma(char const* name) {
    using Traits = MMA_Traits<Operation>;
    using A = typename Traits::ValTypeA;
    using B = typename Traits::ValTypeB;
    using C = typename Traits::ValTypeC;
    constexpr int M = 16, N = 8, K = size<2>(typename Traits::Shape_MNK{});
    static int a[M][K], b[N][K], c[M][N];
    static C d[M][N];
    for (auto& row : a)
        for (int& v : row) v = numbers.between(Range<A>::low, Range<A>::high);
    for (auto& row : b)
        for (int& v : row) v = numbers.between(Range<B>::low, Range<B>::high);
    for (auto& row : c)
        for (int& v : row) v = numbers.between(-500, 500);
    std::string const error = test::run(1, 32, 0, [] {
        TiledMMA tiled = make_tiled_mma(Operation{});
        auto thread = tiled.get_slice(threadIdx.x);
        Tensor cA = thread.partition_A(make_identity_tensor(Shape<Int<M>, Int<K>>{}));  // (MMA,1,1) -> (m,k)
        auto cB = b_coordinates<Operation>(thread);                                     // (MMA,1,1) -> (n,k)
        Tensor cC = thread.partition_C(make_identity_tensor(Shape<Int<M>, Int<N>>{}));  // (MMA,1,1) -> (m,n)
        Tensor rA = make_tensor<A>(shape(cA));                                          // (MMA,1,1)
        Tensor rB = make_tensor<B>(shape(cB));                                          // (MMA,1,1)
        Tensor rC = make_tensor<C>(shape(cC));                                          // (MMA,1,1)
        for (int i = 0; i < size(rA); ++i) rA(i) = A(a[get<0>(cA(i))][get<1>(cA(i))]);
        for (int i = 0; i < size(rB); ++i) rB(i) = B(b[get<0>(cB(i))][get<1>(cB(i))]);
        for (int i = 0; i < size(rC); ++i) rC(i) = C(c[get<0>(cC(i))][get<1>(cC(i))]);
        gemm(tiled, rA, rB, rC);
        for (int i = 0; i < size(rC); ++i) d[get<0>(cC(i))][get<1>(cC(i))] = rC(i);
    });
    test::expect(error.empty(), error.c_str());
    bool equal = true;
    for (int m = 0; m < M; ++m) {
        for (int n = 0; n < N; ++n) {
            long sum = c[m][n];
            for (int k = 0; k < K; ++k) sum += long(a[m][k]) * b[n][k];
            equal &= static_cast<long>(d[m][n]) == sum;
        }
    }
    test::expect(equal, name);
}

// Loads a tile of 16-bit values with ldmatrix into the fragment of an operand of m16n8k16: .x4 into A (16 x 16), .x2
// into B (8 x 16). For transposed operations, the tile is transposed in shared memory.
template <class Operation, bool Transposed, bool IsA>
void check_ldmatrix(char const* name) {
    constexpr int rows = IsA ? 16 : 8, columns = 16;
    test::Verdicts verdicts;
    std::string const error = test::run(1, 32, sizeof(bfloat16_t) * rows * columns, [&verdicts] {
        auto* bytes = static_cast<bfloat16_t*>(w4ax_emulate::dynamic_shared(16));
        using Strides = Stride<Int<Transposed ? 1 : columns>, Int<Transposed ? rows : 1>>;
        using Tile = Layout<Shape<Int<rows>, Int<columns>>, Strides>;
        Tensor sT = make_tensor(make_smem_ptr(bytes), Tile{});  // (rows,columns)
        for (int i = threadIdx.x; i < rows * columns; i += 32) sT(i / columns, i % columns) = bfloat16_t(float(i));
        __syncthreads();  // the tile is written by all lanes, read by others
        TiledMMA tiled = make_tiled_mma(SM80_16x8x16_F32BF16BF16F32_TN{});
        auto thread = tiled.get_slice(threadIdx.x);
        auto check = [&](auto copier, auto const& coordinates, auto&& fragment) {
            auto slice = copier.get_slice(threadIdx.x);
            copy(copier, slice.partition_S(sT), slice.retile_D(fragment));
            for (int i = 0; i < size(fragment); ++i) {
                verdicts.mine() &= float(fragment(i)) ==
                                   float(get<0>(coordinates(i)) * columns + get<1>(coordinates(i)));
            }
        };
        Tensor identity = make_identity_tensor(Shape<Int<rows>, Int<columns>>{});
        Copy_Atom<Operation, bfloat16_t> atom;
        if constexpr (IsA) {
            check(make_tiled_copy_A(atom, tiled), thread.partition_A(identity), thread.partition_fragment_A(sT));
        } else {
            check(make_tiled_copy_B(atom, tiled), thread.partition_B(identity), thread.partition_fragment_B(sT));
        }
    });
    test::expect(error.empty(), error.c_str());
    test::expect(verdicts.all(), name);
}

// .x1 by its definition: lane l receives elements 2 * (l % 4) and the next of row (transposed: column) l / 4.
template <class Operation, bool Transposed>
void check_ldmatrix_x1(char const* name) {
    test::Verdicts verdicts;
    std::string const error = test::run(1, 32, 128, [&verdicts] {
        auto* tile = static_cast<uint16_t*>(w4ax_emulate::dynamic_shared(16));  // [8][8]
        for (int i = threadIdx.x; i < 64; i += 32) tile[i] = static_cast<uint16_t>(i);
        __syncthreads();  // written by all lanes, read by others
        uint32_t word;
        Operation::copy(reinterpret_cast<uint128_t const*>(tile)[threadIdx.x % 8], word);
        int const g = threadIdx.x / 4, t = threadIdx.x % 4;
        uint32_t const low = Transposed ? 8 * (2 * t) + g : 8 * g + 2 * t;
        uint32_t const high = Transposed ? 8 * (2 * t + 1) + g : 8 * g + 2 * t + 1;
        verdicts.mine() &= word == (low | high << 16);
    });
    test::expect(error.empty(), error.c_str());
    test::expect(verdicts.all(), name);
}

// Both modes of the BF16 sum, on numbers where they differ: 2^24 + 1 + 1 is 2^24 one by one, and 2^24 + 2 at once.
void check_bf16_sums() {
    for (int mode = 0; mode < 2; ++mode) {
        w4ax_emulate_set_bf16_sum(mode);
        static float d[4];
        test::run(1, 32, 0, [] {
            uint32_t const ones = 0x3F803F80u;
            bool const first_row = threadIdx.x / 4 == 0 && threadIdx.x % 4 == 0;
            uint32_t const a0 = first_row ? ones : 0, zero = 0;  // A[0][0..2] = 1
            float const c = 16777216.0f;
            float r0, r1, r2, r3;
            SM80_16x8x16_F32BF16BF16F32_TN::fma(r0, r1, r2, r3, a0, zero, zero, zero, ones, ones, c, c, c, c);
            if (threadIdx.x == 0) d[0] = r0, d[1] = r1, d[2] = r2, d[3] = r3;
        });
        test::expect(d[0] == (mode ? 16777218.0f : 16777216.0f), "order of summation of a BF16 mma");
        test::expect(d[2] == 16777216.0f, "a row of zeros leaves c");
    }
    w4ax_emulate_set_bf16_sum(0);
}

}  // namespace

int main() {
    check_mma<SM80_16x8x64_S32S4U4S32_TN>("m16n8k64 s4 u4");
    check_mma<SM80_16x8x32_S32S4U4S32_TN>("m16n8k32 s4 u4");
    check_mma<SM80_16x8x64_S32S4S4S32_TN>("m16n8k64 s4 s4");
    check_mma<SM80_16x8x32_S32S4S4S32_TN>("m16n8k32 s4 s4");
    check_mma<SM80_16x8x32_S32S8U8S32_TN>("m16n8k32 s8 u8");
    check_mma<SM80_16x8x32_S32S8S8S32_TN>("m16n8k32 s8 s8");
    check_mma<SM80_16x8x32_S32U8S8S32_TN>("m16n8k32 u8 s8");
    check_mma<SM80_16x8x32_S32U8U8S32_TN>("m16n8k32 u8 u8");
    check_mma<SM80_16x8x16_S32S8U8S32_TN>("m16n8k16 s8 u8");
    check_mma<SM80_16x8x16_S32S8S8S32_TN>("m16n8k16 s8 s8");
    check_mma<SM80_16x8x16_F32BF16BF16F32_TN>("m16n8k16 bf16, on integers");
    check_mma<SM80_16x8x8_F32BF16BF16F32_TN>("m16n8k8 bf16, on integers");
    check_ldmatrix<SM75_U32x4_LDSM_N, false, true>("ldmatrix.x4");
    check_ldmatrix<SM75_U32x2_LDSM_N, false, false>("ldmatrix.x2");
    check_ldmatrix<SM75_U16x8_LDSM_T, true, true>("ldmatrix.x4.trans");
    check_ldmatrix<SM75_U16x4_LDSM_T, true, false>("ldmatrix.x2.trans");
    check_ldmatrix_x1<SM75_U32x1_LDSM_N, false>("ldmatrix.x1");
    check_ldmatrix_x1<SM75_U16x2_LDSM_T, true>("ldmatrix.x1.trans");
    check_bf16_sums();
    return test::finish("atoms");
}
