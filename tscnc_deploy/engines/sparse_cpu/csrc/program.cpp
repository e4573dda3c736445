#include "program.hpp"

#include <cmath>
#include <cstring>

namespace scpu {
namespace {

constexpr uint32_t kMagic = 0x55504353;  // "SCPU" in little-endian order
constexpr uint32_t kVersion = 1;
constexpr uint32_t kMaxCount = 1 << 16;  // tensors, operations, channels
constexpr uint32_t kMaxSide = 1 << 14;
constexpr uint64_t kMaxElements = 1 << 28;  // of one tensor, and of one weight as a dense array

// Reads words one after another and refuses to read past the end.
class Reader {
 public:
  explicit Reader(const std::vector<uint32_t>& words) : words_(words) {}

  uint32_t next() {
    if (at_ == words_.size()) throw Error("the program ends too early");
    return words_[at_++];
  }

  int next(uint32_t low, uint32_t high, const char* what) {
    const uint32_t value = next();
    if (value < low || value > high) {
      throw Error(std::string(what) + " is " + std::to_string(value) + ", outside " + std::to_string(low) + " to " +
                  std::to_string(high));
    }
    return static_cast<int>(value);
  }

  float number() {
    const uint32_t word = next();
    float value;
    std::memcpy(&value, &word, sizeof value);
    return value;
  }

  // A run of words somewhere in the program.
  const uint32_t* run(uint64_t count, const char* what) {
    const uint64_t begin = next();
    if (begin > words_.size() || count > words_.size() - begin) {
      throw Error(std::string(what) + " leave the program");
    }
    return words_.data() + begin;
  }

  const float* numbers(uint64_t count, const char* what) { return reinterpret_cast<const float*>(run(count, what)); }

