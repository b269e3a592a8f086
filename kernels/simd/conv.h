// Convolutions, picture after picture: a picture with zeros around it stays in the second cache, and a row of taps of one
// place is one run of floats in it. So a convolution is a product of rows that overlap, and nothing is copied apart.
#pragma once
#include "tile.h"

namespace hpjax::HPJAX_ISA {

enum Place { PANELS, PADDED, PICTURE, GRADIENT, OFFSETS, POINTS, LEFT, RIGHT };

// Where the taps of one row lie in a padded picture, in runs that are as long as they can be.
struct Runs {
  int64_t offsets[MOST_TAPS * MOST_TAPS];
  int64_t count = 0, length = 0;
};

// A picture [height, width, channels] within zeros: rows [rows, columns, channels], its first pixel at (above, left), which
// may be negative; where nothing is added and nothing cut off it is used as it lies.
struct Padded {
  int64_t height, width, channels, rows, columns, above, left;
  bool plain() const { return above == 0 && left == 0 && rows == height && columns == width; }
  int64_t size() const { return rows * columns * channels; }
  void clear(float* to) const {
    if (!plain())
      for (int64_t i = 0; i < size(); ++i) to[i] = 0;
  }
  const float* put(const float* from, float* to) const {
    if (plain()) return from;
    const int64_t first = larger(0, -left), last = smaller(width, columns - left);
    for (int64_t y = larger(0, -above); y < height && y + above < rows; ++y) {
      const float* source = from + (y * width + first) * channels;
      float* target = to + ((y + above) * columns + left + first) * channels;
      const int64_t n = (last - first) * channels;
      int64_t i = 0;
      for (; i + W <= n; i += W) store(target + i, load(source + i));
      for (; i < n; ++i) target[i] = source[i];
    }
    return to;
  }
};

static Padded input(const Conv& c) {
  return {c.height, c.width, c.channels, (c.rows - 1) * c.stride_down + (c.taps_down - 1) * c.dilation_down + 1,
          (c.columns - 1) * c.stride_across + (c.taps_across - 1) * c.dilation_across + 1, c.above, c.left};
}

// One product: `points` places with the taps of `runs`, times a packed kernel, into rows of `features` floats.
struct Places {
  int64_t rows, columns;                   // places
  int64_t step_down, step_across, first;   // floats in the padded picture
  int64_t out_down, out_across, out_first; // floats in the result
};

static void product(const float* padded, const Places& p, const Runs& runs, const float* packed, int64_t features,
                    const float* bias, Activation activation, float* out) {
  const Along along{runs.offsets, runs.count, runs.length};
  const int64_t depth = runs.count * runs.length, points = p.rows * p.columns;
  for (int64_t n = 0, at = 0; n < features; n += NV * W) {
    const int64_t count = smaller(NV, vectors(features - n)), wide = count * W;
    const Finish f{smaller(wide, features - n), false, bias ? bias + n : nullptr, activation};
    int64_t row = 0, column = 0;
    for (int64_t i = 0; i < points; i += MR) {
      const int64_t high = smaller(MR, points - i);
      const float* rows[MR];
      float* outs[MR];
      for (int64_t r = 0; r < high; ++r) {
        rows[r] = padded + p.first + row * p.step_down + column * p.step_across;
        outs[r] = out + p.out_first + row * p.out_down + column * p.out_across + n;
        if (++column == p.columns) column = 0, ++row;
      }
      TILES_ALONG[high - 1][count - 1](rows, along, Panel{packed + at, wide}, outs, nullptr, f);
    }
    at += depth * wide;
  }
}

// Packs a matrix [depth, columns] given by a function of k and column.
template <class Element>
static void pack_by(Element element, int64_t depth, int64_t columns, float* to) {
  for (int64_t n = 0; n < columns; n += NV * W) {
    const int64_t wide = smaller(NV, vectors(columns - n)) * W, valid = smaller(wide, columns - n);
    for (int64_t k = 0; k < depth; ++k)
      for (int64_t j = 0; j < wide; ++j) to[k * wide + j] = j < valid ? element(k, n + j) : 0.0f;
    to += depth * wide;
  }
}

// The taps of a forward convolution in its padded input: whole rows of taps where they lie side by side.
static Runs forward_runs(const Conv& c, const Padded& in) {
  Runs runs;
  const bool whole = c.dilation_across == 1 || c.taps_across == 1;
  runs.length = whole ? c.taps_across * c.channels : c.channels;
  for (int64_t i = 0; i < c.taps_down; ++i)
    for (int64_t j = 0; j < (whole ? 1 : c.taps_across); ++j)
      runs.offsets[runs.count++] = (i * c.dilation_down * in.columns + j * c.dilation_across) * in.channels;
  return runs;
}

// The largest of four vectors, and as bits which of them are as large.
INLINE void store_maxima(const V (&v)[4], int64_t valid, float* y, uint8_t* ties) {
  V most = v[0];
  // NaN is the largest of all, as in XLA's maximum.
  for (int i = 1; i < 4; ++i) most = select((v[i] > most) | (v[i] != v[i]), v[i], most);
  store_part(y, most, valid);
  if (!ties) return;
  I bits = I{};
  for (int i = 0; i < 4; ++i) bits |= (v[i] == most) & (1 << i);
#if defined(HPJAX_X86) && HPJAX_WIDTH == 16
  _mm512_mask_cvtepi32_storeu_epi8(ties, static_cast<__mmask16>((1u << valid) - 1), (__m512i)bits);
#else
  for (int64_t i = 0; i < valid; ++i) ties[i] = static_cast<uint8_t>(bits[i]);
#endif
}

// The maxima of 2 x 2 squares of a picture, and which of the four values they are.
static void pool(const Conv& c, const float* picture, float* y, uint8_t* ties) {
  for (int64_t row = 0; row < c.rows / 2; ++row)
    for (int64_t column = 0; column < c.columns / 2; ++column)
      for (int64_t n = 0; n < c.features; n += W) {
        const int64_t valid = smaller(W, c.features - n);
        const float* at = picture + (2 * row * c.columns + 2 * column) * c.features + n;
        V v[4];
        for (int i = 0; i < 4; ++i) v[i] = load_part(at + ((i / 2) * c.columns + i % 2) * c.features, valid);
        const int64_t to = (row * (c.columns / 2) + column) * c.features + n;
        store_maxima(v, valid, y + to, ties ? ties + to : nullptr);
      }
}

static void conv_forward(const ConvForward& c) {
  const Padded in = input(c);
  const Runs runs = forward_runs(c, in);
  const int64_t depth = c.taps_down * c.taps_across * c.channels;
  float* packed = scratch(PANELS, vectors(c.features) * W * depth);
  pack_by([&](int64_t k, int64_t f) { return c.kernel[k * c.features + f]; }, depth, c.features, packed);
  float* padded = in.plain() ? nullptr : scratch(PADDED, in.size());
  in.clear(padded);
  const int64_t size = c.rows * c.columns * c.features, pooled = (c.rows / 2) * (c.columns / 2) * c.features;
  float* picture = c.pool ? scratch(PICTURE, size) : nullptr;
  const Places places{c.rows, c.columns, c.stride_down * in.columns * c.channels, c.stride_across * c.channels, 0,
                      c.columns * c.features, c.features, 0};
  for (int64_t n = 0; n < c.batch; ++n) {
    const float* x = in.put(c.x + n * c.height * c.width * c.channels, padded);
    float* y = c.pool ? picture : c.y + n * size;
    product(x, places, runs, packed, c.features, c.bias, c.activation, y);
    if (c.pool) pool(c, picture, c.y + n * pooled, c.ties ? c.ties + n * pooled : nullptr);
  }
}

INLINE I load_bytes(const uint8_t* from, int64_t n) {
#if defined(HPJAX_X86) && HPJAX_WIDTH == 16
  return (I)_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(static_cast<__mmask16>(n < W ? (1u << n) - 1 : 0xffff), from));
#else
  I values = I{};
  for (int64_t i = 0; i < n && i < W; ++i) values[i] = from[i];
  return values;
#endif
}

