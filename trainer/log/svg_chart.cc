#include "trainer/log/svg_chart.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include <fmt/format.h>

namespace switchyard::trainer {
namespace {

using Points = std::vector<std::pair<double, double>>;

// Of the drawing and of the plotted area within it.
constexpr double kWidth = 720, kHeight = 280;
constexpr double kLeft = 64, kRight = 708, kTop = 12, kBottom = 236;
constexpr size_t kMostPoints = 400, kMostColumns = 160;
constexpr size_t kColors = 8;

// Numbers onto pixels, with ticks at round numbers.
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
  std::vector<double> ticks() const {
    std::vector<double> ticks;
    for (int i = 0; low_ + i * step_ <= high_ + step_ / 1000; ++i)
      ticks.push_back(low_ + i * step_);
    return ticks;
  }
  std::string label(double tick) const {
    if (std::abs(tick) < step_ / 1000) return "0";
    return short_number(tick);
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
  for (const double tick : axis.ticks())
    svg += text(axis.at(tick), kBottom + 18, "middle", axis.label(tick));
  return svg + text((kLeft + kRight) / 2, kBottom + 38, "middle", label);
}

std::string figure(const std::string& title, const std::string& legend, const std::string& body) {
  return fmt::format(
      "<figure><figcaption>{}{}</figcaption>\n<svg viewBox=\"0 0 {} {}\" role=\"img\" "
      "aria-label=\"{}\">\n{}</svg></figure>\n",
      escaped(title), legend, kWidth, kHeight, escaped(title), body);
}

// Means of neighbours, each over as many points.
Points thinned(const Points& points) {
  if (points.size() <= kMostPoints) return points;
  const size_t each = (points.size() + kMostPoints - 1) / kMostPoints;
  Points means;
  for (size_t i = 0; i < points.size(); i += each) {
    const size_t end = std::min(points.size(), i + each);
    double x = 0, y = 0;
    for (size_t j = i; j < end; ++j) x += points[j].first, y += points[j].second;
    means.emplace_back(x / static_cast<double>(end - i), y / static_cast<double>(end - i));
  }
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

// Columns of at most kMostColumns stretches of time, each the mean of the columns in it.
HeatMap thinned(const HeatMap& map) {
  const size_t each = (map.columns.size() + kMostColumns - 1) / kMostColumns;
  HeatMap result{map.title, map.x_label};
  for (size_t i = 0; i < map.columns.size(); i += each) {
    const size_t end = std::min(map.columns.size(), i + each);
    std::vector<double> sum(map.columns[i].size());
    for (size_t j = i; j < end; ++j)
      for (size_t row = 0; row < sum.size() && row < map.columns[j].size(); ++row)
        sum[row] += map.columns[j][row];
    result.x.push_back(map.x[end - 1]);
    result.columns.push_back(std::move(sum));
  }
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
  for (const double tick : y.ticks()) {
    body += fmt::format("<path class=\"grid\" d=\"M{} {:.1f}H{}\"/>", kLeft, y.at(tick), kRight);
    body += text(kLeft - 8, y.at(tick) + 4, "end", y.label(tick));
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
  static const char* kLight[kColors] = {"#2563a8", "#c2571a", "#2f8543", "#a03070",
                                        "#6b4fa8", "#8a6d1f", "#147d8a", "#6b6b6b"};
  static const char* kDark[kColors] = {"#6aa9ec", "#f0935a", "#6cc784", "#e27fb4",
                                       "#ab93e8", "#d6b655", "#5cc4d1", "#b0b0b0"};
  std::string light, dark, rules;
  for (size_t i = 0; i < kColors; ++i) {
    light += fmt::format("--c{}:{};", i, kLight[i]);
    dark += fmt::format("--c{}:{};", i, kDark[i]);
    rules += fmt::format(".curve.c{0}{{stroke:var(--c{0})}}.dot.c{0}{{fill:var(--c{0})}}\n", i);
  }
  return fmt::format(
      ":root{{color-scheme:light dark;--ground:#fff;--text:#1c1c1c;--grid:#e2e2e2;{}}}\n"
      "@media(prefers-color-scheme:dark){{:root{{--ground:#16181b;--text:#e4e4e4;--grid:#33373c;{}"
      "}}}}\n"
      "figure{{margin:0}}figcaption{{font-weight:600}}\n"
      "figure>svg{{width:100%;height:auto;font:12px sans-serif;fill:var(--text)}}\n"
      ".legend{{font-weight:400;font-size:.85em;margin-left:1em}}.legend "
      "span{{margin-right:1em;white-space:nowrap}}\n"
      ".legend svg{{width:14px;height:10px;margin-right:4px}}\n"
      ".grid{{stroke:var(--grid);fill:none}}.cell{{fill:var(--c0)}}\n"
      ".curve{{fill:none;stroke-width:1.6;stroke-linejoin:round}}\n{}",
      light, dark, rules);
}

std::string short_number(double value) {
  constexpr double kLongest = 10'000;  // in full
  const char* unit = "";
  if (std::abs(value) >= kLongest) {
    for (const char* next : {"k", "M", "G", "T"}) {
      if (std::abs(value) < 1000) break;
      value /= 1000;
      unit = next;
    }
  }
  return fmt::format("{:.4g}{}", value, unit);
}

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

}  // namespace switchyard::trainer
