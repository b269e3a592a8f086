// One step of an optimizer over all its tensors on a GPU of NVIDIA's: the operands and formulas of update.cc.
//
// One launch, one more before it for LARS and LAMB, and one where gradients are clipped by norms. A block takes a part of a
// tensor; sums are added in one order whichever block ends last, so a step repeats bit for bit.
#include <cuda_runtime.h>

#include <cstring>

#include "update_call.h"

namespace hpjax {
namespace {

constexpr int THREADS = 256;

// Where everything lies on the device.
struct Tables {
  const Parameter* parameters;
  const int32_t *owner, *first;  // the parameter of each part, the first part of each parameter (and of one more)
  uint32_t* done;                // blocks of each launch that have ended
  double *clip, *trust, *sums;   // of each part: 1, 2 and 3 sums, as in operators.h
  float* scales;                 // of each parameter
  const Rates* rates;
  const uint32_t* keys;
  float* norms;
  int32_t count, parts;
  bool clips;
};

struct Stretch {
  int64_t from, to;
};

__device__ Stretch stretch(const Tables& t, int32_t part) {
  const int32_t k = t.owner[part];
  const int64_t from = (part - t.first[k]) * PART, size = t.parameters[k].size;
  return {from, from + PART < size ? from + PART : size};
}

__device__ float norm(double squares) { return sqrtf(static_cast<float>(squares)); }
__device__ float shrink(float norm, float limit) { return norm > limit ? limit / norm : 1.0f; }

// Adds what the threads of a block have; all of them get the sums.
template <int N>
__device__ void add_up(double (&values)[N]) {
  __shared__ double shared[N][THREADS];
  for (int i = 0; i < N; ++i) shared[i][threadIdx.x] = values[i];
  __syncthreads();
  for (unsigned half = THREADS / 2; half > 0; half /= 2) {
    if (threadIdx.x < half)
      for (int i = 0; i < N; ++i) shared[i][threadIdx.x] += shared[i][threadIdx.x + half];
    __syncthreads();
  }
  for (int i = 0; i < N; ++i) values[i] = shared[i][0];
  __syncthreads();
}

// The sums over parts, from arrays of N a part.
template <int N>
__device__ void add_parts(double (&values)[N], const double* of_parts, int32_t from, int32_t to) {
  for (int i = 0; i < N; ++i) values[i] = 0;
  for (int32_t part = from + static_cast<int32_t>(threadIdx.x); part < to; part += THREADS)
    for (int i = 0; i < N; ++i) values[i] += of_parts[N * part + i];
  add_up(values);
}

// Keeps a part's sums; returns whether all other blocks of this launch have kept theirs.
template <int N>
__device__ bool keep(double (&values)[N], double* of_parts, uint32_t* done) {
  __shared__ bool last;
  add_up(values);
  if (threadIdx.x == 0) {
    for (int i = 0; i < N; ++i) of_parts[N * blockIdx.x + i] = values[i];
    __threadfence();
    last = atomicAdd(done, 1u) == gridDim.x - 1;
    __threadfence();
  }
  __syncthreads();
  return last;
}

// NaN stays NaN.
__device__ float clipped(float mean, float limit) { return mean < -limit ? -limit : mean > limit ? limit : mean; }
__device__ float prepare(const Rates& r, const Parameter& p, float scale, float mean, float w) {
  const float g = clipped(mean, r.clip_value) * scale, sign = w > 0 ? 1.0f : w < 0 ? -1.0f : w;
  return p.decay != 0 && (r.l1 != 0 || r.l2 != 0) ? g + r.l2 * p.decay * w + r.l1 * p.decay * sign : g;
}

// As hpjax/ops/rounding.py.
__device__ uint32_t random_bits(const uint32_t* key, int64_t at) {
  uint32_t x = static_cast<uint32_t>(at) ^ key[0];
  x = (x ^ (x >> 17)) * 0xed5ad4bbu;
  x = (x ^ (x >> 11) ^ key[1]) * 0xac4c1b51u;
  x = (x ^ (x >> 15)) * 0x31848babu;
  return x ^ (x >> 14);
}

__device__ float value(const float* buffer, int64_t i) { return buffer[i]; }
__device__ float value(const uint16_t* buffer, int64_t i) { return __uint_as_float(static_cast<uint32_t>(buffer[i]) << 16); }
__device__ void put(float* buffer, int64_t i, float v, uint32_t) { buffer[i] = v; }
__device__ void put(uint16_t* buffer, int64_t i, float v, uint32_t noise) {
  const uint32_t raw = __float_as_uint(v);
  buffer[i] = static_cast<uint16_t>((v == v ? raw + noise : raw | 0x400000u) >> 16);
}

struct Moments {
  float first, second, step;
};

template <class Kept>
__device__ Moments adam(const Rates& r, const Parameter& p, int64_t i, float g, float w) {
  const float first = r.beta1 * value(static_cast<const Kept*>(p.first), i) + (1.0f - r.beta1) * g;
  const float second = r.beta2 * value(static_cast<const Kept*>(p.second), i) + (1.0f - r.beta2) * g * g;
  const float root = sqrtf(second * (1.0f / r.correction2)) + r.epsilon;
  return {first, second, first * (1.0f / r.correction1) / root + r.inner_decay * p.decay * w};
}

__global__ void __launch_bounds__(THREADS) clip_kernel(Tables t) {
  const Rates r = *t.rates;
  const int32_t part = static_cast<int32_t>(blockIdx.x);
  const Parameter p = t.parameters[t.owner[part]];
  const auto [from, to] = stretch(t, part);
  double squares[1] = {};
  float some = 0;
  for (int64_t i = from + threadIdx.x; i < to; i += THREADS) {
    const float g = clipped(p.gradient[i] * r.share, r.clip_value);
    some += g * g;
  }
  squares[0] = some;
  if (!keep(squares, t.clip, t.done)) return;
  double all[1] = {};
  for (int32_t k = static_cast<int32_t>(threadIdx.x); k < t.count; k += THREADS) {
    double of_tensor = 0;
    for (int32_t i = t.first[k]; i < t.first[k + 1]; ++i) of_tensor += t.clip[i];
    t.scales[k] = shrink(norm(of_tensor), r.clip_layer_norm);
    all[0] += of_tensor * t.scales[k] * t.scales[k];
  }
  add_up(all);
  const float scale = shrink(norm(all[0]), r.clip_norm);
  for (int32_t k = static_cast<int32_t>(threadIdx.x); k < t.count; k += THREADS) t.scales[k] *= scale;
}

template <Rule R, class Kept>
__global__ void __launch_bounds__(THREADS) trust_kernel(Tables t) {
  const Rates r = *t.rates;
  const int32_t part = static_cast<int32_t>(blockIdx.x), k = t.owner[part];
  const Parameter p = t.parameters[k];
  if (!p.layerwise) return;
  const float scale = t.clips ? t.scales[k] : 1.0f;
  const auto [from, to] = stretch(t, part);
  float weights = 0, others = 0;
  for (int64_t i = from + threadIdx.x; i < to; i += THREADS) {
    const float w = p.weight[i], g = prepare(r, p, scale, p.gradient[i] * r.share, w);
    const float other = R == LAMB ? adam<Kept>(r, p, i, g, w).step : g;
    weights += w * w, others += other * other;
  }
  double squares[2] = {weights, others};
  add_up(squares);
  if (threadIdx.x < 2) t.trust[2 * part + threadIdx.x] = squares[threadIdx.x];
}

template <Rule R, class Kept>
__global__ void __launch_bounds__(THREADS) step_kernel(Tables t) {
  const Rates r = *t.rates;
  const int32_t part = static_cast<int32_t>(blockIdx.x), k = t.owner[part];
  const Parameter p = t.parameters[k];
  const float scale = t.clips ? t.scales[k] : 1.0f;
  float ratio = 1.0f;
  if ((R == LARS || R == LAMB) && p.layerwise) {
    double squares[2];
    add_parts(squares, t.trust, t.first[k], t.first[k + 1]);
    const float weight = norm(squares[0]), other = norm(squares[1]);
    const bool none = weight == 0 || other == 0;
    if (R == LAMB) ratio = none ? 1.0f : weight / other;
    else ratio = none ? PLAIN : r.trust_coefficient * weight / (other + r.inner_decay * p.decay * weight + r.epsilon);
  }
  const float rate = r.learning_rate * p.rate;
  Kept *new_first = static_cast<Kept*>(p.new_first), *new_second = static_cast<Kept*>(p.new_second);
  const auto [from, to] = stretch(t, part);
  float gradients = 0, weights = 0, steps = 0;
  for (int64_t i = from + threadIdx.x; i < to; i += THREADS) {
    const float w = p.weight[i], mean = p.gradient[i] * r.share, g = prepare(r, p, scale, mean, w);
    const uint32_t random = sizeof(Kept) == sizeof(float) ? 0 : random_bits(t.keys + 2 * k, i);
    float d = 0;
    if (R == SGD) d = rate * g;
    if (R == MOMENTUM || R == NESTEROV) {
      const float v = r.beta1 * value(static_cast<const Kept*>(p.first), i) + g;
      put(new_first, i, v, random & 0xffffu);
      d = rate * (R == NESTEROV ? g + r.beta1 * v : v);
    }
    if (R == LARS) {
      const float own = ratio == PLAIN ? g : ratio * (g + r.inner_decay * p.decay * w);
      d = r.beta1 * value(static_cast<const Kept*>(p.first), i) + rate * own;
      put(new_first, i, d, random & 0xffffu);
    }
    if (R == ADAM || R == LAMB) {
      const Moments m = adam<Kept>(r, p, i, g, w);
      put(new_first, i, m.first, random & 0xffffu);
      put(new_second, i, m.second, random >> 16);
      d = (R == LAMB ? rate * ratio : rate) * m.step;
    }
    if (r.weight_decay != 0 && p.decay != 0) d += rate * r.weight_decay * p.decay * w;
    const float next = w - d;
    p.new_weight[i] = next;
    gradients += mean * mean, weights += next * next, steps += d * d;
  }
  double sums[3] = {gradients, weights, steps};
  if (!keep(sums, t.sums, t.done + 1)) return;
  add_parts(sums, t.sums, 0, t.parts);
  if (threadIdx.x < 3) t.norms[threadIdx.x] = norm(sums[threadIdx.x]);
}

template <Rule R, class Kept>
void launch(const Tables& t, cudaStream_t stream) {
  const dim3 blocks(static_cast<unsigned>(t.parts));
  if (t.clips) clip_kernel<<<blocks, THREADS, 0, stream>>>(t);
  if constexpr (R == LARS || R == LAMB) trust_kernel<R, Kept><<<blocks, THREADS, 0, stream>>>(t);
  step_kernel<R, Kept><<<blocks, THREADS, 0, stream>>>(t);
}

template <class Kept>
void launch(Rule rule, const Tables& t, cudaStream_t stream) {
  switch (rule) {
    case SGD: return launch<SGD, float>(t, stream);
    case MOMENTUM: return launch<MOMENTUM, Kept>(t, stream);
    case NESTEROV: return launch<NESTEROV, Kept>(t, stream);
    case ADAM: return launch<ADAM, Kept>(t, stream);
    case LARS: return launch<LARS, Kept>(t, stream);
    case LAMB: return launch<LAMB, Kept>(t, stream);
  }
}

// Lays arrays out one after the other in a block of memory.
struct Layout {
  size_t bytes = 0;

