//! A picture of hit rate over capacity, as SVG.
use super::replay::Row;
use std::fmt::Write;

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

impl Scale {
    fn new(rows: &[Row]) -> Self {
        let capacities = rows.iter().map(|row| row.capacity.max(1) as f64);
        let (smallest, largest) = (capacities.clone().fold(f64::MAX, f64::min), capacities.fold(1.0, f64::max));
        let highest = rows.iter().map(|row| row.hit_percent).fold(0.0, f64::max);
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

/// One line for each policy, over a logarithmic scale of capacities. An empty string for no rows.
pub fn svg(title: &str, rows: &[Row]) -> String {
    let mut out = String::new();
    if rows.is_empty() {
        return out;
    }
    let scale = Scale::new(rows);
    let size = format!(r#"viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}""#);
    let _ = writeln!(
        out,
        r#"<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12" role="img">
<rect width="100%" height="100%" fill="white"/>
<text x="{LEFT}" y="26" font-size="15">{}</text>"#,
        escape(title)
    );
    axes(&mut out, &scale, rows);
    lines(&mut out, &scale, rows);
    out.push_str("</svg>\n");
    out
}

fn axes(out: &mut String, scale: &Scale, rows: &[Row]) {
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
    let mut capacities: Vec<usize> = rows.iter().map(|row| row.capacity).collect();
    capacities.sort_unstable();
    capacities.dedup();
    let mut free_from = 0.0;
    for capacity in capacities {
        let x = scale.x(capacity);
        let _ = writeln!(out, r##"<path d="M{x:.1} {bottom}v5" stroke="#888"/>"##);
        if x >= free_from {
            let y = bottom + 20.0;
            let _ = writeln!(out, r#"<text x="{x:.1}" y="{y}" text-anchor="middle">{capacity}</text>"#);
            free_from = x + 48.0;
        }
    }
    let (middle, y) = ((LEFT + right) / 2.0, HEIGHT - 16.0);
    let _ = writeln!(out, r#"<text x="{middle}" y="{y}" text-anchor="middle">capacity in blocks</text>"#);
    let _ = writeln!(out, r#"<text x="{LEFT}" y="{}">hits of block references</text>"#, TOP - 8.0);
}

fn lines(out: &mut String, scale: &Scale, rows: &[Row]) {
    let mut policies: Vec<&str> = Vec::new();
    for row in rows {
        if !policies.contains(&row.policy) {
            policies.push(row.policy);
        }
    }
    let mut ends = Vec::new();
    for (index, policy) in policies.iter().enumerate() {
        let mut points: Vec<(usize, f64)> =
            rows.iter().filter(|row| row.policy == *policy).map(|row| (row.capacity, row.hit_percent)).collect();
        points.sort_by_key(|point| point.0);
        let colour = COLOURS[(policies.len() - 1 - index) % COLOURS.len()];
        let path: Vec<String> = points
            .iter()
            .map(|&(capacity, percent)| format!("{:.1},{:.1}", scale.x(capacity), scale.y(percent)))
            .collect();
        let _ =
            writeln!(out, r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="2"/>"#, path.join(" "));
        for &(capacity, percent) in &points {
            let (x, y) = (scale.x(capacity), scale.y(percent));
            let _ = writeln!(
                out,
                r#"<circle cx="{x:.1}" cy="{y:.1}" r="3" fill="{colour}"><title>{policy}, {capacity} blocks: {percent:.2} %</title></circle>"#
            );
        }
        ends.push((scale.y(points.last().map_or(0.0, |point| point.1)), *policy, colour));
    }
    ends.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut free = TOP - LABEL;
    for (y, policy, colour) in ends {
        let y = y.max(free);
        free = y + LABEL;
        let (x, y) = (WIDTH - RIGHT + 10.0, y + 4.0);
        let _ = writeln!(out, r#"<text x="{x}" y="{y:.1}" fill="{colour}">{policy}</text>"#);
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(policy: &'static str, capacity: usize, hit_percent: f64) -> Row {
        Row { policy, capacity, hit_percent, half_percent: [0.0; 2], seconds: 0.0 }
    }

    #[test]
    fn draws_within_its_frame() {
        let rows =
            [row("lru", 1000, 4.5), row("lru", 32_000, 33.0), row("kvick", 1000, 8.5), row("kvick", 32_000, 33.4)];
        let picture = svg("a < b", &rows);
        assert!(picture.contains("a &lt; b") && picture.starts_with("<svg ") && picture.ends_with("</svg>\n"));
        assert_eq!((picture.matches("<polyline").count(), picture.matches("<circle").count()), (2, 4));
        let scale = Scale::new(&rows);
        assert_eq!((scale.x(1000), scale.x(32_000)), (LEFT, WIDTH - RIGHT));
        assert_eq!((scale.y(0.0), scale.y(40.0)), (HEIGHT - BOTTOM, TOP));
        let label = |policy: &str| -> f64 {
            let end = picture.split(&format!(">{policy}</text>")).next().unwrap();
            end.rsplit("y=\"").next().unwrap().split('"').next().unwrap().parse().unwrap()
        };
        assert!((label("lru") - label("kvick")).abs() >= LABEL - 0.2, "labels do not overlap");
        assert_eq!(svg("", &[]), "");
        assert!(svg("one", &rows[..1]).contains("<circle"), "a single point is drawn");
    }
}