// What each of the values that four bits name gets of a cotangent that they share.
INLINE V shares(I bits) {
#if defined(HPJAX_X86) && HPJAX_WIDTH == 16
  static constexpr float THIRD = 1.0f / 3.0f,
                         OF[16] = {1, 1, 1, 0.5f, 1, 0.5f, 0.5f, THIRD, 1, 0.5f, 0.5f, THIRD, 0.5f, THIRD, THIRD, 0.25f};
  return (V)_mm512_permutexvar_ps((__m512i)bits, (__m512)load(OF));
#else
  const I count = (bits & 1) + ((bits >> 1) & 1) + ((bits >> 2) & 1) + ((bits >> 3) & 1);
  return splat(1.0f) / __builtin_convertvector(count | (count == 0), V);
#endif
}

// The cotangent of a picture before its activation: [rows, columns, features], features padded to `stride` floats.
static void cotangent(const ConvBackward& c, int64_t n, int64_t stride, float* to) {
  const int64_t pooled = (c.rows / 2) * (c.columns / 2) * c.features, size = c.rows * c.columns * c.features;
  if (!c.pool) {
    for (int64_t i = 0; i < c.rows * c.columns; ++i)
      for (int64_t f = 0; f < c.features; f += W) {
        const int64_t at = n * size + i * c.features + f, valid = c.features - f;
        V g = load_part(c.cotangent + at, valid);
        if (c.activation == RELU) g = pullback<RELU>(load_part(c.y + at, valid), g);
        store(to + i * stride + f, g);
      }
    return;
  }
  // What the pooling dropped at the edge has no cotangent.
  if (c.rows % 2 || c.columns % 2)
    for (int64_t i = 0; i < c.rows * c.columns * stride; ++i) to[i] = 0;
  float not_numbers[W];
  store(not_numbers, splat(__builtin_nanf("")));
  for (int64_t row = 0; row < c.rows / 2; ++row)
    for (int64_t column = 0; column < c.columns / 2; ++column)
      for (int64_t f = 0; f < c.features; f += W) {
        const int64_t valid = smaller(W, c.features - f);
        const int64_t at = n * pooled + (row * (c.columns / 2) + column) * c.features + f;
        V g = load_part(c.cotangent + at, valid);
        if (c.activation == RELU) g = pullback<RELU>(load_part(c.y + at, valid), g);
        const I bits = load_bytes(c.ties + at, valid);
        g *= shares(bits);
        // No value equals a maximum that is NaN, and so is its gradient, wherever it goes; what fills up the features is 0.
        const V rest = select((bits & 15) == 0, load_part(not_numbers, valid), V{});
        float* first = to + (2 * row * c.columns + 2 * column) * stride + f;
        for (int i = 0; i < 4; ++i)
          store(first + ((i / 2) * c.columns + i % 2) * stride, select((bits & (1 << i)) != 0, g, rest));
      }
}

