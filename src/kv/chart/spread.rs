//! Distributions side by side: a bar from the 10th to the 90th percentile, whiskers to the 1st and 99th, the median marked, over a
//! logarithmic scale.
use super::escape;
use std::fmt::Write;

const WIDTH: f64 = 760.0;
const LEFT: f64 = 90.0;
const RIGHT: f64 = 60.0;
const TOP: f64 = 60.0;
const ROW: f64 = 44.0;

/// One distribution.
#[derive(Clone, Debug, PartialEq)]
pub struct Spread {
    /// What it is of.
    pub name: String,
    /// Percentiles 1, 10, 50, 90 and 99.
    pub values: [f64; 5],
}

/// Places times on a scale of whole powers of ten.
struct Scale {
    low: f64,
    high: f64,
}

impl Scale {
    fn new(rows: &[Spread]) -> Self {
        let values = || rows.iter().flat_map(|row| row.values).filter(|value| *value > 0.0);
        let low = values().fold(f64::MAX, f64::min).log10().floor();
        let high = values().fold(f64::MIN_POSITIVE, f64::max).log10().ceil();
        if low < high { Scale { low, high } } else { Scale { low: high - 1.0, high } }
    }

    /// What is 0, or less than the scale, lies at its beginning.
    fn x(&self, value: f64) -> f64 {
        let at = (value.max(1e-300).log10() - self.low) / (self.high - self.low);
        LEFT + at.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }
}

/// One line for each distribution, from top to bottom. An empty string for none.
pub fn spreads(title: &str, rows: &[Spread]) -> String {
    let mut out = String::new();
    if rows.is_empty() {
        return out;
    }
    let (scale, bottom) = (Scale::new(rows), TOP + ROW * rows.len() as f64);
    let height = bottom + 50.0;
    let _ = writeln!(
        out,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="12" role="img">
<rect width="100%" height="100%" fill="white"/>
<text x="{LEFT}" y="26" font-size="15">{}</text>"#,
        escape(title)
    );
    let mut power = scale.low;
    while power <= scale.high {
        let value = 10f64.powf(power);
        let x = scale.x(value);
        let _ = writeln!(
            out,
            r##"<path d="M{x:.1} {}V{bottom}" stroke="#ddd"/><text x="{x:.1}" y="{}" text-anchor="middle">{value} s</text>"##,
            TOP - 8.0,
            bottom + 20.0
        );
        power += 1.0;
    }
    rows.iter().enumerate().for_each(|(at, row)| draw(&mut out, &scale, TOP + ROW * at as f64, row));
    let y = bottom + 40.0;
    let _ = writeln!(
        out,
        r#"<text x="{LEFT}" y="{y}">bar: 10th to 90th percentile, line: 1st to 99th, mark: median</text>
</svg>"#
    );
    out
}

fn draw(out: &mut String, scale: &Scale, top: f64, row: &Spread) {
    let [p1, p10, p50, p90, p99] = row.values.map(|value| scale.x(value));
    let (middle, name) = (top + ROW / 2.0, escape(&row.name));
    let [v1, v10, v50, v90, v99] = row.values;
    let _ = writeln!(
        out,
        r##"<g><title>{name}: p1 {v1:.3} s, p10 {v10:.3} s, p50 {v50:.3} s, p90 {v90:.3} s, p99 {v99:.3} s</title>
<text x="{:.1}" y="{:.1}" text-anchor="end">{name}</text>
<path d="M{p1:.1} {middle}H{p99:.1}" stroke="#0072b2" stroke-width="2"/>
<rect x="{p10:.1}" y="{:.1}" width="{:.1}" height="18" fill="#56b4e9"/>
<path d="M{p50:.1} {:.1}v26" stroke="#000" stroke-width="3"/><text x="{:.1}" y="{:.1}" text-anchor="middle">{v50:.2}</text></g>"##,
        LEFT - 10.0,
        middle + 4.0,
        middle - 9.0,
        (p90 - p10).max(1.0),
        middle - 13.0,
        p50,
        middle - 15.0
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_percentiles_in_their_order_within_the_frame() {
        let row = |name: &str, values| Spread { name: name.into(), values };
        let rows = [row("a < b", [0.0, 0.02, 0.5, 7.0, 90.0]), row("c", [1.0; 5])];
        let picture = spreads("times & more", &rows);
        assert!(picture.contains("a &lt; b") && picture.contains("times &amp; more") && picture.ends_with("</svg>\n"));
        assert_eq!((picture.matches("<rect").count(), picture.matches("<title>").count()), (1 + 2, 2));
        let scale = Scale::new(&rows);
        assert_eq!((scale.x(0.0), scale.x(0.01), scale.x(100.0)), (LEFT, LEFT, WIDTH - RIGHT));
        let places = rows[0].values.map(|value| scale.x(value));
        assert!(places.is_sorted() && places[2] == scale.x(0.5));
        assert_eq!(spreads("", &[]), "");
        let equal = Scale::new(&rows[1..]);
        assert_eq!((equal.x(0.1), equal.x(1.0)), (LEFT, WIDTH - RIGHT), "a scale of one power");
    }
}
