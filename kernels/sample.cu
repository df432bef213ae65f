// One token per logits row: `sample_greedy` (many blocks a row) and `sample` (one block a row: repeat penalty, temperature,
// top-k, top-p, min-p, seeded draw), as defined at `Sample` in src/backend/ops.rs.
//
// Nothing is sorted. The kept tokens are those above a cut (a logit, and how many of the tokens equal to it), which a radix
// search over the ordered bits of the logits finds in three passes of 11, 11 and 10 bits, by count for top-k and by weight
// for top-p. Weights are integers (p * 2^40), so sums are exact, whatever their order: a seed repeats its text bit by bit.
// Bytes: the row once for greedy; up to eight times for `sample`, from L2 (a row of 262144 logits is 1 MB).
#include "float.cuh"
#include "params.h"

constexpr int kThreads = 1024;
constexpr int kWarps = kThreads / 32;
constexpr int kBins = 2048;
constexpr int kGreedyThreads = 256;
constexpr uint32_t kNone = 0xffffffffu;

using Weight = unsigned long long;

// Bits of a logit that sort as the logit does; NaN below all.
__device__ __forceinline__ uint32_t order(float x) {
  const uint32_t bits = __float_as_uint(x + 0.0f);  // -0 becomes 0
  return isnan(x) ? 0 : bits ^ (bits >> 31 ? 0xffffffffu : 0x80000000u);
}

// Calls f(logit, id) for the ids of this thread among `threads`, in rising order.
template <typename Fn>
__device__ __forceinline__ void for_each(const float* row, uint32_t begin, uint32_t end, uint32_t thread, uint32_t threads,
                                         Fn f) {
  if (((reinterpret_cast<uint64_t>(row) / 4 + begin) | (end - begin)) % 4 != 0) {
    for (uint32_t id = begin + thread; id < end; id += threads) f(row[id], id);
    return;
  }
#pragma unroll 4
  for (uint32_t id = begin + 4 * thread; id < end; id += 4 * threads) {
    const float4 x = *reinterpret_cast<const float4*>(row + id);
    f(x.x, id);
    f(x.y, id + 1);
    f(x.z, id + 2);
    f(x.w, id + 3);
  }
}

// The largest logit, lowest id first: compares as (order, ~id).
struct Best {
  float x = -INFINITY;
  uint32_t id = kNone;

  __device__ __forceinline__ void offer(float value, uint32_t at) {
    if (value > x) {
      x = value;
      id = at;
    }
  }
  // Of the warp, packed.
  __device__ __forceinline__ Weight of_warp() const {
    Weight best = Weight(order(x)) << 32 | ~id;
#pragma unroll
    for (int lanes = 16; lanes > 0; lanes /= 2) {
      const Weight other = __shfl_xor_sync(kAllLanes, best, lanes);
      best = other > best ? other : best;
    }
    return best;
  }
};

// Of a packed best; token 0 where no logit is a number.
__device__ __forceinline__ uint32_t id_of(Weight best) { return uint32_t(best) == 0 ? 0 : ~uint32_t(best); }

__device__ __forceinline__ void greedy(const SampleParams& p) {
  __shared__ Weight bests[kGreedyThreads / 32];
  const uint32_t row = blockIdx.y;
  const float* logits = reinterpret_cast<const float*>(p.logits) + uint64_t(row) * p.vocab;
  const uint32_t share = ((p.vocab + gridDim.x - 1) / gridDim.x + 3) / 4 * 4;
  const uint32_t begin = min(blockIdx.x * share, p.vocab), end = min(begin + share, p.vocab);
  Best best;
  for_each(logits, begin, end, threadIdx.x, kGreedyThreads, [&](float x, uint32_t id) { best.offer(x, id); });
  const Weight of_warp = best.of_warp();
  if (threadIdx.x % 32 == 0) bests[threadIdx.x / 32] = of_warp;
  __syncthreads();
  if (threadIdx.x != 0) return;
  Weight top = bests[0];
  for (int w = 1; w < kGreedyThreads / 32; w++) top = bests[w] > top ? bests[w] : top;
  Weight* shared_top = reinterpret_cast<Weight*>(p.best) + row;
  atomicMax(shared_top, top);
  __threadfence();
  // The last block takes the result and leaves zeros for the next launch.
  if (atomicInc(reinterpret_cast<uint32_t*>(p.counters) + row, gridDim.x - 1) != gridDim.x - 1) return;
  __threadfence();
  reinterpret_cast<uint32_t*>(p.out)[row] = id_of(atomicExch(shared_top, Weight(0)));
}