static void round_all(float* values, int64_t size) {
  for (int64_t i = 0; i < size; i += W) store(values + i, rounded(load(values + i)));
}

// Adds the sum of rows of whole vectors.
static void add_rows(const float* rows, int64_t count, int64_t stride, float* to) {
  for (int64_t f = 0; f < stride; f += W) {
    V total = V{};
    for (int64_t i = 0; i < count; ++i) total += load(rows + i * stride + f);
    store(to + f, load(to + f) + total);
  }
}

INLINE int64_t divided(int64_t a, int64_t b) { return a / b - (a % b < 0); }

// The gradient of the input, where the output's stride splits its pixels into phases, each a convolution by itself.
static Places places_of(const Conv& c, const Padded& around, int64_t phase) {
  const int64_t down = phase / c.stride_across, across = phase % c.stride_across;
  return {(c.height - down + c.stride_down - 1) / c.stride_down,
          (c.width - across + c.stride_across - 1) / c.stride_across,
          around.columns * around.channels,
          around.channels,
          (around.above * around.columns + around.left) * around.channels,
          c.stride_down * c.width * c.channels,
          c.stride_across * c.channels,
          (down * c.width + across) * c.channels};
}

// The places of taps in one direction for pixels of one phase: tap i of pixel p * stride + phase reads output p + shift.
static int64_t taps_of(int64_t taps, int64_t dilation, int64_t before, int64_t stride, int64_t phase, int64_t* tap,
                       int64_t* shift) {
  int64_t count = 0;
  // From the last to the first, so that the places rise.
  for (int64_t i = taps - 1; i >= 0; --i) {
    const int64_t at = phase + before - i * dilation;
    if (at - divided(at, stride) * stride == 0) tap[count] = i, shift[count++] = divided(at, stride);
  }
  return count;
}

