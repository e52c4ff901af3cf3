//! The machine and the date of a measurement.

use std::fs;

use rustix::system::uname;

use crate::results::Machine;

pub fn describe() -> Machine {
    let field = |path: &str, key: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let mut lines = text.lines();
        lines.find_map(|line| {
            let value = line.strip_prefix(key)?.trim_start();
            let value = value.strip_prefix([':', '='])?.trim();
            Some(value.trim_matches('"').to_owned())
        })
    };
    Machine {
        processor: field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".to_owned()),
        processors: std::thread::available_parallelism().map_or(1, usize::from),
        kernel: minor_version(&uname().release().to_string_lossy()),
        system: field("/etc/os-release", "PRETTY_NAME").unwrap_or_else(|| "unknown".to_owned()),
    }
}

/// `6.1` of `6.1.0-32-amd64`.
fn minor_version(release: &str) -> String {
    release.split('.').take(2).collect::<Vec<_>>().join(".")
}

/// Today in UTC, as 2026-01-31.
pub fn today() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    date(since.map_or(0, |since| since.as_secs() / 86_400))
}

/// The date of a day after 1970-01-01, by Howard Hinnant's `civil_from_days`.
fn date(days: u64) -> String {
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    #[test]
    fn dates() {
        for (days, date) in [
            (0, "1970-01-01"),
            (11_016, "2000-02-29"),
            (20_088, "2024-12-31"),
            (20_778, "2026-11-21"),
        ] {
            assert_eq!(super::date(days), date);
        }
    }
}
