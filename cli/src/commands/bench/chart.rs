//! A chart of what was found, as SVG: a bar for each row, with the range that half of the rounds are in.

use std::fmt::Write as _;

use super::report::{Entry, Report, grouped, rate, title};
use crate::args::Group;
use crate::output;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 352.0;
const BAR: f64 = 440.0;
const ROW: f64 = 22.0;
const TOP: f64 = 92.0;

/// Readable on white and on dark pages, wherever it is shown.
const STYLE: &str = "\
text{font:13px system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;fill:#24292f}\
.page{fill:#fff}.title{font-size:19px;font-weight:600}.group{font-size:14px;font-weight:600}\
.sub,.axis{fill:#57606a;font-size:12px}.ours{fill:#0a7d6f}.other{fill:#b4bcc6}\
.whisker{stroke:#24292f;stroke-width:1.5}.grid{stroke:#d8dee4}.noisy{opacity:.55}\
@media (prefers-color-scheme:dark){text{fill:#e6edf3}.page{fill:#0d1117}.sub,.axis{fill:#9198a1}\
.ours{fill:#2bb5a2}.other{fill:#4b5563}.whisker{stroke:#e6edf3}.grid{stroke:#30363d}}";

/// The rows of one group that are counted in one unit, and so have one scale.
struct Panel<'a> {
    title: String,
    unit: &'static str,
    rows: Vec<&'a Entry>,
}

impl Report {
    /// The chart as an SVG document.
    pub(super) fn chart(&self) -> String {
        let panels = self.panels();
        let rows: usize = panels.iter().map(|panel| panel.rows.len()).sum();
        let height = TOP + panels.len() as f64 * 52.0 + rows as f64 * ROW + 26.0;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" role=\"img\">\
             <title>How fast sealift is on this machine</title><style>{STYLE}</style>\
             <rect class=\"page\" width=\"{WIDTH}\" height=\"{height}\" rx=\"8\"/>\n"
        );
        let machine = &self.machine;
        text(&mut svg, 24.0, 36.0, "title", &format!("sealift {} at the speed of this machine", machine.version));
        let what = format!(
            "{} · {} cores · {} · {} · {} on {}",
            machine.cpu,
            machine.cores,
            machine.backend,
            machine.kernel,
            output::bytes(self.file_bytes),
            self.file_system.kind
        );
        text(&mut svg, 24.0, 56.0, "sub", &what);
        let _ = write!(svg, "<rect class=\"ours\" x=\"24\" y=\"67\" width=\"11\" height=\"11\" rx=\"2\"/>");
        text(&mut svg, 40.0, 77.0, "sub", "sealift");
        let _ = write!(svg, "<rect class=\"other\" x=\"96\" y=\"67\" width=\"11\" height=\"11\" rx=\"2\"/>");
        let how = format!(
            "what it is compared with · medians of {} rounds in turn; the line is where half of them are",
            self.rounds
        );
        text(&mut svg, 112.0, 77.0, "sub", &how);
        let mut y = TOP;
        for panel in &panels {
            y = panel.draw(&mut svg, y + 20.0) + 18.0;
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn panels(&self) -> Vec<Panel<'_>> {
        let mut panels: Vec<Panel<'_>> = Vec::new();
        for group in Group::ALL {
            for row in self.rows.iter().filter(|row| row.group == group.name()) {
                let title = match row.unit {
                    "bytes" => title(group).to_owned(),
                    unit => format!("{}: {unit}", title(group)),
                };
                match panels.iter_mut().find(|panel| panel.title == title && panel.unit == row.unit) {
                    Some(panel) => panel.rows.push(row),
                    None => panels.push(Panel { title, unit: row.unit, rows: vec![row] }),
                }
            }
        }
        panels
    }
}

