#include "program.hpp"

#include <cmath>
#include <cstring>

namespace scpu {
namespace {

constexpr uint32_t kMagic = 0x55504353;  // "SCPU" in little-endian order
constexpr uint32_t kVersion = 2;
constexpr uint32_t kMaxCount = 1 << 16;  // tensors, operations, channels
constexpr uint32_t kMaxSide = 1 << 14;
constexpr uint32_t kMaxDims = 16;  // of a piece
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

uint64_t elements(const Shape& shape) { return uint64_t(shape.c) * shape.h * shape.w; }

void check_sources(const Op& op, size_t count) {
  size_t least = 1, most = 1;
  if (op.kind == Kind::input || op.kind == Kind::constant) least = most = 0;
  if (op.kind == Kind::conv || op.kind == Kind::elementwise) most = 2;
  if (op.kind == Kind::matmul) least = most = 2;
  if (op.kind == Kind::copy) most = kMaxCount;
  require(count >= least && count <= most, "an operation has too few or too many sources");
}

bool same(const Shape& a, const Shape& b) { return a.c == b.c && a.h == b.h && a.w == b.w; }

// The second source of conv and elementwise.
void check_second(const Op& op, const Shape& other, const Shape& to) {
  const bool channels = other.c == to.c || other.c == 1, places = other.h == 1 && other.w == 1;
  const bool spreads = channels && (places || (other.h == to.h && other.w == to.w));
  require(op.kind == Kind::conv ? same(other, to) : spreads, "what is combined has another shape");
}

void read_function(Reader& reader, Op& op) {
  op.low = reader.number();
  op.high = reader.number();
  require(op.low <= op.high, "a clamp has its lower bound above its upper one");
  op.function = static_cast<Function>(reader.next(0, uint32_t(Function::abs), "a function"));
  op.alpha = reader.number();
  op.beta = reader.number();
}

void read_pieces(Reader& reader, Op& op, const std::vector<Shape>& tensors) {
  const uint64_t all = elements(tensors[op.target]);
  uint64_t copied = 0;
  op.fill = reader.number();
  const int pieces = reader.next(0, kMaxCount, "the number of pieces");
  for (int i = 0; i < pieces; i++) {
    Piece piece;
    piece.source = reader.next(0, uint32_t(op.sources.size()) - 1, "the source of a piece");
    piece.target_start = reader.next();
    piece.source_start = reader.next();
    const int dims = reader.next(1, kMaxDims, "the number of dimensions");
    uint64_t count = 1, target = piece.target_start, source = piece.source_start;
    for (int d = 0; d < dims; d++) {
      Piece::Dim dim;
      dim.size = uint32_t(reader.next(1, kMaxElements, "a size"));
      dim.target = uint32_t(reader.next(0, kMaxElements, "a stride"));
      dim.source = uint32_t(reader.next(0, kMaxElements, "a stride"));
      // No overflow: each term is below 2^56, and there are few.
      count *= dim.size;
      target += uint64_t(dim.size - 1) * dim.target;
      source += uint64_t(dim.size - 1) * dim.source;
      require(count <= all, "a piece is larger than the target");
      piece.dims.push_back(dim);
    }
    require(target < all, "a piece leaves the target");
    require(source < elements(tensors[op.sources[piece.source]]), "a piece leaves its source");
    copied += count;
    require(copied <= all, "the pieces are larger than the target");
    op.pieces.push_back(std::move(piece));
  }
}

void read_matmul(Reader& reader, Op& op, const std::vector<Shape>& tensors) {
  const Shape &a = tensors[op.sources[0]], &b = tensors[op.sources[1]], &to = tensors[op.target];
  op.groups = reader.next(1, kMaxCount, "a number of groups");
  op.b_is_filters = reader.next(0, 1, "the order of a product") == 1;
  op.factor = reader.number();
  require(a.h == to.h && a.w == to.w, "a product has other positions than its first factor");
  require(a.c % op.groups == 0 && to.c % op.groups == 0, "the groups of a product do not divide its channels");
  const int depth = a.c / op.groups, filters = to.c / op.groups;
  const int channels = op.b_is_filters ? filters : depth, places = op.b_is_filters ? depth : filters;
  require(b.c == channels * op.groups && int64_t(b.h) * b.w == places, "the factors of a product do not fit");
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
    op.kind = static_cast<Kind>(reader.next(0, uint32_t(Kind::matmul), "the kind of an operation"));
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
    check_sources(op, sources);
    switch (op.kind) {
      case Kind::input:
        op.bias = reader.numbers(to.c, "biases");
        op.scale = reader.numbers(to.c, "scales");
        break;
      case Kind::conv:
      case Kind::max_pool:
        op.y = read_axis(reader);
        op.x = read_axis(reader);
        check_axis(op.y, from.h, to.h);
        check_axis(op.x, from.w, to.w);
        if (op.kind == Kind::max_pool) {
          require(from.c == to.c, "an operation changes the number of channels");
          break;
        }
        if (sources == 2) check_second(op, tensors_[op.sources[1]], to);
        op.groups = reader.next(1, kMaxCount, "a number of groups");
        read_function(reader, op);
        op.bias = reader.numbers(to.c, "biases");
        read_weights(reader, op, to);
        check_weights(op, from, to);
        break;
      case Kind::mean:
        require(from.c == to.c, "an operation changes the number of channels");
        require(to.h == 1 && to.w == 1, "a mean must leave one value a channel");
        break;
      case Kind::elementwise:
        require(same(from, to), "an elementwise operation changes the shape");
        op.combine = static_cast<Combine>(reader.next(0, uint32_t(Combine::smallest), "a combination"));
        require((op.combine == Combine::none) == (sources == 1), "a combination needs two sources");
        if (sources == 2) check_second(op, tensors_[op.sources[1]], to);
        read_function(reader, op);
        op.bias = reader.numbers(to.c, "biases");
        op.scale = reader.numbers(to.c, "scales");
        break;
      case Kind::copy:
        read_pieces(reader, op, tensors_);
        break;
      case Kind::constant:
        op.values = reader.numbers(elements(to), "constants");
        break;
      case Kind::softmax:
      case Kind::layer_norm:
        require(same(from, to), "an operation over channels changes the shape");
        op.size = reader.next(1, kMaxCount, "a number of channels");
        require(to.c % op.size == 0, "the groups of an operation do not divide its channels");
        if (op.kind == Kind::softmax) break;
        op.epsilon = reader.number();
        require(op.epsilon >= 0, "an epsilon is negative");
        op.bias = reader.numbers(op.size, "biases");
        op.scale = reader.numbers(op.size, "scales");
        break;
      case Kind::matmul:
        read_matmul(reader, op, tensors_);
        break;
    }
    made[op.target] = true;
    ops_.push_back(std::move(op));
  }
  require(made[output_], "the output is never written");
  require(tensors_[output_].h == 1 && tensors_[output_].w == 1, "the output must hold one value a class");
}

}  // namespace scpu
