// Checks the emulated wgmma against CuTe's traits: fragments by a TiledMMA's partitioning, B in shared memory by CuTe's
// canonical layouts and their descriptors. Also checks tensor copies, and planted faults in a ring of stages.
#include "test.h"

#include "emulate/sm90.h"

using namespace cute;

namespace {

test::Random numbers(11);

// One wgmma. B is tiled by `Atom`, `skip` bytes from the start of shared memory.
template <class Operation, class Atom>
void check_wgmma(char const* name, int skip) {
    using Traits = MMA_Traits<Operation>;
    using A = typename Traits::ValTypeA;
    using B = typename Traits::ValTypeB;
    constexpr int M = 64, N = size<1>(typename Traits::Shape_MNK{}), K = size<2>(typename Traits::Shape_MNK{});
    using w4ax_emulate::Element;
    constexpr bool is_bf16 = sizeof(B) == 2, is_u8 = std::is_same<A, std::uint8_t>::value;
    constexpr Element of_a = is_bf16 ? Element::bf16 : is_u8 ? Element::u8 : Element::s8;
    static int a[M][K], b[N][K], c[M][N];
    static long d[M][N];
    for (auto& row : a)
        for (int& v : row) v = numbers.between(is_bf16 ? -16 : is_u8 ? 0 : -128, is_bf16 ? 16 : is_u8 ? 255 : 127);
    for (auto& row : b)
        for (int& v : row) v = numbers.between(is_bf16 ? -16 : 0, is_bf16 ? 16 : 255);
    for (auto& row : c)
        for (int& v : row) v = numbers.between(-500, 500);
    // A swizzled atom is wider than K of one wgmma: B is its first columns.
    constexpr int atom_k = size<1>(Atom{}) > K ? size<1>(Atom{}) : K;
    using LayoutB = decltype(tile_to_shape(Atom{}, Shape<Int<N>, Int<atom_k>>{}));
    // Only strides and layout type are used. Called once: on a host, each call prints that shared memory has no
    // address.
    GmmaDescriptor const made = SM90::GMMA::make_gmma_desc<SM90::GMMA::Major::K>(local_tile(
        make_tensor(make_smem_ptr(static_cast<B*>(nullptr)), LayoutB{}), Shape<Int<N>, Int<K>>{}, make_coord(0, 0)));
    for (int seed = 0; seed < 24; seed += 5) {
        w4ax_emulate_set_seed(seed);
        std::string const error = test::run(1, 128, skip + N * atom_k * sizeof(B), [skip, made] {
            auto* bytes = static_cast<char*>(w4ax_emulate::dynamic_shared(1024)) + skip;
            Tensor sB = make_tensor(make_smem_ptr(reinterpret_cast<B*>(bytes)), LayoutB{});  // (token,k)
            for (int i = threadIdx.x; i < N * K; i += 128) sB(i / K, i % K) = B(b[i / K][i % K]);
            __syncthreads();  // written by all threads, read by others
            auto thread = make_tiled_mma(Operation{}).get_slice(threadIdx.x);
            Tensor cA = thread.partition_A(make_identity_tensor(Shape<Int<M>, Int<K>>{}));  // (MMA,1,1) -> (m,k)
            Tensor cC = thread.partition_C(make_identity_tensor(Shape<Int<M>, Int<N>>{}));  // (MMA,1,1) -> (m,n)
            Tensor rA = make_tensor<A>(shape(cA));                                          // (MMA,1,1)
            Tensor rC = make_tensor<typename Traits::ValTypeC>(shape(cC));                  // (MMA,1,1)
            for (int i = 0; i < size(rA); ++i) rA(i) = A(a[get<0>(cA(i))][get<1>(cA(i))]);
            for (int i = 0; i < size(rC); ++i) rC(i) = typename Traits::ValTypeC(c[get<0>(cC(i))][get<1>(cC(i))]);
            std::uint64_t const described = w4ax_emulate::make_descriptor(
                bytes, made.bitfield.leading_byte_offset_ * 16, made.bitfield.stride_byte_offset_ * 16,
                made.bitfield.layout_type_ == std::uint8_t(SM90::GMMA::LayoutType::B128));
            w4ax_emulate::wgmma_fence();
            w4ax_emulate::wgmma(reinterpret_cast<std::uint32_t*>(&rA(0)), &rC(0), described, N, of_a);
            w4ax_emulate::wgmma_commit_group();
            w4ax_emulate::wgmma_wait_group(0);
            for (int i = 0; i < size(rC); ++i) d[get<0>(cC(i))][get<1>(cC(i))] = static_cast<long>(rC(i));
        });
        test::expect(error.empty(), error.c_str());
        bool equal = true;
        for (int m = 0; m < M; ++m) {
            for (int n = 0; n < N; ++n) {
                long sum = c[m][n];
                for (int k = 0; k < K; ++k) sum += long(a[m][k]) * b[n][k];
                equal &= d[m][n] == sum;
            }
        }
        test::expect(equal, name);
    }
    w4ax_emulate_set_seed(0);
}

// A tensor copy places each element as CuTe's swizzled layout does, and zeros beyond the matrix.
void check_tensor_copy() {
    constexpr int rows = 24, k = 64;
    static std::uint16_t x[20][80];
    for (auto& row : x)
        for (auto& v : row) v = static_cast<std::uint16_t>(numbers.bits() | 1);
    test::Verdicts verdicts;
    alignas(64) static std::uint64_t map[16];
    // 20 rows of 75 elements with a stride of 80. The box starts at row 2 and column 16.
    w4ax_emulate::encode_tensor_map(map, x, 20, 75, 80, rows);
    std::string const error = test::run(1, 32, rows * 128 + 8, [&verdicts] {
        auto* bytes = static_cast<char*>(w4ax_emulate::dynamic_shared(1024));
        auto* barrier = reinterpret_cast<std::uint64_t*>(bytes + rows * 128);
        if (threadIdx.x == 0) {
            w4ax_emulate::mbarrier_init(barrier, 1);
            w4ax_emulate::fence_mbarrier_init();
            w4ax_emulate::mbarrier_arrive(barrier, rows * 128);
            w4ax_emulate::tensor_copy(bytes, map, 16, 2, barrier);
        }
        __syncthreads();  // the barrier is initialized
        w4ax_emulate::mbarrier_wait(barrier, 0);
        using Layout =
            decltype(tile_to_shape(SM90::GMMA::Layout_K_SW128_Atom<bfloat16_t>{}, Shape<Int<rows>, Int<k>>{}));
        Tensor sX = make_tensor(make_smem_ptr(reinterpret_cast<std::uint16_t*>(bytes)), Layout{});  // (row,k)
        for (int i = threadIdx.x; i < rows * k; i += 32) {
            int const row = i / k + 2, column = i % k + 16;
            verdicts.mine() &= sX(i / k, i % k) == (row < 20 && column < 75 ? x[row][column] : 0);
        }
    });
    test::expect(error.empty(), error.c_str());
    test::expect(verdicts.all(), "swizzled tensor copy");
}

// Faults with barriers, copies and wgmma, in a ring of two stages of 1 KiB that one producer thread fills.
enum class Fault {
    none,
    early_release,
    no_wait,
    too_few_bytes,
    wrong_parity,
    not_published,
    no_fence,
    sums_before_wait,
    no_release
};

std::string ring(Fault fault, std::uint64_t seed, bool& right) {
    static unsigned char from[6][1024];
    for (auto& stage : from)
        for (auto& v : stage) v = static_cast<unsigned char>(numbers.bits());
    static std::uint32_t sums[128];
    w4ax_emulate_set_seed(seed);
    std::string const error = test::run(1, 160, 2 * 1024 + 32, [fault] {
        auto* bytes = static_cast<char*>(w4ax_emulate::dynamic_shared(1024));
        auto* full = reinterpret_cast<std::uint64_t*>(bytes + 2048);
        std::uint64_t* empty = full + 2;
        if (threadIdx.x == 0) {
            for (int i = 0; i < 2; ++i) {
                w4ax_emulate::mbarrier_init(full + i, 1);
                w4ax_emulate::mbarrier_init(empty + i, 4);
            }
            if (fault != Fault::not_published) w4ax_emulate::fence_mbarrier_init();
        }
        __syncthreads();  // the barriers are initialized
        if (threadIdx.x >= 128) {
            if (threadIdx.x != 128) return;
            for (int i = 0; i < 6; ++i) {
                if (i >= 2) w4ax_emulate::mbarrier_wait(empty + i % 2, (i / 2 - 1) % 2);
                w4ax_emulate::mbarrier_arrive(full + i % 2, fault == Fault::too_few_bytes ? 512 : 1024);
                w4ax_emulate::bulk_copy(bytes + i % 2 * 1024, from[i], 1024, full + i % 2);
            }
            return;
        }
        // A stage is 32 tokens x 32 k of bytes. All weights are 1.
        std::uint32_t const ones[4] = {0x01010101u, 0x01010101u, 0x01010101u, 0x01010101u};
        std::uint32_t c[16] = {};
        for (int i = 0; i < 6; ++i) {
            if (fault != Fault::no_wait) {
                w4ax_emulate::mbarrier_wait(full + i % 2, fault == Fault::wrong_parity ? 1 - i / 2 % 2 : i / 2 % 2);
            }
            auto release = [&] {
                __syncwarp();  // all lanes have read the stage
                if (threadIdx.x % 32 == 0 && fault != Fault::no_release)
                    w4ax_emulate::mbarrier_arrive(empty + i % 2, 0);
            };
            if (fault != Fault::no_fence) w4ax_emulate::wgmma_fence();
            w4ax_emulate::wgmma(ones, c, w4ax_emulate::make_descriptor(bytes + i % 2 * 1024, 128, 256, false), 32,
                                w4ax_emulate::Element::s8);
            w4ax_emulate::wgmma_commit_group();
            if (fault == Fault::early_release) release();
            if (fault != Fault::sums_before_wait || i + 1 < 6) w4ax_emulate::wgmma_wait_group(0);
            if (fault != Fault::early_release) release();
        }
        std::uint32_t sum = 0;
        for (int i = 0; i < 16; i += 4) sum += c[i] + c[i + 1];
        if (fault == Fault::sums_before_wait) w4ax_emulate::wgmma_wait_group(0);
        sums[threadIdx.x] = sum;
    });
    // Lane 4g + t of the first warp has tokens 8b + 2t and 8b + 2t + 1. Their sums over k are equal in every row.
    right = error.empty();
    if (!right) return error;
    for (int lane = 0; lane < 32; ++lane) {
        std::uint32_t expected = 0;
        for (auto const& stage : from) {
            for (int block = 0; block < 4; ++block) {
                for (int token = lane % 4 * 2; token < lane % 4 * 2 + 2; ++token) {
                    for (int k = 0; k < 32; ++k) expected += stage[block * 256 + k / 16 * 128 + token * 16 + k % 16];
                }
            }
        }
        right &= sums[lane] == expected;
    }
    return error;
}

void check_ring(Fault fault, char const* name, int least) {
    int caught = 0;
    for (int seed = 0; seed < 24; ++seed) {
        bool right = false;
        std::string const error = ring(fault, seed, right);
        if (fault == Fault::none) test::expect(error.empty(), error.c_str());
        caught += !error.empty() || !right;
    }
    std::printf("%-36s caught in %d seeds of 24\n", name, caught);
    test::expect(fault == Fault::none ? caught == 0 : caught >= least, name);
}

}  // namespace

