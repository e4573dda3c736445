// How images lie in vector lanes. A plane (one channel) is cut into a grid of equal blocks, and lane l of every vector
// belongs to one block of one image: shifting a window by a pixel is then another vector, never another alignment, and one
// kernel serves a single image (all lanes from one plane) and a large batch (every lane another image) alike.
#pragma once

#include <cstdint>
#include <vector>

#include "border.hpp"

namespace scpu {

struct Fold {
  int images, rows, cols;  // lane = (image * rows + row) * cols + col; lanes beyond are unused

  bool operator==(const Fold& o) const { return images == o.images && rows == o.rows && cols == o.cols; }
};

// Where the values of a tensor lie in memory: planes of lines, each line one vector.
struct Layout {
  Fold fold;
  int lanes;         // of a vector
  int c, h, w;       // of one image
  int bh, bw;        // of a block; rows * bh >= h, cols * bw >= w
  float outside;     // what lies outside the image: 0, or minus infinity for maxima
  int top, left, bottom, right;  // margins around a block, which hold its neighbours' pixels or `outside`

  bool same_blocks(const Layout& o) const { return fold == o.fold && bh == o.bh && bw == o.bw; }
  int64_t row_lines() const { return left + bw + right; }
  int64_t plane_lines() const { return ((top + bh + bottom) * row_lines()) | 1; }  // odd, to spread over cache sets
  int64_t lines() const { return c * plane_lines(); }
  int64_t line(int y, int x) const { return (top + y) * row_lines() + left + x; }

  // The pixel (by reference) of a lane at a place of its block, which may be in the margins; false if outside the image.
  bool pixel(int lane, int y, int x, int& image, int& py, int& px) const;
  // The line and lane where a pixel of an image is kept.
  void place(int image, int py, int px, int64_t& line, int& lane) const;
};

// Everything that has to be copied or overwritten around and inside the blocks of a plane before windows may read it.
struct Borders {
  std::vector<Border> places;
  std::vector<int32_t> shuffles;  // lanes each: the source lane, or -1 for `outside`
};

Borders borders(const Layout& layout);

}  // namespace scpu
