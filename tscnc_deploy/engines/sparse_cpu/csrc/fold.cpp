#include "fold.hpp"

#include <map>

namespace scpu {

bool Layout::pixel(int lane, int y, int x, int& image, int& py, int& px) const {
  if (lane >= fold.images * fold.rows * fold.cols) return false;
  image = lane / (fold.rows * fold.cols);
  py = lane / fold.cols % fold.rows * bh + y;
  px = lane % fold.cols * bw + x;
  return py >= 0 && py < h && px >= 0 && px < w;
}

void Layout::place(int image, int py, int px, int64_t& line_, int& lane) const {
  line_ = line(py % bh, px % bw);
  lane = (image * fold.rows + py / bh) * fold.cols + px / bw;
}

Borders borders(const Layout& layout) {
  Borders result;
  std::map<std::vector<int32_t>, uint32_t> known;
  const bool exact = layout.fold.rows * layout.bh == layout.h && layout.fold.cols * layout.bw == layout.w;
  for (int y = -layout.top; y < layout.bh + layout.bottom; y++) {
    for (int x = -layout.left; x < layout.bw + layout.right; x++) {
      const bool inside = y >= 0 && y < layout.bh && x >= 0 && x < layout.bw;
      if (inside && exact) continue;
      std::vector<int32_t> shuffle(layout.lanes, -1);
      int64_t source = layout.line(y, x);
      bool as_it_is = inside;
      for (int lane = 0; lane < layout.lanes; lane++) {
        int image, py, px;
        // All lanes of a line are shifted alike, so they share one source line.
        if (layout.pixel(lane, y, x, image, py, px)) layout.place(image, py, px, source, shuffle[lane]);
        const bool used = lane < layout.fold.images * layout.fold.rows * layout.fold.cols;
        as_it_is &= !used || shuffle[lane] == lane;
      }
      if (as_it_is) continue;
      const auto [entry, fresh] = known.try_emplace(shuffle, uint32_t(known.size()));
      if (fresh) result.shuffles.insert(result.shuffles.end(), shuffle.begin(), shuffle.end());
      result.places.push_back({uint32_t(layout.line(y, x)), uint32_t(source), entry->second});
    }
  }
  return result;
}

}  // namespace scpu
