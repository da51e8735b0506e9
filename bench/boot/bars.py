# SPDX-License-Identifier: Apache-2.0
"""Plots as SVG: panels of horizontal bars, of stacked bars, and of points with intervals, every label upright next to its row."""
import dataclasses
import html
import math

# the same colours everywhere: what riffle measured, what the paper says, and further parts or series
OURS, PAPER, INK, GRID = "#4477aa", "#cc6677", "#222222", "#dddddd"
COLOURS = (OURS, PAPER, "#ddaa33", "#228833", "#aa3377")
WIDTH, LABELS, RIGHT, ROW, TITLE = 860, 230, 120, 22, 34
FONT = 'font-family="sans-serif"'


@dataclasses.dataclass
class Row:
    """A bar, or several side by side (`values`), or one of parts (`parts`); `low` and `high` bound the first value."""
    label: str
    values: tuple = ()
    low: float = None
    high: float = None
    parts: tuple = ()
    text: str = ""


@dataclasses.dataclass
class Panel:
    title: str
    groups: list        # [(name, [Row])]; a name may be empty


def text(x, y, words, size=12, anchor="start", weight="normal", colour=INK):
    return (f'<text x="{x:.1f}" y="{y:.1f}" {FONT} font-size="{size}" text-anchor="{anchor}" font-weight="{weight}" '
            f'fill="{colour}">{html.escape(words)}</text>')


def rectangle(x, y, width, height, colour):
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.5):.1f}" height="{height:.1f}" fill="{colour}"/>'


def line(x1, y1, x2, y2, colour, width=1, dash=""):
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width}"{dashes}/>'


def steps(least, most, logarithmic):
    """Where the axis has marks: four to ten of them, at round numbers."""
    if logarithmic:
        marks = [m * 10.0 ** e for e in range(-3, 7) for m in (1, 2, 5)]
        return [m for m in marks if least <= m * 1.0001 and m <= most * 1.0001]
    step = 10.0 ** math.floor(math.log10((most - least) / 4))
    step *= next(m for m in (1, 2, 5, 10) if (most - least) / (step * m) <= 8)
    first = math.ceil(least / step - 1e-9)
    return [n * step for n in range(first, int(most / step + 1e-9) + 1)]


class Axis:
    def __init__(self, least, most, logarithmic, base):
        self.least, self.most, self.logarithmic, self.base = least, most, logarithmic, base
        self.marks = steps(least, most, logarithmic)

    def at(self, value):
        place = math.log if self.logarithmic else (lambda v: v)
        value = min(max(value, self.least), self.most)
        return LABELS + (WIDTH - LABELS - RIGHT) * (place(value) - place(self.least)) / (place(self.most) - place(self.least))


def number(value):
    return f"{value:.4g}"


def bar_row(axis, row, top, colours):
    """Bars side by side, from the base to each value, the first with its interval, and the row's text at the end."""
    out, ends = [], [axis.at(axis.base)]
    there = [v for v in row.values if v is not None]
    height = (ROW - 6) / max(len(row.values), 1)
    if row.parts:
        start = axis.base
        for part, colour in zip(row.parts, colours):
            if part:
                out.append(rectangle(axis.at(start), top + 3, axis.at(start + part) - axis.at(start), ROW - 6, colour))
                start += part
        ends.append(axis.at(start))
    for n, value in enumerate(row.values):
        if value is None:
            continue
        left, right = sorted((axis.at(axis.base), axis.at(value)))
        out.append(rectangle(left, top + 3 + n * height, right - left, height, colours[n]))
        ends.append(right)
    if row.low is not None and there:
        middle = top + 3 + height / 2
        out.append(line(axis.at(row.low), middle, axis.at(row.high), middle, INK))
        ends.append(axis.at(row.high))
    return out + [text(max(ends) + 6, top + ROW / 2 + 4, row.text, 11)]


def point_row(axis, row, top, colours):
    out = []
    height = (ROW - 6) / max(len(row.values), 1)
    for n, value in enumerate(row.values):
        middle = top + 3 + (n + 0.5) * height
        if value is None:
            continue
        mean, low, high = value
        out.append(line(axis.at(low), middle, axis.at(high), middle, colours[n], 1.5))
        out.append(f'<circle cx="{axis.at(mean):.1f}" cy="{middle:.1f}" r="3" fill="{colours[n]}"/>')
    return out


def plot(title, caption, panels, legend, axis_label, axes, colours=COLOURS, row=bar_row, rules=()):
    """
    An SVG document. `axes`: an Axis for each panel. `legend`: texts in the order of the colours. `caption`: lines below
    the title that say what is better. `rules`: (value, colour index, text), dashed across every panel.
    """
    out, y = [], 26
    out.append(text(16, y, title, 15, weight="bold"))
    for words in caption:
        y += 18
        out.append(text(16, y, words, 12))
    y += 24
    x = 16
    for words, colour in zip(legend, colours):
        out += [rectangle(x, y - 10, 12, 12, colour), text(x + 18, y, words, 12)]
        x += 34 + 6.9 * len(words)
    y += 10
    for panel, axis in zip(panels, axes):
        y += TITLE
        out.append(text(16, y - 10, panel.title, 13, weight="bold"))
        top = y
        rows = []
        for name, group in panel.groups:
            if name:
                rows.append(text(16, y + ROW / 2 + 4, name, 12, weight="bold", colour="#555555"))
                y += ROW
            for one in group:
                rows.append(text(LABELS - 8, y + ROW / 2 + 4, one.label, 12, "end"))
                rows += row(axis, one, y, colours)
                y += ROW
        for mark in axis.marks:
            out.append(line(axis.at(mark), top, axis.at(mark), y, GRID))
            out.append(text(axis.at(mark), y + 14, number(mark), 11, "middle"))
        if axis.least <= axis.base <= axis.most:
            out.append(line(axis.at(axis.base), top, axis.at(axis.base), y, INK))
        for value, colour, _ in rules:
            out.append(line(axis.at(value), top, axis.at(value), y, colours[colour], 1, "4 3"))
        out += rows
        y += 20
    out.append(text(LABELS + (WIDTH - LABELS - RIGHT) / 2, y + 12, axis_label, 12, "middle"))
    height = y + 26
    return (f'<?xml version="1.0" encoding="utf-8"?>\n<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
            f'viewBox="0 0 {WIDTH} {height}">\n{rectangle(0, 0, WIDTH, height, "white")}\n' + "\n".join(out) + "\n</svg>\n")
