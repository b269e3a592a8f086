// Batch normalisation over rows of channels. What is read is looked at as rows of whole vectors, some pixels side by side where
// channels are few, so that the numbers of a channel stay in registers while a block of rows goes by.
#pragma once
#include "activation.h"

namespace hpjax::HPJAX_ISA {

constexpr int64_t STRIP = 4 * W;             // floats side by side that are done together
constexpr int64_t BLOCK = 8192;              // floats of a block: it stays in the first cache between its two readings
constexpr int64_t MOST_REPEATED = 64 * W;    // floats of a row that channels are repeated up to

// An array as rows of `width` floats, which hold the channels once or several times; `rest` floats are left.
struct Folded {
  int64_t channels, width, rows, rest;

  Folded(int64_t count, int64_t channels) : channels(channels), width(channels) {
    while (width % W && width <= MOST_REPEATED) width += channels;
    if (width % W) width = channels;
    while (2 * width <= STRIP) width *= 2;
    rows = count * channels / width, rest = count * channels % width;
  }
  int64_t filled() const { return (width + STRIP - 1) / STRIP * STRIP; }
  int64_t block() const { return BLOCK / width > 16 ? BLOCK / width : 16; }

  // A number for each channel, repeated as the channels are.
  const float* repeated(const float* from, float* to) const {
    for (int64_t i = 0, c = 0; i < width; ++i) to[i] = from[c], c = c + 1 == channels ? 0 : c + 1;
    return to;
  }
};

// Some columns of some rows: N vectors side by side, or `valid` floats of one.
struct Strip {
  int64_t column, at, rows, stride, valid;  // at: of the first float in the array

  template <int N, bool PART>
  int64_t columns() const { return PART ? valid : N * W; }
};

template <bool PART>
INLINE V take(const float* p, int64_t valid) { return PART ? load_part(p, valid) : load(p); }
template <bool PART>
INLINE void put(float* p, V v, int64_t valid) { PART ? store_part(p, v, valid) : store(p, v); }

// Calls `work.strip<N, PART>` for all of an array, a block of rows after the other.
template <class Work>
static void each_strip(const Folded& f, Work& work) {
  const auto rows = [&](int64_t first, int64_t count, int64_t width) {
    for (int64_t n = 0; n < width;) {
      const Strip s{n, first * f.width + n, count, f.width, width - n};
      if (s.valid >= 4 * W) work.template strip<4, false>(s), n += 4 * W;
      else if (s.valid >= 2 * W) work.template strip<2, false>(s), n += 2 * W;
      else if (s.valid >= W) work.template strip<1, false>(s), n += W;
      else work.template strip<1, true>(s), n += W;
    }
  };
  for (int64_t first = 0; first < f.rows; first += f.block())
    rows(first, f.rows - first < f.block() ? f.rows - first : f.block(), f.width);
  if (f.rest > 0) rows(f.rows, 1, f.rest);
}

// Mean and sum of squared deviations, merged block by block (Chan, Golub and LeVeque 1979): within one, the deviations are from
// its own mean, so that a large mean costs no digits.
struct Moments {
  const float* x;
  double *means, *squares, *totals;  // of each column

