// Synchronisation: within a warp, a block and a grid.
// Compiled by: nvcc -ptx -arch=compute_80 -std=c++17 -lineinfo
#include <cooperative_groups.h>
#include <cuda_pipeline.h>
namespace cg = cooperative_groups;

// Every thread adds to one counter under a lock that its own warp's lanes fight for.
extern "C" __global__ void lock_within_a_warp(int* lock, int* counter) {
  bool done = false;
  while (!done) {
    if (atomicCAS(lock, 0, 1) == 0) {
      __threadfence();
      *(volatile int*)counter = *(volatile int*)counter + 1;
      __threadfence();
      atomicExch(lock, 0);
      done = true;
    }
  }
}

// A ring of blocks: each waits for the one before it.
extern "C" __global__ void ring(volatile int* flags, int* order) {
  int b = gridDim.x - 1 - blockIdx.x;
  if (threadIdx.x == 0) {
    while (flags[b] == 0) {}
    order[blockIdx.x] = b;
    __threadfence();
    flags[b + 1] = 1;
  }
}

extern "C" __global__ void grid_sync(int* cells, int* out, int rounds) {
  cg::grid_group grid = cg::this_grid();
  int n = gridDim.x * blockDim.x, i = blockIdx.x * blockDim.x + threadIdx.x;
  for (int r = 0; r < rounds; ++r) {
    int next = cells[(i + 1) % n];
    grid.sync();
    cells[i] = next + 1;
    grid.sync();
  }
  out[i] = cells[i];
}

extern "C" __global__ void warp_tricks(const int* in, int* out) {
  int i = threadIdx.x, lane = i & 31, v = in[i];
  int sum = v;
  for (int d = 1; d < 32; d *= 2) {
    int t = __shfl_up_sync(~0u, sum, d);
    if (lane >= d) sum += t;
  }
  unsigned even = __ballot_sync(~0u, v % 2 == 0);
  int part = 0;
  if (lane < 16) part = __reduce_add_sync(0xffffu, v);
  else part = __reduce_max_sync(0xffff0000u, v);
  unsigned same = __match_any_sync(~0u, v % 5);
  auto tile = cg::tiled_partition<8>(cg::this_thread_block());
  int rotated = tile.shfl(v, (tile.thread_rank() + 1) % 8);
  out[i] = sum + 1000 * __popc(even) + 100000 * (part & 1023) + __popc(same) * 7 + rotated * 3;
}

extern "C" __global__ void named_barriers(int* out) {
  __shared__ int box[64];
  int i = threadIdx.x, half = i / 64;
  // Producers (the first 64 threads) and consumers meet at barrier 1; barrier 2 is the way back.
  for (int r = 0; r < 4; ++r) {
    if (half == 0) {
      if (r > 0) asm volatile("bar.sync 2, 128;");
      box[i] = 100 * r + i;
      __threadfence_block();
      asm volatile("bar.arrive 1, 128;");
    } else {
      asm volatile("bar.sync 1, 128;");
      out[r * 64 + i - 64] = box[i - 64];
      if (r < 3) asm volatile("bar.arrive 2, 128;");
    }
  }
}

extern "C" __global__ void block_votes(const int* in, int* out) {
  int v = in[threadIdx.x];
  int c = __syncthreads_count(v > 10), a = __syncthreads_and(v >= 0), o = __syncthreads_or(v == 77);
  out[threadIdx.x] = c * 100 + a * 10 + o;
}

// The sum of a row through a double-buffered cp.async pipeline.
extern "C" __global__ void async_pipeline(const float4* in, float* out, int tiles) {
  __shared__ float4 buffer[2][32];
  int i = threadIdx.x;
  float sum = 0.f;
  __pipeline_memcpy_async(&buffer[0][i], &in[i], 16);
  __pipeline_commit();
  for (int t = 0; t < tiles; ++t) {
    if (t + 1 < tiles) __pipeline_memcpy_async(&buffer[(t + 1) & 1][i], &in[(t + 1) * 32 + i], 16);
    __pipeline_commit();
    __pipeline_wait_prior(1);
    float4 v = buffer[t & 1][i];
    sum += v.x + v.y + v.z + v.w;
    __syncwarp();
  }
  out[i] = sum;
}

// Reads before it waits: sees what was in shared memory before the copy.
extern "C" __global__ void async_too_early(const int* in, int* out) {
  __shared__ int box[32];
  int i = threadIdx.x;
  box[i] = -1;
  __pipeline_memcpy_async(&box[i], &in[i], 4);
  __pipeline_commit();
  out[i] = box[i];
  __pipeline_wait_prior(0);
  out[32 + i] = box[i];
}

extern "C" __global__ void atomics(float* f, double* d, int* i, unsigned long long* l) {
  int t = blockIdx.x * blockDim.x + threadIdx.x;
  atomicAdd(f, 0.5f);
  atomicAdd(d, 0.25);
  atomicAdd(&i[0], 1);
  atomicMax(&i[1], t);
  atomicMin(&i[2], -t);
  atomicXor(&i[3], t);
  atomicInc((unsigned*)&i[4], 6);
  atomicOr(&i[5], 1 << (t % 32));
  atomicMax(&l[0], (unsigned long long)t << 33);
  __shared__ int s;
  if (threadIdx.x == 0) s = 0;
  __syncthreads();
  atomicAdd(&s, threadIdx.x);
  __syncthreads();
  if (threadIdx.x == 0) atomicAdd(&i[6], s);
}
