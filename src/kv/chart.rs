//! Pictures as SVG: hit rate over capacity, with solid lines for what was replayed and dashed ones for what a live curve says,
//! and distributions of times ([`spreads`]).
use super::curve::CurveReport;
use super::policy::Kind;
use super::replay::Row;
use std::fmt::Write;

mod spread;

pub use spread::{Spread, spreads};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 440.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 110.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 60.0;
/// Least distance of two labels at the ends of their lines.
const LABEL: f64 = 15.0;
/// Told apart by people with any colour vision (Okabe and Ito); ours is the black one.
const COLOURS: [&str; 7] = ["#000000", "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

struct Scale {
    smallest: f64,
    octaves: f64,
    most: f64,
}

/// What a policy reached, by capacity.
struct Line<'a> {
    policy: &'a str,
    points: Vec<(usize, f64)>,
    /// Estimated, not replayed.
    live: bool,
}

impl Line<'_> {
    fn colour(&self) -> &'static str {
        let at = Kind::ALL.iter().rev().position(|kind| kind.name() == self.policy).unwrap_or(0);
        COLOURS[at % COLOURS.len()]
    }
}

impl Scale {
    fn new(lines: &[Line<'_>]) -> Self {
        let points = || lines.iter().flat_map(|line| &line.points);
        let capacities = || points().map(|&(capacity, _)| capacity.max(1) as f64);
        let (smallest, largest) = (capacities().fold(f64::MAX, f64::min), capacities().fold(1.0, f64::max));
        let highest = points().map(|point| point.1).fold(0.0, f64::max);
        Scale {
            smallest,
            octaves: (largest / smallest).log2().max(1e-9),
            most: ((highest / 10.0).ceil() * 10.0).max(10.0),
        }
    }

    fn x(&self, capacity: usize) -> f64 {
        LEFT + (capacity.max(1) as f64 / self.smallest).log2() / self.octaves * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, percent: f64) -> f64 {
        HEIGHT - BOTTOM - percent / self.most * (HEIGHT - TOP - BOTTOM)
    }
}

/// One line for each policy, over a logarithmic scale of capacities, and the live curve of one of the caches. An empty string
/// for no rows.
pub fn svg(title: &str, rows: &[Row], live: Option<&CurveReport>) -> String {
    let mut out = String::new();
    let replayed = rows.iter().map(|row| (row.policy, row.capacity, row.hit_percent));
    let mut lines = group(replayed, false);
    let points = live.iter().flat_map(|live| &live.points);
    lines.extend(group(points.map(|what| (what.policy, what.pages, what.hit_percent)), true));
    if lines.is_empty() {
        return out;
    }
    let scale = Scale::new(&lines);
    let size = format!(r#"viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}""#);
    let _ = writeln!(
        out,
        r#"<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12" role="img">
<rect width="100%" height="100%" fill="white"/>
<text x="{LEFT}" y="26" font-size="15">{}</text>"#,
        escape(title)
    );
    axes(&mut out, &scale, &lines);
    lines.iter().for_each(|line| draw(&mut out, &scale, line));
    labels(&mut out, &scale, &lines);
    if let Some(live) = live {
        legend(&mut out, live);
    }
    out.push_str("</svg>\n");
    out
}

/// Points by policy, in the order of their first.
fn group<'a>(points: impl Iterator<Item = (&'a str, usize, f64)>, live: bool) -> Vec<Line<'a>> {
    let mut lines: Vec<Line<'a>> = Vec::new();
    for (policy, capacity, percent) in points {
        match lines.iter_mut().find(|line| line.policy == policy) {
            Some(line) => line.points.push((capacity, percent)),
            None => lines.push(Line { policy, points: vec![(capacity, percent)], live }),
        }
    }
    lines.iter_mut().for_each(|line| line.points.sort_by_key(|point| point.0));
    lines
}