 private:
  const std::vector<uint32_t>& words_;
  size_t at_ = 0;
};

void require(bool condition, const char* what) {
  if (!condition) throw Error(what);
}

Axis read_axis(Reader& reader) {
  Axis axis;
  axis.kernel = reader.next(1, kMaxSide, "a kernel size");
  axis.stride = reader.next(1, 64, "a stride");
  axis.dilation = reader.next(1, 64, "a dilation");
  axis.pad = reader.next(0, kMaxSide, "a padding");
  return axis;
}

// Every window must touch the image, so that what lies outside it stays bounded by the kernel.
void check_axis(const Axis& axis, int input, int output) {
  const int64_t reach = axis.reach();
  const int64_t last = int64_t(output - 1) * axis.stride - axis.pad;  // where the last window begins
  require(axis.pad <= reach, "a padding is larger than the kernel's reach");
  require(reach <= int64_t(2) * kMaxSide, "a kernel reaches too far");
  require(last < input, "a window begins behind the image");
}

void check_weights(const Op& op, const Shape& from, const Shape& to) {
  const int groups = op.groups;
  require(from.c % groups == 0 && to.c % groups == 0, "the groups of a convolution do not divide its channels");
  const uint64_t fan_in = uint64_t(from.c / groups) * op.y.kernel * op.x.kernel;
  require(fan_in <= kMaxElements && fan_in * to.c <= uint64_t(kMaxElements) * 4, "a weight is too large");
  for (int o = 0; o < to.c; o++) {
    for (uint32_t i = op.row[o]; i < op.row[o + 1]; i++) {
      require(op.position[i] < fan_in, "a weight's position lies outside its filter");
      require(i == op.row[o] || op.position[i] > op.position[i - 1], "a weight's positions do not ascend");
    }
  }
}

void read_weights(Reader& reader, Op& op, const Shape& to) {
  op.row = reader.run(uint64_t(to.c) + 1, "row starts");
  require(op.row[0] == 0, "the first row does not start at 0");
  for (int o = 0; o < to.c; o++) require(op.row[o] <= op.row[o + 1], "row starts do not ascend");
  op.position = reader.run(op.row[to.c], "positions");
  op.weight = reader.numbers(op.row[to.c], "weights");
}

}  // namespace

Program::Program(const void* data, size_t bytes) : words_(bytes / 4) {
  require(bytes % 4 == 0 && bytes < (size_t(1) << 34), "the program is no list of 32-bit words");
  if (!words_.empty()) std::memcpy(words_.data(), data, bytes);
  Reader reader(words_);
  require(reader.next() == kMagic, "this is no program of the sparse CPU engine");
  require(reader.next() == kVersion, "the program is of another version");
  const int tensors = reader.next(1, kMaxCount, "the number of tensors");
  const int ops = reader.next(1, kMaxCount, "the number of operations");
  output_ = reader.next(0, tensors - 1, "the output tensor");
  for (int i = 0; i < tensors; i++) {
    Shape shape;
    shape.c = reader.next(1, kMaxCount, "a number of channels");
    shape.h = reader.next(1, kMaxSide, "a height");
    shape.w = reader.next(1, kMaxSide, "a width");
    require(uint64_t(shape.c) * shape.h * shape.w <= kMaxElements, "a tensor is too large");
    tensors_.push_back(shape);
  }
  std::vector<bool> made(tensors, false);
  for (int i = 0; i < ops; i++) {
    Op op{};
    op.kind = static_cast<Kind>(reader.next(0, uint32_t(Kind::concat), "the kind of an operation"));
    require((op.kind == Kind::input) == (i == 0), "the images must come first, and once");
    op.target = reader.next(0, tensors - 1, "a target");
    require(!made[op.target], "a tensor is written twice");
    const int sources = reader.next(0, kMaxCount, "the number of sources");
    for (int s = 0; s < sources; s++) {
      op.sources.push_back(reader.next(0, tensors - 1, "a source"));
      require(made[op.sources.back()], "a tensor is read before it is written");
    }
    const Shape to = tensors_[op.target];
    const Shape from = op.sources.empty() ? to : tensors_[op.sources[0]];
    const bool adds = op.kind == Kind::conv || op.kind == Kind::elementwise;
    const size_t least = op.kind == Kind::input ? 0 : 1;
    const size_t most = op.kind == Kind::concat ? kMaxCount : adds ? 2 : least;
    require(op.sources.size() >= least && op.sources.size() <= most, "an operation has too few or too many sources");
    if (adds && sources == 2) {
      const Shape other = tensors_[op.sources[1]];
      require(other.c == to.c && other.h == to.h && other.w == to.w, "what is added has another shape");
    }
    if (op.kind == Kind::conv || op.kind == Kind::max_pool) {
      op.y = read_axis(reader);
      op.x = read_axis(reader);
      check_axis(op.y, from.h, to.h);
      check_axis(op.x, from.w, to.w);
    } else if (op.kind != Kind::mean) {
      require(from.h == to.h && from.w == to.w, "an elementwise operation changes the size of the image");
    }
    if (op.kind == Kind::conv) op.groups = reader.next(1, kMaxCount, "a number of groups");
    if (adds) {
      op.low = reader.number();
      op.high = reader.number();
      require(op.low <= op.high, "a clamp has its lower bound above its upper one");
    }
    if (adds || op.kind == Kind::input) op.bias = reader.numbers(to.c, "biases");
    if (op.kind == Kind::elementwise || op.kind == Kind::input) op.scale = reader.numbers(to.c, "scales");
    if (op.kind == Kind::conv) {
      read_weights(reader, op, to);
      check_weights(op, from, to);
    } else if (op.kind == Kind::concat) {
      uint64_t channels = 0;
      for (int source : op.sources) {
        const Shape& part = tensors_[source];
        require(part.h == to.h && part.w == to.w, "a concatenation joins images of different sizes");
        channels += part.c;
      }
      require(channels == uint64_t(to.c), "a concatenation has another number of channels than its sources");
    } else {
      require(from.c == to.c, "an operation changes the number of channels");
    }
    if (op.kind == Kind::mean) require(to.h == 1 && to.w == 1, "a mean must leave one value a channel");
    made[op.target] = true;
    ops_.push_back(op);
  }
  require(made[output_], "the output is never written");
  require(tensors_[output_].h == 1 && tensors_[output_].w == 1, "the output must hold one value a class");
}

}  // namespace scpu
