// One step of an optimizer over all its tensors, by one thread or several.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <thread>
#include <vector>

#include "update_call.h"

namespace hpjax {

// Parameters whose norms come first are taken in runs of this many floats and more, so that a core finds in its cache
// what it reads again.
constexpr int64_t RUN = 16 * PART;

// Of neighbouring parts a thread takes at most so many at once: long stretches of memory are read sooner than short ones that
// two cores take by turns. Fewer where there would be less than EVEN of these for each thread, so that all end together.
constexpr size_t AT_ONCE = 8, EVEN = 16;

static float norm(double squares) { return std::sqrt(static_cast<float>(squares)); }

// As `clipping.py`: what a norm above its limit is scaled by.
static float shrink(float norm, float limit) { return norm > limit ? limit / norm : 1.0f; }

// What a layer-wise rule multiplies a parameter's step by.
static float ratio(Rule rule, const Rates& r, const Parameter& p, double weights, double others) {
  const float weight = norm(weights), other = norm(others);
  if (rule == LAMB) return weight == 0 || other == 0 ? 1.0f : weight / other;
  if (weight == 0 || other == 0) return PLAIN;
  return r.trust_coefficient * weight / (other + r.inner_decay * p.decay * weight + r.epsilon);
}

namespace {

// A step as a queue of parts to do, which threads take one after the other. A part whose pass needs the sums of others waits
// for them: they lie before it, so a thread that runs has them.
class Work {
 public:
  Work(UpdateCall& call, bool clips, const Rates& rates, size_t threads)
      : parameters_(std::move(call.parameters)), scales_(parameters_.size(), 1.0f), ratios_(parameters_.size(), 1.0f),
        first_(parameters_.size() + 1), of_trust_(parameters_.size()) {
    u_ = {call.rule, call.narrow, rates, parameters_.data(), scales_.data(), ratios_.data()};
    constexpr float none = std::numeric_limits<float>::infinity();
    for (size_t k = 0; k < parameters_.size(); ++k) {
      for (int64_t from = 0; from < parameters_[k].size; from += PART)
        parts_.push_back({static_cast<int64_t>(k), from, std::min(from + PART, parameters_[k].size)});
      first_[k + 1] = parts_.size();
      if (layerwise(k)) of_trust_[k].close(first_[k + 1] - first_[k]);
    }
    if (clips && (rates.clip_layer_norm < none || rates.clip_norm < none)) {
      of_clip_.close(parts_.size());
      put(CLIP, 0, parts_.size());
    }
    for (size_t from = 0, to = 0; from < parameters_.size(); from = to) {
      while (to < parameters_.size() && static_cast<int64_t>(first_[to] - first_[from]) * PART < RUN) ++to;
      for (size_t k = from; k < to; ++k)
        if (layerwise(k)) put(TRUST, first_[k], first_[k + 1]);
      put(STEP, first_[from], first_[to]);
    }
    left_ = static_cast<int64_t>(queue_.size());
    at_once_ = std::clamp(queue_.size() / (EVEN * threads), size_t{1}, AT_ONCE);
  }

  // Works until nothing is left to take; a thread that comes late finds nothing.
  void take() {
    for (size_t i; (i = next_.fetch_add(at_once_, std::memory_order_relaxed)) < queue_.size();)
      for (const size_t end = std::min(i + at_once_, queue_.size()); i < end; ++i) work(queue_[i]);
  }

  // Waits for the parts that other threads have taken, and writes the norms of all.
  void finish(float* norms) {
    while (left_.load(std::memory_order_acquire) > 0) std::this_thread::yield();
    double sums[3] = {};
    for (const Part& part : parts_)
      for (int i = 0; i < 3; ++i) sums[i] += part.sums[i];
    for (int i = 0; i < 3; ++i) norms[i] = norm(sums[i]);
  }

 private:
  // Opens when some parts are done and what they came to has been added.
  struct Gate {
    std::atomic<int64_t> left{0};  // parts, and their sum

