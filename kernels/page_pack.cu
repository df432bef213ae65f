// Half pages of the compute type into packed halves and back: int8, fp8, int4 (src/backend/packing.rs has the layouts).
//
// Grid (heads of all layers, pages): a block takes what one head of one layer has in a page, T tokens of D dims.
//   codes, v4   a thread takes 8 dims of a token (16 bytes), its 3 neighbours the rest of the 32 that share a scale.
//   k4          a thread takes 2 dims of all T tokens, so that a step and a least value need no other thread.
// Whoever packs unpacks again, for the losses: what is compared with the elements is what unpacking will give.
// Bytes: elements and packed bytes once each. Packing takes 215 to 475 warp instructions per 16 bytes a lane, unpacking 70 to
// 130, so about 1 TB/s of an H100's issue slots: ten times what the bus to the host carries, on a stream that waits for that.
// Elements that are not finite, and codes whose scale is not, make losses that are not: nobody may use such packed bytes.
#include "kv.cuh"

constexpr int kMaxThreads = 256;

// Where a block works.
struct Place {
  uint64_t head, packed;
  __device__ __forceinline__ Place(const PagePackParams& p) {
    const uint32_t page = reinterpret_cast<const uint32_t*>(p.pages)[blockIdx.y];
    head = p.data + page * p.page_bytes + uint64_t(blockIdx.x) * p.head_bytes;
    packed = p.packed + (uint64_t(blockIdx.y) * p.heads + blockIdx.x) * p.packed_bytes;
  }
};

// Sums of squares of the errors and of the values.
struct Loss {
  float error = 0.0f, square = 0.0f;

  __device__ __forceinline__ void add(float value, float unpacked) {
    const float difference = value - unpacked;
    error += difference * difference;
    square += value * value;
  }
  template <typename F>
  __device__ __forceinline__ void add(const Eight& values, const Eight& unpacked) {
    const Eight rounded = Eight::of<F>(unpacked.packed<F>());
#pragma unroll
    for (int i = 0; i < 8; i++) add(values.v[i], rounded.v[i]);
  }
  // Of the block, in one order whatever the threads do.
  __device__ __forceinline__ void write(const PagePackParams& p) {
    __shared__ float2 warps[kMaxThreads / 32];
#pragma unroll
    for (int lanes = 16; lanes > 0; lanes /= 2) {
      error += __shfl_xor_sync(kAllLanes, error, lanes);
      square += __shfl_xor_sync(kAllLanes, square, lanes);
    }
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = make_float2(error, square);
    __syncthreads();
    if (threadIdx.x != 0) return;
    for (uint32_t w = 1; w < blockDim.x / 32; w++) {
      error += warps[w].x;
      square += warps[w].y;
    }
    reinterpret_cast<float2*>(p.losses)[blockIdx.y * p.heads + blockIdx.x] = make_float2(error, square);
  }
};

// ---- codes with a scale per 32 dims, as pages of that type have them ----

__device__ __forceinline__ Eight elements(uint2 codes, float scale, uint32_t type) {
  const float4 a = kv_elements(codes.x, scale, type), b = kv_elements(codes.y, scale, type);
  return {{a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w}};
}

__device__ __forceinline__ float half_to_float(uint32_t bits) {
  return __half2float(__ushort_as_half(static_cast<unsigned short>(bits)));
}

template <typename F>
__device__ __forceinline__ void pack_codes(const PagePackParams& p) {
  const Place at(p);
  const uint32_t row = p.head_dim / 8;
  Loss loss;
  for (uint32_t i = threadIdx.x; i < p.page_tokens * row; i += blockDim.x) {
    const Eight x = Eight::load<F>(at.head + i * 16);
    const EightCodes codes(x, p.type);
    codes.store(at.packed, i / row, i % row * 8, p.head_dim);
    loss.add<F>(x, elements(codes.codes, half_to_float(codes.scale.bits), p.type));
  }
  loss.write(p);
}

