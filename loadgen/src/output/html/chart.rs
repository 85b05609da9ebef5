//! Curves as SVG.

use std::fmt::Write as _;

/// Curves over one pair of axes.
pub(super) struct Chart {
    pub(super) title: &'static str,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) series: Vec<Series>,
}

/// An axis; what it means is in its label or in the chart's title.
pub(super) struct Axis {
    pub(super) label: &'static str,
    pub(super) logarithmic: bool,
}

/// A named curve.
pub(super) struct Series {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
}

/// From numbers to places on the picture.
struct Scale {
    low: f64,
    high: f64,
    logarithmic: bool,
    from: f64,
    to: f64,
}

impl Chart {
    /// The chart under its title, with a legend where there are several curves.
    pub(super) fn svg(&self) -> String {
        let (x, y) = self.scales();
        let mut svg = format!("<section><h2>{}</h2>\n", self.title);
        let _ = write!(
            svg,
            "<svg viewBox='0 0 {WIDTH} {HEIGHT}' role=img aria-label='{}'>",
            self.title
        );
        for tick in y.ticks() {
            let at = y.place(tick);
            let _ = write!(
                svg,
                "<line class=grid x1='{LEFT}' x2='{RIGHT}' y1='{at:.1}' y2='{at:.1}'/>\
                 <text x='{:.1}' y='{:.1}' text-anchor=end>{}</text>",
                LEFT - 6.0,
                at + 4.0,
                short(tick)
            );
        }
        let ticks = x.ticks();
        // Names of many nines would run into one another.
        for tick in ticks.iter().copied().step_by(ticks.len().div_ceil(NAMES_MAX)) {
            let (at, name) = (x.place(tick), self.x_name(tick));
            let _ = write!(
                svg,
                "<text x='{at:.1}' y='{:.1}' text-anchor=middle>{name}</text>",
                BOTTOM + 18.0
            );
        }
        let middle = f64::midpoint(LEFT, RIGHT);
        let _ = write!(
            svg,
            "<text x='{middle}' y='{:.1}' text-anchor=middle>{}</text>",
            HEIGHT - 4.0,
            self.x.label
        );
        for (series, colour) in self.series.iter().zip(COLOURS) {
            let mut points = String::new();
            for (px, py) in &series.points {
                let _ = write!(points, "{:.1},{:.1} ", x.place(*px), y.place(*py));
            }
            let _ = write!(
                svg,
                "<polyline class=curve stroke='var({colour})' points='{}'/>",
                points.trim_end()
            );
        }
        svg.push_str("</svg>\n");
        self.legend(&mut svg);
        svg.push_str("</section>\n");
        svg
    }

    fn legend(&self, svg: &mut String) {
        if self.series.len() < 2 {
            return;
        }
        svg.push_str("<div class=legend>");
        for (series, colour) in self.series.iter().zip(COLOURS) {
            let name = &series.name;
            let _ = write!(svg, "<span><i style='background:var({colour})'></i>{name}</span>");
        }
        svg.push_str("</div>\n");
    }

    fn scales(&self) -> (Scale, Scale) {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let x = Scale::new(points().map(|point| point.0), &self.x, LEFT, RIGHT);
        let y = Scale::new(points().map(|point| point.1), &self.y, BOTTOM, TOP);
        (x, y)
    }

    /// On the axis of percentiles 100 is 99 %, 1000 is 99.9 % and so on.
    fn x_name(&self, tick: f64) -> String {
        match (self.x.logarithmic, tick) {
            (true, ..=1.0) => "0 %".to_owned(),
            (true, tick) => {
                let percent = 100.0 - 100.0 / tick;
                let decimals = tick.log10() - 2.0;
                format!("{percent:.*} %", if decimals > 0.0 { nines(decimals) } else { 0 })
            }
            (false, tick) => short(tick),
        }
    }
}