  template <int N, bool PART>
  INLINE_MEMBER void strip(const Strip& s) {
    V sums[N], first[N], second[N];
#pragma GCC unroll 4
    for (int i = 0; i < N; ++i) sums[i] = first[i] = second[i] = V{};
    const float* from = x + s.at;
    for (int64_t r = 0; r < s.rows; ++r, from += s.stride)
#pragma GCC unroll 4
      for (int i = 0; i < N; ++i) sums[i] += take<PART>(from + i * W, s.valid);
    const V share = splat(1.0f / static_cast<float>(s.rows));
    V near[N];
#pragma GCC unroll 4
    for (int i = 0; i < N; ++i) near[i] = sums[i] * share;
    from = x + s.at;
    for (int64_t r = 0; r < s.rows; ++r, from += s.stride)
#pragma GCC unroll 4
      for (int i = 0; i < N; ++i) {
        const V apart = take<PART>(from + i * W, s.valid) - near[i];
        first[i] += apart, second[i] += apart * apart;
      }
    // Rows before these: blocks are whole but the last.
    const double before = static_cast<double>((s.at - s.column) / s.stride), here = static_cast<double>(s.rows);
    const double weight = here / (before + here);
    float near_floats[N * W], firsts[N * W], seconds[N * W], plain[N * W];
#pragma GCC unroll 4
    for (int i = 0; i < N; ++i)
      store(near_floats + i * W, near[i]), store(firsts + i * W, first[i]), store(seconds + i * W, second[i]),
          store(plain + i * W, sums[i]);
    double *mean = means + s.column, *square = squares + s.column, *total = totals + s.column;
    for (int64_t j = 0; j < s.columns<N, PART>(); ++j) {
      // The mean as rounded is off by what the deviations from it sum to.
      const double off = firsts[j] / here, apart = near_floats[j] + off - mean[j];
      mean[j] += apart * weight;
      square[j] += seconds[j] - off * firsts[j] + apart * apart * before * weight;
      total[j] += plain[j];
    }
  }
};

static void batch_moments(const BatchMoments& a) {
  const Folded f(a.rows, a.channels);
  const int64_t filled = f.filled();
  double* doubles = reinterpret_cast<double*>(scratch(0, 6 * filled));
  for (int64_t i = 0; i < 3 * filled; ++i) doubles[i] = 0;
  Moments work{a.x, doubles, doubles + filled, doubles + 2 * filled};
  each_strip(f, work);
  for (int64_t c = 0; c < a.channels; ++c) {
    double count = 0, mean = 0, square = 0, total = 0;
    for (int64_t j = c; j < f.width; j += a.channels) {
      const double here = static_cast<double>(f.rows + (j < f.rest));
      if (here == 0) continue;
      const double apart = work.means[j] - mean, weight = here / (count + here);
      mean += apart * weight;
      square += work.squares[j] + apart * apart * count * weight;
      total += work.totals[j];
      count += here;
    }
    // Deviations from infinity are NaN; the mean is infinite.
    a.mean[c] = static_cast<float>(mean == mean ? mean : total / count);
    a.variance[c] = static_cast<float>(square / count);
  }
}

INLINE V normal(V x, V mean, V factor, V bias) { return (x - mean) * factor + bias; }

template <bool ADDED, bool RECTIFIED>
struct Applied {
  const BatchApply& a;
  const float *mean, *factor, *bias;

  template <int N, bool PART>
  INLINE_MEMBER void strip(const Strip& s) {
    V means[N], factors[N], biases[N];
#pragma GCC unroll 4
    for (int i = 0; i < N; ++i) {
      const int64_t n = s.column + i * W;
      means[i] = load(mean + n), factors[i] = load(factor + n), biases[i] = load(bias + n);
    }
    for (int64_t r = 0, at = s.at; r < s.rows; ++r, at += s.stride)
#pragma GCC unroll 4
      for (int i = 0; i < N; ++i) {
        V v = normal(take<PART>(a.x + at + i * W, s.valid), means[i], factors[i], biases[i]);
        if (ADDED) v += take<PART>(a.residual + at + i * W, s.valid);
        if (RECTIFIED) v = activate<RELU>(v);
        put<PART>(a.y + at + i * W, v, s.valid);
      }
  }
};

template <bool ADDED, bool RECTIFIED>
static void apply(const Folded& f, const BatchApply& a, const float* mean, const float* factor, const float* bias) {
  Applied<ADDED, RECTIFIED> work{a, mean, factor, bias};
  each_strip(f, work);
}

static void batch_apply(const BatchApply& a) {
  const Folded f(a.rows, a.channels);
  const int64_t filled = f.filled();
  float* floats = scratch(0, 3 * filled);
  const float *mean = f.repeated(a.mean, floats), *factor = f.repeated(a.factor, floats + filled),
              *bias = f.repeated(a.bias, floats + 2 * filled);
  if (a.residual) a.relu ? apply<true, true>(f, a, mean, factor, bias) : apply<true, false>(f, a, mean, factor, bias);
  else a.relu ? apply<false, true>(f, a, mean, factor, bias) : apply<false, false>(f, a, mean, factor, bias);
}

// Where a relu lets the cotangent through: where its result, or what went into it, was above 0.
enum Mask { ALL, OF_Y, OF_X };

template <Mask MASK, bool OTHER, bool KEPT>
struct Summed {
  const BatchSums& a;
  const float *mean, *factor, *bias;
  double *sums, *products;

