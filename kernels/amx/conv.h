// Convolutions by tiles, picture after picture. A picture with zeros around it is rounded to bfloat16 once, the channels of a
// pixel filled up; 16 places side by side then are a left tile as they lie, and nothing is copied apart.
#pragma once
#include "../simd/conv.h"
#include "tiles.h"

namespace hpjax::HPJAX_ISA {

typedef uint16_t Half;  // a bfloat16

// Channels of a pixel, filled up so that tiles of many pairs make up a run of taps.
INLINE int64_t filled(int64_t channels) {
  if (channels > TILE) return divided_up(channels, 2 * TILE) * 2 * TILE;
  int64_t size = 2;
  while (size < channels) size *= 2;
  return size;
}

// The most pairs of a tile with which tiles of one size make up so many.
INLINE int64_t equal_pairs(int64_t pairs) {
  int64_t size = smaller(pairs, TILE);
  while (pairs % size) --size;
  return size;
}

INLINE void store_halves(Half* to, V halves, int64_t from, int64_t until) {
  const uint64_t upper = until >= 32 ? 0xffffffffu : (uint64_t{1} << until) - 1, lower = (uint64_t{1} << from) - 1;
  _mm512_mask_storeu_epi16(to, static_cast<__mmask32>(upper & ~lower), (__m512i)halves);
}

// Rounds a picture into its place among zeros; its pixels stand `stride` floats apart.
static void put_rounded(const Padded& p, int64_t stride, const float* from, Half* to) {
  const int64_t size = filled(p.channels), first = larger(0, -p.left), last = smaller(p.width, p.columns - p.left);
  const int64_t n = last - first;
  for (int64_t y = larger(0, -p.above); y < p.height && y + p.above < p.rows; ++y) {
    const float* source = from + (y * p.width + first) * stride;
    Half* target = to + ((y + p.above) * p.columns + p.left + first) * size;
    if (size == stride) {
      for (int64_t i = 0; i < n * size; i += 2 * W)
        store_halves(target + i, pairs_along(source + i, n * size - i), 0, n * size - i);
    } else if (stride == 1) {
      for (int64_t i = 0; i < n; i += W) {
        const __m256i halves = (__m256i)_mm512_cvtneps_pbh((__m512)load_part(source + i, n - i));
        store_part(reinterpret_cast<float*>(target + i * size), (V)_mm512_cvtepu16_epi32(halves), n - i);
      }
    } else {
      for (int64_t i = 0; i < n; ++i)
        for (int64_t k = 0; k < size; k += 2 * W)
          store_halves(target + i * size + k, pairs_along(source + i * stride + k, p.channels - k), 0, size - k);
    }
  }
}

// Packs a matrix [depth, columns], given by a function of k and column, into right tiles.
template <class Element>
static void pack_tiles(Element element, int64_t depth, int64_t columns, char* to) {
  for (int64_t n = 0; n < columns; n += TILE)
    for (int64_t k = 0; k < depth; k += 2, to += 64) {
      float rows[2][TILE];
      for (int64_t j = 0; j < TILE; ++j)
        for (int64_t i = 0; i < 2; ++i) rows[i][j] = n + j < columns ? element(k + i, n + j) : 0.0f;
      store(reinterpret_cast<float*>(to), pairs_across(rows[0], rows[1], TILE));
    }
}

// Where the sums of places stand: floats from row to row of places, and from place to place.
struct Placed {
  const float* at;
  int64_t down, across;
};

// Places in tiles of 16: one row after the other, or through the whole picture where fewer tiles do, the places between
// two rows being passed over.
struct Grid {
  int64_t pitch, count;
  bool through;