impl Panel<'_> {
    /// Draws it below `y`, and returns where it ends.
    fn draw(&self, svg: &mut String, mut y: f64) -> f64 {
        let most = self.rows.iter().map(|row| row.per_second.median.max(row.per_second.upper_quartile));
        let step = step(most.fold(0.0, f64::max));
        let most = step * 4.0;
        text(svg, 24.0, y + 4.0, "group", &self.title);
        let bottom = y + 14.0 + self.rows.len() as f64 * ROW;
        for n in 0..=4 {
            let x = LEFT + BAR * f64::from(n) / 4.0;
            let _ =
                write!(svg, "<line class=\"grid\" x1=\"{x}\" x2=\"{x}\" y1=\"{:.1}\" y2=\"{bottom:.1}\"/>", y + 12.0);
            let label = if n == 0 { "0".to_owned() } else { axis(step * f64::from(n), self.unit) };
            anchored(svg, x, y + 4.0, "axis", "middle", &label);
        }
        y += 14.0;
        for row in &self.rows {
            let spread = row.per_second;
            let at = |figure: f64| LEFT + BAR * (figure / most).clamp(0.0, 1.0);
            let name =
                if row.threads > 1 { format!("{} · {} threads", row.name, row.threads) } else { row.name.clone() };
            anchored(svg, LEFT - 10.0, y + 15.0, if is_compared_with(row) { "sub" } else { "" }, "end", &cut(&name));
            let class = if is_compared_with(row) { "other" } else { "ours" };
            let noisy = if row.noisy { " noisy" } else { "" };
            let _ = write!(
                svg,
                "<rect class=\"{class}{noisy}\" x=\"{LEFT}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{}\" rx=\"3\"/>",
                y + 3.0,
                (at(spread.median) - LEFT).max(1.0),
                ROW - 6.0
            );
            let _ = write!(
                svg,
                "<line class=\"whisker\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{2:.1}\" y2=\"{2:.1}\"/>",
                at(spread.lower_quartile),
                at(spread.upper_quartile),
                y + ROW / 2.0
            );
            let x = at(spread.median.max(spread.upper_quartile)) + 8.0;
            let noisy = if row.noisy { " (noisy)" } else { "" };
            let figure = if self.unit == "bytes" { rate(spread.median, self.unit) } else { grouped(spread.median) };
            text(svg, x, y + 15.0, "", &format!("{figure}{noisy}"));
            svg.push('\n');
            y += ROW;
        }
        bottom
    }
}

/// Whether a row is there for others to be compared with.
fn is_compared_with(row: &Entry) -> bool {
    let what = row.id.split('/').nth(1).unwrap_or_default();
    let reference = ["primitive", "crc64", "hand-", "cp", "plain", "pread"].iter().any(|name| what.contains(name));
    reference || (row.group == Group::Peers.name() && !what.ends_with("-sealift"))
}

/// A quarter of a scale that has room for `most`: 1, 2, 2.5 or 5 times a power of ten.
fn step(most: f64) -> f64 {
    let least = (most / 4.0).max(1e-9);
    let power = 10_f64.powf(least.log10().floor());
    [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().map(|n| n * power).find(|step| *step >= least).unwrap_or(least)
}

fn axis(figure: f64, unit: &str) -> String {
    match unit {
        "bytes" if figure >= 1e9 => format!("{} GB/s", figure / 1e9),
        "bytes" => format!("{} MB/s", figure / 1e6),
        _ if figure >= 1e3 => format!("{}k/s", figure / 1e3),
        _ => format!("{figure}/s"),
    }
}

fn cut(name: &str) -> String {
    const MOST: usize = 48;
    if name.chars().count() <= MOST { name.to_owned() } else { name.chars().take(MOST - 1).chain(['…']).collect() }
}

fn text(svg: &mut String, x: f64, y: f64, class: &str, text: &str) {
    anchored(svg, x, y, class, "start", text);
}

fn anchored(svg: &mut String, x: f64, y: f64, class: &str, anchor: &str, text: &str) {
    let _ = write!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\" text-anchor=\"{anchor}\">{}</text>",
        escaped(text)
    );
}

/// As XML wants it; names of stores and CPUs come from outside.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // XML 1.0 has no way to write these.
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_have_round_steps() {
        for (most, quarter) in [(9.7, 2.5), (20.1, 10.0), (8.0, 2.0), (4.0, 1.0), (39.0, 10.0)] {
            assert!((step(most) - quarter).abs() < 1e-9, "{most}: {}", step(most));
        }
        assert_eq!(axis(2.5e9, "bytes"), "2.5 GB/s");
        assert_eq!(axis(50_000.0, "objects"), "50k/s");
    }

    #[test]
    fn what_comes_from_outside_is_escaped() {
        assert_eq!(escaped("<b>&\"\u{1b}"), "&lt;b&gt;&amp;&quot;\u{fffd}");
    }
}