template <typename F>
__device__ __forceinline__ void unpack_codes(const PagePackParams& p) {
  const Place at(p);
  const uint32_t row = p.head_dim / 8;
  for (uint32_t i = threadIdx.x; i < p.page_tokens * row; i += blockDim.x) {
    const uint32_t token = i / row, dim = i % row * 8;
    const uint2 codes = *reinterpret_cast<const uint2*>(at.packed + kv_code_at(token, dim, p.head_dim));
    const uint32_t scale = *reinterpret_cast<const uint16_t*>(at.packed + kv_scale_at(token, dim, p.head_dim));
    elements(codes, half_to_float(scale), p.type).store<F>(at.head + i * 16);
  }
}

// ---- int4: least + code * step ----

struct Range4 {
  uint32_t bits;  // f16: step, least
  float step, least, inverse;

  __device__ __forceinline__ explicit Range4(uint32_t stored) : bits(stored) {
    const float2 both = F16::unpack(bits);
    step = both.x;
    least = both.y;
    inverse = step > 0.0f ? __frcp_rn(step) : 0.0f;
  }
  // That reaches from `least` to `most`. -0 becomes 0, so that the order of zeros does not matter.
  __device__ __forceinline__ Range4(float least, float most)
      : Range4(F16::pack((most - least) * (1.0f / 15.0f), least + 0.0f)) {}

  __device__ __forceinline__ uint32_t code(float x) const {
    return min(max(__float2int_rn((x - least) * inverse), 0), 15);
  }
  __device__ __forceinline__ float value(uint32_t code) const { return float(code) * step + least; }
};

// Bytes of a head's codes; its steps and least values follow.
__device__ __forceinline__ uint32_t codes4_bytes(const PagePackParams& p) { return p.page_tokens * p.head_dim / 2; }

__device__ __forceinline__ Eight elements4(uint32_t codes, const Range4& range) {
  Eight x;
#pragma unroll
  for (int i = 0; i < 8; i++) x.v[i] = range.value(codes >> (4 * i) & 15);
  return x;
}

template <typename F>
__device__ __forceinline__ void pack_v4(const PagePackParams& p) {
  const Place at(p);
  Loss loss;
  for (uint32_t i = threadIdx.x; i < p.page_tokens * p.head_dim / 8; i += blockDim.x) {
    const Eight x = Eight::load<F>(at.head + i * 16);
    float least = x.v[0], most = x.v[0];
#pragma unroll
    for (int d = 1; d < 8; d++) {
      least = fminf(least, x.v[d]);
      most = fmaxf(most, x.v[d]);
    }
#pragma unroll
    for (int lanes = 1; lanes <= 2; lanes *= 2) {
      least = fminf(least, __shfl_xor_sync(scale_lanes(), least, lanes));
      most = fmaxf(most, __shfl_xor_sync(scale_lanes(), most, lanes));
    }
    const Range4 range(least, most);
    uint32_t codes = 0;
#pragma unroll
    for (int d = 0; d < 8; d++) codes |= range.code(x.v[d]) << (4 * d);
    reinterpret_cast<uint32_t*>(at.packed)[i] = codes;
    if (i % 4 == 0) reinterpret_cast<uint32_t*>(at.packed + codes4_bytes(p))[i / 4] = range.bits;
    loss.add<F>(x, elements4(codes, range));
  }
  loss.write(p);
}

template <typename F>
__device__ __forceinline__ void unpack_v4(const PagePackParams& p) {
  const Place at(p);
  for (uint32_t i = threadIdx.x; i < p.page_tokens * p.head_dim / 8; i += blockDim.x) {
    const Range4 range(reinterpret_cast<const uint32_t*>(at.packed + codes4_bytes(p))[i / 4]);
    elements4(reinterpret_cast<const uint32_t*>(at.packed)[i], range).store<F>(at.head + i * 16);
  }
}

