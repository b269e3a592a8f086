// Gradients of convolutions by tiles: that of the input is a convolution of the cotangent, that of the kernel a product over
// all places of planes of the input, one for each channel and column of taps, with the cotangent.
#pragma once
#include "conv.h"

namespace hpjax::HPJAX_ISA {

static void gradient_of_input_bf16(const ConvBackward& c) {
  const Padded around = margins(c);
  const int64_t size = filled(c.features), stride = vectors(c.features) * W, phases = c.stride_down * c.stride_across;
  Padded shaped = around;
  shaped.channels = size;
  Half* picture = rounded_picture(around, 1);
  float* dense = scratch(GRADIENT, c.rows * c.columns * stride);
  const int64_t panel = vectors(c.channels) * W * c.taps_down * c.taps_across * size * 2;
  char* packed = reinterpret_cast<char*>(scratch(PANELS, panel * phases / 4));
  Runs* runs = reinterpret_cast<Runs*>(scratch(OFFSETS, phases * sizeof(Runs) / sizeof(float) + 1));
  bool covered = true;
  for (int64_t phase = 0; phase < phases; ++phase) {
    const Phase of(c, shaped, phase);
    runs[phase] = in_bytes(of.runs);
    covered &= of.runs.count > 0;
    if (of.runs.count > 0)
      pack_tiles([&](int64_t k, int64_t channel) { return of.kernel(c, k, channel, size); },
                 of.count_down * of.count_across * size, c.channels, packed + phase * panel);
  }
  const int64_t pixels = c.height * c.width * c.channels;
  for (int64_t n = 0; n < c.batch; ++n) {
    const bool lies = !c.pool && c.activation == NONE;
    if (!lies) cotangent(c, n, stride, dense);
    put_rounded(around, lies ? c.features : stride, lies ? c.cotangent + n * c.rows * c.columns * c.features : dense, picture);
    float* to_x = c.to_x + n * pixels;
    if (!covered)
      for (int64_t i = 0; i < pixels; ++i) to_x[i] = 0;
    for (int64_t phase = 0; phase < phases; ++phase) {
      const Places p = places_of(c, shaped, phase);
      if (p.rows < 1 || p.columns < 1 || runs[phase].count == 0) continue;
      const Placed sums = place_products(picture, p, runs[phase], packed + phase * panel, c.channels, to_x);
      if (sums.at == to_x) continue;
      for (int64_t row = 0; row < p.rows; ++row)
        for (int64_t column = 0; column < p.columns; ++column)
          for (int64_t i = 0; i < c.channels; i += W)
            store_part(to_x + p.out_first + row * p.out_down + column * p.out_across + i,
                       load(sums.at + row * sums.down + column * sums.across + i), c.channels - i);
    }
  }
}

// Planes of a picture: what tap (i, j) sees of a channel at all places, row after row, is one run in plane (phase of i, j,
// channel) that begins `shift[i]` rows down. Columns are filled up to whole pairs with zeros.
struct Planes {
  int64_t phases[MOST_TAPS], shift[MOST_TAPS];  // by row of taps
  int64_t present[64], count;                   // phases that occur: pixels of a row apart by the stride down
  int64_t pitch, rows, size;                    // halves of a row, rows, halves of a plane

  explicit Planes(const Conv& c) : count(0), pitch(divided_up(c.columns, 2) * 2), rows(0) {
    for (int64_t i = 0; i < c.taps_down; ++i) {
      const int64_t phase = i * c.dilation_down % c.stride_down;
      int64_t at = 0;
      while (at < count && present[at] != phase) ++at;
      if (at == count) present[count++] = phase;
      phases[i] = at, shift[i] = i * c.dilation_down / c.stride_down;
      rows = larger(rows, c.rows + shift[i]);
    }
    size = rows * pitch;
    // Rows of a tile a large power of two apart would share few places of the cache.
    if (size % 512 == 0) size += 32;
  }
  int64_t all(const Conv& c) const { return count * c.taps_across * c.channels * size; }

