//! Medians, goals and tables.

use std::fmt;

/// Several takes of one figure.
#[derive(Clone, Debug, Default)]
pub(crate) struct Takes(Vec<f64>);

impl Takes {
    pub(crate) fn push(&mut self, take: f64) {
        let position = self.0.partition_point(|&other| other < take);
        self.0.insert(position, take);
    }

    /// The same; `None` where nothing was taken.
    pub(crate) fn median_if_any(&self) -> Option<f64> {
        (!self.0.is_empty()).then(|| self.median())
    }

    /// The middle take, or the mean of the two in the middle.
    pub(crate) fn median(&self) -> f64 {
        let middle = self.0.len() / 2;
        match self.0.len() % 2 {
            0 => f64::midpoint(self.0[middle - 1], self.0[middle]),
            _ => self.0[middle],
        }
    }

    /// The greatest take.
    pub(crate) fn greatest(&self) -> f64 {
        self.0[self.0.len() - 1]
    }
}

/// The median and, where there are several takes, the least and the greatest.
impl fmt::Display for Takes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = formatter.precision().unwrap_or(0);
        write!(formatter, "{:.decimals$}", self.median())?;
        match self.0.as_slice() {
            [least, .., greatest] => {
                write!(formatter, " ({least:.decimals$}..{greatest:.decimals$})")
            }
            _ => Ok(()),
        }
    }
}

/// A bound that a figure should keep.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

impl Goal {
    /// Whether `figure` keeps it, in words.
    pub(crate) fn verdict(self, figure: f64) -> String {
        let (kept, bound) = match self {
            Self::AtMost(bound) => (figure <= bound, format!("at most {bound}")),
            Self::AtLeast(bound) => (figure >= bound, format!("at least {bound}")),
        };
        format!("{} ({bound})", if kept { "met" } else { "missed" })
    }
}

/// A Markdown table.
#[derive(Debug)]
pub(crate) struct Table {
    title: String,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(title: String, header: Vec<String>) -> Self {
        Self { title, rows: vec![header] }
    }

    pub(crate) fn push(&mut self, row: Vec<String>) {
        debug_assert_eq!(row.len(), self.rows[0].len());
        self.rows.push(row);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let column_count = self.rows[0].len();
        let widths: Vec<usize> = (0..column_count)
            .map(|column| {
                self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)
            })
            .collect();
        writeln!(formatter, "{}\n", self.title)?;
        for (index, row) in self.rows.iter().enumerate() {
            for (cell, &width) in row.iter().zip(&widths) {
                write!(formatter, "| {cell:width$} ")?;
            }
            writeln!(formatter, "|")?;
            if index == 0 {
                widths
                    .iter()
                    .try_for_each(|&width| write!(formatter, "|{:-<1$}", "", width + 2))?;
                writeln!(formatter, "|")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(list: &[f64]) -> Takes {
        let mut takes = Takes::default();
        list.iter().for_each(|&take| takes.push(take));
        takes
    }

    #[test]
    fn a_median_stands_in_the_middle_whatever_the_order() {
        assert_eq!(format!("{:.1}", takes(&[3.0, 9.0, 1.0])), "3.0 (1.0..9.0)");
        assert_eq!(format!("{:.1}", takes(&[4.0, 1.0])), "2.5 (1.0..4.0)");
        assert_eq!(format!("{:.2}", takes(&[7.0])), "7.00");
        assert!((takes(&[3.0, 9.0, 1.0]).greatest() - 9.0).abs() < f64::EPSILON);
    }

    #[test]
    fn a_goal_includes_its_bound() {
        assert_eq!(Goal::AtMost(0.85).verdict(0.85), "met (at most 0.85)");
        assert_eq!(Goal::AtMost(0.85).verdict(0.86), "missed (at most 0.85)");
        assert_eq!(Goal::AtLeast(150_000.0).verdict(150_000.0), "met (at least 150000)");
        assert_eq!(Goal::AtLeast(150_000.0).verdict(149_999.0), "missed (at least 150000)");
    }

    #[test]
    fn a_table_lines_up_beyond_ascii() {
        let mut table = Table::new("T".to_owned(), vec!["µs".to_owned(), "b".to_owned()]);
        table.push(vec!["1".to_owned(), "23".to_owned()]);
        assert_eq!(table.to_string(), "T\n\n| µs | b  |\n|----|----|\n| 1  | 23 |\n");
    }
}