  explicit Grid(const Places& p) {
    const int64_t whole = divided_up(p.columns, TILE) * TILE, next = p.step_down / p.step_across;
    through = p.step_down % p.step_across == 0 && next < whole;
    pitch = through ? next : whole;
    count = divided_up(through ? (p.rows - 1) * pitch + p.columns : p.rows * pitch, TILE);
  }
  int64_t first(const Places& p, int64_t tile) const {
    if (through) return p.first + tile * TILE * p.step_across;
    const int64_t a_row = pitch / TILE;
    return p.first + tile / a_row * p.step_down + tile % a_row * TILE * p.step_across;
  }
};

// The sums of all places of a rounded picture with packed tiles; in `y` if they are a result as they are, else in scratch.
static Placed place_products(const Half* picture, const Places& p, const Runs& runs, const char* packed, int64_t outputs,
                           float* y) {
  const Grid grid(p);
  const int64_t pairs = equal_pairs(runs.length / 2), steps = runs.length / 2 / pairs, across = divided_up(outputs, TILE);
  const bool direct = y && !grid.through && grid.pitch == p.columns && outputs % TILE == 0 && p.out_across == outputs &&
                      p.out_down == p.columns * outputs && p.out_first == 0;
  const int64_t stride = across * TILE, panel = runs.count * steps * pairs * 64;
  float* sums = direct ? y : scratch(PICTURE, grid.count * TILE * stride);
  const Shapes shapes(TILE, pairs);
  const Walk walk{runs.offsets, runs.count, steps, pairs, 4 * pairs, 64 * pairs};
  const int64_t most = across > 1 ? 2 : 4, width = across > 1 ? 2 : 1;
  for (int64_t tile = 0; tile < grid.count; tile += most) {
    const int64_t down = smaller(most, grid.count - tile);
    const char* left[4];
    for (int64_t r = 0; r < down; ++r) left[r] = reinterpret_cast<const char*>(picture + grid.first(p, tile + r));
    for (int64_t n = 0; n < across; n += width) {
      const int64_t count = smaller(width, across - n);
      const char* right[2] = {packed + n * panel, packed + (n + count - 1) * panel};
      float* out[4];
      for (int64_t r = 0; r < down; ++r)
        for (int64_t i = 0; i < count; ++i) out[r * count + i] = sums + (tile + r) * TILE * stride + (n + i) * TILE;
      PRODUCTS[down - 1][count - 1](left, 2 * p.step_across, right, 64, walk, out, 4 * stride, false);
    }
  }
  return {sums, grid.pitch * stride, stride};
}

static Runs in_bytes(Runs runs) {
  for (int64_t i = 0; i < runs.count; ++i) runs.offsets[i] *= 2;
  return runs;
}

// Scratch for a rounded picture, all zeros: tiles read up to 15 places past its last one.
static Half* rounded_picture(const Padded& p, int64_t stride_across) {
  const int64_t halves = (p.rows * p.columns + TILE * stride_across) * filled(p.channels);
  float* zeros = scratch(PADDED, halves / 2);
  for (int64_t i = 0; i < halves / 2; ++i) zeros[i] = 0;
  return reinterpret_cast<Half*>(zeros);
}

static void finish_places(const ConvForward& c, const Placed& sums, float* y) {
  for (int64_t f = 0; f < c.features; f += W) {
    const int64_t valid = c.features - f;
    const V bias = c.bias ? load_part(c.bias + f, valid) : V{};
    for (int64_t row = 0; row < c.rows; ++row)
      for (int64_t column = 0; column < c.columns; ++column) {
        V v = load(sums.at + row * sums.down + column * sums.across + f);
        if (c.bias) v += bias;
        if (c.activation == RELU) v = activate<RELU>(v);
        store_part(y + (row * c.columns + column) * c.features + f, v, valid);
      }
  }
}

// The same for the maxima of 2 x 2 squares, see `pool`.
static void finish_squares(const ConvForward& c, const Placed& sums, float* y, uint8_t* ties) {
  for (int64_t f = 0; f < c.features; f += W) {
    const int64_t valid = smaller(W, c.features - f);
    const V bias = c.bias ? load_part(c.bias + f, valid) : V{};
    for (int64_t row = 0; row < c.rows / 2; ++row)
      for (int64_t column = 0; column < c.columns / 2; ++column) {
        const float* at = sums.at + 2 * row * sums.down + 2 * column * sums.across + f;
        V v[4];
        for (int i = 0; i < 4; ++i) {
          v[i] = load(at + (i / 2) * sums.down + (i % 2) * sums.across);
          if (c.bias) v[i] += bias;
          if (c.activation == RELU) v[i] = activate<RELU>(v[i]);
        }
        const int64_t to = (row * (c.columns / 2) + column) * c.features + f;
        store_maxima(v, valid, y + to, ties ? ties + to : nullptr);
      }
  }
}

static void conv_forward_bf16(const ConvForward& c) {
  const Padded in = input(c);
  const int64_t size = filled(c.channels), pixels = c.height * c.width * c.channels;
  Conv like = c;
  Padded shaped = in;
  like.channels = shaped.channels = size;
  const Runs runs = in_bytes(forward_runs(like, shaped));
  const int64_t depth = c.taps_down * c.taps_across * size;
  char* packed = reinterpret_cast<char*>(scratch(PANELS, vectors(c.features) * W * depth / 2));
  pack_tiles(
      [&](int64_t k, int64_t f) {
        return k % size < c.channels ? c.kernel[(k / size * c.channels + k % size) * c.features + f] : 0.0f;
      },
      depth, c.features, packed);
  Half* picture = rounded_picture(in, c.stride_across);
  const Places places{c.rows, c.columns, c.stride_down * in.columns * size, c.stride_across * size, 0,
                      c.columns * c.features, c.features, 0};
  const int64_t points = c.rows * c.columns * c.features, pooled = (c.rows / 2) * (c.columns / 2) * c.features;
  const bool plain = !c.pool && !c.bias && c.activation == NONE;
  for (int64_t n = 0; n < c.batch; ++n) {
    put_rounded(in, c.channels, c.x + n * pixels, picture);
    const Placed sums = place_products(picture, places, runs, packed, c.features, plain ? c.y + n * points : nullptr);
    if (c.pool) finish_squares(c, sums, c.y + n * pooled, c.ties ? c.ties + n * pooled : nullptr);
    else if (sums.at != c.y + n * points) finish_places(c, sums, c.y + n * points);
  }
}

}  // namespace hpjax::HPJAX_ISA