  // Writes all planes of a picture but the zeros around it.
  void put(const Conv& c, const float* x, Half* to) const {
    for (int64_t phase = 0; phase < count; ++phase)
      for (int64_t row = 0; row < rows; ++row) {
        const int64_t y = row * c.stride_down + present[phase] - c.above;
        if (y < 0 || y >= c.height) continue;
        Half* first = to + phase * c.taps_across * c.channels * size + row * pitch;
        for (int64_t channel = 0; channel < c.channels; channel += TILE)
          for (int64_t step = 0; step < c.stride_across; ++step)
            put_row(c, x + y * c.width * c.channels, channel, step, first);
      }
  }

 private:
  // The pixels step, step + stride, ... of a row, 16 channels of them.
  void put_row(const Conv& c, const float* x, int64_t channel, int64_t step, Half* first) const {
    int64_t taps[MOST_TAPS], shifts[MOST_TAPS], n = 0;
    for (int64_t j = 0; j < c.taps_across; ++j) {
      const int64_t at = j * c.dilation_across - c.left - step;
      if (at - divided(at, c.stride_across) * c.stride_across == 0) taps[n] = j, shifts[n++] = divided(at, c.stride_across);
    }
    const int64_t pixels = divided_up(c.width - step, c.stride_across), valid = smaller(TILE, c.channels - channel);
    for (int64_t u = 0; n > 0 && u < pixels; u += 2 * TILE) {
      V turned[TILE];
      if (c.channels == 1 && c.stride_across == 1) {
        turned[0] = pairs_along(x + u, pixels - u);
      } else {
        const int64_t apart = c.stride_across * c.channels;
        const float* from = x + step * c.channels + u * apart + channel;
        if (valid == TILE && pixels - u >= 2 * TILE) {
#pragma GCC unroll 16
          for (int64_t i = 0; i < TILE; ++i)
            turned[i] = pairs_across(from + 2 * i * apart, from + (2 * i + 1) * apart, TILE);
        } else {
          for (int64_t i = 0; i < TILE; ++i)
            turned[i] = pairs_across(u + 2 * i < pixels ? from + 2 * i * apart : nullptr,
                                     u + 2 * i + 1 < pixels ? from + (2 * i + 1) * apart : nullptr, valid);
        }
        transpose(turned);
      }
      for (int64_t k = 0; k < n; ++k) {
        const int64_t column = u - shifts[k];
        const int64_t begin = larger(0, -column), end = smaller(smaller(pixels - u, c.columns - column), 2 * TILE);
        if (begin >= end) continue;
        Half* target = first + (taps[k] * c.channels + channel) * size + column;
        for (int64_t i = 0; i < valid; ++i) store_halves(target + i * size, turned[i], begin, end);
      }
    }
  }
};

// Pairs of places of a cotangent [rows, columns], `stride` floats a place: right tiles of all features.
static void put_cotangent(const Conv& c, const float* g, int64_t stride, int64_t pitch, float* to) {
  for (int64_t row = 0; row < c.rows; ++row)
    for (int64_t column = 0; column < pitch; column += 2, to += stride) {
      const float* even = g + (row * c.columns + column) * stride;
      const float* odd = column + 1 < c.columns ? even + stride : nullptr;
      for (int64_t f = 0; f < stride; f += W) store(to + f, pairs_across(even + f, odd ? odd + f : nullptr, W));
    }
}

static void gradient_of_kernel_bf16(const ConvBackward& c) {
  const Planes planes(c);
  const int64_t points = c.rows * c.columns, places = c.rows * planes.pitch, stride = vectors(c.features) * W;
  const int64_t pairs = equal_pairs(places / 2), steps = places / 2 / pairs, all = planes.all(c);
  // So many pictures at a time that a tile of sums is worth its coming and going.
  const int64_t most_pictures = smaller(c.batch, larger(1, smaller(MOST_TAPS, 512 / places)));
  const int64_t halves = most_pictures * all + TILE * planes.size + 2 * TILE;
  float* zeros = scratch(PADDED, halves / 2 + 1);
  for (int64_t i = 0; i < halves / 2 + 1; ++i) zeros[i] = 0;
  Half* left = reinterpret_cast<Half*>(zeros);
  float* dense = scratch(GRADIENT, points * stride);
  float* right = scratch(RIGHT, most_pictures * places / 2 * stride);
  const int64_t side = c.taps_across * c.channels, deep = divided_up(side, TILE) * TILE;  // rows of sums for a row of taps
  float* sums = scratch(PANELS, c.taps_down * deep * stride);
  float* to_bias = scratch(POINTS, stride);
  for (int64_t f = 0; f < stride; ++f) to_bias[f] = 0;
  const bool as_it_lies = !c.pool && c.activation == NONE && stride == c.features;
  int64_t offsets[MOST_TAPS];
  for (int64_t i = 0; i < most_pictures; ++i) offsets[i] = 2 * i * all;
  const int64_t width = stride > TILE ? 2 : 1, most = stride > TILE ? 2 : 4;
  const Shapes shapes(TILE, pairs);
  for (int64_t n = 0; n < c.batch; n += most_pictures) {
    const int64_t pictures = smaller(most_pictures, c.batch - n);
    for (int64_t i = 0; i < pictures; ++i) {
      const float* g = as_it_lies ? c.cotangent + (n + i) * points * c.features : dense;
      if (!as_it_lies) cotangent(c, n + i, stride, dense);
      if (c.to_bias) add_rows(g, points, stride, to_bias);
      put_cotangent(c, g, stride, planes.pitch, right + i * places / 2 * stride);
      planes.put(c, c.x + (n + i) * c.height * c.width * c.channels, left + i * all);
    }
    const Walk walk{offsets, pictures, steps, pairs, 4 * pairs, 4 * pairs * stride};
    for (int64_t k = 0; k < c.taps_down * deep; k += most * TILE) {
      const int64_t down = smaller(most, (c.taps_down * deep - k) / TILE);
      const char* lefts[4];
      for (int64_t r = 0; r < down; ++r) {
        const int64_t tap = (k + r * TILE) / deep, row = planes.phases[tap] * side + (k + r * TILE) % deep;
        lefts[r] = reinterpret_cast<const char*>(left + row * planes.size + planes.shift[tap] * planes.pitch);
      }
      for (int64_t f = 0; f < stride; f += width * TILE) {
        const int64_t count = smaller(width, (stride - f) / TILE);
        const char* rights[2] = {reinterpret_cast<const char*>(right + f),
                                 reinterpret_cast<const char*>(right + f + (count - 1) * TILE)};
        float* out[4];
        for (int64_t r = 0; r < down; ++r)
          for (int64_t i = 0; i < count; ++i) out[r * count + i] = sums + (k + r * TILE) * stride + f + i * TILE;
        PRODUCTS[down - 1][count - 1](lefts, 2 * planes.size, rights, 4 * stride, walk, out, 4 * stride, n > 0);
      }
    }
  }
  for (int64_t k = 0; c.to_kernel && k < c.taps_down * side; ++k)
    for (int64_t f = 0; f < c.features; ++f)
      c.to_kernel[k * c.features + f] = sums[(k / side * deep + k % side) * stride + f];
  for (int64_t f = 0; c.to_bias && f < c.features; ++f) c.to_bias[f] = to_bias[f];
}

static void conv_backward_bf16(const ConvBackward& c) {
  if (c.to_x) gradient_of_input_bf16(c);
  if (c.to_kernel || c.to_bias) gradient_of_kernel_bf16(c);
}

}  // namespace hpjax::HPJAX_ISA