    void close(size_t parts) {
      if (parts > 0) left.store(static_cast<int64_t>(parts) + 1, std::memory_order_relaxed);
    }
    bool last() { return left.fetch_sub(1, std::memory_order_acq_rel) == 2; }
    void open() { left.store(0, std::memory_order_release); }
    void wait() {
      while (left.load(std::memory_order_acquire) > 0) std::this_thread::yield();
    }
  };
  struct Taken {
    Pass pass;
    size_t part;
  };

  void work(const Taken& taken) {
    Part& part = parts_[taken.part];
    const size_t k = static_cast<size_t>(part.parameter);
    if (taken.pass != CLIP) of_clip_.wait();
    if (taken.pass == STEP) of_trust_[k].wait();
    operators().update(u_, taken.pass, part);
    if (taken.pass == CLIP && of_clip_.last()) clip();
    if (taken.pass == TRUST && of_trust_[k].last()) trust(k);
    left_.fetch_sub(1, std::memory_order_release);
  }

  bool layerwise(size_t k) const { return parameters_[k].layerwise && (u_.rule == LARS || u_.rule == LAMB); }

  void put(Pass pass, size_t from, size_t to) {
    for (size_t i = from; i < to; ++i) queue_.push_back({pass, i});
  }

  void clip() {
    double all = 0;
    for (size_t k = 0; k < parameters_.size(); ++k) {
      double squares = 0;
      for (size_t i = first_[k]; i < first_[k + 1]; ++i) squares += parts_[i].clip;
      scales_[k] = shrink(norm(squares), u_.rates.clip_layer_norm);
      all += squares * scales_[k] * scales_[k];
    }
    const float scale = shrink(norm(all), u_.rates.clip_norm);
    for (float& of_parameter : scales_) of_parameter *= scale;
    of_clip_.open();
  }

  void trust(size_t k) {
    double squares[2] = {};
    for (size_t i = first_[k]; i < first_[k + 1]; ++i)
      for (int j = 0; j < 2; ++j) squares[j] += parts_[i].trust[j];
    ratios_[k] = ratio(u_.rule, u_.rates, parameters_[k], squares[0], squares[1]);
    of_trust_[k].open();
  }

  std::vector<Parameter> parameters_;
  std::vector<float> scales_, ratios_;
  std::vector<size_t> first_;  // part of each parameter, and one more
  std::vector<Part> parts_;
  std::vector<Taken> queue_;
  std::vector<Gate> of_trust_;
  Gate of_clip_;
  std::atomic<size_t> next_{0};
  size_t at_once_ = 1;
  std::atomic<int64_t> left_{0};
  Update u_{};
};

}  // namespace

static ffi::Error update(ffi::ThreadPool pool, ffi::RemainingArgs args, ffi::RemainingRets rets, int64_t rule, bool narrow,
                         bool clips, Floats rate, Floats decay, Numbers layerwise, int64_t threads) {
  UpdateCall call;
  if (auto error = read(call, args, rets, rule, narrow, rate, decay, layerwise); error.failure()) return error;
  Rates rates;
  std::memcpy(&rates, call.rates, sizeof rates);
  for (size_t k = 0; call.keys && k < call.parameters.size(); ++k)
    std::memcpy(call.parameters[k].key, call.keys + 2 * k, sizeof call.parameters[k].key);
  // Shared, for a task of the pool may begin after the step has ended.
  const int64_t all = std::max<int64_t>(1, std::min(threads, pool.num_threads()));
  auto work = std::make_shared<Work>(call, clips, rates, static_cast<size_t>(all));
  for (int64_t i = 1; i < all; ++i) pool.Schedule([work] { work->take(); });
  work->take();
  work->finish(call.norms);
  return ffi::Error::Success();
}

XLA_FFI_DEFINE_HANDLER_SYMBOL(hpjax_update, update,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
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