  template <class T>
  size_t add(size_t count) {
    const size_t from = (bytes + 15) / 16 * 16;
    bytes = from + count * sizeof(T);
    return from;
  }
};

}  // namespace

static ffi::Error update_cuda(cudaStream_t stream, ffi::ScratchAllocator scratch, ffi::RemainingArgs args,
                              ffi::RemainingRets rets, int64_t rule, bool narrow, bool clips, Floats rate, Floats decay,
                              Numbers layerwise, int64_t) {
  UpdateCall call;
  if (auto error = read(call, args, rets, rule, narrow, rate, decay, layerwise); error.failure()) return error;
  const size_t count = call.parameters.size();
  std::vector<int32_t> owner, first(count + 1);
  for (size_t k = 0; k < count; ++k) {
    owner.insert(owner.end(), static_cast<size_t>((call.parameters[k].size + PART - 1) / PART), static_cast<int32_t>(k));
    first[k + 1] = static_cast<int32_t>(owner.size());
  }
  const size_t parts = owner.size();
  if (parts == 0) return refused("update: the tensors are empty");
  // What the host fills comes first, with the counters at 0, and is copied at once.
  Layout layout;
  const size_t of_parameters = layout.add<Parameter>(count), of_owner = layout.add<int32_t>(parts);
  const size_t of_first = layout.add<int32_t>(count + 1), of_done = layout.add<uint32_t>(2), filled = layout.bytes;
  const size_t of_clip = layout.add<double>(parts), of_trust = layout.add<double>(2 * parts);
  const size_t of_sums = layout.add<double>(3 * parts), of_scales = layout.add<float>(count);
  const auto memory = scratch.Allocate(layout.bytes, 256);
  if (!memory) return ffi::Error(ffi::ErrorCode::kResourceExhausted, "hpjax: update: no memory on the device");
  std::vector<char> host(filled);
  const auto fill = [&](size_t at, const void* from, size_t bytes) { std::memcpy(host.data() + at, from, bytes); };
  fill(of_parameters, call.parameters.data(), count * sizeof(Parameter));
  fill(of_owner, owner.data(), parts * sizeof(int32_t));
  fill(of_first, first.data(), (count + 1) * sizeof(int32_t));
  // From pageable memory: CUDA has read it when the call returns.
  if (const auto error = cudaMemcpyAsync(*memory, host.data(), filled, cudaMemcpyHostToDevice, stream); error != cudaSuccess)
    return ffi::Error::Internal(std::string("hpjax: update: ") + cudaGetErrorString(error));
  char* base = static_cast<char*>(*memory);
  const auto doubles = [&](size_t at) { return reinterpret_cast<double*>(base + at); };
  Tables t{};
  t.parameters = reinterpret_cast<const Parameter*>(base + of_parameters);
  t.owner = reinterpret_cast<const int32_t*>(base + of_owner), t.first = reinterpret_cast<const int32_t*>(base + of_first);
  t.done = reinterpret_cast<uint32_t*>(base + of_done);
  t.clip = doubles(of_clip), t.trust = doubles(of_trust), t.sums = doubles(of_sums);
  t.scales = reinterpret_cast<float*>(base + of_scales);
  t.rates = reinterpret_cast<const Rates*>(call.rates), t.keys = call.keys, t.norms = call.norms;
  t.count = static_cast<int32_t>(count), t.parts = static_cast<int32_t>(parts), t.clips = clips;
  call.narrow ? launch<uint16_t>(call.rule, t, stream) : launch<float>(call.rule, t, stream);
  if (const auto error = cudaGetLastError(); error != cudaSuccess)
    return ffi::Error::Internal(std::string("hpjax: update: ") + cudaGetErrorString(error));
  return ffi::Error::Success();
}

XLA_FFI_DEFINE_HANDLER_SYMBOL(hpjax_update_cuda, update_cuda,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::PlatformStream<cudaStream_t>>()
                                  .Ctx<ffi::ScratchAllocator>()
                                  .RemainingArgs()
                                  .RemainingRets()
                                  .Attr<int64_t>("rule")
                                  .Attr<bool>("narrow")
                                  .Attr<bool>("clips")
                                  .Attr<Floats>("rate")
                                  .Attr<Floats>("decay")
                                  .Attr<Numbers>("layerwise")
                                  .Attr<int64_t>("threads"));

}  // namespace hpjax