  template <int N, bool PART>
  INLINE_MEMBER void strip(const Strip& s) {
    V means[N], factors[N], biases[N], sum[N], product[N];
#pragma GCC unroll 4
    for (int i = 0; i < N; ++i) {
      const int64_t n = s.column + i * W;
      means[i] = load(mean + n), factors[i] = load(factor + n), biases[i] = load(bias + n);
      sum[i] = product[i] = V{};
    }
    for (int64_t r = 0, at = s.at; r < s.rows; ++r, at += s.stride)
#pragma GCC unroll 4
      for (int i = 0; i < N; ++i) {
        const int64_t here = at + i * W;
        const V x = take<PART>(a.x + here, s.valid);
        V g = take<PART>(a.cotangent + here, s.valid);
        if (OTHER) g += take<PART>(a.other + here, s.valid);
        if (MASK == OF_Y) g = pullback<RELU>(take<PART>(a.y + here, s.valid), g);
        if (MASK == OF_X) g = pullback<RELU>(normal(x, means[i], factors[i], biases[i]), g);
        if (KEPT) put<PART>(a.inner + here, g, s.valid);
        sum[i] += g, product[i] += g * (x - means[i]);
      }
    float floats[2][N * W];
#pragma GCC unroll 4
    for (int i = 0; i < N; ++i) store(floats[0] + i * W, sum[i]), store(floats[1] + i * W, product[i]);
    for (int64_t j = 0; j < s.columns<N, PART>(); ++j) sums[s.column + j] += floats[0][j], products[s.column + j] += floats[1][j];
  }
};

template <Mask MASK, bool OTHER, bool KEPT>
static void add_up(const Folded& f, const BatchSums& a, const float* mean, const float* factor, const float* bias, double* to) {
  Summed<MASK, OTHER, KEPT> work{a, mean, factor, bias, to, to + f.filled()};
  each_strip(f, work);
}

template <Mask MASK>
static void add_up(const Folded& f, const BatchSums& a, const float* mean, const float* factor, const float* bias, double* to) {
  if (a.other) a.inner ? add_up<MASK, true, true>(f, a, mean, factor, bias, to) : add_up<MASK, true, false>(f, a, mean, factor, bias, to);
  else a.inner ? add_up<MASK, false, true>(f, a, mean, factor, bias, to) : add_up<MASK, false, false>(f, a, mean, factor, bias, to);
}

static void batch_sums(const BatchSums& a) {
  const Folded f(a.rows, a.channels);
  const int64_t filled = f.filled();
  float* floats = scratch(0, 3 * filled);
  double* sums = reinterpret_cast<double*>(scratch(1, 4 * filled));
  for (int64_t i = 0; i < 2 * filled; ++i) sums[i] = 0;
  const float *mean = f.repeated(a.mean, floats), *factor = f.repeated(a.factor, floats + filled),
              *bias = f.repeated(a.bias, floats + 2 * filled);
  if (!a.relu) add_up<ALL>(f, a, mean, factor, bias, sums);
  else a.y ? add_up<OF_Y>(f, a, mean, factor, bias, sums) : add_up<OF_X>(f, a, mean, factor, bias, sums);
  for (int64_t c = 0; c < a.channels; ++c) {
    double sum = 0, product = 0;
    for (int64_t j = c; j < f.width; j += a.channels) sum += sums[j], product += sums[filled + j];
    a.sum[c] = static_cast<float>(sum), a.product[c] = static_cast<float>(product);
  }
}

template <bool RECTIFIED, bool CENTRED>
struct Returned {
  const BatchBackward& a;
  const float *mean, *factor, *bias, *shift, *slope;

  template <int N, bool PART>
  INLINE_MEMBER void strip(const Strip& s) {
    V means[N], factors[N], biases[N], shifts[N], slopes[N];
#pragma GCC unroll 4
    for (int i = 0; i < N; ++i) {
      const int64_t n = s.column + i * W;
      means[i] = load(mean + n), factors[i] = load(factor + n), biases[i] = load(bias + n);
      if (CENTRED) shifts[i] = load(shift + n), slopes[i] = load(slope + n);
    }
    for (int64_t r = 0, at = s.at; r < s.rows; ++r, at += s.stride)
#pragma GCC unroll 4
      for (int i = 0; i < N; ++i) {
        const int64_t here = at + i * W;
        V g = take<PART>(a.cotangent + here, s.valid), x = V{};
        if (RECTIFIED || CENTRED) x = take<PART>(a.x + here, s.valid);
        if (RECTIFIED) g = pullback<RELU>(normal(x, means[i], factors[i], biases[i]), g);
        if (CENTRED) g = g - shifts[i] - (x - means[i]) * slopes[i];
        put<PART>(a.to_x + here, g * factors[i], s.valid);
      }
  }
};

template <bool RECTIFIED, bool CENTRED>
static void give_back(const Folded& f, const BatchBackward& a, const float* const (&of)[5]) {
  Returned<RECTIFIED, CENTRED> work{a, of[0], of[1], of[2], of[3], of[4]};
  each_strip(f, work);
}

static void batch_backward(const BatchBackward& a) {
  const Folded f(a.rows, a.channels);
  const int64_t filled = f.filled();
  float* floats = scratch(0, 5 * filled);
  const float* const given[5] = {a.mean, a.factor, a.bias, a.shift, a.slope};
  const float* of[5];
  for (int i = 0; i < 5; ++i) of[i] = given[i] ? f.repeated(given[i], floats + i * filled) : nullptr;
  if (a.relu) a.shift ? give_back<true, true>(f, a, of) : give_back<true, false>(f, a, of);
  else a.shift ? give_back<false, true>(f, a, of) : give_back<false, false>(f, a, of);
}

}  // namespace hpjax::HPJAX_ISA
