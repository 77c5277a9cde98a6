#include "emulate/mma/wgmma.h"

#include "emulate/engine/block.h"
#include "emulate/memory/cp_async.h"
#include "emulate/mma/tensor_core.h"
#include "emulate/sync/warp.h"

namespace w4ax_emulate {

namespace {

constexpr int max_words = 128;  // accumulators of a lane for 256 tokens
constexpr int max_queued = 32;  // wgmma in flight of a warp
constexpr int no_group = -1;

struct Call {
    std::uint32_t const* a;
    std::uint32_t* c;
    std::uint64_t b;
    int tokens;
    Element of_a;

    bool is_bf16() const { return of_a == Element::bf16; }
};

/// The actual sums, while the accumulators that the kernel sees are garbage.
struct Accumulators {
    bool in_flight;
    std::uint32_t* seen[32];  // the kernel's registers, by lane
    int words;
    int group;  // the last that adds to them; no_group until it is committed
    std::uint32_t held[32][max_words];
};

struct Mma {
    Call lane[32];
    Accumulators* to;
    int group;  // no_group until it is committed
};

/// Fixed arrays whose elements stay where they are: TSan would report a race for memory that one fiber frees and
/// another one allocates, and for large elements that different fibers copy, because a copy calls its memcpy.
struct Warp {
    bool begun;
    int first, queued;
    int groups;             // committed so far
    Mma queue[max_queued];  // a ring
    Accumulators accumulators[2];

    Mma& at(int i) { return queue[(first + i) % max_queued]; }
    Mma const& at(int i) const { return queue[(first + i) % max_queued]; }
};
Warp warps[max_threads / 32];

/// B, as its descriptor locates it.
struct Matrix {
    char const* base;
    std::uint64_t start, k_stride, token_stride;
    bool swizzled;

    explicit Matrix(std::uint64_t d)
        : base(block.on->shared.dynamic.bytes),
          start((d & 0x3FFF) << 4),
          k_stride((d >> 16 & 0x3FFF) << 4),
          token_stride((d >> 32 & 0x3FFF) << 4),
          swizzled(d >> 62 == 1) {}