// A word of codes holds dims 2j and 2j + 1 of four tokens.
template <typename F, int T>
__device__ __forceinline__ void pack_k4(const PagePackParams& p, uint32_t j, Loss& loss) {
  const Place at(p);
  const uint32_t row = p.head_dim / 2;
  uint32_t x[T];
#pragma unroll
  for (int t = 0; t < T; t++) x[t] = reinterpret_cast<const uint32_t*>(at.head)[t * row + j];
  float2 least = F::unpack(x[0]), most = least;
#pragma unroll
  for (int t = 1; t < T; t++) {
    const float2 v = F::unpack(x[t]);
    least = make_float2(fminf(least.x, v.x), fminf(least.y, v.y));
    most = make_float2(fmaxf(most.x, v.x), fmaxf(most.y, v.y));
  }
  const Range4 even(least.x, most.x), odd(least.y, most.y);
  uint32_t words[T / 4] = {};
#pragma unroll
  for (int t = 0; t < T; t++) {
    const float2 v = F::unpack(x[t]);
    const uint32_t a = even.code(v.x), b = odd.code(v.y);
    words[t / 4] |= (a | b << 4) << (8 * (t % 4));
    const float2 unpacked = F::unpack(F::pack(even.value(a), odd.value(b)));
    loss.add(v.x, unpacked.x);
    loss.add(v.y, unpacked.y);
  }
  if constexpr (T == 8) {
    reinterpret_cast<uint2*>(at.packed)[j] = make_uint2(words[0], words[1]);
  } else {
#pragma unroll
    for (int w = 0; w < T / 4; w += 4) {
      reinterpret_cast<uint4*>(at.packed + j * T)[w / 4] = make_uint4(words[w], words[w + 1], words[w + 2], words[w + 3]);
    }
  }
  reinterpret_cast<uint2*>(at.packed + codes4_bytes(p))[j] = make_uint2(even.bits, odd.bits);
}

template <typename F>
__device__ __forceinline__ void pack_k4(const PagePackParams& p) {
  Loss loss;
  const uint32_t j = threadIdx.x;
  // Threads beyond the last dims stay for the sums.
  if (j < p.head_dim / 2) {
    switch (p.page_tokens) {
      case 8: pack_k4<F, 8>(p, j, loss); break;
      case 16: pack_k4<F, 16>(p, j, loss); break;
      default: pack_k4<F, 32>(p, j, loss); break;
    }
  }
  loss.write(p);
}

template <typename F>
__device__ __forceinline__ void unpack_k4(const PagePackParams& p) {
  const Place at(p);
  const uint32_t j = threadIdx.x, row = p.head_dim / 2;
  if (j >= row) return;
  const uint2 ranges = reinterpret_cast<const uint2*>(at.packed + codes4_bytes(p))[j];
  const Range4 even(ranges.x), odd(ranges.y);
  for (uint32_t t = 0; t < p.page_tokens; t += 8) {
    const uint2 codes = *reinterpret_cast<const uint2*>(at.packed + j * p.page_tokens + t);
#pragma unroll
    for (int i = 0; i < 8; i++) {
      const uint32_t both = (i < 4 ? codes.x : codes.y) >> (8 * (i % 4));
      reinterpret_cast<uint32_t*>(at.head)[(t + i) * row + j] = F::pack(even.value(both & 15), odd.value(both >> 4 & 15));
    }
  }
}

#define INSTANCE(name, function)                                                                                \
  extern "C" __global__ void __launch_bounds__(kMaxThreads) name(const __grid_constant__ PagePackParams p) { \
    function(p);                                                                                                \
  }
INSTANCE(page_pack_codes_f16, pack_codes<F16>)
INSTANCE(page_pack_codes_bf16, pack_codes<BF16>)
INSTANCE(page_pack_k4_f16, pack_k4<F16>)
INSTANCE(page_pack_k4_bf16, pack_k4<BF16>)
INSTANCE(page_pack_v4_f16, pack_v4<F16>)
INSTANCE(page_pack_v4_bf16, pack_v4<BF16>)
INSTANCE(page_unpack_codes_f16, unpack_codes<F16>)
INSTANCE(page_unpack_codes_bf16, unpack_codes<BF16>)
INSTANCE(page_unpack_k4_f16, unpack_k4<F16>)
INSTANCE(page_unpack_k4_bf16, unpack_k4<BF16>)
INSTANCE(page_unpack_v4_f16, unpack_v4<F16>)
INSTANCE(page_unpack_v4_bf16, unpack_v4<BF16>)