static Padded margins(const Conv& c) {
  int64_t low[2] = {0, 0}, high[2] = {c.rows, c.columns};
  const int64_t size[2] = {c.height, c.width}, taps[2] = {c.taps_down, c.taps_across},
                stride[2] = {c.stride_down, c.stride_across}, dilation[2] = {c.dilation_down, c.dilation_across},
                before[2] = {c.above, c.left};
  for (int d = 0; d < 2; ++d) {
    low[d] = smaller(0, divided(before[d] - (taps[d] - 1) * dilation[d], stride[d]));
    high[d] = larger(high[d], divided(size[d] - 1 + before[d], stride[d]) + 1);
  }
  return {c.rows, c.columns, c.features, high[0] - low[0], high[1] - low[1], -low[0], -low[1]};
}

// The taps that the pixels of one phase see of the cotangent, down and across, and where those lie in its padded picture.
struct Phase {
  int64_t down[MOST_TAPS], across[MOST_TAPS], count_down, count_across;
  Runs runs;

  Phase(const Conv& c, const Padded& around, int64_t phase) {
    int64_t shift_down[MOST_TAPS], shift_across[MOST_TAPS];
    count_down = taps_of(c.taps_down, c.dilation_down, c.above, c.stride_down, phase / c.stride_across, down, shift_down);
    count_across = taps_of(c.taps_across, c.dilation_across, c.left, c.stride_across, phase % c.stride_across, across,
                           shift_across);
    bool whole = count_across > 0;
    for (int64_t j = 1; j < count_across; ++j) whole &= shift_across[j] == shift_across[j - 1] + 1;
    runs.length = whole ? count_across * around.channels : around.channels;
    for (int64_t i = 0; i < count_down; ++i)
      for (int64_t j = 0; j < (whole ? 1 : count_across); ++j)
        runs.offsets[runs.count++] = (shift_down[i] * around.columns + shift_across[j]) * around.channels;
  }

  // The kernel at the k-th float of the runs, of `filled` features a place.
  float kernel(const ConvBackward& c, int64_t k, int64_t channel, int64_t filled) const {
    const int64_t tap = k / filled, feature = k % filled, i = down[tap / count_across], j = across[tap % count_across];
    return feature < c.features ? c.kernel[((i * c.taps_across + j) * c.channels + channel) * c.features + feature] : 0.0f;
  }
};

static void gradient_of_input(const ConvBackward& c) {
  const Padded around = margins(c);
  float* padded = scratch(PADDED, around.size());
  for (int64_t i = 0; i < around.size(); ++i) padded[i] = 0;
  const int64_t stride = vectors(c.features) * W;
  float* dense = scratch(GRADIENT, c.rows * c.columns * stride);
  float* tight = stride == c.features ? dense : scratch(PICTURE, c.rows * c.columns * c.features);
  const int64_t phases = c.stride_down * c.stride_across;
  const int64_t panel = vectors(c.channels) * W * c.taps_down * c.taps_across * c.features;
  float* packed = scratch(PANELS, panel * phases);
  Runs* runs = reinterpret_cast<Runs*>(scratch(OFFSETS, phases * sizeof(Runs) / sizeof(float) + 1));
  bool covered = true;
  for (int64_t phase = 0; phase < phases; ++phase) {
    const Phase of(c, around, phase);
    runs[phase] = of.runs;
    covered &= of.runs.count > 0;
    pack_by([&](int64_t k, int64_t channel) { return of.kernel(c, k, channel, c.features); },
            of.count_down * of.count_across * c.features, c.channels, packed + phase * panel);
  }
  const int64_t size = c.height * c.width * c.channels;
  for (int64_t n = 0; n < c.batch; ++n) {
    const float* g = c.cotangent + n * c.rows * c.columns * c.features;
    if (c.pool || c.activation != NONE || c.bf16) {
      cotangent(c, n, stride, dense);
      if (c.bf16) round_all(dense, c.rows * c.columns * stride);
      for (int64_t i = 0; tight != dense && i < c.rows * c.columns; ++i)
        for (int64_t f = 0; f < c.features; ++f) tight[i * c.features + f] = dense[i * stride + f];
      g = tight;
    }
    const float* x = around.put(g, padded);
    if (!covered)
      for (int64_t i = 0; i < size; ++i) c.to_x[n * size + i] = 0;
    for (int64_t phase = 0; phase < phases; ++phase) {
      const Places places = places_of(c, around, phase);
      if (places.rows > 0 && places.columns > 0)
        product(x, places, runs[phase], packed + phase * panel, c.channels, nullptr, NONE, c.to_x + n * size);
    }
  }
}

