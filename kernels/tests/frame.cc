#include "frame.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <numeric>
#include <stdexcept>
#include <thread>

// What XLA would keep of an error.
struct XLA_FFI_Error {
  std::string message;
};

// What XLA would keep of a call: the threads that its tasks run on.
struct XLA_FFI_ExecutionContext {
  std::vector<std::thread> threads;
};

namespace hpjax::tests {

constexpr int64_t THREADS = 3;

static size_t width(XLA_FFI_DataType type) {
  switch (type) {
    case XLA_FFI_DataType_PRED:
    case XLA_FFI_DataType_U8: return 1;
    case XLA_FFI_DataType_BF16: return 2;
    case XLA_FFI_DataType_F32:
    case XLA_FFI_DataType_S32:
    case XLA_FFI_DataType_U32: return 4;
    case XLA_FFI_DataType_F64:
    case XLA_FFI_DataType_S64: return 8;
    default: throw std::logic_error("a type that no test uses");
  }
}

int64_t Array::count() const { return std::accumulate(sizes.begin(), sizes.end(), int64_t{1}, std::multiplies<>()); }
size_t Array::bytes() const { return static_cast<size_t>(count()) * width(type); }
void Array::poison() const { std::memset(memory.get(), 0xff, bytes()); }

double Array::operator[](int64_t i) const {
  if (type == XLA_FFI_DataType_F32) return floats()[i];
  if (type == XLA_FFI_DataType_U8 || type == XLA_FFI_DataType_PRED) return octets()[i];
  if (type != XLA_FFI_DataType_BF16) throw std::logic_error("a type that no test compares");
  const uint32_t bits = uint32_t{static_cast<const uint16_t*>(memory.get())[i]} << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

static uint16_t half(double value) {
  const float narrow = static_cast<float>(value);
  uint32_t bits;
  std::memcpy(&bits, &narrow, sizeof bits);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

void Array::set(int64_t i, double value) const {
  if (type == XLA_FFI_DataType_BF16) static_cast<uint16_t*>(memory.get())[i] = half(value);
  else floats()[i] = static_cast<float>(value);
}

double bf16(double value) {
  const uint32_t bits = uint32_t{half(value)} << 16;
  float wide;
  std::memcpy(&wide, &bits, sizeof wide);
  return wide;
}

// Pages of which the one before or behind the memory may not be touched: AddressSanitizer does not see what intrinsics read,
// and masked ones may rightly name more than they read.
static std::shared_ptr<void> guarded(size_t bytes, bool at_end) {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE)), inside = (bytes + page - 1) / page * page;
  const size_t all = inside + page;
  char* base = static_cast<char*>(mmap(nullptr, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  if (base == MAP_FAILED) throw std::bad_alloc();
  mprotect(at_end ? base + inside : base, page, PROT_NONE);
  return {at_end ? base + inside - bytes : base + page, [base, all](void*) { munmap(base, all); }};
}

Array array(XLA_FFI_DataType type, const Sizes& sizes) {
  static int turn = 0;
  Array made{type, sizes, nullptr};
  const size_t bytes = made.bytes();
  switch (turn++ % 4) {
    case 0: made.memory = guarded(bytes, true); break;
    case 1: made.memory = guarded(bytes, false); break;
    default: made.memory = {std::malloc(bytes), std::free};
  }
  made.poison();
  return made;
}

template <class T>
static Attribute attribute(bool scalar, XLA_FFI_DataType type, const std::vector<T>& values) {
  Attribute made{scalar, array(type, {static_cast<int64_t>(values.size())})};
  if (!values.empty()) std::memcpy(made.value.memory.get(), values.data(), made.value.bytes());
  return made;
}

Attribute flag(bool value) { return attribute<uint8_t>(true, XLA_FFI_DataType_PRED, {value}); }
Attribute number(int64_t value) { return attribute<int64_t>(true, XLA_FFI_DataType_S64, {value}); }
Attribute numbers(const Sizes& values) { return attribute(false, XLA_FFI_DataType_S64, values); }
Attribute reals(const std::vector<float>& values) { return attribute(false, XLA_FFI_DataType_F32, values); }

static XLA_FFI_Api api() {
  XLA_FFI_Api made{};
  made.struct_size = XLA_FFI_Api_STRUCT_SIZE;
  made.api_version = {XLA_FFI_Api_Version_STRUCT_SIZE, nullptr, XLA_FFI_API_MAJOR, XLA_FFI_API_MINOR};
  made.XLA_FFI_Error_Create = [](XLA_FFI_Error_Create_Args* args) { return new XLA_FFI_Error{args->message}; };
  made.XLA_FFI_Error_GetMessage = [](XLA_FFI_Error_GetMessage_Args* args) { args->message = args->error->message.c_str(); };
  made.XLA_FFI_Error_Destroy = [](XLA_FFI_Error_Destroy_Args* args) { delete args->error; };
  made.XLA_FFI_ThreadPool_NumThreads = [](XLA_FFI_ThreadPool_NumThreads_Args* args) -> XLA_FFI_Error* {
    *args->num_threads = THREADS;
    return nullptr;
  };
  made.XLA_FFI_ThreadPool_Schedule = [](XLA_FFI_ThreadPool_Schedule_Args* args) -> XLA_FFI_Error* {
    args->ctx->threads.emplace_back(args->task, args->data);
    return nullptr;
  };
  return made;
}

static std::vector<XLA_FFI_Buffer> buffers(const std::vector<Array>& arrays) {
  std::vector<XLA_FFI_Buffer> made;
  for (const Array& a : arrays)
    made.push_back({XLA_FFI_Buffer_STRUCT_SIZE, nullptr, a.type, a.memory.get(), static_cast<int64_t>(a.sizes.size()),
                    const_cast<int64_t*>(a.sizes.data())});
  return made;
}

std::string Call::run(Handler* handler) const {
  static const XLA_FFI_Api known = api();
  std::vector<XLA_FFI_Buffer> read = buffers(operands), written = buffers(results);
  std::vector<void*> args, rets, values;
  for (XLA_FFI_Buffer& one : read) args.push_back(&one);
  for (XLA_FFI_Buffer& one : written) rets.push_back(&one);
  std::vector<XLA_FFI_ArgType> arg_types(args.size(), XLA_FFI_ArgType_BUFFER);
  std::vector<XLA_FFI_RetType> ret_types(rets.size(), XLA_FFI_RetType_BUFFER);
  std::vector<XLA_FFI_AttrType> kinds;
  std::vector<XLA_FFI_ByteSpan> texts;
  std::vector<XLA_FFI_ByteSpan*> names;
  std::vector<XLA_FFI_Scalar> scalars;
  std::vector<XLA_FFI_Array> arrays;
  // None of them grows: pointers into them are handed over.
  texts.reserve(attributes.size()), scalars.reserve(attributes.size()), arrays.reserve(attributes.size());
  for (const auto& [name, attribute] : attributes) {
    const Array& value = attribute.value;
    texts.push_back({name.data(), name.size()});
    names.push_back(&texts.back());
    kinds.push_back(attribute.scalar ? XLA_FFI_AttrType_SCALAR : XLA_FFI_AttrType_ARRAY);
    scalars.push_back({value.type, value.memory.get()});
    arrays.push_back({value.type, static_cast<size_t>(value.count()), value.memory.get()});
    values.push_back(attribute.scalar ? static_cast<void*>(&scalars.back()) : &arrays.back());
  }
  XLA_FFI_CallFrame frame{};
  frame.struct_size = XLA_FFI_CallFrame_STRUCT_SIZE;
  frame.api = &known;
  XLA_FFI_ExecutionContext context;
  frame.ctx = &context;
  frame.stage = XLA_FFI_ExecutionStage_EXECUTE;
  frame.args = {XLA_FFI_Args_STRUCT_SIZE, nullptr, static_cast<int64_t>(args.size()), arg_types.data(), args.data()};
  frame.rets = {XLA_FFI_Rets_STRUCT_SIZE, nullptr, static_cast<int64_t>(rets.size()), ret_types.data(), rets.data()};
  frame.attrs = {XLA_FFI_Attrs_STRUCT_SIZE, nullptr, static_cast<int64_t>(values.size()), kinds.data(), names.data(),
                 values.data()};
  const std::unique_ptr<XLA_FFI_Error> error(handler(&frame));
  // A task may begin after the handler has returned.
  for (std::thread& thread : context.threads) thread.join();
  return error ? error->message : "";
}

}  // namespace hpjax::tests
