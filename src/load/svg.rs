//! Plots, as SVG that stands in a page.

use std::fmt::Write as _;

/// One line of a plot.
pub struct Series<'a> {
    /// What it is.
    pub name: &'a str,
    /// Its colour.
    pub colour: &'a str,
    /// Moments, seconds, and values. A value that is not finite leaves a gap.
    pub points: Vec<(f64, f64)>,
}

/// One plot.
pub struct Plot<'a> {
    /// What it shows.
    pub title: &'a str,
    /// How a value is written.
    pub show: fn(f64) -> String,
    /// Each step up is ten times as much.
    pub is_logarithmic: bool,
    /// Its lines.
    pub series: Vec<Series<'a>>,
    /// Moments at which something changes, with what begins there.
    pub marks: &'a [(f64, &'static str)],
}

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 10.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 26.0;
/// Points of one line beyond which several are drawn as one, the highest: a page must stay small.
const POINTS_MAX: usize = 1_200;

impl Plot<'_> {
    /// The plot; nothing when there is nothing to show.
    #[must_use]
    pub fn svg(&self) -> String {
        let points = || self.series.iter().flat_map(|series| &series.points).filter(|(_, value)| self.is_shown(*value));
        let end = points().map(|(at, _)| *at).fold(0.0, f64::max);
        let highest = points().map(|(_, value)| *value).fold(0.0, f64::max);
        if end <= 0.0 || highest <= 0.0 {
            return String::new();
        }
        let lowest = if self.is_logarithmic { points().map(|(_, value)| *value).fold(highest, f64::min) } else { 0.0 };
        let ticks = if self.is_logarithmic { decades(lowest, highest) } else { steps(highest) };
        let (low, high) = (ticks.first().copied().unwrap_or(0.0), ticks.last().copied().unwrap_or(1.0));
        let x = |at: f64| LEFT + (WIDTH - LEFT - RIGHT) * at / end;
        let share = |value: f64| if self.is_logarithmic { (value / low).log10() / (high / low).log10() } else { value / high };
        let y = |value: f64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share(value).clamp(0.0, 1.0);
        let mut svg = format!(
            r#"<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{0}"><text x="{LEFT}" y="14" class="t">{0}</text>"#,
            escape(self.title)
        );
        for tick in &ticks {
            let _ = write!(
                svg,
                r#"<line x1="{LEFT}" x2="{1:.0}" y1="{0:.1}" y2="{0:.1}" class="g"/><text x="{2:.0}" y="{3:.1}" class="l" text-anchor="end">{4}</text>"#,
                y(*tick),
                WIDTH - RIGHT,
                LEFT - 6.0,
                y(*tick) + 4.0,
                escape(&(self.show)(*tick))
            );
        }
        for tick in steps(end).iter().filter(|tick| **tick <= end) {
            let _ = write!(svg, r#"<text x="{:.1}" y="{:.0}" class="l" text-anchor="middle">{tick} s</text>"#, x(*tick), HEIGHT - 8.0);
        }
        for (at, name) in self.marks.iter().filter(|(at, _)| *at <= end) {
            let _ = write!(
                svg,
                r#"<line x1="{0:.1}" x2="{0:.1}" y1="{TOP}" y2="{1:.0}" class="m"/><text x="{2:.1}" y="{3:.0}" class="l">{name}</text>"#,
                x(*at),
                HEIGHT - BOTTOM,
                x(*at) + 3.0,
                TOP + 10.0
            );
        }
        let mut legend = LEFT + 260.0;
        for series in &self.series {
            for run in series.thinned().split(|(_, value)| !self.is_shown(*value)).filter(|run| !run.is_empty()) {
                let line = run.iter().map(|(at, value)| format!("{:.1},{:.1}", x(*at), y(*value))).collect::<Vec<_>>().join(" ");
                let _ = write!(svg, r#"<polyline points="{line}" stroke="{}"/>"#, series.colour);
            }
            let _ = write!(
                svg,
                r#"<rect x="{legend:.0}" y="6" width="10" height="10" fill="{}"/><text x="{:.0}" y="15" class="l">{}</text>"#,
                series.colour,
                legend + 14.0,
                escape(series.name)
            );
            legend += 24.0 + 7.5 * series.name.len() as f64;
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn is_shown(&self, value: f64) -> bool {
        value.is_finite() && (!self.is_logarithmic || value > 0.0)
    }
}

impl Series<'_> {
    fn thinned(&self) -> Vec<(f64, f64)> {
        let each = self.points.len().div_ceil(POINTS_MAX).max(1);
        let highest = |part: &[(f64, f64)]| part.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or_default();
        self.points.chunks(each).map(highest).collect()
    }
}

/// Powers of ten around the values.
fn decades(lowest: f64, highest: f64) -> Vec<f64> {
    let (first, last) = (lowest.log10().floor() as i32, highest.log10().ceil() as i32);
    (first..=last.max(first + 1)).map(|power| 10_f64.powi(power)).collect()
}

/// Round numbers from 0 to beyond the highest value.
fn steps(highest: f64) -> Vec<f64> {
    let rough = highest / 5.0;
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|times| times * power).find(|step| *step >= rough).unwrap_or(rough);
    // Whole multiples, so that a tick is as round as it looks.
    (0..=(highest / step).ceil() as u32).map(|number| (f64::from(number) * step * 1e6).round() / 1e6).collect()
}

/// Text as it may stand in a page.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            character => safe.push(character),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(points: Vec<(f64, f64)>, is_logarithmic: bool) -> String {
        let series = vec![Series { name: "a<b", colour: "#000", points }];
        Plot { title: "t", show: |value| format!("{value}"), is_logarithmic, series, marks: &[(1.0, "peak")] }.svg()
    }

    #[test]
    fn a_plot_shows_its_points() {
        let svg = plot(vec![(0.0, 0.0), (5.0, 50.0), (10.0, 100.0)], false);
        assert!(svg.contains("80.0,234.0") && svg.contains("950.0,34.0"), "{svg}");
        assert!(svg.contains("a&lt;b") && svg.contains("peak"));
    }

    #[test]
    fn a_gap_is_a_gap() {
        let svg = plot(vec![(0.0, 1.0), (1.0, 10.0), (2.0, 0.0), (3.0, 10.0), (4.0, 1000.0)], true);
        assert_eq!(svg.matches("<polyline").count(), 2, "{svg}");
        assert_eq!(plot(vec![(0.0, 0.0), (1.0, 0.0)], true), "");
        assert_eq!(plot(Vec::new(), false), "");
    }

    #[test]
    fn many_points_are_few_and_the_highest_stays() {
        let mut points: Vec<_> = (0..100_000).map(|at| (f64::from(at), 1.0)).collect();
        points[77_777].1 = 9.0;
        let series = Series { name: "", colour: "", points };
        let thinned = series.thinned();
        assert!(thinned.len() <= POINTS_MAX && thinned.iter().any(|(_, value)| *value > 8.0));
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(steps(97.0), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        assert_eq!(decades(30.0, 4_000.0), [10.0, 100.0, 1_000.0, 10_000.0]);
    }
}
