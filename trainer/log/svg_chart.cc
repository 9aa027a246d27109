#include "trainer/log/svg_chart.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string_view>

#include <fmt/format.h>

namespace switchyard::trainer {
namespace {

using Points = std::vector<std::pair<double, double>>;

// The edges of the drawing and of the plotted area within it, in pixels.
constexpr double kWidth = 720, kHeight = 280;
constexpr double kLeft = 64, kRight = 708, kTop = 12, kBottom = 236;
constexpr size_t kMostPoints = 400, kMostColumns = 160;
constexpr size_t kColors = 8;

// Puts numbers onto pixels, with ticks at round numbers.
class Axis {
 public:
  Axis(double low, double high, double begin, double end) : begin_(begin), end_(end) {
    if (!(high > low)) high = low + (low == 0 ? 1 : std::abs(low) / 10);
    constexpr double kTicks = 5;
    const double raw = (high - low) / kTicks, power = std::pow(10, std::floor(std::log10(raw)));
    for (const double factor : {1.0, 2.0, 5.0, 10.0})
      if ((step_ = factor * power) >= raw) break;
    low_ = std::floor(low / step_) * step_;
    high_ = std::ceil(high / step_) * step_;
  }

  // Ends where the values do, not at the tick after them.
  void end_at(double high) { high_ = std::max(high, low_ + step_ / 10); }

  double at(double value) const {
    return begin_ + (end_ - begin_) * (value - low_) / (high_ - low_);
  }
  // Each tick's pixel with its label.
  std::vector<std::pair<double, std::string>> ticks() const {
    std::vector<std::pair<double, std::string>> ticks;
    const double tiny = step_ / 1000;
    for (double tick; (tick = low_ + static_cast<double>(ticks.size()) * step_) <= high_ + tiny;)
      ticks.emplace_back(at(tick), std::abs(tick) < tiny ? "0" : short_number(tick));
    return ticks;
  }

 private:
  double begin_, end_, low_ = 0, high_ = 1, step_ = 1;
};

std::string text(double x, double y, const char* anchor, const std::string& content) {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\">{}</text>\n", x, y, anchor,
                     escaped(content));
}

std::string x_axis(const Axis& axis, const std::string& label) {
  std::string svg;
  for (const auto& [x, tick] : axis.ticks()) svg += text(x, kBottom + 18, "middle", tick);
  return svg + text((kLeft + kRight) / 2, kBottom + 38, "middle", label);
}

std::string figure(const std::string& title, const std::string& legend, const std::string& body) {
  return fmt::format(
      "<figure><figcaption>{}{}</figcaption>\n<svg viewBox=\"0 0 {} {}\" role=\"img\" "
      "aria-label=\"{}\">\n{}</svg></figure>\n",
      escaped(title), legend, kWidth, kHeight, escaped(title), body);
}

// Calls visit(begin, end) for at most `most` stretches of neighbours that together are all `size`.
template <typename Visit>
void for_each_stretch(size_t size, size_t most, Visit visit) {
  const size_t each = (size + most - 1) / most;
  for (size_t i = 0; i < size; i += each) visit(i, std::min(size, i + each));
}

// At most kMostPoints points: of more, means of neighbours.
Points thinned(const Points& points) {
  Points means;
  for_each_stretch(points.size(), kMostPoints, [&](size_t begin, size_t end) {
    double x = 0, y = 0;
    for (size_t i = begin; i < end; ++i) x += points[i].first, y += points[i].second;
    const auto count = static_cast<double>(end - begin);
    means.emplace_back(x / count, y / count);
  });
  return means;
}

std::string drawn(const Curve& curve, size_t color, const Axis& x, const Axis& y) {
  const Points points = curve.dots_only ? curve.points : thinned(curve.points);
  std::string path, dots;
  bool pen_down = false;
  for (const auto& [at, value] : points) {
    if (!std::isfinite(value)) {
      pen_down = false;
      continue;
    }
    path += fmt::format("{}{:.1f} {:.1f}", pen_down ? "L" : "M", x.at(at), y.at(value));
    pen_down = true;
    if (curve.dots_only || points.size() == 1)
      dots += fmt::format("<circle class=\"dot c{}\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3.5\"/>\n",
                          color, x.at(at), y.at(value));
  }
  if (curve.dots_only) return dots;
  return dots + fmt::format("<path class=\"curve c{}\" d=\"{}\"><title>{}</title></path>\n", color,
                            path, escaped(curve.label));
}

std::string legend_of(const std::vector<Curve>& curves) {
  if (curves.size() < 2) return "";
  std::string legend = "<span class=\"legend\">";
  for (size_t i = 0; i < curves.size(); ++i)
    legend += fmt::format(
        "<span><svg viewBox=\"0 0 14 10\"><path class=\"curve c{}\" d=\"M0 "
        "5H14\"/></svg>{}</span>",
        i % kColors, escaped(curves[i].label));
  return legend + "</span>";
}

// At most kMostColumns columns: of more, sums of neighbours, since only ratios are drawn.
HeatMap thinned(const HeatMap& map) {
  HeatMap result{map.title, map.x_label};
  for_each_stretch(map.columns.size(), kMostColumns, [&](size_t begin, size_t end) {
    std::vector<double> sum(map.columns[begin].size());
    for (size_t i = begin; i < end; ++i)
      for (size_t row = 0; row < std::min(sum.size(), map.columns[i].size()); ++row)
        sum[row] += map.columns[i][row];
    result.x.push_back(map.x[end - 1]);
    result.columns.push_back(std::move(sum));
  });
  return result;
}

}  // namespace