// Row of the batch's sampling section.
struct Settings {
  float temperature;
  uint32_t top_k;
  float top_p, min_p, repeat_penalty;
  uint32_t seed_low, seed_high, step;
};

// What the block knows of its row.
struct Row {
  const float* logits;
  uint32_t vocab;
  float max, factor;  // weight = 2^((logit - max) * factor)
  float min_p;

  __device__ __forceinline__ Weight weight(float x) const {
    const float p = exp2_approx((x - max) * factor);
    return __float2ull_rn(p * 1099511627776.0f);
  }
  // The same, zero below min-p.
  __device__ __forceinline__ Weight kept_weight(float x) const {
    const float p = exp2_approx((x - max) * factor);
    return p >= min_p ? __float2ull_rn(p * 1099511627776.0f) : 0;
  }
};

struct Shared {
  Weight weights[kBins];
  uint32_t counts[kBins];
  Weight warp_sums[kWarps];
  uint32_t warp_ties[kWarps];
  Weight before_weight, best, target;
  uint32_t before_count, bin, chosen, keep;
};

// Sum of `v` over this and all lower threads; all threads must call.
__device__ __forceinline__ Weight block_scan(Shared& s, Weight v) {
  const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll
  for (int lanes = 1; lanes < 32; lanes *= 2) {
    const Weight below = __shfl_up_sync(kAllLanes, v, lanes);
    if (lane >= lanes) v += below;
  }
  __syncthreads();
  if (lane == 31) s.warp_sums[warp] = v;
  __syncthreads();
  for (uint32_t w = 0; w < warp; w++) v += s.warp_sums[w];
  return v;
}

// The tokens that are kept: orders above `key`, and the first `keep` of those equal to it.
struct Cut {
  uint32_t key = 0, keep = 0;
  Weight total = 0;  // weight of the kept tokens
};

// Counts and weights by the bits of the order below `shift + bits`, of the tokens whose higher bits are those of `key`.
__device__ __forceinline__ void histogram(Shared& s, const Row& row, uint32_t key, int shift, int bits) {
  __syncthreads();
  for (uint32_t i = threadIdx.x; i < kBins; i += kThreads) {
    s.weights[i] = 0;
    s.counts[i] = 0;
  }
  __syncthreads();
  const uint32_t known = shift + bits == 32 ? 0 : ~0u << (shift + bits), mask = (1u << bits) - 1;
  for_each(row.logits, 0, row.vocab, threadIdx.x, kThreads, [&](float x, uint32_t) {
    const uint32_t own = order(x);
    if ((own ^ key) & known) return;
    const uint32_t bin = own >> shift & mask;
    atomicAdd(&s.counts[bin], 1u);
    const Weight weight = row.weight(x);
    if (weight != 0) atomicAdd(&s.weights[bin], weight);
  });
  __syncthreads();
}

// From the highest bin down: the one in which the running count (or weight) reaches `target`. Leaves it in s.bin, and what
// lies above it in s.before_count and s.before_weight. Returns the weight of all bins.
__device__ __forceinline__ Weight select(Shared& s, bool by_weight, Weight target) {
  const uint32_t high = kBins - 1 - 2 * threadIdx.x, low = high - 1;
  const Weight count[2] = {s.counts[high], s.counts[low]}, weight[2] = {s.weights[high], s.weights[low]};
  Weight c = block_scan(s, count[0] + count[1]) - count[0] - count[1];
  Weight w = block_scan(s, weight[0] + weight[1]) - weight[0] - weight[1];
#pragma unroll
  for (int i = 0; i < 2; i++) {
    const Weight before = by_weight ? w : c, own = by_weight ? weight[i] : count[i];
    if (before < target && target <= before + own) {
      s.bin = i == 0 ? high : low;
      s.before_count = uint32_t(c);
      s.before_weight = w;
    }
    c += count[i];
    w += weight[i];
  }
  if (threadIdx.x == kThreads - 1) s.target = w;
  __syncthreads();
  return s.target;
}

