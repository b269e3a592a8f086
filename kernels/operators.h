// What the handlers ask of an instruction set: plain functions on float32 arrays that are known to fit.
#pragma once
#include <cstddef>
#include <cstdint>

namespace hpjax {

enum Activation : int32_t { NONE = 0, RELU = 1, TANH = 2, GELU = 3, SILU = 4 };

// c [rows, columns] = activation(op(a) op(b) + bias), op(a) [rows, depth], op(b) [depth, columns]; all dense, row after row.
struct Matmul {
  int64_t rows, columns, depth;
  const float *a, *b;
  bool transpose_a, transpose_b;
  bool bf16;  // a and b are rounded to bfloat16; the sums are float32
  const float* bias;  // [columns], or null
  Activation activation;
  float* c;
  float* before;  // [rows, columns]: what goes into the activation; or null
  bool accumulate;  // whether the product is added to what stands in c
};

// The cotangent of what went into an activation, and its sum over the rows.
struct Pullback {
  int64_t rows, columns;
  Activation activation;
  const float *saved, *cotangent;
  float* result;  // [rows, columns], or null where there is no activation
  float* sums;    // [columns], or null
};

// A 2-D convolution: x [batch, height, width, channels], kernel [taps_down, taps_across, channels, features],
// y [batch, rows, columns, features].
struct Conv {
  int64_t batch, height, width, channels, taps_down, taps_across, features, rows, columns;
  int64_t stride_down, stride_across, above, left, dilation_down, dilation_across;
  Activation activation;  // NONE or RELU
  bool bf16;              // both operands of each product are rounded to bfloat16; the sums are float32
  bool pool;              // 2 x 2 squares of y, side by side, become their maxima; a remainder is dropped
};

constexpr int64_t MOST_TAPS = 32;  // of a kernel in one direction

struct ConvForward : Conv {
  const float *x, *kernel, *bias;
  float* y;       // [batch, rows, columns, features], halved where pooled
  uint8_t* ties;  // where pooled: bits 0 to 3 name the values of a square that are its maximum; or null
};

struct ConvBackward : Conv {
  const float *x, *kernel, *y, *cotangent;
  const uint8_t* ties;
  float *to_x, *to_kernel, *to_bias;  // null where not asked for
};

// Attention of sequences to themselves: qkv [batch, time, 3, heads, dim], y [batch, time, heads, dim]. Where it is causal, a
// place sees itself and those before it.
struct Attention {
  int64_t batch, time, heads, dim;
  bool causal;
  float scale;  // of the products of queries and keys
  const float* qkv;
};

struct AttentionForward : Attention {
  float* y;
  float* statistics;  // [batch, heads, 2, time]: each query's largest product, and 1 / its sum of exponentials
};

struct AttentionBackward : Attention {
  const float *statistics, *cotangent;
  float* to_qkv;
};

// y [rows, features] = the layer norm of x + branch.
struct NormForward {
  int64_t rows, features;
  float epsilon;
  const float *x, *branch;     // branch: or null
  const float *scale, *bias;   // [features]
  float *sum, *y;              // sum: [rows, features], where there is a branch
  float* statistics;           // [rows, 2]: mean, and 1 / standard deviation
};

struct NormBackward {
  int64_t rows, features;
  const float *x, *scale, *statistics;  // x: the sum
  const float *cotangent, *through;     // through: the sum's own cotangent, or null
  float *to_x, *to_scale, *to_bias;
};

// Batch norm of x [rows, channels]; what has no rank given is [channels].
struct BatchNorm {
  int64_t rows, channels;
  const float* x;
};

struct BatchMoments : BatchNorm {
  float *mean, *variance;  // the variance divided by the number of rows
};

// y = (x - mean) factor + bias + residual, through relu where asked for.
struct BatchApply : BatchNorm {
  bool relu;
  const float *mean, *factor, *bias;
  const float* residual;  // [rows, channels], or null
  float* y;
};

// Sums over the rows of the cotangent before relu, and of its products with x - mean.
struct BatchSums : BatchNorm {
  bool relu;
  const float *mean, *factor, *bias;
  const float* y;                  // [rows, channels], by which relu's gradient goes; or null where x says as much
  const float *cotangent, *other;  // [rows, channels]; other: added to it, or null
  float *sum, *product;
  float* inner;  // [rows, channels]: the cotangent before relu; or null
};

// to_x = factor (cotangent before relu - shift - (x - mean) slope).
struct BatchBackward : BatchNorm {
  bool relu;  // x says where it let something through
  const float *mean, *factor, *bias;
  const float *shift, *slope;  // or both null
  const float* cotangent;
  float* to_x;
};

// y [rows, outputs] = activation(x kernel + bias) out_kernel + out_bias.
struct Perceptron {
  int64_t rows, inputs, hidden, outputs;
  Activation activation;
  const float *x, *kernel, *out_kernel;
};

struct PerceptronForward : Perceptron {
  const float *bias, *out_bias;
  float* y;
  float* before;  // [rows, hidden]: what goes into the activation; or null
};

struct PerceptronBackward : Perceptron {
  const float *before, *cotangent;
  float *to_x, *to_kernel, *to_bias, *to_out_kernel, *to_out_bias;
};

// How a gradient becomes a step; the formulas are those of hpjax/optimizers.
enum Rule : int32_t { SGD = 0, MOMENTUM = 1, NESTEROV = 2, ADAM = 3, LARS = 4, LAMB = 5 };
constexpr int64_t RULES = 6;
// Buffers of a parameter that a rule keeps.
constexpr int64_t buffers(Rule rule) { return rule == SGD ? 0 : rule == ADAM || rule == LAMB ? 2 : 1; }

// What changes from step to step. Infinite limits and decays of 0 are off.
struct Rates {
  float share;  // what the sum of gradients is multiplied by
  float learning_rate, clip_value, clip_layer_norm, clip_norm, l1, l2;
  float weight_decay;  // decoupled: w -= learning_rate weight_decay w
  float inner_decay;   // the rule's own
  float beta1;         // or momentum
  float beta2, epsilon, trust_coefficient;
  float correction1, correction2;  // 1 - beta^step
};

// One tensor; what is written may lie where it is read.
struct Parameter {
  int64_t size;
  float rate, decay;  // multipliers of the learning rate and of all decays
  bool layerwise;     // whether LARS and LAMB scale it by its norms
  const float *gradient, *weight;
  const void *first, *second;
  float* new_weight;
  void *new_first, *new_second;
  uint32_t key[2];  // of its rounding
};

// What a thread takes of a tensor at a time. Where parts begin depends on the tensors alone, and their sums are added in their
// order, so the number of threads changes no bit.
struct Part {
  int64_t parameter, from, to;
  double clip;      // squares of the gradients, clipped by value
  double trust[2];  // squares of the weights; of the gradients (LARS) or of the steps (LAMB)
  double sums[3];   // squares of the mean gradients before clipping, of the new weights, of the steps
};
constexpr int64_t PART = 16384;

// What is done with a part: its sum for clipping by norms, its sums for LARS and LAMB, the step itself.
enum Pass : int32_t { CLIP = 0, TRUST = 1, STEP = 2 };

// LARS takes the gradient as it is, without scale and decay.
constexpr float PLAIN = -1.0f;

struct Update {
  Rule rule;
  bool narrow;  // whether buffers are bfloat16, rounded stochastically; else float32
  Rates rates;
  const Parameter* parameters;
  const float* scales;  // of a parameter: what clipping by norms multiplies its gradients by
  const float* ratios;  // of a parameter: what its norms multiply its step by, or PLAIN
};

struct Operators {
  const char* name;
  void (*matmul)(const Matmul&);
  void (*pullback)(const Pullback&);
  void (*conv_forward)(const ConvForward&);
  void (*conv_backward)(const ConvBackward&);
  void (*update)(const Update&, Pass, Part&);
  void (*attention_forward)(const AttentionForward&);
  void (*attention_backward)(const AttentionBackward&);
  void (*norm_forward)(const NormForward&);
  void (*norm_backward)(const NormBackward&);
  void (*batch_moments)(const BatchMoments&);
  void (*batch_apply)(const BatchApply&);
  void (*batch_sums)(const BatchSums&);
  void (*batch_backward)(const BatchBackward&);
  void (*perceptron_forward)(const PerceptronForward&);
  void (*perceptron_backward)(const PerceptronBackward&);
};

// The best that this processor runs, or the one chosen by `choose`.
const Operators& operators();
// Chooses an instruction set by name, for tests and measurements; false if this processor cannot run it.
bool choose(const char* name);
// The names of those that this processor runs, the best first, ended by null.
const char* const* available();

// Scratch of one thread, kept until it ends: 64-byte aligned; `place` tells apart what is needed at one time.
float* scratch(int place, size_t floats);

}  // namespace hpjax
