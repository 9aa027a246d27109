#!/usr/bin/env python3
"""Charts as SVG text, without libraries.

    charts.py X_AXIS Y_AXIS < POINTS > FILE      a line chart

A line of POINTS is `label TAB color TAB run TAB x TAB y`; points of one label and run make one line.
"""
import sys
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 640, 380
LEFT, RIGHT, TOP, BOTTOM = 60, 620, 30, 330  # of the plotted area
PALETTE = ("#1f5fa8", "#c2571a", "#3d8a45", "#7a4fa3", "#8a6d1f", "#b0285c")


@dataclass
class Line:
    label: str
    color: str
    points: list  # (x, y); lines of one label have one entry in the legend


@dataclass
class Column:
    label: str
    values: list  # one per seed


class Axis:
    """Numbers onto pixels; a constant range is widened."""

    def __init__(self, low, high, begin, end):
        self.low, self.high = low, high if high > low else low + 1
        self.begin, self.end = begin, end

    def at(self, value):
        return self.begin + (self.end - self.begin) * (value - self.low) / (self.high - self.low)

    def ticks(self):
        return [self.low + (self.high - self.low) * i / 5 for i in range(6)]


def number(value, axis):
    """As many decimals as tell the axis's ticks apart."""
    step = (axis.high - axis.low) / 5
    return f"{value:.{0 if step >= 10 else 1 if step >= 1 else 2 if step >= 0.05 else 3}f}"


def text(x, y, content, anchor="start", color="black"):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}">{escape(content)}</text>'


def frame(y_axis, y_label, body):
    grid = []
    for tick in y_axis.ticks():
        grid.append(f'<path d="M{LEFT} {y_axis.at(tick):.1f}H{RIGHT}" stroke="#ddd"/>')
        grid.append(text(LEFT - 8, y_axis.at(tick) + 4, number(tick, y_axis), "end"))
    head = (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
            f'font-size="12">\n<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>')
    return "\n".join([head, *grid, text(LEFT, 18, y_label), *body, "</svg>"]) + "\n"


def line_chart(lines, x_label, y_label):
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points]
    x_axis = Axis(0, max(xs, default=1), LEFT, RIGHT)
    y_axis = Axis(min(ys, default=0), max(ys, default=1), BOTTOM, TOP)
    body = [text(x_axis.at(tick), BOTTOM + 18, number(tick, x_axis), "middle") for tick in x_axis.ticks()]
    body.append(text((LEFT + RIGHT) / 2, BOTTOM + 40, x_label, "middle"))
    for line in lines:
        points = " ".join(f"{x_axis.at(x):.1f},{y_axis.at(y):.1f}" for x, y in line.points)
        body.append(f'<polyline fill="none" stroke-width="1.2" stroke="{line.color}" points="{points}"/>')
    legend = {line.label: line.color for line in lines}
    for row, (label, color) in enumerate(legend.items()):
        body.append(text(RIGHT - 4, TOP + 14 + 17 * row, label, "end", color))
    return frame(y_axis, y_label, body)


def dot_chart(columns, y_label):
    """A column of dots per arm, with a bar at the mean."""
    values = [value for column in columns for value in column.values]
    low, high = min(values, default=0), max(values, default=1)
    margin = (high - low) * 0.08
    y_axis = Axis(low - margin, high + margin, BOTTOM, TOP)
    x_axis = Axis(0, len(columns), LEFT, RIGHT)
    body = []
    for i, column in enumerate(columns):
        color, center = PALETTE[i % len(PALETTE)], x_axis.at(i + 0.5)
        for value in column.values:
            body.append(f'<circle cx="{center:.1f}" cy="{y_axis.at(value):.1f}" r="3" fill="{color}" fill-opacity="0.5"/>')
        if column.values:
            mean = y_axis.at(sum(column.values) / len(column.values))
            body.append(f'<path d="M{center - 16:.1f} {mean:.1f}h32" stroke="{color}" stroke-width="2"/>')
        body.append(text(center, BOTTOM + 18 + 16 * (i % 2), column.label, "middle"))
    return frame(y_axis, y_label, body)


def main():
    if len(sys.argv) != 3 or sys.argv[1] in ("-h", "--help"):
        print(__doc__.strip(), file=sys.stderr)
        return 2
    lines = {}
    for row in sys.stdin.read().splitlines():
        label, color, run, x, y = row.split("\t")
        lines.setdefault((label, run), Line(label, color, [])).points.append((float(x), float(y)))
    print(line_chart(list(lines.values()), sys.argv[1], sys.argv[2]), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