    /// Returns the offset of byte `byte` of a token's 32.
    std::uint64_t at(int token, int byte) const {
        if (!swizzled) return start + token / 8 * token_stride + byte / 16 * k_stride + token % 8 * 16 + byte % 16;
        std::uint64_t const linear = start + token / 8 * token_stride + token % 8 * 128 + byte;
        return linear ^ (linear >> 7 & 7) << 4;
    }
    unsigned char byte(int token, int k) const {
        return reinterpret_cast<unsigned char const volatile*>(base)[at(token, k)];
    }
};

/// PTX ISA, "Register Fragments for wgmma.mma_async.m64nNk*": the fragments of a warp are those of mma.m16n8.
void execute(Mma const& mma) {
    ++counters.mma;
    Call const& one = mma.lane[0];
    Matrix const b(one.b);
    bool const is_bf16 = one.is_bf16();
    int const per_word = is_bf16 ? 2 : 4, depth = is_bf16 ? 16 : 32;
    for (int token = 0; token < one.tokens; ++token) {
        std::int16_t quantized[32];
        float real[16];
        for (int k = 0; k < depth; ++k) {
            if (is_bf16) {
                std::uint32_t const low = b.byte(token, 2 * k), high = b.byte(token, 2 * k + 1);
                std::uint32_t const bits = low << 16 | high << 24;
                __builtin_memcpy(&real[k], &bits, 4);
            } else {
                quantized[k] = b.byte(token, k);
            }
        }
        for (int row = 0; row < 16; ++row) {
            std::int16_t integers[32];
            float reals[16];
            for (int k = 0; k < depth; ++k) {
                int const r = k / (4 * per_word) * 2 + row / 8, lane = row % 8 * 4 + k / per_word % 4;
                std::uint32_t const word = mma.lane[lane].a[r];
                if (is_bf16) {
                    std::uint32_t const bits = word >> (16 * (k % 2)) << 16;
                    __builtin_memcpy(&reals[k], &bits, 4);
                } else {
                    auto const byte = static_cast<std::uint8_t>(word >> (8 * (k % 4)));
                    integers[k] = one.of_a == Element::s8 ? static_cast<std::int8_t>(byte) : byte;
                }
            }
            std::uint32_t& c = mma.to->held[row % 8 * 4 + token % 8 / 2][token / 8 * 4 + row / 8 * 2 + token % 2];
            if (is_bf16) {
                float sum;
                __builtin_memcpy(&sum, &c, 4);
                sum = add_products(reals, real, depth, sum);
                __builtin_memcpy(&c, &sum, 4);
            } else {
                c = add_products(integers, quantized, depth, c);
            }
        }
    }
}

/// Executes the wgmma of the groups before `end`. They are at the front.
void execute_groups(Warp& warp, int end) {
    while (warp.queued > 0 && warp.at(0).group != no_group && warp.at(0).group < end) {
        execute(warp.at(0));
        warp.first = (warp.first + 1) % max_queued;
        --warp.queued;
    }
}

// seed % 12 selects one of 4 schedules and 3 arrivals of copies.
bool executes_at_commit() { return options.seed / 12 % 2 == 0; }

void exchange_mma(WarpExchange& lanes, std::uint32_t) {
    Warp& warp = warps[self().warp];
    if (warp.queued == max_queued) fail("wgmma: more than %d in flight", max_queued);
    Mma& mma = warp.at(warp.queued);
    mma.to = nullptr;
    mma.group = no_group;
    for (int lane = 0; lane < 32; ++lane) {
        Call* call;
        __builtin_memcpy(&call, lanes.in[lane], sizeof call);
        mma.lane[lane] = *call;
        if (call->b != mma.lane[0].b || call->tokens != mma.lane[0].tokens) {
            fail("wgmma: lane %d has a different descriptor than lane 0", lane);
        }
    }
    Call const& one = mma.lane[0];
    Accumulators* unused = nullptr;
    for (Accumulators& set : warp.accumulators) {
        if (!set.in_flight)
            unused = &set;
        else if (set.seen[0] == one.c)
            mma.to = &set;
    }
    if (!mma.to) {
        if (!unused) fail("wgmma: more than two sets of accumulators in flight");
        mma.to = unused;
        mma.to->in_flight = true;
        mma.to->words = one.tokens / 2;
        for (int lane = 0; lane < 32; ++lane) {
            mma.to->seen[lane] = mma.lane[lane].c;
            for (int i = 0; i < mma.to->words; ++i) {
                mma.to->held[lane][i] = mma.lane[lane].c[i];
                mma.lane[lane].c[i] = 0xBADC0DE5u;
            }
        }
    }
    mma.to->group = no_group;
    ++warp.queued;
}

void exchange_fence(WarpExchange&, std::uint32_t) { warps[self().warp].begun = true; }

void exchange_commit(WarpExchange&, std::uint32_t) {
    Warp& warp = warps[self().warp];
    warp.begun = false;
    for (int i = 0; i < warp.queued; ++i) {
        if (warp.at(i).group == no_group) warp.at(i).group = warp.at(i).to->group = warp.groups;
    }
    ++warp.groups;
    if (executes_at_commit()) execute_groups(warp, warp.groups);
}

void exchange_wait(WarpExchange& lanes, std::uint32_t) {
    Warp& warp = warps[self().warp];
    for (int i = 0; i < warp.queued; ++i) {
        if (warp.at(i).group == no_group) fail("wgmma.wait_group: a wgmma was not committed");
    }
    int const end = warp.groups - static_cast<int>(lanes.in[0][0]);
    execute_groups(warp, end);
    for (Accumulators& set : warp.accumulators) {
        if (!set.in_flight || set.group >= end) continue;
        for (int lane = 0; lane < 32; ++lane) {
            for (int i = 0; i < set.words; ++i) set.seen[lane][i] = set.held[lane][i];
        }
        set.in_flight = false;
    }
}

}  // namespace

std::uint64_t make_descriptor(void const* b, int k_stride, int token_stride, bool swizzled) {
    std::uint64_t const start = static_cast<char const*>(b) - block.on->shared.dynamic.bytes;
    if (start % 16 || start >> 18 || k_stride % 16 || token_stride % 16 || k_stride >> 18 || token_stride >> 18) {
        fail("matrix descriptor: shared byte %llu with strides %d and %d: expected multiples of 16 below 2^18",
             static_cast<unsigned long long>(start), k_stride, token_stride);
    }
    return start >> 4 | std::uint64_t(k_stride >> 4) << 16 | std::uint64_t(token_stride >> 4) << 32 |
           std::uint64_t(swizzled) << 62;
}

void wgmma(std::uint32_t const* a, void* c, std::uint64_t b, int tokens, Element of_a) {
    if (of_a != Element::s8 && of_a != Element::u8 && of_a != Element::bf16) fail("wgmma: unsupported element of A");
    if (tokens % 8 || tokens > 256) fail("wgmma: N of %d: expected a multiple of 8, at most 256", tokens);
    if (!warps[self().warp].begun) fail("wgmma: no wgmma.fence since the last commit");
    Matrix const matrix(b);
    for (int token = 0; token < tokens; ++token) {
        for (int unit = 0; unit < 32; unit += 16)
            check_not_in_flight(matrix.base + matrix.at(token, unit), 16, "wgmma");
    }
    Call const call = {a, static_cast<std::uint32_t*>(c), b, tokens, of_a};
    Call const* const pointer = &call;
    std::uint32_t in[2];
    __builtin_memcpy(in, &pointer, sizeof in);
    meet("wgmma", exchange_mma, full_mask, in, 2);
}

void wgmma_fence() { meet("wgmma.fence", exchange_fence, full_mask, nullptr, 0); }
void wgmma_commit_group() { meet("wgmma.commit_group", exchange_commit, full_mask, nullptr, 0); }
void wgmma_wait_group(int pending) {
    std::uint32_t const in = static_cast<std::uint32_t>(pending);
    meet("wgmma.wait_group", exchange_wait, full_mask, &in, 1);
}

void check_not_read_by_wgmma(void const* to, std::size_t bytes) {
    std::uint64_t const first = static_cast<char const*>(to) - block.on->shared.dynamic.bytes;
    for (auto const& warp : warps) {
        for (int queued = 0; queued < warp.queued; ++queued) {
            Call const& call = warp.at(queued).lane[0];
            Matrix const b(call.b);
            for (int token = 0; token < call.tokens; ++token) {
                for (int unit = 0; unit < 32; unit += 16) {
                    if (b.at(token, unit) + 16 > first && b.at(token, unit) < first + bytes) {
                        fail("a copy writes shared byte %llu, which a wgmma in flight may still read",
                             static_cast<unsigned long long>(first));
                    }
                }
            }
        }
    }
}

void check_no_wgmma_in_flight() {
    Warp const& warp = warps[self().warp];
    if (warp.queued || warp.accumulators[0].in_flight || warp.accumulators[1].in_flight)
        fail("the warp exits with wgmma in flight: wgmma.wait_group is missing");
}

void reset_wgmma() {
    for (auto& warp : warps) {
        warp.begun = false;
        warp.first = warp.queued = warp.groups = 0;
        for (Accumulators& set : warp.accumulators) set.in_flight = false;
    }
}

}  // namespace w4ax_emulate