// The cut where the count, or the weight, of the tokens from the top down reaches `target` (> 0, and at most that of all).
__device__ __forceinline__ Cut find_cut(Shared& s, const Row& row, bool by_weight, Weight target) {
  Cut cut;
  uint32_t above = 0;
#pragma unroll 1
  for (int shift = 21; shift >= 0; shift -= shift == 21 ? 11 : 10) {
    histogram(s, row, cut.key, shift, shift == 0 ? 10 : 11);
    select(s, by_weight, target);
    cut.key |= s.bin << shift;
    above += s.before_count;
    cut.total += s.before_weight;
    target -= by_weight ? s.before_weight : s.before_count;
  }
  // All tokens of the last bin have one logit, so one weight.
  const Weight one = s.weights[s.bin] / s.counts[s.bin];
  cut.keep = uint32_t(by_weight ? (target + one - 1) / one : target);
  cut.total += cut.keep * one;
  return cut;
}

// Sum of a warp.
__device__ __forceinline__ Weight warp_sum(Weight v) {
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) v += __shfl_xor_sync(kAllLanes, v, lanes);
  return v;
}

// First two words of Philox4x32-10 as one number.
__device__ __forceinline__ Weight philox(const Settings& set) {
  uint32_t c0 = set.step, c1 = 0, c2 = 0, c3 = 0, k0 = set.seed_low, k1 = set.seed_high;
#pragma unroll
  for (int round = 0; round < 10; round++) {
    const uint32_t high0 = __umulhi(0xD2511F53u, c0), low0 = 0xD2511F53u * c0;
    const uint32_t high1 = __umulhi(0xCD9E8D57u, c2), low1 = 0xCD9E8D57u * c2;
    c0 = high1 ^ c1 ^ k0;
    c1 = low1;
    c2 = high0 ^ c3 ^ k1;
    c3 = low0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return Weight(c0) << 32 | c1;
}

// The block's warps own consecutive segments of the ids. Finds the segment where the running weight passes the drawn number:
// s.chosen (kNone: no weight at all), s.target (what is left of the number) and s.keep (what is left of the cut's ties).
__device__ __forceinline__ void choose_segment(Shared& s, const Row& row, const Cut& cut, Weight tie, Weight random) {
  const uint32_t lane = threadIdx.x;
  const uint32_t ties = s.warp_ties[lane];
  uint32_t ties_before = ties;
  Weight sum = s.warp_sums[lane];
#pragma unroll
  for (int lanes = 1; lanes < 32; lanes *= 2) {
    const uint32_t below = __shfl_up_sync(kAllLanes, ties_before, lanes);
    if (lane >= lanes) ties_before += below;
  }
  ties_before -= ties;
  const uint32_t keep = cut.keep > ties_before ? cut.keep - ties_before : 0;
  const Weight own = sum + min(keep, ties) * tie;
  Weight upto = own;
#pragma unroll
  for (int lanes = 1; lanes < 32; lanes *= 2) {
    const Weight below = __shfl_up_sync(kAllLanes, upto, lanes);
    if (lane >= lanes) upto += below;
  }
  const Weight total = __shfl_sync(kAllLanes, upto, 31), target = __umul64hi(random, total);
  if (lane == 0) s.chosen = kNone;
  __syncwarp();
  if (target < upto && upto - own <= target) {
    s.chosen = lane;
    s.target = target - (upto - own);
    s.keep = keep;
  }
}

// The chosen warp: the id in [begin, end) where the running weight passes s.target.
__device__ __forceinline__ uint32_t find_id(const Shared& s, const Row& row, const Cut& cut, uint32_t begin, uint32_t end) {
  const uint32_t lane = threadIdx.x % 32;
  Weight target = s.target;
  uint32_t keep = s.keep;
  for (uint32_t first = begin; first < end; first += 32) {
    const uint32_t id = first + lane;
    const float x = id < end ? row.logits[id] : -INFINITY;
    const uint32_t own = id < end ? order(x) : 0;
    const bool equal = own == cut.key && cut.keep != 0;
    const uint32_t equals = __ballot_sync(kAllLanes, equal);
    const bool in = own > cut.key || (equal && __popc(equals & ((1u << lane) - 1)) < keep);
    Weight upto = in ? row.kept_weight(x) : 0;
#pragma unroll
    for (int lanes = 1; lanes < 32; lanes *= 2) {
      const Weight below = __shfl_up_sync(kAllLanes, upto, lanes);
      if (lane >= lanes) upto += below;
    }
    const uint32_t passed = __ballot_sync(kAllLanes, upto > target);
    if (passed != 0) return first + __ffs(passed) - 1;
    target -= __shfl_sync(kAllLanes, upto, 31);
    keep -= min(keep, uint32_t(__popc(equals)));
  }
  return end - 1;
}

__device__ __forceinline__ Weight block_best(Shared& s, const Row& row) {
  Best best;
  for_each(row.logits, 0, row.vocab, threadIdx.x, kThreads, [&](float x, uint32_t id) { best.offer(x, id); });
  const Weight of_warp = best.of_warp();
  if (threadIdx.x % 32 == 0) s.warp_sums[threadIdx.x / 32] = of_warp;
  __syncthreads();
  Weight top = s.warp_sums[0];
  for (int w = 1; w < kWarps; w++) top = s.warp_sums[w] > top ? s.warp_sums[w] : top;
  __syncthreads();
  return top;
}

__device__ __forceinline__ void penalise(const SampleParams& p, float* logits, float penalty) {
  const uint32_t* starts = reinterpret_cast<const uint32_t*>(p.recent_start) + blockIdx.x;
  for (uint32_t i = starts[0] + threadIdx.x; i < starts[1]; i += kThreads) {
    const uint32_t id = reinterpret_cast<const uint32_t*>(p.recent)[i];  // no id twice
    if (id < p.vocab) logits[id] = logits[id] > 0.0f ? logits[id] / penalty : logits[id] * penalty;
  }
  __syncthreads();
}

__device__ __forceinline__ void sample_row(const SampleParams& p) {
  __shared__ Shared s;
  const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const Settings set = reinterpret_cast<const Settings*>(p.sample)[blockIdx.x];
  float* logits = reinterpret_cast<float*>(p.logits) + uint64_t(blockIdx.x) * p.vocab;
  uint32_t* out = reinterpret_cast<uint32_t*>(p.out) + blockIdx.x;
  if (set.repeat_penalty != 1.0f) penalise(p, logits, set.repeat_penalty);
  Row row{logits, p.vocab, 0.0f, 0.0f, set.min_p};
  const uint32_t largest = id_of(block_best(s, row));
  if (set.temperature <= 0.0f) {
    if (threadIdx.x == 0) *out = largest;
    return;
  }
  row.max = logits[largest];
  row.factor = fminf(1.44269504088896341f / set.temperature, 3.0e38f);

  Cut cut;
  const bool by_count = set.top_k != 0 && set.top_k < p.vocab;
  if (by_count) cut = find_cut(s, row, false, set.top_k);
  if (set.top_p < 1.0f) {
    Weight total = cut.total;
    if (!by_count) {
      histogram(s, row, 0, 21, 11);
      total = select(s, true, 1);
    }
    const Weight target = Weight(ceil(double(set.top_p) * double(total)));
    if (total != 0) cut = find_cut(s, row, true, target != 0 ? target : 1);
  }

  const uint32_t segment = ((p.vocab + kWarps - 1) / kWarps + 127) / 128 * 128;
  const uint32_t begin = min(warp * segment, p.vocab), end = min(begin + segment, p.vocab);
  Weight sum = 0, tie = 0;
  uint32_t ties = 0;
  for_each(logits, begin, end, lane, 32, [&](float x, uint32_t) {
    const uint32_t own = order(x);
    if (own > cut.key) sum += row.kept_weight(x);
    if (own == cut.key && cut.keep != 0) ties++;
  });
  sum = warp_sum(sum);
  ties = __reduce_add_sync(kAllLanes, ties);
  __syncthreads();
  if (lane == 0) {
    s.warp_sums[warp] = sum;
    s.warp_ties[warp] = ties;
  }
  __syncthreads();
  if (cut.keep != 0) tie = row.kept_weight(__uint_as_float(cut.key >> 31 ? cut.key ^ 0x80000000u : ~cut.key));
  if (warp == 0) choose_segment(s, row, cut, tie, philox(set));
  __syncthreads();
  if (s.chosen == kNone) {
    if (threadIdx.x == 0) *out = largest;
  } else if (warp == s.chosen) {
    const uint32_t id = find_id(s, row, cut, begin, end);
    if (lane == 0) *out = id;
  }
}

extern "C" __global__ void __launch_bounds__(kGreedyThreads) sample_greedy(const __grid_constant__ SampleParams p) { greedy(p); }
extern "C" __global__ void __launch_bounds__(kThreads, 1) sample(const __grid_constant__ SampleParams p) { sample_row(p); }