std::string render(const LineChart& chart) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  double last = 0, low = kInfinity, high = -kInfinity;
  for (const Curve& curve : chart.curves)
    for (const auto& [x, y] : thinned(curve.points)) {
      last = std::max(last, x);
      if (!std::isfinite(y)) continue;
      low = std::min(low, y);
      high = std::max(high, y);
    }
  if (low > high) low = 0, high = 1;
  Axis x(0, last, kLeft, kRight);
  x.end_at(last);
  const Axis y(chart.from_zero ? std::min(0.0, low) : low, high, kBottom, kTop);
  std::string body;
  for (const auto& [at, tick] : y.ticks()) {
    body += fmt::format("<path class=\"grid\" d=\"M{} {:.1f}H{}\"/>", kLeft, at, kRight);
    body += text(kLeft - 8, at + 4, "end", tick);
  }
  body += x_axis(x, chart.x_label);
  for (size_t i = 0; i < chart.curves.size(); ++i)
    body += drawn(chart.curves[i], i % kColors, x, y);
  return figure(chart.title, legend_of(chart.curves), body);
}

std::string render(const HeatMap& all) {
  const HeatMap map = thinned(all);
  const size_t rows = map.columns.empty() ? 1 : std::max<size_t>(1, map.columns[0].size());
  const double last = map.x.empty() ? 1 : map.x.back();
  Axis x(0, last, kLeft, kRight);
  x.end_at(last);
  const double height = (kBottom - kTop) / static_cast<double>(rows);
  std::string body;
  for (size_t i = 0; i < map.columns.size(); ++i) {
    const std::vector<double>& column = map.columns[i];
    const double sum = std::accumulate(column.begin(), column.end(), 0.0);
    const double left = i == 0 ? kLeft : x.at(map.x[i - 1]), width = x.at(map.x[i]) - left;
    for (size_t row = 0; row < column.size() && sum > 0; ++row) {
      const double ratio = column[row] / sum * static_cast<double>(column.size());
      body += fmt::format(
          "<rect class=\"cell\" x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.2f}\" height=\"{:.2f}\" "
          "fill-opacity=\"{:.2f}\"/>\n",
          left, kTop + height * static_cast<double>(row), width + 0.3, height,
          std::min(1.0, ratio / 2));
    }
  }
  const size_t every = (rows + 15) / 16;
  for (size_t row = 0; row < rows; row += every)
    body += text(kLeft - 8, kTop + height * (static_cast<double>(row) + 0.5) + 4, "end",
                 std::to_string(row));
  body += x_axis(x, map.x_label);
  return figure(map.title, "", body);
}

std::string chart_style() {
  std::string style = R"(:root{color-scheme:light dark;--ground:#fff;--text:#1c1c1c;--grid:#e2e2e2;
--c0:#2563a8;--c1:#c2571a;--c2:#2f8543;--c3:#a03070;--c4:#6b4fa8;--c5:#8a6d1f;--c6:#147d8a;--c7:#6b6b6b}
@media(prefers-color-scheme:dark){:root{--ground:#16181b;--text:#e4e4e4;--grid:#33373c;
--c0:#6aa9ec;--c1:#f0935a;--c2:#6cc784;--c3:#e27fb4;--c4:#ab93e8;--c5:#d6b655;--c6:#5cc4d1;--c7:#b0b0b0}}
figure{margin:0}figcaption{font-weight:600}
figure>svg{width:100%;height:auto;font:12px sans-serif;fill:var(--text)}
.legend{font-weight:400;font-size:.85em;margin-left:1em}.legend span{margin-right:1em;white-space:nowrap}
.legend svg{width:14px;height:10px;margin-right:4px}
.grid{stroke:var(--grid);fill:none}.cell{fill:var(--c0)}
.curve{fill:none;stroke-width:1.6;stroke-linejoin:round}
)";
  for (size_t i = 0; i < kColors; ++i)
    style += fmt::format(".curve.c{0}{{stroke:var(--c{0})}}.dot.c{0}{{fill:var(--c{0})}}\n", i);
  return style;
}

std::string short_number(double value) {
  constexpr double kLongest = 10'000;  // in full
  std::string unit;
  if (std::abs(value) >= kLongest)
    for (const char* next : {"k", "M", "G", "T"}) {
      if (std::abs(value) < 1000) break;
      value /= 1000;
      unit = next;
    }
  return fmt::format("{:.4g}{}", value, unit);
}

std::string escaped(const std::string& text) {
  constexpr std::string_view kSpecial = "&<>\"";
  constexpr const char* kEntities[] = {"&amp;", "&lt;", "&gt;", "&quot;"};
  std::string out;
  for (const char c : text) {
    const size_t at = kSpecial.find(c);
    out += at == kSpecial.npos ? std::string(1, c) : kEntities[at];
  }
  return out;
}

}  // namespace switchyard::trainer