// Floats of taps laid side by side: more would take gigabytes, and their places would not fit 32 bits.
constexpr int64_t MOST_GATHERED = int64_t{1} << 26;

static void gradient_of_kernel(const ConvBackward& c) {
  const Padded in = input(c);
  const Runs runs = forward_runs(c, in);
  const int64_t depth = c.taps_down * c.taps_across * c.channels, points = c.rows * c.columns;
  const int64_t stride = vectors(c.features) * W;
  float* padded = in.plain() ? nullptr : scratch(PADDED, in.size());
  in.clear(padded);
  float* dense = scratch(GRADIENT, points * stride);
  float* sums = scratch(PANELS, depth * stride);
  for (int64_t i = 0; i < depth * stride; ++i) sums[i] = 0;
  // Taps of few channels would make short tiles: they are laid side by side first.
  const bool gathered = runs.length < MR && runs.count > 1 && points * depth <= MOST_GATHERED;
  float* taps = gathered ? scratch(PICTURE, points * depth) : nullptr;
  int32_t* offsets = reinterpret_cast<int32_t*>(scratch(OFFSETS, points));
  for (int64_t i = 0; i < points; ++i)
    offsets[i] = static_cast<int32_t>(gathered ? i * depth
                                               : ((i / c.columns) * c.stride_down * in.columns +
                                                  (i % c.columns) * c.stride_across) * c.channels);
  float* to_bias = scratch(POINTS, stride);
  for (int64_t f = 0; f < stride; ++f) to_bias[f] = 0;
  const bool as_it_lies = !c.pool && c.activation == NONE && stride == c.features && !c.bf16;
  for (int64_t n = 0; n < c.batch; ++n) {
    const float* g = dense;
    if (as_it_lies) g = c.cotangent + n * points * c.features;
    else cotangent(c, n, stride, dense);
    if (c.to_bias) add_rows(g, points, stride, to_bias);
    if (c.bf16) round_all(dense, points * stride);
    const float* x = in.put(c.x + n * c.height * c.width * c.channels, padded);
    if (gathered) {
      for (int64_t i = 0; i < points; ++i) {
        const float* from = x + ((i / c.columns) * c.stride_down * in.columns + (i % c.columns) * c.stride_across) * c.channels;
        for (int64_t s = 0; s < runs.count; ++s)
          for (int64_t k = 0; k < runs.length; ++k) taps[i * depth + s * runs.length + k] = from[runs.offsets[s] + k];
      }
      x = taps;
    }
    const int64_t segments = gathered ? 1 : runs.count, length = gathered ? depth : runs.length;
    for (int64_t f = 0; f < stride; f += NV * W) {
      const int64_t count = smaller(NV, (stride - f) / W);
      const Finish finish{count * W, true, nullptr, NONE};
      const Panel panel{g + f, stride};
      for (int64_t s = 0; s < segments; ++s)
        for (int64_t k = 0; k < length; k += MR) {
          const int64_t high = smaller(MR, length - k);
          float* out[MR];
          for (int64_t r = 0; r < high; ++r) out[r] = sums + (s * length + k + r) * stride + f;
          const Across across{x + (gathered ? 0 : runs.offsets[s]) + k, offsets, 0, points};
          TILES_ACROSS[high - 1][count - 1](across, panel, out, finish);
        }
    }
  }
  for (int64_t k = 0; c.to_kernel && k < depth; ++k)
    for (int64_t f = 0; f < c.features; ++f) c.to_kernel[k * c.features + f] = sums[k * stride + f];
  for (int64_t f = 0; c.to_bias && f < c.features; ++f) c.to_bias[f] = to_bias[f];
}

static void conv_backward(const ConvBackward& c) {
  if (c.to_x) gradient_of_input(c);
  if (c.to_kernel || c.to_bias) gradient_of_kernel(c);
}

}  // namespace hpjax::HPJAX_ISA
