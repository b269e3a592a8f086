// The inner loops: tiles of MR rows by NV vectors of sums that stay in registers.
#pragma once
#include "activation.h"

namespace hpjax::HPJAX_ISA {

// The rows of op(b) that a tile multiplies with lie as panels: for every k, `vectors` vectors side by side.
struct Panel {
  const float* b;
  int64_t stride;  // floats from one k to the next
};

// How a tile's sums are begun and ended. Columns past `valid` are not written.
struct Finish {
  int64_t valid;
  bool accumulate;        // begin with what stands in the result
  const float* bias;      // of these columns, or null
  Activation activation;  // NONE unless the sums are complete
};

// Applies an activation to `rows` rows of `valid` floats; `to` may be `from`.
template <Activation A>
static void activate(int rows, int64_t valid, const float* const* from, float* const* to) {
  for (int r = 0; r < rows; ++r) {
    int64_t n = 0;
    for (; n + W <= valid; n += W) store(to[r] + n, activate<A>(load(from[r] + n)));
    if (n < valid) store_part(to[r] + n, activate<A>(load_part(from[r] + n, valid - n)), valid - n);
  }
}

static void activate(Activation a, int rows, int64_t valid, const float* const* from, float* const* to) {
  switch (a) {
    case RELU: return activate<RELU>(rows, valid, from, to);
    case TANH: return activate<TANH>(rows, valid, from, to);
    case GELU: return activate<GELU>(rows, valid, from, to);
    case SILU: return activate<SILU>(rows, valid, from, to);
    case NONE: return activate<NONE>(rows, valid, from, to);
  }
}

// Rows that run along k: row r is `rows[r]`, and k walks through `segments` pieces of `length` floats each, `offsets` apart
// from the row's beginning. A matrix has one piece; a convolution one for each row of taps.
struct Along {
  const int64_t* offsets;
  int64_t segments, length;
};

// Every loop over a tile is unrolled: a sum that is picked by a number known at run time would live in memory.
template <int R, int N>
INLINE void begin(V (&sums)[R][N], float* const* out, const Finish& f) {
  if (!f.accumulate) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < N; ++v) sums[r][v] = V{};
  } else if (f.valid >= N * W) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < N; ++v) sums[r][v] = load(out[r] + v * W);
  } else {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < N; ++v) sums[r][v] = v * W < f.valid ? load_part(out[r] + v * W, f.valid - v * W) : V{};
  }
}

template <int R, int N>
INLINE void finish(V (&sums)[R][N], float* const* out, float* const* before, const Finish& f) {
  if (f.bias) {
    V bias[N];
#pragma GCC unroll 4
    for (int v = 0; v < N; ++v) bias[v] = v * W < f.valid ? load_part(f.bias + v * W, f.valid - v * W) : V{};
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < N; ++v) sums[r][v] += bias[v];
  }
  float* const* to = before ? before : out;
  if (f.valid >= N * W && !before && f.activation == RELU) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < N; ++v) store(out[r] + v * W, activate<RELU>(sums[r][v]));
    return;
  }
  if (f.valid >= N * W) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < N; ++v) store(to[r] + v * W, sums[r][v]);
  } else {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < N; ++v)
        if (v * W < f.valid) store_part(to[r] + v * W, sums[r][v], f.valid - v * W);
  }
  // From the first cache again: unrolled, an activation would fill that of the instructions.
  if (before || f.activation != NONE) activate(f.activation, R, f.valid, to, out);
}

template <int R, int N>
static void tile_along(const float* const* rows, const Along& along, Panel panel, float* const* out, float* const* before,
                       const Finish& f) {
  V sums[R][N];
  begin<R, N>(sums, out, f);
  const float* b = panel.b;
  for (int64_t s = 0; s < along.segments; ++s) {
    const float* a[R];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) a[r] = rows[r] + along.offsets[s];
    for (int64_t k = 0; k < along.length; ++k, b += panel.stride) {
      V right[N];
#pragma GCC unroll 4
      for (int v = 0; v < N; ++v) right[v] = load(b + v * W);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        V left = splat(a[r][k]);
#pragma GCC unroll 4
        for (int v = 0; v < N; ++v) sums[r][v] += left * right[v];
      }
    }
  }
  finish<R, N>(sums, out, before, f);
}

// Rows that lie side by side: row r of k is a[place(k) + r], where place is `offsets[k]` or k * stride.
struct Across {
  const float* a;
  const int32_t* offsets;  // or null
  int64_t stride, depth;
};

template <int R, int N>
static void tile_across(const Across& across, Panel panel, float* const* out, const Finish& f) {
  V sums[R][N];
  begin<R, N>(sums, out, f);
  const float* b = panel.b;
  const auto add = [&](const float* a) __attribute__((always_inline)) {
    V right[N];
#pragma GCC unroll 4
    for (int v = 0; v < N; ++v) right[v] = load(b + v * W);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      V left = splat(a[r]);
#pragma GCC unroll 4
      for (int v = 0; v < N; ++v) sums[r][v] += left * right[v];
    }
    b += panel.stride;
  };
  if (across.offsets)
    for (int64_t k = 0; k < across.depth; ++k) add(across.a + across.offsets[k]);
  else
    for (int64_t k = 0; k < across.depth; ++k) add(across.a + k * across.stride);
  finish<R, N>(sums, out, nullptr, f);
}

typedef void (*TileAlong)(const float* const*, const Along&, Panel, float* const*, float* const*, const Finish&);
typedef void (*TileAcross)(const Across&, Panel, float* const*, const Finish&);

// Tables over the sizes of a tile: [rows - 1][vectors - 1].
#define HPJAX_ROW(tile, r) {tile<r, 1>, tile<r, (NV > 1 ? 2 : 1)>, tile<r, (NV > 2 ? 3 : 1)>, tile<r, (NV > 3 ? 4 : 1)>}
#define HPJAX_TABLE(tile)                                                                                          \
  {HPJAX_ROW(tile, 1),                   HPJAX_ROW(tile, 2),                   HPJAX_ROW(tile, 3),                  \
   HPJAX_ROW(tile, 4),                   HPJAX_ROW(tile, 5),                   HPJAX_ROW(tile, 6),                  \
   HPJAX_ROW(tile, (MR > 6 ? 7 : 1)),    HPJAX_ROW(tile, (MR > 7 ? 8 : 1))}
static const TileAlong TILES_ALONG[8][4] = HPJAX_TABLE(tile_along);
static const TileAcross TILES_ACROSS[8][4] = HPJAX_TABLE(tile_across);

INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
INLINE int64_t vectors(int64_t columns) { return (columns + W - 1) / W; }

}  // namespace hpjax::HPJAX_ISA
