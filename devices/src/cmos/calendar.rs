//! The Gregorian calendar, from 1970 to 9999.

use crate::UnixTime;

/// A second of the calendar, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DateTime {
    pub(super) year: u16,
    /// 1 to 12.
    pub(super) month: u8,
    /// 1 to 31.
    pub(super) day: u8,
    /// 1 to 7, from Sunday.
    pub(super) weekday: u8,
    pub(super) hour: u8,
    pub(super) minute: u8,
    pub(super) second: u8,
}

/// 9999-12-31 23:59:59: the last second that four digits can tell.
const LAST: u64 = 253_402_300_799;

impl From<UnixTime> for DateTime {
    fn from(time: UnixTime) -> Self {
        let seconds = time.secs().min(LAST);
        let of_day = seconds % 86_400;
        let mut days = seconds / 86_400;
        // 1970-01-01 was a Thursday.
        let weekday = small((days + 4) % 7 + 1);
        let mut year = 1970;
        while days >= days_in_year(year) {
            days -= days_in_year(year);
            year += 1;
        }
        let mut month = 1;
        while days >= days_in_month(year, month) {
            days -= days_in_month(year, month);
            month += 1;
        }
        Self {
            year,
            month,
            day: small(days + 1),
            weekday,
            hour: small(of_day / 3600),
            minute: small(of_day / 60 % 60),
            second: small(of_day % 60),
        }
    }
}

fn small(value: u64) -> u8 {
    u8::try_from(value).expect("no field of a date but the year is above 59")
}

const fn is_leap(year: u16) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

const fn days_in_year(year: u16) -> u64 {
    if is_leap(year) { 366 } else { 365 }
}

const fn days_in_month(year: u16, month: u8) -> u64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(seconds: u64) -> (u16, u8, u8, u8) {
        let DateTime {
            year,
            month,
            day,
            weekday,
            ..
        } = DateTime::from(UnixTime::from_secs(seconds));
        (year, month, day, weekday)
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        assert_eq!(date(0), (1970, 1, 1, 5));
        assert_eq!(date(951_782_400), (2000, 2, 29, 3));
        assert_eq!(date(951_868_800), (2000, 3, 1, 4));
        assert_eq!(date(1_735_689_599), (2024, 12, 31, 3));
        assert_eq!(date(4_107_542_400), (2100, 3, 1, 2));
        assert_eq!(date(u64::MAX), (9999, 12, 31, 6));
    }
}
