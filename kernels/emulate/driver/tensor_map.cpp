// cuTensorMapEncodeTiled: checks the arguments as the documentation states; the emulator encodes the map.
#include "driver.h"
#include "entry.h"

namespace w4ax_driver {

namespace {

w4ax_tensor_map_encoder encoder = nullptr;

unsigned element_bytes(CUtensorMapDataType type) {
    switch (type) {
        case CU_TENSOR_MAP_DATA_TYPE_UINT8: return 1;
        case CU_TENSOR_MAP_DATA_TYPE_UINT16:
        case CU_TENSOR_MAP_DATA_TYPE_FLOAT16:
        case CU_TENSOR_MAP_DATA_TYPE_BFLOAT16: return 2;
        case CU_TENSOR_MAP_DATA_TYPE_UINT32:
        case CU_TENSOR_MAP_DATA_TYPE_INT32:
        case CU_TENSOR_MAP_DATA_TYPE_FLOAT32: return 4;
        case CU_TENSOR_MAP_DATA_TYPE_UINT64:
        case CU_TENSOR_MAP_DATA_TYPE_INT64:
        case CU_TENSOR_MAP_DATA_TYPE_FLOAT64: return 8;
        default: return 0;
    }
}

CUresult check_dimensions(cuuint32_t rank, cuuint64_t const* extents, cuuint64_t const* strides, cuuint32_t const* box,
                          cuuint32_t const* steps, unsigned bytes, CUtensorMapSwizzle swizzle) {
    for (cuuint32_t i = 0; i < rank; ++i) {
        if (extents[i] == 0 || extents[i] > (cuuint64_t(1) << 32)) {
            return refuse(CUDA_ERROR_INVALID_VALUE, "extent %u is %llu: expected 1 to 2^32", i,
                          static_cast<unsigned long long>(extents[i]));
        }
        if (box[i] == 0 || box[i] > 256)
            return refuse(CUDA_ERROR_INVALID_VALUE, "box %u is %u: at most 256", i, box[i]);
        if (steps[i] == 0 || steps[i] > 8) return refuse(CUDA_ERROR_INVALID_VALUE, "step %u is %u", i, steps[i]);
    }
    for (cuuint32_t i = 0; i + 1 < rank; ++i) {
        if (strides[i] % 16 || strides[i] >= (cuuint64_t(1) << 40)) {
            return refuse(CUDA_ERROR_INVALID_VALUE, "stride %u is %llu: expected a multiple of 16 below 2^40", i,
                          static_cast<unsigned long long>(strides[i]));
        }
    }
    cuuint64_t const row = cuuint64_t(box[0]) * bytes;
    if (row % 16)
        return refuse(CUDA_ERROR_INVALID_VALUE, "a row of the box has %llu bytes: expected a multiple of 16",
                      static_cast<unsigned long long>(row));
    cuuint64_t const most = swizzle == CU_TENSOR_MAP_SWIZZLE_128B  ? 128
                            : swizzle == CU_TENSOR_MAP_SWIZZLE_64B ? 64
                            : swizzle == CU_TENSOR_MAP_SWIZZLE_32B ? 32
                                                                   : row;
    if (row > most)
        return refuse(CUDA_ERROR_INVALID_VALUE, "a row of the box has %llu bytes: at most %llu",
                      static_cast<unsigned long long>(row), static_cast<unsigned long long>(most));
    return CUDA_SUCCESS;
}

}  // namespace

}  // namespace w4ax_driver

using namespace w4ax_driver;

extern "C" {

void w4axDriverSetTensorMapEncoder(w4ax_tensor_map_encoder set) {
    Lock const lock;
    encoder = set;
}

CUresult cuTensorMapEncodeTiled(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank, void* address,
                                cuuint64_t const* extents, cuuint64_t const* strides, cuuint32_t const* box,
                                cuuint32_t const* steps, CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
                                CUtensorMapL2promotion promotion, CUtensorMapFloatOOBfill fill) {
    W4AX_ENTRY(cuTensorMapEncodeTiled);
    W4AX_NOT_NULL(map);
    W4AX_NOT_NULL(address);
    W4AX_NOT_NULL(extents);
    W4AX_NOT_NULL(box);
    W4AX_NOT_NULL(steps);
    if (rank > 1) W4AX_NOT_NULL(strides);
    if (play().arch < 90) return refuse(CUDA_ERROR_NOT_SUPPORTED, "tensor maps on sm_%d", play().arch);
    if (reinterpret_cast<std::uint64_t>(map) % 64)
        return refuse(CUDA_ERROR_INVALID_VALUE, "the map is not aligned to 64");
    if (reinterpret_cast<std::uint64_t>(address) % 16) {
        return refuse(CUDA_ERROR_INVALID_VALUE, "the address %p is no multiple of 16", address);
    }
    if (rank == 0 || rank > 5) return refuse(CUDA_ERROR_INVALID_VALUE, "rank %u: expected 1 to 5", rank);
    unsigned const bytes = element_bytes(type);
    if (bytes == 0) return refuse(CUDA_ERROR_NOT_SUPPORTED, "the emulator has no tensor maps of type %d", int(type));
    W4AX_TRY(check_dimensions(rank, extents, strides, box, steps, bytes, swizzle));
    bool const emulated = type == CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 && rank == 2 && box[0] == 64 && steps[0] == 1 &&
                          steps[1] == 1 && interleave == CU_TENSOR_MAP_INTERLEAVE_NONE &&
                          swizzle == CU_TENSOR_MAP_SWIZZLE_128B && fill == CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE &&
                          extents[0] <= 0x7FFFFFFF && extents[1] <= 0x7FFFFFFF && promotion >= 0;
    if (!emulated || !encoder) {
        return refuse(CUDA_ERROR_NOT_SUPPORTED, "the emulator encodes BF16 matrices in boxes of 64 columns only");
    }
    encoder(map, address, int(extents[1]), int(extents[0]), std::int64_t(strides[0] / bytes), int(box[1]));
    return CUDA_SUCCESS;
}

}  // extern "C"