int main() {
    using namespace SM90::GMMA;
    check_wgmma<MMA_64x128x32_S32S8U8_RS_TN, Layout_K_INTER_Atom<std::uint8_t>>("m64n128k32 s8 u8, core matrices", 0);
    check_wgmma<MMA_64x32x32_S32S8U8_RS_TN, Layout_K_INTER_Atom<std::uint8_t>>("m64n32k32 s8 u8, core matrices", 128);
    using Swizzled = Layout_K_SW128_Atom<bfloat16_t>;
    check_wgmma<MMA_64x128x16_F32BF16BF16_RS<Major::K, Major::K>, Swizzled>("m64n128k16 bf16, swizzled", 0);
    check_wgmma<MMA_64x64x16_F32BF16BF16_RS<Major::K, Major::K>, Swizzled>("m64n64k16 bf16, swizzled", 1024);
    check_tensor_copy();
    check_ring(Fault::none, "none", 0);
#ifdef W4AX_EMULATE_TSAN
    // For TSan, the abandoned threads of a failed launch race with those of the next one.
    std::printf("planted faults: checked by the other builds only\n");
#else
    check_ring(Fault::early_release, "stage released before its wgmma", 2);
    check_ring(Fault::no_wait, "no wait for a full stage", 8);
    check_ring(Fault::too_few_bytes, "fewer bytes expected than copied", 24);
    check_ring(Fault::wrong_parity, "wrong parity", 24);
    check_ring(Fault::not_published, "barriers not published", 24);
    check_ring(Fault::no_fence, "wgmma without a fence", 24);
    check_ring(Fault::sums_before_wait, "sums read before the wait", 24);
    check_ring(Fault::no_release, "stages never released", 24);
#endif
    return test::finish("warpgroup");
}