impl Scale {
    fn new(numbers: impl Iterator<Item = f64>, axis: &Axis, from: f64, to: f64) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        numbers.filter(|number| number.is_finite()).for_each(|number| {
            (low, high) = (low.min(number), high.max(number));
        });
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        if axis.logarithmic {
            low = 10_f64.powf(low.max(SMALLEST).log10().floor());
            high = 10_f64.powf(high.max(low * 10.0).log10().ceil());
        } else {
            // A curve that hardly moves is not blown up: the axis begins at 0.
            low = low.min(0.0);
            high = if high > low { high * HEADROOM } else { low + 1.0 };
        }
        Self { low, high, logarithmic: axis.logarithmic, from, to }
    }

    fn place(&self, number: f64) -> f64 {
        let part = match self.logarithmic {
            true => {
                let log = (number.max(self.low) / self.low).log10();
                log / (self.high / self.low).log10()
            }
            false => (number - self.low) / (self.high - self.low),
        };
        self.from + part * (self.to - self.from)
    }

    fn ticks(&self) -> Vec<f64> {
        if self.logarithmic {
            let powers = std::iter::successors(Some(self.low), |tick| Some(tick * 10.0));
            return powers.take_while(|tick| *tick <= self.high * 1.001).collect();
        }
        let rough = (self.high - self.low) / TICKS;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
        let step = step.into_iter().find(|step| *step >= rough).unwrap_or(10.0 * power);
        let ticks = std::iter::successors(Some(self.low), |tick| Some(tick + step));
        ticks.take_while(|tick| *tick <= self.high).collect()
    }
}

/// A number that fits beside an axis.
fn short(number: f64) -> String {
    match number.abs() {
        1e6.. => format!("{}M", number / 1e6),
        1e4.. => format!("{}k", number / 1e3),
        // What adding up steps leaves behind the third decimal is dropped.
        _ => format!("{}", (number * 1e3).round() / 1e3),
    }
}

fn nines(decimals: f64) -> usize {
    usize::try_from(crate::random::floor(decimals.round())).unwrap_or(0)
}

const WIDTH: f64 = 440.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 48.0;
const RIGHT: f64 = 404.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 194.0;
const TICKS: f64 = 5.0;
/// Along the lower edge.
const NAMES_MAX: usize = 6;
const HEADROOM: f64 = 1.05;
const SMALLEST: f64 = 0.1;
const COLOURS: [&str; 5] = ["--a", "--b", "--c", "--d", "--e"];

#[cfg(test)]
mod tests {
    use super::*;

    fn scale(numbers: &[f64], logarithmic: bool) -> Scale {
        let axis = Axis { label: "", logarithmic };
        Scale::new(numbers.iter().copied(), &axis, 0.0, 100.0)
    }

    #[test]
    fn numbers_have_their_places() {
        let linear = scale(&[20.0, 100.0], false);
        assert_eq!((linear.low, linear.place(52.5)), (0.0, 50.0));
        assert_eq!(linear.ticks(), [0.0, 50.0, 100.0]);
        let logarithmic = scale(&[2.0, 500.0], true);
        assert_eq!((logarithmic.low, logarithmic.high), (1.0, 1000.0));
        assert!((logarithmic.place(10.0) - 100.0 / 3.0).abs() < 1e-9);
        assert_eq!(logarithmic.ticks().len(), 4);
    }

    #[test]
    fn nothing_and_a_level_curve_have_axes_too() {
        for numbers in [&[][..], &[0.0], &[7.0, 7.0]] {
            for logarithmic in [false, true] {
                let scale = scale(numbers, logarithmic);
                assert!(scale.low < scale.high && !scale.ticks().is_empty());
                assert!(numbers.iter().all(|number| scale.place(*number).is_finite()));
            }
        }
    }

    #[test]
    fn percentiles_are_named_by_their_nines() {
        let x = Axis { label: "", logarithmic: true };
        let y = Axis { label: "", logarithmic: true };
        let chart = Chart { title: "", x, y, series: Vec::new() };
        let names = [1.0, 10.0, 100.0, 1e3, 1e4].map(|tick| chart.x_name(tick));
        assert_eq!(names, ["0 %", "90 %", "99 %", "99.9 %", "99.99 %"]);
    }
}
