#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws the loss of a training run, and its evaluations, as an SVG picture.

  plot-training.py METRICS.jsonl -o PICTURE.svg [--title=TEXT] [--field=loss]

METRICS.jsonl is what llmrt run --metrics wrote. The thin line is each step, the
thick one their mean with weights that fall by 0.9 a step, dots are evaluations.
"""
import argparse
import json
import pathlib
from html import escape

WIDTH, HEIGHT = 720, 360
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 36, 44
COLORS = ["#c0392b", "#1e8449", "#7d3c98", "#b9770e"]


def read(path, field):
    """Steps [(step, value)] and evaluations {name: [(step, loss)]}."""
    steps, evaluations = [], {}
    for line in pathlib.Path(path).read_text().splitlines():
        record = json.loads(line)
        if "evaluation" in record:
            evaluations.setdefault(record["evaluation"], []).append(
                (record["step"], record["loss"]))
        elif record.get(field) is not None:
            steps.append((record["step"], record[field]))
    return steps, evaluations


def smoothed(steps):
    total = weight = 0.0
    points = []
    for step, value in steps:
        total, weight = 0.9 * total + value, 0.9 * weight + 1
        points.append((step, total / weight))
    return points


def round_step(span):
    """A step of 1, 2 or 5 times a power of ten: four to nine of them in the span."""
    power = 10.0 ** -6
    while True:
        for factor in (1, 2, 5):
            if span / (factor * power) < 9:
                return factor * power
        power *= 10


class Picture:
    def __init__(self, points):
        xs, ys = zip(*points)
        self.x0, self.x1 = min(xs), max(max(xs), min(xs) + 1)
        margin = 0.05 * (max(ys) - min(ys) or 1)
        self.y0, self.y1 = min(ys) - margin, max(ys) + margin
        self.parts = []

    def place(self, x, y):
        across, up = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
        return (LEFT + across * (x - self.x0) / (self.x1 - self.x0),
                HEIGHT - BOTTOM - up * (y - self.y0) / (self.y1 - self.y0))

    def text(self, x, y, text, anchor="middle", color="#333"):
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" '
                          f'fill="{color}">{escape(text)}</text>')

    def line(self, points, color, width):
        path = " ".join("%.1f,%.1f" % self.place(*p) for p in points)
        self.parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" '
                          f'stroke-width="{width}"/>')

    def dots(self, points, color):
        for point in points:
            x, y = self.place(*point)
            self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{color}"/>')

    def axes(self, field):
        for low, high, vertical in ((self.y0, self.y1, True), (self.x0, self.x1, False)):
            step = round_step(high - low)
            tick = step * -(-low // step)
            while tick <= high:
                x, y = self.place(self.x0 if vertical else tick,
                                  tick if vertical else self.y0)
                end = (WIDTH - RIGHT, y) if vertical else (x, TOP)
                self.parts.append(f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{end[0]:.1f}" '
                                  f'y2="{end[1]:.1f}" stroke="#ddd"/>')
                if vertical:
                    self.text(x - 6, y + 4, f"{tick:.4g}", "end")
                else:
                    self.text(x, y + 18, f"{tick:.6g}")
                tick += step
        self.text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, "step")
        self.text(LEFT - 40, TOP - 10, field, "start")

    def svg(self):
        body = "\n".join(self.parts)
        return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" '
                f'height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" '
                f'font-family="sans-serif" font-size="12">\n'
                f'<rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n')


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("metrics")
    parser.add_argument("-o", required=True)
    parser.add_argument("--title", default="")
    parser.add_argument("--field", default="loss")
    options = parser.parse_args()
    steps, evaluations = read(options.metrics, options.field)
    shown = evaluations if options.field == "loss" else {}
    if not steps:
        raise SystemExit(f"{options.metrics}: no step has a field {options.field}")
    picture = Picture(steps + [p for points in shown.values() for p in points])
    picture.axes(options.field)
    picture.line(steps, "#aac4e0", 1)
    picture.line(smoothed(steps), "#1f4e79", 2)
    picture.text(WIDTH - RIGHT, TOP - 18, options.title, "end")
    for i, (name, points) in enumerate(shown.items()):
        color = COLORS[i % len(COLORS)]
        picture.line(points, color, 1)
        picture.dots(points, color)
        picture.text(WIDTH - RIGHT - 6, TOP + 16 + 16 * i, name, "end", color)
    pathlib.Path(options.o).write_text(picture.svg())


if __name__ == "__main__":
    main()