fn axes(out: &mut String, scale: &Scale, lines: &[Line<'_>]) {
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    let step = if scale.most > 50.0 { 20.0 } else { 10.0 };
    let mut percent = 0.0;
    while percent <= scale.most {
        let y = scale.y(percent);
        let _ = writeln!(
            out,
            r##"<path d="M{LEFT} {y:.1}H{right}" stroke="#ddd"/><text x="{:.1}" y="{:.1}" text-anchor="end">{percent} %</text>"##,
            LEFT - 8.0,
            y + 4.0
        );
        percent += step;
    }
    let mut capacities: Vec<usize> = lines.iter().flat_map(|line| &line.points).map(|point| point.0).collect();
    capacities.sort_unstable();
    capacities.dedup();
    let mut free_from = 0.0;
    for capacity in capacities {
        let x = scale.x(capacity);
        let _ = writeln!(out, r##"<path d="M{x:.1} {bottom}v5" stroke="#888"/>"##);
        if x >= free_from {
            let y = bottom + 20.0;
            let _ = writeln!(out, r#"<text x="{x:.1}" y="{y}" text-anchor="middle">{}</text>"#, grouped(capacity));
            free_from = x + 48.0;
        }
    }
    let (middle, y) = ((LEFT + right) / 2.0, HEIGHT - 16.0);
    let _ = writeln!(out, r#"<text x="{middle}" y="{y}" text-anchor="middle">capacity in blocks</text>"#);
    let _ = writeln!(out, r#"<text x="{LEFT}" y="{}">hits of block references</text>"#, TOP - 8.0);
}

fn draw(out: &mut String, scale: &Scale, line: &Line<'_>) {
    let colour = line.colour();
    let path: Vec<String> = line
        .points
        .iter()
        .map(|&(capacity, percent)| format!("{:.1},{:.1}", scale.x(capacity), scale.y(percent)))
        .collect();
    let (dashes, how) = if line.live { (r#" stroke-dasharray="5 4""#, " (live)") } else { ("", "") };
    let _ = writeln!(
        out,
        r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>"#,
        path.join(" ")
    );
    for &(capacity, percent) in &line.points {
        let (x, y, policy) = (scale.x(capacity), scale.y(percent), line.policy);
        let shape = match line.live {
            true => format!(r#"r="4.5" fill="white" stroke="{colour}" stroke-width="1.5""#),
            false => format!(r#"r="3" fill="{colour}""#),
        };
        let _ = writeln!(
            out,
            r#"<circle cx="{x:.1}" cy="{y:.1}" {shape}><title>{policy}{how}, {capacity} blocks: {percent:.2} %</title></circle>"#
        );
    }
}

/// Names at the ends of the solid lines, or at those of the dashed ones where there are no others.
fn labels(out: &mut String, scale: &Scale, lines: &[Line<'_>]) {
    let replayed = |policy: &str| lines.iter().any(|line| !line.live && line.policy == policy);
    let named = lines.iter().filter(|line| !line.live || !replayed(line.policy));
    let mut ends: Vec<_> = named
        .filter_map(|line| line.points.last().map(|&(capacity, percent)| (scale.x(capacity), scale.y(percent), line)))
        .collect();
    ends.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let (mut column, mut free) = (0.0, 0.0);
    for (x, y, line) in ends {
        let y = if x == column { y.max(free) } else { y };
        (column, free) = (x, y + LABEL);
        let (x, y, colour, policy) = (x + 10.0, y + 4.0, line.colour(), line.policy);
        let _ = writeln!(out, r#"<text x="{x:.1}" y="{y:.1}" fill="{colour}">{policy}</text>"#);
    }
}

fn legend(out: &mut String, live: &CurveReport) {
    let (x, y) = (LEFT + 14.0, TOP + 14.0);
    let text = format!("estimated live by one cache of {} blocks", grouped(live.actual.pages));
    let _ = writeln!(
        out,
        r##"<path d="M{x} {y}h34" stroke="#444" stroke-width="2" stroke-dasharray="5 4"/><circle cx="{}" cy="{y}" r="4.5" fill="white" stroke="#444" stroke-width="1.5"/><text x="{}" y="{}">{text}</text>
<path d="M{x} {}h34" stroke="#444" stroke-width="2"/><circle cx="{}" cy="{}" r="3" fill="#444"/><text x="{}" y="{}">replayed, one cache a point</text>"##,
        x + 17.0,
        x + 44.0,
        y + 4.0,
        y + 18.0,
        x + 17.0,
        y + 18.0,
        x + 44.0,
        y + 22.0
    );
}

/// With commas between thousands.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let comma = |at: usize| at > 0 && (digits.len() - at).is_multiple_of(3);
    digits.chars().enumerate().flat_map(|(at, digit)| comma(at).then_some(',').into_iter().chain([digit])).collect()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::curve::WhatIf;

    fn row(policy: &'static str, capacity: usize, hit_percent: f64) -> Row {
        Row { policy, capacity, hit_percent, half_percent: [0.0; 2], seconds: 0.0 }
    }

    #[test]
    fn draws_within_its_frame() {
        let rows =
            [row("lru", 1000, 4.5), row("lru", 32_000, 33.0), row("kvick", 1000, 8.5), row("kvick", 32_000, 33.4)];
        let picture = svg("a < b", &rows, None);
        assert!(picture.contains("a &lt; b") && picture.starts_with("<svg ") && picture.ends_with("</svg>\n"));
        assert_eq!((picture.matches("<polyline").count(), picture.matches("<circle").count()), (2, 4));
        let scale = Scale::new(&group(rows.iter().map(|row| (row.policy, row.capacity, row.hit_percent)), false));
        assert_eq!((scale.x(1000), scale.x(32_000)), (LEFT, WIDTH - RIGHT));
        assert_eq!((scale.y(0.0), scale.y(40.0)), (HEIGHT - BOTTOM, TOP));
        let label = |policy: &str| -> f64 {
            let end = picture.split(&format!(">{policy}</text>")).next().unwrap();
            end.rsplit("y=\"").next().unwrap().split('"').next().unwrap().parse().unwrap()
        };
        assert!((label("lru") - label("kvick")).abs() >= LABEL - 0.2, "labels do not overlap");
        assert_eq!(svg("", &[], None), "");
        assert!(svg("one", &rows[..1], None).contains("<circle"), "a single point is drawn");

        let points = [("kvick", 500, 6.0), ("kvick", 64_000, 35.0), ("arc", 1000, 5.0)];
        let points = points.map(|(policy, pages, hit_percent)| WhatIf { policy, pages, hit_percent });
        let live = CurveReport { actual: points[0], points: points.to_vec(), ..CurveReport::default() };
        let picture = svg("live", &rows, Some(&live));
        assert_eq!(picture.matches("<polyline").count(), 4);
        assert_eq!(picture.matches("stroke-dasharray").count(), 3, "two estimated lines and the legend");
        assert!(picture.contains("kvick (live), 64000 blocks: 35.00 %") && picture.contains("cache of 500 blocks"));
        assert_eq!((grouped(5), grouped(1234), grouped(1_000_000)), ("5".into(), "1,234".into(), "1,000,000".into()));
        assert_eq!((picture.matches(">kvick</text>").count(), picture.matches(">arc</text>").count()), (1, 1));
    }
}
