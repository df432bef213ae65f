// Programs that must fail, each with a report that names the place.
// Compiled by: nvcc -ptx -arch=compute_80 -std=c++17 -lineinfo
#include <assert.h>
#include <stdio.h>

extern "C" __global__ void past_the_end(float* x, int n) { x[threadIdx.x + n] = 1.f; }

extern "C" __global__ void read_stale(const float* x, float* out) { out[threadIdx.x] = x[threadIdx.x]; }

extern "C" __global__ void misaligned(const char* x, float4* out) {
  out[threadIdx.x] = *reinterpret_cast<const float4*>(x + 4);
}

extern "C" __global__ void past_shared(int* out, int n) {
  extern __shared__ int box[];
  box[threadIdx.x] = threadIdx.x;
  __syncthreads();
  out[threadIdx.x] = box[threadIdx.x + n];
}

extern "C" __global__ void past_local(int* out, int n) {
  int box[8];
  for (int i = 0; i < 8; ++i) box[i] = i * n;
  out[threadIdx.x] = box[threadIdx.x * n];
}

extern "C" __global__ void failed_assert(int n) { assert(threadIdx.x < n); }

extern "C" __global__ void trapped() {
  if (threadIdx.x == 40) __trap();
}

extern "C" __global__ void divergent_barrier(int* out) {
  if (threadIdx.x < 16) {
    __syncthreads();
    out[threadIdx.x] = 1;
  } else {
    out[threadIdx.x] = 2;
    __syncthreads();
  }
}

extern "C" __global__ void missing_warp(int* out) {
  if (threadIdx.x < 64) asm volatile("bar.sync 3, 128;");
  out[threadIdx.x] = 1;
  __syncthreads();
}

extern "C" __global__ void wrong_mask(int* out) {
  int v = threadIdx.x;
  if (threadIdx.x < 8) v = __shfl_sync(~0u, v, 0);
  else v = __shfl_xor_sync(0xffffff00u, v, 1);
  __syncwarp();
  out[threadIdx.x] = v;
}

extern "C" __global__ void forever(volatile int* flag) {
  while (*flag == 0) {}
}

extern "C" __global__ void prints(const char* nothing, int n) {
  if (threadIdx.x == 3) {
    printf("%d %5.2f|%-6s|%x %c %lld %e %%", n, 1.0 / 3, "ab", 255u, 'z', -5000000000ll, 12345.678);
    printf(" %p\n", nothing);
  }
}
