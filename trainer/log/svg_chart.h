#pragma once
// Charts as SVG elements for an HTML page. They take their colours from the page's style sheet:
// chart_style().

#include <string>
#include <utility>
#include <vector>

namespace switchyard::trainer {

struct Curve {
  std::string label;
  std::vector<std::pair<double, double>> points =
      {};                  // (x, y), x growing; values not finite break it
  bool dots_only = false;  // no line: single events
};

// Curves over a common x axis that begins at 0. At most a few hundred points of a curve are drawn:
// of more, means of neighbours.
struct LineChart {
  std::string title, x_label;
  std::vector<Curve> curves = {};
  bool from_zero = false;  // the y axis begins at 0, whatever the values are
};

// One row per expert, one column per point of time; a cell's strength is its value over the mean of
// its column: none at 0, full at twice the mean and above.
struct HeatMap {
  std::string title, x_label;
  std::vector<double> x = {};                     // of the columns, growing
  std::vector<std::vector<double>> columns = {};  // [x][row]
};

// A <figure>: the title, a legend where there are several curves, and the drawing. Text is escaped.
std::string render(const LineChart& chart);
std::string render(const HeatMap& map);

// The rules of CSS that the figures need, readable on light and on dark ground.
std::string chart_style();

// A number for people: "1.5", "0.003", from 10,000 on with a unit: "12.5k", "31.5M".
std::string short_number(double value);

// Text for HTML: &, <, > and quotes replaced.
std::string escaped(const std::string& text);

}  // namespace switchyard::trainer
